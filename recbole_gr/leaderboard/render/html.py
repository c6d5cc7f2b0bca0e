"""A board as an HTML page that needs no network: what was measured, how to repeat it, plots and published numbers.

It is readable without JavaScript; its script sorts and filters the table, opens a row's setting and draws the plots. All of
the summary is in the page as json, in the element with the id ``board``. The pages of a folder share one copy of plotly's
script, :data:`PLOTLY_FILE`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from recbole_gr.leaderboard.columns import (
    COMPARISON_COLUMNS,
    GROUPS,
    ID_LEVEL,
    SIGNIFICANCE_LEVEL,
    Column,
    columns_of,
    metric_columns,
    metric_title,
)
from recbole_gr.leaderboard.render.figures import figures, legend, scaling_figures
from recbole_gr.leaderboard.render.law_tables import LAW_HEAD, PARAMETER_HEAD, SCALING_NOTE, law_lines, parameter_lines
from recbole_gr.leaderboard.render.words import differs, number, variant_text, words
from recbole_gr.leaderboard.summary import RowSummary, Summary
from recbole_gr.utils.atomic_files import atomic_write
from recbole_gr.utils.page_look import STYLE

#: Beside the pages.
PLOTLY_FILE = "plotly.min.js"

# the browser itself refuses to load anything else; 'self' is no file in some browsers, and no server in others
POLICY = "default-src 'none'; script-src 'unsafe-inline' 'self' file:; style-src 'unsafe-inline'; img-src data:"

_ENVIRONMENT_WORDS = {"git_revision": "git revision", "created": "first and last run"}


def write_page(path: str, summary: Summary) -> None:
    """Write the page of a board, and plotly's script beside it.

    Args:
        path: where to.
        summary: of the board; a number in it that is not finite counts as missing.

    Raises:
        OSError: it cannot be written.
    """
    page = as_html(summary)
    with atomic_write(path) as file:
        file.write(page)
    _write_plotly(os.path.join(os.path.dirname(path), PLOTLY_FILE))


def _write_plotly(path: str) -> None:
    script = get_plotlyjs()
    try:
        with open(path, encoding="utf-8", newline="") as file:
            if file.read() == script:
                return
    except (FileNotFoundError, UnicodeDecodeError):
        pass
    with atomic_write(path) as file:
        file.write(script)


def as_html(summary: Summary) -> str:
    """The page of a board, to which :data:`PLOTLY_FILE` belongs."""
    summary = summary.finite()
    metrics = metric_columns(summary, "html")
    drawn, of_study = figures(summary), scaling_figures(summary)
    data = {
        **summary.as_json(),
        "metric_names": {column.key: column.title for column in metrics},
        "figures": {place: figure for place, (_, figure) in drawn.items()},
        "scaling_figures": {place: figure for place, (_, figure) in of_study.items()},
    }
    columns = columns_of(summary, "html")
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            summary=summary,
            title=f"{'Study' if summary.scaling else 'Leaderboard'}: {summary.name}",
            policy=POLICY,
            style=Markup(STYLE + _source("page.css")),
            script=Markup(_source("table.js") + _source("plots.js")),
            plotly_file=PLOTLY_FILE,
            data=data,
            tiles=_tiles(summary),
            groups={group: text for group, text in GROUPS.items() if group in {column.group for column in columns}},
            metrics=metrics,
            columns=columns,
            # rows without a result come last, as the script leaves them when it sorts
            rows=sorted(enumerate(summary.rows), key=lambda numbered: not numbered[1].measures),
            counts_ids=any(column.key.endswith(ID_LEVEL) for column in columns),
            scaling_headings={place: heading for place, (heading, _) in of_study.items()},
            scaling_note=SCALING_NOTE,
            law_tables=[
                (curve, [(LAW_HEAD, law_lines(curve)), (PARAMETER_HEAD, parameter_lines(curve))])
                for curve in summary.scaling
            ],
            headings={place: heading for place, (heading, _) in drawn.items() if heading},
            legend=legend(summary),
            comparison_columns=[column for column in COMPARISON_COLUMNS if "html" in column.outputs],
            comparisons=[(row, metric, test) for row in summary.rows for metric, test in row.significance.items()],
            published=[(block, _published_columns(block, metrics)) for block in summary.published],
            environment={_ENVIRONMENT_WORDS.get(key, key): value for key, value in summary.environment.items()},
            level=SIGNIFICANCE_LEVEL,
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("recbole_gr.leaderboard.render"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # the order of settings and metrics says something
    environment.filters.update(
        **{"words": words, "number": number, "variant": variant_text, "yaml": _yaml, "metric_title": metric_title},
        **{"tags": _tags, "searched_text": _searched_text, "cell": _cell, "minus": lambda text: text.replace("-", "−")},
    )
    return environment


def _source(name: str) -> str:
    """A file that comes with the templates, as it is."""
    loader = _environment().loader
    assert loader is not None
    return loader.get_source(_environment(), name)[0]


def _tiles(summary: Summary) -> list[tuple[str, str]]:
    tiles = [(number(summary.statistics.get(name)), name) for name in ("users", "items", "interactions")]
    without = len(summary.rows) - len(summary.measured)
    tiles.append((str(len(summary.rows)), f"rows, {without} of them without a result" if without else "rows"))
    seeds = sorted({len(row.seeds) for row in summary.rows})
    tiles.append(("–".join(map(str, seeds[:1] + seeds[1:][-1:])), "seeds a row"))
    created = [when for when in summary.environment.get("created") or [] if when]
    tiles.append((str(created[-1])[:10] if created else "-", "date of the last run"))
    return tiles


def _tags(row: RowSummary) -> list[str]:
    """What stands below a row's name."""
    tags = [variant_text(row), "baseline" if row.baseline else "", _seeds(row)]
    count = len(row.errors) if row.measures else 0  # where nothing is measured they fill the row
    tags.append(f"{count} error{'s' * (count != 1)}" if count else "")
    return [tag for tag in tags if tag]


