"""Settings of SASRecCausal: the names of RecBole's SASRec where there are some."""

from __future__ import annotations

from typing import ClassVar

from recbole_gr.models.item_sequence_settings import ItemSequenceSettings
from recbole_gr.settings.field import setting


class SASRecCausalSettings(ItemSequenceSettings):
    """SASRec's network."""

    title: ClassVar[str] = "SASRecCausal"

    inner_size: int = setting(256, "Width within the feed-forward layer.", "model", ge=1)
    hidden_dropout_prob: float = setting(
        0.5, "The probability of an element to be zeroed, of what goes in and behind each layer.", "model", ge=0, lt=1
    )
    attn_dropout_prob: float = setting(0.5, "The probability of an attention weight to be zeroed.", "model", ge=0, lt=1)
    layer_norm_eps: float = setting(1e-12, "Added to the variance that a norm divides by.", "model", gt=0)
    initializer_range: float = setting(0.02, "The standard deviation of the first weights.", "model", gt=0)
