"""Small boards and the files that their cells leave, drawn by a seed."""

import json

import numpy as np
import pandas as pd
import torch
from recbole.evaluator import DataStruct
from recbole.evaluator.register import metrics_dict

from recbole_gr.experiment.target_ranks import write_target_ranks
from recbole_gr.leaderboard.board import Board, Row, Search
from recbole_gr.leaderboard.summarise import summarise

DEPTH = 20
METRICS = ("Recall", "NDCG", "MRR", "Hit", "ItemCoverage", "GiniIndex")
TOPK = (5, 10, 20)


def make_row(name, model="SASRec", **changes):
    """A row of two seeds; models of ours are no baselines."""
    values = {"settings": {"learning_rate": 0.001}, "seeds": (1, 2), "baseline": model != "TIGER", "variant": {}}
    return Row(name=name, model=model, **{**values, **changes})


def make_board(rows, **changes):
    """A board of ml-100k with some metrics, those of semantic IDs among them."""
    values = {
        **{"name": "small", "dataset": "ml-100k", "description": "A board for tests.", "protocol": {"mask_seen": True}},
        **{"metrics": METRICS, "topk": TOPK, "main_metric": "ndcg@10", "published": (), "id_level": True},
        **{"effort": Search(trials=3), "file": "small.yaml", "given": {}},
    }
    return Board(rows=tuple(rows), **{**values, **changes})


def make_hit_ranks(seed, users=60, targets=1, places=40, semantic_ids=False):
    """Hit ranks of users with up to ``targets`` targets, each anywhere among the first ``places``.

    With semantic IDs, a target's ID stands where the target does or before it.
    """
    rng = np.random.default_rng(seed)
    counts = np.random.default_rng(0).integers(1, targets + 1, size=users)  # the same data for all seeds
    item_count = np.random.default_rng(1).integers(0, 30, size=counts.sum())
    place = np.concatenate([rng.permutation(places)[:count] + 1 for count in counts])
    table = {
        "user_id": np.repeat([f"u{number:03d}" for number in range(users)], counts),
        "item_id": [f"i{number}" for number in range(counts.sum())],
        "rank": found(place),
        "history_length": np.repeat(np.random.default_rng(2).integers(3, 50, size=users), counts).astype("int32"),
        "item_count": item_count.astype("int32"),
    }
    if semantic_ids:
        table["id_rank"] = found(np.maximum(1, place - 3))
    return pd.DataFrame(table)


def found(places):
    """Ranks down to DEPTH, missing below."""
    places = pd.Series(places, dtype="Int32")
    return places.where(places <= DEPTH)


def recbole_metrics(hit_ranks, metrics, topk, digits=15, rank="rank"):
    """What RecBole's own metric classes make of the hit ranks; a dict by ``name@k``."""
    several = hit_ranks["ranking"].astype(str) if "ranking" in hit_ranks else ""
    users, names = pd.factorize(hit_ranks["user_id"] + several, sort=True)
    matrix = np.zeros((len(names), DEPTH + 1), dtype="int64")
    hits = hit_ranks[rank].notna().to_numpy()
    matrix[users[hits], hit_ranks[rank][hits].to_numpy(dtype="int64") - 1] = 1
    matrix[:, DEPTH] = np.bincount(users)
    given = DataStruct()
    given.set("rec.topk", torch.from_numpy(matrix[:, [*range(max(topk)), DEPTH]]))
    config = {"metric_decimal_place": digits, "topk": list(topk)}
    results = [metrics_dict[metric.lower()](config).calculate_metric(given) for metric in metrics]
    return {key: float(value) for result in results for key, value in result.items()}


def make_record(cell, hit_ranks, **changes):
    """A record with what summaries read of it; the metrics of lists are drawn by the seed."""
    accuracy = [metric for metric in cell.board.metrics if metric not in ("ItemCoverage", "GiniIndex")]
    measured = recbole_metrics(hit_ranks, accuracy, cell.board.topk, digits=4)
    measured.update({f"itemcoverage@{k}": 0.01 * k + 0.1 * cell.seed for k in cell.board.topk})
    measured.update({f"giniindex@{k}": 0.9 - 0.01 * cell.seed for k in cell.board.topk})
    return {
        "model": cell.row.model,
        "dataset": cell.board.dataset,
        "seed": cell.seed,
        "test": measured,
        "parameters": 1000,
        "peak_memory_mb": 500.0 + cell.seed,
        "stages": {"training": {"seconds": 10.0 * cell.seed}, "test": {"seconds": 1.0, "users_per_second": 60.0}},
        "dataset_statistics": {
            **{"users": 60, "items": 40, "interactions": 1200, "mean_length": 20.0, "sparsity": 0.5},
            "samples": {"train": 1000, "valid": 60, "test": 60},
        },
        "config": {
            **{"metric_decimal_place": 4, "MODEL_TYPE": "ModelType.SEQUENTIAL", "MAX_ITEM_LIST_LENGTH": 20},
            **{"mask_seen": True, "timestamp_order": "exact", "tie_order": "file", **(cell.row.variant or {})},
            "eval_args": {
                **{"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user"},
                "mode": {"valid": "full", "test": "full"},
            },
        },
        "created": f"2026-11-2{cell.seed}T00:00:00+00:00",
        "git_revision": "abc",
        "versions": {"recbole_gr": "0.4.0", "recbole": "1.2.1", "torch": "2.13.0"},
        "machine": {"processor": "x86_64", "device": "cpu", "torch_threads": 2},
        "learning_curve": [
            {"epoch": 0, "train_loss": 9.5, "valid_score": 0.1},
            {"epoch": 1, "train_loss": 9.0},
        ],
        "hit_ranks": {"file": f"{cell.key}.parquet", "depth": DEPTH},
        **changes,
    }


def write_cell(folder, cell, hit_ranks, **changes):
    """The two files of a cell that ran; returns its record."""
    record = make_record(cell, hit_ranks, **changes)
    (folder / f"{cell.key}.json").write_text(json.dumps(record), encoding="utf-8")
    write_target_ranks(hit_ranks, folder / f"{cell.key}.parquet")
    return record


def write_all(folder, board, **shape):
    """The files of all cells of a board; each cell has hit ranks of its own.

    Returns:
        dict: hit ranks by number of the row and seed.
    """
    written = {}
    for number, row in enumerate(board.rows):
        for cell in board.cells():
            if cell.row is row:
                draw = 100 * number + cell.seed
                semantic_ids = row.model == "TIGER"
                hit_ranks = make_hit_ranks(draw, places=40 - 10 * number, semantic_ids=semantic_ids, **shape)
                write_cell(folder, cell, hit_ranks)
                written[number, cell.seed] = hit_ranks
    return written


def json_summary(board, folder):
    """The summary of a board as it is kept in the html page."""
    return summarise(board, str(folder)).as_json()
