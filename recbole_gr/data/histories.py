"""What users had in some parts of a split, in the order of time: what a model reads and what it may not recommend again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction

from recbole_gr.data.dataset import HistoryDataset
from recbole_gr.utils.arrays import ragged


class Histories:
    """Interactions of all users as flat arrays, one user behind the other, each in the order of time.

    Args:
        users: int64 ``[interactions]``, sorted.
        columns: ``[interactions, ...]`` by the name that the list has in a sample, ``item_id_list`` and perhaps ``timestamp_list``.
        n_users: number of users, the padding user included.
    """

    def __init__(self, users: torch.Tensor, columns: Mapping[str, torch.Tensor], n_users: int) -> None:
        self.columns = dict(columns)
        self.lengths = torch.bincount(users, minlength=n_users)
        self.first = self.lengths.cumsum(0) - self.lengths

    def rows_and_items(self, users: torch.Tensor, item_list: str) -> tuple[torch.Tensor, torch.Tensor]:
        """The items of some users, int64 ``[users]``: the user in ``rows[j]`` had ``items[j]``; oldest first, row by row."""
        rows, nth = ragged(self.lengths[users])
        return rows, self.columns[item_list][self.first[users][rows] + nth]

    def interaction(self, dataset: Any, users: torch.Tensor, *, known: bool = True) -> Interaction:
        """The newest items of some users as a batch of samples without a target, for a sequential model.

        Args:
            dataset: a sequential dataset, which knows how long a history is and what the columns are called.
            users: int64 ``[b]``, each with one interaction at least.
            known: whether they are users of the dataset; else the batch names none.
        """
        lengths = self.lengths[users].clamp(max=dataset.max_item_list_len)
        start = self.first[users] + self.lengths[users] - lengths
        column = torch.arange(dataset.max_item_list_len)
        inside = column < lengths.unsqueeze(1)
        place = (start.unsqueeze(1) + column).masked_fill(~inside, 0)
        batch = {dataset.uid_field: users} if known else {}
        for name, values in self.columns.items():
            laid_out = values[place]
            laid_out[~inside] = 0
            batch[name] = laid_out
        batch[dataset.item_list_length_field] = lengths
        return dataset.join(Interaction(batch))


def histories_of(parts: Sequence[Any]) -> Histories:
    """What users had in some parts of a split.

    Args:
        parts: RecBole datasets of one split, the earlier ones first.
    """
    dataset = parts[0]
    if isinstance(dataset, HistoryDataset) and dataset.history_end_field in dataset.inter_feat:
        return _from_places(parts)
    if isinstance(dataset, SequentialDataset):
        return _from_samples(parts)
    users = torch.cat([part.inter_feat[part.uid_field] for part in parts])
    items = torch.cat([part.inter_feat[part.iid_field] for part in parts])
    order = users.argsort(stable=True)  # each part is in the order of time
    return Histories(users[order], {dataset.iid_field + dataset.config["LIST_SUFFIX"]: items[order]}, dataset.user_num)


def _from_places(parts: Sequence[HistoryDataset]) -> Histories:
    """Samples that say where in a sequence of all items they lie; a user's first interaction is the target of none."""
    dataset = parts[0]
    end = torch.cat([part.inter_feat[part.history_end_field] for part in parts])
    users = torch.cat([part.inter_feat[part.uid_field] for part in parts])
    begins = end - dataset.first_row[end] == 1
    place, order = torch.cat([end[begins] - 1, end]).sort()
    return Histories(
        torch.cat([users[begins], users])[order],
        {name: values[place] for name, values in dataset.list_columns.items()},
        dataset.user_num,
    )


def _from_samples(parts: Sequence[Any]) -> Histories:
    """RecBole's samples: the list of a user's earliest sample, and the targets of all."""
    dataset = parts[0]
    suffix, tables = dataset.config["LIST_SUFFIX"], [part.inter_feat for part in parts]
    fields = [field for field in tables[0].columns if field + suffix in tables[0]]
    users = torch.cat([table[dataset.uid_field] for table in tables])
    order = users.argsort(stable=True)
    if dataset.time_field in tables[0]:
        time = torch.cat([table[dataset.time_field] for table in tables])
        time = time[:, 0] if time.dim() > 1 else time
        order = torch.from_numpy(np.lexsort((time.numpy(), users.numpy())))
    counts = torch.bincount(users, minlength=dataset.user_num)
    earliest = order[(counts.cumsum(0) - counts)[counts > 0]]
    before = torch.cat([table[dataset.item_list_length_field] for table in tables])[earliest]
    owner, nth = ragged(before)

    columns = {}
    by_user = torch.cat([users[earliest][owner], users[order]])
    sort = by_user.argsort(stable=True)
    for field in fields:
        lists, targets = (torch.cat([table[name] for table in tables]) for name in (field + suffix, field))
        columns[field + suffix] = torch.cat([lists[earliest][owner, nth], targets[order]])[sort]
    return Histories(by_user[sort], columns, dataset.user_num)


def users_alone(dataset: Any, users: torch.Tensor) -> Interaction:
    """Some users as a general model reads them, with what the dataset has of their features; ``users`` is int64 ``[b]``."""
    return dataset.join(Interaction({dataset.uid_field: users}))


def histories_of_items(items: Sequence[Sequence[int]], item_list: str) -> Histories:
    """Histories of nobody known, from the items alone; the users are numbered from 0.

    Args:
        items: item ids of each history, oldest first.
        item_list: the name of the list in a sample.
    """
    users, _ = ragged(torch.tensor([len(one) for one in items], dtype=torch.int64))
    flat = torch.tensor([item for one in items for item in one], dtype=torch.int64)
    return Histories(users, {item_list: flat}, len(items))
