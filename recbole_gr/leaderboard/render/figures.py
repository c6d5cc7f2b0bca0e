"""The plots of a board's page, made with plotly's Python objects.

A figure has a trace per row, or several; ``meta`` of a trace is the row's entry in the legend. What depends on the metric, or
on whether seeds are drawn one by one, is a frame of the figure: the page's script shows one frame, without the rows that the
reader has left out, in the colours of the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from recbole_gr.leaderboard.columns import RECORDED, Column, metric_columns
from recbole_gr.leaderboard.render.scaling_plots import Plot, Series, scaling_plots
from recbole_gr.leaderboard.render.words import variant_text
from recbole_gr.leaderboard.summary import LearningCurve, RowSummary, Summary
from recbole_gr.utils.page_look import CLEAR_LAYOUT

# each at least 3 : 1 against both papers, and dark enough for a white number on it
COLOURS = (
    *("#3b82c4", "#c8641b", "#2f9461", "#c94f7c", "#8a6fd1"),
    *("#97842a", "#d14b42", "#2492a0", "#a06a4b", "#7d8894"),
)
DASHES = ("solid", "dash", "dot", "dashdot")

#: Letters of a line of a tick's text.
TICK, NAME = 11, 22


@dataclass(frozen=True)
class Entry:
    """A measured row in the plots: its number, colour and dashes are the same in all of them."""

    row: RowSummary
    index: int

    @property
    def number(self) -> int:
        """From 1, in the order of the board."""
        return self.index + 1

    @property
    def label(self) -> str:
        """Name and variant."""
        return ", ".join(part for part in (self.row.name, variant_text(self.row)) if part)

    @property
    def colour(self) -> str:
        """One of :data:`COLOURS`."""
        return COLOURS[self.index % len(COLOURS)]

    @property
    def dash(self) -> str:
        """One of :data:`DASHES`."""
        return DASHES[self.index // len(COLOURS) % len(DASHES)]


def legend(summary: Summary) -> list[Entry]:
    """The rows that have a result."""
    return [Entry(row, index) for index, row in enumerate(summary.measured)]


def figures(summary: Summary) -> dict[str, tuple[str, dict[str, Any]]]:
    """The plots by the id of their place on the page: heading, and the figure as plain json values."""
    entries, metrics = legend(summary), metric_columns(summary, "html")
    slicings = list(dict.fromkeys(slicing for entry in entries for slicing in entry.row.slices))
    drawn = {
        "against-parameters": ("Against parameters", _against(entries, metrics, RECORDED["parameters"])),
        "against-speed": ("Against users per second", _against(entries, metrics, RECORDED["users_per_second"])),
        "learning-curves": ("Learning curves", _learning_curves(entries)),
        **{
            f"slice-{number}": (f"By {slicing}", _slices(entries, metrics, slicing))
            for number, slicing in enumerate(slicings)
        },
        "differences": ("", _differences(entries, metrics)),
    }
    return {place: (heading, figure.to_plotly_json()) for place, (heading, figure) in drawn.items()}


def scaling_figures(summary: Summary) -> dict[str, tuple[str, dict[str, Any]]]:
    """The plots of a study by the id of their place on the page: heading, and the figure as plain json values."""
    return {
        f"scaling-{plot.key}": (plot.heading, _scaling_figure(plot).to_plotly_json())
        for plot in (scaling_plots(summary) if summary.scaling else ())
    }


def _scaling_figure(plot: Plot) -> go.Figure:
    traces = [trace for series in plot.series for trace in (*_laws(series), _measured(series))]
    return _figure(
        traces,
        {},
        showlegend=True,
        legend={"orientation": "h", "y": -0.25},
        xaxis={"type": "log", "title_text": escaped(plot.x_title)},
        yaxis={"title_text": escaped(plot.y_title), "zeroline": plot.zero},
    )


def _laws(series: Series) -> Iterator[go.Scatter]:
    """Each law with its interval, which belongs to the points' entry of the legend."""
    colour = COLOURS[series.index % len(COLOURS)]
    shared = {"legendgroup": series.name, "showlegend": False, "hoverinfo": "skip", "mode": "lines"}
    for band in series.bands:
        around = {"x": [*band.x, *reversed(band.x)], "y": [*band.high, *reversed(band.low)]}
        yield go.Scatter(**around, **shared, fill="toself", opacity=0.15, fillcolor=colour, line={"width": 0})
        yield go.Scatter(x=band.x, y=band.y, **shared, line={"color": colour, "width": 1.5})


