"""A board's summary as a markdown page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from tabulate import tabulate

from recbole_gr.leaderboard.columns import COMPARISON_COLUMNS, Column, columns_of, main_k, metric_title
from recbole_gr.leaderboard.render.law_tables import LAW_HEAD, PARAMETER_HEAD, SCALING_NOTE, law_lines, parameter_lines
from recbole_gr.leaderboard.render.scaling_plots import figure_path, scaling_plots
from recbole_gr.leaderboard.render.words import (
    NOTHING,
    Marks,
    cell_text,
    notes,
    number,
    published_number,
    row_label,
    variant_text,
    words,
)
from recbole_gr.leaderboard.summary import RowSummary, Summary

MARKS = Marks(best="**%s**", second="<u>%s</u>", differs=" †", plus_minus=" ± ")
LEFT = ("", "metric", "row", "against", "law", "parameter")


def as_markdown(summary: Summary) -> str:
    """The page ``results/<board>.md``."""
    measured = summary.measured
    facts = {"dataset": summary.dataset, **summary.statistics, **summary.protocol}
    sections = {
        "Data and protocol": _facts(facts),
        "Accuracy": _accuracy(summary) if measured else NOTHING,
        "Significance": _significance(summary, measured) if measured else "",
        "Sizes": _sizes(summary, measured) if summary.scaling else "",
        "Scaling": _scaling(summary) if summary.scaling else "",
        "Beyond accuracy": _beyond_accuracy(summary, measured) if measured else "",
        "Slices": _slices(summary, measured) if measured else "",
        "Cost": _cost(summary, measured) if measured else "",
        "Settings": "\n".join(_setting(row) for row in summary.rows),
        "Errors": _errors(summary.rows),
        "Published numbers": _published(summary),
        "Environment": _facts(_environment(summary.environment)) if measured else "",
    }
    parts = [f"# {_md(summary.name)}", _paragraphs(summary.description), f"Made by\n\n```\n{summary.command}\n```"]
    parts += [f"## {title}\n\n{text}" for title, text in sections.items() if text]
    return "\n\n".join(part for part in parts if part) + "\n"


def _accuracy(summary: Summary) -> str:
    places = "Mean ± standard deviation over seeds; **best** and <u>second</u>"
    legend = f"{places} among the rows of one protocol, shared where the printed digits are equal. {notes(summary)}"
    return f"{_column_table(columns_of(summary, 'markdown', ['accuracy']), summary.rows)}\n\n{legend}"


def _beyond_accuracy(summary: Summary, rows: Sequence[RowSummary]) -> str:
    columns = columns_of(summary, "markdown", ["lists"])
    smaller = [column.title for column in columns if column.smaller_is_better]
    note = f"\n\nSmaller is better for {', '.join(smaller)}." if smaller else ""
    return _column_table(columns, rows) + note if columns else ""


def _cost(summary: Summary, rows: Sequence[RowSummary]) -> str:
    columns = columns_of(summary, "markdown", ["cost"])
    return _column_table(columns, rows) + "\n\nMeans over seeds." if columns else ""


def _sizes(summary: Summary, rows: Sequence[RowSummary]) -> str:
    columns = columns_of(summary, "markdown", ["scaling"])
    return _column_table(columns, rows) + "\n\nMeans over seeds."


def _scaling(summary: Summary) -> str:
    """The plots, and of each curve what it tells."""
    parts = [SCALING_NOTE]
    parts += [f"![{plot.heading}]({figure_path(summary.name, plot.key)})" for plot in scaling_plots(summary)]
    for curve in summary.scaling:
        parts.append(f"### {_md(curve['name'])}: {curve['verdict']}")
        parts.append("\n".join(f"- {_md(sentence)}" for sentence in curve["words"]))
        for head, lines in ((LAW_HEAD, law_lines(curve)), (PARAMETER_HEAD, parameter_lines(curve))):
            if lines:
                parts.append(_table(head, [[_md(cell) for cell in line] for line in lines]))
    return "\n\n".join(parts)


def _column_table(columns: Sequence[Column], rows: Sequence[RowSummary]) -> str:
    lines = [[_md(row_label(row)), *(cell_text(column, row, MARKS) for column in columns)] for row in rows]
    return _table(["", *(column.title for column in columns)], lines)


def _significance(summary: Summary, rows: Sequence[RowSummary]) -> str:
    main, others = summary.main_metric, [name for name in summary.metrics if name != summary.main_metric]
    baselines = ", ".join(dict.fromkeys(_md(row.name) for row in summary.rows if row.baseline)) or "none"
    parts = [f"{summary.significance_note} Baselines: {baselines}."]
    if any(row.significance for row in rows):
        parts.append(_comparison_table(rows, [main]))
        parts.append(f"<details><summary>The other metrics</summary>\n\n{_comparison_table(rows, others)}\n\n</details>")
    return "\n\n".join(parts)


def _comparison_table(rows: Sequence[RowSummary], metrics: Sequence[str]) -> str:
    columns = [column for column in COMPARISON_COLUMNS if "markdown" in column.outputs]
    lines = [
        [metric_title(name), _md(row_label(row)), *(_md(column.text(row.significance[name])) for column in columns)]
        for name in metrics
        for row in rows
        if name in row.significance
    ]
    return _table(["metric", "row", *(column.title for column in columns)], lines)


def _slices(summary: Summary, rows: Sequence[RowSummary]) -> str:
    measures = [f"{metric}@{main_k(summary)}" for metric in ("recall", "ndcg")]
    parts = ["Means over seeds; with each group the number of users who have a target in it."]
    for slicing in dict.fromkeys(slicing for row in rows for slicing in row.slices):
        # rows under different protocols have groups of their own
        groups = dict.fromkeys(_groups(row, slicing) for row in rows)
        tables = [
            _slice_table([row for row in rows if _groups(row, slicing) == group], slicing, measures) for group in groups
        ]
        parts += [f"### By {slicing}", *tables]
    return "\n\n".join(parts)


def _groups(row: RowSummary, slicing: str) -> tuple[tuple[str, int], ...]:
    return tuple((group["label"], group["users"]) for group in row.slices[slicing])


def _slice_table(rows: Sequence[RowSummary], slicing: str, measures: Sequence[str]) -> str:
    head = [f"{label} ({number(users)})" for label, users in _groups(rows[0], slicing)]
    lines = [
        [_md(row_label(row)), metric_title(name), *(f"{group[name]:.4f}" for group in row.slices[slicing])]
        for name in measures
        for row in rows
    ]
    return _table(["", "metric", *head], lines)


def _setting(row: RowSummary) -> str:
    lines = [f"- **{_md(row_label(row))}**, {_md(row.model)}, seeds {words(row.seeds)}: {_pairs(row.settings)}"]
    if row.search:
        lines.append(f"  - searched: {_pairs(row.search)}")
        lines.append(f"  - chosen: {_pairs(row.chosen) if row.chosen else 'nothing yet'}")
    return "\n".join([*lines, f"  - repeat: {_code(row.reproduce)}"])


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(_code(f"{key}: {words(value)}") for key, value in values.items()) or "the model's defaults"


def _errors(rows: Sequence[RowSummary]) -> str:
    errors = [
        f"- {_md(row.name)}{f' ({_md(variant_text(row))})' * bool(row.variant)}, {_md(error)}"
        for row in rows
        for error in row.errors
    ]
    return "\n".join(errors)


def _published(summary: Summary) -> str:
    """Each block by itself: nothing in it was measured here."""
    if not summary.published:
        return ""
    parts = [
        "As their sources print them, not measured here; their protocols differ from the one above, each in the way it says."
    ]
    for block in summary.published:
        there = dict.fromkeys(name for row in block["rows"] for name in row if name != "name")
        lines = [[_md(row["name"]), *(published_number(row.get(name)) for name in there)] for row in block["rows"]]
        table = _table(["", *map(metric_title, there)], lines)
        parts += [f"### {_md(block['source'])}", f"Protocol: {_md(block['differences'])}", table]
    return "\n\n".join(parts)


def _facts(values: dict[str, Any]) -> str:
    return "\n".join(f"- {_md(key.replace('_', ' '))}: {_md(_fact(value))}" for key, value in values.items())


def _environment(environment: dict[str, Any]) -> dict[str, Any]:
    versions = ", ".join(f"{name} {environment[name]}" for name in ("recbole_gr", "recbole", "torch"))
    runs = " to ".join(dict.fromkeys(environment["created"]))
    return {"versions": versions, **{key: environment[key] for key in ("device", "git_revision")}, "runs ended": runs}


def _fact(value: Any) -> str:
    return f"{value:,}" if isinstance(value, (int, float)) and not isinstance(value, bool) else words(value) or "-"


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    alignment = ["left" if column in LEFT else "right" for column in head]
    return tabulate(lines, head, tablefmt="pipe", disable_numparse=True, colalign=alignment)


def _md(text: Any) -> str:
    """Text that markdown leaves as it is, on one line."""
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", " ".join(str(text).split()))


def _paragraphs(text: str) -> str:
    """Several lines of text that markdown leaves as they are; blank lines part paragraphs."""
    parts = (_md(part) for part in re.split(r"\n\s*\n", text.strip()))
    return "\n\n".join(re.sub(r"^([0-9]*)([#>+=~.)-])", r"\1\\\2", part) for part in parts if part)


def _code(text: str) -> str:
    """A text as it is, in the font of code, on one line."""
    text = " ".join(text.split())
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{ticks} {text} {ticks}" if len(ticks) > 1 else f"`{text}`"
