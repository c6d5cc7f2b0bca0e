"""The k-core filter against a loop over pairs."""

from collections import Counter

import numpy as np
import pytest

from recbole_gr.prepare.interactions import Interactions, k_core


def core_by_loop(pairs, core):
    """Take away one pair at a time whose user or item has too few."""
    left = list(pairs)
    while True:
        users, items = Counter(user for user, _ in left), Counter(item for _, item in left)
        bad = next((n for n, (user, item) in enumerate(left) if users[user] < core or items[item] < core), None)
        if bad is None:
            return left
        del left[bad]


@pytest.mark.parametrize("core", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_the_core_is_that_of_a_loop(core, seed):
    """Random pairs with repeats, dense in the middle, in parts of unequal length."""
    random = np.random.default_rng(seed)
    users = random.geometric(0.08, 400) % 40
    items = random.geometric(0.05, 400) % 60
    parts = [slice(0, 1), slice(1, 170), slice(170, 170), slice(170, 400)]
    kept_users, kept_items = k_core(lambda: ((users[part], items[part]) for part in parts), 40, 60, core)
    expected = core_by_loop(zip(users.tolist(), items.tolist()), core)
    kept = kept_users[users] & kept_items[items]
    assert list(zip(users[kept].tolist(), items[kept].tolist())) == expected


def test_a_core_that_falls_apart_only_in_the_last_round():
    """A chain: each loss makes the next user or item fall below two, until nothing is left."""
    users = np.array([0, 0, 1, 1, 2, 2, 3])
    items = np.array([0, 1, 1, 2, 2, 3, 3])
    kept_users, kept_items = k_core(lambda: [(users, items)], 4, 4, 2)
    assert not kept_users.any() and not kept_items.any()
    # closed to a ring, it holds
    kept_users, kept_items = k_core(lambda: [(np.append(users, 3), np.append(items, 0))], 4, 4, 2)
    assert kept_users.all() and kept_items.all()


@pytest.mark.parametrize("core", [0, 3])
def test_lines_keep_their_order_across_parts(tmp_path, monkeypatch, core):
    monkeypatch.setattr("recbole_gr.prepare.interactions._ROWS", 37)
    random = np.random.default_rng(1)
    pairs = [(f"u{user}", f"i{item}") for user, item in zip(random.geometric(0.1, 500), random.geometric(0.1, 500))]
    with Interactions(tmp_path) as interactions:
        rows = [(*pair, "1", str(n)) for n, pair in enumerate(pairs)]
        interactions.add(rows[:200])
        interactions.add(rows[200:])
        users, items = interactions.keep_core(core)
        lines = [line.rstrip("\n").split("\t") for line in interactions.kept_lines()]
    expected = core_by_loop(pairs, core)
    assert [(user, item) for user, item, *_ in lines] == expected
    assert (users, items) == (len({user for user, _ in expected}), len({item for _, item in expected}))
    times = [int(line[3]) for line in lines]
    assert times == sorted(times)
    assert not list(tmp_path.iterdir())
