"""Accuracy per ranking, from the rank of every target in it; and accuracy of slices of the targets.

A ranking is what RecBole measures: one for each user, but one for each test interaction of a user where a sequential model is
tested on several. The definitions are those of RecBole's metrics (``recbole.evaluator.metrics``), for one target of a ranking
or several. Where a ranking has k or more targets, the ideal one holds k of them.

Slices are by the popularity of the target item, and by the length of the user's history; their groups are the same for all
rows of a protocol, so that the numbers can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from recbole_gr.leaderboard.columns import ID_LEVEL

#: Groups of a slicing, items that training did not see left out.
GROUPS = 4
NEVER_SEEN = "never seen in training"

#: Names of the slicings, and the column of the hit ranks that each goes by.
SLICINGS = {"item popularity": "item_count", "history length": "history_length"}

#: By slicing, the upper bounds of all groups but the last.
Bounds = dict[str, list[int]]


def measure_rankings(
    hit_ranks: pd.DataFrame, metrics: Iterable[str], topk: Iterable[int], rank: str = "rank"
) -> pd.DataFrame:
    """Metrics of every ranking.

    With ``rank="id_rank"`` a hit is a hit of the target's semantic ID. Targets of one ranking that share an ID have one
    place in the ranking of IDs and count as one target; those that were not found count one by one, for which of them
    share an ID is not known.

    Args:
        hit_ranks: from :func:`recbole_gr.leaderboard.cell_files.read_hit_ranks`.
        metrics: of ``recall``, ``ndcg``, ``mrr``, ``hit``, ``precision``, ``map``.
        topk: the k of each.
        rank: the column of the ranks.

    Returns:
        float64, one row per ranking, in the order of ``user_id``, which is the index; columns ``recall@5``, ..., with
        ``" (ID-level)"`` behind them for ``id_rank``.
    """
    if rank == "id_rank":
        hit_ranks = hit_ranks[hit_ranks[rank].isna() | ~hit_ranks.duplicated([*_ranking_keys(hit_ranks), rank])]
    targets = _Targets(hit_ranks, rank)
    suffix = ID_LEVEL if rank == "id_rank" else ""
    values = {f"{metric}@{k}{suffix}": PER_RANKING[metric](targets, k) for k in topk for metric in metrics}
    return pd.DataFrame(values, index=pd.Index(targets.users, name="user_id"), dtype="float64")


def _ranking_keys(hit_ranks: pd.DataFrame) -> list[str]:
    return [key for key in ("user_id", "ranking") if key in hit_ranks]


class _Targets:
    """The targets that were found, by ranking and rank, and how many targets each ranking has.

    Args:
        hit_ranks: as above.
        rank: name of a column.
    """

    def __init__(self, hit_ranks: pd.DataFrame, rank: str) -> None:
        ranking = hit_ranks.groupby(_ranking_keys(hit_ranks)).ngroup().to_numpy()
        self.users = hit_ranks["user_id"].to_numpy()[np.unique(ranking, return_index=True)[1]]
        self.counts = np.bincount(ranking, minlength=len(self.users))
        found = np.flatnonzero(hit_ranks[rank].notna())
        ranks = hit_ranks[rank].to_numpy()[found].astype("int64")
        order = np.lexsort((ranks, ranking[found]))
        self.ranking, self.rank = ranking[found][order], ranks[order]

    def total(self, worth: Any, k: int) -> np.ndarray:
        """What the targets among the first k are worth together: float64 ``[rankings]``."""
        return np.bincount(self.ranking, np.where(self.rank <= k, worth, 0.0), minlength=len(self.users))

    def nth(self) -> np.ndarray:
        """Of each found target, which of its ranking's found targets it is, counted from 1."""
        first = np.searchsorted(self.ranking, self.ranking)
        return np.arange(len(self.ranking)) - first + 1


def _hits(targets: _Targets, k: int) -> np.ndarray:
    return targets.total(1.0, k)


def _recall(targets: _Targets, k: int) -> np.ndarray:
    return _hits(targets, k) / targets.counts


def _precision(targets: _Targets, k: int) -> np.ndarray:
    return _hits(targets, k) / k