def _seeds(row: RowSummary) -> str:
    if row.state in ("failed", "missing"):
        return row.state
    done, asked = len(row.seeds_done), len(row.seeds)
    return f"{asked} seed{'s' * (asked != 1)}" if done == asked else f"{done} of {asked} seeds"


def _searched_text(row: RowSummary) -> str:
    """The text that the filter looks in."""
    about = [row.name, row.model, variant_text(row), row.state, "baseline" if row.baseline else ""]
    return " ".join([*about, *(f"{key}={value}" for key, value in {**row.settings, **row.chosen}.items())]).lower()


@dataclass(frozen=True)
class Printed:
    """What the table prints of a row in a column: the number, its marks, its deviation, and the values of the seeds."""

    text: str
    tag: str = ""
    differs: bool = False
    spread: str = ""
    seeds: str = ""


def _cell(row: RowSummary, column: Column) -> Printed:
    measure = column.measure(row)
    if measure is None:
        return Printed(column.text(row))
    return Printed(
        text=f"{measure.mean:.{column.digits}f}",
        tag="b" if column.key in row.best else "u" if column.key in row.second else "",
        differs=differs(row, column),
        spread="" if measure.std is None else f"± {measure.std:.{column.digits}f}",
        seeds=", ".join(f"seed {seed}: {words(value)}" for seed, value in zip(row.seeds_done, measure.values)),
    )


def _yaml(values: dict[str, Any]) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True).strip()


def _published_columns(block: dict[str, Any], metrics: list[Column]) -> list[str]:
    """The numbers of a block: in the order of the board's metrics, then those that the board has not."""
    there = dict.fromkeys(key for row in block["rows"] for key in row if key != "name")
    own = [column.key for column in metrics if column.key in there]
    return [*own, *(key for key in there if key not in own)]
