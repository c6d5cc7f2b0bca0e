"""Scores of items as sums of log-probabilities, against plain loops."""

import numpy as np
import pytest
import torch

from recbole_gr.decoding import code_scores
from recbole_gr.decoding.code_scores import CodeScores


@pytest.fixture
def scored(monkeypatch):
    """300 items of 6 codes of 16, tables of 5 users, and all scores by loops; items are scored 64 at a time."""
    monkeypatch.setattr(code_scores, "ITEMS_AT_ONCE", 64)
    rng = np.random.default_rng(0)
    places = torch.from_numpy(rng.integers(0, 16, (300, 6)) + 16 * np.arange(6))
    tables = torch.from_numpy(rng.normal(size=(5, 96)).astype(np.float32)).view(5, 6, 16).log_softmax(-1).flatten(1)
    expected = torch.empty(5, 300)
    for user in range(5):
        for item in range(300):
            total = np.float32(0)
            for place in places[item].tolist():
                total = np.float32(total + tables[user, place].numpy())
            expected[user, item] = float(total)
    return CodeScores(places), tables, expected


def test_all_items_are_scored_to_the_last_digit(scored):
    scores, tables, expected = scored
    assert torch.equal(scores.of_all(tables), expected)


def test_an_item_has_the_same_score_whatever_is_scored_beside_it(scored):
    scores, tables, expected = scored
    for user in range(5):
        assert torch.equal(scores.of_all(tables[user : user + 1])[0], expected[user])
    assert torch.equal(CodeScores(scores.places[17:18]).of_all(tables), expected[:, 17:18])


def test_pairs_are_scored_as_all_are(scored):
    scores, tables, expected = scored
    users, items = torch.tensor([0, 4, 4, 2]), torch.tensor([299, 0, 17, 17])
    torch.testing.assert_close(scores.of_some(tables, users, items), expected[users, items], atol=1e-5, rtol=0)


@pytest.mark.parametrize("k", [1, 10, 100, 300])
def test_the_best_are_those_of_all(scored, k):
    scores, tables, expected = scored
    values, items = scores.best(tables, k)
    assert torch.equal(values, expected.topk(k, dim=1).values)
    assert torch.equal(expected.gather(1, items), values) and all(len(set(row.tolist())) == k for row in items)
