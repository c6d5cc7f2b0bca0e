"""How RPG ranks: every item exactly, or what a walk over the graph meets; items that share an ID; seen items; the record."""

import json
import logging

import pytest
import torch
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_trainer, init_seed
from support.llm_reference import filled
from support.whole_rows import whole_rows

from recbole_gr.experiment.run import run
from recbole_gr.integration.config import make_config
from recbole_gr.utils.errors import RecBoleGRError

GRAPH = {"ranking": "graph", "graph_starts": 60, "graph_neighbours": 10, "graph_steps": 20}


@pytest.fixture
def prepared(tiny_settings):
    """A model of weights as after training, its trainer and a batch of the test."""

    def prepare(**more):
        config = make_config("RPG", "small", config_dict={**tiny_settings, "codebook_num": 4, **more})
        init_seed(config["seed"], config["reproducibility"])
        train, _, test = data_preparation(config, create_dataset(config))
        model = filled(config.model_class(config, train._dataset).eval(), std=0.3)
        trainer = get_trainer(config["MODEL_TYPE"], "RPG")(config, model)
        trainer.tot_item_num = model.n_items
        return model, trainer, next(iter(test))

    return prepare


def test_more_digits_a_step_than_an_item_has_are_one_line(prepared):
    with pytest.raises(RecBoleGRError, match="^digits_per_step=5: must be at most 4, the digits of an item, or ~"):
        prepared(digits_per_step=5)


def by_loops(model, interaction):
    """Scores of all items, one lookup after the other."""
    with torch.no_grad():
        states = model.network.last_states(model._history(interaction))
        log_probs = model.network.log_probs(states).view(len(states), model.network.n_digits, -1)
    scores = torch.full((len(states), model.n_items), -torch.inf)
    for row in range(len(states)):
        for item in range(1, model.n_items):
            codes = model.item_codes[item].tolist()
            scores[row, item] = sum(log_probs[row, digit, code] for digit, code in enumerate(codes))
    return scores


@pytest.mark.parametrize("collision", ["none", "digit"])
def test_the_exact_ranking_is_that_of_brute_force(prepared, collision):
    model, _, batch = prepared(collision=collision)
    interaction = batch[0][:6]
    found, expected = model.full_sort_predict(interaction), by_loops(model, interaction)
    torch.testing.assert_close(found, expected, atol=0, rtol=1e-6)
    # the networks of a batch and of its rows may round differently; what is summed then is the same
    assert (found == expected).double().mean() > 0.9


def test_the_graph_has_the_exact_scores_of_what_it_meets_and_meets_the_best(prepared):
    model, _, batch = prepared(**GRAPH)
    interaction = batch[0][:20]
    exact = prepared()[0].full_sort_predict(interaction)
    found = model.full_sort_predict(interaction)
    met = found > -torch.inf
    torch.testing.assert_close(found[met], exact[met], atol=1e-4, rtol=0)
    assert met.double().mean() < 0.9
    report = model.rankings_report()
    best = (exact.gather(1, found.topk(10).indices) >= exact.topk(10).values[:, -1:] - 1e-4).double().mean()
    assert report["graph_recall"] == pytest.approx(float(best), abs=1e-6) and report["users_compared"] == 20
    assert report["certified"] <= 20 and report["scored_per_user"] < report["distinct_ids"]


@pytest.mark.parametrize("ranking", [{}, GRAPH], ids=["exact", "graph"])
def test_items_that_share_an_id_are_ranked_as_leaf_order_says(prepared, ranking):
    model, trainer, batch = prepared(codebook_num=2, codebook_size=4, mask_seen=False, **ranking)
    assert model.leaf_ranks.max() > 3
    _, scores, _, _ = whole_rows(trainer, batch)
    best = scores.topk(10).indices
    raw = model.full_sort_predict(batch[0])
    for row in range(len(best)):
        for before, after in zip(best[row], best[row][1:]):
            same = torch.equal(model.item_codes[before], model.item_codes[after])
            assert (raw[row, before] == raw[row, after]) == same
            if same:
                assert model.leaf_ranks[after] == model.leaf_ranks[before] + 1


@pytest.mark.parametrize("ranking", [{}, GRAPH], ids=["exact", "graph"])
def test_seen_items_are_not_recommended(prepared, ranking):
    model, trainer, batch = prepared(mask_seen=True, **ranking)
    _, (rows, items), *_ = batch
    _, scores, _, _ = whole_rows(trainer, batch)
    assert (scores[rows, items] <= torch.finfo(torch.float32).min).all()
    best = scores.topk(10)
    assert (best.values > torch.finfo(torch.float32).min).all()
    if not ranking:
        expected = by_loops(model, batch[0][:4])
        mine = rows < 4
        expected[rows[mine], items[mine]] = -torch.inf
        torch.testing.assert_close(best.values[:4].float(), expected.topk(10).values, atol=1e-4, rtol=0)


def test_who_has_seen_all_that_a_walk_meets_is_ranked_exactly(prepared):
    model, _, batch = prepared(**{**GRAPH, "graph_starts": 12, "graph_steps": 1, "graph_neighbours": 1}, beam_size=10)
    interaction = batch[0][:3]
    met = torch.nonzero(model.full_sort_predict(interaction)[1] > -torch.inf).squeeze(1)
    seen = torch.full_like(met, 1), met
    scores = model.rank(interaction, seen).dense()
    unseen = torch.ones(model.n_items, dtype=torch.bool)
    unseen[0], unseen[met] = False, False
    assert (scores[1, unseen] > -torch.inf).all() and (scores[1, met] == -torch.inf).all()
    assert (scores[0, 1:] == -torch.inf).any()


def test_the_graph_is_kept_and_made_anew_for_other_embeddings(prepared, caplog):
    model, _, batch = prepared(**GRAPH)

    def graph_lines():
        caplog.clear()
        with caplog.at_level(logging.INFO):
            model.full_sort_predict(batch[0][:2])
        return [record.getMessage().split()[0] for record in caplog.records if "item_graph" in record.getMessage()]

    assert graph_lines() == ["Computed"] and graph_lines() == []
    model.graph.made_of = None
    assert graph_lines() == ["Reused"]
    with torch.no_grad():
        model.network.embedding.weight[0, 0] += 1
    assert graph_lines() == ["Computed"]


def test_a_record_says_how_much_the_walk_found(tiny_settings):
    settings = {**tiny_settings, "codebook_num": 4, **GRAPH, "graph_check_users": 25}
    with open(run("RPG", "small", config_dict=settings)["record"]) as file:
        rankings = json.load(file)["test_rankings"]
    assert rankings["ranking"] == "graph" and rankings["users_compared"] == 25
    assert 0.5 < rankings["graph_recall"] <= 1 and 0 < rankings["scored_per_user"] <= rankings["distinct_ids"]
    assert rankings["certified"] <= 25


@pytest.mark.parametrize(
    "settings, line",
    [
        ({"ranking": "beam"}, "ranking='beam': must be one of exact, graph"),
        ({"temperature": 0}, "temperature=0: must be a number above 0"),
        ({"graph_steps": 0}, "graph_steps=0: must be a whole number of at least 1"),
        ({"codebook_num": 5}, "codebook_num=5: must divide the vectors' dimension 12"),
    ],
)
def test_a_bad_value_is_one_line(tiny_settings, settings, line):
    with pytest.raises(RecBoleGRError) as raised:
        run("RPG", "small", config_dict={**tiny_settings, "codebook_num": 4, **settings})
    assert str(raised.value).startswith(line) and "\n" not in str(raised.value)
