"""Settings of SASRecBCE: those of RecBole's SASRec."""

from __future__ import annotations

from typing import ClassVar, Literal

from recbole_gr.settings.field import Settings, setting


class SASRecBCESettings(Settings):
    """RecBole's SASRec, and the loss of SASRec's paper."""

    title: ClassVar[str] = "SASRecBCE"

    n_layers: int = setting(2, "The number of transformer layers in transformer encoder.", "model", ge=1)
    n_heads: int = setting(2, "The number of attention heads for multi-head attention layer.", "model", ge=1)
    hidden_size: int = setting(64, "The number of features in the hidden state.", "model", ge=1)
    inner_size: int = setting(256, "The inner hidden size in feed-forward layer.", "model", ge=1)
    hidden_dropout_prob: float = setting(0.5, "The probability of an element to be zeroed.", "model", ge=0, lt=1)
    attn_dropout_prob: float = setting(0.5, "The probability of an attention score to be zeroed.", "model", ge=0, lt=1)
    hidden_act: str = setting("gelu", "The activation function in feed-forward layer.", "model")
    layer_norm_eps: float = setting(1e-12, "A value added to the denominator for numerical stability.", "model", gt=0)
    initializer_range: float = setting(0.02, "The standard deviation for normal initialization.", "model", gt=0)
    loss_type: Literal["BPR"] = setting(
        "BPR", "Makes RecBole draw an item per target; the loss is binary cross-entropy all the same.", "training"
    )
