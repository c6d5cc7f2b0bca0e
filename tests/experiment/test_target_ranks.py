"""The ranks that are kept say the same as RecBole's own evaluator."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from recbole_gr.experiment.run import run
from recbole_gr.experiment.target_ranks import cold_target_recall, id_ranks, target_ranks

METRICS = ["Recall", "NDCG", "MRR", "Hit", "Precision", "ItemCoverage", "GiniIndex", "AveragePopularity", "TailPercentage"]
SAMPLED = {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO", "mode": "uni50"}
BY_RATIO = {"split": {"RS": [0.6, 0.2, 0.2]}, "group_by": "user", "order": "RO", "mode": "full"}
BY_TIME = {**BY_RATIO, "order": "TO"}


@pytest.fixture
def measured(small_part, tiny_settings):
    """Runs a model; returns its record and the table of its target ranks."""

    def run_model(model, **settings):
        settings = {**tiny_settings, "metrics": METRICS, "topk": [3, 10, 20], "beam_size": 20, **settings}
        result = run(model, "small", config_dict={**settings, "record_name": "cell"})
        with open(result["record"]) as file:
            record = json.load(file)
        return record, pd.read_parquet(result["record"].replace("cell.json", record["hit_ranks"]["file"]))

    return run_model


def recompute(table, k):
    """The metrics at k, ranking by ranking in plain Python."""
    values = {"recall": [], "mrr": [], "ndcg": [], "hit": [], "precision": []}
    for _, targets in table.groupby(["user_id", "ranking"] if "ranking" in table else "user_id"):
        hits = sorted(rank for rank in targets["rank"].fillna(0) if 0 < rank <= k)
        ideal = sum(1 / np.log2(place + 1) for place in range(1, min(len(targets), k) + 1))
        values["recall"].append(len(hits) / len(targets))
        values["precision"].append(len(hits) / k)
        values["hit"].append(float(bool(hits)))
        values["mrr"].append(1 / hits[0] if hits else 0.0)
        values["ndcg"].append(sum(1 / np.log2(rank + 1) for rank in hits) / ideal)
    return {name: np.mean(value) for name, value in values.items()}


@pytest.mark.parametrize(
    "model, settings",
    [
        ("Pop", {}),
        (
            "BPR",
            {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 1, "dynamic": False, "candidate_num": 0}},
        ),
        ("BPR", {"eval_args": BY_RATIO}),
        ("SASRec", {}),
        ("SASRec", {"eval_args": SAMPLED}),
        ("SASRec", {"eval_args": BY_TIME}),
        ("SASRec", {"eval_args": {**BY_TIME, "mode": "uni50"}}),
        ("TIGER", {}),
        ("TIGER", {"collision": "none", "codebook_size": 4, "eval_args": SAMPLED}),
    ],
)
def test_equal_to_recboles_evaluator(measured, model, settings):
    settings.setdefault("train_neg_sample_args", None) if model != "BPR" else settings.setdefault("epochs", 1)
    record, table = measured(model, **settings)
    # RecBole ranks all items once per test interaction of a sequential model, and sampled ones once per user
    assert ("ranking" in table) == (settings.get("eval_args") == BY_TIME)
    assert record["hit_ranks"]["depth"] == 20 and table["rank"].dropna().between(1, 20).all()
    for k in (3, 10, 20):
        for name, value in recompute(table, k).items():
            assert record["test"][f"{name}@{k}"] == pytest.approx(value, abs=0.500001e-4), (name, k)


def test_what_stands_beside_the_ranks(measured, small_part):
    """History lengths and item counts, by hand from the data file, for a general and for a sequential model."""
    name, data_path = small_part
    inter = pd.read_csv(f"{data_path}/{name}/{name}.inter", sep="\t", dtype=str)
    inter.columns = [name.split(":")[0] for name in inter.columns]
    inter["timestamp"] = inter["timestamp"].astype(float)
    inter = inter.sort_values("timestamp", kind="stable")
    place = inter.groupby("user_id").cumcount(ascending=False)
    training = inter[place >= 2]
    last = inter[place == 0].set_index("user_id")["item_id"]
    lengths = inter.groupby("user_id").size() - 1
    for model in ("Pop", "SASRec"):
        _, table = measured(model, train_neg_sample_args=None)
        table = table.set_index("user_id")
        assert table["item_id"].to_dict() == last.to_dict()
        assert table["history_length"].to_dict() == lengths.to_dict()
        counts = training["item_id"].value_counts()
        assert table["item_count"].to_dict() == {user: counts.get(item, 0) for user, item in last.items()}
        assert "id_rank" not in table


def test_ranks_of_ids_for_a_tokenizer_that_collides(measured):
    _, table = measured("TIGER", collision="none", codebook_num=1, codebook_size=8)
    found = table.dropna(subset=["rank"])
    assert len(found) and (found["id_rank"] <= found["rank"]).all() and (found["id_rank"] < found["rank"]).any()
    assert table["id_rank"].max() <= 8


def test_ranks_by_hand():
    scores = torch.tensor([[-torch.inf, 0.5, 0.4, 0.3, 0.2, 0.1], [-torch.inf, 0.1, 0.2, 0.3, 0.4, 0.5]])
    rows, items = torch.tensor([0, 0, 1, 1]), torch.tensor([1, 4, 1, 3])
    assert target_ranks(scores, rows, items, 4).tolist() == [1, 4, 0, 3]
    ids = torch.tensor([0, 1, 1, 2, 2, 3])  # items 1 and 2 share an ID, 3 and 4 another
    assert id_ranks(scores, rows, items, ids, depth=4).tolist() == [1, 2, 3, 2]
    assert id_ranks(scores, rows, items, ids, depth=1).tolist() == [1, 0, 0, 0]
    scores[0, 3:5] = torch.finfo(torch.float32).min  # no beam reached them
    assert id_ranks(scores, rows, items, ids, depth=4).tolist() == [1, 0, 3, 2]


def test_recall_of_cold_targets_by_hand():
    """Two rankings have a cold target, one of them two; the first finds one of its two, the other none."""
    table = pd.DataFrame(
        {
            "user_id": ["a", "a", "a", "b", "c"],
            "item_id": ["1", "2", "3", "2", "4"],
            "rank": pd.array([1, 4, None, None, 2], dtype="Int32"),
            "item_count": [5, 0, 0, 0, 3],
        }
    )
    assert cold_target_recall(table, [3, 5]) == {"targets": 3, "recall@3": 0.0, "recall@5": 0.25}
    table["ranking"] = [0, 0, 1, 2, 3]
    assert cold_target_recall(table, [5]) == {"targets": 3, "recall@5": 0.3333}
    assert cold_target_recall(table[table["item_count"] > 0], [5]) == {"targets": 0}
