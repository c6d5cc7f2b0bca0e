"""Give items to codes that hold only so many, the nearest first."""

import numpy as np


def match(costs, groups, capacity, codes=None):
    """The stable matching of items and codes: no item and code would both be better off with each other.

    Items ask for their cheapest code; a code keeps its ``capacity`` cheapest items and turns the others away, who then
    ask for their next (Gale and Shapley, 1962). With one cost for both sides this is what taking the cheapest pair
    of all, again and again, would give.

    Args:
        costs (np.ndarray): float ``[n, k]``, infinite where a code is not to be had; overwritten.
        groups (np.ndarray): int ``[n]``; items of different groups do not compete.
        capacity (int): how many items of a group a code takes.
        codes (np.ndarray): int ``[n, k]``, the codes that the costs are of; None: column j is of code j.

    Returns:
        np.ndarray: int64 ``[n]``, a code per item; -1 for items that every code turned away.
    """
    n = len(costs)
    if codes is None:
        codes = np.broadcast_to(np.arange(costs.shape[1]), costs.shape)
    n_codes = int(codes.max()) + 1
    row = np.arange(n)
    choice = costs.argmin(axis=1)
    cost = costs[row, choice]
    competing = row
    while True:
        slot = groups[competing] * n_codes + codes[competing, choice[competing]]
        order = np.lexsort((competing, cost[competing], slot))
        slot = slot[order]
        first = np.append(True, slot[1:] != slot[:-1])
        rank = np.arange(len(slot)) - np.maximum.accumulate(np.where(first, np.arange(len(slot)), 0))
        refused = competing[order][(rank >= capacity) & np.isfinite(cost[competing][order])]
        if len(refused) == 0:
            return np.where(np.isfinite(cost), codes[row, choice], -1)
        costs[refused, choice[refused]] = np.inf
        choice[refused] = costs[refused].argmin(axis=1)
        cost[refused] = costs[refused, choice[refused]]
        # only who shares a group with a refused item can be affected in the next round
        competing = row[np.isin(groups, groups[refused])] if len(refused) < n // 8 else row
