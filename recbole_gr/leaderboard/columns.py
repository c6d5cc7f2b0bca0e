"""The columns of a leaderboard, each in one place: name, how it is read, format, direction, and the outputs that show it.

Markdown, csv, LaTeX and HTML read them here. Metrics become columns by the board's file; further columns, read from the run
records, are entered by :func:`register`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from recbole_gr.leaderboard.summary import Comparison, Measure, RowSummary, Summary
from recbole_gr.utils.stopwatch import cpu_seconds_from_nothing

OUTPUTS = ("markdown", "csv", "latex", "html")

#: The groups of columns, and their headings.
GROUPS = {"accuracy": "accuracy", "lists": "beyond accuracy", "cost": "cost", "scaling": "sizes"}

#: Measures that count semantic IDs have this behind their name.
ID_LEVEL = " (ID-level)"

#: A comparison is marked below this p, after Holm's correction.
SIGNIFICANCE_LEVEL = 0.05

#: Digits that are printed of a metric; rows that are equal in these share a place.
DIGITS = 4


@dataclass(frozen=True)
class Metric:
    """A metric of RecBole.

    Args:
        title: as RecBole writes it.
        of_users: accuracy, a mean over users; else a metric of all lists together.
        of_lists: whether a board may ask for it although it is none of users.
        smaller_is_better: as RecBole has it.
    """

    title: str
    of_users: bool = False
    of_lists: bool = False
    smaller_is_better: bool = False


#: By RecBole's names in its results. Metrics of predicted ratings rank nothing, and are no board's.
METRICS = {
    metric.title.lower(): metric
    for metric in (
        *(Metric(title, of_users=True) for title in ("Recall", "NDCG", "MRR", "Hit", "MAP", "Precision")),
        Metric("ItemCoverage", of_lists=True),
        Metric("GiniIndex", of_lists=True, smaller_is_better=True),
        Metric("AveragePopularity", of_lists=True, smaller_is_better=True),
        Metric("TailPercentage", of_lists=True),
        Metric("ShannonEntropy", of_lists=True),
        *(Metric(title) for title in ("AUC", "GAUC")),
        *(Metric(title, smaller_is_better=True) for title in ("LogLoss", "MAE", "RMSE")),
    )
}


def metric_of(name: str) -> Metric:
    """The metric of a measure: that of ``recall@10 (ID-level)`` is Recall."""
    return METRICS[name.partition("@")[0]]


def metric_title(name: str) -> str:
    """A measure as RecBole writes it: ``Recall@10 (ID-level)`` for ``recall@10 (ID-level)``; other texts stay as they are."""
    metric, at, k = name.partition("@")
    return METRICS[metric].title + at + k if metric in METRICS else name


def main_k(summary: Summary) -> int:
    """The k of the main metric, at which slices are measured."""
    return int(summary.main_metric.partition("@")[2])


def mean(values: Sequence[float]) -> float:
    """The mean over seeds, as numpy adds."""
    import numpy as np

    return float(np.mean(values))


def _rounded_mean(values: Sequence[float]) -> int:
    return round(mean(values))


@dataclass(frozen=True)
class Column:
    """A column of measured rows.

    Args:
        key: its name in the summary and in csv.
        title: what the pages call it.
        group: one of :data:`GROUPS`; each is a table in markdown and LaTeX, and a choice on the html page.
        from_record: reads it from a run record; None where the record has none. Metrics are measured instead.
        digits: behind the decimal point.
        over_seeds: makes one number of those of the seeds.
        only_where_recorded: leave the column out where no record of the board has it.
        smaller_is_better: which direction is good, where one is.
        outputs: those of :data:`OUTPUTS` that show it.
        of_studies: whether only boards with axes have it.
    """

    key: str
    title: str
    group: str = "cost"
    from_record: Callable[[dict[str, Any]], float | None] | None = None
    digits: int = 0
    over_seeds: Callable[[Sequence[float]], float] = mean
    only_where_recorded: bool = False
    smaller_is_better: bool = False
    outputs: Sequence[str] = OUTPUTS
    of_studies: bool = False

    def measure(self, row: RowSummary) -> Measure | None:
        """Mean and deviation of a metric; None if the row has none, or the column is no metric."""
        measure = row.measures.get(self.key)
        return None if measure is None or measure.mean is None else measure

    def value(self, row: RowSummary) -> float | None:
        """The number that a row has in the column."""
        if self.from_record is not None:
            return row.cost.get(self.key)
        measure = self.measure(row)
        return measure.mean if measure else None

    def text(self, row: RowSummary, missing: str = "-") -> str:
        """The number as printed."""
        value = self.value(row)
        return missing if value is None else f"{value:,.{self.digits}f}"


#: Columns that are read from the records, by key, in their order.
RECORDED: dict[str, Column] = {}


def register(column: Column) -> Column:
    """Enter a column that is read from the records; all outputs show it from then on.

    Raises:
        ValueError: it does not say how it is read, or there is one of its key.
    """
    if column.from_record is None or column.group not in GROUPS or not set(column.outputs) <= set(OUTPUTS):
        raise ValueError(f"column {column.key}: needs from_record, a group of {tuple(GROUPS)} and outputs of {OUTPUTS}")
    if column.key in RECORDED:
        raise ValueError(f"column {column.key} is there already")
    RECORDED[column.key] = column
    return column


def _of_stage(stage: str, key: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda record: record.get("stages", {}).get(stage, {}).get(key)


def _cpu_minutes(stage: str) -> Callable[[dict[str, Any]], float | None]:
    """Of a stage, with what making the artifacts took that the cache had; None where a record does not know."""

    def minutes(record: dict[str, Any]) -> float | None:
        seconds = cpu_seconds_from_nothing(record.get("stages", {}).get(stage, {}))
        return None if seconds is None else seconds / 60

    return minutes


def _of(key: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda record: record.get(key)


register(Column("parameters", "parameters", from_record=_of("parameters"), over_seeds=_rounded_mean))
register(Column("training_seconds", "training (s)", from_record=_of_stage("training", "seconds"), digits=1))
for _stage, _title in (("training", "training"), ("test", "test"), ("whole", "all")):
    register(
        Column(
            f"cpu_minutes_{_title}",
            f"CPU min ({_title})",
            from_record=_cpu_minutes(_stage),
            digits=1,
            only_where_recorded=True,
        )
    )
register(Column("users_per_second", "users per second", from_record=_of_stage("test", "users_per_second"), digits=1))
register(Column("peak_memory_mb", "peak memory (MB)", from_record=_of("peak_memory_mb")))
register(
    Column("peak_gpu_memory_mb", "peak GPU memory (MB)", from_record=_of("peak_gpu_memory_mb"), only_where_recorded=True)
)
register(
    Column(
        "left_open",
        "users left open by certify_budget",
        from_record=lambda record: record.get("test_rankings", {}).get("stopped_by_budget") or None,
        only_where_recorded=True,
    )
)


def read_records(records: Sequence[dict[str, Any]], of_study: bool = False) -> dict[str, float | None]:
    """What the records of a row have in the registered columns, over seeds; None for what no record has."""
    found: dict[str, float | None] = {}
    for column in (column for column in RECORDED.values() if of_study or not column.of_studies):
        values = [column.from_record(record) for record in records if column.from_record is not None]
        known = [value for value in values if value is not None]
        if known or not column.only_where_recorded:
            found[column.key] = column.over_seeds(known) if known else None
    return found


def metric_columns(summary: Summary, output: str) -> list[Column]:
    """The columns of a board's metrics in an output: accuracy, the same by semantic IDs, metrics of lists."""
    names = dict.fromkeys([*summary.metrics, *summary.list_metrics])
    columns = [
        Column(
            key=name,
            title=metric_title(name),
            group="lists" if name in summary.list_metrics else "accuracy",
            digits=DIGITS,
            smaller_is_better=name in summary.smaller_is_better,
        )
        for name in sorted(names, key=lambda name: (name in summary.list_metrics, name.endswith(ID_LEVEL)))
    ]
    return [column for column in columns if output in column.outputs]


