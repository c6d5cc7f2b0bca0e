"""A board as one HTML page that needs no network: what was measured, how to repeat it, plots and published numbers."""

import json
from html import escape
from importlib.resources import files

from plotly.offline import get_plotlyjs

from recbole_gr.leaderboard.measures import ID_LEVEL
from recbole_gr.leaderboard.page_table import measured_table
from recbole_gr.leaderboard.page_words import definitions, label, number, words
from recbole_gr.leaderboard.table import COSTS, metric_title
from recbole_gr.utils.atomic_files import atomic_write
from recbole_gr.utils.page_look import STYLE

# the browser itself refuses to load anything
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"

_ENVIRONMENT_WORDS = {"git_revision": "git revision", "created": "first and last run"}


def write_page(path, summary):
    """Write the page of a board, a single HTML file.

    It can be read without JavaScript; the script in it sorts and filters the table, opens a row's setting and draws
    the plots. All of the summary is in the page as json, in the element with the id ``board``.

    Args:
        path (str): where to.
        summary (dict): from :func:`recbole_gr.leaderboard.summary.summarise`, plain json; a number in it that is not
            finite counts as missing.

    Raises:
        OSError: it cannot be written.
    """
    summary = json.loads(json.dumps(summary), parse_constant=lambda _: None)
    names = {metric: metric_title(metric) for metric in _metrics(summary)}
    title = f"Leaderboard: {summary['name']}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(summary['description'])}</p>",
        _tiles(summary),
        "<h2>Protocol</h2>",
        definitions(summary["protocol"]),
        "<h2>Measured</h2>",
        measured_table(summary, names),
        _plots(summary, names),
        _significance(summary, names),
        _published(summary["published"], names),
        _environment(summary),
    ]
    data = {**summary, "metric_names": names, "cost_names": {cost: name for cost, (name, _) in COSTS.items()}}
    with atomic_write(path) as file:
        file.write(_page(title, "\n".join(parts), data))


def _metrics(summary):
    """All metrics, in the order of the columns: accuracy, what only ID-level hits have, and those of whole lists."""
    measured = (metric for row in summary["rows"] for metric in row["measures"])
    metrics = list(dict.fromkeys([*summary["metrics"], *measured]))
    return sorted(metrics, key=lambda metric: (metric in summary["list_metrics"], metric.endswith(ID_LEVEL)))


def _page(title, body, data):
    # escaped so that no text in it can end the element
    data = json.dumps(data).replace("<", "\\u003c")
    style, script, plots = (_own_file(name) for name in ("page_style.css", "page_script.js", "page_plots.js"))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(title)}</title>
<style>{STYLE}{style}</style>
</head>
<body>
{body}
<script type="application/json" id="board">{data}</script>
<script>{get_plotlyjs()}</script>
<script>{script}{plots}</script>
</body>
</html>
"""


def _own_file(name):
    return (files("recbole_gr.leaderboard") / name).read_text(encoding="utf-8")


def _tiles(summary):
    statistics, rows = summary["statistics"], summary["rows"]
    tiles = [(number(statistics.get(name)), name) for name in ("users", "items", "interactions")]
    without = sum(not row["measures"] for row in rows)
    tiles.append((len(rows), f"rows, {without} of them without a result" if without else "rows"))
    seeds = sorted({len(row["seeds"]) for row in rows})
    tiles.append(("–".join(map(str, seeds[:1] + seeds[1:][-1:])), "seeds a row"))
    created = [when for when in summary["environment"].get("created") or [] if when]
    tiles.append((str(created[-1])[:10] if created else "-", "date of the last run"))
    return (
        '<div class="tiles">' + "".join(f"<div><b>{escape(str(value))}</b>{text}</div>" for value, text in tiles) + "</div>"
    )


def _plots(summary, names):
    options = "".join(
        f'<option value="{escape(metric)}"{" selected" if metric == summary["main_metric"] else ""}>{escape(name)}</option>'
        for metric, name in names.items()
    )
    slices = dict.fromkeys(kind for row in summary["rows"] for kind in row["slices"])
    places = [
        ("against-parameters", "Against parameters"),
        ("against-speed", "Against users per second"),
        ("learning-curves", "Learning curves"),
        *((f"slice-{number_of}", f"By {kind}") for number_of, kind in enumerate(slices)),
    ]
    drawn = "".join(f"<h3>{escape(heading)}</h3>{_plot_place(key)}" for key, heading in places)
    return f"""<h2>Plots</h2>
