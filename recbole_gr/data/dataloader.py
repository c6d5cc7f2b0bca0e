"""The training loader of the generative models: batches of like length, which keep what a model must know on the CPU."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from recbole.data.dataloader import TrainDataLoader
from recbole.data.interaction import Interaction

from recbole_gr.data.batches import Batches, LengthGroupedBatches, WindowBatches
from recbole_gr.data.samples import AUGMENTATIONS
from recbole_gr.data.windows import Windows


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

    @classmethod
    def of(cls, batch: Interaction) -> "TrainingBatch":
        """A batch on the CPU, with what a :class:`TrainingBatch` has beside it."""
        return cls(batch.interaction)

    def to(self, device: torch.device | str, selected_field: Any = None) -> Interaction:
        """As RecBole's; but after a copy to a GPU that may not overlap the CPU waits until all before it is computed."""
        if selected_field is not None:
            return super().to(device, selected_field)
        moved = TrainingBatch({name: column.to(device, non_blocking=True) for name, column in self.interaction.items()})
        moved.on_cpu = self.on_cpu
        return moved


class LengthGroupedTrainDataLoader(TrainDataLoader):
    """RecBole's training loader with batches of like length; workers (``worker``) are started with spawn.

    With ``loss_positions: all`` a batch is one of :class:`~recbole_gr.data.windows.Windows`, else of the samples that
    ``augmentation`` names.
    """

    @property
    def samples(self) -> Any:
        """What batches are made of; found on demand, for a loaded loader is given another config."""
        if self.config["loss_positions"] == "all":
            return Windows(self._dataset, self._dataset.max_item_list_len)
        return AUGMENTATIONS[self.config["augmentation"]](self._dataset)

    @property
    def batches(self) -> Batches:
        """The batches of the next epoch; made on demand, as :attr:`samples`."""
        return self._batches(self.samples)

    def _batches(self, samples: Any) -> Batches:
        distributed = not self.config["single_spec"]
        kind = WindowBatches if isinstance(samples, Windows) else LengthGroupedBatches
        return kind(
            samples,
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
        workers, samples = self.config["worker"], self.samples
        collate = TrainingBatch.of if isinstance(samples, Windows) else _Trimmed(self._dataset, self.transform)
        return iter(
            torch.utils.data.DataLoader(
                samples,
                batch_size=None,  # the sampler brings whole batches
                sampler=self._batches(samples),
                collate_fn=collate,
                num_workers=workers,
                multiprocessing_context="spawn" if workers else None,
                generator=torch.Generator(),  # seeds the workers, which use no random numbers; ours is for the batches
            )
        )


class _Trimmed:
    """What a worker needs to finish a batch; the loader itself holds a generator, which cannot be sent to it."""

    def __init__(self, dataset: Any, transform: Callable[..., Interaction]) -> None:
        self.dataset, self.transform = dataset, transform
        self.history, self.length = dataset.iid_field + dataset.config["LIST_SUFFIX"], dataset.item_list_length_field

    def __call__(self, sample: Interaction) -> TrainingBatch:
        batch = self.transform(self.dataset, sample).interaction
        batch[self.history] = batch[self.history][:, : int(batch[self.length].max())]
        return TrainingBatch(batch)
