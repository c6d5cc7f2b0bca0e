"""How sure a difference between two rows is, over the users that both were tested on.

Every comparison is paired: a user's difference is one number. The interval is the percentile bootstrap over users
(Efron and Tibshirani 1993, chapter 13), the p-value that of a paired randomisation test, which flips the signs of the
users' differences (Smucker et al., CIKM 2007), corrected over rows by Holm's step-down method (1979).

``scipy.stats.bootstrap`` and ``permutation_test`` do the same for one comparison at a time, and are the reference of the
tests. A board has a hundred comparisons over the same users; here they share the draws, and a resample is a product of
matrices: seconds for 22,000 users, where scipy takes most of a minute for each comparison.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

RESAMPLES = 10_000
CONFIDENCE = 0.95
SEED = 2020

#: What the pages say of the tests.
NOTE = (
    "Each row against the baseline row that has the best mean in the metric, under the same protocol, paired by user: a "
    f"user's value is the mean over seeds. {CONFIDENCE:.0%} percentile bootstrap interval of the mean difference, "
    f"{RESAMPLES:,} resamples of users; two-sided paired randomisation test, {RESAMPLES:,} draws; Holm's correction over the "
    "rows of a metric. This shows how far a difference carries over to other users, not to other seeds."
)
NOTHING_TESTED = "Nothing is tested: that takes a measured baseline row and another measured row under the same protocol."
#: Numbers held at once in a matrix of draws; a bound on the memory.
DRAWS_AT_ONCE = 1 << 20


def compare(
    differences: pd.DataFrame, *, resamples: int = RESAMPLES, confidence: float = CONFIDENCE, seed: int = SEED
) -> pd.DataFrame:
    """Interval and p-value of every column's mean.

    Args:
        differences: float64 ``[users, comparisons]``, NaN for users who are not in a comparison.
        resamples: draws of the bootstrap, and of the test.
        confidence: of the interval.
        seed: of the draws; the same for all columns.

    Returns:
        One row per comparison, with ``difference``, the mean; ``low`` and ``high``, the bounds of its
        interval; ``p``, two-sided, (draws at least as far from 0 + 1) / (resamples + 1); ``users``, how many there are.
    """
    there = differences.notna().to_numpy()
    patterns, group = np.unique(there, axis=1, return_inverse=True)
    parts = []
    for number, users in enumerate(patterns.T):
        part = differences.loc[users, group.ravel() == number]
        values, rng = part.to_numpy(), np.random.default_rng(seed)
        low, high = bootstrap_interval(values, resamples, confidence, rng)
        p = randomisation_test(values, resamples, rng)
        found = {"difference": values.mean(axis=0), "low": low, "high": high, "p": p, "users": len(values)}
        parts.append(pd.DataFrame(found, index=part.columns))
    return pd.concat(parts).loc[differences.columns]


def compare_with_best_baseline(
    users: Mapping[Any, pd.DataFrame], baselines: Collection[Hashable], metrics: Sequence[str], **options: Any
) -> dict[Any, dict[str, dict[str, Any]]]:
    """Every row against the baseline with the best mean in the metric; that baseline itself is compared with nothing.

    Args:
        users: per row a table with one row per user (index) and a column per metric.
        baselines: which of the rows are baselines.
        metrics: columns; larger values are better.
        options: of :func:`compare`.

    Returns:
        By row, then by metric: ``against``, the baseline; ``difference``, ``low``, ``high``, ``p`` and ``users`` as
        from :func:`compare`; ``p_holm``, corrected over the rows of the metric. Rows that share no user are left out.
    """
    found: dict[Any, dict[str, dict[str, Any]]] = {row: {} for row in users}
    against: dict[tuple[Any, str], Any] = {}
    differences: dict[tuple[Any, str], pd.Series] = {}
    for metric in metrics:
        best = max((row for row in users if row in baselines), key=lambda row: users[row][metric].mean(), default=None)
        for row in users if best is not None else ():
            if row == best:
                continue
            difference = (users[row][metric] - users[best][metric]).dropna()
            if len(difference):
                against[row, metric], differences[row, metric] = best, difference
    if not differences:
        return found
    tested = compare(pd.DataFrame(differences), **options)
    tested["p_holm"] = tested.groupby(level=1)["p"].transform(holm)
    for (row, metric), values in zip(tested.index, tested.to_dict("records")):
        numbers = {str(name): value for name, value in values.items()}
        found[row][metric] = {"against": against[row, metric], **numbers, "users": int(numbers["users"])}
    return found


def bootstrap_interval(values: np.ndarray, resamples: int, confidence: float, rng: np.random.Generator) -> np.ndarray:
    """Percentile interval of the means over resampled users.

    A user whose differences are all 0 adds nothing to any mean. So of a resample only those others are drawn, as many as
    would be among all.

    Args:
        values: float64 ``[users, comparisons]``.
        resamples: how many.
        confidence: between 0 and 1.
        rng: for the draws.

    Returns:
        Lower and upper bounds, float64 ``[2, comparisons]``.
    """
    moved = values[(values != 0).any(axis=1)]
    if not len(moved):
        return np.zeros((2, values.shape[1]))
    sizes = rng.binomial(len(values), len(moved) / len(values), size=resamples)
    means = np.empty((resamples, values.shape[1]))
    for part in _parts(resamples, len(moved)):
        resample = np.repeat(np.arange(len(sizes[part])), sizes[part])
        drawn = resample * len(moved) + rng.integers(len(moved), size=len(resample))
        times = np.bincount(drawn, minlength=len(sizes[part]) * len(moved)).reshape(-1, len(moved))
        means[part] = times.astype("float64") @ moved / len(values)
    tail = (1 - confidence) / 2
    return np.quantile(means, [tail, 1 - tail], axis=0)


def randomisation_test(values: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Two-sided p-values of the means, were either sign of a user's difference equally likely.

    Args:
        values: float64 ``[users, comparisons]``.
        resamples: how many draws of signs.
        rng: for the draws.

    Returns:
        float64 ``[comparisons]``; at least 1 / (resamples + 1).
    """
    moved = values[(values != 0).any(axis=1)]
    # a draw that ties with what was observed counts; sums in another order differ in their last digits
    observed = np.abs(moved.sum(axis=0)) - 1e-9 * np.abs(moved).sum(axis=0)
    as_far = np.zeros(values.shape[1], dtype="int64")
    for part in _parts(resamples, max(1, len(moved))):
        signs = rng.integers(2, size=(part.stop - part.start, len(moved)), dtype="int8") * 2.0 - 1.0
        as_far += (np.abs(signs @ moved) >= observed).sum(axis=0)
    return (as_far + 1) / (resamples + 1)


def _parts(resamples: int, users: int) -> list[slice]:
    step = max(1, DRAWS_AT_ONCE // users)
    return [slice(start, min(start + step, resamples)) for start in range(0, resamples, step)]


def holm(p: Any) -> np.ndarray:
    """Holm's correction: the p-values of one family, so that the chance of any false finding keeps its level.

    Args:
        p: float ``[comparisons]``.

    Returns:
        float64 ``[comparisons]``.
    """
    p = np.asarray(p, dtype="float64")
    order = np.argsort(p, kind="stable")
    steps = np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1, np.maximum.accumulate(steps * p[order]))
    return corrected
