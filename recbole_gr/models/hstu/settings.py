"""Settings of HSTU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from recbole_gr.models.item_sequence_settings import ItemSequenceSettings
from recbole_gr.settings.field import Fault, RunValues, setting


class HSTUSettings(ItemSequenceSettings):
    """The network of HSTU."""

    title: ClassVar[str] = "HSTU"

    time_bias: bool = setting(
        True, "Attention knows how much time lies between two items, in buckets; False: their positions only.", "model"
    )
    time_buckets: int = setting(
        64,
        "With time_bias, the buckets; each reaches 1.35 times as far as the one before, the last one without end.",
        "model",
        ge=1,
    )
    hidden_dropout_prob: float = setting(
        0.5,
        "The probability of an element to be zeroed, of what goes in and of what each layer puts out.",
        "model",
        ge=0,
        lt=1,
    )
    attn_dropout_prob: float = setting(0.0, "The probability of an attention weight to be zeroed.", "model", ge=0, lt=1)
    layer_norm_eps: float = setting(1e-6, "Added to the variance that a norm divides by.", "model", gt=0)
    initializer_range: float = setting(0.02, "The standard deviation of the first weights.", "model", gt=0)

    @classmethod
    def conflicts(cls, run: RunValues) -> Iterator[Fault]:
        if run["time_bias"] and run["benchmark_filename"] is not None:
            words = "must be False with benchmark_filename, whose histories bring no exact times"
            yield Fault("time_bias", True, words)

    @classmethod
    def idle(cls, run: RunValues) -> dict[str, str]:
        return {} if run["time_bias"] else {"time_buckets": "time_bias=False"}