<noscript><p>The plots need JavaScript.</p></noscript>
<div class="controls plot-controls" hidden>
<label>Metric <select id="metric">{options}</select></label>
<label><input type="checkbox" id="each-seed"> one learning curve per seed</label>
<div id="legend" role="group" aria-label="Rows in the plots"></div>
</div>
{drawn}"""


def _plot_place(key):
    return f'<div class="plot" id="{key}"></div><p class="small" id="{key}-note"></p>'


def _significance(summary, names):
    lines = []
    for row in summary["rows"]:
        for metric, test in row["significance"].items():
            interval = f"{_signed(test['low'])} to {_signed(test['high'])}"
            texts = [_signed(test["difference"]), interval, _probability(test["p"]), _probability(test["p_holm"])]
            cells = "".join(f'<td class="number">{text}</td>' for text in texts)
            compared = f"<th>{label(row)}</th><td>{escape(names.get(metric, metric))}</td><td>{escape(test['against'])}</td>"
            lines.append(f'<tr data-metric="{escape(metric)}">{compared}{cells}</tr>')
    if not lines:
        return "<h2>Significance</h2><p>No row was compared with a baseline.</p>"
    heads = "".join(f'<th class="number">{text}</th>' for text in ("difference", "95 % interval", "p", "p (Holm)"))
    return f"""<h2>Significance</h2>
<p>{escape(summary["significance_note"])}</p>
{_plot_place("differences")}
<div class="wide"><table id="significance"><thead><tr><th>row</th><th>metric</th><th>against</th>{heads}</tr></thead>
<tbody>{"".join(lines)}</tbody></table></div>"""


def _signed(value):
    return "-" if value is None else f"{value:+.4f}".replace("-", "−")


def _probability(value):
    if value is None:
        return "-"
    return "&lt; .0001" if value < 0.0001 else f"{value:.4f}"


def _published(published, names):
    if not published:
        return ""
    blocks = []
    for source in published:
        metrics = [metric for metric in names if any(metric in row for row in source["rows"])]
        metrics += [
            key for key in dict.fromkeys(key for row in source["rows"] for key in row) if key not in {"name", *metrics}
        ]
        heads = "".join(f'<th class="number">{escape(metric_title(key))}</th>' for key in metrics)
        lines = "".join(
            f"<tr><th>{escape(str(row['name']))}</th>"
            + "".join(f'<td class="number">{escape(words(row.get(key)))}</td>' for key in metrics)
            + "</tr>"
            for row in source["rows"]
        )
        differences = f"<p>Differences from the protocol above: {escape(words(source['differences']))}</p>"
        blocks.append(
            f"<h3>{escape(source['source'])}</h3>{differences}"
            f'<div class="wide"><table><thead><tr><th>row</th>{heads}</tr></thead><tbody>{lines}</tbody></table></div>'
        )
    note = "<p>Copied from papers, not measured here; not to be compared without the differences named with each.</p>"
    return f'<section class="published"><h2>Published numbers</h2>{note}{"".join(blocks)}</section>'


def _environment(summary):
    environment = {_ENVIRONMENT_WORDS.get(key, key): value for key, value in summary["environment"].items()}
    return f"""<h2>Environment</h2>
{definitions(environment)}
<h2>How to reproduce everything</h2>
<p>This makes the page. Runs whose records are there already are not repeated; a row's own command stands in its setting.</p>
<pre class="command">{escape(summary["command"])}</pre>"""
