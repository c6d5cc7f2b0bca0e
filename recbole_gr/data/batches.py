"""How an epoch is divided into batches of samples of like length, so that little of a batch is padding."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from recbole_gr.data.samples import Samples
from recbole_gr.data.windows import Windows
from recbole_gr.utils.arrays import draw_without_replacement

BATCHES_SORTED_TOGETHER = 50


class Batches(ABC):
    """The batches of one epoch after the other, as one process has them.

    In distributed training all ranks draw the same batches (same seed), and each takes its share of every batch, of like lengths
    as the others': together they train as one process does. A batch too small to be shared is everybody's.

    Args:
        n_samples: samples of an epoch.
        n_batches: batches of an epoch, those of all processes together.
        generator: the source of random numbers.
        shuffle: if False, samples keep their order and only neighbours share a batch.
        rank: the process.
        world_size: the number of processes.
    """

    def __init__(
        self,
        n_samples: int,
        n_batches: int,
        generator: torch.Generator,
        *,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.n_samples, self.n_batches, self.generator, self.shuffle = n_samples, n_batches, generator, shuffle
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[torch.Tensor]:
        # a generator, so that random numbers are drawn at the first batch: torch asks for iterators that it does not use
        batches = self.divide()
        order = torch.randperm(len(batches), generator=self.generator) if self.shuffle else torch.arange(len(batches))
        for batch in (batches[index] for index in order.tolist()):
            yield batch if len(batch) < self.world_size else batch[self.rank :: self.world_size]

    @abstractmethod
    def divide(self) -> Sequence[torch.Tensor]:
        """An epoch's batches, each what the samples take as an index."""


class LengthGroupedBatches(Batches):
    """Random batches of equally many samples, each of samples of like length.

    The samples are shuffled, every ``BATCHES_SORTED_TOGETHER`` batches of them are sorted by length and divided into
    batches, and the batches are shuffled.

    Args:
        samples: what batches are made of.
        batch_size: samples per batch, of all processes together.
        generator: the source of random numbers.
        epoch_samples: samples drawn per epoch, without replacement; None for all.
        **options: see :class:`Batches`.
    """

    def __init__(
        self,
        samples: Samples,
        batch_size: int,
        generator: torch.Generator,
        *,
        epoch_samples: int | None = None,
        **options: Any,
    ) -> None:
        self.samples, self.batch_size = samples, batch_size
        n_samples = min(epoch_samples or len(samples), len(samples))
        super().__init__(n_samples, -(-n_samples // batch_size), generator, **options)

    def divide(self) -> list[torch.Tensor]:
        """An epoch's batches, each sample numbers int64 ``[b]``."""
        if self.shuffle:
            drawn = draw_without_replacement(len(self.samples), self.n_samples, self.generator)
        else:
            drawn = torch.arange(self.n_samples)
        batches: list[torch.Tensor] = []
        for group in drawn.split(self.batch_size * BATCHES_SORTED_TOGETHER):
            if self.shuffle:
                group = group[self.samples.lengths(group).argsort(stable=True)]
            batches += group.split(self.batch_size)
        return batches


class WindowBatches(Batches):
    """Random batches of about equally many targets, each of windows of like length.

    The windows of an epoch are shuffled, sorted by length, divided where the number of targets up to there is nearest to
    an equal share, and the batches are shuffled. A batch holds at least one window, whatever ``batch_size`` is.

    Args:
        windows: what batches are made of.
        batch_size: targets per batch, of all processes together, on average at most.
        generator: the source of random numbers.
        epoch_samples: windows are drawn, without replacement, until they have so many targets; None for all.
        **options: see :class:`Batches`.
    """

    def __init__(
        self,
        windows: Windows,
        batch_size: int,
        generator: torch.Generator,
        *,
        epoch_samples: int | None = None,
        **options: Any,
    ) -> None:
        self.windows = windows
        n_targets = min(epoch_samples or windows.n_targets, windows.n_targets)
        super().__init__(n_targets, -(-n_targets // max(batch_size, windows.longest)), generator, **options)

    def divide(self) -> Sequence[torch.Tensor]:
        """An epoch's batches, each windows int64 ``[b, 4]``."""
        drawn = self.windows.cut(self.generator if self.shuffle else None)
        if self.shuffle:
            drawn = drawn[torch.randperm(len(drawn), generator=self.generator)]
        drawn = drawn[: torch.searchsorted(drawn[:, 3].cumsum(0), self.n_samples) + 1]
        if self.shuffle:
            drawn = drawn[drawn[:, 2].argsort(stable=True)]
        return drawn.tensor_split(equal_shares(drawn[:, 3], self.n_batches))


def equal_shares(amount: torch.Tensor, n_shares: int) -> torch.Tensor:
    """Where to cut a list so that the parts have about equal amounts, and none is empty.

    Args:
        amount: int64 ``[n]``, of each entry, above 0.
        n_shares: the number of parts, at most ``n``.

    Returns:
        int64 ``[n_shares - 1]``, the first entry of each part but the first.
    """
    up_to = amount.cumsum(0)
    part = torch.arange(1, max(n_shares, 1))
    cut = torch.searchsorted(2 * up_to - amount, 2 * part * amount.sum() // n_shares)
    cut = (cut - part).cummax(0).values + part
    return cut.clamp(min=part).minimum(len(amount) - n_shares + part)