def _hit(targets: _Targets, k: int) -> np.ndarray:
    return _hits(targets, k) > 0


def _mrr(targets: _Targets, k: int) -> np.ndarray:
    return targets.total((targets.nth() == 1) / targets.rank, k)


def _ndcg(targets: _Targets, k: int) -> np.ndarray:
    ideal = np.cumsum(1 / np.log2(np.arange(k) + 2))
    return targets.total(1 / np.log2(targets.rank + 1), k) / ideal[np.minimum(targets.counts, k) - 1]


def _map(targets: _Targets, k: int) -> np.ndarray:
    return targets.total(targets.nth() / targets.rank, k) / np.minimum(targets.counts, k)


PER_RANKING: dict[str, Callable[[_Targets, int], np.ndarray]] = {
    **{"recall": _recall, "ndcg": _ndcg, "mrr": _mrr, "hit": _hit, "precision": _precision, "map": _map}
}


def slice_bounds(hit_ranks: pd.DataFrame) -> Bounds:
    """Where the groups end: quantiles of the targets, by popularity of those whose item was seen in training.

    Args:
        hit_ranks: of any row under the protocol.

    Returns:
        Per slicing the upper bounds of all groups but the last, rising. Fewer than three where many targets have the
        same value.
    """
    bounds = {}
    for slicing, column in SLICINGS.items():
        values = hit_ranks[column].to_numpy()
        values = values[values > 0] if slicing == "item popularity" else values
        shares = np.arange(1, GROUPS) / GROUPS
        upper = np.quantile(values, shares, method="inverted_cdf") if len(values) else np.zeros(0)
        bounds[slicing] = [int(bound) for bound in np.unique(upper) if bound < values.max()]
    return bounds


def slice_measures(
    tables: Sequence[pd.DataFrame], bounds: Bounds, metrics: Sequence[str], k: int
) -> dict[str, list[dict[str, Any]]]:
    """Accuracy of a row in every group, averaged over seeds.

    Only the targets of a group count, also for a user who has others. A group without targets is left out.

    Args:
        tables: hit ranks, one per seed.
        bounds: from :func:`slice_bounds`.
        metrics: for example ``recall`` and ``ndcg``.
        k: of the metrics.

    Returns:
        Per slicing a list of dicts with ``label``, ``users``, the number of users with a target in the group (the
        mean over seeds, rounded), and the measures by name.
    """
    return {slicing: list(_groups(tables, slicing, bounds[slicing], metrics, k)) for slicing in SLICINGS}


def _groups(
    tables: Sequence[pd.DataFrame], slicing: str, upper: list[int], metrics: Sequence[str], k: int
) -> Iterator[dict[str, Any]]:
    cold = slicing == "item popularity"
    numbers = [_group_numbers(table[SLICINGS[slicing]].to_numpy(), upper, cold) for table in tables]
    labels = ([NEVER_SEEN] if cold else []) + _labels(upper, cold)
    for number, label in enumerate(labels, start=-1 if cold else 0):
        measured = [measure_rankings(table[own == number], metrics, [k]) for table, own in zip(tables, numbers)]
        measured = [rankings for rankings in measured if len(rankings)]
        if measured:
            means = np.mean([rankings.mean() for rankings in measured], axis=0)
            users = round(float(np.mean([rankings.index.nunique() for rankings in measured])))
            yield {"label": label, "users": users, **dict(zip(measured[0].columns, means.tolist()))}


def _group_numbers(values: np.ndarray, upper: list[int], cold: bool) -> np.ndarray:
    """The group of each target, counted from 0; -1 for items never seen in training."""
    number = np.searchsorted(upper, values, side="left")
    return np.where(values == 0, -1, number) if cold else number


def _labels(upper: list[int], cold: bool) -> list[str]:
    if not upper:
        return ["seen in training" if cold else "any"]
    lower = [1 if cold else 0, *(bound + 1 for bound in upper)]
    ended = [str(low) if low == high else f"{low} to {high}" for low, high in zip(lower, upper)]
    return [*ended, f"{lower[-1]} and more"]
