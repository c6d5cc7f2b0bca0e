"""Settings of the models that score every item of the catalogue from one state of a history."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from recbole_gr.models.history_settings import HistoryModelSettings
from recbole_gr.settings.field import Fault, RunValues, setting


class ItemSequenceSettings(HistoryModelSettings):
    """How such a model is trained; a model adds the settings of its network."""

    title: ClassVar[str] = "Models over items"

    epochs: int = setting(
        25, "The number of training epochs; a few minutes on ml-100k and Amazon Beauty.", "training", resumable=True, ge=0
    )
    learning_rate: float | None = setting(0.002, "The highest learning rate.", "training", ge=0)
    loss_positions: Literal["last", "all"] = setting(
        "all",
        "last: a sample trains the item that follows its history; all: one pass over a sequence trains each of its items.",
        "training",
    )
    softmax: Literal["full", "sampled"] = setting(
        "full", "The loss is cross-entropy over all items (full), or over the target and n_negatives others.", "training"
    )
    n_negatives: int = setting(
        128, "With softmax: sampled, items drawn uniformly at each step, the same for all its targets.", "training", ge=1
    )
    similarity: Literal["dot", "cosine"] = setting(
        "dot", "An item's score: the product of its embedding with the state; or their cosine by temperature.", "model"
    )
    temperature: float = setting(0.05, "With similarity: cosine, what the cosine is divided by.", "model", gt=0)
    eval_batch_size: int = setting(1024, "Users per evaluation batch.", "runtime", ge=1)
    train_batch_size: int = setting(1024, "Samples per step, counted by their targets.", "training", ge=1)

    hidden_size: int = setting(64, "Width of the item embeddings and of the states.", "model", ge=1)
    n_layers: int = setting(2, "Layers of the network.", "model", ge=1)
    n_heads: int = setting(2, "Attention heads, which share hidden_size.", "model", ge=1)

    @classmethod
    def conflicts(cls, run: RunValues) -> Iterator[Fault]:
        if run["hidden_size"] % run["n_heads"]:
            yield Fault("n_heads", run["n_heads"], f"must divide hidden_size={run['hidden_size']}")

    @classmethod
    def idle(cls, run: RunValues) -> dict[str, str]:
        idle = {}
        if run["softmax"] == "full":
            idle["n_negatives"] = "softmax=full draws none"
        if run["similarity"] == "dot":
            idle["temperature"] = "similarity=dot has none"
        return idle
