"""How values of a board's summary are written, in all outputs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from recbole_gr.leaderboard.columns import DIGITS, ID_LEVEL, SIGNIFICANCE_LEVEL, Column
from recbole_gr.leaderboard.summary import RowSummary, Summary

NOTHING = "Nothing is measured yet: no cell of this board has a record."


def words(value: Any) -> str:
    """A setting or a published value as text: yes and no, lists without brackets, a dash for what is missing."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)) and not any(isinstance(entry, (list, tuple, dict)) for entry in value):
        return ", ".join(map(words, value))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, tuple, dict)) else str(value)


def number(value: float | None, digits: int = 0) -> str:
    """A number with thousands apart, a dash where it is missing."""
    return "-" if value is None else f"{value:,.{digits}f}"


def variant_text(row: RowSummary) -> str:
    """What distinguishes the row from others of its name: ``tie order: shuffled``."""
    return ", ".join(f"{key.replace('_', ' ')}: {words(value)}" for key, value in row.variant.items())


def row_label(row: RowSummary) -> str:
    """Name and variant, and what is missing."""
    done, asked = len(row.seeds_done), len(row.seeds)
    missing = {"incomplete": f"{done} of {asked} seeds", "failed": "failed", "missing": "not run yet"}.get(row.state)
    about = [part for part in (variant_text(row), missing) if part]
    return row.name + (f" ({', '.join(about)})" if about else "")


@dataclass(frozen=True)
class Marks:
    """How an output marks a measure: ``best`` and ``second`` hold ``%s`` for the number."""

    best: str
    second: str
    differs: str
    plus_minus: str
    missing: str = "-"


def cell_text(column: Column, row: RowSummary, marks: Marks) -> str:
    """The number of a row in a column; of a metric, mean and standard deviation with their marks."""
    measure = column.measure(row)
    if measure is None:
        return column.text(row, marks.missing)
    text = f"{measure.mean:.{column.digits}f}"
    if column.key in row.best:
        text = marks.best % text
    elif column.key in row.second:
        text = marks.second % text
    text += marks.differs if differs(row, column) else ""
    return text if measure.std is None else f"{text}{marks.plus_minus}{measure.std:.{column.digits}f}"


def differs(row: RowSummary, column: Column) -> bool:
    """Whether the row differs from the best baseline in a metric."""
    test = row.significance.get(column.key)
    return test is not None and test.p_holm is not None and test.p_holm < SIGNIFICANCE_LEVEL


def notes(summary: Summary) -> str:
    """What marks and headings mean, one sentence or two each."""
    sentences = [f"† differs from the best baseline in the metric, p < {SIGNIFICANCE_LEVEL} after Holm's correction."]
    if any(name.endswith(ID_LEVEL) for name in summary.metrics):
        sentences.append(
            "Hits are of items, except where it says ID-level: that counts codes, so a hit of any item that shares the "
            "target's semantic ID is one. It is there for comparison with papers that count so, and has no part in the marks."
        )
    return " ".join(sentences)


def published_number(value: float | None) -> str:
    """A number of a paper, to our digits."""
    return "-" if value is None else f"{value:.{DIGITS}f}"
