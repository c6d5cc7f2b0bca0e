"""What the points tell of a law's parameters: intervals by resampling and by profiles of the likelihood.

The bootstrap (Efron and Tibshirani 1993) fits the law to every resample of users and seeds. A profile (Venzon and Moolgavkar
1988) holds one parameter, fits the others anew, and asks how far the loss rises. The interval that is printed is the wider of the two
on each side: either may be too narrow where the law is far from linear. A side that reaches the bounds of a parameter is open.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from recbole_gr.scaling.fit import Points, fit_many, starts
from recbole_gr.scaling.law import Law

CONFIDENCE = 0.95

#: Values of a parameter that a profile tries.
GRID = 61


@dataclass(frozen=True)
class Interval:
    """What is known of a parameter; None on a side: open, the points do not bound it there."""

    low: float | None
    high: float | None

    @property
    def is_known(self) -> bool:
        """Whether the points bound it on a side at least."""
        return self.low is not None or self.high is not None

    def holds(self, value: float) -> bool:
        """Whether a value lies in it."""
        return (self.low is None or self.low <= value) and (self.high is None or value <= self.high)


def bootstrap_interval(law: Law, number: int, draws: np.ndarray) -> Interval:
    """Of a parameter, by its values in the fits of the resamples.

    Args:
        law: the law.
        number: of the parameter.
        draws: float64 ``[draws, parameters]``, as they are fitted.
    """
    low, high = np.quantile(draws[:, number], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], method="closest_observation")
    return _open_at_bounds(law, number, float(low), float(high))


def profile_interval(law: Law, number: int, points: Points, best: np.ndarray, loss: float, seed: int = 2) -> Interval:
    """Of a parameter, by how far the loss rises where it is held."""
    low, high = law.bounds[number]
    if number == 0:
        span = max(np.ptp(points.values), 1e-3)
        grid = (
            points.values.max() + np.concatenate([np.linspace(-1, 1, GRID // 2), np.geomspace(1.05, 200, GRID // 2)]) * span
        )
        grid = np.clip(np.append(grid, [best[0], high]), low, high)
    else:
        grid = np.append(np.linspace(low, high, GRID), best[number])
    grid = np.unique(grid)
    begin = np.concatenate([best[None], starts(law, points, 2, seed)])
    start = np.repeat(begin, len(grid), axis=0)
    start[:, number] = np.tile(grid, len(begin))
    held = np.arange(len(best)) == number
    values = np.repeat(points.values[None], len(start), axis=0)
    _, losses = fit_many(law, points, values, start, fixed=held)
    losses = losses.reshape(len(begin), len(grid)).min(axis=0)
    above = losses - min(loss, losses.min()) - chi2.ppf(CONFIDENCE, 1)
    allowed = np.flatnonzero(above <= 0)
    return _open_at_bounds(law, number, _crossing(grid, above, allowed[0], -1), _crossing(grid, above, allowed[-1], 1))


def _crossing(grid: np.ndarray, above: np.ndarray, last: int, step: int) -> float:
    """Where the loss crosses what is allowed, between the last value that is and its neighbour."""
    beyond = last + step
    if not 0 <= beyond < len(grid):
        return float(grid[last])
    share = -above[last] / (above[beyond] - above[last])
    return float(grid[last] + share * (grid[beyond] - grid[last]))


def _open_at_bounds(law: Law, number: int, low: float, high: float) -> Interval:
    """As a parameter is told: logarithms back to numbers, and None for a bound of what is tried."""
    bottom, top = law.bounds[number]
    near = 1e-3 * (top - bottom)

    def told(value: float) -> float:
        return value if number == 0 else float(np.exp(value))

    return Interval(None if low <= bottom + near else told(low), None if high >= top - near else told(high))


def wider(one: Interval, other: Interval) -> Interval:
    """The smallest interval that holds both."""
    low = None if one.low is None or other.low is None else min(one.low, other.low)
    high = None if one.high is None or other.high is None else max(one.high, other.high)
    return Interval(low, high)


def parameter_intervals(law: Law, points: Points, best: np.ndarray, loss: float, draws: np.ndarray) -> dict[str, Interval]:
    """Of each parameter by its name, the wider of bootstrap and profile; without resamples the profile alone."""
    found = {}
    for number, name in enumerate(law.parameters):
        profile = profile_interval(law, number, points, best, loss)
        found[name] = wider(profile, bootstrap_interval(law, number, draws)) if len(draws) else profile
    for term in law.terms:
        if found[term.letter.lower()].low is None:  # a term that hardly falls has no height, and no ceiling
            for name in ("R0", f"height of {term.letter}"):
                found[name] = Interval(found[name].low, None)
    return found


def value_interval(values: np.ndarray, error: float = 0.0, seed: int = 3) -> tuple[float, float]:
    """The interval of a number that each resample gives; with an error, of a new measurement of it."""
    noise = np.random.default_rng(seed).normal(0.0, error, len(values)) if error else 0.0
    low, high = np.quantile(values + noise, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
