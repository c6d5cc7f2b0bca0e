"""LIGER against plain loops: which items it ranks, by what score, and what it learns from; on random and on trained weights."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from recbole.data import create_dataset, data_preparation
from support.atomic import read_atomic

from recbole_gr.experiment.run import run
from recbole_gr.integration.config import make_config
from recbole_gr.models.liger.candidates import candidates
from recbole_gr.models.liger.settings import LIGERSettings
from recbole_gr.models.tiger.model import TIGER
from recbole_gr.settings.field import RunValues
from recbole_gr.utils.errors import SettingError


@pytest.fixture(params=["random", "trained"])
def prepared(request, small_part, tiny_settings):
    """A model in evaluation mode with random weights or after two epochs, its loaders, and its settings."""
    given = {**tiny_settings, "liger_candidates": 15, "user_buckets": 3}
    config = make_config("LIGER", "small", config_dict=given)
    torch.manual_seed(0)
    loaders = data_preparation(config, create_dataset(config))
    model = config.model_class(config, loaders[0]._dataset).eval()
    if request.param == "trained":
        state = torch.load(run("LIGER", "small", config_dict=given)["checkpoint"], weights_only=False)["state_dict"]
        model.load_state_dict(state)
    return model, loaders


def items_without_training(small_part):
    """Tokens of the items that occur as validation or test items only, from the file itself."""
    table = read_atomic(f"{small_part[1]}/small/small.inter")
    order = table["timestamp:float"].astype(float).argsort(kind="stable")
    table = table.iloc[order]
    place = table.groupby("user_id:token").cumcount(ascending=False)
    return set(table["item_id:token"]) - set(table["item_id:token"][place >= 2])


def cosine_log_softmax(model, states, items):
    """One pair at a time in float64: the log-softmax over some items of their cosines to each state."""
    first, _, second = model.injection.adapters["text"]
    rows = model.injection.get_buffer("text_vectors").numpy().astype(np.float64)
    weights = [p.detach().numpy().astype(np.float64) for p in (first.weight, first.bias, second.weight)]
    projected = [weights[2] @ np.maximum(weights[0] @ rows[item] + weights[1], 0) for item in items]
    result = []
    for state in states:
        state = state.numpy().astype(np.float64)
        cosines = [state @ p / np.linalg.norm(state) / np.linalg.norm(p) for p in projected]
        logits = np.array(cosines) / model.temperature
        result.append(logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max())
    return np.array(result)


def batch_of(loader, users):
    return next(iter(loader))[0][:users]


def encoded(model, interaction):
    return model.network.encode(model.read_history(interaction))


@torch.no_grad()
def test_the_score_is_the_log_probability_of_a_softmax_of_cosines(prepared):
    model, (_, _, test) = prepared
    interaction, every = batch_of(test, 3), np.arange(1, model.n_items)
    last = model.injection.adapters["text"][2].weight
    other = {name: value + 0.1 * value.roll(1, 0) for name, value in model.state_dict().items() if name.endswith("2.weight")}
    for change in (
        lambda: None,
        lambda: last.mul_(last.sign() + 2),
        lambda: model.load_state_dict(model.state_dict() | other),
    ):
        change()  # what was kept of the weights before counts no longer
        expected = cosine_log_softmax(model, model.network.states(encoded(model, interaction))[:, 0], every)
        found = model.log_likelihood(interaction, torch.arange(3), torch.from_numpy(every).expand(3, -1))
        np.testing.assert_allclose(found, expected, atol=1e-4)
        np.testing.assert_allclose(found.exp().sum(1), 1, atol=1e-4)


def test_a_loss_is_that_of_the_codes_and_of_the_next_item_among_those_of_training(prepared, small_part):
    model, (train, _, _) = prepared
    interaction = next(iter(train))
    targets = interaction[model.TARGET_LIST]
    with torch.no_grad():
        states = model.network.states(encoded(model, interaction), at_every_item=True)
        loss = float(model.calculate_loss(interaction))
        model.dense_weight = 0.0
        of_codes = float(model.calculate_loss(interaction))
    cold = {model_id for model_id in range(1, model.n_items) if model.cold[model_id]}
    tokens = train._dataset.id2token("item_id", sorted(cold))
    assert set(tokens) == items_without_training(small_part) and 20 < len(cold) < 200
    known = [item for item in range(1, model.n_items) if item not in cold]
    rows, columns = np.nonzero(targets.numpy())
    log_probs = cosine_log_softmax(model, states[rows, columns], known)
    of_item = [-log_probs[i, known.index(int(targets[row, column]))] for i, (row, column) in enumerate(zip(rows, columns))]
    assert loss - of_codes == pytest.approx(np.mean(of_item), abs=2e-2 if model.train_precision == "bfloat16" else 1e-4)


@torch.no_grad()
@pytest.mark.parametrize("certify", [True, False])
def test_ranked_are_the_best_items_by_codes_and_the_cold_ones_by_the_dense_score(prepared, certify):
    """Brute force: every item's exact log-probability of codes, sorted; with seen items left out, and without a certificate
    only what the beams found."""
    model, (_, _, test) = prepared
    model.beam_certify = certify
    (interaction, seen, *_) = next(iter(test))
    interaction, rows = interaction[:6], torch.arange(6)
    every = torch.arange(1, model.n_items).expand(6, -1)
    by_codes = torch.full((6, model.n_items), -torch.inf)
    by_codes[:, 1:] = TIGER.log_likelihood(model, interaction, rows, every)
    dense = model.log_likelihood(interaction, rows, every)
    cold = torch.nonzero(model.cold).squeeze(1)
    excluded = [(row, item) for row in range(6) for item in (int(cold[row]), int(by_codes[row].argmax()))]
    excluded = tuple(torch.tensor(excluded).T)
    for without in (None, excluded):
        found = model.rank(interaction, without).dense()
        for row in range(6):
            mine = [] if without is None else without[1][without[0] == row].tolist()
            order = [item for item in by_codes[row].argsort(descending=True).tolist() if item not in mine]
            expected = (set(order[: model.searched_k]) | set(cold.tolist())) - set(mine)
            ranked = set(torch.nonzero(found[row] > -torch.inf).squeeze(1).tolist())
            assert ranked == expected if certify else ranked >= set(cold.tolist()) - set(mine)
            assert torch.allclose(found[row, sorted(ranked)], dense[row, [item - 1 for item in sorted(ranked)]], atol=1e-5)


def test_candidates_by_hand():
    low = -torch.inf
    scores = torch.tensor([[low, -1.0, -2.0, -3.0, low, low], [low, -5.0, low, -4.0, -4.0, low]])
    cold = torch.tensor([False, False, False, False, False, True])
    ranked = candidates(scores, 2, cold, None)
    assert [torch.nonzero(row).squeeze(1).tolist() for row in ranked] == [[1, 2, 5], [3, 4, 5]]
    ranked = candidates(scores, 1, cold, None)
    assert [torch.nonzero(row).squeeze(1).tolist() for row in ranked] == [[1, 5], [3, 4, 5]]  # equal scores go together
    ranked = candidates(scores, 2, cold, (torch.tensor([0, 0, 1]), torch.tensor([1, 5, 2])))
    assert [torch.nonzero(row).squeeze(1).tolist() for row in ranked] == [[2, 3], [3, 4, 5]]
    assert scores[0, 1] == -1.0  # what is passed stays
    ranked = candidates(scores, 9, cold, None)
    assert [torch.nonzero(row).squeeze(1).tolist() for row in ranked] == [[1, 2, 3, 5], [1, 3, 4, 5]]


def test_cold_items_teach_nothing_and_are_found(prepared):
    model, (train, _, test) = prepared
    interaction = next(iter(train))
    before = model.calculate_loss(interaction)
    with torch.no_grad():
        model.injection.get_buffer("text_vectors")[model.cold] += 3
    assert torch.equal(model.calculate_loss(interaction), before)
    with torch.no_grad():
        model.injection.get_buffer("text_vectors")[~model.cold] += 3
    assert not torch.equal(model.calculate_loss(interaction), before)
    found = model.rank(batch_of(test, 4)).dense()
    assert (found[:, model.cold] > -torch.inf).all()


def test_a_record_tells_the_recall_of_cold_targets_and_what_is_certified(tiny_settings, small_part):
    result = run("LIGER", "small", config_dict={**tiny_settings, "liger_candidates": 12, "topk": [5, 10, 12]})
    with open(result["record"]) as file:
        record = json.load(file)
    table = pd.read_parquet(result["record"].replace(".json", ".parquet"))
    cold = table[table["item_id"].isin(items_without_training(small_part))]
    assert record["cold_targets"]["targets"] == len(cold) > 3
    for k in (5, 10, 12):
        share = sum(rank <= k for rank in cold["rank"].dropna()) / len(cold)
        assert record["cold_targets"][f"recall@{k}"] == pytest.approx(share, abs=1e-4)
    assert record["test_rankings"]["of"] == "the 12 items of most probable codes, a part of what the dense score ranks,"
    assert record["test_rankings"]["certified"] == record["test_rankings"]["users"]


def faults(**settings):
    run_values = RunValues({"topk": [5, 10], **LIGERSettings.defaults(), **settings})
    return [f"{fault.key}={fault.value}: {fault.allowed}" for fault in LIGERSettings.conflicts(run_values)]


def test_what_cannot_work_is_one_line(tiny_settings):
    assert faults() == []
    assert faults(liger_candidates=9) == ["liger_candidates=9: must be at least the largest k of topk, 10"]
    (found,) = faults(liger_candidates=60, beam_size=50)
    assert found == "liger_candidates=60: must be at most beam_size, 50, which finds them"
    for key, value, words in [
        ("inject", "cf", "must be one of text, text_cf"),
        ("inject", "none", "must be one of text, text_cf"),
        ("liger_temperature", 0.0, "must be a number above 0"),
        ("liger_weight", 0.0, "must be a number above 0"),
    ]:
        with pytest.raises(SettingError, match=f"^{key}=.*{words}") as raised:
            run("LIGER", "small", config_dict={**tiny_settings, "liger_candidates": 20, key: value})
        assert "\n" not in str(raised.value)
