"""Everything that a board's table and page print, as one dict of plain json values, from the cells' files alone."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_gr.experiment.record import plain
from recbole_gr.leaderboard.cell_files import read_cell
from recbole_gr.leaderboard.conditions import environment_words, protocol_words
from recbole_gr.leaderboard.measures import ID_LEVEL, is_accuracy, measure_rankings, smaller_is_better
from recbole_gr.leaderboard.published import read_published
from recbole_gr.leaderboard.significance import NOTE, NOTHING_TESTED, compare_with_best_baseline
from recbole_gr.leaderboard.slices import slice_bounds, slice_measures

#: What slices and semantic IDs are measured by, at the k of the main metric.
SHOWN_BY = ("recall", "ndcg")

#: Digits that are printed; rows that are equal in these share a place.
DIGITS = 4

STATISTICS = ("users", "items", "interactions", "mean_length", "sparsity")


def summarise(board, records_folder):
    """Read what there is of a board's cells.

    Args:
        board (recbole_gr.leaderboard.board.Board): what was asked for.
        records_folder (str): where the cells' files are.

    Returns:
        dict: ``rows`` in the order of the board, cells that did not run or failed included; ``metrics``, per user, and
        ``list_metrics``, of all users' lists together, both ``name@k``; and what they were measured under.

    Raises:
        SettingError: the board names published numbers that there are not.
    """
    metrics, list_metrics = _metric_names(board)
    published = read_published(board.published, board.dataset)
    rows, users, bounds, records, by_interaction = [], [], {}, [], []
    for row in board.rows:
        cells = [read_cell(cell, records_folder) for cell in board.cells() if cell.row is row]
        done = [cell for cell in cells if cell.record]
        if done:
            bounds.setdefault(_variant(row), slice_bounds(done[0].hit_ranks))
        per_seed = [_measure_cell(board, cell) for cell in done]
        rows.append(_summarise_row(board, row, cells, per_seed, bounds.get(_variant(row)), records_folder))
        users.append(_mean_over_seeds([_by_user(rankings) for rankings in per_seed]) if done else None)
        by_interaction.append(bool(done) and "ranking" in done[0].hit_ranks)
        records += [cell.record for cell in done]
    tested = [name for name in metrics if not name.endswith(ID_LEVEL)]
    smaller = [name for name in tested + list_metrics if smaller_is_better(name.partition("@")[0])]
    for members in _comparable_rows(board, by_interaction):
        _add_significance(rows, users, members, tested)
        _add_places([rows[number] for number in members], tested + list_metrics, smaller)
    return {
        "name": board.name,
        "dataset": board.dataset,
        "description": board.description,
        "command": board.command,
        "protocol": {**protocol_words(records), **_rankings_words(board, by_interaction)},
        "statistics": {key: records[0]["dataset_statistics"][key] for key in STATISTICS} if records else {},
        "environment": environment_words(records),
        "metrics": metrics,
        "main_metric": board.main_metric,
        "smaller_is_better": smaller,
        "list_metrics": list_metrics,
        "significance_note": NOTE if any(row["significance"] for row in rows) else NOTHING_TESTED,
        "rows": rows,
        "published": published,
    }


def _metric_names(board):
    """Metrics per user, those that count semantic IDs last, and metrics of lists."""
    names = [f"{metric.lower()}@{k}" for k in board.topk for metric in board.metrics]
    metrics = [name for name in names if is_accuracy(name.partition("@")[0])]
    list_metrics = [name for name in names if name not in metrics]
    if board.id_level:
        metrics += [f"{metric}@{_main_k(board)}{ID_LEVEL}" for metric in SHOWN_BY]
    return metrics, list_metrics


def _main_k(board):
    return int(board.main_metric.partition("@")[2])


def _variant(row):
    return json.dumps(row.variant or {}, sort_keys=True)


def _comparable_rows(board, by_interaction):
    """The numbers of the rows that stand under one protocol, and are measured by like rankings, list by list."""
    members = {}
    for number, row in enumerate(board.rows):
        members.setdefault((_variant(row), by_interaction[number]), []).append(number)
    return members.values()


def _rankings_words(board, by_interaction):
    """What the pages tell where a user has several test interactions, which RecBole ranks by kind of model."""
    if not any(by_interaction):
        return {}
    names = list(dict.fromkeys(row.name for row, several in zip(board.rows, by_interaction) if several))
    told = f"one per test interaction for {', '.join(names)}, paired by the user's mean"
    return {"rankings": told if all(by_interaction) else f"{told}; one per user for the others, which are compared apart"}


def _measure_cell(board, cell):
    """A table of rankings by metrics, those that count semantic IDs included where the model has such."""
    accuracy = [metric.lower() for metric in board.metrics if is_accuracy(metric)]
    rankings = measure_rankings(cell.hit_ranks, accuracy, board.topk)
    if board.id_level and "id_rank" in cell.hit_ranks:
        by_id = measure_rankings(cell.hit_ranks, SHOWN_BY, [_main_k(board)], rank="id_rank")
        rankings = pd.concat([rankings, by_id], axis=1)
    return rankings


def _by_user(rankings):
    """A table of users by metrics."""
    return rankings if rankings.index.is_unique else rankings.groupby(level=0).mean()


def _mean_over_seeds(per_seed):
    """Of every user that all seeds were tested on: a table of users by metrics."""
    mean = per_seed[0]
    for users in per_seed[1:]:
        mean = (mean + users).dropna()  # a user that one of them lacks is NaN
    return mean / len(per_seed)


def _summarise_row(board, row, cells, per_seed, bounds, folder):
    done = [cell for cell in cells if cell.record]
    chosen = cells[0].found or {}
    first = (done or cells)[0].cell
    return {
        "name": row.name,
        "model": row.model,
        "variant": plain(row.variant or {}),
        "baseline": row.baseline,
        "state": _state(cells),
        "errors": _errors(cells, per_seed),
        "seeds": list(row.seeds),
        "seeds_done": [cell.cell.seed for cell in done],
        "measures": _measures(board, done, per_seed),
        "best": [],
        "second": [],
        "significance": {},
        "slices": slice_measures([cell.hit_ranks for cell in done], bounds, SHOWN_BY, _main_k(board)) if done else {},
        "cost": _cost([cell.record for cell in done]),
        "learning_curves": [_learning_curve(cell) for cell in done if cell.record.get("learning_curve")],
        "settings": plain(row.settings),
        "configuration": done[0].record["config"] if done else {},
        "chosen": chosen,
        "search": {**board.effort, "space": plain(row.search)} if row.search else None,
        "reproduce": replace(first, found=chosen or None).command,
        "records": [f"{_from_the_pages(folder)}/{cell.cell.key}.json" for cell in done],
    }


def _from_the_pages(folder):
    """The way to a board's cells, ``BOARD/cells``, from the folder where its pages are."""
    return "/".join(Path(folder).absolute().parts[-2:])


