"""The scaling law: its derivatives, its fit against scipy's, intervals that hold the truth, and verdicts on known truths."""

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import approx_fprime, least_squares

from recbole_gr.scaling.__main__ import main
from recbole_gr.scaling.analysis import analyse
from recbole_gr.scaling.compare import splits
from recbole_gr.scaling.fit import HUBER, Points, fit, fit_draws, fit_many
from recbole_gr.scaling.intervals import Interval, parameter_intervals, wider
from recbole_gr.scaling.law import laws_of

N = np.geomspace(1e5, 1e7, 8)
ONE = laws_of("N_RS", [])[1]
BOTH = laws_of("N_trained", [("N_LLM", "gamma", "beta")])[-1]
ERROR = 0.002


def saturating(sizes, ceiling=0.12, height=0.05, exponent=0.45):
    return ceiling - height * (sizes / 1e6) ** -exponent


def drawn_points(rng, truth, draws=60, error=ERROR, sizes=N):
    """Measured once, and resampled with the same error."""
    values = truth + rng.normal(0, error, len(truth))
    return Points(
        {"N_RS": sizes}, values, np.full(len(truth), 1000.0), error, values + rng.normal(0, error, (draws, len(truth)))
    )


def test_values_and_derivatives():
    sizes = {"N_trained": np.array([1e4, 1e5, 1e6]), "N_LLM": np.array([1e8, 1e9, 2e9])}
    references = {"N_trained": 1e5, "N_LLM": 1e9}
    theta = np.array([0.1, np.log(0.02), np.log(0.3), np.log(1e-3), np.log(0.01), np.log(0.7), np.log(2e-4)])
    n_si, n_cf = (sizes["N_trained"] + c * sizes["N_LLM"] for c in (1e-3, 2e-4))
    by_hand = 0.1 - 0.02 * (n_si / 1e5) ** -0.3 - 0.01 * (n_cf / 1e5) ** -0.7
    values, jacobian = BOTH.values_and_jacobian(theta[None], sizes, references)
    np.testing.assert_allclose(values[0], by_hand, rtol=1e-12)
    for point in range(3):
        reference = approx_fprime(theta, lambda theta, at=point: BOTH.values(theta[None], sizes, references)[0, at], 1e-7)
        np.testing.assert_allclose(jacobian[0, point], reference, atol=1e-6)
    named = BOTH.named(theta[None], references)
    assert named["A"][0] == pytest.approx(0.02 * 1e5**0.3) and named["beta"][0] == pytest.approx(2e-4)


def test_the_fit_is_scipys_and_holds_against_an_outlier():
    rng = np.random.default_rng(0)
    points = drawn_points(rng, saturating(N))
    points.values[3] += 20 * ERROR

    def residuals(theta):
        return (ONE.values(theta[None], points.sizes, points.references)[0] - points.values) / ERROR

    reference = least_squares(
        residuals, [0.12, np.log(0.05), np.log(0.45)], loss="huber", f_scale=HUBER, xtol=1e-14, ftol=1e-14
    )
    theta, loss = fit(ONE, points)
    many, losses = fit_many(ONE, points, points.values[None], theta[None] + 0.1)
    np.testing.assert_allclose([theta, many[0]], [reference.x] * 2, rtol=1e-3)
    assert loss == pytest.approx(2 * reference.cost, rel=1e-6) and losses[0] == pytest.approx(loss, rel=1e-4)
    assert np.abs(residuals(theta)[[0, 1, 5, 6, 7]]).max() < 3


def test_known_parameters_are_within_their_intervals_in_nine_of_ten_trials():
    rng, inside = np.random.default_rng(2020), dict.fromkeys(("R0", "height of A", "a"), 0)
    for _ in range(100):
        points = drawn_points(rng, saturating(N))
        theta, loss = fit(ONE, points)
        intervals = parameter_intervals(ONE, points, theta, loss, fit_draws(ONE, points, theta, others=0))
        truth = {"R0": 0.12, "height of A": 0.05, "a": 0.45}  # 1e6 is the geometric mean of the sizes
        for name, value in truth.items():
            inside[name] += intervals[name].holds(value)
            assert intervals[name].is_known
    assert min(inside.values()) >= 90


def names():
    return [f"{size:.0f}" for size in N]


def test_a_saturated_truth_is_recognised():
    rng = np.random.default_rng(1)
    flat = saturating(N, height=0.004, exponent=1.5)
    found = analyse("TIGER", "Recall@10", drawn_points(rng, flat, 200, 0.0008), names(), "N_RS")
    assert found.verdict == "saturated" and found.words[0].startswith("Saturated: ten times the largest N_RS of 10M")
    assert found.chosen == found.drawn == "R0 - A / N_RS^a"
    assert abs(found.tenfold["gain"]) < 0.002


