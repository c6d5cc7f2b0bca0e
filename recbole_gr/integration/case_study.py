"""RecBole's ``full_sort_scores`` and ``full_sort_topk``, as its documentation and the run's settings say.

RecBole 1.2.1 (utils/case_study.py) leaves the history of sequential models in, whatever was measured; and what it takes the top k
of is a search for the k that the run was measured at: further places are filled with items of score -inf.
"""

from __future__ import annotations

from collections.abc import Sequence
from logging import getLogger
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction

from recbole_gr.models.rankings import item_scores, top_lists
from recbole_gr.utils.arrays import ragged
from recbole_gr.utils.errors import DataError

_NAMED = 5


def full_sort_scores(
    uid_series: Sequence[int], model: Any, test_data: Any, device: torch.device | None = None
) -> torch.Tensor:
    """Scores of all items for some users, from what the evaluation ranks from.

    Args:
        uid_series: user ids, as ``dataset.token2id`` gives them.
        model: a trained model, ours or RecBole's.
        test_data: the loader whose users they are.
        device: where the scores are wanted; the model computes where it lies. None: on the CPU.

    Returns:
        float32 ``[users, n_items]``. -inf for padding, for what ``mask_seen`` excludes, and, of a beam search, for what it did not find.

    Raises:
        DataError: a user has no row in ``test_data``.
    """
    users, interaction = _batch(uid_series, model, test_data)
    excluded = _excluded(users, test_data)
    scores, _ = item_scores(model, interaction, test_data._dataset, k=0, excluded=excluded)
    return scores.to(device or torch.device("cpu"))


def full_sort_topk(
    uid_series: Sequence[int], model: Any, test_data: Any, k: int, device: torch.device | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The best items of some users, in the order that the evaluation ranks them in.

    A beam search is made wide enough for ``k``. The result is rectangular: where some user can be given fewer than ``k`` items, all
    lists are as short as the shortest, which a warning says; no place is filled with what cannot be recommended.

    Args:
        uid_series, model, test_data, device: as for :func:`full_sort_scores`.
        k: the length of the lists.

    Returns:
        Scores and item ids, ``[users, k]`` each.

    Raises:
        DataError: a user has no row in ``test_data``.
    """
    users, interaction = _batch(uid_series, model, test_data)
    lists = top_lists(model, interaction, test_data._dataset, k, excluded=_excluded(users, test_data))
    shortest = int(lists.lengths.min()) if len(users) else k
    if shortest < k:
        getLogger().warning(
            f"full_sort_topk: k={k}, but a user can be given {shortest} items only; all lists are that long."
        )
    device = device or torch.device("cpu")
    return lists.scores[:, :shortest].to(device), lists.items[:, :shortest].to(device)


def _batch(uid_series: Sequence[int], model: Any, test_data: Any) -> tuple[torch.Tensor, Interaction]:
    """The users of the rows, and the rows as a model reads them."""
    dataset = test_data._dataset
    users = torch.as_tensor(np.asarray(uid_series)).long()
    model.eval()
    if test_data.is_sequential:
        interaction = dataset[_rows_of(users, dataset)]
        return interaction[dataset.uid_field], interaction
    return users, dataset.join(Interaction({dataset.uid_field: users}))


def _rows_of(users: torch.Tensor, dataset: Any) -> torch.Tensor:
    """The samples of some users, user by user, int64; without the table of all pairs that RecBole makes."""
    of_row = dataset.inter_feat[dataset.uid_field]
    order = of_row.argsort(stable=True)
    ordered = of_row[order]
    first, last = (torch.searchsorted(ordered, users, right=right) for right in (False, True))
    without = users[first == last]
    if len(without):
        names = ", ".join(map(str, dataset.id2token(dataset.uid_field, without[:_NAMED].numpy())))
        raise DataError(f"{len(without)} of {len(users)} users have no row in the data, e.g. {names}")
    owner, nth = ragged(last - first)
    return order[first[owner] + nth]


def _excluded(users: torch.Tensor, test_data: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Rows and items that the evaluation excludes for some users."""
    mask_seen = test_data.config["mask_seen"]
    if mask_seen is False:
        return None
    if mask_seen is True and hasattr(test_data._dataset, "seen_items"):
        return test_data._dataset.seen_items.of(users.numpy())
    if test_data.is_sequential:
        return None
    history = test_data.uid2history_item[users.numpy()]
    known = [torch.zeros(0, dtype=torch.int64) if items is None else items for items in history]
    counts = torch.tensor([len(items) for items in known], dtype=torch.int64)
    return torch.repeat_interleave(torch.arange(len(known)), counts), torch.cat(known)
