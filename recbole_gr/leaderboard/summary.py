"""Everything that a board's pages print: plain values, kept as json inside the html page."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from pydantic import TypeAdapter

#: What only studies have.
OF_STUDIES = {"scaling", "injections", "sweep", "axes"}


@dataclass
class Measure:
    """A metric of a row: mean, standard deviation (None for one seed) and values over the seeds that ran."""

    mean: float | None
    std: float | None = None
    values: list[float | None] = field(default_factory=list)


@dataclass
class Comparison:
    """A row compared with the best baseline in a metric.

    Args:
        against: the baseline's name.
        difference: of the means.
        low: the lower bound of its interval.
        high: the upper bound.
        p: two-sided.
        p_holm: corrected over the rows of the metric.
        users: how many were compared.
    """

    against: str
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    users: int | None = None


@dataclass
class LearningCurve:
    """What a run measured epoch by epoch; ``valid_score`` is None where nothing was validated."""

    seed: int
    epochs: list[int] = field(default_factory=list)
    valid_score: list[float | None] = field(default_factory=list)
    train_loss: list[Any] = field(default_factory=list)


@dataclass
class RowSummary:
    """A row.

    Args:
        name: as printed.
        model: as in ``--model``.
        variant: what the board varies side by side, by setting.
        baseline: whether the others are tested against it.
        state: ``complete``, ``incomplete``, ``failed`` or ``missing``.
        errors: one line each.
        seeds: those asked for.
        seeds_done: those that have a record.
        measures: by metric.
        best: metrics in which it is the best of its protocol.
        second: metrics in which it is the second.
        significance: by metric.
        slices: by slicing, a list of groups with ``label``, ``users`` and measures by name.
        cost: what the records say of the registered columns, by key.
        learning_curves: one per seed.
        settings: what the board sets.
        configuration: all settings of the first run, defaults included.
        chosen: settings that the search found.
        search: effort and space of the search; None without one.
        reproduce: the command of the first run.
        records: paths from the folder of the pages.
        sweep: of a study, the sweep that it is a point of; None for other rows.
        axes: the values of the sweep's axes.
    """

    name: str
    model: str = ""
    variant: dict[str, Any] = field(default_factory=dict)
    baseline: bool = False
    state: str = "complete"
    errors: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    seeds_done: list[int] = field(default_factory=list)
    measures: dict[str, Measure] = field(default_factory=dict)
    best: list[str] = field(default_factory=list)
    second: list[str] = field(default_factory=list)
    significance: dict[str, Comparison] = field(default_factory=dict)
    slices: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    cost: dict[str, int | float | None] = field(default_factory=dict)
    learning_curves: list[LearningCurve] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    configuration: dict[str, Any] = field(default_factory=dict)
    chosen: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] | None = None
    reproduce: str = ""
    records: list[str] = field(default_factory=list)
    sweep: str | None = None
    axes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Summary:
    """A board: its rows, in the board's order, and what they were measured under.

    Args:
        protocol: text by what it is about.
        statistics: of the dataset.
        environment: versions, devices, revisions and times.
        metrics: accuracy, ``name@k``.
        list_metrics: metrics of all users' lists together.
        published: blocks with ``source``, ``differences`` and ``rows``.
        scaling: of a study, what each curve tells, see :class:`recbole_gr.scaling.analysis.Analysis`.
        injections: of a study, what injected vectors add, by :func:`recbole_gr.leaderboard.study.injection_gains`.
    """

    name: str
    dataset: str = ""
    description: str = ""
    command: str = ""
    protocol: dict[str, Any] = field(default_factory=dict)
    statistics: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    metrics: list[str] = field(default_factory=list)
    main_metric: str = "ndcg@10"
    smaller_is_better: list[str] = field(default_factory=list)
    list_metrics: list[str] = field(default_factory=list)
    significance_note: str = ""
    rows: list[RowSummary] = field(default_factory=list)
    published: list[dict[str, Any]] = field(default_factory=list)
    scaling: list[dict[str, Any]] = field(default_factory=list)
    injections: list[dict[str, Any]] = field(default_factory=list)

    @property
    def measured(self) -> list[RowSummary]:
        """The rows that have a result."""
        return [row for row in self.rows if row.measures]

    def as_json(self) -> dict[str, Any]:
        """As plain json values; what only studies have is left out where there is none."""
        values = asdict(self)
        for part in (values, *values["rows"]):
            for key in OF_STUDIES & part.keys():
                if not part[key]:
                    del part[key]
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Summary:
        """Read what :meth:`as_json` wrote, with this version or an older one; keys that are unknown are left out."""
        return _reader().validate_python(values)

    def finite(self) -> Summary:
        """The same, with numbers that are not finite as missing ones: json has no others."""
        return self.from_json(json.loads(json.dumps(self.as_json()), parse_constant=lambda _: None))


@cache
def _reader() -> TypeAdapter[Summary]:
    return TypeAdapter(Summary)
