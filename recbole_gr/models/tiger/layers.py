"""The parts of a T5 (Raffel et al., JMLR 2020): attention with relative position bias, feed-forward, encoder, decoder.

Shapes: ``b`` users, ``t`` history positions, ``r`` candidates or beams per user, ``l`` codes per candidate,
``d`` d_model, ``h`` heads, ``e`` d_kv. The decoder always works on ``[b, r, l, d]``: training has r = 1, scoring given
items r = items per user, the beam search l = 1. So the ``r`` candidates of a user share one encoder pass, and its keys
and values are never repeated.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

#: Keys and values of one layer.
KeysValues = tuple[torch.Tensor, torch.Tensor]


def of_parents(past: list[KeysValues], parent: torch.Tensor) -> list[KeysValues]:
    """Keys and values of beams that continue others.

    Args:
        past: of every layer, each ``[users * beams before, h, past, e]``.
        parent: int64 ``[users, beams]``, which of its user's beams each of them continues.

    Returns:
        list: of every layer, each ``[users * beams, h, past, e]``.
    """
    width = len(past[0][0]) // len(parent)
    source = (parent + torch.arange(len(parent), device=parent.device).unsqueeze(1) * width).flatten()
    return [(keys.index_select(0, source), values.index_select(0, source)) for keys, values in past]


class Dropout(nn.Dropout):
    """Dropout that takes four decisions from one random number on a CPU, where drawing them is a quarter of the time.

    The rate is rounded to 1/65536. On other devices it is torch's own.
    """

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0 or hidden.device.type != "cpu":
            return super().forward(hidden)
        numbers = torch.empty(-(-hidden.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        threshold = round(self.p * 2**16) - 2**15
        kept = (numbers.view(torch.int16)[: hidden.numel()] >= threshold).view(hidden.shape)
        return hidden * kept * (1 / (1 - self.p))


class RelativePositionBias(nn.Module):
    """A learned bias per head and bucket of distance (T5, section 2.1).

    Half of the buckets hold one distance each, the other half grow logarithmically up to ``max_distance``;
    ``bidirectional`` gives each sign its own buckets.
    """

    def __init__(self, n_heads: int, bidirectional: bool, n_buckets: int = 32, max_distance: int = 128) -> None:
        super().__init__()
        self.bidirectional, self.n_buckets, self.max_distance = bidirectional, n_buckets, max_distance
        self.bias = nn.Embedding(n_buckets, n_heads)

    def forward(self, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Bias of the query positions (1-D tensor, int64) to the key positions: ``[1, h, queries, keys]``."""
        return self.bias(self.bucket(keys[None, :] - queries[:, None])).permute(2, 0, 1).unsqueeze(0)

    def bucket(self, distance: torch.Tensor) -> torch.Tensor:
        """Bucket numbers for key position minus query position."""
        buckets = self.n_buckets
        offset: torch.Tensor | int = 0
        if self.bidirectional:
            buckets //= 2
            offset = (distance > 0).long() * buckets
            distance = distance.abs()
        else:
            distance = (-distance).clamp(min=0)
        exact = buckets // 2
        log_step = torch.log(distance.clamp(min=1).float() / exact) / math.log(self.max_distance / exact)
        far = (exact + (log_step * (buckets - exact)).long()).clamp(max=buckets - 1)
        return offset + torch.where(distance < exact, distance, far)


