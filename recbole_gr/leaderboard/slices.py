"""Accuracy by the popularity of the target item, and by the length of the user's history.

The groups are the same for all rows of a protocol, so that their numbers can be compared.
"""

import numpy as np

from recbole_gr.leaderboard.measures import measure_rankings

GROUPS = 4
NEVER_SEEN = "never seen in training"

#: Names of the slicings, and the column of the hit ranks that each goes by.
SLICINGS = {"item popularity": "item_count", "history length": "history_length"}


def slice_bounds(hit_ranks):
    """Where the groups end: quantiles of the targets, by popularity of those whose item was seen in training.

    Args:
        hit_ranks (pandas.DataFrame): of any row under the protocol.

    Returns:
        dict: per slicing the upper bounds of all groups but the last, rising, a list of int. Fewer than three where
        many targets have the same value.
    """
    bounds = {}
    for slicing, column in SLICINGS.items():
        values = hit_ranks[column].to_numpy()
        values = values[values > 0] if slicing == "item popularity" else values
        shares = np.arange(1, GROUPS) / GROUPS
        upper = np.quantile(values, shares, method="inverted_cdf") if len(values) else np.zeros(0)
        bounds[slicing] = [int(bound) for bound in np.unique(upper) if bound < values.max()]
    return bounds


def slice_measures(tables, bounds, metrics, k):
    """Accuracy of a row in every group, averaged over seeds.

    Only the targets of a group count, also for a user who has others. A group without targets is left out.

    Args:
        tables (list of pandas.DataFrame): hit ranks, one per seed.
        bounds (dict): from :func:`slice_bounds`.
        metrics (iterable of str): for example ``recall`` and ``ndcg``.
        k (int): of the metrics.

    Returns:
        dict: per slicing a list of dicts with ``label``, ``users``, the number of users with a target in the group (the
        mean over seeds, rounded), and the measures by name.
    """
    return {slicing: list(_groups(tables, slicing, bounds[slicing], metrics, k)) for slicing in SLICINGS}


def _groups(tables, slicing, upper, metrics, k):
    cold = slicing == "item popularity"
    numbers = [_group_numbers(table[SLICINGS[slicing]].to_numpy(), upper, cold) for table in tables]
    labels = ([NEVER_SEEN] if cold else []) + _labels(upper, cold)
    for number, label in enumerate(labels, start=-1 if cold else 0):
        measured = [measure_rankings(table[own == number], metrics, [k]) for table, own in zip(tables, numbers)]
        measured = [rankings for rankings in measured if len(rankings)]
        if measured:
            means = np.mean([rankings.mean() for rankings in measured], axis=0)
            users = round(float(np.mean([rankings.index.nunique() for rankings in measured])))
            yield {"label": label, "users": users, **dict(zip(measured[0], means.tolist()))}


def _group_numbers(values, upper, cold):
    """The group of each target, counted from 0; -1 for items never seen in training."""
    number = np.searchsorted(upper, values, side="left")
    return np.where(values == 0, -1, number) if cold else number


def _labels(upper, cold):
    if not upper:
        return ["seen in training" if cold else "any"]
    lower = [1 if cold else 0, *(bound + 1 for bound in upper)]
    ended = [str(low) if low == high else f"{low} to {high}" for low, high in zip(lower, upper)]
    return [*ended, f"{lower[-1]} and more"]
