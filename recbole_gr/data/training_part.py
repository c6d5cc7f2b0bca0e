"""The training part of a dataset that is not split yet, for what has to be made from it before the model is there."""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class TrainingPart:
    """The interactions that the training part of a split holds, and nothing that the rest could change.

    Users and items are numbered in the order of their tokens; RecBole's numbers follow the whole file.

    Args:
        item_tokens: str ``[n_items]``, those that occur in it, sorted.
        items: int64 ``[interactions]``, the histories one after the other, each in the order of time.
        first: int64 ``[users + 1]``, where each history begins.
    """

    item_tokens: np.ndarray
    items: np.ndarray
    first: np.ndarray


def training_part(dataset: Any) -> TrainingPart:
    """Split a copy of a dataset as RecBole will split it, and take the training part.

    Args:
        dataset: a :class:`~recbole_gr.data.dataset.HistoryDataset` before its split, which stays as it is; its files are not
            split already (``benchmark_filename``).
    """
    train = _copy(dataset).build()[0]
    target = train.inter_feat[train.history_end_field].numpy()
    # The item before a target is a target itself or the user's first, which is the target of no sample.
    row = np.unique(np.concatenate([target, target - 1]))
    user_at = np.zeros(len(train.item_sequence), np.int64)
    user_at[target - 1] = user_at[target] = train.inter_feat[train.uid_field].numpy()
    user = _rank(train.field2id_token[train.uid_field])[user_at[row]]
    order = np.argsort(user, kind="stable")
    items = _rank(train.field2id_token[train.iid_field])[train.item_sequence.numpy()[row[order]]]
    by_token = np.sort(train.field2id_token[train.iid_field][1:].astype(str))
    occurring, items = np.unique(items, return_inverse=True)
    length = np.unique(user, return_counts=True)[1]
    return TrainingPart(by_token[occurring - 1], items.astype(np.int64), np.append(0, np.cumsum(length)))


def _copy(dataset: Any) -> Any:
    """A copy that can be split: the tables and what is known of the fields are its own, the settings are shared."""
    copied = copy.copy(dataset)
    for name, value in vars(dataset).items():
        if isinstance(value, (dict, list, set, pd.DataFrame)):
            setattr(copied, name, copy.copy(value))
    return copied


def _rank(tokens: np.ndarray) -> np.ndarray:
    """The place of each token among the sorted ones, by id, from 1 on; 0 is padding."""
    rank = np.zeros(len(tokens), np.int64)
    rank[1:][np.argsort(tokens[1:].astype(str))] = np.arange(1, len(tokens))
    return rank
