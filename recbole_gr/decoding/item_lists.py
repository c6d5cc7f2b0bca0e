"""Items of users with their scores, where nobody needs the scores of all: ``[users, found]`` instead of ``[users, n_items]``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from recbole_gr.decoding.exclusion import contains
from recbole_gr.decoding.tie_breaking import order_within_leaves

#: Scores of whole rows that are alive at a time, where some rows are needed as a whole.
SCORES_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class ItemLists:
    """What was found for some users.

    Args:
        items: int64 ``[users, w]``, w at least 1, each item once; 0 where a user has fewer.
        scores: float32 ``[users, w]``, log-probabilities; -inf where a user has fewer.
        n_items: number of items, padding included.
        in_order: whether the first ``in_order`` items of each user stand as the evaluation ranks them; 0: in any order.
    """

    items: torch.Tensor
    scores: torch.Tensor
    n_items: int
    in_order: int = 0

    def __len__(self) -> int:
        return len(self.items)

    def dense(self, rows: torch.Tensor | slice = slice(None)) -> torch.Tensor:
        """Scores of all items for some users, float32 ``[rows, n_items]``; -inf for what was not found."""
        items, scores = self.items[rows], self.scores[rows]
        dense = torch.full((len(items), self.n_items), -torch.inf, dtype=scores.dtype, device=scores.device)
        dense.scatter_(1, items, scores)
        dense[:, 0] = -torch.inf
        return dense

    def scores_of(self, items: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores of items of the lists, int64 ``[users, k]``; of those that are not in them, the item becomes 0 and the score -inf."""
        order = self.items.sort(dim=1)
        place = torch.searchsorted(order.values, items).clamp(max=self.items.shape[1] - 1)
        found = (order.values.gather(1, place) == items) & (items > 0)
        scores = self.scores.gather(1, order.indices.gather(1, place)).masked_fill(~found, -torch.inf)
        return items.masked_fill(scores == -torch.inf, 0), scores

    def where(self, keep: torch.Tensor) -> ItemLists:
        """Without the entries that are False, bool ``[users, w]``; the others keep their places."""
        keep = keep | (self.items == 0)
        in_order = self.in_order if self.in_order and bool(keep[:, : self.in_order].all()) else 0
        items, scores = self.items.masked_fill(~keep, 0), self.scores.masked_fill(~keep, -torch.inf)
        return ItemLists(items, scores, self.n_items, in_order)

    def without(self, excluded: tuple[torch.Tensor, torch.Tensor]) -> ItemLists:
        """Without some items: rows and items, int64 each."""
        keys = (excluded[0] * self.n_items + excluded[1]).to(self.items.device).sort().values
        rows = torch.arange(len(self), device=self.items.device).unsqueeze(1)
        return self.where(~contains(keys, rows * self.n_items + self.items))


def put_together(parts: Sequence[ItemLists], rows: Sequence[torch.Tensor]) -> ItemLists:
    """The lists of all users from those of some; where a user is in several parts the last one counts.

    Args:
        parts: at least one.
        rows: int64 each, whose lists a part has; together all users.
    """
    n_users, width = 1 + max(int(index.max()) for index in rows if len(index)), max(part.items.shape[1] for part in parts)
    items = parts[0].items.new_zeros(n_users, width)
    scores = parts[0].scores.new_full((n_users, width), -torch.inf)
    for part, index in zip(parts, rows, strict=True):
        items[index] = torch.nn.functional.pad(part.items, (0, width - part.items.shape[1]))
        scores[index] = torch.nn.functional.pad(part.scores, (0, width - part.items.shape[1]), value=-torch.inf)
    return ItemLists(items, scores, parts[0].n_items, min(part.in_order for part in parts))


def every_item(scores: torch.Tensor) -> ItemLists:
    """All items as lists, of scores float32 ``[users, n_items]``."""
    items = torch.arange(scores.shape[1], device=scores.device).expand_as(scores)
    return ItemLists(items, scores, scores.shape[1])


