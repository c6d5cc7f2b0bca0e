"""References: hand-worked examples, plain loops, scipy's optimal assignment."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from recbole_gr.tokenizers import append_digit, resolve_collisions, tokenize
from recbole_gr.tokenizers.collision import match
from recbole_gr.tokenizers.semantic_ids import Quantised, number_groups
from recbole_gr.utils.errors import SettingError


def crowded(n=300, n_prefixes=5, n_codes=128, d=6, seed=0):
    """Items under few prefixes, each with its nearest code of the last level, many of them the same."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=(4, d))
    residual = (centre[rng.integers(4, size=n)] + 0.3 * rng.normal(size=(n, d))).astype(np.float32)
    codebook = rng.normal(size=(n_codes, d)).astype(np.float32)
    nearest = np.linalg.norm(residual[:, None] - codebook, axis=2).argmin(axis=1)
    codes = np.column_stack([rng.integers(n_prefixes, size=n), nearest]).astype(np.int32)
    return Quantised(codes, residual, [codebook, codebook])


def squared_distances(quantised):
    return ((quantised.last_residual[:, None].astype(np.float64) - quantised.codebooks[-1]) ** 2).sum(axis=2)


def test_equal_rows_get_equal_numbers():
    codes = np.array([[1, 2], [0, 0], [1, 2], [2, 1], [0, 0]])
    assert number_groups(codes).tolist() == [0, 1, 0, 2, 1]
    deep = np.random.default_rng(0).integers(0, 2**31 - 1, size=(50, 40))
    deep = deep[np.random.default_rng(1).integers(50, size=200)]
    expected = np.unique(deep, axis=0, return_inverse=True)[1].reshape(-1)
    assert len(set(zip(number_groups(deep), expected))) == len(set(expected)) == len(set(number_groups(deep)))


def test_the_digit_counts_equal_codes_in_row_order():
    codes = np.array([[1, 2], [0, 0], [1, 2], [1, 1], [0, 0], [1, 2]])
    resolved, size = append_digit(codes)
    assert resolved.tolist() == [[1, 2, 0], [0, 0, 0], [1, 2, 1], [1, 1, 0], [0, 0, 1], [1, 2, 2]]
    assert size == 3


def test_digits_equal_those_of_a_plain_loop():
    codes = np.random.default_rng(1).integers(0, 4, size=(500, 3))
    seen, expected = {}, []
    for row in map(tuple, codes):
        seen[row] = seen.get(row, -1) + 1
        expected.append(seen[row])
    resolved, size = append_digit(codes)
    assert resolved[:, -1].tolist() == expected and size == max(expected) + 1
    assert len(np.unique(resolved, axis=0)) == len(codes)


def taking_the_cheapest_pair_again_and_again(costs, groups, capacity):
    """What ``match`` computes, one pair at a time."""
    costs, codes = costs.copy(), np.full(len(costs), -1)
    room = {}
    while np.isfinite(costs).any():
        row, code = np.unravel_index(costs.argmin(), costs.shape)
        if room.setdefault((groups[row], code), capacity):
            room[groups[row], code] -= 1
            codes[row] = code
            costs[row] = np.inf
        else:
            costs[row, code] = np.inf
    return codes


