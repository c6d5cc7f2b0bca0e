"""Accuracy per ranking, from where every target stood in it.

A ranking is what RecBole measures: one for each user, but one for each test interaction of a user where a sequential model is
tested on several. The definitions are those of RecBole's metrics (``recbole.evaluator.metrics``), for one target of a ranking
or several. Where a ranking has k or more targets, the ideal one holds k of them.
"""

import numpy as np
import pandas as pd
from recbole.evaluator.register import metrics_dict

#: Measures that count semantic IDs bear this behind their name.
ID_LEVEL = " (ID-level)"


def is_accuracy(metric):
    """Whether a metric of RecBole, by name, is computed ranking by ranking from the ranks of the targets."""
    return metric.lower() in PER_RANKING


def smaller_is_better(metric):
    """Whether RecBole holds smaller values of a metric, by name, for the better ones."""
    return metrics_dict[metric.lower()].smaller


def measure_rankings(hit_ranks, metrics, topk, rank="rank"):
    """Metrics of every ranking.

    With ``rank="id_rank"`` a hit is a hit of the target's semantic ID. Targets of one ranking that share an ID stand at one
    place of the ranking of IDs and count as one target; those that were not found count one by one, for which of them
    share an ID is not known.

    Args:
        hit_ranks (pandas.DataFrame): from :func:`recbole_gr.leaderboard.cell_files.read_hit_ranks`.
        metrics (iterable of str): of ``recall``, ``ndcg``, ``mrr``, ``hit``, ``precision``, ``map``.
        topk (iterable of int): the k of each.
        rank (str): the column to look at.

    Returns:
        pandas.DataFrame: float64, one row per ranking, in the order of ``user_id``, which is the index; columns
        ``recall@5``, ..., with ``" (ID-level)"`` behind them for ``id_rank``.
    """
    if rank == "id_rank":
        hit_ranks = hit_ranks[hit_ranks[rank].isna() | ~hit_ranks.duplicated([*_ranking_keys(hit_ranks), rank])]
    targets = _Targets(hit_ranks, rank)
    suffix = ID_LEVEL if rank == "id_rank" else ""
    values = {f"{metric}@{k}{suffix}": PER_RANKING[metric](targets, k) for k in topk for metric in metrics}
    return pd.DataFrame(values, index=pd.Index(targets.users, name="user_id"), dtype="float64")


def _ranking_keys(hit_ranks):
    return [key for key in ("user_id", "ranking") if key in hit_ranks]


class _Targets:
    """The targets that were found, by ranking and rank, and how many targets each ranking has.

    Args:
        hit_ranks (pandas.DataFrame): as above.
        rank (str): name of a column.
    """

    def __init__(self, hit_ranks, rank):
        ranking = hit_ranks.groupby(_ranking_keys(hit_ranks)).ngroup().to_numpy()
        self.users = hit_ranks["user_id"].to_numpy()[np.unique(ranking, return_index=True)[1]]
        self.counts = np.bincount(ranking, minlength=len(self.users))
        found = np.flatnonzero(hit_ranks[rank].notna())
        ranks = hit_ranks[rank].to_numpy()[found].astype("int64")
        order = np.lexsort((ranks, ranking[found]))
        self.ranking, self.rank = ranking[found][order], ranks[order]

    def total(self, worth, k):
        """What the targets among the first k are worth together: float64 ``[rankings]``."""
        return np.bincount(self.ranking, np.where(self.rank <= k, worth, 0.0), minlength=len(self.users))

    def nth(self):
        """Of each found target, which of its ranking's found targets it is, counted from 1."""
        first = np.searchsorted(self.ranking, self.ranking)
        return np.arange(len(self.ranking)) - first + 1


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


PER_RANKING = {"recall": _recall, "ndcg": _ndcg, "mrr": _mrr, "hit": _hit, "precision": _precision, "map": _map}