def columns_of(summary: Summary, output: str, groups: Iterable[str] = tuple(GROUPS)) -> list[Column]:
    """The columns of a board in an output: those of the metrics, then those read from the records.

    Args:
        summary: of the board.
        output: one of :data:`OUTPUTS`.
        groups: those of :data:`GROUPS` that are wanted.
    """
    wanted = set(groups)
    recorded = [column for column in RECORDED.values() if any(column.key in row.cost for row in summary.rows)]
    columns = [*metric_columns(summary, output), *(column for column in recorded if output in column.outputs)]
    return [column for column in columns if column.group in wanted]


@dataclass(frozen=True)
class ComparisonColumn:
    """A column of the tables of significance.

    Args:
        title: in the tables.
        text: how it is printed there.
        csv: names of its columns in csv, behind that of the metric, and what they hold.
        outputs: those that have it; csv has all.
    """

    title: str
    text: Callable[[Comparison], str]
    csv: dict[str, Callable[[Comparison], Any]]
    outputs: Sequence[str] = OUTPUTS


def signed(value: float | None) -> str:
    """A difference with its sign."""
    return "-" if value is None else f"{value:+.{DIGITS}f}"


def _probability(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


COMPARISON_COLUMNS = (
    ComparisonColumn("against", lambda test: test.against, {"compared with": lambda test: test.against}),
    ComparisonColumn("difference", lambda test: signed(test.difference), {"difference": lambda test: test.difference}),
    ComparisonColumn(
        "95 % interval",
        lambda test: f"{signed(test.low)} to {signed(test.high)}",
        {"difference lower bound": lambda test: test.low, "difference upper bound": lambda test: test.high},
    ),
    ComparisonColumn("p", lambda test: _probability(test.p), {"p": lambda test: test.p}),
    ComparisonColumn("p (Holm)", lambda test: _probability(test.p_holm), {"p_holm": lambda test: test.p_holm}),
    ComparisonColumn(
        "users",
        lambda test: "-" if test.users is None else f"{test.users:,}",
        {"compared users": lambda test: test.users},
        outputs=("markdown", "csv", "latex"),
    ),
)
