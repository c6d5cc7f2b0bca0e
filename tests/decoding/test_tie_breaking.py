"""Items that share a semantic ID: their stated order, in the ranking that RecBole evaluates. Reference: a plain sort."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_trainer, init_seed
from support.atomic import read_atomic
from support.whole_rows import whole_rows

from recbole_gr.decoding.tie_breaking import leaf_ranks, order_within_leaves
from recbole_gr.experiment.run import run
from recbole_gr.models.tiger.model import TIGER

CODES = np.array([[-1, -1], [0, 1], [2, 0], [0, 1], [0, 1], [2, 0], [1, 1]])


def test_ranks_by_popularity_then_item_id():
    popularity = np.array([0, 3, 1, 9, 3, 8, 2])
    assert leaf_ranks(CODES, popularity, "popularity", seed=0).tolist() == [0, 1, 1, 0, 2, 0, 0]


def test_random_ranks_are_seeded_and_permute_each_leaf():
    codes = np.concatenate([[[-1]], np.repeat(np.arange(20), 10)[:, None]])
    popularity = np.zeros(201, dtype=int)
    first, again, other = (leaf_ranks(codes, popularity, "random", seed) for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()
    assert (np.sort(first[1:].reshape(20, 10), axis=1) == np.arange(10)).all()


@pytest.mark.parametrize("leaf_size", [2, 100, 5000])
def test_only_items_of_equal_score_are_told_apart(leaf_size):
    """The scores of the leaves are neighbouring float32 numbers, the hardest case."""
    leaf = np.repeat(np.arange(4), leaf_size)
    for top in (-0.70, -7.3, -61.0):
        scores = [np.float32(top)]
        for _ in range(3):
            scores.append(np.nextafter(scores[-1], np.float32(-np.inf)))
        ranks = np.append(0, np.tile(np.random.default_rng(0).permutation(leaf_size), 4))
        row = torch.tensor(np.append(-np.inf, np.array(scores)[leaf]).astype(np.float32)).unsqueeze(0)
        order = order_within_leaves(row, torch.from_numpy(ranks))[0].argsort(descending=True)[:-1].numpy() - 1
        assert (leaf[order] == leaf).all()
        assert (ranks[1:][order] == np.tile(np.arange(leaf_size), 4)).all()
    assert order_within_leaves(torch.tensor([[-torch.inf, -1.0]]), torch.tensor([0, 1]))[0, 0] == -torch.inf


def popularity_in_training(data_path, name):
    """Counted from the file by hand: all but the last two interactions of every user."""
    inter = read_atomic(f"{data_path}/{name}/{name}.inter")
    inter = inter.iloc[inter["timestamp:float"].astype(float).argsort(kind="stable")]
    last_first = inter.groupby("user_id:token").cumcount(ascending=False)
    return inter["item_id:token"][last_first >= 2].value_counts()


@pytest.mark.parametrize("mode", ["full", "uni50"])
@pytest.mark.parametrize("leaf_order", ["popularity", "random"])
def test_the_evaluated_ranking_follows_the_stated_order(small_part, tiny_settings, leaf_order, mode):
    """What RecBole's top k is taken from, user by user, against a sort by score, then by popularity, then by item id."""
    shared = {"collision": "none", "codebook_num": 2, "codebook_size": 8, "leaf_order": leaf_order}
    settings = {**tiny_settings, **shared, "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": mode}}
    config = Config("TIGER", "small", config_dict=settings)
    init_seed(config["seed"], True)
    train_data, _, test_data = data_preparation(config, create_dataset(config))
    model = TIGER(config, train_data._dataset).eval()
    trainer = get_trainer(config["MODEL_TYPE"], "TIGER")(config, model)
    evaluate = partial(whole_rows, trainer) if mode == "full" else trainer._neg_sample_batch_eval
    trainer.tot_item_num, trainer.item_tensor = model.n_items, None

    counts = popularity_in_training(small_part[1], "small")
    tokens = train_data._dataset.field2id_token["item_id"]
    popularity = np.array([counts.get(token, 0) for token in tokens])
    ranks = model.leaf_ranks.numpy()
    codes = model.item_codes.numpy()
    ties = 0
    for batch in test_data:
        _, scores, positive_u, positive_i = evaluate(batch)
        found = scores.float()
        for user, row in enumerate(scores):
            top = row.topk(10).indices.numpy()
            kept = np.flatnonzero(np.isfinite(found[user].numpy()) & (found[user].numpy() > -1e30))
            key = popularity[kept] if leaf_order == "popularity" else -ranks[kept]
            leaf_score = {tuple(codes[item]): found[user, item].item() for item in kept}
            score = np.array([leaf_score[tuple(codes[item])] for item in kept])
            expected = kept[np.lexsort((kept, -key, -score))][:10]
            assert top[: len(expected)].tolist() == expected.tolist()
            ties += len(expected) - len({tuple(codes[item]) for item in expected})
    assert ties > 100


def test_the_order_decides_the_metrics_and_is_recorded(small_part, tiny_settings):
    shared = {**tiny_settings, "collision": "none", "codebook_num": 1, "codebook_size": 8}
    results = {
        order: run("TIGER", "small", config_dict={**shared, "leaf_order": order}) for order in ("popularity", "random")
    }
    assert results["popularity"]["test_result"] != results["random"]["test_result"]
    for order, result in results.items():
        with open(result["record"]) as file:
            assert json.load(file)["semantic_ids"]["leaf_order"] == order
    alone = run("TIGER", "small", config_dict=tiny_settings)
    with open(alone["record"]) as file:
        assert "leaf_order" not in json.load(file)["semantic_ids"]
