"""Which seen items are excluded, against the plain file as the reference."""

import os
from collections import Counter

import numpy as np
import pytest
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from support.atomic import read_atomic

from recbole_gr.data.seen import SeenItems
from recbole_gr.experiment.run import run

PROTOCOL = {
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "show_progress": False,
}


def excluded(model, settings, phase):
    """By user token: the items whose scores are set to -inf for the user's row."""
    config = Config(model, "small", config_dict={**PROTOCOL, **settings})
    dataset = create_dataset(config)
    return excluded_by(data_preparation(config, dataset)[phase], dataset)


def excluded_by(loader, dataset):
    found = {}
    for interaction, history, _, _ in loader:
        users = dataset.id2token("user_id", interaction["user_id"])
        found.update({user: set() for user in users})
        if history is not None:
            for row, item in zip(*(index.tolist() for index in history)):
                found[users[row]].add(dataset.id2token("item_id", item))
    return found


def expected(small_part, left_out):
    """Reference: all items of a user but the last ``left_out``, one number or one by user, from the file."""
    table = read_atomic(os.path.join(small_part[1], "small", "small.inter"))
    table = table.iloc[table["timestamp:float"].astype(float).argsort(kind="stable")]
    left_out = Counter(dict.fromkeys(table["user_id:token"], left_out)) if isinstance(left_out, int) else left_out
    return {user: set(rows["item_id:token"].iloc[: -left_out[user]]) for user, rows in table.groupby("user_id:token")}


@pytest.mark.parametrize("model", ["TIGER", "SASRec", "BPR"])
@pytest.mark.parametrize("phase, left_out", [(1, 2), (2, 1)])
def test_everything_before_the_target_is_excluded_for_every_model(small_part, tiny_settings, model, phase, left_out):
    settings = {**tiny_settings, "mask_seen": True}
    if model == "SASRec":
        settings["MAX_ITEM_LIST_LENGTH"] = 3  # the exclusion must reach further back than the model does
    assert excluded(model, settings, phase) == expected(small_part, left_out)


@pytest.mark.parametrize("model", ["TIGER", "SASRec"])
def test_a_split_by_ratio_excludes_the_parts_before(small_part, tiny_settings, model):
    eval_args = {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "TO", "group_by": "user", "mode": "full"}
    config = Config(model, "small", config_dict={**tiny_settings, "mask_seen": True, "eval_args": eval_args})
    dataset = create_dataset(config)
    loaders = data_preparation(config, dataset)
    users = (dataset.id2token("user_id", loader._dataset.inter_feat["user_id"]) for loader in loaders)
    _, valid, test = map(Counter, users)
    assert len(valid) == len(test) == 60 and min(valid.values()) > 1
    assert excluded_by(loaders[1], dataset) == expected(small_part, valid + test)
    assert excluded_by(loaders[2], dataset) == expected(small_part, test)


@pytest.mark.parametrize("longest", [1, 2])
def test_histories_truncated_to_almost_nothing(small_part, tiny_settings, longest):
    settings = {**tiny_settings, "mask_seen": True, "MAX_ITEM_LIST_LENGTH": longest}
    assert excluded("SASRec", settings, 2) == excluded("TIGER", settings, 2) == expected(small_part, 1)


def test_general_models_rank_as_recbole_does(small_part, tiny_settings):
    own = {"data_path": tiny_settings["data_path"], "epochs": 2, "embedding_size": 8, "show_progress": False}
    own.update(metrics=["MRR", "Recall"], topk=[200], valid_metric="MRR@200")
    results = {rule: run("BPR", "small", config_dict={**own, "mask_seen": rule}) for rule in (True, "recbole", False)}
    for result in ("test_result", "best_valid_result"):
        assert results[True][result] == results["recbole"][result] != results[False][result]


@pytest.mark.parametrize("model", ["TIGER", "SASRec", "BPR"])
def test_nothing_is_excluded(small_part, tiny_settings, model):
    assert set(map(len, excluded(model, {**tiny_settings, "mask_seen": False}, 2).values())) == {0}


def test_recboles_rule_is_a_mixture(small_part, tiny_settings):
    settings = {**tiny_settings, "mask_seen": "recbole"}
    assert excluded("BPR", settings, 2) == expected(small_part, 1)
    assert set(map(len, excluded("SASRec", settings, 2).values())) == {0}


def test_targets_that_were_seen_before_are_counted(tmp_path, caplog):
    folder = tmp_path / "data" / "small"
    folder.mkdir(parents=True)
    rows = [f"u{user}\ti{item}\t{time}" for user in range(4) for time, item in enumerate([1, 2, 3, 4 + user if user else 1])]
    (folder / "small.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n" + "\n".join(rows) + "\n")
    for model in ("SASRec", "BPR"):
        caplog.clear()
        found = excluded(model, {"data_path": str(tmp_path / "data"), "mask_seen": True}, 2)
        assert found["u0"] == {"i1", "i2", "i3"}
        assert "mask_seen=True: 1 of 4 targets are items that the user had before" in caplog.text


def test_users_with_different_numbers_of_items():
    seen = SeenItems(np.array([3, 1, 3, 1, 1]), np.array([7, 5, 8, 6, 4]), 5)
    rows, items = seen.of(np.array([3, 2, 1, 3]))
    assert rows.tolist() == [0, 0, 2, 2, 2, 3, 3] and items.tolist() == [7, 8, 5, 6, 4, 7, 8]
