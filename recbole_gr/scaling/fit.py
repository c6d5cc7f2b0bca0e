"""Fits of a law to points: a Huber loss, many starts, and as many data sets at once as intervals need.

A bootstrap fits a law hundreds of times to a handful of points. Here all of these are rows of one array: each iteration of
Levenberg and Marquardt's method solves all of their small systems together. ``scipy.optimize.least_squares`` ends the fit to the
points themselves, and is the reference of the tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import least_squares

from recbole_gr.scaling.law import Law, reference_sizes

#: Residuals above so many standard errors count linearly (Huber 1964).
HUBER = 1.345

ITERATIONS = 80

#: A smaller gain of the loss, which is one of squared standard errors, is none.
ENOUGH = 1e-3
STARTS = 24


@dataclass(frozen=True)
class Points:
    """What a law is fitted to.

    Args:
        sizes: float64 ``[points]`` each, by name; above 0 where a term has it alone.
        values: float64 ``[points]``, accuracies.
        weights: float64 ``[points]``, numbers of users that stand behind them.
        error: the standard error of a point of mean weight; it scales the Huber loss and the profiles.
        drawn: float64 ``[draws, points]``, the values of as many resamples of users and seeds.
    """

    sizes: Mapping[str, np.ndarray]
    values: np.ndarray
    weights: np.ndarray
    error: float
    drawn: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    @property
    def references(self) -> dict[str, float]:
        """Sizes at which the height of a term is told."""
        return reference_sizes(self.sizes)

    @property
    def roots(self) -> np.ndarray:
        """What residuals are multiplied with: float64 ``[points]``, in units of the standard error."""
        return np.sqrt(self.weights / self.weights.mean()) / self.error


def starts(law: Law, points: Points, count: int = STARTS, seed: int = 0) -> np.ndarray:
    """Where to begin: float64 ``[count, parameters]``, exponents and coefficients spread over their bounds."""
    rng = np.random.default_rng(seed)
    low, high = law.bounds.T
    theta = rng.uniform(low, high, (count, len(low)))
    top, spread = points.values.max(), max(np.ptp(points.values), 1e-4)
    theta[:, 0] = top + spread * rng.uniform(0.0, 1.0, count)
    heights = [number for number, name in enumerate(law.parameters) if name.startswith("height")]
    theta[:, heights] = np.log(spread * rng.uniform(0.05, 1.0, (count, len(heights))))
    exponents = [number for number, name in enumerate(law.parameters) if name in ("a", "b")]
    theta[:, exponents] = np.log(rng.uniform(0.05, 2.0, (count, len(exponents))))
    coefficients = [number for number, _ in enumerate(law.parameters) if number not in [0, *heights, *exponents]]
    theta[:, coefficients] = np.log(10.0) * rng.uniform(-4.0, 1.0, (count, len(coefficients)))
    return np.clip(theta, low, high)


def huber(residuals: np.ndarray) -> np.ndarray:
    """The Huber loss, twice, so that it is the square within :data:`HUBER`; residuals in standard errors."""
    size = np.abs(residuals)
    return np.where(size <= HUBER, residuals**2, 2 * HUBER * size - HUBER**2)


def fit_many(
    law: Law,
    points: Points,
    values: np.ndarray,
    start: np.ndarray,
    *,
    fixed: np.ndarray | None = None,
    roots: np.ndarray | None = None,
    iterations: int = ITERATIONS,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit many data sets of the same sizes at once.

    Args:
        law: the law.
        points: their sizes, weights and error; its values are not used.
        values: float64 ``[sets, points]``.
        start: float64 ``[sets, parameters]``.
        fixed: bool ``[parameters]``, those that stay as they start.
        roots: float64 ``[sets, points]``, instead of ``points.roots``; a point with 0 does not count.
        iterations: at most.

    Returns:
        Parameters float64 ``[sets, parameters]`` and twice the Huber loss float64 ``[sets]``.
    """
    low, high = law.bounds.T
    references = points.references
    roots = np.broadcast_to(points.roots if roots is None else roots, values.shape)
    free = np.ones(len(low), bool) if fixed is None else ~fixed
    theta = np.clip(start, low, high)
    theta = np.where(free, theta, start)
    damping = np.full(len(theta), 1e-2)

    def losses(theta: np.ndarray) -> np.ndarray:
        return huber((law.values(theta, points.sizes, references) - values) * roots).sum(axis=1)

    loss = losses(theta)
    eye, idle = np.eye(free.sum()), 0
    for _ in range(iterations):
        value, jacobian = law.values_and_jacobian(theta, points.sizes, references)
        residuals = (value - values) * roots
        # the square that has the loss's slope there
        square = np.minimum(1.0, HUBER / np.maximum(np.abs(residuals), 1e-12)) * roots**2
        jacobian = jacobian[:, :, free]
        slope = np.einsum("snp,sn->sp", jacobian, square * (value - values))
        curve = np.einsum("snp,sn,snq->spq", jacobian, square, jacobian)
        scale = np.maximum(np.einsum("spp->sp", curve), 1e-9)
        step = np.linalg.solve(curve + (damping[:, None] * scale)[:, :, None] * eye, -slope[:, :, None])[:, :, 0]
        tried = theta.copy()
        tried[:, free] = np.clip(theta[:, free] + np.clip(step, -2.0, 2.0), low[free], high[free])
        there = losses(tried)
        better = there < loss
        gained = (loss - there)[better].max() if better.any() else 0.0
        theta[better], loss = tried[better], np.where(better, there, loss)
        damping = np.clip(np.where(better, damping / 3, damping * 4), 1e-10, 1e8)
        idle = idle + 1 if gained < ENOUGH else 0
        if idle == 4:
            break
    return theta, loss


def fit(law: Law, points: Points, seed: int = 0) -> tuple[np.ndarray, float]:
    """Fit the points: from many starts at once, the best of them ended by scipy.

    Returns:
        Parameters float64 ``[parameters]`` and twice the Huber loss.
    """
    begin = starts(law, points, seed=seed)
    theta, loss = fit_many(law, points, np.repeat(points.values[None], len(begin), axis=0), begin)
    best = theta[loss.argmin()]
    low, high = law.bounds.T
    inside = np.clip(best, low + 1e-9, high - 1e-9)
    references, roots = points.references, points.roots

    def residuals(theta: np.ndarray) -> np.ndarray:
        return (law.values(theta[None], points.sizes, references)[0] - points.values) * roots

    def jacobian(theta: np.ndarray) -> np.ndarray:
        return law.values_and_jacobian(theta[None], points.sizes, references)[1][0] * roots[:, None]

    ended = least_squares(residuals, inside, jacobian, bounds=(low, high), loss="huber", f_scale=HUBER)
    ended_loss = float(huber(ended.fun).sum())
    return (ended.x, ended_loss) if ended_loss < loss.min() else (best, float(loss.min()))


def fit_draws(law: Law, points: Points, best: np.ndarray, others: int = 2, seed: int = 1) -> np.ndarray:
    """Fit every resample, from the fit to the points themselves and a few other starts: float64 ``[draws, parameters]``."""
    draws = len(points.drawn)
    begin = np.concatenate([best[None], starts(law, points, others, seed)]) if others else best[None]
    start = np.repeat(begin, draws, axis=0)
    theta, loss = fit_many(law, points, np.tile(points.drawn, (len(begin), 1)), start)
    chosen = loss.reshape(len(begin), draws).argmin(axis=0)
    return theta.reshape(len(begin), draws, -1)[chosen, np.arange(draws)]
