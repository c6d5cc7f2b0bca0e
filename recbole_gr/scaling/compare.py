"""Laws against each other: by Akaike's criterion, and by points that a fit did not see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recbole_gr.scaling.fit import Points, fit_many, starts
from recbole_gr.scaling.law import Law

#: Share of the points that are held out at a time, and how often; of few points one at a time, each once.
HELD_OUT = 0.2
SPLITS = 25
FEW = 10


@dataclass(frozen=True)
class Fitted:
    """A law that was fitted, and how it compares.

    Args:
        law: the law.
        theta: float64 ``[parameters]``.
        loss: twice the Huber loss, in squared standard errors.
        aic: Akaike's criterion.
        held_out: mean squared error of points that the fit did not see; None: too few points.
    """

    law: Law
    theta: np.ndarray
    loss: float
    aic: float
    held_out: float | None


def aic(loss: float, parameters: int) -> float:
    """Of a fit whose errors have a known scale: the loss is minus twice the log-likelihood, up to a constant."""
    return loss + 2 * parameters


def held_out_error(law: Law, points: Points, theta: np.ndarray, seed: int = 0) -> float | None:
    """Mean squared error of points that were left out of the fit; None where what is left cannot be fitted."""
    count = len(points.values)
    out = splits(count, seed)
    if count - out.sum(axis=1).max() < len(theta):
        return None
    begin = np.concatenate([theta[None], starts(law, points, 5, seed)])
    values = np.repeat(points.values[None], len(begin) * len(out), axis=0)
    start = np.repeat(begin, len(out), axis=0)
    roots = np.where(np.tile(out, (len(begin), 1)), 0.0, points.roots)
    fitted, loss = fit_many(law, points, values, start, roots=roots)
    chosen = loss.reshape(len(begin), len(out)).argmin(axis=0)
    best = fitted.reshape(len(begin), len(out), -1)[chosen, np.arange(len(out))]
    errors = law.values(best, points.sizes, points.references) - points.values
    return float((errors[out] ** 2).mean())


def splits(count: int, seed: int = 0) -> np.ndarray:
    """Which points are left out each time: bool ``[splits, points]``."""
    if count < FEW:
        return np.eye(count, dtype=bool)
    rng = np.random.default_rng(seed)
    size = max(1, round(HELD_OUT * count))
    return np.array([np.isin(np.arange(count), rng.permutation(count)[:size]) for _ in range(SPLITS)])
