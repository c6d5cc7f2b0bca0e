"""Training batches of histories of like length, so that little of a batch is padding."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from recbole.data.dataloader import TrainDataLoader
from recbole.data.interaction import Interaction

BATCHES_SORTED_TOGETHER = 50


class LengthGroupedBatches:
    """Random batches, each of samples of like length.

    The samples are shuffled, every ``BATCHES_SORTED_TOGETHER`` batches of them are sorted by length and divided into
    batches, and the batches are shuffled. In distributed training all ranks draw the same order (same seed) and take
    every ``world_size``-th batch of it, equally many: left-over batches are not used, too few are repeated.

    Args:
        lengths: int64 ``[samples]``, what each history costs to read.
        batch_size: samples per batch and process.
        generator: the source of random numbers.
        epoch_samples: samples drawn per epoch, without replacement; None for all.
        shuffle: if False, samples keep their order and only neighbours share a batch.
        rank: the process.
        world_size: the number of processes.
    """

    def __init__(
        self,
        lengths: torch.Tensor,
        batch_size: int,
        generator: torch.Generator,
        *,
        epoch_samples: int | None = None,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.lengths, self.batch_size, self.generator, self.shuffle = lengths, batch_size, generator, shuffle
        self.n_samples = min(epoch_samples or len(lengths), len(lengths))
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return -(-self.n_samples // self.batch_size) // self.world_size or 1

    def __iter__(self) -> Iterator[list[int]]:
        if self.shuffle:
            drawn = torch.randperm(len(self.lengths), generator=self.generator)[: self.n_samples]
        else:
            drawn = torch.arange(self.n_samples)
        batches: list[torch.Tensor] = []
        for group in drawn.split(self.batch_size * BATCHES_SORTED_TOGETHER):
            if self.shuffle:
                group = group[self.lengths[group].argsort(stable=True)]
            batches += group.split(self.batch_size)
        order = torch.randperm(len(batches), generator=self.generator) if self.shuffle else range(len(batches))
        mine = (list(order) * self.world_size)[self.rank :: self.world_size][: len(self)]
        # a generator, so that random numbers are drawn at the first batch: torch asks for iterators that it does not use
        yield from (batches[index].tolist() for index in mine)


class TrainingBatch(Interaction):
    """A batch that still knows, when it has been moved to a GPU, what it was on the CPU.

    What a model has to know before it can launch anything, as the length of its longest prompt, it reads there; of a
    tensor on the GPU it would have to wait for it.

    Attributes:
        on_cpu: the same batch, its tensors on the CPU.
    """

    on_cpu: Interaction

    def __init__(self, interaction: dict[str, torch.Tensor]) -> None:
        super().__init__(interaction)
        self.on_cpu = self

    def to(self, device: torch.device | str, selected_field: Any = None) -> Interaction:
        """As RecBole's; but after a copy to a GPU that may not overlap the CPU waits until all before it is computed."""
        if selected_field is not None:
            return super().to(device, selected_field)
        moved = TrainingBatch({name: column.to(device, non_blocking=True) for name, column in self.interaction.items()})
        moved.on_cpu = self.on_cpu
        return moved


class LengthGroupedTrainDataLoader(TrainDataLoader):
    """RecBole's training loader with :class:`LengthGroupedBatches`; workers (``worker``) are started with spawn."""

    @property
    def batches(self) -> LengthGroupedBatches:
        """The batches of the next epoch; made on demand, for a loaded loader is given another generator and config."""
        distributed = not self.config["single_spec"]
        return LengthGroupedBatches(
            self._dataset.sample_lengths,
            self.step,
            self.generator,
            epoch_samples=self.config["epoch_samples"],
            shuffle=self.shuffle,
            rank=torch.distributed.get_rank() if distributed else 0,
            world_size=torch.distributed.get_world_size() if distributed else 1,
        )

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[TrainingBatch]:
        workers = self.config["worker"]
        return iter(
            torch.utils.data.DataLoader(
                range(self.sample_size),  # type: ignore[arg-type]
                batch_sampler=self.batches,
                collate_fn=_Samples(self._dataset, self.transform, self.config["LIST_SUFFIX"]),
                num_workers=workers,
                multiprocessing_context="spawn" if workers else None,
                generator=torch.Generator(),  # seeds the workers, which use no random numbers; ours is for the batches
            )
        )


class _Samples:
    """What a worker needs to lay out a batch; the loader itself holds a generator, which cannot be sent to it."""

    def __init__(self, dataset: Any, transform: Callable[..., Interaction], suffix: str) -> None:
        self.dataset, self.transform = dataset, transform
        self.history, self.length = dataset.iid_field + suffix, dataset.item_list_length_field

    def __call__(self, index: list[int]) -> TrainingBatch:
        batch = self.transform(self.dataset, self.dataset[index]).interaction
        batch[self.history] = batch[self.history][:, : int(batch[self.length].max())]
        return TrainingBatch(batch)
