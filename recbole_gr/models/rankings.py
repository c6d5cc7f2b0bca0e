"""Item scores and top lists of any model that ranks the catalogue, ours and RecBole's alike."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from recbole.data.interaction import Interaction

from recbole_gr.models.base import GenerativeRecommender
from recbole_gr.utils.devices import PerDevice
from recbole_gr.utils.errors import DataError

#: Rows that a model without ``full_sort_predict``, which predicts user by user and item by item, is given at a time.
ROWS_AT_ONCE = PerDevice(cpu=1 << 17, cuda=1 << 20)


@dataclass(frozen=True)
class TopLists:
    """The best items of some users, best first.

    Args:
        items: int64 ``[users, k]``; 0 where a user has fewer.
        scores: float32 ``[users, k]``, the model's own; -inf where a user has fewer.
        certified: bool ``[users]``, whose list is proven to be that of scoring every item; a model that scores every item needs
            no proof.
    """

    items: torch.Tensor
    scores: torch.Tensor
    certified: torch.Tensor

    @property
    def lengths(self) -> torch.Tensor:
        """Items of each list, int64 ``[users]``."""
        return (self.items > 0).sum(dim=1)


@contextlib.contextmanager
def known_user(name: str, interaction: Interaction, dataset: Any) -> Iterator[None]:
    """Within, a column that a model reads and a batch does not have becomes an error in one line.

    Args:
        name: of the model.
        interaction: the batch.
        dataset: of the model, whose columns these are.
    """
    try:
        yield
    except KeyError as error:
        column = error.args[0] if error.args else None
        if column in interaction or column not in dataset.field2type:
            raise
        needs = "a known user (users=...)" if column == dataset.uid_field else f"the column {column!r}"
        raise DataError(f"{name} needs {needs}, which a history of items alone does not have") from error


@torch.no_grad()
def item_scores(
    model: Any,
    interaction: Interaction,
    dataset: Any,
    *,
    k: int,
    excluded: tuple[torch.Tensor, torch.Tensor] | None = None,
    allowed: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of all items for a batch of users.

    Args:
        model: in evaluation mode, on its device.
        interaction: a batch as the model's evaluation has it, without items to be predicted.
        dataset: that of the model.
        k: how far the rankings are looked at; a beam search is made wide enough.
        excluded: rows and items, int64 each: ``items[j]`` is not recommended in row ``rows[j]``; None: nothing is excluded.
        allowed: bool ``[n_items]``, the items that may be recommended; None: all.

    Returns:
        float32 ``[users, n_items]``, -inf for padding, for what is excluded or not allowed, and for what a search did not find;
        bool ``[users]``, whose first k are proven.
    """
    interaction, excluded = _on_device(model, interaction, excluded)
    if isinstance(model, GenerativeRecommender):
        with model.ranking_to(k, allowed):
            scores = model.rank(interaction, excluded).dense()
        return scores, _certified_rows(model)
    scores = _scores_of_every_item(model, interaction, dataset)
    if allowed is not None:
        scores[:, ~allowed.to(scores.device)] = -torch.inf
    scores[:, 0] = -torch.inf
    if excluded is not None:
        scores[excluded] = -torch.inf
    return scores, torch.ones(len(scores), dtype=torch.bool, device=scores.device)


@torch.no_grad()
def top_lists(
    model: Any,
    interaction: Interaction,
    dataset: Any,
    k: int,
    *,
    excluded: tuple[torch.Tensor, torch.Tensor] | None = None,
    allowed: torch.Tensor | None = None,
) -> TopLists:
    """The k best items of each user, in the order in which the evaluation has them.

    Args:
        model, interaction, dataset, excluded, allowed: as in :func:`item_scores`.
        k: the length of the lists; those of a small catalogue are as long as it.
    """
    if not isinstance(model, GenerativeRecommender):
        scores, certified = item_scores(model, interaction, dataset, k=k, excluded=excluded, allowed=allowed)
        best, items = scores.topk(min(k, scores.shape[1] - 1), dim=1)
        return TopLists(items.masked_fill(best == -torch.inf, 0), best, certified)
    interaction, excluded = _on_device(model, interaction, excluded)
    k = min(k, model.n_items - 1)
    with model.ranking_to(k, allowed):
        ranked = model.ranked(interaction, excluded, k)
    items = ranked.top(k)
    items, best = ranked.lists.scores_of(items)
    return TopLists(items, best, _certified_rows(model))


def _on_device(
    model: Any, interaction: Interaction, excluded: tuple[torch.Tensor, torch.Tensor] | None
) -> tuple[Interaction, tuple[torch.Tensor, torch.Tensor] | None]:
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    excluded = None if excluded is None else (excluded[0].to(device), excluded[1].to(device))
    return interaction.to(device), excluded


def _certified_rows(model: GenerativeRecommender) -> torch.Tensor:
    assert model.certified_rows is not None  # rank() has made them
    return model.certified_rows


def _scores_of_every_item(model: Any, interaction: Interaction, dataset: Any) -> torch.Tensor:
    try:
        return model.full_sort_predict(interaction).view(-1, dataset.item_num).float()
    except NotImplementedError:
        device = interaction[interaction.columns[0]].device
        items = dataset.get_item_feature().to(device)
        at_once = max(1, ROWS_AT_ONCE[device.type] // dataset.item_num)
        parts = []
        for rows in torch.arange(len(interaction)).split(at_once):
            pairs = interaction[rows].repeat_interleave(dataset.item_num)
            pairs.update(items.repeat(len(rows)))
            parts.append(model.predict(pairs).view(len(rows), -1))
        return torch.cat(parts).float()
