"""The files of a cell, and accuracy per user from where every target stood in its user's ranking.

The definitions are those of RecBole's metrics (``recbole.evaluator.metrics``), for one target of a user or several. Where a
user has k or more targets, the ideal ranking holds k of them.
"""

import json
import os
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow
from recbole.evaluator.register import metrics_dict

from recbole_gr.errors import DataError

COLUMNS = ("user_id", "item_id", "rank", "history_length", "item_count")

#: Measures that count semantic IDs bear this behind their name.
ID_LEVEL = " (ID-level)"


def is_accuracy(metric):
    """Whether a metric of RecBole, by name, is computed user by user from the ranks of the targets."""
    return metric.lower() in PER_USER


def smaller_is_better(metric):
    """Whether RecBole holds smaller values of a metric, by name, for the better ones."""
    return metrics_dict[metric.lower()].smaller


@dataclass
class CellFiles:
    """What a cell left.

    Args:
        cell (recbole_gr.leaderboard.board.Cell): whose files they are.
        record (dict): the run record; None if it did not run, failed, or left files that cannot be read.
        hit_ranks (pandas.DataFrame): from :func:`read_hit_ranks`; None without a record.
        found (dict): the settings that the search of its row found; None if there are none.
        error (str): what went wrong; None if nothing did.
    """

    cell: object
    record: dict = None
    hit_ranks: pd.DataFrame = None
    found: dict = None
    error: str = None


def read_cell(cell, folder):
    """Read the files of a cell in the folder of records; damaged ones are its error, not the board's."""
    files = CellFiles(cell)
    try:
        if cell.row.search:  # all seeds share the search of the first
            files.found = (_read_json(folder, replace(cell, seed=cell.row.seeds[0]).key, ".search.json") or {}).get("found")
        record = _read_json(folder, cell.key, ".json")
        if record is None:
            files.error = (_read_json(folder, cell.key, ".failed.json") or {}).get("error")
        else:
            kept = record.get("hit_ranks")
            if kept is None:
                raise DataError(f"the record {cell.key}.json names no hit ranks")
            files.hit_ranks = read_hit_ranks(os.path.join(folder, kept["file"]), kept["depth"], cell.board.topk)
            files.record = record
    except DataError as error:
        files.error = str(error)
    return files


def _read_json(folder, key, ending):
    path = os.path.join(folder, key + ending)
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DataError(f"[{path}] is not json: {error}") from error


def read_hit_ranks(path, depth, topk):
    """The hit ranks of a cell.

    Args:
        path (str): of the parquet file.
        depth (int): how far down the rankings were looked.
        topk (iterable of int): the k of the metrics that shall be computed.

    Returns:
        pandas.DataFrame: one row per user and target: ``user_id`` and ``item_id`` (str), ``rank`` and, for models with
        semantic IDs, ``id_rank`` (float64, 1 is the first, NaN: not among the first ``depth``), ``history_length`` and
        ``item_count`` (int32).

    Raises:
        DataError: the file is missing or damaged, lacks a column, or was not made for so large a k.
    """
    try:
        hit_ranks = pd.read_parquet(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"[{path}] with hit ranks cannot be read: {' '.join(str(error).split())}") from error
    missing = [column for column in COLUMNS if column not in hit_ranks]
    if missing:
        raise DataError(f"[{path}] has no column {', '.join(missing)}; it has {', '.join(hit_ranks.columns)}")
    if max(topk) > depth:
        raise DataError(f"[{path}] tells ranks down to {depth} only; k={max(topk)} needs more")
    ranks = hit_ranks.columns.intersection(["rank", "id_rank"])
    return hit_ranks.assign(**{column: hit_ranks[column].to_numpy(dtype="float64", na_value=np.nan) for column in ranks})


def measure_users(hit_ranks, metrics, topk, rank="rank"):
    """Metrics of every user.

    With ``rank="id_rank"`` a hit is a hit of the target's semantic ID. Targets of one user that share an ID stand at one
    place of the ranking of IDs and count as one target; those that were not found count one by one, for which of them
    share an ID is not known.

    Args:
        hit_ranks (pandas.DataFrame): from :func:`read_hit_ranks`.
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
