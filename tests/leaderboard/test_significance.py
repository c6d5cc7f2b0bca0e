"""Intervals and tests against scipy, against full enumeration and by hand."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from recbole_gr.leaderboard import significance
from recbole_gr.leaderboard.significance import (
    bootstrap_interval,
    compare,
    compare_with_best_baseline,
    holm,
    randomisation_test,
)


def drawn(seed, users=400, share=0.3, shift=0.1):
    """Differences of users, most of them 0, as those of two recommenders are."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(users) < share, rng.choice([-1.0, -0.5, 0.5, 1.0], users) + shift, 0.0)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.6])
def test_agrees_with_scipy(shift):
    values = drawn(1, shift=shift)
    ours = compare(pd.DataFrame({"a": values})).loc["a"]
    options = {"n_resamples": 10_000, "rng": np.random.default_rng(5), "batch": 1000}
    theirs = stats.bootstrap((values,), np.mean, method="percentile", **options).confidence_interval
    width = theirs.high - theirs.low
    assert [ours["low"], ours["high"]] == pytest.approx([theirs.low, theirs.high], abs=0.04 * width)
    test = stats.permutation_test((values,), np.mean, permutation_type="samples", vectorized=True, **options)
    assert ours["p"] == pytest.approx(test.pvalue, abs=0.03)  # scipy doubles one tail, whose draws vary more
    assert ours["difference"] == pytest.approx(values.mean(), abs=1e-15) and ours["users"] == 400


def test_interval_of_a_hand_sized_example_is_that_of_all_resamples():
    values = np.array([0.0, 0.0, 1.0, 3.0, -2.0])
    means = [np.mean(resample) for resample in itertools.product(values, repeat=5)]
    expected = np.quantile(means, [0.05, 0.95])
    found = bootstrap_interval(values[:, None], 40_000, 0.9, np.random.default_rng(1))
    assert np.ravel(found) == pytest.approx(expected, abs=1e-9)  # the means are multiples of .2


def test_resampled_means_spread_as_the_theory_says():
    values = drawn(2)
    low, high = bootstrap_interval(values[:, None], 20_000, 0.6827, np.random.default_rng(1))
    assert (high - low)[0] / 2 == pytest.approx(values.std() / np.sqrt(len(values)), rel=0.03)


def test_p_agrees_with_scipys_over_all_signs():
    values = drawn(11, users=12, share=0.9, shift=0.2)
    exact = stats.permutation_test((values,), np.mean, permutation_type="samples", vectorized=True, n_resamples=np.inf)
    assert 0.02 < exact.pvalue < 0.6
    assert randomisation_test(values[:, None], 40_000, np.random.default_rng(1))[0] == pytest.approx(exact.pvalue, abs=0.006)


def test_p_of_a_hand_sized_example_is_that_of_all_signs():
    """As far from 0 as 5.5 are, of 6.5, all of one sign, or one of the two halves against the others: 3 of 64, twice."""
    values = np.array([0.5, 1.0, 1.0, -0.5, 2.0, 0.0, 1.5])
    flips = [abs(np.dot(signs, values)) >= values.sum() for signs in itertools.product([-1, 1], repeat=7)]
    assert np.mean(flips) == 6 / 64
    found = randomisation_test(values[:, None], 40_000, np.random.default_rng(1))
    assert found[0] == pytest.approx(6 / 64, abs=0.006)


def test_ties_that_differ_in_their_last_digit_count():
    """All of one size: of 16 sign draws the two with equal signs are as far as what was observed."""
    values = np.full((4, 1), 0.1) * np.array([1.0, 3.0])
    assert randomisation_test(values, 40_000, np.random.default_rng(1)) == pytest.approx([0.125, 0.125], abs=0.006)


def test_the_least_p_is_one_in_resamples_and_one():
    assert randomisation_test(np.ones((50, 1)), 999, np.random.default_rng(1)) == [0.001]


def test_rows_that_do_not_differ():
    found = compare(pd.DataFrame({"same": np.zeros(30), "other": drawn(3, users=30, share=1, shift=2.0)}))
    assert found.loc["same"].tolist() == [0, 0, 0, 1, 30]
    assert found.loc["other", "low"] > 0 and found.loc["other", "p"] < 0.001
    alone = compare(pd.DataFrame({"same": np.zeros(30)}))
    assert alone.loc["same"].tolist() == [0, 0, 0, 1, 30]


