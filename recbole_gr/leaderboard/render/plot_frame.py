"""Where the parts of a plot of a study lie on the paper, for svg and pdf alike."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from recbole_gr.leaderboard.render.scaling_plots import Plot, Series
from recbole_gr.scaling.words import size_text

#: Of the paper, without the legend, in points.
WIDTH, HEIGHT = 640, 400
#: Room between the edges of the paper and the axes.
LEFT, RIGHT, TOP, BOTTOM = 70, 16, 34, 52
#: Between two entries of the legend, below the axis title.
LINE = 16


class Frame:
    """Where numbers lie on the paper, from its upper left corner; x is logarithmic.

    Args:
        plot: what is drawn.
    """

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

    def path(self, xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float]]:
        """A line of points, kept within the axes."""
        return [(self.x(x), self.y(min(max(y, self.y_low), self.y_high))) for x, y in zip(xs, ys)]

    def x_ticks(self) -> list[tuple[float, str]]:
        """Where a line stands below a number, and the number."""
        values = log_ticks(self.x_low, self.x_high)
        return [(self.x(value), size_text(value) if value >= 1000 else f"{value:g}") for value in values]

    def y_ticks(self) -> list[tuple[float, str, bool]]:
        """The same for the other axis, and whether the number is 0."""
        return [(self.y(value), f"{value:g}", value == 0) for value in linear_ticks(self.y_low, self.y_high)]


def _heights(series: Series) -> Iterator[float]:
    """The heights that must be on the paper: points and laws, but of the intervals of laws only those near points."""
    yield from series.y
    yield from (value for value in [*series.low, *series.high] if value is not None)
    for band in series.bands:
        yield from band.y


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
