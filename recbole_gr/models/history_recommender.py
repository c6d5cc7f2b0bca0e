"""What all recommenders of ours have in common that read a user's history: precision, and how a history is cut."""

from contextlib import AbstractContextManager
from typing import Any

import torch
from recbole.config import Config
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType

from recbole_gr.data.dataloader import TrainingBatch
from recbole_gr.utils.devices import computes_bfloat16


class HistoryRecommender(SequentialRecommender):
    """A sequential recommender that is trained by :class:`~recbole_gr.data.dataloader.LengthGroupedTrainDataLoader`.

    Its dataset is a :class:`~recbole_gr.data.dataset.HistoryDataset` and its trainer a
    :class:`~recbole_gr.models.history_trainer.HistoryTrainer`.
    """

    input_type = InputType.POINTWISE

    #: What of the state has a row for each item, by name; None: it is told by shapes and names, as for RecBole's models.
    item_rows: tuple[str, ...] | None = None
    #: As ``item_rows``, of users.
    user_rows: tuple[str, ...] = ()

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.precision: str = config["precision"]
        if self.precision == "auto":
            has_bfloat16 = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
            self.precision = "bfloat16" if has_bfloat16 else "float32"
        # neither checkpoints from before it was a setting nor language models have it
        self.train_precision: str = config["train_precision"] or self.precision
        if self.train_precision == "auto":
            self.train_precision = "bfloat16" if computes_bfloat16(self.device) else "float32"

    def loss_terms(self, interaction: Interaction) -> int | None:
        """How many terms the loss of a batch is the mean of: where processes share a batch, what the loss of each weighs.

        Returns:
            None: the loss is a share of that of the whole batch already.
        """
        if not getattr(self, "at_every_item", False):
            return len(interaction)
        return int((getattr(interaction, "on_cpu", interaction)[self.TARGET_LIST] > 0).sum())

    @classmethod
    def gives_lists(cls, whole_rows: bool) -> bool:
        """Whether the model ranks by ``ranked(interaction, seen, most)``, in lists, where whole rows of scores are wanted or not."""
        return False

    def autocast(self) -> AbstractContextManager[Any]:
        """Within, what ``precision`` asks for."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")

    def training_autocast(self) -> AbstractContextManager[Any]:
        """Within, what ``train_precision`` asks for."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.train_precision == "bfloat16")

    def trimmed_history(
        self, interaction: Interaction, rows: torch.Tensor | slice = slice(None)
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Histories of some rows of a batch, trimmed to the longest of them.

        Returns:
            Item ids int64 ``[rows, t]``, oldest first; their lengths int64 ``[rows]``.
        """
        lengths = interaction[self.ITEM_SEQ_LEN][rows]
        if isinstance(interaction, TrainingBatch):  # whose histories are; to look how long they are a GPU would wait
            return interaction[self.ITEM_SEQ][rows], lengths
        return interaction[self.ITEM_SEQ][rows, : int(lengths.max())], lengths
