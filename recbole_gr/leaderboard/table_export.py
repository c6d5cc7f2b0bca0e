"""A board's summary for other programs: csv, and LaTeX tables."""

import pandas as pd

from recbole_gr.leaderboard.measures import ID_LEVEL
from recbole_gr.leaderboard.page_words import number
from recbole_gr.leaderboard.significance import CONFIDENCE
from recbole_gr.leaderboard.table import COSTS, NOTHING, measure_cell, metric_title, notes, row_label

#: Columns of csv for every metric that is tested, behind its name, and what they hold of its test.
TEST_COLUMNS = {
    "compared with": "against",
    "difference": "difference",
    "difference lower bound": "low",
    "difference upper bound": "high",
    "p": "p",
    "p_holm": "p_holm",
    "compared users": "users",
}

_LATEX = {
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"},
    **{"[": "{[}", "*": "{*}"},  # at the beginning of a line they would belong to the \\ before it
    **{"†": r"$^\dagger$", "↓": r"$\downarrow$"},
}
_PLACES = "Mean and standard deviation over seeds; best in bold, second underlined, among the rows of one protocol."


def as_csv(summary):
    """One line per row of the board, with empty cells for what it lacks.

    Columns: what the row is; ``ndcg@10 mean`` and ``ndcg@10 std`` of each measure; the cost; ``ndcg@10 difference`` and
    its like, :data:`TEST_COLUMNS`, of each tested metric; ``users`` and the measures of every group of the slices, as in
    ``recall@10 item popularity: 1 to 52``.

    Args:
        summary (dict): from :func:`recbole_gr.leaderboard.summary.summarise`.

    Returns:
        str
    """
    parts = (_csv_row, _csv_measures, _csv_cost, _csv_tests, _csv_slices)
    lines = [{column: value for part in parts for column, value in part(summary, row).items()} for row in summary["rows"]]
    # as objects: a count stays a whole number in a column that has empty cells
    return pd.DataFrame(lines, dtype=object).to_csv(index=False, lineterminator="\n")


def _csv_row(summary, row):
    line = {"row": row["name"], "model": row["model"], **row["variant"], "baseline": row["baseline"], "state": row["state"]}
    return {**line, "seeds_done": len(row["seeds_done"])}


def _csv_measures(summary, row):
    names = summary["metrics"] + summary["list_metrics"]
    return {f"{name} {value}": row["measures"].get(name, {}).get(value) for name in names for value in ("mean", "std")}


def _csv_cost(summary, row):
    return {cost: row["cost"].get(cost) for cost in _costs(summary["rows"])}


def _csv_tests(summary, row):
    tested = [name for name in summary["metrics"] if not name.endswith(ID_LEVEL)]
    return {
        f"{name} {column}": row["significance"].get(name, {}).get(key)
        for name in tested
        for column, key in TEST_COLUMNS.items()
    }


def _csv_slices(summary, row):
    return {
        f"{name} {slicing}: {group['label']}": value
        for slicing, groups in row["slices"].items()
        for group in groups
        for name, value in group.items()
        if name != "label"
    }


def _costs(rows):
    return [cost for cost in COSTS if any(cost in row["cost"] for row in rows)]


def as_latex(summary):
    """Tables for a paper: accuracy and, as far as there is something to print, lists, significance and cost.

    They take the package booktabs and, where one is too wide for the page, graphicx.

    Args:
        summary (dict): from :func:`recbole_gr.leaderboard.summary.summarise`.

    Returns:
        str
    """
    measured = [row for row in summary["rows"] if row["measures"]]
    parts = [f"% {summary['command']}", _accuracy(summary, measured)]
    if measured:
        parts += [_lists(summary, measured)] if summary["list_metrics"] else []
        parts += [_significance(summary, measured), _cost(summary, measured)]
    return "\n\n".join(parts) + "\n"


def _accuracy(summary, measured):
    nothing = "" if measured else f" {NOTHING}"
    caption = f"{summary['name']}.{nothing} {_PLACES} {notes(summary)}"
    return _measure_table(caption, summary["metrics"], summary["rows"])


def _lists(summary, rows):
    smaller = [name for name in summary["list_metrics"] if name in summary["smaller_is_better"]]
    caption = f"{summary['name']}: beyond accuracy. {_PLACES}{' ↓: smaller is better.' if smaller else ''}"
    return _measure_table(caption, summary["list_metrics"], rows, smaller)


def _measure_table(caption, metrics, rows, smaller=()):
    head = ["", *(metric_title(name) + (" ↓" if name in smaller else "") for name in metrics)]
    return _table(caption, head, [[_tex(row_label(row)), *(_measure(row, name) for name in metrics)] for row in rows])


def _measure(row, name):
    return measure_cell(row, name, r"\textbf{%s}", r"\underline{%s}", r"$^\dagger$", r" $\pm$ ", "--")


def _significance(summary, rows):
    """The main metric's; a comment where nothing is tested."""
    metric = summary["main_metric"]
    tested = [row for row in rows if metric in row["significance"]]
    if not tested:
        return f"% {summary['significance_note']}"
    caption = f"{summary['name']}: significance in {metric_title(metric)}. {summary['significance_note']}"
    head = ["", "against", "difference", f"{CONFIDENCE:.0%} interval", "p", "p (Holm)", "users"]
    return _table(caption, head, [_test_line(row, row["significance"][metric]) for row in tested], left=2)


def _test_line(row, test):
    difference, low, high = (f"${test[key]:+.4f}$" for key in ("difference", "low", "high"))
    tested = [difference, f"{low} to {high}", f"{test['p']:.4f}", f"{test['p_holm']:.4f}", number(test["users"])]
    return [_tex(row_label(row)), _tex(test["against"]), *tested]


def _cost(summary, rows):
    costs = _costs(rows)
    lines = [[_tex(row_label(row)), *(_cost_cell(row, cost) for cost in costs)] for row in rows]
    return _table(f"{summary['name']}: cost, means over seeds.", ["", *(COSTS[cost][0] for cost in costs)], lines)


def _cost_cell(row, cost):
    value = row["cost"].get(cost)
    return "--" if value is None else number(value, COSTS[cost][1])


def _table(caption, head, lines, left=1):
    """A table whose first columns, ``left`` of them, are words; the lines are LaTeX, caption and head plain text."""
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{_tex(caption)}}}",
            rf"\begin{{tabular}}{{{'l' * left}{'r' * (len(head) - left)}}}",
            r"\toprule",
            _line(map(_tex, head)),
            r"\midrule",
            *map(_line, lines),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _line(cells):
    return " & ".join(cells) + r" \\"


def _tex(text):
    """Text that LaTeX prints as it is, on one line."""
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))
