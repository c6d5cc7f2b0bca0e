"""The parts of a T5 (Raffel et al., JMLR 2020): attention with relative position bias, feed-forward, encoder, decoder.

Shapes: ``b`` users, ``t`` history positions, ``r`` candidates or beams per user, ``l`` codes per candidate,
``d`` d_model, ``h`` heads, ``e`` d_kv. The decoder works on ``[b, r, l, d]``: r = 1 where a history has one target, r = t
where each of its items has one, r = items per user to score given ones; and on ``[b, r, d]`` in the beam search, which
generates one position of each beam after the other. So the ``r`` candidates of a user share one encoder pass, and its keys
and values are never repeated.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from recbole_gr.models.elementwise import Dropout, DropoutOfReLU, RMSNorm

#: Keys and values of one layer.
KeysValues = tuple[torch.Tensor, torch.Tensor]


#: Of one position that was generated, keys and values of one layer: ``[b, r, 2, h, e]``; r = 1 if a user's beams share it.
Generated = torch.Tensor


def of_parents(past: list[list[Generated]], parent: torch.Tensor) -> list[list[Generated]]:
    """What beams that continue others have generated, of every layer: ``parent`` is int64 ``[b, r]``, which beams of before."""
    source: torch.Tensor | None = None
    selected = []
    for layer in past:
        selected.append(list(layer))
        for position, generated in enumerate(layer):
            width = generated.shape[1]
            if width > 1:
                if source is None:
                    source = (parent + torch.arange(len(parent), device=parent.device).unsqueeze(1) * width).flatten()
                selected[-1][position] = generated.flatten(0, 1).index_select(0, source).unflatten(0, parent.shape)
    return selected


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

    def causal(self, length: int) -> torch.Tensor:
        """Bias of so many positions to those before them and themselves, -inf to the rest: ``[1, h, length, length]``."""
        position = torch.arange(length, device=self.bias.weight.device)
        return self(position, position).masked_fill(position[None, :] > position[:, None], -torch.inf)

    def of_last(self, length: int) -> torch.Tensor:
        """Bias of the last of so many positions to all of them, ``[h, length]``."""
        position = torch.arange(length, device=self.bias.weight.device)
        return self(position[-1:], position)[0, :, 0]

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


class Attention(nn.Module, ABC):
    """Multi-head attention without biases: the part behind the projections. ``scale`` times queries' products with keys are its logits."""

    def __init__(self, d_model: int, n_heads: int, d_kv: int, dropout: float) -> None:
        super().__init__()
        self.n_heads, self.d_kv, self.scale = n_heads, d_kv, 1.0
        self.output = nn.Linear(n_heads * d_kv, d_model, bias=False)
        self.dropout = Dropout(dropout)

    @abstractmethod
    def projection_weights(self) -> tuple[torch.Tensor, ...]:
        """Weights of queries, keys and values, each ``[h * e, d]``."""

    def scaled(self, queries: torch.Tensor) -> torch.Tensor:
        """Queries, of any shape, whose products with keys are the logits."""
        return queries if self.scale == 1 else queries * self.scale

    def heads(self, projected: torch.Tensor, n: int) -> tuple[torch.Tensor, ...]:
        """``[b, t, n * h * e]`` -> n times ``[b, h, t, e]``."""
        by_head = projected.view(*projected.shape[:2], n, self.n_heads, self.d_kv).permute(2, 0, 3, 1, 4)
        if projected.device.type == "cpu":  # at once, or the products below would do it for each
            by_head = by_head.contiguous()
        return by_head.unbind(0)

    def attend(self, queries: torch.Tensor, keys_values: KeysValues, bias: torch.Tensor) -> torch.Tensor:
        """``[b, h, q, e]`` attends to keys and values ``[b, h, t, e]`` with ``bias`` broadcast to ``[b, h, q, t]``.

        Returns:
            ``[b, q, d]``.
        """
        keys, values = keys_values
        bias = bias.to(keys.dtype)
        if queries.device.type == "cpu":  # where torch's function, if a bias is learned, does the same with more passes
            shares = self.dropout((queries @ keys.transpose(2, 3)).add_(bias).softmax(dim=-1))
            out = shares @ values
        else:
            dropout = self.dropout.p if self.training else 0.0
            out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias, dropout_p=dropout, scale=1.0)
        return self.output(out.transpose(1, 2).flatten(2))


