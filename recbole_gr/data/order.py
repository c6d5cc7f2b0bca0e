"""The order of interactions in time, by the full precision of the file, and the order of those that share a timestamp."""

from typing import Any

import numpy as np
import pandas as pd


def sort_interactions(dataset: Any) -> None:
    """Sort a dataset's interactions by their exact times before RecBole sorts them by rounded ones.

    RecBole keeps times as float32: at 8.8e8 seconds neighbouring values are 64 seconds apart, and its sort leaves
    interactions closer than that in the order of the file. Its sorts are stable, and rounding never swaps two times; so
    after a sort on the float64 values of the file (``timestamp_order: exact``) they keep the true order.

    What shares a timestamp stays in the order of the file, which may follow from the items and help a model that sees
    their numbers. ``tie_order: shuffled`` puts it in a random order instead, drawn by ``tie_seed`` alone. Times in one
    ``tie_interval`` count as shared; they are set to its beginning, so that no later sort brings the old order back.

    Does nothing where the order of time plays no part (``order: RO``), or where the file itself is the split
    (``benchmark_filename``).

    Args:
        dataset: a RecBole ``Dataset`` before its conversion, with ``inter_feat`` a pandas.DataFrame.
    """
    config = dataset.config
    by_time = config["eval_args"]["order"] == "TO" and dataset.benchmark_filename_list is None
    if not by_time or not isinstance(dataset.inter_feat, pd.DataFrame) or dataset.time_field not in dataset.inter_feat:
        return
    listed = dataset.time_field in config["numerical_features"]
    given = dataset.inter_feat[dataset.time_field]
    time = exact_times(dataset, dataset.inter_feat)
    if config["tie_order"] == "shuffled":
        time = begin_of_interval(time, config["tie_interval"])
        dataset.inter_feat[dataset.time_field] = [[t, *rest] for t, (_, *rest) in zip(time, given)] if listed else time
        shuffled = np.random.default_rng(config["tie_seed"]).permutation(len(time))
        order = shuffled[time[shuffled].argsort(kind="stable")]
    elif config["timestamp_order"] != "recbole":
        order = time.argsort(kind="stable")
    else:
        return
    dataset.inter_feat = dataset.inter_feat.iloc[order].reset_index(drop=True)


def exact_times(dataset: Any, feat: pd.DataFrame) -> np.ndarray:
    """The time column of a table of a dataset, as precise as the file: float64 ``[interactions]``."""
    given = feat[dataset.time_field]
    listed = dataset.time_field in dataset.config["numerical_features"]  # then each time stands first in a list
    return (given.str[0] if listed else given).to_numpy(dtype="float64")


def begin_of_interval(time: np.ndarray, length: float) -> np.ndarray:
    """Times that lie in one interval of this length become equal, for a length of 0 none: float64 ``[interactions]``."""
    return time // length * length if length else time
