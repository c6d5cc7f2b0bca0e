"""Settings that every model has that generates semantic IDs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from recbole_gr.data.settings import SemanticIDSettings
from recbole_gr.settings.field import Fault, RunValues, setting
from recbole_gr.settings.protocol import LIST_METRICS
from recbole_gr.settings.training import DecodingSettings, TrainingSettings


class SemanticIDModelSettings(SemanticIDSettings, TrainingSettings, DecodingSettings):
    """How a network over semantic IDs is run; a model adds the settings of its own network."""

    title: ClassVar[str] = "Models of semantic IDs"

    torch_compile: bool = setting(False, "Compile the network for training and scoring.", "training")
    train_precision: Literal["auto", "float32", "bfloat16"] = setting(
        "auto",
        "Of the matrix products of training; auto: bfloat16 on a GPU or CPU that has them in hardware, which is several times "
        "faster. Ranking has precision.",
        "training",
    )
    decoding: Literal["constrained", "free"] = setting(
        "constrained", "constrained: only IDs of items can be generated; free: any codes.", "decoding"
    )

    @classmethod
    def conflicts(cls, run: RunValues) -> Iterator[Fault]:
        if run["loss_positions"] == "all":
            for key in ("benchmark_filename", "transform"):
                if run[key] is not None:
                    yield Fault(
                        "loss_positions", "all", f"must be last with {key}={run[key]!r}, which is about single samples"
                    )
        if run["decoding"] != "free":
            return
        if run["beam_certify"]:
            yield Fault("beam_certify", True, "needs decoding=constrained; the free-form search space has no end")
        names = [run["metrics"]] if isinstance(run["metrics"], str) else run["metrics"]
        listed = {metric.lower() for metric in names} & LIST_METRICS
        if listed:
            lists = ", ".join(sorted(listed))
            yield Fault("metrics", lists, "needs k items for every user, which decoding=free cannot promise")
