"""One stack for all: it reads the codes of the history and goes on with those of the next item, as a language model does.

Every item is a begin token and its codes, in the history as where it is generated. So with a causal history the whole is
an ordinary causal language model (``architecture: decoder_only``; GRID, arXiv 2507.22224, table 5). With a bidirectional
one (``architecture: prefix_lm``; Raffel et al., JMLR 2020, section 3.2) the history's positions see each other, and those
of the next item see the history and what was generated so far.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from recbole_gr.models.elementwise import Dropout, RMSNorm
from recbole_gr.models.tiger.history import History
from recbole_gr.models.tiger.layers import (
    EncoderLayer,
    KeysValues,
    RelativePositionBias,
    initialise_attention,
)
from recbole_gr.models.tiger.network import NetworkOptions, SemanticIDNetwork
from recbole_gr.models.tiger.settings import ModelSize


class Encoded(NamedTuple):
    """Histories that were read.

    Args:
        hidden: ``[b, positions, d]``.
        keys_values: of every layer, each ``[b, h, positions, e]``.
        lengths: int64 ``[b]``, items of each history.
    """

    hidden: torch.Tensor
    keys_values: list[KeysValues]
    lengths: torch.Tensor


class DecoderOnly(SemanticIDNetwork):
    """A T5-style stack without cross-attention over begin tokens and codes; ``options.causal``: see the module.

    The codes of an item stand right behind the user's own history, whatever pads it, and their distances to the history
    count on from there.
    """

    def __init__(self, codebook_sizes: Sequence[int], options: NetworkOptions) -> None:
        super().__init__(codebook_sizes, options)
        self.stack = Stack(options)
        self._initialise()

    def _initialise(self) -> None:
        """T5's scheme: unscaled attention needs small query weights; heads start near uniform."""
        size = self.options.size
        nn.init.normal_(self.embedding.weight, std=1.0)
        for name, weight in self.named_parameters():
            if name.startswith("heads"):
                nn.init.normal_(weight, std=0.1 * size.d_model**-0.5)
            elif name.endswith("position_bias.bias.weight"):
                nn.init.normal_(weight, std=size.d_model**-0.5)
            elif weight.dim() == 2 and name.startswith("stack"):
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
        initialise_attention(self, scaled=self.options.scaled_attention)

    def forward(
        self, history: History, targets: torch.Tensor, present: torch.Tensor, *, at_every_item: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As :meth:`SemanticIDNetwork.forward`.

        ``at_every_item`` is one pass over the history and the item behind it: what follows item j is what item j + 1 is
        read from. So target j must be item j + 1 of the history, where there are both.
        """
        if not at_every_item:
            return super().forward(history, targets, present)
        known = history.codes.masked_fill(~history.items().unsqueeze(-1), 0)
        following = torch.where(present.unsqueeze(-1), targets, F.pad(known[:, 1:], (0, 0, 0, 1)))
        codes = torch.cat([history.codes[:, :1], following], dim=1)
        injected = None if history.injected is None else F.pad(history.injected, (0, 0, 0, 1))
        hidden = self.encode(History(codes, history.lengths + 1, history.users, injected)).hidden
        by_item = self._by_item(hidden)
        logits = [head(by_item[:, 1:, level]) for level, head in enumerate(self.heads)]
        return self.loss(logits, targets, present), by_item[:, :-1, -1]

    def encode(self, history: History) -> Encoded:
        hidden, present = self.positions(history)
        position = torch.arange(hidden.shape[1], device=hidden.device)
        bias = self.stack.bias(position - position[:, None]).unsqueeze(0)
        if self.options.causal:  # padding comes behind the items, which do not look there
            bias = bias.masked_fill(position > position[:, None], -torch.inf)
        else:
            bias = bias.masked_fill(~present[:, None, None, :], -torch.inf)
        return Encoded(*self.stack.read(hidden, bias), history.lengths)

    def code_logits(self, encoded: Encoded, codes: torch.Tensor, *, at_every_item: bool = False) -> list[torch.Tensor]:
        tokens = F.pad(codes[..., :-1] + self.level_offset[:-1], (1, 0), value=0)
        start = self._behind(encoded, codes.shape[1]) if at_every_item else self.behind_all(encoded.lengths)
        hidden, _ = self.stack.go_on(self.embedding(tokens), encoded.keys_values, start)
        return [head(hidden[:, :, level]) for level, head in enumerate(self.heads)]

    def states(self, encoded: Encoded, *, at_every_item: bool = False) -> torch.Tensor:
        items = self._by_item(encoded.hidden)[:, :, -1]
        if at_every_item:
            return items
        last = (encoded.lengths - 1)[:, None, None].expand(-1, 1, items.shape[-1])
        return items.gather(1, last)

    def start_decoding(self, encoded: Encoded) -> "StackDecoder":
        return StackDecoder(self, encoded.keys_values, encoded.lengths)

    def positions(self, history: History) -> tuple[torch.Tensor, torch.Tensor]:
        """As :meth:`SemanticIDNetwork.positions`.

        Injected vectors come with an item's last code: none of its codes is generated from them.
        """
        tokens = F.pad(self.item_tokens(history), (1, 0), value=0)
        hidden = self.embedding(tokens)
        if history.injected is not None:
            hidden = hidden + F.pad(history.injected.unsqueeze(2), (0, 0, self.n_levels, 0))
        present = history.items().unsqueeze(-1).expand_as(tokens).flatten(1)
        return self.with_user(hidden.flatten(1, 2), present, history.users)

    @property
    def positions_per_item(self) -> int:
        return 1 + self.n_levels

    def behind_all(self, lengths: torch.Tensor) -> torch.Tensor:
        """The position behind histories of so many items, int64 ``[b, 1]``."""
        return int(self.options.user_buckets > 0) + lengths.unsqueeze(1) * self.positions_per_item

    def _behind(self, encoded: Encoded, items: int) -> torch.Tensor:
        """The position behind each item, int64 ``[1, items]``."""
        return self.behind_all(torch.arange(1, items + 1, device=encoded.hidden.device)).T

    def _by_item(self, hidden: torch.Tensor) -> torch.Tensor:
        """``[b, positions, d]`` -> ``[b, t, 1 + L, d]``, without the user token."""
        return hidden[:, int(self.options.user_buckets > 0) :].unflatten(1, (-1, self.positions_per_item))


class Stack(nn.Module):
    """The layers, with one position bias for all of them."""

    def __init__(self, options: NetworkOptions) -> None:
        super().__init__()
        size: ModelSize = options.size
        rates = dict.fromkeys(("dropout", "residual_dropout"), options.dropout)
        layer: dict[str, Any] = {**vars(size), "feed_forward": options.feed_forward, **rates}
        n_layers = layer.pop("n_layers")
        self.position_bias = RelativePositionBias(size.n_heads, bidirectional=not options.causal)
        self.layers = nn.ModuleList(StackLayer(**layer) for _ in range(n_layers))
        self.norm = RMSNorm(size.d_model)
        self.dropout = Dropout(options.dropout)

    def bias(self, distance: torch.Tensor) -> torch.Tensor:
        """Bias by distance, key position minus query position: int64 ``[..., q, k]`` -> ``[..., h, q, k]``."""
        return self.position_bias.bias(self.position_bias.bucket(distance)).movedim(-1, -3)

    def read(self, hidden: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, list[KeysValues]]:
        """Run ``[b, t, d]`` with ``bias`` ``[1 or b, h, t, t]``: ``[b, t, d]`` and keys and values of every layer."""
        hidden = self.dropout(hidden)
        keys_values = []
        for layer in self.layers:
            assert isinstance(layer, StackLayer)
            hidden, present = layer.read(hidden, bias)
            keys_values.append(present)
        return self.dropout(self.norm(hidden)), keys_values

    def go_on(
        self,
        hidden: torch.Tensor,
        histories: list[KeysValues],
        start: torch.Tensor,
        past: list[KeysValues] | None = None,
    ) -> tuple[torch.Tensor, list[KeysValues]]:
        """Run candidates that follow histories, or the first positions of them.

        Args:
            hidden: ``[b, r, l, d]``, new positions behind the ``past`` ones.
            histories: keys and values of the history of every layer, each ``[b, h, t, e]``.
            start: int64 ``[1 or b, 1 or r]``, the position where candidates begin; they see those before it.
            past: keys and values of the candidates' earlier positions of every layer, each ``[b * r, h, past, e]``.

        Returns:
            tuple: ``[b, r, l, d]``; keys and values of every layer, to be passed as ``past`` of the next call.
        """
        n_past = 0 if past is None else past[0][0].shape[2]
        own = torch.arange(n_past + hidden.shape[2], device=hidden.device)
        new = own[n_past:, None]
        own_bias = self.bias(own - new).masked_fill(own > new, -torch.inf)
        key = torch.arange(histories[0][0].shape[2], device=hidden.device)
        history_bias = self.bias(key - (start[..., None, None] + new))
        history_bias = history_bias.masked_fill(key >= start[..., None, None, None], -torch.inf)
        hidden = self.dropout(hidden)
        presents = []
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, StackLayer)
            layer_past = None if past is None else past[index]
            hidden, present = layer.go_on(hidden, histories[index], history_bias, layer_past, own_bias)
            presents.append(present)
        return self.dropout(self.norm(hidden)), presents


class StackLayer(EncoderLayer):
    """An encoder's layer that candidates go through as well, behind a history that they share."""

    def go_on(
        self,
        hidden: torch.Tensor,
        history: KeysValues,
        history_bias: torch.Tensor,
        past: KeysValues | None,
        own_bias: torch.Tensor,
    ) -> tuple[torch.Tensor, KeysValues]:
        """As :meth:`Stack.go_on`, with ``history_bias`` ``[1 or b, 1 or r, h, l, t]`` and ``own_bias`` ``[h, l, past + l]``."""
        b, r, length, d = hidden.shape
        normed = self.attention_norm(hidden).view(b * r, length, d)
        queries, own = self.attention.project(normed)
        if past is not None:
            own = torch.cat([past[0], own[0]], dim=2), torch.cat([past[1], own[1]], dim=2)
        attended = self._attend(queries, history, history_bias, own, own_bias)
        hidden = hidden + self.dropout(self.attention.output(attended.transpose(1, 2).flatten(2)).view(b, r, length, d))
        return hidden + self.dropout(self.feed_forward(self.feed_forward_norm(hidden))), own

    def _attend(
        self,
        queries: torch.Tensor,
        history: KeysValues,
        history_bias: torch.Tensor,
        own: KeysValues,
        own_bias: torch.Tensor,
    ) -> torch.Tensor:
        """Attention of ``[b * r, h, l, e]`` to both together, of the same shape; a history's keys are not repeated."""
        n_users, n_history = history[0].shape[0], history[0].shape[2]

        def by_user(rows: torch.Tensor) -> torch.Tensor:
            """``[b * r, h, l, x]`` -> ``[b, h, r * l, x]``: the candidates' positions stand below each other."""
            return rows.unflatten(0, (n_users, -1)).transpose(1, 2).flatten(2, 3)

        def by_candidate(rows: torch.Tensor) -> torch.Tensor:
            """Back to ``[b, r, h, l, x]``."""
            return rows.unflatten(2, (-1, queries.shape[2])).transpose(1, 2)

        to_history = by_candidate(by_user(queries) @ history[0].transpose(2, 3)) + history_bias
        to_own = queries @ own[0].transpose(2, 3) + own_bias
        weights = torch.cat([to_history.flatten(0, 1), to_own], dim=-1).softmax(dim=-1)
        weights = self.attention.dropout(weights)
        of_history = by_candidate(by_user(weights[..., :n_history]) @ history[1])
        return of_history.flatten(0, 1) + weights[..., n_history:] @ own[1]


class StackDecoder:
    """The stack during a beam search: the history's keys and values once per user, the codes' per beam."""

    def __init__(self, model: DecoderOnly, histories: list[KeysValues], lengths: torch.Tensor) -> None:
        self.model, self.histories, self.lengths = model, histories, lengths
        self.level = 0
        self.past: list[KeysValues] | None = None

    def select(self, users: torch.Tensor) -> "StackDecoder":
        """The same for some of the users (int64 indices), before any code was generated."""
        histories = [(keys[users], values[users]) for keys, values in self.histories]
        return StackDecoder(self.model, histories, self.lengths[users])

    def start(self) -> torch.Tensor:
        """Log-probabilities of the first code, ``[b, 1, codes]``."""
        self.level, self.past = 0, None
        return self._next_log_probs(torch.zeros_like(self.lengths).unsqueeze(1))

    def advance(self, parent: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """Log-probabilities of the next code for the beams made of ``parent`` beams and one more ``code``."""
        assert self.past is not None  # start() comes first
        self.past = _of_parents(self.past, parent)
        tokens = code + self.model.level_offset[self.level]
        self.level += 1
        return self._next_log_probs(tokens)

    def _next_log_probs(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden, start = self.model.embedding(tokens).unsqueeze(2), self.model.behind_all(self.lengths)
        hidden, self.past = self.model.stack.go_on(hidden, self.histories, start, self.past)
        return self.model.heads[self.level](hidden[:, :, 0]).float().log_softmax(-1)


def _of_parents(past: list[KeysValues], parent: torch.Tensor) -> list[KeysValues]:
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