def _measured(series: Series) -> go.Scatter:
    colour = COLOURS[series.index % len(COLOURS)]
    known = all(value is not None for value in [*series.low, *series.high])
    interval: dict[str, Any] = {"type": "data", "symmetric": False, "color": colour, "thickness": 1.5, "width": 4}
    if known:
        interval["array"] = [high - y for y, high in zip(series.y, series.high) if high is not None]
        interval["arrayminus"] = [y - low for y, low in zip(series.y, series.low) if low is not None]
    return go.Scatter(
        x=series.x,
        y=series.y,
        error_y=interval if known else None,
        mode="markers",
        name=escaped(series.name),
        legendgroup=series.name,
        marker={"color": colour, "size": 10},
        hovertext=[f"{escaped(text)}<br>{x:,.4g}: {y:.4f}" for text, x, y in zip(series.texts, series.x, series.y)],
        hoverinfo="text",
    )


def _figure(
    traces: Sequence[go.Scatter | go.Bar], frames: Mapping[str, Sequence[go.Scatter | go.Bar]], **layout: Any
) -> go.Figure:
    """A figure whose frames say what else each trace has."""
    figure = go.Figure(data=traces, frames=[go.Frame(name=name, data=data) for name, data in frames.items()])
    figure.layout.template = None  # the page's own look
    figure.update_layout(
        {**CLEAR_LAYOUT, "showlegend": False, "dragmode": False, "hoverlabel_font_color": "#fff"},
        xaxis={"automargin": True, "zeroline": False},
        yaxis={"automargin": True},
    )
    return figure.update_layout(**layout)


def _against(entries: Sequence[Entry], metrics: Sequence[Column], cost: Column) -> go.Figure:
    """A metric against a cost, a numbered point per row."""
    traces = [
        go.Scatter(
            meta=entry.index,
            mode="markers+text",
            marker={"color": entry.colour, "size": 20},
            text=[f"<b>{entry.number}</b>"],
            textfont={"color": "#fff"},
            hoverinfo="text",
        )
        for entry in entries
    ]
    frames = {metric.key: [_point(entry, metric, cost) for entry in entries] for metric in metrics}
    return _figure(traces, frames, xaxis={"type": "log", "title_text": escaped(cost.title)})


def _point(entry: Entry, metric: Column, cost: Column) -> go.Scatter:
    measure, value = metric.measure(entry.row), cost.value(entry.row)
    if measure is None or value is None or value <= 0:
        return go.Scatter()
    texts = (entry.label, f"{metric.title} {measure.mean:.{metric.digits}f}", f"{cost.title} {value:,.0f}")
    spread = {"type": "data", "array": [measure.std or 0], "color": entry.colour, "thickness": 1.5, "width": 4}
    return go.Scatter(x=[value], y=[measure.mean], error_y=spread, hovertext="<br>".join(map(escaped, texts)))


def _learning_curves(entries: Sequence[Entry]) -> go.Figure:
    """The validation score by epoch: the mean over a row's seeds, or a line per seed."""
    curves = [[curve for curve in entry.row.learning_curves if curve.epochs] for entry in entries]
    lines = [(entry, number) for entry in entries for number in range(len(curves[entry.index]))]
    traces = [
        go.Scatter(
            meta=entry.index,
            connectgaps=True,
            line={"color": entry.colour, "dash": entry.dash},
            marker={"color": entry.colour, "size": 8},
            name=escaped(entry.label),
        )
        for entry, _ in lines
    ]
    means = [go.Scatter() if number else _curve(entry, _mean_curve(curves[entry.index]), 2, "") for entry, number in lines]
    each = [_curve(entry, curve := curves[entry.index][number], 1.2, f", seed {curve.seed}") for entry, number in lines]
    titles = {"xaxis_title_text": "epoch", "yaxis_title_text": "validation score"}
    return _figure(traces, {"mean": means, "each-seed": each}, **titles)


def _curve(entry: Entry, curve: LearningCurve, width: float, seed: str) -> go.Scatter:
    return go.Scatter(
        x=curve.epochs,
        y=curve.valid_score,
        mode="lines" if len(curve.epochs) > 1 else "markers",
        line={"width": width},
        hovertemplate=f"{escaped(entry.label)}{seed}<br>epoch %{{x}}: %{{y:.4f}}<extra></extra>",
    )


