"""A plot of a study as svg, for a paper or for a page that runs no script."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from recbole_gr.leaderboard.render.figures import COLOURS
from recbole_gr.leaderboard.render.scaling_plots import Plot, Series
from recbole_gr.scaling.words import size_text

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 16, 34, 52
#: Between two entries of the legend, below the axis title.
LINE = 16


def as_svg(plot: Plot) -> str:
    """The plot as the text of an svg file."""
    frame = _Frame(plot)
    height = HEIGHT + LINE * len(plot.series)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="{LEFT}" y="20" font-size="14" font-weight="bold">{escape(plot.heading)}</text>',
        *_axes(plot, frame),
        *(part for series in plot.series for part in _bands(series, frame)),
        *(part for series in plot.series for part in _points(series, frame)),
        *_legend(plot),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


class _Frame:
    """Where numbers lie on the paper; x is logarithmic."""

    def __init__(self, plot: Plot) -> None:
        xs = [x for series in plot.series for x in [*series.x, *(x for band in series.bands for x in band.x)]]
        ys = [y for series in plot.series for y in _heights(series)] + ([0.0] if plot.zero else [])
        low, high = math.log10(min(xs)), math.log10(max(xs))
        margin = 0.05 * (high - low) or 0.3
        self.x_low, self.x_high = low - margin, high + margin
        margin = 0.06 * (max(ys) - min(ys)) or 0.01
        self.y_low, self.y_high = min(ys) - margin, max(ys) + margin

    def x(self, value: float) -> float:
        share = (math.log10(value) - self.x_low) / (self.x_high - self.x_low)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    def path(self, xs: Sequence[float], ys: Sequence[float]) -> str:
        return " ".join(f"{self.x(x)},{self.y(min(max(y, self.y_low), self.y_high))}" for x, y in zip(xs, ys))


def _heights(series: Series) -> Iterator[float]:
    """The heights that must be on the paper: points and laws, but of the intervals of laws only those near points."""
    yield from series.y
    yield from (value for value in [*series.low, *series.high] if value is not None)
    for band in series.bands:
        yield from band.y


def _axes(plot: Plot, frame: _Frame) -> Iterator[str]:
    bottom = HEIGHT - BOTTOM
    for value in log_ticks(frame.x_low, frame.x_high):
        x = frame.x(value)
        yield f'<line x1="{x}" x2="{x}" y1="{TOP}" y2="{bottom}" stroke="#e3e3e3"/>'
        text = size_text(value) if value >= 1000 else f"{value:g}"
        yield f'<text x="{x}" y="{bottom + 16}" text-anchor="middle">{text}</text>'
    for value in linear_ticks(frame.y_low, frame.y_high):
        y = frame.y(value)
        stroke = "#888" if plot.zero and value == 0 else "#e3e3e3"
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" stroke="{stroke}"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{value:g}</text>'
    middle = (TOP + bottom) / 2
    yield f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{bottom + 38}" text-anchor="middle">{escape(plot.x_title)}</text>'
    yield f'<text transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">{escape(plot.y_title)}</text>'


def _bands(series: Series, frame: _Frame) -> Iterator[str]:
    colour = COLOURS[series.index % len(COLOURS)]
    for band in series.bands:
        around = frame.path([*band.x, *reversed(band.x)], [*band.high, *reversed(band.low)])
        yield f'<polygon points="{around}" fill="{colour}" opacity="0.13"/>'
        yield f'<polyline points="{frame.path(band.x, band.y)}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def _points(series: Series, frame: _Frame) -> Iterator[str]:
    colour = COLOURS[series.index % len(COLOURS)]
    for x, y, low, high, text in zip(series.x, series.y, series.low, series.high, series.texts):
        if low is not None and high is not None:
            yield f'<line x1="{frame.x(x)}" x2="{frame.x(x)}" y1="{frame.y(low)}" y2="{frame.y(high)}" stroke="{colour}"/>'
        yield (
            f'<circle cx="{frame.x(x)}" cy="{frame.y(y)}" r="4" fill="{colour}">'
            f"<title>{escape(text)}: {y:.4f}</title></circle>"
        )


def _legend(plot: Plot) -> Iterator[str]:
    for number, series in enumerate(plot.series):
        y = HEIGHT + LINE * number
        yield f'<circle cx="{LEFT + 5}" cy="{y - 4}" r="4" fill="{COLOURS[series.index % len(COLOURS)]}"/>'
        yield f'<text x="{LEFT + 16}" y="{y}">{escape(series.name)}</text>'


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers between two powers of ten: whole powers, and 2 and 5 times these where there is room."""
    parts = (1.0, 2.0, 5.0) if high - low < 3 else (1.0,)
    powers = range(math.floor(low), math.ceil(high) + 1)
    return [part * 10.0**power for power in powers for part in parts if low <= math.log10(part * 10.0**power) <= high]


def linear_ticks(low: float, high: float) -> list[float]:
    """About five round numbers."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(part * power for part in (1.0, 2.0, 2.5, 5.0, 10.0) if part * power >= rough)
    first = math.ceil(low / step)
    return [round(number * step, 12) for number in range(first, math.floor(high / step) + 1)]
