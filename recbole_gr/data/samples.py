"""What a training epoch is made of where each sample has one target: the choices of ``augmentation``."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from recbole.data.interaction import Interaction

from recbole_gr.utils.arrays import last_of_each


class Samples(Protocol):
    """Numbered training samples, of which a batch is made from an index."""

    def __len__(self) -> int: ...

    def lengths(self, number: torch.Tensor) -> torch.Tensor:
        """What the samples' histories cost to read, int64 of the shape of ``number``."""

    def __getitem__(self, number: torch.Tensor) -> Interaction:
        """The samples of some numbers, int64 ``[b]``, as a batch."""


class Prefixes:
    """``prefix``, RecBole's: every training interaction but a user's first, with all items before it.

    Args:
        dataset: the training part, a :class:`~recbole_gr.data.dataset.HistoryDataset`.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.cost: torch.Tensor = dataset.sample_lengths

    def __len__(self) -> int:
        return len(self.dataset)

    def lengths(self, number: torch.Tensor) -> torch.Tensor:
        return self.cost[number]

    def __getitem__(self, number: torch.Tensor) -> Interaction:
        return self.dataset[number]


class LongestPrefixes(Prefixes):
    """``none``: one sample per user, the last training interaction."""

    def __init__(self, dataset: Any) -> None:
        super().__init__(dataset)
        end, order = dataset.inter_feat[dataset.history_end_field].sort()
        self.row = order[last_of_each(dataset.first_row[end])]

    def __len__(self) -> int:
        return len(self.row)

    def lengths(self, number: torch.Tensor) -> torch.Tensor:
        return super().lengths(self.row[number])

    def __getitem__(self, number: torch.Tensor) -> Interaction:
        return super().__getitem__(self.row[number])


class SubSequences:
    """``window``: all runs of two or more consecutive items; the last is the target, the others are the history.

    GRID's augmentation (arXiv 2507.22224). A training interaction with a history of n items is the target of n samples, of
    1 to n items of history. They are numbered one after the other, and what a number means is looked up.

    Args:
        dataset: the training part, a :class:`~recbole_gr.data.dataset.HistoryDataset`.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.numbers_to = dataset.inter_feat[dataset.item_list_length_field].cumsum(0)

    def __len__(self) -> int:
        return int(self.numbers_to[-1]) if len(self.numbers_to) else 0

    def lengths(self, number: torch.Tensor) -> torch.Tensor:
        return self._look_up(number)[1]

    def __getitem__(self, number: torch.Tensor) -> Interaction:
        return self.dataset.with_history_of(*self._look_up(number))

    def _look_up(self, number: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows of the dataset and lengths of the history."""
        row = torch.searchsorted(self.numbers_to, number, right=True)
        return row, self.dataset.inter_feat[self.dataset.item_list_length_field][row] - (self.numbers_to[row] - number) + 1


#: By the value of ``augmentation``; a model without that setting has None.
AUGMENTATIONS: dict[str | None, Callable[[Any], Samples]] = {
    None: Prefixes,
    "prefix": Prefixes,
    "window": SubSequences,
    "none": LongestPrefixes,
}
