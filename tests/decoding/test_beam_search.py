"""The reference is brute force: score every item by teacher forcing and sort."""

from functools import partial

import numpy as np
import pytest
import torch

from recbole_gr.decoding.beam_search import Budget, SearchLimits, beam_search, certified_beam_search, kth_score
from recbole_gr.decoding.trie import Trie
from recbole_gr.models.tiger.encoder_decoder import EncoderDecoder
from recbole_gr.models.tiger.history import History
from recbole_gr.models.tiger.network import NetworkOptions
from recbole_gr.models.tiger.settings import ModelSize

SIZE = ModelSize(n_layers=1, d_model=16, n_heads=2, d_ff=32, d_kv=8)
USERS, HISTORY = 12, 6


def setting(seed, n_items=150, sizes=(8, 8, 8, 3), sharpness=30.0):
    """A random network over random semantic IDs, many of which collide; sharper heads make beams more certain."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, size, n_items) for size in sizes], axis=1)
    codes = np.concatenate([np.full((1, len(sizes)), -1), codes])
    network = EncoderDecoder(sizes, NetworkOptions(SIZE)).eval()
    for head in network.heads:
        torch.nn.init.normal_(head.weight, std=sharpness * 0.1 * SIZE.d_model**-0.5)
    item_codes = torch.as_tensor(codes)
    history, lengths = torch.randint(1, n_items + 1, (USERS, HISTORY)), torch.randint(1, HISTORY + 1, (USERS,))
    with torch.no_grad():
        encoded = network.encode(History(item_codes[history], lengths))
        every_item = network.log_likelihood(encoded, item_codes[1:].expand(USERS, -1, -1))
    every_item = torch.nn.functional.pad(every_item, (1, 0), value=-torch.inf)
    return network, Trie(codes, sizes), encoded, every_item


def seen_items(seed, n_items, per_user):
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.arange(USERS), per_user)
    return torch.as_tensor(rows), torch.as_tensor(rng.integers(1, n_items + 1, len(rows)))


@torch.no_grad()
def search(network, trie, encoded, beam_size, k, *, excluded=None, search=beam_search, **limits):
    limits = SearchLimits(beam_size, k, **limits)
    found = certified_beam_search(network.start_decoding(encoded), trie, limits, excluded=excluded, search=search)
    return found.lists.dense(), found.certified, found.certified_by_first_search


@pytest.mark.parametrize("seed", range(3))
def test_scores_found_are_the_exact_log_likelihoods(seed):
    network, trie, encoded, every_item = setting(seed)
    scores, _, _ = search(network, trie, encoded, 10, 5)
    found = scores > -torch.inf
    assert (found.sum(1) >= 10).all()
    torch.testing.assert_close(scores[found], every_item[found], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("sharpness", [1.0, 30.0, 100.0])
def test_beams_as_wide_as_the_catalogue_are_the_full_ranking(sharpness):
    network, trie, encoded, every_item = setting(1, sharpness=sharpness)
    scores, sure, _ = search(network, trie, encoded, 200, 10)
    assert sure.all()
    torch.testing.assert_close(scores, every_item, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_the_certificate_never_lies(seed):
    network, trie, encoded, every_item = setting(seed)
    certified = 0
    for beam_size in (5, 8, 12, 20, 40):
        scores, sure, first = search(network, trie, encoded, beam_size, 5)
        assert torch.equal(sure, first)
        best, exact = scores.topk(5).values, every_item.topk(5).values
        torch.testing.assert_close(best[sure], exact[sure], atol=2e-5, rtol=1e-5)
        certified += int(sure.sum())
    assert 0 < certified < 5 * USERS


def test_a_narrow_beam_does_miss_items_and_then_has_no_certificate():
    network, trie, encoded, every_item = setting(0, sharpness=5.0)
    scores, sure, _ = search(network, trie, encoded, 5, 5)
    wrong = (scores.topk(5).values - every_item.topk(5).values).abs().amax(1) > 1e-3
    assert wrong.any()
    assert not sure[wrong].any()


@pytest.mark.parametrize("sharpness", [1.0, 10.0, 50.0])
def test_certify_makes_every_ranking_exact(sharpness):
    network, trie, encoded, every_item = setting(2, sharpness=sharpness)
    scores, sure, first = search(network, trie, encoded, 5, 5, certify=True)
    assert sure.all() and not first.all()
    torch.testing.assert_close(scores.topk(5).values, every_item.topk(5).values, atol=2e-5, rtol=1e-5)


def test_certify_in_small_portions_is_the_same():
    network, trie, encoded, every_item = setting(2, sharpness=1.0)
    scores, sure, _ = search(network, trie, encoded, 5, 5, certify=True, max_beams=150)
    assert sure.all()
    torch.testing.assert_close(scores.topk(5).values, every_item.topk(5).values, atol=2e-5, rtol=1e-5)


def test_too_low_a_limit_is_said():
    network, trie, encoded, _ = setting(2, sharpness=1.0)
    _, sure, _ = search(network, trie, encoded, 5, 5, certify=True, max_beams=6)
    assert not sure.all()


def test_items_that_share_an_id_are_two_candidates():
    network, trie, encoded, every_item = setting(3, n_items=150, sizes=(4, 4, 3))
    assert trie.fan_out[-1] >= 3
    scores, sure, _ = search(network, trie, encoded, 6, 5, certify=True)
    assert sure.all()
    torch.testing.assert_close(scores.topk(5).values, every_item.topk(5).values, atol=2e-5, rtol=1e-5)
    leaf = int((trie.first_item[1:] - trie.first_item[:-1]).argmax())
    twins = trie.items[trie.first_item[leaf] : trie.first_item[leaf + 1]]
    wide, _, _ = search(network, trie, encoded, 200, 5)
    assert (wide[:, twins] == wide[:, twins[:1]]).all()


@pytest.mark.parametrize("sizes", [(8, 8, 8, 3), (4, 4, 3)])
@pytest.mark.parametrize("per_user", [20, 400])
def test_seen_items_are_not_searched_for(sizes, per_user):
    network, trie, encoded, every_item = setting(4, sizes=sizes)
    rows, items = seen_items(0, 150, per_user)
    every_item[rows, items] = -torch.inf
    left = (every_item > -torch.inf).sum(1)
    excluded = trie.exclusion(USERS, (rows, items))
    leaves = torch.arange(trie.n_nodes(-1)).expand(USERS, -1)
    assert torch.equal(excluded.left_in(trie.first_item, leaves).sum(1), left)
    scores, sure, _ = search(network, trie, encoded, 6, 5, certify=True, excluded=excluded)
    scores[rows, items] = -torch.inf
    assert sure.all()
    torch.testing.assert_close(scores.topk(5).values, every_item.topk(5).values, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("some_allowed", [False, True])
@pytest.mark.parametrize("by_code", [False, True])
def test_a_prefix_is_left_out_if_nothing_below_it_is_left(some_allowed, by_code):
    """Against a count of what lies below each node, user by user, at every level; and for some of the users."""
    _, trie, _, _ = setting(4, sizes=(4, 4, 3))
    rows, items = seen_items(1, 150, 120)
    allowed = None
    if some_allowed:
        allowed = torch.rand(trie.n_items) < 0.4
    mine = rows < 9  # three users exclude nothing
    rows, items = rows[mine], items[mine]
    excluded = trie.exclusion(USERS, (rows, items), allowed)
    some = torch.tensor([5, 0, 11])
    left_out = 0
    for users, of_users in ((torch.arange(USERS), excluded), (some, excluded.select(some))):
        for depth in range(1, 4):
            nodes = torch.stack([torch.randperm(trie.n_nodes(depth - 1)) for _ in users])[:, :5]
            nodes[0, 0] = -1
            children, codes = trie.children(depth - 1, nodes)
            if by_code:
                children, codes = trie.all_children(depth - 1, nodes), None
            first = trie.first_item_below[depth].tolist()
            scores = torch.randn(children.shape)
            found = trie.mask(depth - 1, nodes, children, scores, by_code=codes is None, excluded=of_users)
            for place, user in enumerate(users.tolist()):
                gone = set(items[rows == user].tolist())
                below = [[i for i in trie.items[a:b].tolist() if i not in gone] for a, b in zip(first, first[1:])]
                left = [sum(allowed is None or bool(allowed[i]) for i in here) for here in below]
                for beam, child in np.ndindex(*children.shape[1:]):
                    node = int(children[place, beam, child])
                    kept = node < 0 or left[node] > 0
                    expected = scores[place, beam, child] if kept else -torch.inf
                    assert found[place, beam, child] == expected
                    left_out += not kept
                if depth == 3:
                    leaves = torch.arange(trie.n_nodes(-1)).expand(len(users), -1)
                    assert of_users.left_in(trie.first_item, leaves)[place].tolist() == left
    assert left_out > 20


def test_free_form_search_drops_what_is_no_item():
    network, trie, encoded, every_item = setting(5, n_items=40)
    with torch.no_grad():
        free = beam_search(network.start_decoding(encoded), trie, 30, constrained=False)
    assert (free.leaves == -1).any() and (free.leaves >= 0).any()
    assert ((free.scores == -torch.inf) == (free.leaves == -1)).all()
    scores, sure, _ = search(network, trie, encoded, 30, 3, search=partial(beam_search, constrained=False))
    found = scores > -torch.inf
    torch.testing.assert_close(scores[found], every_item[found], atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(scores.topk(3).values[sure], every_item.topk(3).values[sure], atol=2e-5, rtol=1e-5)


def test_free_form_search_over_all_codes_is_the_full_ranking():
    network, trie, encoded, every_item = setting(6, n_items=30, sizes=(4, 4, 2))
    scores, sure, _ = search(network, trie, encoded, 32, 5, search=partial(beam_search, constrained=False))
    assert sure.all()
    torch.testing.assert_close(scores, every_item, atol=2e-5, rtol=1e-5)


def test_kth_score_counts_items_not_codes():
    trie = Trie(np.array([[-1], [0], [0], [1]]), (2,))
    beams = beam_search(TwoCodes(), trie, 2)
    assert [round(float(kth_score(beams, trie, k)), 4) for k in (1, 2, 3, 4)] == [-0.2231, -0.2231, -1.6094, -np.inf]


class TwoCodes:
    """One user, one level: code 0 with probability 0.8, code 1 with 0.2."""

    def start(self):
        return torch.tensor([[[0.8, 0.2]]]).log()


def budgeted(share, used=0, **limits):
    """A search over many flat scores, for which nobody has a certificate from the first, within a budget."""
    network, trie, encoded, every_item = setting(2, sharpness=1.0)
    budget = Budget(share)
    budget.further = used
    with torch.no_grad():
        found = certified_beam_search(
            network.start_decoding(encoded), trie, SearchLimits(5, 5, certify=True, **limits), budget=budget
        )
    return found, budget, every_item


def test_no_budget_is_the_first_search_and_no_bound_proves_all():
    first, budget, _ = budgeted(0.0)
    network, trie, encoded, _ = setting(2, sharpness=1.0)
    alone, _, _ = search(network, trie, encoded, 5, 5)
    assert torch.equal(first.lists.dense(), alone) and budget.further == 0
    assert torch.equal(first.stopped, ~first.certified) and first.stopped.any()
    every, budget, _ = budgeted(None)
    assert every.certified.all() and not every.stopped.any() and budget.further > 0
    # 12 users; one beam goes on from the root, then 5 from each of three levels
    assert budget.first == 12 * (1 + 5 + 5 + 5)


def test_a_budget_that_was_overrun_searches_for_nobody():
    """A wide search may take more than was expected of it."""
    found, budget, _ = budgeted(2.0, used=10**9)
    assert budget.further == 10**9 and budget.left == 0.0 and budget.users_with(40) == 0
    assert torch.equal(found.stopped, ~found.certified) and found.stopped.any()


def test_a_budget_is_kept_and_who_is_left_keeps_what_was_found():
    whole, unbounded, every_item = budgeted(None, max_beams=150)
    shares = []
    for share in (1.0, 2.0, 8.0):
        found, budget, _ = budgeted(share, max_beams=150)
        again, _, _ = budgeted(share, max_beams=150)
        assert torch.equal(found.certified, again.certified) and torch.equal(found.lists.dense(), again.lists.dense())
        # one widest search is always allowed: 150 of the 5 beams that 16 steps were made with
        assert budget.further <= share * budget.first + 150 * 16 / 5 + 16 * 16
        first, _, _ = budgeted(0.0)
        left = ~found.certified & found.stopped
        assert torch.equal(found.certified | left, torch.ones(USERS, dtype=torch.bool))
        unsearched = (found.lists.dense() == first.lists.dense()).all(dim=1)
        assert unsearched[left].any() or not left.any()
        best = found.lists.dense().topk(5).values
        expected = every_item.topk(5).values
        torch.testing.assert_close(best[found.certified], expected[found.certified], atol=2e-5, rtol=1e-5)
        shares.append(int(found.certified.sum()))
    assert shares == sorted(shares) and shares[0] < USERS and whole.certified.all()
    assert unbounded.further > 2 * unbounded.first
