"""An evaluation from lists of what was found against RecBole's own from the scores of all items, figure by figure."""

import json

import numpy as np
import pytest
import torch
from recbole.data import create_dataset, data_preparation
from recbole.evaluator import Collector
from recbole.trainer import Trainer
from recbole.utils import get_trainer, init_seed

from recbole_gr.decoding.beam_search import Beams, items_found
from recbole_gr.decoding.exclusion import Exclusion
from recbole_gr.decoding.item_lists import ItemLists, RankedLists, best_of_every_item, every_item, put_together
from recbole_gr.decoding.trie import Trie
from recbole_gr.experiment.run import run
from recbole_gr.experiment.target_ranks import (
    collect_target_ranks,
    id_ranks,
    id_ranks_of_lists,
    quantised_ids,
    target_ranks,
)
from recbole_gr.integration.config import make_config
from recbole_gr.leaderboard.columns import read_records
from recbole_gr.models.rankings import item_scores, top_lists
from recbole_gr.recommend.recommender import load

METRICS = ["Recall", "MRR", "NDCG", "Hit", "Precision", "MAP"]
OF_LISTS = ["ItemCoverage", "AveragePopularity", "ShannonEntropy", "GiniIndex", "TailPercentage"]
COLLIDING = {"collision": "none", "codebook_num": 2, "codebook_size": 8}
CASES = {
    "TIGER": ("TIGER", {"metrics": METRICS + OF_LISTS}),
    "TIGER, IDs that are shared": ("TIGER", {"metrics": METRICS + OF_LISTS, **COLLIDING}),
    "TIGER, any codes": ("TIGER", {"metrics": METRICS, "decoding": "free", "beam_certify": False, "codebook_num": 3}),
    "TIGER, nothing excluded": ("TIGER", {"metrics": METRICS + OF_LISTS, "mask_seen": False}),
    "LIGER": ("LIGER", {"metrics": METRICS + OF_LISTS, "liger_candidates": 45}),
    "RPG": ("RPG", {"metrics": METRICS + OF_LISTS, "codebook_num": 4, "codebook_size": 8}),
    "RPG, a digit": ("RPG", {"metrics": METRICS, "codebook_num": 2, "codebook_size": 8, "collision": "digit"}),
}


def prepared(tiny_settings, case):
    model_name, more = CASES[case]
    given = {**tiny_settings, **more, "topk": [3, 40], "valid_metric": "NDCG@40", "beam_size": 50}
    config = make_config(model_name, "small", config_dict=given)
    init_seed(config["seed"], True)
    dataset = create_dataset(config)
    train, _, test = data_preparation(config, dataset)
    model = config.model_class(config, train._dataset).eval()
    trainer = get_trainer(config["MODEL_TYPE"], model_name)(config, model)
    trainer.eval_collector.data_collect(train)
    return config, dataset, (train, test), trainer


def from_all_scores(trainer, loaders, ids):
    """RecBole's collector and the ranks, from the matrix of scores that the model gives for ``full_sort_predict``'s contract."""
    train, test = loaders
    collector, ranks = Collector(trainer.config), []
    collector.data_collect(train)
    depth = max(trainer.config["topk"])
    for interaction, seen, rows, items in test:
        scores = trainer.model.rank(interaction, seen).dense()
        missed = scores[rows, items] == -torch.inf
        scores.clamp_(min=torch.finfo(scores.dtype).min)
        scores[rows[missed], items[missed]] = -torch.inf
        scores = trainer._break_ties(scores)
        collector.eval_batch_collect(scores, interaction, rows, items)
        of_ids = id_ranks(scores, rows, items, torch.as_tensor(ids), depth=depth)
        ranks.append((target_ranks(scores, rows, items, depth).tolist(), of_ids.tolist()))
    return trainer.evaluator.evaluate(collector.get_data_struct()), ranks


@pytest.mark.parametrize("case", CASES)
def test_figures_and_ranks_are_those_of_the_scores_of_all_items(tiny_settings, case):
    _, dataset, loaders, trainer = prepared(tiny_settings, case)
    ids = quantised_ids(dataset)
    with collect_target_ranks(trainer, 40, ids) as batches:
        found = trainer.evaluate(loaders[1], load_best_model=False)
    expected, ranks = from_all_scores(trainer, loaders, ids)
    assert found == expected
    assert [(batch["rank"].tolist(), batch["id_rank"].tolist()) for batch in batches] == ranks
    assert any(rank > 0 for of_items, _ in ranks for rank in of_items)