@pytest.mark.parametrize("capacity", [1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_matching_takes_the_cheapest_pairs(capacity, seed):
    rng = np.random.default_rng(seed)
    costs, groups = rng.random((60, 9)).astype(np.float32), rng.integers(4, size=60)
    costs[rng.random(costs.shape) < 0.2] = np.inf
    expected = taking_the_cheapest_pair_again_and_again(costs, groups, capacity)
    assert match(costs.copy(), groups, capacity).tolist() == expected.tolist()
    order = np.argsort(rng.random(costs.shape), axis=1)  # the columns in another order for every item
    shuffled = np.take_along_axis(costs, order, axis=1)
    assert match(shuffled, groups, capacity, codes=order).tolist() == expected.tolist()


def moved_one_by_one(quantised):
    """The rule ``nearest`` as a plain loop over prefixes."""
    distance, codes = squared_distances(quantised), quantised.codes.copy()
    own = distance[np.arange(len(codes)), codes[:, 1]]
    for prefix in np.unique(codes[:, 0]):
        here = np.flatnonzero(codes[:, 0] == prefix)
        staying = {
            code: min((row for row in here if quantised.codes[row, 1] == code), key=lambda row: (own[row], row))
            for code in set(quantised.codes[here, 1])
        }
        moving = np.array([row for row in here if staying[quantised.codes[row, 1]] != row], dtype=int)
        costs = distance[moving]
        costs[:, list(staying)] = np.inf
        codes[moving, 1] = taking_the_cheapest_pair_again_and_again(costs, np.zeros(len(moving), dtype=int), 1)
    return codes


@pytest.mark.parametrize("seed", range(3))
def test_nearest_moves_what_a_plain_loop_moves(seed):
    quantised = crowded(seed=seed)
    codes, sizes = resolve_collisions(quantised, (5, 128), "nearest")
    assert sizes == (5, 128) and codes.tolist() == moved_one_by_one(quantised).tolist()
    assert len(np.unique(codes, axis=0)) == len(codes) > len(np.unique(quantised.codes, axis=0))


@pytest.mark.parametrize("seed", range(3))
def test_sinkhorn_is_near_the_optimal_assignment(seed):
    """The items of one prefix that shared their code get free codes; scipy tells how well that can be done."""
    quantised = crowded(seed=seed)
    codes, _ = resolve_collisions(quantised, (5, 128), "sinkhorn")
    nearest, _ = resolve_collisions(quantised, (5, 128), "nearest")
    assert len(np.unique(codes, axis=0)) == len(codes) and (codes[:, 0] == quantised.codes[:, 0]).all()
    group = number_groups(quantised.codes)
    shared = np.bincount(group)[group] > 1
    assert (codes[~shared] == quantised.codes[~shared]).all() and (codes[shared] != quantised.codes[shared]).any()
    distance, ours, theirs, best = squared_distances(quantised), 0.0, 0.0, 0.0
    for prefix in range(5):
        here = quantised.codes[:, 0] == prefix
        rows, kept = np.flatnonzero(here & shared), quantised.codes[here & ~shared, 1]
        free = np.setdiff1d(np.arange(128), kept)
        costs = distance[np.ix_(rows, free)]
        best += costs[linear_sum_assignment(costs)].sum()
        ours += distance[rows, codes[rows, 1]].sum()
        theirs += distance[rows, nearest[rows, 1]].sum()
    assert best <= ours < 1.1 * best and ours < theirs


def test_no_collision_changes_nothing():
    codes = np.array([[0, 1], [1, 0], [1, 1]], dtype=np.int32)
    quantised = Quantised(codes, np.zeros((3, 2), np.float32), [np.zeros((2, 2), np.float32)] * 2)
    for rule in ("none", "nearest", "sinkhorn"):
        assert resolve_collisions(quantised, (2, 2), rule)[0].tolist() == codes.tolist()


@pytest.mark.parametrize("rule", ["nearest", "sinkhorn"])
def test_a_full_prefix(rule):
    full = Quantised(np.array([[3, 1]] * 4 + [[0, 0]], dtype=np.int32))
    assert sorted(resolve_collisions(full, (4, 4), rule)[0][:4, 1].tolist()) == [0, 1, 2, 3]
    with pytest.raises(
        SettingError, match=rf"collision='{rule}': 4 items share the prefix \(3,\), but the last level has 3"
    ):
        resolve_collisions(full, (4, 3), rule)


@pytest.mark.parametrize("rule", ["digit", "nearest", "sinkhorn"])
@pytest.mark.parametrize("name", ["rkmeans", "rvq", "rqvae", "opq", "pq", "random", "lsh"])
def test_every_kind_gets_distinct_ids_by_every_rule(name, rule):
    rows = np.repeat(np.random.default_rng(0).normal(size=(101, 12)).astype(np.float32), 2, axis=0)[1:]
    settings = {"codebook_num": 2, "codebook_size": 32, "seed": 0, "tokenizer": name}
    settings.update({"tokenizer_steps": 5} if name in ("rvq", "rqvae") else {})
    settings.update({"rqvae_hidden": []} if name == "rqvae" else {})  # a deep encoder needs longer to part the items
    ids = tokenize(rows, collision=rule, **settings)
    before = tokenize(rows, collision="none", **settings)
    assert before.statistics()["unique_share"] < 1.0 == ids.statistics()["unique_share"]
    assert (ids.codes[1:, 0] == before.codes[1:, 0]).all()