def test_users_who_are_not_in_a_comparison_play_no_part():
    values = drawn(4)
    gaps = np.where(np.arange(400) % 2, values, np.nan)
    found = compare(pd.DataFrame({"all": values, "odd": gaps}))
    alone = compare(pd.DataFrame({"odd": values[1::2]}))
    assert found["users"].tolist() == [400, 200]
    assert found.loc["odd"].tolist() == alone.loc["odd"].tolist()


def test_the_same_seed_gives_the_same_numbers():
    table = pd.DataFrame({"a": drawn(5), "b": drawn(6)})
    pd.testing.assert_frame_equal(compare(table), compare(table))
    assert compare(table, seed=1).loc["a", "low"] != compare(table).loc["a", "low"]


def test_draws_in_small_parts_tell_the_same(monkeypatch):
    values = drawn(7)[:, None]
    whole = np.ravel(bootstrap_interval(values, 5000, 0.95, np.random.default_rng(1)))
    p = randomisation_test(values, 5000, np.random.default_rng(1))
    monkeypatch.setattr(significance, "DRAWS_AT_ONCE", 1000)
    parts = np.ravel(bootstrap_interval(values, 5000, 0.95, np.random.default_rng(1)))
    assert parts == pytest.approx(whole, abs=0.05 * (whole[1] - whole[0]))
    assert randomisation_test(values, 5000, np.random.default_rng(1)) == pytest.approx(p, abs=0.03)


def test_holm_by_hand():
    """Smallest first: .005 x 4, .01 x 3, .03 x 2; the last, .04 x 1, may not be below its forerunner."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]).tolist() == [1, 1]
    assert holm([0.2]).tolist() == [0.2]


def rows_of_users():
    names = [f"u{number}" for number in range(300)]
    base = np.random.default_rng(1).random(300)
    users = {
        "weak": {"recall@5": base * 0.5, "ndcg@5": base * 0.9},
        "strong": {"recall@5": base, "ndcg@5": base * 0.8},
        "ours": {"recall@5": base + drawn(8, users=300), "ndcg@5": base + drawn(9, users=300)},
    }
    return {row: pd.DataFrame(values, index=names) for row, values in users.items()}


def test_each_metric_has_its_best_baseline():
    users = rows_of_users()
    found = compare_with_best_baseline(users, {"weak", "strong"}, ["recall@5", "ndcg@5"])
    assert {metric: test["against"] for metric, test in found["ours"].items()} == {"recall@5": "strong", "ndcg@5": "weak"}
    assert list(found["weak"]) == ["recall@5"] and list(found["strong"]) == ["ndcg@5"]
    test = found["ours"]["recall@5"]
    assert test["difference"] == pytest.approx((users["ours"] - users["strong"])["recall@5"].mean())
    assert test["low"] < test["difference"] < test["high"]
    for metric, row in (("recall@5", "weak"), ("ndcg@5", "strong")):  # two rows a family: the smaller p twice
        ps = np.array([found["ours"][metric]["p"], found[row][metric]["p"]])
        corrected = [found["ours"][metric]["p_holm"], found[row][metric]["p_holm"]]
        assert corrected == pytest.approx(np.minimum(1, [max(2 * ps.min(), p) if p != ps.min() else 2 * p for p in ps]))


def test_only_users_that_both_rows_have_are_compared():
    users = rows_of_users()
    users["ours"] = users["ours"].iloc[100:].sample(frac=1, random_state=1)
    found = compare_with_best_baseline(users, {"weak", "strong"}, ["recall@5"])
    assert found["ours"]["recall@5"]["users"] == 200 and found["weak"]["recall@5"]["users"] == 300
    both = users["ours"]["recall@5"] - users["strong"]["recall@5"].iloc[100:]
    assert found["ours"]["recall@5"]["difference"] == pytest.approx(both.mean())
    users["ours"].index = [f"v{number}" for number in range(200)]
    assert compare_with_best_baseline(users, {"weak", "strong"}, ["recall@5"])["ours"] == {}


def test_without_a_baseline_nothing_is_compared():
    assert compare_with_best_baseline(rows_of_users(), set(), ["recall@5"]) == {"weak": {}, "strong": {}, "ours": {}}
    assert compare_with_best_baseline({}, set(), ["recall@5"]) == {}
