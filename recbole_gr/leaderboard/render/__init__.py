"""The outputs of a board: markdown, csv, LaTeX and HTML, all made from its summary and the columns of the registry."""