def _state(cells):
    done = sum(cell.record is not None for cell in cells)
    if done:
        return "complete" if done == len(cells) else "incomplete"
    return "failed" if any(cell.error for cell in cells) else "missing"


def _errors(cells, per_seed):
    errors = [f"seed {cell.cell.seed}: {cell.error}" for cell in cells if cell.error]
    for cell, rankings in zip([cell for cell in cells if cell.record], per_seed):
        errors += [f"seed {cell.cell.seed}: {words}" for words in _disagreements(cell.record, rankings)]
    return errors


def _disagreements(record, rankings):
    """Where hit ranks and RecBole's evaluator differ, in what the latter printed."""
    digits = record["config"]["metric_decimal_place"]
    for name, value in rankings.mean().items():
        told = record["test"].get(name, value)
        if abs(told - value) > 0.5 * 10**-digits + 1e-9:
            yield f"{name} is {value:.{digits}f} by the hit ranks, {told:.{digits}f} by RecBole's evaluator"


def _measures(board, done, per_seed):
    _, list_metrics = _metric_names(board)
    values = {name: [float(seed[name].mean()) for seed in per_seed] for name in (per_seed[0] if done else ())}
    for name in list_metrics:
        told = [cell.record["test"][name] for cell in done if name in cell.record["test"]]
        values.update({name: told} if told else {})
    return {name: _spread(numbers) for name, numbers in values.items()}


def _spread(values):
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "std": std, "values": values}


def _cost(records):
    """Means over seeds; None for what no record tells."""
    stages = [record.get("stages", {}) for record in records]
    told = {
        "parameters": [record.get("parameters") for record in records],
        "training_seconds": [stage.get("training", {}).get("seconds") for stage in stages],
        "users_per_second": [stage.get("test", {}).get("users_per_second") for stage in stages],
        "peak_memory_mb": [record.get("peak_memory_mb") for record in records],
    }
    if any("peak_gpu_memory_mb" in record for record in records):
        told["peak_gpu_memory_mb"] = [record.get("peak_gpu_memory_mb") for record in records]
    known = {name: [value for value in values if value is not None] for name, values in told.items()}
    means = {name: float(np.mean(values)) if values else None for name, values in known.items()}
    return {**means, "parameters": None if means["parameters"] is None else round(means["parameters"])}


def _learning_curve(cell):
    curve = cell.record["learning_curve"]
    columns = {key: [point.get(key) for point in curve] for key in ("valid_score", "train_loss")}
    return {"seed": cell.cell.seed, "epochs": [point["epoch"] for point in curve], **columns}


def _add_significance(rows, users, members, metrics):
    measured = {number: users[number] for number in members if users[number] is not None}
    baselines = {number for number in measured if rows[number]["baseline"]}
    for number, found in compare_with_best_baseline(measured, baselines, metrics).items():
        rows[number]["significance"] = {
            metric: {**values, "against": rows[values["against"]]["name"]} for metric, values in found.items()
        }


def _add_places(rows, metrics, smaller):
    for name in metrics:
        sign = 1 if name in smaller else -1
        worth = {
            number: round(sign * row["measures"][name]["mean"], DIGITS)
            for number, row in enumerate(rows)
            if name in row["measures"]
        }
        for place, value in zip(("best", "second"), sorted(set(worth.values()))):
            for number in worth:
                if worth[number] == value:
                    rows[number][place].append(name)
