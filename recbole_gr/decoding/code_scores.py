"""Scores of items whose codes are independent of each other: sums of one log-probability per digit."""

from collections.abc import Iterator

import torch
from torch.nn import functional as F

#: Items that are scored at a time, for all users of a call.
ITEMS_AT_ONCE = 1 << 12


class CodeScores:
    """The log-probability of an item is the sum of those of its codes, looked up in a table of each user.

    A user's table has ``V`` numbers, those of all codes of all digits one after the other. Items are added up for all
    users of a call at once, digit by digit, so that memory is ``users x V`` and ``users x`` :data:`ITEMS_AT_ONCE`,
    whatever the number of items and digits.

    Args:
        places: int ``[n, m]``, where in a table the m codes of each item stand.
    """

    def __init__(self, places: torch.Tensor) -> None:
        self.places = places.int()

    def __len__(self) -> int:
        return len(self.places)

    def chunks(self, tables: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield ``(slice of items, scores)``, the scores float32 ``[items, users]``.

        Args:
            tables: float32 ``[users, V]``, log-probabilities.
        """
        by_code = tables.t().contiguous()  # a code's users side by side: an item is the sum of m rows
        for start in range(0, len(self.places), ITEMS_AT_ONCE):
            here = slice(start, start + ITEMS_AT_ONCE)
            yield here, F.embedding_bag(self.places[here], by_code, mode="sum")

    def of_all(self, tables: torch.Tensor) -> torch.Tensor:
        """Scores of all items, float32 ``[users, n]``; ``tables`` as in :meth:`chunks`."""
        scores = tables.new_empty(len(tables), len(self.places))
        for here, of_items in self.chunks(tables):
            scores[:, here] = of_items.t()
        return scores

    def best(self, tables: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The k best items of each user, without the scores of all: scores float32 and items int64, ``[users, k]``."""
        values = tables.new_empty(len(tables), 0)
        items = torch.empty(len(tables), 0, dtype=torch.long, device=tables.device)
        for here, of_items in self.chunks(tables):
            found, place = of_items.t().contiguous().topk(min(k, len(of_items)), dim=1)
            values, items = torch.cat([values, found], dim=1), torch.cat([items, place + here.start], dim=1)
            values, kept = values.topk(min(k, values.shape[1]), dim=1)
            items = items.gather(1, kept)
        return values, items

    def of_some(self, tables: torch.Tensor, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Scores of pairs of a user and an item, float32 ``[pairs]``.

        Args:
            tables: float32 ``[users, V]``.
            users, items: int64 ``[pairs]``.
        """
        places = self.places.index_select(0, items)
        if tables.numel() > torch.iinfo(places.dtype).max:
            places = places.long()
        places += (users * tables.shape[1]).to(places.dtype).unsqueeze(1)
        return F.embedding_bag(places, tables.reshape(-1, 1), mode="sum").squeeze(1)
