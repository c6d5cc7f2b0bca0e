"""Seen items, those that a user had before: excluded from the ranking, for all models alike."""

from collections.abc import Sequence
from logging import getLogger
from typing import Any

import numpy as np
import torch
from recbole.data.dataset import SequentialDataset


class SeenItems:
    """The items of each user in some splits, as flat arrays.

    Args:
        users: int64 ``[interactions]``.
        items: int64 ``[interactions]``.
        n_users: number of users, the padding user included.
    """

    def __init__(self, users: np.ndarray, items: np.ndarray, n_users: int) -> None:
        order = np.argsort(users, kind="stable")
        self.items = items[order]
        self.first = np.append(0, np.cumsum(np.bincount(users, minlength=n_users)))

    def of(self, users: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows and items for a batch of users: the user in row ``rows[j]`` had ``items[j]``.

        Args:
            users: int64 ``[rows]``.

        Returns:
            Two int64 tensors of equal length.
        """
        counts = self.first[users + 1] - self.first[users]
        rows = np.repeat(np.arange(len(users)), counts)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        return torch.from_numpy(rows), torch.from_numpy(self.items[self.first[users][rows] + within])


def add_seen_items(built_datasets: Sequence[Any]) -> None:
    """Give the validation and test parts of a dataset ``seen_items``: what came in the parts before.

    The same items that RecBole excludes for general models; but RecBole spares a target that the user had before, which
    gives the answer away, and here it is excluded like the rest.

    Args:
        built_datasets: training, validation and test parts.
    """
    users, items = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    if brings_histories(built_datasets[0]):
        _add_seen_items_of_files(built_datasets)
        return
    for part, later in zip(built_datasets, built_datasets[1:]):
        left = getattr(part, "interactions_before", None)  # before train_fraction left some out
        new_users, new_items = interactions_of(part) if left is None else left
        users, items = np.concatenate([users, new_users]), np.concatenate([items, new_items])
        later.seen_items = SeenItems(users, items, later.user_num)
        _warn_of_repeats(later, users, items)


def brings_histories(part: Any) -> bool:
    """Whether the rows of a part come with histories of their own, in the files of ``benchmark_filename``."""
    return part.config["benchmark_filename"] is not None and history_field(part) in part.inter_feat


def history_field(part: Any) -> str:
    """The name of the column that holds histories."""
    return part.iid_field + part.config["LIST_SUFFIX"]


def _add_seen_items_of_files(built_datasets: Sequence[Any]) -> None:
    """As :func:`add_seen_items`, of rows that bring histories: what stands in the parts before, as a target or in a history.

    The histories of a part's own rows count too: for a sequential model, row by row (:func:`with_own_histories`); for one that
    ranks once per user, all of them but what is a target in the same part.
    """
    before = [np.zeros((2, 0), dtype=np.int64)]
    for part, later in zip(built_datasets, built_datasets[1:]):
        before += [_targets(part), _histories(part)]
        had = [*before]
        if not isinstance(later, SequentialDataset):
            own, targets = (pairs[0] * later.item_num + pairs[1] for pairs in (_histories(later), _targets(later)))
            had.append(_histories(later)[:, ~np.isin(own, targets)])
        users, items = np.concatenate(had, axis=1)
        later.seen_items = SeenItems(users, items, later.user_num)
        _warn_of_repeats(later, users, items)


def _targets(part: Any) -> np.ndarray:
    """Users and items of the rows, int64 ``[2, rows]``."""
    return np.stack([part.inter_feat[field].numpy() for field in (part.uid_field, part.iid_field)])


def _histories(part: Any) -> np.ndarray:
    """Users and items of the histories that the rows bring, int64 ``[2, interactions]``."""
    lists = part.inter_feat[history_field(part)].numpy()
    rows, columns = np.nonzero(lists)
    return np.stack([part.inter_feat[part.uid_field].numpy()[rows], lists[rows, columns]])


def with_own_histories(
    seen: tuple[torch.Tensor, torch.Tensor], dataset: Any, interaction: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """What is excluded in a batch, and the items of its own histories where the rows bring them.

    Args:
        seen: rows and items, int64 tensors of equal length.
        dataset: the part that the batch is of.
        interaction: the batch.
    """
    if not isinstance(dataset, SequentialDataset) or not brings_histories(dataset):
        return seen
    lists = interaction[history_field(dataset)]
    rows, columns = lists.nonzero(as_tuple=True)
    pairs = torch.stack([torch.cat([seen[0], rows]), torch.cat([seen[1], lists[rows, columns]])]).unique(dim=1)
    return pairs[0], pairs[1]


def interactions_of(part: Any) -> tuple[np.ndarray, np.ndarray]:
    """Users and items of all interactions of a part of a split, two arrays int64 ``[interactions]``.

    A sequential part has no row for a user's first interaction; that item stands in the shortest history.
    """
    feat = part.inter_feat
    if not isinstance(part, SequentialDataset):
        return feat[part.uid_field].numpy(), feat[part.iid_field].numpy()
    if len(feat) == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    shortest = torch.nonzero(feat[part.item_list_length_field] == 1).squeeze(1)
    beginning = part[shortest]
    first_items = beginning[part.iid_field + part.config["LIST_SUFFIX"]][:, 0]
    users = torch.cat([feat[part.uid_field], beginning[part.uid_field]])
    return users.numpy(), torch.cat([feat[part.iid_field], first_items]).numpy()


def item_counts(part: Any) -> np.ndarray:
    """How often each item occurs in a part of a split, int64 ``[n_items]``; 0 for the padding item."""
    return np.bincount(interactions_of(part)[1], minlength=part.item_num)


def _warn_of_repeats(part: Any, users: np.ndarray, items: np.ndarray) -> None:
    if len(part.inter_feat) == 0:
        return
    n_items = part.item_num
    targets = part.inter_feat[part.uid_field].numpy() * n_items + part.inter_feat[part.iid_field].numpy()
    repeats = int(np.isin(targets, users * n_items + items).sum())
    if repeats:
        getLogger().warning(
            f"mask_seen=True: {repeats} of {len(targets)} targets are items that the user had before; excluded, they can "
            "never be hit. For repeat consumption set mask_seen=False."
        )
