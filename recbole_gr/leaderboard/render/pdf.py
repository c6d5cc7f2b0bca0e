"""A plot of a study as pdf, which is what LaTeX includes."""

from __future__ import annotations

import io

from reportlab.lib.colors import HexColor
from reportlab.pdfgen.canvas import Canvas

from recbole_gr.leaderboard.render.figures import COLOURS
from recbole_gr.leaderboard.render.plot_frame import BOTTOM, HEIGHT, LEFT, LINE, RIGHT, TOP, WIDTH, Frame
from recbole_gr.leaderboard.render.scaling_plots import Plot, Series


def as_pdf(plot: Plot) -> bytes:
    """The plot as a pdf of one page, without a date in it: equal plots are equal files.

    Its font is the Helvetica that every reader of pdf has, of Latin letters; others in names are shown as ``?``.
    """
    content = io.BytesIO()
    height = HEIGHT + LINE * len(plot.series)
    canvas = Canvas(content, pagesize=(WIDTH, height), invariant=True)
    canvas.setTitle(plot.heading)
    # y grows downwards in the frame, as in svg, and upwards in a pdf
    canvas.translate(0, height)
    frame = Frame(plot)
    _axes(canvas, plot, frame)
    for series in plot.series:
        _bands(canvas, series, frame)
    for series in plot.series:
        _points(canvas, series, frame)
    _legend(canvas, plot)
    canvas.save()
    return content.getvalue()


def _axes(canvas: Canvas, plot: Plot, frame: Frame) -> None:
    bottom = HEIGHT - BOTTOM
    canvas.setFont("Helvetica-Bold", 14)
    canvas.drawString(LEFT, -20, _in_latin(plot.heading))
    canvas.setFont("Helvetica", 12)
    canvas.setStrokeColor(HexColor("#e3e3e3"))
    for x, text in frame.x_ticks():
        canvas.line(x, -TOP, x, -bottom)
        canvas.drawCentredString(x, -bottom - 16, text)
    for y, text, zero in frame.y_ticks():
        canvas.setStrokeColor(HexColor("#888888" if plot.zero and zero else "#e3e3e3"))
        canvas.line(LEFT, -y, WIDTH - RIGHT, -y)
        canvas.drawRightString(LEFT - 6, -y - 4, text)
    canvas.drawCentredString((LEFT + WIDTH - RIGHT) / 2, -bottom - 38, _in_latin(plot.x_title))
    canvas.saveState()
    canvas.translate(16, -(TOP + bottom) / 2)
    canvas.rotate(90)
    canvas.drawCentredString(0, 0, _in_latin(plot.y_title))
    canvas.restoreState()


def _bands(canvas: Canvas, series: Series, frame: Frame) -> None:
    _set_colour(canvas, series)
    canvas.setLineWidth(1.5)
    for band in series.bands:
        around = frame.path([*band.x, *reversed(band.x)], [*band.high, *reversed(band.low)])
        canvas.setFillAlpha(0.13)
        _draw_path(canvas, around, fill=True)
        canvas.setFillAlpha(1)
        _draw_path(canvas, frame.path(band.x, band.y), fill=False)
    canvas.setLineWidth(1)


def _draw_path(canvas: Canvas, points: list[tuple[float, float]], fill: bool) -> None:
    """A filled shape, or a line."""
    path = canvas.beginPath()
    path.moveTo(points[0][0], -points[0][1])
    for x, y in points[1:]:
        path.lineTo(x, -y)
    if fill:
        path.close()
    canvas.drawPath(path, stroke=int(not fill), fill=int(fill))


def _points(canvas: Canvas, series: Series, frame: Frame) -> None:
    _set_colour(canvas, series)
    for x, y, low, high in zip(series.x, series.y, series.low, series.high):
        if low is not None and high is not None:
            canvas.line(frame.x(x), -frame.y(low), frame.x(x), -frame.y(high))
        canvas.circle(frame.x(x), -frame.y(y), 4, stroke=0, fill=1)


def _legend(canvas: Canvas, plot: Plot) -> None:
    for number, series in enumerate(plot.series):
        y = HEIGHT + LINE * number
        _set_colour(canvas, series)
        canvas.circle(LEFT + 5, 4 - y, 4, stroke=0, fill=1)
        canvas.setFillColor(HexColor("#000000"))
        canvas.drawString(LEFT + 16, -y, _in_latin(series.name))


def _set_colour(canvas: Canvas, series: Series) -> None:
    colour = HexColor(COLOURS[series.index % len(COLOURS)])
    canvas.setStrokeColor(colour)
    canvas.setFillColor(colour)


def _in_latin(text: str) -> str:
    return text.encode("cp1252", "replace").decode("cp1252")
