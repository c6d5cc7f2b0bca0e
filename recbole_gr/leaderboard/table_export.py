"""A board's summary for other programs: csv, and a LaTeX table."""

import pandas as pd

from recbole_gr.leaderboard.table import NOTHING, measure_cell, metric_title, notes, row_label

_LATEX = {
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"},
}


def as_csv(summary):
    """One line per row of the board, with mean and standard deviation of each measure in columns; str."""
    return pd.DataFrame([_csv_line(summary, row) for row in summary["rows"]]).to_csv(index=False, lineterminator="\n")


def _csv_line(summary, row):
    line = {"row": row["name"], "model": row["model"], **row["variant"], "baseline": row["baseline"], "state": row["state"]}
    line["seeds_done"] = len(row["seeds_done"])
    for name in summary["metrics"] + summary["list_metrics"]:
        measure = row["measures"].get(name, {"mean": None, "std": None})
        line.update({f"{name} mean": measure["mean"], f"{name} std": measure["std"]})
    return {**line, **row["cost"]}


def as_latex(summary):
    """The accuracy table for a paper (packages booktabs and, if it is too wide, graphicx); str."""
    metrics = summary["metrics"]
    nothing = "" if any(row["measures"] for row in summary["rows"]) else f" {NOTHING}"
    places = "Mean and standard deviation over seeds; best in bold, second underlined, among the rows of one protocol."
    caption = _tex(f"{summary['name']}.{nothing} {places} {notes(summary)}").replace("†", r"$^\dagger$")
    lines = [
        f"% {summary['command']}",
        r"\begin{table}",
        rf"\caption{{{caption}}}",
        rf"\begin{{tabular}}{{l{'r' * len(metrics)}}}",
        r"\toprule",
        " & ".join(["", *(_tex(metric_title(name)) for name in metrics)]) + r" \\",
        r"\midrule",
        *(
            " & ".join([_tex(row_label(row)), *(_latex_cell(row, name) for name in metrics)]) + r" \\"
            for row in summary["rows"]
        ),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_cell(row, name):
    return measure_cell(row, name, r"\textbf{%s}", r"\underline{%s}", r"$^\dagger$", r" $\pm$ ", "--")


def _tex(text):
    return "".join(_LATEX.get(letter, letter) for letter in text)
