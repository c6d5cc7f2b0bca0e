"""A board's summary as LaTeX tables for a paper."""

from __future__ import annotations

import re
from collections.abc import Sequence

from recbole_gr.leaderboard.columns import COMPARISON_COLUMNS, Column, ComparisonColumn, columns_of, metric_title
from recbole_gr.leaderboard.render.words import NOTHING, Marks, cell_text, notes, row_label
from recbole_gr.leaderboard.summary import Comparison, RowSummary, Summary

MARKS = Marks(best=r"\textbf{%s}", second=r"\underline{%s}", differs=r"$^\dagger$", plus_minus=r" $\pm$ ", missing="--")

_LATEX = {
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"},
    **{"[": "{[}", "*": "{*}"},  # at the beginning of a line they would belong to the \\ before it
    **{"†": r"$^\dagger$", "↓": r"$\downarrow$"},
}
_PLACES = "Mean and standard deviation over seeds; best in bold, second underlined, among the rows of one protocol."


def as_latex(summary: Summary) -> str:
    """Tables for a paper: accuracy and, as far as there is something to print, lists, significance and cost.

    They take the package booktabs and, where one is too wide for the page, graphicx.
    """
    measured = summary.measured
    parts = [f"% {' '.join(summary.command.split())}", _accuracy(summary, measured)]
    if measured:
        parts += [_lists(summary, measured), _significance(summary, measured), _cost(summary, measured)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _accuracy(summary: Summary, measured: Sequence[RowSummary]) -> str:
    nothing = "" if measured else f" {NOTHING}"
    caption = f"{summary.name}.{nothing} {_PLACES} {notes(summary)}"
    return _column_table(caption, columns_of(summary, "latex", ["accuracy"]), summary.rows)


def _lists(summary: Summary, rows: Sequence[RowSummary]) -> str:
    columns = columns_of(summary, "latex", ["lists"])
    smaller = any(column.smaller_is_better for column in columns)
    caption = f"{summary.name}: beyond accuracy. {_PLACES}{' ↓: smaller is better.' if smaller else ''}"
    return _column_table(caption, columns, rows)


def _cost(summary: Summary, rows: Sequence[RowSummary]) -> str:
    return _column_table(f"{summary.name}: cost, means over seeds.", columns_of(summary, "latex", ["cost"]), rows)


def _column_table(caption: str, columns: Sequence[Column], rows: Sequence[RowSummary]) -> str:
    if not columns:
        return ""
    head = ["", *(column.title + (" ↓" if column.smaller_is_better else "") for column in columns)]
    lines = [[_tex(row_label(row)), *(cell_text(column, row, MARKS) for column in columns)] for row in rows]
    return _table(caption, head, lines)


def _significance(summary: Summary, rows: Sequence[RowSummary]) -> str:
    """The main metric's; a comment where nothing is tested."""
    metric = summary.main_metric
    tested = [row for row in rows if metric in row.significance]
    if not tested:
        return f"% {summary.significance_note}"
    caption = f"{summary.name}: significance in {metric_title(metric)}. {summary.significance_note}"
    columns = [column for column in COMPARISON_COLUMNS if "latex" in column.outputs]
    lines = [
        [_tex(row_label(row)), *(_comparison(column, row.significance[metric]) for column in columns)] for row in tested
    ]
    return _table(caption, ["", *(column.title.replace(" %", "%") for column in columns)], lines, left=2)


def _comparison(column: ComparisonColumn, test: Comparison) -> str:
    """Signed numbers in math, where a minus is one."""
    return re.sub(r"(?<!\w)[-+]\d+\.\d+", lambda found: f"${found.group()}$", _tex(column.text(test)))


def _table(caption: str, head: Sequence[str], lines: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table whose first columns, ``left`` of them, are words; the lines are LaTeX, caption and head plain text."""
    import pandas as pd

    table = pd.DataFrame(lines, columns=[_tex(title) for title in head], dtype=object)
    return (
        table.style.hide(axis="index")
        .to_latex(hrules=True, caption=_tex(caption), column_format="l" * left + "r" * (len(head) - left))
        .rstrip("\n")
    )


def _tex(text: str) -> str:
    """Text that LaTeX prints as it is, on one line."""
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))