class Attention(nn.Module):
    """Multi-head attention without scaling and without biases, as T5 has it."""

    def __init__(self, d_model: int, n_heads: int, d_kv: int, dropout: float) -> None:
        super().__init__()
        self.n_heads, self.d_kv, self.dropout = n_heads, d_kv, dropout
        self.query = nn.Linear(d_model, n_heads * d_kv, bias=False)
        self.key_value = nn.Linear(d_model, 2 * n_heads * d_kv, bias=False)
        self.output = nn.Linear(n_heads * d_kv, d_model, bias=False)

    def keys_values(self, hidden: torch.Tensor) -> KeysValues:
        """``[b, t, d]`` -> keys and values, each ``[b, h, t, e]``."""
        both = self.key_value(hidden).view(*hidden.shape[:2], 2, self.n_heads, self.d_kv)
        keys, values = both.permute(2, 0, 3, 1, 4).unbind(0)
        return keys, values

    def queries(self, hidden: torch.Tensor) -> torch.Tensor:
        """``[b, q, d]`` -> ``[b, h, q, e]``."""
        return self.query(hidden).view(*hidden.shape[:2], self.n_heads, self.d_kv).transpose(1, 2)

    def forward(self, hidden: torch.Tensor, keys_values: KeysValues, bias: torch.Tensor) -> torch.Tensor:
        """``[b, q, d]`` attends to keys and values ``[b, h, t, e]`` with ``bias`` broadcast to ``[b, h, q, t]``."""
        query = self.queries(hidden)
        dropout = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(query, *keys_values, attn_mask=bias, dropout_p=dropout, scale=1.0)
        return self.output(out.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """``relu``: two layers (T5 1.0); ``gated``: GELU times a linear gate (T5 1.1)."""

    def __init__(self, d_model: int, d_ff: int, kind: str, dropout: float) -> None:
        super().__init__()
        self.gate = nn.Linear(d_model, d_ff, bias=False) if kind == "gated" else None
        self.inner = nn.Linear(d_model, d_ff, bias=False)
        self.outer = nn.Linear(d_ff, d_model, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        inner = self.inner(hidden)
        inner = F.relu(inner) if self.gate is None else F.gelu(self.gate(hidden), approximate="tanh") * inner
        return self.outer(self.dropout(inner))


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each pre-normed and residual."""

    def __init__(self, *, d_model: int, n_heads: int, d_kv: int, d_ff: int, feed_forward: str, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(d_model, eps=1e-6)
        self.attention = Attention(d_model, n_heads, d_kv, dropout)
        self.feed_forward_norm = nn.RMSNorm(d_model, eps=1e-6)
        self.feed_forward = FeedForward(d_model, d_ff, feed_forward, dropout)
        self.dropout = Dropout(dropout)

    def forward(self, hidden: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return self.step(hidden, bias, None)[0]

    def step(self, hidden: torch.Tensor, bias: torch.Tensor, past: KeysValues | None) -> tuple[torch.Tensor, KeysValues]:
        """Go on behind the ``past`` positions: ``[b, t, d]`` and the keys and values of all positions so far."""
        normed = self.attention_norm(hidden)
        present = self.attention.keys_values(normed)
        if past is not None:
            present = torch.cat([past[0], present[0]], dim=2), torch.cat([past[1], present[1]], dim=2)
        hidden = hidden + self.dropout(self.attention(normed, present, bias))
        return hidden + self.dropout(self.feed_forward(self.feed_forward_norm(hidden))), present


class DecoderLayer(nn.Module):
    """Causal self-attention within a candidate, cross-attention to the user's history, feed-forward."""

    def __init__(self, *, d_model: int, n_heads: int, d_kv: int, d_ff: int, feed_forward: str, dropout: float) -> None:
        super().__init__()
        self.self_attention_norm = nn.RMSNorm(d_model, eps=1e-6)
        self.self_attention = Attention(d_model, n_heads, d_kv, dropout)
        self.cross_attention_norm = nn.RMSNorm(d_model, eps=1e-6)
        self.cross_attention = Attention(d_model, n_heads, d_kv, dropout)
        self.feed_forward_norm = nn.RMSNorm(d_model, eps=1e-6)
        self.feed_forward = FeedForward(d_model, d_ff, feed_forward, dropout)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        hidden: torch.Tensor,
        self_bias: torch.Tensor,
        history: KeysValues,
        history_bias: torch.Tensor,
        past: KeysValues | None = None,
    ) -> tuple[torch.Tensor, KeysValues]:
        """One layer.

        Args:
            hidden: ``[b, r, l, d]``.
            self_bias: ``[1, h, l, past + l]``, causal.
            history: keys and values of the history, ``[b, h, t, e]``.
            history_bias: ``[b, 1, 1, t]``, -inf at padding.
            past: keys and values of the candidate's earlier codes, ``[b * r, h, past, e]``.

        Returns:
            tuple: ``[b, r, l, d]``; the candidate's keys and values, this call's included.
        """
        b, r, length, d = hidden.shape
        normed = self.self_attention_norm(hidden).view(b * r, length, d)
        present = self.self_attention.keys_values(normed)
        if past is not None:
            present = torch.cat([past[0], present[0]], dim=2), torch.cat([past[1], present[1]], dim=2)
        attended = self.self_attention(normed, present, self_bias).view(b, r, length, d)
        hidden = hidden + self.dropout(attended)

        normed = self.cross_attention_norm(hidden).view(b, r * length, d)
        attended = self.cross_attention(normed, history, history_bias).view(b, r, length, d)
        hidden = hidden + self.dropout(attended)
        return hidden + self.dropout(self.feed_forward(self.feed_forward_norm(hidden))), present


class Encoder(nn.Module):
    """Stack over the history, bidirectional or ``causal``; one position bias for all layers."""

    def __init__(
        self,
        *,
        n_layers: int,
        d_model: int,
        n_heads: int,
        d_kv: int,
        d_ff: int,
        feed_forward: str,
        dropout: float,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.causal = causal
        self.position_bias = RelativePositionBias(n_heads, bidirectional=not causal)
        layer: dict[str, Any] = {
            **{"d_model": d_model, "n_heads": n_heads, "d_kv": d_kv},
            **{"d_ff": d_ff, "feed_forward": feed_forward, "dropout": dropout},
        }
        self.layers = nn.ModuleList(EncoderLayer(**layer) for _ in range(n_layers))
        self.norm = nn.RMSNorm(d_model, eps=1e-6)
        self.dropout = Dropout(dropout)

    def forward(self, hidden: torch.Tensor, padding_bias: torch.Tensor) -> torch.Tensor:
        """``[b, t, d]`` and ``[b, 1, 1, t]`` (0, or -inf at padding) -> ``[b, t, d]``."""
        position = torch.arange(hidden.shape[1], device=hidden.device)
        bias = self.position_bias(position, position).to(hidden.dtype)
        if self.causal:  # padding comes behind the items, which do not look there
            bias = bias.masked_fill(position[None, :] > position[:, None], -torch.inf)
        else:
            bias = bias + padding_bias
        hidden = self.dropout(hidden)
        for layer in self.layers:
            hidden = layer(hidden, bias)
        return self.dropout(self.norm(hidden))

    def step(self, hidden: torch.Tensor, past: list[KeysValues] | None = None) -> tuple[torch.Tensor, list[KeysValues]]:
        """Of a causal stack: go on with ``[b, t, d]`` behind the ``past`` positions.

        Returns:
            tuple: ``[b, t, d]``; keys and values of every layer, to be passed as ``past`` of the next call.
        """
        n_past = 0 if past is None else past[0][0].shape[2]
        keys = torch.arange(n_past + hidden.shape[1], device=hidden.device)
        queries = keys[n_past:]
        bias = self.position_bias(queries, keys).to(hidden.dtype)
        bias = bias.masked_fill(keys[None, :] > queries[:, None], -torch.inf)
        hidden = self.dropout(hidden)
        presents = []
        layers: Iterable[Any] = self.layers
        for index, layer in enumerate(layers):
            hidden, present = layer.step(hidden, bias, None if past is None else past[index])
            presents.append(present)
        return self.dropout(self.norm(hidden)), presents


class Decoder(nn.Module):
    """Causal stack over the codes of a candidate, attending to the history."""

    def __init__(
        self, *, n_layers: int, d_model: int, n_heads: int, d_kv: int, d_ff: int, feed_forward: str, dropout: float
    ) -> None:
        super().__init__()
        self.position_bias = RelativePositionBias(n_heads, bidirectional=False)
        layer: dict[str, Any] = {
            **{"d_model": d_model, "n_heads": n_heads, "d_kv": d_kv},
            **{"d_ff": d_ff, "feed_forward": feed_forward, "dropout": dropout},
        }
        self.layers = nn.ModuleList(DecoderLayer(**layer) for _ in range(n_layers))
        self.norm = nn.RMSNorm(d_model, eps=1e-6)
        self.dropout = Dropout(dropout)

    def history_keys_values(self, encoded: torch.Tensor) -> list[KeysValues]:
        """Keys and values of the encoder's output for every layer, computed once per user."""
        layers: Iterable[Any] = self.layers
        return [layer.cross_attention.keys_values(encoded) for layer in layers]

    def forward(
        self,
        hidden: torch.Tensor,
        histories: list[KeysValues],
        history_bias: torch.Tensor,
        past: list[KeysValues] | None = None,
    ) -> tuple[torch.Tensor, list[KeysValues]]:
        """Run ``[b, r, l, d]`` new positions after the ``past`` ones.

        Returns:
            tuple: ``[b, r, l, d]``; keys and values of every layer, to be passed as ``past`` of the next call.
        """
        n_past = 0 if past is None else past[0][0].shape[2]
        keys = torch.arange(n_past + hidden.shape[2], device=hidden.device)
        queries = keys[n_past:]
        bias = self.position_bias(queries, keys).to(hidden.dtype)
        bias = bias.masked_fill(keys[None, :] > queries[:, None], -torch.inf)
        hidden = self.dropout(hidden)
        presents = []
        for index, layer in enumerate(self.layers):
            layer_past = None if past is None else past[index]
            hidden, present = layer(hidden, bias, histories[index], history_bias, layer_past)
            presents.append(present)
        return self.dropout(self.norm(hidden)), presents
