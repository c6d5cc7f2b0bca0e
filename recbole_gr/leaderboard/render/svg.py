"""A plot of a study as svg, for a paper or for a page that runs no script."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from recbole_gr.leaderboard.render.figures import COLOURS
from recbole_gr.leaderboard.render.plot_frame import BOTTOM, HEIGHT, LEFT, LINE, RIGHT, TOP, WIDTH, Frame
from recbole_gr.leaderboard.render.scaling_plots import Plot, Series


def as_svg(plot: Plot) -> str:
    """The plot as the text of an svg file."""
    frame = Frame(plot)
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


def _axes(plot: Plot, frame: Frame) -> Iterator[str]:
    bottom = HEIGHT - BOTTOM
    for x, text in frame.x_ticks():
        yield f'<line x1="{x}" x2="{x}" y1="{TOP}" y2="{bottom}" stroke="#e3e3e3"/>'
        yield f'<text x="{x}" y="{bottom + 16}" text-anchor="middle">{text}</text>'
    for y, text, zero in frame.y_ticks():
        stroke = "#888" if plot.zero and zero else "#e3e3e3"
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" stroke="{stroke}"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{text}</text>'
    middle = (TOP + bottom) / 2
    yield f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{bottom + 38}" text-anchor="middle">{escape(plot.x_title)}</text>'
    yield f'<text transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">{escape(plot.y_title)}</text>'


def _bands(series: Series, frame: Frame) -> Iterator[str]:
    colour = COLOURS[series.index % len(COLOURS)]
    for band in series.bands:
        around = frame.path([*band.x, *reversed(band.x)], [*band.high, *reversed(band.low)])
        yield f'<polygon points="{_points_text(around)}" fill="{colour}" opacity="0.13"/>'
        yield f'<polyline points="{_points_text(frame.path(band.x, band.y))}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def _points_text(path: list[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in path)


def _points(series: Series, frame: Frame) -> Iterator[str]:
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
