"""The plots of a study, before anybody draws them: points with intervals, and the fitted laws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from recbole_gr.leaderboard.columns import RECORDED, metric_title
from recbole_gr.leaderboard.summary import RowSummary, Summary
from recbole_gr.scaling.words import size_text


@dataclass
class Band:
    """A line with its interval: lists of equal length."""

    x: list[float]
    y: list[float]
    low: list[float]
    high: list[float]


@dataclass
class Series:
    """Points of one colour.

    Args:
        name: in the legend.
        index: of the colour.
        x: of the points.
        y: of the points.
        low: the lower ends of their intervals; None where there is none.
        high: the upper ends.
        texts: what a point says of itself.
        bands: laws that were fitted to them.
    """

    name: str
    index: int
    x: list[float] = field(default_factory=list)
    y: list[float] = field(default_factory=list)
    low: list[float | None] = field(default_factory=list)
    high: list[float | None] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    bands: list[Band] = field(default_factory=list)


@dataclass
class Plot:
    """A plot over a logarithmic axis.

    Args:
        key: names its file and its place on the page.
        heading: over it.
        x_title: of the axis.
        y_title: of the axis.
        series: what is drawn.
        zero: whether the line at 0 says something.
    """

    key: str
    heading: str
    x_title: str
    y_title: str
    series: list[Series]
    zero: bool = False


#: Plots of accuracy against what a row costs: the key, the heading, the column, the axis.
AGAINST = (
    ("training-seconds", "Accuracy against training time", "training_seconds", "training (s)"),
    ("training-flops", "Accuracy against training FLOPs", "training_flops", "training FLOPs"),
    ("inference", "Accuracy against inference time", "inference_ms", "inference (ms per user)"),
)

#: Sizes that accuracy is drawn against where they vary within a curve, and what they are.
SIZES = {
    "N_RS": "weights of the sequence model (N_RS)",
    "N_trained": "trained weights of the language model",
    "N_LLM": "weights of the language model or text encoder (N_LLM)",
    "N_LoRA": "weights of the adapter (N_LoRA)",
    "N_QT": "numbers of the tokenizer (N_QT)",
    "N_SI": "effective size for semantic information (N_SI)",
    "N_CF": "effective size for collaborative filtering (N_CF)",
}


def figure_path(board: str, key: str) -> str:
    """Where the svg of a plot is, from the folder of the pages."""
    return f"{board}/figures/{key}.svg"


def scaling_plots(summary: Summary) -> list[Plot]:
    """All plots that a study has something for."""
    plots = [_against_size(summary)]
    for size in ("N_LLM", "N_LoRA", "N_QT", "N_SI", "N_CF"):
        if any(_varies(size, rows) and not _is_main(size, curve, rows) for curve, rows in _curves(summary)):
            plots.append(_against(summary, size.lower().replace("_", "-"), f"Accuracy against {size}", size, SIZES[size]))
    for key, heading, column, title in AGAINST:
        plots.append(_against(summary, key, heading, column, title))
    plots.append(_injections(summary))
    return [plot for plot in plots if any(series.x for series in plot.series)]


def _curves(summary: Summary) -> list[tuple[dict[str, Any], list[RowSummary]]]:
    """Each analysis with its rows."""
    by_name = {row.name: row for row in summary.rows}
    return [(curve, [by_name[point["name"]] for point in curve["points"]]) for curve in summary.scaling]


def _varies(size: str, rows: Sequence[RowSummary]) -> bool:
    values = {row.cost.get(size) for row in rows}
    return len(values) > 1 and None not in values


def _is_main(size: str, curve: dict[str, Any], rows: Sequence[RowSummary]) -> bool:
    """Whether a size says the same as the one that the curve is drawn along."""
    return all(row.cost.get(size) == row.cost.get(curve["size"]) for row in rows)


def _against_size(summary: Summary) -> Plot:
    """Against the size that counts as it is, with the fitted laws."""
    series = []
    for index, (curve, rows) in enumerate(_curves(summary)):
        own = _series(index, curve, rows, _reader(curve["size"]))
        own.bands = [Band(*(list(law[part]) for part in ("sizes", "values", "low", "high"))) for law in curve["curves"]]
        series.append(own)
    kinds = list(dict.fromkeys(curve["size"] for curve, _ in _curves(summary)))
    title = SIZES[kinds[0]] if len(kinds) == 1 else "trained weights"
    return Plot("size", "Accuracy against size, and the fitted law", title, _metric(summary), series)


def _against(summary: Summary, key: str, heading: str, column: str, title: str) -> Plot:
    assert column in RECORDED
    series = [_series(index, curve, rows, _reader(column)) for index, (curve, rows) in enumerate(_curves(summary))]
    return Plot(key, heading, title, _metric(summary), series)


def _reader(column: str) -> Callable[[RowSummary], float | None]:
    return lambda row: row.cost.get(column)


def _series(
    index: int, curve: dict[str, Any], rows: Sequence[RowSummary], read: Callable[[RowSummary], float | None]
) -> Series:
    series = Series(curve["name"], index)
    for point, row in zip(curve["points"], rows):
        x = read(row)
        if x is None or x <= 0:
            continue
        series.x.append(float(x))
        series.y.append(point["value"])
        series.low.append(point["low"])
        series.high.append(point["high"])
        series.texts.append(row.name)
    return series


def _injections(summary: Summary) -> Plot:
    """What injected vectors add, against the size of the model without them."""
    kinds = list(dict.fromkeys((gain["axis"], gain["value"]) for gain in summary.injections))
    series = []
    for index, (axis, value) in enumerate(kinds):
        gains = [gain for gain in summary.injections if (gain["axis"], gain["value"]) == (axis, value)]
        series.append(
            Series(
                f"{axis} {value}",
                index,
                [gain["size"] for gain in gains],
                [gain["gain"] for gain in gains],
                [gain["low"] for gain in gains],
                [gain["high"] for gain in gains],
                [f"{gain['row']}, {size_text(gain['size'])} without" for gain in gains],
            )
        )
    return Plot(
        "injection", "What injected vectors add", "weights without them", f"gain in {_metric(summary)}", series, zero=True
    )


def _metric(summary: Summary) -> str:
    return summary.scaling[0]["metric"] if summary.scaling else metric_title(summary.main_metric)
