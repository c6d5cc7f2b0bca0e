"""What the users of a search may not be given, as pairs of a user and an item: memory and time grow with the pairs alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Exclusion:
    """Items that are left out, user by user, by their places in a trie's list of items, where those below a node are neighbours.

    Args:
        n_users: number of users.
        n_places: length of the list.
        keys: int64 ``[pairs]``, ``user * n_places + place`` of each pair, ascending, each once.
        allowed_before: int64 ``[n_places + 1]``, how many items that anybody may be given come before each place; None: all may be given.
    """

    n_users: int
    n_places: int
    keys: torch.Tensor
    allowed_before: torch.Tensor | None = None

    @classmethod
    def of(
        cls,
        place_of_item: torch.Tensor,
        users: int,
        seen: tuple[torch.Tensor, torch.Tensor],
        allowed: torch.Tensor | None = None,
    ) -> Exclusion:
        """From items to places.

        Args:
            place_of_item: int64 ``[n_items]``, where the list has each item; that of the padding item is of no account.
            users: number of users.
            seen: rows and items, int64 each: the user in ``rows[j]`` shall not be given ``items[j]``; the same may stand there twice.
            allowed: bool ``[n_items]``, the items that any user may be given; None: all.
        """
        rows, items = (index.to(place_of_item.device) for index in seen)
        counts, allowed_before = items > 0, None
        n_places = len(place_of_item) - 1
        if allowed is not None:
            counts = counts & allowed[items]
            of_place = torch.zeros(n_places + 1, dtype=torch.long, device=items.device)
            of_place[1 + place_of_item[1:]] = allowed[1:].long()
            allowed_before = of_place.cumsum(0)
        keys = (rows * n_places + place_of_item[items])[counts].unique()
        return cls(users, n_places, keys, allowed_before)

    def select(self, users: torch.Tensor) -> Exclusion:
        """That of some users, int64 indices, each at most once."""
        new_number = torch.full((self.n_users,), -1, dtype=torch.long, device=users.device)
        new_number[users] = torch.arange(len(users), device=users.device)
        number = new_number[self.keys // self.n_places]
        keys = (number * self.n_places + self.keys % self.n_places)[number >= 0].sort().values
        return Exclusion(len(users), self.n_places, keys, self.allowed_before)

    def between(self, begin: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        """How many items that anybody may be given stand from ``begin`` to ``end - 1``: int64, shaped as both."""
        return end - begin if self.allowed_before is None else self.allowed_before[end] - self.allowed_before[begin]

    def left_in(self, first: torch.Tensor, stretches: torch.Tensor) -> torch.Tensor:
        """How many items are left for each user in some stretches: int64 ``[users, n]``, 0 where the number is -1.

        Args:
            first: int64 ``[n + 1]``, stretch i is ``first[i]`` to ``first[i + 1] - 1``.
            stretches: int64 ``[users, n]``, numbers of stretches.
        """
        here = stretches.clamp(min=0)
        base = torch.arange(self.n_users, device=first.device).unsqueeze(1) * self.n_places
        begin, end = first[here], first[here + 1]
        gone = torch.searchsorted(self.keys, base + end) - torch.searchsorted(self.keys, base + begin)
        return (self.between(begin, end) - gone).masked_fill(stretches < 0, 0)

    def emptied(self, first: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Users, and stretches of which nothing is left for them but would be for others: two int64 ``[pairs]``, ascending.

        Args:
            first: as in :meth:`left_in`.
        """
        user, place = self.keys // self.n_places, self.keys % self.n_places
        stretch = torch.searchsorted(first, place, right=True) - 1
        n_stretches = len(first) - 1
        pairs, count = torch.unique_consecutive(user * n_stretches + stretch, return_counts=True)
        stretch = pairs % n_stretches
        full = count == self.between(first[stretch], first[stretch + 1])
        return pairs[full] // n_stretches, stretch[full]


def contains(ascending: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Whether values are among others, which ascend: bool, shaped as ``values``; int64 both."""
    if not len(ascending):
        return torch.zeros_like(values, dtype=torch.bool)
    place = torch.searchsorted(ascending, values).clamp(max=len(ascending) - 1)
    return ascending[place] == values