@pytest.mark.parametrize("case", ["TIGER", "RPG"])
def test_a_metric_of_every_rank_gets_whole_rows(tiny_settings, case, monkeypatch):
    """GAUC of a ranking of all items is refused as a setting of ours; what asks for it in another way is not left without."""
    config, _, loaders, trainer = prepared(tiny_settings, case)
    register = trainer.eval_collector.register
    monkeypatch.setattr(register, "rec.meanrank", True, raising=False)
    monkeypatch.setattr("recbole_gr.models.list_collector.SCORES_AT_ONCE", 1000)
    batch = next(iter(loaders[1]))
    interaction, ranked, rows, items = trainer._full_sort_batch_eval(batch)
    trainer.eval_collector.eval_batch_collect(ranked, interaction, rows, items)
    found = trainer.eval_collector.get_data_struct()
    collector = Collector(config)
    collector.register = register
    whole = ranked.whole_rows(torch.arange(len(ranked)), (rows, items))
    collector.eval_batch_collect(whole, interaction, rows, items)
    expected = collector.get_data_struct()
    for key in ("rec.meanrank", "rec.topk"):
        assert torch.equal(found.get(key), expected.get(key))


@pytest.mark.parametrize("case", ["TIGER, IDs that are shared", "LIGER", "RPG"])
@pytest.mark.parametrize("k", [4, 25])
def test_recommended_lists_are_the_best_of_all_scores(tiny_settings, case, k):
    _, _, (_, test), trainer = prepared(tiny_settings, case)
    interaction, seen, *_ = next(iter(test))
    allowed = torch.rand(trainer.model.n_items, generator=torch.Generator().manual_seed(0)) < 0.5
    for asked in ({}, {"excluded": seen}, {"excluded": seen, "allowed": allowed}):
        lists = top_lists(trainer.model, interaction, test._dataset, k, **asked)
        scores, certified = item_scores(trainer.model, interaction, test._dataset, k=k, **asked)
        assert torch.equal(lists.certified, certified)
        best = trainer._break_ties(scores).topk(k, dim=1).indices
        values = scores.gather(1, best)
        assert torch.equal(lists.scores, values)
        assert torch.equal(lists.items, best.masked_fill(values == -torch.inf, 0))


def random_lists(seed, n_items=40, users=30, equal=False):
    """Lists of up to 12 items, few distinct scores if they are to be equal."""
    rng = np.random.default_rng(seed)
    items = np.stack([rng.permutation(n_items - 1)[:12] + 1 for _ in range(users)])
    scores = -rng.integers(1, 6, items.shape) if equal else -rng.random(items.shape) * 9
    there = np.arange(12) < rng.integers(0, 13, (users, 1))
    return ItemLists(torch.from_numpy(items * there), torch.from_numpy(np.where(there, scores, -np.inf)).float(), n_items)


@pytest.mark.parametrize("equal", [False, True])
def test_rows_with_ties_or_few_items_are_ranked_as_recbole_would(equal):
    """With scores that are equal in many places, RecBole's order of them is its own; and some users have next to nothing."""
    lists = random_lists(0, equal=equal)
    ranks = torch.arange(40) % 3
    targets = torch.arange(30), torch.randint(1, 40, (30,), generator=torch.Generator().manual_seed(1))
    ids = torch.arange(40) // 4
    ids[0] = 10
    for leaf_ranks in (torch.zeros(40, dtype=torch.long), ranks):
        ranked = RankedLists(lists, leaf_ranks)
        whole = ranked.whole_rows(torch.arange(30), targets)
        for k in (1, 5, 12, 30):
            assert torch.equal(ranked.top(k, targets), whole.topk(k, dim=1).indices)
            found = id_ranks_of_lists(ranked, *targets, ids, depth=k)
            assert torch.equal(found, id_ranks(whole, *targets, ids, depth=k))


def test_where_no_beam_is_an_item_every_item_is_as_good_as_any():
    """Free-form codes may be no item's, for all users of a batch."""
    trie = Trie(np.array([[-1, -1], [0, 1], [1, 0], [1, 1]]), (2, 2))
    nothing = Beams(torch.full((2, 5), -1), torch.full((2, 5), -torch.inf), torch.zeros(2))
    lists = items_found(nothing, trie)
    assert lists.items.tolist() == [[0], [0]] and torch.isneginf(lists.dense()).all()
    ranked = RankedLists(lists, torch.zeros(4, dtype=torch.long))
    targets = torch.arange(2), torch.tensor([1, 3])
    top = ranked.top(3, targets)
    assert torch.equal(top, ranked.whole_rows(torch.arange(2), targets).topk(3, dim=1).indices)
    assert all(item not in row for item, row in zip((1, 3), top.tolist(), strict=True))
    items, scores = lists.scores_of(torch.tensor([[1, 2], [3, 1]]))
    assert not items.any() and torch.isneginf(scores).all()


def test_lists_are_put_together_and_entries_left_out():
    lists = random_lists(2)
    parts = [ItemLists(lists.items[rows], lists.scores[rows], 40) for rows in (torch.arange(30), torch.tensor([4, 7]))]
    changed = ItemLists(parts[1].items[:, :5], parts[1].scores[:, :5] - 1, 40)
    together = put_together([parts[0], changed], [torch.arange(30), torch.tensor([7, 4])])
    expected = lists.dense()
    expected[[7, 4]] = changed.dense()
    assert torch.equal(together.dense(), expected)
    excluded = torch.randint(30, (200,)), torch.randint(1, 40, (200,))
    expected[excluded] = -torch.inf
    assert torch.equal(together.without(excluded).dense(), expected)


