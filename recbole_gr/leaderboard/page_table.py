"""The table of measured rows on a board's page, each with its setting below it."""

from html import escape

import yaml

from recbole_gr.leaderboard.measures import ID_LEVEL
from recbole_gr.leaderboard.page_words import number, variant_text, words
from recbole_gr.leaderboard.table import COSTS, LEVEL

_GROUPS = {"accuracy": "accuracy", "lists": "beyond accuracy", "cost": "cost"}


def measured_table(summary, names):
    """The table as HTML, with what the script needs to sort, filter and open it.

    Args:
        summary (dict): of the board.
        names (dict): the metrics in the order of the columns, and what to call each.
    """
    groups = {metric: "lists" if metric in summary["list_metrics"] else "accuracy" for metric in names}
    costs = [cost for cost in COSTS if any(cost in row["cost"] for row in summary["rows"])]
    heads = [_head("name", "row", summary)]
    heads += [_head(metric, name, summary, groups[metric]) for metric, name in names.items()]
    heads += [_head(cost, COSTS[cost][0], summary, "cost") for cost in costs]
    # rows without a result stand last, as the script leaves them when it sorts
    order = sorted(range(len(summary["rows"])), key=lambda index: not summary["rows"][index]["measures"])
    bodies = "".join(_row(summary["rows"][index], index, groups, costs) for index in order)
    return f"""{_controls()}
<div class="wide"><table id="measured"><thead><tr>{"".join(heads)}</tr></thead>
{bodies}</table></div>
{_notes(summary, names)}"""


def _controls():
    choices = "".join(
        f'<label><input type="radio" name="group" value="{group}"{" checked" if group == "accuracy" else ""}> {text}</label>'
        for group, text in _GROUPS.items()
    )
    return f"""<div class="controls" hidden>
<label>Filter <input type="search" id="filter" placeholder="name or setting"></label>
<fieldset><legend>Columns</legend>{choices}</fieldset>
<span id="count" role="status"></span>
</div>"""


def _head(key, text, summary, group=None):
    smaller = ' <small class="muted">lower is better</small>' if key in summary["smaller_is_better"] else ""
    attributes = f' class="number" data-group="{group}"' if group else ""
    button = f'<button type="button" data-key="{escape(key)}">{escape(text)}</button>'
    return f'<th scope="col" aria-sort="none"{attributes}>{button}{smaller}</th>'


def _row(row, index, groups, costs):
    columns = len(groups) + len(costs)
    if row["measures"]:
        cells = "".join(_measure_cell(row, metric, group) for metric, group in groups.items())
        cells += "".join(
            f'<td class="number" data-group="cost">{number(row["cost"].get(cost), COSTS[cost][1])}</td>' for cost in costs
        )
    else:
        cells = f'<td class="error" colspan="{columns}"><div>{escape(_why_empty(row))}</div></td>'
    return f"""<tbody data-row="{index}" data-text="{escape(_searched_text(row))}">
<tr class="line"><th scope="row">{_name(row, index)}</th>{cells}</tr>
<tr class="setting" id="setting-{index}"><td colspan="{columns + 1}">{_setting(row)}</td></tr>
</tbody>
"""


def _why_empty(row):
    return f"{row['state']}: {'; '.join(row['errors'])}" if row["errors"] else f"{row['state']}: no record yet"


def _name(row, index):
    tags = [variant_text(row), "baseline" if row["baseline"] else "", _seeds(row), _troubles(row)]
    shown = "".join(f'<span class="tag">{escape(tag)}</span>' for tag in tags if tag)
    name = f'<button type="button" aria-expanded="false" aria-controls="setting-{index}">{escape(row["name"])}</button>'
    return f'{name}<span class="tags">{shown}</span>'


def _seeds(row):
    if row["state"] in ("failed", "missing"):
        return row["state"]
    done, asked = len(row["seeds_done"]), len(row["seeds"])
    return f"{asked} seed{'s' * (asked != 1)}" if done == asked else f"{done} of {asked} seeds"


def _troubles(row):
    count = len(row["errors"]) if row["measures"] else 0  # where nothing is measured they fill the row
    return f"{count} error{'s' * (count != 1)}" if count else ""


def _searched_text(row):
    told = [row["name"], row["model"], variant_text(row), row["state"], "baseline" if row["baseline"] else ""]
    return " ".join([*told, *(f"{key}={value}" for key, value in {**row["settings"], **row["chosen"]}.items())]).lower()


def _measure_cell(row, metric, group):
    measure = row["measures"].get(metric)
    if measure is None or measure["mean"] is None:
        return f'<td class="number" data-group="{group}">-</td>'
    text = f"{measure['mean']:.4f}"
    if metric in row["best"]:
        text = f"<b>{text}</b>"
    elif metric in row["second"]:
        text = f"<u>{text}</u>"
    test = row["significance"].get(metric)
    if test and test["p_holm"] is not None and test["p_holm"] < LEVEL:
        text += '<sup title="differs from the best baseline">†</sup>'
    spread = "" if measure["std"] is None else f"± {measure['std']:.4f}"
    text += f' <small class="muted spread">{spread}</small>'
    seeds = ", ".join(f"seed {seed}: {words(value)}" for seed, value in zip(row["seeds_done"], measure["values"]))
    return f'<td class="number" data-group="{group}" title="{escape(seeds)}">{text}</td>'


def _setting(row):
    """What a click on the row opens; without a script, its summary does."""
    parts = [("Model", f"<p>{escape(row['model'])}, seeds {escape(words(row['seeds']))}</p>")]
    if row["errors"]:
        parts.append(("Errors", f'<pre class="error">{escape(chr(10).join(row["errors"]))}</pre>'))
    parts.append(("Setting", _yaml(row["settings"]) if row["settings"] else "<p>the model's defaults</p>"))
    if row["search"]:
        parts.append(("Chosen by the search", _yaml(row["chosen"]) if row["chosen"] else "<p>nothing yet</p>"))
        parts.append(("Searched", _yaml(row["search"])))
    parts.append(("Command", f'<pre class="command">{escape(row["reproduce"])}</pre>'))
    if row["records"]:
        parts.append(("Records, from the folder of this page", f"<pre>{escape(chr(10).join(row['records']))}</pre>"))
    inner = "".join(f"<h4>{heading}</h4>{content}" for heading, content in parts)
    return f'<details class="opened"><summary>setting and command</summary>{inner}{_configuration(row)}</details>'


def _configuration(row):
    """Everything that the first run of the row was set to, RecBole's defaults included."""
    if not row["configuration"]:
        return ""
    told = f"all {len(row['configuration'])} settings of the run with seed {row['seeds_done'][0]}, defaults included"
    return f"<details><summary>{told}</summary>{_yaml(row['configuration'])}</details>"


def _yaml(values):
    return f"<pre>{escape(yaml.safe_dump(values, sort_keys=False, allow_unicode=True).strip())}</pre>"


def _notes(summary, names):
    notes = [
        "Mean ± standard deviation over seeds. <b>Best</b> and <u>second</u> among the rows of one protocol, "
        "shared where the printed digits are equal; "
        f"† differs from the best baseline (p &lt; {LEVEL} after Holm's correction)."
    ]
    if any(metric.endswith(ID_LEVEL) for metric in names):
        notes.append(
            "ID-level columns count a hit when the target's semantic ID is found, whichever of the items that share it was meant; "
            "they are for comparison with papers that count so. All other hits are of items."
        )
    notes.append("A click on a header sorts, on a row opens its setting and command.")
    return "".join(f'<p class="small">{note}</p>' for note in notes)
