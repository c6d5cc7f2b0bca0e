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
    for part, later in zip(built_datasets, built_datasets[1:]):
        new_users, new_items = interactions_of(part)
        users, items = np.concatenate([users, new_users]), np.concatenate([items, new_items])
        later.seen_items = SeenItems(users, items, later.user_num)
        _warn_of_repeats(later, users, items)


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