class SelfAttention(Attention):
    """Attention of a sequence to itself; one product makes queries, keys and values."""

    def __init__(self, d_model: int, n_heads: int, d_kv: int, dropout: float) -> None:
        super().__init__(d_model, n_heads, d_kv, dropout)
        self.query_key_value = nn.Linear(d_model, 3 * n_heads * d_kv, bias=False)
        self.register_load_state_dict_pre_hook(_join_projections)

    def projection_weights(self) -> tuple[torch.Tensor, ...]:
        return self.query_key_value.weight.chunk(3)

    def project(self, hidden: torch.Tensor) -> tuple[torch.Tensor, KeysValues]:
        """``[b, t, d]`` -> queries; keys and values: each ``[b, h, t, e]``."""
        queries, keys, values = self.heads(self.query_key_value(hidden), 3)
        return self.scaled(queries), (keys, values)

    def forward(self, hidden: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, KeysValues]:
        """``[b, t, d]`` and ``bias`` broadcast to ``[b, h, t, t]`` -> ``[b, t, d]``; keys and values."""
        queries, keys_values = self.project(hidden)
        return self.attend(queries, keys_values, bias), keys_values

    def generate(
        self, hidden: torch.Tensor, bias: torch.Tensor, past: list[Generated]
    ) -> tuple[torch.Tensor, list[Generated]]:
        """One position of each beam attends to those before it and itself.

        These are so few that products of matrices would spend more on arranging than on computing.

        Args:
            hidden: ``[b, r, d]``.
            bias: ``[h, past + 1]``.
            past: the positions before.

        Returns:
            tuple: ``[b, r, d]``; the positions so far.
        """
        b, r, _ = hidden.shape
        projected = self.query_key_value(hidden).view(b, r, 3, self.n_heads, self.d_kv)
        queries, so_far = self.scaled(projected[:, :, 0]), [*past, projected[:, :, 1:]]
        scores = torch.stack([(queries * each[:, :, 0]).sum(-1) for each in so_far])
        shares = (scores + bias.T[:, None, None]).softmax(dim=0).to(queries.dtype).unsqueeze(-1)
        out = shares[0] * so_far[0][:, :, 1]
        for share, each in zip(shares[1:], so_far[1:], strict=True):
            out.addcmul_(share, each[:, :, 1])
        return self.output(out.flatten(2)), so_far

    def read_on(self, hidden: torch.Tensor, bias: torch.Tensor, past: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        """Some further positions of each beam attend to what ``bias`` shows of those so far.

        Args:
            hidden: ``[beams, s, d]``.
            bias: ``[beams, h, s, n]``.
            past: keys and values of the positions, ``[beams, 2, h, n, e]``; those read here are put at their places.
            place: int64 ``[beams, s]``, at which of the n positions these are.

        Returns:
            ``[beams, s, d]``.
        """
        queries, (keys, values) = self.project(hidden)
        where = place[:, None, None, :, None].expand(-1, 2, self.n_heads, -1, self.d_kv)
        past.scatter_(3, where, torch.stack([keys, values], dim=1).to(past.dtype))
        so_far = past.to(queries.dtype)
        return self.attend(queries, (so_far[:, 0], so_far[:, 1]), bias)


def _join_projections(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Checkpoints of older versions have one matrix for queries and one for keys and values."""
    old = [f"{prefix}query.weight", f"{prefix}key_value.weight"]
    if all(name in state for name in old):
        state[f"{prefix}query_key_value.weight"] = torch.cat([state.pop(name) for name in old])


class CrossAttention(Attention):
    """Attention to another sequence, whose keys and values are computed once."""

    def __init__(self, d_model: int, n_heads: int, d_kv: int, dropout: float) -> None:
        super().__init__(d_model, n_heads, d_kv, dropout)
        self.query = nn.Linear(d_model, n_heads * d_kv, bias=False)
        self.key_value = nn.Linear(d_model, 2 * n_heads * d_kv, bias=False)

    def projection_weights(self) -> tuple[torch.Tensor, ...]:
        return (self.query.weight, *self.key_value.weight.chunk(2))

    def keys_values(self, hidden: torch.Tensor) -> KeysValues:
        """``[b, t, d]`` -> keys and values, each ``[b, h, t, e]``."""
        keys, values = self.heads(self.key_value(hidden), 2)
        return keys, values

    def forward(self, hidden: torch.Tensor, keys_values: KeysValues, bias: torch.Tensor) -> torch.Tensor:
        """``[b, q, d]`` attends to keys and values ``[b, h, t, e]`` with ``bias`` broadcast to ``[b, h, q, t]``."""
        (queries,) = self.heads(self.query(hidden), 1)
        return self.attend(self.scaled(queries), keys_values, bias)


def initialise_attention(network: nn.Module, *, scaled: bool) -> None:
    """Let logits of attention begin with a variance of about one, in one of two ways.

    Scaled, they are divided by ``sqrt(d_kv)`` (Vaswani et al., 2017, section 3.2.1; GPT-2). T5's are not; its query weights
    begin ``sqrt(d_kv)`` times as small instead. Both are the same functions, but Adam's steps are as long for small weights as for
    large ones and move unscaled logits ``sqrt(d_kv)`` times as far. T5 had Adafactor, whose steps are in proportion to the weights.
    """
    for module in network.modules():
        if isinstance(module, Attention):
            queries = module.projection_weights()[0]
            module.scale = module.d_kv**-0.5 if scaled else 1.0
            nn.init.normal_(queries, std=queries.shape[1] ** -0.5 * (1.0 if scaled else module.d_kv**-0.5))


class FeedForward(nn.Module):
    """``relu``: two layers (T5 1.0); ``gated``: GELU times a linear gate (T5 1.1)."""

    def __init__(self, d_model: int, d_ff: int, kind: str, dropout: float) -> None:
        super().__init__()
        self.gate = nn.Linear(d_model, d_ff, bias=False) if kind == "gated" else None
        self.inner = nn.Linear(d_model, d_ff, bias=False)
        self.outer = nn.Linear(d_ff, d_model, bias=False)
        self.dropout = Dropout(dropout) if kind == "gated" else DropoutOfReLU(dropout)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        inner = self.inner(hidden)
        if self.gate is not None:
            inner = F.gelu(self.gate(hidden), approximate="tanh") * inner
        return self.outer(self.dropout(inner))


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each pre-normed and residual; ``dropout`` is of the attention's weights."""

    def __init__(
        self,
        *,
        d_model: int,
        n_heads: int,
        d_kv: int,
        d_ff: int,
        feed_forward: str,
        dropout: float,
        residual_dropout: float,
    ) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(d_model)
        self.attention = SelfAttention(d_model, n_heads, d_kv, dropout)
        self.feed_forward_norm = RMSNorm(d_model)
        self.feed_forward = FeedForward(d_model, d_ff, feed_forward, residual_dropout)
        self.dropout = Dropout(residual_dropout)

    def forward(self, hidden: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return self.read(hidden, bias)[0]

    def read(self, hidden: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, KeysValues]:
        """``[b, t, d]`` and ``bias`` broadcast to ``[b, h, t, t]`` -> ``[b, t, d]``; keys and values."""
        attended, keys_values = self.attention(self.attention_norm(hidden), bias)
        return self._behind_attention(hidden, attended), keys_values

    def generate(
        self, hidden: torch.Tensor, bias: torch.Tensor, past: list[Generated]
    ) -> tuple[torch.Tensor, list[Generated]]:
        """As :meth:`SelfAttention.generate`."""
        attended, so_far = self.attention.generate(self.attention_norm(hidden), bias, past)
        return self._behind_attention(hidden, attended), so_far

    def _behind_attention(self, hidden: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        hidden = hidden + self.dropout(attended)
        return hidden + self.dropout(self.feed_forward(self.feed_forward_norm(hidden)))


class DecoderLayer(nn.Module):
    """Causal self-attention within a candidate, cross-attention to the user's history, feed-forward."""

    def __init__(self, *, d_model: int, n_heads: int, d_kv: int, d_ff: int, feed_forward: str, dropout: float) -> None:
        super().__init__()
        self.self_attention_norm = RMSNorm(d_model)
        self.self_attention = SelfAttention(d_model, n_heads, d_kv, dropout)
        self.cross_attention_norm = RMSNorm(d_model)
        self.cross_attention = CrossAttention(d_model, n_heads, d_kv, dropout)
        self.feed_forward_norm = RMSNorm(d_model)
        self.feed_forward = FeedForward(d_model, d_ff, feed_forward, dropout)
        self.dropout = Dropout(dropout)

    def forward(
        self, hidden: torch.Tensor, self_bias: torch.Tensor, history: KeysValues, history_bias: torch.Tensor
    ) -> torch.Tensor:
        """One layer.

        Args:
            hidden: ``[b, r, l, d]``.
            self_bias: ``[1, h, l, l]``, causal.
            history: keys and values of the history, ``[b, h, t, e]``.
            history_bias: broadcast to ``[b, h, r * l, t]``, -inf at what is not to be seen.

        Returns:
            ``[b, r, l, d]``.
        """
        attended, _ = self.self_attention(self.self_attention_norm(hidden).flatten(0, 1), self_bias)
        return self._behind_self_attention(hidden, attended.view(hidden.shape), history, history_bias)

    def generate(
        self,
        hidden: torch.Tensor,
        self_bias: torch.Tensor,
        past: list[Generated],
        history: KeysValues,
        history_bias: torch.Tensor,
    ) -> tuple[torch.Tensor, list[Generated]]:
        """As :meth:`SelfAttention.generate`, with a history as :meth:`forward` has it."""
        attended, so_far = self.self_attention.generate(self.self_attention_norm(hidden), self_bias, past)
        return self._behind_self_attention(hidden, attended, history, history_bias), so_far

    def read_on(
        self,
        hidden: torch.Tensor,
        self_bias: torch.Tensor,
        past: torch.Tensor,
        place: torch.Tensor,
        *,
        history: KeysValues,
        history_bias: torch.Tensor,
    ) -> torch.Tensor:
        """As :meth:`SelfAttention.read_on` for ``[b, r, s, d]``, its beams those of all users; a history as in :meth:`forward`."""
        attended = self.self_attention.read_on(self.self_attention_norm(hidden).flatten(0, 1), self_bias, past, place)
        return self._behind_self_attention(hidden, attended.view(hidden.shape), history, history_bias)

    def _behind_self_attention(
        self, hidden: torch.Tensor, attended: torch.Tensor, history: KeysValues, history_bias: torch.Tensor
    ) -> torch.Tensor:
        hidden = hidden + self.dropout(attended)
        normed = self.cross_attention_norm(hidden).view(len(hidden), -1, hidden.shape[-1])
        attended = self.cross_attention(normed, history, history_bias).view(hidden.shape)
        hidden = hidden + self.dropout(attended)
        return hidden + self.dropout(self.feed_forward(self.feed_forward_norm(hidden)))


class Encoder(nn.Module):
    """Stack over the history, bidirectional or ``causal``; one position bias for all layers.

    ``dropout`` is of what goes in and of the attention's weights, ``residual_dropout`` of what the layers add, within their
    feed-forward layers and of what comes out. None: as ``dropout``, the one rate of T5; GPT-2 tells the two apart.
    """

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
        residual_dropout: float | None = None,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.causal = causal
        self.position_bias = RelativePositionBias(n_heads, bidirectional=not causal)
        residual_dropout = dropout if residual_dropout is None else residual_dropout
        layer: dict[str, Any] = {
            **{"d_model": d_model, "n_heads": n_heads, "d_kv": d_kv, "d_ff": d_ff, "feed_forward": feed_forward},
            **{"dropout": dropout, "residual_dropout": residual_dropout},
        }
        self.layers = nn.ModuleList(EncoderLayer(**layer) for _ in range(n_layers))
        self.norm = RMSNorm(d_model)
        self.input_dropout, self.output_dropout = Dropout(dropout), Dropout(residual_dropout)

    def forward(self, hidden: torch.Tensor, padding_bias: torch.Tensor | float = 0.0) -> torch.Tensor:
        """``[b, t, d]`` and ``[b, 1, 1, t]`` (0, or -inf at padding, which is behind the rest) -> ``[b, t, d]``."""
        if self.causal:  # padding comes behind the items, which do not look there
            bias = self.position_bias.causal(hidden.shape[1])
        else:
            position = torch.arange(hidden.shape[1], device=hidden.device)
            bias = self.position_bias(position, position) + padding_bias
        hidden = self.input_dropout(hidden)
        for layer in self.layers:
            hidden = layer(hidden, bias)
        return self.output_dropout(self.norm(hidden))

    def generate(
        self, hidden: torch.Tensor, past: list[list[Generated]] | None
    ) -> tuple[torch.Tensor, list[list[Generated]]]:
        """Of a causal stack: one position of each beam, ``[b, r, d]``, behind the ``past`` ones of every layer.

        Returns:
            tuple: ``[b, r, d]``; the positions so far of every layer, to be passed as ``past`` of the next call.
        """
        layers: list[Any] = list(self.layers)
        past = past or [[] for _ in layers]
        bias = self.position_bias.of_last(len(past[0]) + 1)
        hidden = self.input_dropout(hidden)
        so_far = []
        for layer, generated in zip(layers, past, strict=True):
            hidden, generated = layer.generate(hidden, bias, generated)
            so_far.append(generated)
        return self.output_dropout(self.norm(hidden)), so_far


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
        self.norm = RMSNorm(d_model)
        self.dropout = Dropout(dropout)

    def history_keys_values(self, encoded: torch.Tensor) -> list[KeysValues]:
        """Keys and values of the encoder's output for every layer, computed once per user."""
        layers: Iterable[Any] = self.layers
        return [layer.cross_attention.keys_values(encoded) for layer in layers]

    def forward(self, hidden: torch.Tensor, histories: list[KeysValues], history_bias: torch.Tensor) -> torch.Tensor:
        """``[b, r, l, d]`` -> ``[b, r, l, d]``; histories of every layer and ``history_bias`` as :class:`DecoderLayer` has them."""
        bias = self.position_bias.causal(hidden.shape[2])
        hidden = self.dropout(hidden)
        for layer, history in zip(self.layers, histories, strict=True):
            hidden = layer(hidden, bias, history, history_bias)
        return self.dropout(self.norm(hidden))

    def generate(
        self,
        hidden: torch.Tensor,
        past: list[list[Generated]] | None,
        histories: list[KeysValues],
        history_bias: torch.Tensor,
    ) -> tuple[torch.Tensor, list[list[Generated]]]:
        """As :meth:`Encoder.generate`, with histories."""
        layers: list[Any] = list(self.layers)
        past = past or [[] for _ in layers]
        bias = self.position_bias.of_last(len(past[0]) + 1)
        hidden = self.dropout(hidden)
        so_far = []
        for layer, generated, history in zip(layers, past, histories, strict=True):
            hidden, generated = layer.generate(hidden, bias, generated, history, history_bias)
            so_far.append(generated)
        return self.dropout(self.norm(hidden)), so_far

    def read_on(
        self,
        hidden: torch.Tensor,
        past: list[torch.Tensor],
        place: torch.Tensor,
        *,
        histories: list[KeysValues],
        history_bias: torch.Tensor,
    ) -> torch.Tensor:
        """Some further positions of each beam, of which one beam may have more behind it than another.

        Args:
            hidden: ``[b, r, s, d]``.
            past: of every layer, keys and values of the beams' n positions, ``[b * r, 2, h, n, e]``; those read here are put
                at their places.
            place: int64 ``[b * r, s]``, at which of the n positions these are; they see those before and themselves.
            histories: of every layer, as :meth:`history_keys_values` gives them.
            history_bias: as :class:`DecoderLayer` has it.

        Returns:
            ``[b, r, s, d]``.
        """
        n = past[0].shape[3]
        bias = self.position_bias.causal(n)[0].index_select(1, place.flatten())
        bias = bias.view(-1, *place.shape, n).transpose(0, 1)
        hidden = self.dropout(hidden)
        layers: Iterable[Any] = self.layers
        for layer, so_far, history in zip(layers, past, histories, strict=True):
            hidden = layer.read_on(hidden, bias, so_far, place, history=history, history_bias=history_bias)
        return self.dropout(self.norm(hidden))
