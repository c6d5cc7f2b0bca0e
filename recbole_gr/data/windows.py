"""Training samples with a target at every position: the users' sequences, cut into windows."""

from typing import Any

import torch
from recbole.config import Config
from recbole.data.interaction import Interaction

from recbole_gr.utils.arrays import last_of_each, padded_stretches, ragged


def target_list_field(config: Config) -> str:
    """Name of the column that says which item follows each position of a window."""
    return config["ITEM_ID_FIELD"] + "_target" + config["LIST_SUFFIX"]


class Windows:
    """Windows over the training sequences: every training interaction but a user's first is a target exactly once.

    A user's sequence has one position for each item but the last. It is cut into as few windows of at most ``max_length``
    positions as there can be. One of them may be shorter; its place among the user's windows is drawn for each epoch, so
    that no item always begins a window. How many windows of which length there are is the same in every epoch.

    An interaction that lies between those of the training part, but is not of it, is read and is no target, as it is in
    the histories that RecBole makes.

    Args:
        dataset: the training part, a :class:`~recbole_gr.data.dataset.HistoryDataset`.
        max_length: positions of a window at most.

    Attributes:
        n_targets: targets of an epoch.
        longest: positions of the longest window.
    """

    def __init__(self, dataset: Any, max_length: int) -> None:
        feat, config = dataset.inter_feat, dataset.config
        self.user_field, self.length_field = dataset.uid_field, dataset.item_list_length_field
        self.target_field = target_list_field(config)
        self.max_length = max_length

        target_row, order = feat[dataset.history_end_field].sort()
        self.items = dataset.item_sequence
        self.lists = dataset.list_columns
        self.targets = torch.zeros_like(self.items)
        self.targets[target_row] = self.items[target_row]
        self.targets_before = torch.nn.functional.pad((self.targets > 0).cumsum(0), (1, 0))
        self.n_targets = len(target_row)

        last = last_of_each(dataset.first_row[target_row])
        self.user = feat[dataset.uid_field][order[last]]
        self.start = dataset.first_row[target_row[last]]
        self.positions = target_row[last] - self.start
        self.longest = min(int(self.positions.max()), max_length) if len(self.positions) else 0

    def cut(self, generator: torch.Generator | None) -> torch.Tensor:
        """The windows of an epoch, those of one user after another.

        Args:
            generator: draws which window of a user is the shorter one; None: the last.

        Returns:
            int64 ``[windows, 4]``: user, where in ``items`` the window starts, its positions, its targets.
        """
        n_windows = -(-self.positions // self.max_length)
        short = n_windows - 1
        if generator is not None:
            short = (torch.rand(len(short), generator=generator, dtype=torch.float64) * n_windows).long()
        missing = n_windows * self.max_length - self.positions
        owner, number = ragged(n_windows)
        short, missing = short[owner], missing[owner]
        start = self.start[owner] + number * self.max_length - (number > short) * missing
        length = self.max_length - (number == short) * missing
        n_targets = self.targets_before[start + length + 1] - self.targets_before[start + 1]
        return torch.stack([self.user[owner], start, length, n_targets], dim=1)[n_targets > 0]

    def __getitem__(self, window: torch.Tensor) -> Interaction:
        """Windows as a batch.

        Args:
            window: int64 ``[b, 4]``, of :meth:`cut`.

        Returns:
            The users ``[b]``, items ``[b, t]`` and their number ``[b]``, and at :func:`target_list_field` the items that
            follow each, ``[b, t]``: all int64, with 0 behind the items, and where an item that follows is no target. Of a
            :class:`~recbole_gr.data.dataset.TimedHistoryDataset` also the times of the items.
        """
        user, start, length, _ = window.unbind(1)
        width = int(length.max())
        return Interaction(
            {
                self.user_field: user,
                **{field: padded_stretches(values, start, length, width) for field, values in self.lists.items()},
                self.length_field: length,
                self.target_field: padded_stretches(self.targets, start + 1, length, width),
            }
        )