def test_of_every_item_the_best_are_kept_and_enough_that_k_ids_are_among_them():
    scores = -torch.rand(20, 200, generator=torch.Generator().manual_seed(0))
    scores[:, 0] = -torch.inf
    scores[3, 9:] = -torch.inf
    ids = torch.cat([torch.tensor([0]), 1 + torch.arange(199) // 20])
    scores[5] = scores[5].sort(descending=True).values.roll(1)  # the best 20 items have one ID, the next 20 another
    none = torch.zeros(200, dtype=torch.long)
    kept = best_of_every_item(scores, 4, none, ids)
    assert torch.equal(kept.items[:, :4], scores.topk(4, dim=1).indices) and 0 < kept.items.shape[1] < 200
    for row in range(20):
        had = kept.items[row][kept.items[row] > 0]
        distinct = len(set(ids[had].tolist()))
        assert distinct >= 4 or len(had) == (scores[row] > -torch.inf).sum()
        assert torch.equal(kept.scores[row][kept.items[row] > 0], scores[row, had])
    assert torch.equal(every_item(scores).dense(), scores)


def test_pairs_may_stand_there_twice_and_concern_items_of_no_account():
    places = torch.tensor([0, 2, 0, 1])
    rows, items = torch.tensor([0, 0, 1, 1]), torch.tensor([1, 1, 3, 0])
    excluded = Exclusion.of(places, 2, (rows, items))
    assert excluded.keys.tolist() == [2, 3 + 1]
    first = torch.tensor([0, 2, 3])
    assert excluded.left_in(first, torch.tensor([[0, 1, -1], [0, 1, -1]])).tolist() == [[2, 0, 0], [1, 1, 0]]
    assert [index.tolist() for index in excluded.emptied(first)] == [[0], [1]]


@pytest.mark.parametrize("budget", [0.0, 10.0])
def test_what_the_budget_leaves_open_is_logged_recorded_and_on_the_board(tiny_settings, caplog, budget):
    caplog.set_level("INFO")
    with open(run("TIGER", "small", config_dict={**tiny_settings, "certify_budget": budget})["record"]) as file:
        record = json.load(file)
    report = record["test_rankings"]
    left = report["users"] - report["certified"]
    assert report["stopped_by_budget"] == left and report["users"] == 60
    by_further = report["certified"] - report["certified_by_first_search"]
    estimate = f"certificates of the first 60 users: {report['certified_by_first_search']} by the first search"
    if budget:
        assert left == 0 < by_further
        assert f"{estimate}, {by_further} by further ones, 0 none" in caplog.text
        assert "for all 60 users about" in caplog.text and "left open" not in caplog.text
    else:
        assert left > 0 == by_further and estimate not in caplog.text
        assert f"{left} were left open by certify_budget" in caplog.text
    assert read_records([record]).get("left_open") == (left or None)


def test_recommended_lists_have_the_same_budget(tiny_settings, caplog):
    result = run("TIGER", "small", config_dict={**tiny_settings, "certify_budget": 0.0, "epochs": 1})
    lists = load(result["checkpoint"]).recommend(k=10)
    proven = int(lists.groupby("user")["certified"].first().sum())
    assert proven < 60
    assert f"{60 - proven} of 60 lists are not proven: certify_budget=0.0 ended the search" in caplog.text


@pytest.mark.parametrize(
    "more", [{}, {"mask_seen": False}, {"metrics": ["NDCG", "GAUC"]}], ids=["masked", "not", "every rank"]
)
def test_a_model_that_scores_every_item_keeps_the_first_of_each(tiny_settings, monkeypatch, more):
    """Against RecBole's own path: the scores of all items of a batch, and its collector."""
    keys = ("data_path", "epochs", "seed", "use_gpu", "metrics")
    settings = {key: tiny_settings[key] for key in keys if key in tiny_settings}
    settings |= {"metrics": METRICS + OF_LISTS, "topk": [3, 40], "valid_metric": "NDCG@40", "hidden_size": 8, **more}
    config = make_config("SASRecCausal", "small", config_dict=settings)
    init_seed(config["seed"], True)
    train, _, test = data_preparation(config, create_dataset(config))
    model = config.model_class(config, train._dataset).eval()
    trainer = get_trainer(config["MODEL_TYPE"], "SASRecCausal")(config, model)
    trainer.eval_collector.data_collect(train)
    monkeypatch.setattr("recbole_gr.models.item_sequence.SCORES_AT_ONCE", {"cpu": 7 * model.n_items})
    with collect_target_ranks(trainer, 40) as batches:
        found = trainer.evaluate(test, load_best_model=False)
    reference = Trainer(config, model)
    reference.eval_collector.data_collect(train)
    with collect_target_ranks(reference, 40) as expected:
        assert found == reference.evaluate(test, load_best_model=False)
    for batch, other in zip(batches, expected, strict=True):
        assert all(np.array_equal(batch[name], other[name]) for name in other)