def _mean_curve(curves: Sequence[LearningCurve]) -> LearningCurve:
    """The mean over a row's seeds, in the epochs that all of them validated."""
    scores = [
        {epoch: score for epoch, score in zip(curve.epochs, curve.valid_score) if score is not None} for curve in curves
    ]
    means = {}
    for epoch in curves[0].epochs:
        found = [score[epoch] for score in scores if epoch in score]
        if len(found) == len(scores):
            means[epoch] = sum(found) / len(found)
    return LearningCurve(curves[0].seed, list(means), list(means.values()))


def _slices(entries: Sequence[Entry], metrics: Sequence[Column], slicing: str) -> go.Figure:
    """A metric by group of targets, a bar per row."""
    drawn = [entry for entry in entries if entry.row.slices.get(slicing)]
    groups = [group for entry in drawn for group in entry.row.slices[slicing]]
    labels = list(dict.fromkeys(group["label"] for group in groups))
    ticks = [wrapped(label, TICK) for label in labels]
    traces = [
        go.Bar(
            meta=entry.index,
            x=ticks,
            marker={"color": entry.colour},
            hovertext=[_group_text(entry, group) for group in _groups(entry, slicing, labels)],
            hovertemplate="%{hovertext}<br>%{y:.4f}<extra></extra>",
        )
        for entry in drawn
    ]
    frames = {
        metric.key: [go.Bar(y=[group.get(metric.key) for group in _groups(entry, slicing, labels)]) for entry in drawn]
        for metric in metrics
        if any(metric.key in group for group in groups)
    }
    axis = {"type": "category", "tickangle": 0, "showgrid": False}
    return _figure(traces, frames, xaxis=axis, barmode="group")


def _groups(entry: Entry, slicing: str, labels: Sequence[str]) -> list[dict[str, Any]]:
    """The groups of a row, in the order of the labels; empty ones that it has not."""
    groups = {group["label"]: group for group in entry.row.slices[slicing]}
    return [groups.get(label, {}) for label in labels]


def _group_text(entry: Entry, group: dict[str, Any]) -> str:
    return f"{escaped(entry.label)}<br>{escaped(group['label'])}, {group['users']:,} users" if group else ""


def _differences(entries: Sequence[Entry], metrics: Sequence[Column]) -> go.Figure:
    """The difference to the best baseline with its interval, a line per row."""
    drawn = [entry for entry in entries if entry.row.significance]
    traces = [
        go.Scatter(
            meta=entry.index,
            y=[wrapped(entry.label, NAME)],
            mode="markers",
            marker={"color": entry.colour, "size": 10},
            hoverinfo="text",
        )
        for entry in drawn
    ]
    frames = {
        metric.key: [_difference(entry, metric) for entry in drawn]
        for metric in metrics
        if any(metric.key in entry.row.significance for entry in drawn)
    }
    zero = {"type": "line", "x0": 0, "x1": 0, "y0": 0, "y1": 1, "yref": "paper", "line": {"color": "#7d8894", "width": 1.5}}
    axis = {"type": "category", "autorange": "reversed", "showgrid": False, "zeroline": False}
    # the script makes room for each row that is shown
    return _figure(traces, frames, yaxis=axis, shapes=[zero], height=110, meta={"rowHeight": 46})


def _difference(entry: Entry, metric: Column) -> go.Scatter:
    test = entry.row.significance.get(metric.key)
    if test is None or test.difference is None or test.low is None or test.high is None:
        return go.Scatter()
    interval = {
        **{"type": "data", "symmetric": False, "color": entry.colour, "thickness": 2},
        **{"array": [test.high - test.difference], "arrayminus": [test.difference - test.low]},
    }
    text = f"{test.difference:.4f}, 95 % from {test.low:.4f} to {test.high:.4f}"
    against = f"{escaped(entry.label)} against {escaped(test.against)}"
    return go.Scatter(x=[test.difference], error_x=interval, hovertext=f"{against}<br>{text}")


def escaped(text: Any) -> str:
    """Plotly reads a few tags and entities in texts; a name must stay what it is."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def wrapped(text: str, letters: int) -> str:
    """A long text in several lines, split at blanks."""
    lines = [""]
    for word in str(text).split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if len(longer) > letters and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return "<br>".join(map(escaped, lines))
