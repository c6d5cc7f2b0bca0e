"""Settings of every network of ours that reads histories from arrays: of items, or of semantic IDs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from recbole_gr.settings.field import Fault, RunValues, setting
from recbole_gr.settings.training import TrainingSettings


class HistoryModelSettings(TrainingSettings):
    """How a network over histories is run; a model with ``loss_positions`` declares which of its values is the default."""

    title: ClassVar[str] = "Networks over histories"

    torch_compile: bool = setting(False, "Compile the network for training and scoring.", "training")
    train_precision: Literal["auto", "float32", "bfloat16"] = setting(
        "auto",
        "Of the matrix products of training; auto: bfloat16 on a GPU or CPU that has them in hardware, which is several times "
        "faster. Ranking has precision.",
        "training",
    )

    @classmethod
    def conflicts(cls, run: RunValues) -> Iterator[Fault]:
        if run["loss_positions"] == "all":
            for key in ("benchmark_filename", "transform"):
                if run[key] is not None:
                    yield Fault(
                        "loss_positions", "all", f"must be last with {key}={run[key]!r}, which is about single samples"
                    )
