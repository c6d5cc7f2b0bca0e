"""Accuracy per user, from where every target stood in its user's ranking.

The definitions are those of RecBole's metrics (``recbole.evaluator.metrics``), for one target of a user or several. Where a
user has k or more targets, the ideal ranking holds k of them.
"""

import numpy as np
import pandas as pd
from recbole.evaluator.register import metrics_dict

#: Measures that count semantic IDs bear this behind their name.
ID_LEVEL = " (ID-level)"


def is_accuracy(metric):
    """Whether a metric of RecBole, by name, is computed user by user from the ranks of the targets."""
    return metric.lower() in PER_USER


def smaller_is_better(metric):
    """Whether RecBole holds smaller values of a metric, by name, for the better ones."""
    return metrics_dict[metric.lower()].smaller


def measure_users(hit_ranks, metrics, topk, rank="rank"):
    """Metrics of every user.

    With ``rank="id_rank"`` a hit is a hit of the target's semantic ID. Targets of one user that share an ID stand at one
    place of the ranking of IDs and count as one target; those that were not found count one by one, for which of them
    share an ID is not known.

    Args:
        hit_ranks (pandas.DataFrame): from :func:`recbole_gr.leaderboard.cell_files.read_hit_ranks`.
        metrics (iterable of str): of ``recall``, ``ndcg``, ``mrr``, ``hit``, ``precision``, ``map``.
        topk (iterable of int): the k of each.
        rank (str): the column to look at.

    Returns:
        pandas.DataFrame: float64, one row per user, in the order of ``user_id``, which is the index; columns
        ``recall@5``, ..., with ``" (ID-level)"`` behind them for ``id_rank``.
    """
    if rank == "id_rank":
        hit_ranks = hit_ranks[hit_ranks[rank].isna() | ~hit_ranks.duplicated(["user_id", rank])]
    targets = _Targets(hit_ranks, rank)
    suffix = ID_LEVEL if rank == "id_rank" else ""
    values = {f"{metric}@{k}{suffix}": PER_USER[metric](targets, k) for k in topk for metric in metrics}
    return pd.DataFrame(values, index=pd.Index(targets.names, name="user_id"), dtype="float64")


class _Targets:
    """The targets that were found, by user and rank, and how many targets each user has.

    Args:
        hit_ranks (pandas.DataFrame): as above.
        rank (str): name of a column.
    """

    def __init__(self, hit_ranks, rank):
        user, self.names = pd.factorize(hit_ranks["user_id"], sort=True)
        self.counts = np.bincount(user, minlength=len(self.names))
        found = np.flatnonzero(hit_ranks[rank].notna())
        ranks = hit_ranks[rank].to_numpy()[found].astype("int64")
        order = np.lexsort((ranks, user[found]))
        self.user, self.rank = user[found][order], ranks[order]

    def total(self, worth, k):
        """What the targets among the first k are worth together: float64 ``[users]``."""
        return np.bincount(self.user, np.where(self.rank <= k, worth, 0.0), minlength=len(self.names))

    def nth(self):
        """Of each found target, which of its user's found targets it is, counted from 1."""
        first = np.searchsorted(self.user, self.user)
        return np.arange(len(self.user)) - first + 1


def _hits(targets, k):
    return targets.total(1.0, k)


def _recall(targets, k):
    return _hits(targets, k) / targets.counts


def _precision(targets, k):
    return _hits(targets, k) / k


def _hit(targets, k):
    return _hits(targets, k) > 0


def _mrr(targets, k):
    return targets.total((targets.nth() == 1) / targets.rank, k)


def _ndcg(targets, k):
    ideal = np.cumsum(1 / np.log2(np.arange(k) + 2))
    return targets.total(1 / np.log2(targets.rank + 1), k) / ideal[np.minimum(targets.counts, k) - 1]


def _map(targets, k):
    return targets.total(targets.nth() / targets.rank, k) / np.minimum(targets.counts, k)


PER_USER = {"recall": _recall, "ndcg": _ndcg, "mrr": _mrr, "hit": _hit, "precision": _precision, "map": _map}