def best_of_every_item(scores: torch.Tensor, k: int, leaf_ranks: torch.Tensor, id_of_item: torch.Tensor) -> ItemLists:
    """The best items where all were scored: k of each user at least, and enough that k IDs are among them.

    Args:
        scores: float32 ``[users, n_items]``, -inf for what nobody is given.
        k: how far rankings are looked at.
        leaf_ranks: int64 ``[n_items]``, as :func:`~recbole_gr.decoding.tie_breaking.leaf_ranks` gives them.
        id_of_item: int64 ``[n_items]``, equal where items share an ID.
    """
    ordered = order_within_leaves(scores, leaf_ranks) if leaf_ranks.any() else scores
    k = min(k, scores.shape[1])
    first = ordered.topk(k, dim=1).indices  # among equal scores those that RecBole's call would have
    rest, width = ordered.scatter(1, first, -torch.inf), 4 * k
    while True:
        more = rest.topk(min(width, scores.shape[1]) - k, dim=1).indices
        items = torch.cat([first, more], dim=1)
        found = scores.gather(1, items)
        ids = id_of_item[items].masked_fill(found == -torch.inf, -1).sort(dim=1).values
        n_ids = ((ids[:, 1:] != ids[:, :-1]) & (ids[:, 1:] >= 0)).sum(dim=1) + (ids[:, 0] >= 0)
        if width >= scores.shape[1] or bool(((n_ids >= k) | (found == -torch.inf).any(dim=1)).all()):
            return ItemLists(items.masked_fill(found == -torch.inf, 0), found, scores.shape[1], in_order=k)
        width *= 4


@dataclass(frozen=True)
class RankedLists:
    """Lists as the evaluation looks at them: ordered, with what RecBole's own calls would make of equal scores.

    Args:
        lists: what was found; what is excluded is not in it.
        leaf_ranks: int64 ``[n_items]``, as :func:`~recbole_gr.decoding.tie_breaking.leaf_ranks` gives them.
    """

    lists: ItemLists
    leaf_ranks: torch.Tensor

    def __len__(self) -> int:
        return len(self.lists)

    @property
    def n_items(self) -> int:
        """Number of items, padding included."""
        return self.lists.n_items

    def scores(self) -> torch.Tensor:
        """The scores of the lists with their ties broken, ``[users, w]``."""
        ranks = self.leaf_ranks[self.lists.items]
        if not self.leaf_ranks.any():
            return self.lists.scores
        return order_within_leaves(self.lists.scores, ranks, largest=self.leaf_ranks.max())

    def top(self, k: int, targets: tuple[torch.Tensor, torch.Tensor] | None = None) -> torch.Tensor:
        """The first k items of each user: int64 ``[users, k]``.

        A row in which scores tie among the first, or with fewer than k items, is ranked as RecBole would rank it: from its scores of all
        items by ``torch.topk``, whose order of equal scores is its own, and a target that was not found is the last of all.

        Args:
            k: at most the number of items.
            targets: rows and items, int64 each; None: there are none.
        """
        lists = self.lists
        if lists.in_order >= k:
            top = lists.items[:, :k]
            unsure = top == 0
        else:
            missing = (0, max(0, k + 1 - lists.items.shape[1]))
            values, place = torch.nn.functional.pad(self.scores(), missing, value=-torch.inf).topk(k + 1, dim=1)
            top = torch.nn.functional.pad(lists.items, missing).gather(1, place[:, :k])
            unsure = (values[:, 1:] == values[:, :-1]) & (values[:, :-1] > -torch.inf) | (values[:, :k] == -torch.inf)
        rows = torch.nonzero(unsure.any(dim=1)).squeeze(1)
        for part in rows.split(max(1, SCORES_AT_ONCE // lists.n_items)):
            top = top.index_copy(0, part, self.whole_rows(part, targets).topk(k, dim=1).indices)
        return top

    def whole_rows(self, rows: torch.Tensor, targets: tuple[torch.Tensor, torch.Tensor] | None = None) -> torch.Tensor:
        """Scores of all items as RecBole's metrics need them, ties broken: ``[rows, n_items]``.

        RecBole takes the k largest scores of each row; in a row with fewer than k items found it would fill up with
        items of score -inf, the target perhaps among them, and count a hit that nobody recommended. So a target that was not found is
        the last of all.

        Args:
            rows: int64, of which users.
            targets: as in :meth:`top`.
        """
        dense = self.lists.dense(rows)
        missed = None
        if targets is not None:
            here = torch.full((len(self),), -1, dtype=torch.long, device=rows.device)
            here[rows] = torch.arange(len(rows), device=rows.device)
            row, item = here[targets[0]], targets[1]
            row, item = row[row >= 0], item[row >= 0]
            lost = dense[row, item] == -torch.inf
            missed = row[lost], item[lost]
        dense.clamp_(min=torch.finfo(dense.dtype).min)
        if missed is not None:
            dense[missed] = -torch.inf
        return order_within_leaves(dense, self.leaf_ranks) if self.leaf_ranks.any() else dense


@dataclass(frozen=True)
class TopItems:
    """The first items of rankings that are settled.

    Args:
        items: int64 ``[users, k]``, best first.
        n_items: number of items, padding included.
    """

    items: torch.Tensor
    n_items: int

    def __len__(self) -> int:
        return len(self.items)

    def top(self, k: int, targets: tuple[torch.Tensor, torch.Tensor] | None = None) -> torch.Tensor:
        """The first k items of each user: int64 ``[users, k]``; k is at most what there is."""
        return self.items[:, :k]
