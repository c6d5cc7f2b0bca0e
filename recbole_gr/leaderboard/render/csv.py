"""A board's summary for other programs."""

from __future__ import annotations

from typing import Any

from recbole_gr.leaderboard.columns import COMPARISON_COLUMNS, ID_LEVEL, Column, columns_of, metric_columns
from recbole_gr.leaderboard.summary import RowSummary, Summary


def as_csv(summary: Summary) -> str:
    """One line per row of the board, with empty cells where it has no value.

    Columns: what the row is; ``ndcg@10 mean`` and ``ndcg@10 std`` of each measure; the cost; ``ndcg@10 difference`` and
    the like, :data:`recbole_gr.leaderboard.columns.COMPARISON_COLUMNS`, of each tested metric; ``users`` and the measures
    of every group of the slices, as in ``recall@10 item popularity: 1 to 52``.
    """
    import pandas as pd

    metrics = metric_columns(summary, "csv")
    recorded = [column for column in columns_of(summary, "csv") if column not in metrics]
    tested = [name for name in summary.metrics if not name.endswith(ID_LEVEL)]
    lines = [
        {
            **_row(row),
            **{f"{column.key} {part}": value for column in metrics for part, value in _measure(row, column).items()},
            **{column.key: column.value(row) for column in recorded},
            **{f"{name} {column}": value for name in tested for column, value in _comparison(row, name).items()},
            **_slices(row),
        }
        for row in summary.rows
    ]
    # as objects: a count stays a whole number in a column that has empty cells
    return pd.DataFrame(lines, dtype=object).to_csv(index=False, lineterminator="\n")


def _row(row: RowSummary) -> dict[str, Any]:
    point = {"sweep": row.sweep, **row.axes} if row.sweep is not None else {}
    line = {"row": row.name, "model": row.model, **row.variant, **point, "baseline": row.baseline, "state": row.state}
    return {**line, "seeds_done": len(row.seeds_done)}


def _measure(row: RowSummary, column: Column) -> dict[str, float | None]:
    measure = column.measure(row)
    return {"mean": measure.mean, "std": measure.std} if measure else {"mean": None, "std": None}


def _comparison(row: RowSummary, metric: str) -> dict[str, Any]:
    test = row.significance.get(metric)
    return {name: read(test) if test else None for column in COMPARISON_COLUMNS for name, read in column.csv.items()}


def _slices(row: RowSummary) -> dict[str, Any]:
    return {
        f"{name} {slicing}: {group['label']}": value
        for slicing, groups in row.slices.items()
        for group in groups
        for name, value in group.items()
        if name != "label"
    }