def test_a_truth_without_a_ceiling_in_sight_is_not_saturated():
    rng = np.random.default_rng(1)
    growing = 0.02 + 0.015 * np.log10(N / 1e5)
    found = analyse("LLM", "Recall@10", drawn_points(rng, growing, 200, 0.0005), names(), "N_RS")
    assert found.verdict == "not saturated"
    (parameter,) = (one for law in found.laws for one in law.parameters if one.name == "R0")
    assert parameter.high is None and any("R0 (at least" in words for words in found.words)
    assert found.next_size["low"] < 0.02 + 0.015 * np.log10(found.next_size["size"] / 1e5) < found.next_size["high"]


def test_where_size_makes_no_difference_a_constant_is_as_good():
    rng = np.random.default_rng(3)
    found = analyse("none", "Recall@10", drawn_points(rng, np.full(8, 0.1), 100), names(), "N_RS")
    assert found.chosen == "a constant" and found.drawn != "a constant"
    held_out = {law.name: law.held_out for law in found.laws}
    assert held_out["a constant"] <= held_out["R0 - A / N_RS^a"] * 1.5


def test_two_terms_and_what_of_them_is_not_identified():
    """A grid of language models and ranks, without a term for collaborative filtering: its coefficient is not identified."""
    rng = np.random.default_rng(4)
    llm, lora = (axis.ravel() for axis in np.meshgrid(np.geomspace(6e8, 1.4e10, 5), np.geomspace(2e6, 2e8, 5)))
    truth = 0.06 - 0.012 * ((lora + 0.01 * llm) / 1e8) ** -0.3
    values = truth + rng.normal(0, 3e-4, 25)
    drawn = values + rng.normal(0, 3e-4, (60, 25))
    points = Points({"N_trained": lora, "N_LLM": llm}, values, np.ones(25), 3e-4, drawn)
    found = analyse("LLMasRS", "Recall@5", points, [str(n) for n in range(25)], "N_trained", [("N_LLM", "gamma", "beta")])
    assert [law.name for law in found.laws] == [
        *("a constant", "R0 - A / N_trained^a", "R0 - A / N_SI^a", "both terms, beta = 0", "both terms")
    ]
    assert found.chosen == "R0 - A / N_SI^a"
    held_out = {law.name: law.held_out for law in found.laws}
    assert held_out["R0 - A / N_SI^a"] < held_out["R0 - A / N_trained^a"] < held_out["a constant"]
    gamma = next(one for one in found.laws[2].parameters if one.name == "gamma")
    assert gamma.low < 0.01 < gamma.high
    beta = next(one for one in found.laws[4].parameters if one.name == "beta")
    assert beta.low is None or beta.high is None
    assert any(words.startswith("Not identified in both terms") and "beta" in words for words in found.words)
    assert found.coefficients.keys() == {"gamma", "beta"}


def test_few_points_are_not_fitted():
    points = Points({"N_RS": N[:2]}, np.array([0.1, 0.2]), np.ones(2), 0.01)
    found = analyse("two", "Recall@10", points, ["a", "b"], "N_RS", untold=[("N_LLM", "g1", "")])
    assert (found.verdict, found.laws) == ("too few points", [])
    assert found.words == ["2 different sizes: too few for a law.", "From 100K to 193K Recall@10 changes by +0.1000."]


def test_splits_and_intervals():
    assert (splits(4) == np.eye(4, dtype=bool)).all()
    assert splits(25).shape == (25, 25) and (splits(25).sum(axis=1) == 5).all()
    assert wider(Interval(1.0, 2.0), Interval(None, 1.5)) == Interval(None, 2.0)
    assert Interval(None, 2.0).holds(-5) and not Interval(None, 2.0).holds(2.1) and not Interval(None, None).is_known


def test_points_of_a_file(tmp_path, capsys):
    """Four points of the paper, whose ceiling and exponent they do not bound."""
    published = Path(__file__).parents[2] / "docs" / "qwen3_semantic_ids_beauty.csv"
    assert main([str(published), "--users=22363", "--metric=Recall@5"]) == 0
    printed = capsys.readouterr().out
    assert (
        "Whether it saturates is not decided" in printed
        and "R0 (at least 0.03" in printed
        and "a (any value fits)" in printed
    )
    (tmp_path / "bad.csv").write_text("name,size\na,1\n")
    assert main([str(tmp_path / "bad.csv"), "--users=10"]) == 2
    assert capsys.readouterr().err == f"error: [{tmp_path / 'bad.csv'}] has no column value; it has name, size\n"
    (tmp_path / "bad.csv").write_text("name,size,value\na,1,50\n")
    assert main([str(tmp_path / "bad.csv"), "--users=10"]) == 2
    assert "must have sizes above 0 and values between 0 and 1" in capsys.readouterr().err
