"""A board's summary as a markdown page."""

import re

from recbole.evaluator.register import metrics_dict
from tabulate import tabulate

from recbole_gr.leaderboard.measures import ID_LEVEL
from recbole_gr.leaderboard.page_words import number, variant_text, words

LEVEL = 0.05
NOTHING = "Nothing is measured yet: no cell of this board has a record."

COSTS = {
    "parameters": ("parameters", 0),
    "training_seconds": ("training (s)", 1),
    "users_per_second": ("users per second", 1),
    "peak_memory_mb": ("peak memory (MB)", 0),
    "peak_gpu_memory_mb": ("peak GPU memory (MB)", 0),
}


def as_markdown(summary):
    """The page ``results/<board>.md``.

    Args:
        summary (dict): from :func:`recbole_gr.leaderboard.summary.summarise`.

    Returns:
        str
    """
    measured = [row for row in summary["rows"] if row["measures"]]
    parts = [
        f"# {_md(summary['name'])}",
        summary["description"].strip(),
        f"Made by\n\n```\n{summary['command']}\n```",
        _section(
            "Data and protocol", _facts({"dataset": summary["dataset"], **summary["statistics"], **summary["protocol"]})
        ),
        _section("Accuracy", _accuracy(summary) if measured else NOTHING),
        _section("Significance", _significance(summary, measured)) if measured else "",
        _section("Beyond accuracy", _beyond_accuracy(summary, measured)) if measured and summary["list_metrics"] else "",
        _section("Slices", _slices(summary, measured)) if measured else "",
        _section("Cost", _cost(measured)) if measured else "",
        _section("Settings", _settings(summary["rows"])),
        _section("Errors", _errors(summary["rows"])),
        _section("Published numbers", _published(summary)) if summary["published"] else "",
        _section("Environment", _facts(_environment(summary["environment"]))) if measured else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def metric_title(name):
    """A metric as RecBole calls it: ``Recall@10 (ID-level)`` for ``recall@10 (ID-level)``."""
    metric, at, k = name.partition("@")
    return metrics_dict[metric].__name__ + at + k


def measure_cell(row, name, best, second, mark, plus_minus, nothing="-"):
    """Mean and standard deviation, with their marks."""
    measure = row["measures"].get(name)
    if measure is None:
        return nothing
    text = f"{measure['mean']:.4f}"
    if name in row["best"]:
        text = best % text
    elif name in row["second"]:
        text = second % text
    test = row["significance"].get(name)
    text += mark if test and test["p_holm"] < LEVEL else ""
    return text if measure["std"] is None else f"{text}{plus_minus}{measure['std']:.4f}"


def row_label(row):
    """Name and variant, and what is lacking."""
    done, asked = len(row["seeds_done"]), len(row["seeds"])
    lacking = {"incomplete": f"{done} of {asked} seeds", "failed": "failed", "missing": "not run yet"}.get(row["state"])
    about = [part for part in (variant_text(row), lacking) if part]
    return row["name"] + (f" ({', '.join(about)})" if about else "")


def _accuracy(summary):
    places = "Mean ± standard deviation over seeds; **best** and <u>second</u>"
    legend = f"{places} among the rows of one protocol, shared where the printed digits are equal. {notes(summary)}"
    return f"{_measure_table(summary['metrics'], summary['rows'])}\n\n{legend}"


def notes(summary):
    """What marks and headings mean, one sentence or two each."""
    notes = [f"† differs from the best baseline in the metric, p < {LEVEL} after Holm's correction."]
    if any(name.endswith(ID_LEVEL) for name in summary["metrics"]):
        notes.append(
            "Hits are of items, except where it says ID-level: that counts codes, so a hit of any item that shares the "
            "target's semantic ID is one. It is there for comparison with papers that count so, and has no part in the marks."
        )
    return " ".join(notes)


def _beyond_accuracy(summary, rows):
    smaller = [metric_title(name) for name in summary["smaller_is_better"] if name in summary["list_metrics"]]
    note = f"\n\nSmaller is better for {', '.join(smaller)}." if smaller else ""
    return _measure_table(summary["list_metrics"], rows) + note


def _measure_table(metrics, rows):
    lines = [
        [_md(row_label(row)), *(measure_cell(row, name, "**%s**", "<u>%s</u>", " †", " ± ") for name in metrics)]
        for row in rows
    ]
    return _table(["", *map(metric_title, metrics)], lines)


def _significance(summary, rows):
    main, others = summary["main_metric"], [name for name in summary["metrics"] if name != summary["main_metric"]]
    baselines = ", ".join(dict.fromkeys(_md(row["name"]) for row in summary["rows"] if row["baseline"])) or "none"
    parts = [f"{summary['significance_note']} Baselines: {baselines}."]
    if any(row["significance"] for row in rows):
        parts.append(_test_table(rows, [main]))
        parts.append(f"<details><summary>The other metrics</summary>\n\n{_test_table(rows, others)}\n\n</details>")
    return "\n\n".join(parts)


def _test_table(rows, metrics):
    lines = [_test_line(row, name) for name in metrics for row in rows if name in row["significance"]]
    return _table(["metric", "row", "against", "difference", "95 % interval", "p", "p (Holm)", "users"], lines)


def _test_line(row, name):
    test = row["significance"][name]
    interval = f"{test['low']:+.4f} to {test['high']:+.4f}"
    tested = [f"{test['difference']:+.4f}", interval, f"{test['p']:.4f}", f"{test['p_holm']:.4f}", number(test["users"])]
    return [metric_title(name), _md(row_label(row)), _md(test["against"]), *tested]


def _slices(summary, rows):
    measures = [f"{metric}@{summary['main_metric'].partition('@')[2]}" for metric in ("recall", "ndcg")]
    parts = ["Means over seeds; with each group the number of users who have a target in it."]
    for slicing in dict.fromkeys(slicing for row in rows for slicing in row["slices"]):
        # rows under different protocols have groups of their own
        groups = dict.fromkeys(_groups(row, slicing) for row in rows)
        tables = [
            _slice_table([row for row in rows if _groups(row, slicing) == group], slicing, measures) for group in groups
        ]
        parts += [f"### By {slicing}", *tables]
    return "\n\n".join(parts)


def _groups(row, slicing):
    return tuple((group["label"], group["users"]) for group in row["slices"][slicing])


def _slice_table(rows, slicing, measures):
    head = [f"{label} ({number(users)})" for label, users in _groups(rows[0], slicing)]
    lines = [
        [_md(row_label(row)), metric_title(name), *(f"{group[name]:.4f}" for group in row["slices"][slicing])]
        for name in measures
        for row in rows
    ]
    return _table(["", "metric", *head], lines)


def _cost(rows):
    shown = [cost for cost in COSTS if any(cost in row["cost"] for row in rows)]
    lines = [[_md(row_label(row)), *(number(row["cost"].get(cost), COSTS[cost][1]) for cost in shown)] for row in rows]
    return _table(["", *(COSTS[cost][0] for cost in shown)], lines) + "\n\nMeans over seeds."


def _settings(rows):
    return "\n".join(_setting(row) for row in rows)


def _setting(row):
    lines = [f"- **{_md(row_label(row))}**, {_md(row['model'])}, seeds {words(row['seeds'])}: {_pairs(row['settings'])}"]
    if row["search"]:
        lines.append(f"  - searched: {_pairs(row['search'])}")
        lines.append(f"  - chosen: {_pairs(row['chosen']) if row['chosen'] else 'nothing yet'}")
    return "\n".join([*lines, f"  - repeat: {_code(row['reproduce'])}"])


def _pairs(values):
    return ", ".join(_code(f"{key}: {words(value)}") for key, value in values.items()) or "the model's defaults"


def _errors(rows):
    errors = [
        f"- {_md(row['name'])}{f' ({_md(variant_text(row))})' * bool(row['variant'])}, {_md(error)}"
        for row in rows
        for error in row["errors"]
    ]
    return "\n".join(errors)


def _published(summary):
    """Each block by itself: nothing in it was measured here."""
    parts = [
        "As their sources print them, not measured here; their protocols differ from the one above, each in the way it says."
    ]
    for block in summary["published"]:
        there = dict.fromkeys(name for row in block["rows"] for name in row if name != "name")
        lines = [
            [_md(row["name"]), *("-" if name not in row else f"{row[name]:.4f}" for name in there)] for row in block["rows"]
        ]
        parts += [
            f"### {_md(block['source'])}",
            f"Protocol: {_md(block['differences'])}",
            _table(["", *map(metric_title, there)], lines),
        ]
    return "\n\n".join(parts)


def _section(title, text):
    return f"## {title}\n\n{text}" if text else ""


def _facts(values):
    return "\n".join(f"- {_md(key.replace('_', ' '))}: {_md(_fact(value))}" for key, value in values.items())


def _environment(environment):
    versions = ", ".join(f"{name} {environment[name]}" for name in ("recbole_gr", "recbole", "torch"))
    runs = " to ".join(dict.fromkeys(environment["created"]))
    return {"versions": versions, **{key: environment[key] for key in ("device", "git_revision")}, "runs ended": runs}


def _fact(value):
    return f"{value:,}" if isinstance(value, (int, float)) and not isinstance(value, bool) else words(value) or "-"


def _table(head, lines):
    alignment = ["left" if not column or column in ("metric", "row", "against") else "right" for column in head]
    return tabulate(lines, head, tablefmt="pipe", disable_numparse=True, colalign=alignment)


def _md(text):
    """Text that markdown leaves as it is, on one line."""
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", " ".join(str(text).split()))


def _code(text):
    """A text as it is, in the font of code, on one line."""
    text = " ".join(text.split())
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{ticks} {text} {ticks}" if len(ticks) > 1 else f"`{text}`"
