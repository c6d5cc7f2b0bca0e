"""Lines of tables: cells by the names in their header."""

import csv

from recbole_gr.utils.errors import DataError


def columns_of(header, names):
    """How to take some columns from the lines of a csv file.

    Args:
        header (str): the first line.
        names (sequence of str): the columns to take.

    Returns:
        callable: takes a line, returns the cells of those columns; raises a ValueError where the number of cells is
        not the header's.

    Raises:
        DataError: the header lacks a column.
    """
    found = next(csv.reader([header.strip()]), [])
    for name in names:
        if name not in found:
            raise DataError(f"a csv file with the columns {','.join(names)} was expected, but one begins {header[:60]!r}")
    places = [found.index(name) for name in names]

    def cells(line):
        row = next(csv.reader([line.rstrip("\r")])) if '"' in line else line.rstrip("\r").split(",")
        if len(row) != len(found):
            raise ValueError("another number of cells")
        return [row[place] for place in places]

    return cells


def split_line(line, separator, least):
    """The cells of a line without a header.

    Raises:
        ValueError: they are fewer than ``least``.
    """
    cells = line.rstrip("\r").split(separator)
    if len(cells) < least:
        raise ValueError("too few cells")
    return cells
