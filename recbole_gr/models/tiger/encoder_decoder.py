"""The architecture of the paper: an encoder reads the history, a decoder generates the codes of the next item."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from recbole_gr.models.tiger.history import History
from recbole_gr.models.tiger.layers import Decoder, Encoder, Generated, KeysValues, initialise_attention, of_parents
from recbole_gr.models.tiger.network import NetworkOptions, SemanticIDNetwork
from recbole_gr.models.tiger.settings import ModelSize


class Encoded(NamedTuple):
    """Histories that were read.

    Args:
        hidden: ``[b, positions, d]``.
        padding_bias: ``[b, 1, 1, positions]``, 0, or -inf at padding.
        lengths: int64 ``[b]``, items of each history.
    """

    hidden: torch.Tensor
    padding_bias: torch.Tensor
    lengths: torch.Tensor


class EncoderDecoder(SemanticIDNetwork):
    """T5-style encoder-decoder over semantic IDs (TIGER section 3.2; numbers in arXiv 2305.05065, appendix).

    With a causal encoder, what it knows after an item does not depend on the items that follow. Then one pass over a
    history trains what follows each of its items: r = t candidates in the decoder, candidate j looking at the positions up
    to item j.
    """

    def __init__(self, codebook_sizes: Sequence[int], options: NetworkOptions) -> None:
        super().__init__(codebook_sizes, options)
        stack: dict[str, Any] = {
            **vars(options.size),
            "feed_forward": options.feed_forward,
            "dropout": options.dropout,
        }
        self.encoder = Encoder(**stack, causal=options.causal)
        self.decoder = Decoder(**stack)
        self._initialise(options.size)

    def _initialise(self, size: ModelSize) -> None:
        """T5's scheme: unscaled attention needs small query weights; heads start near uniform."""
        nn.init.normal_(self.embedding.weight, std=1.0)
        for head in self.heads:
            assert isinstance(head, nn.Linear)
            nn.init.normal_(head.weight, std=0.1 * size.d_model**-0.5)
        for name, weight in self.named_parameters():
            if name.endswith("position_bias.bias.weight"):
                nn.init.normal_(weight, std=size.d_model**-0.5)
            elif weight.dim() == 2 and ("encoder." in name or "decoder." in name):
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
        initialise_attention(self, scaled=self.options.scaled_attention)

    def encode(self, history: History) -> Encoded:
        hidden, present = self.positions(history)
        padding_bias = torch.zeros(present.shape, dtype=hidden.dtype, device=hidden.device)
        padding_bias = padding_bias.masked_fill(~present, -torch.inf)[:, None, None, :]
        return Encoded(self.encoder(hidden, padding_bias), padding_bias, history.lengths)

    def code_logits(self, encoded: Encoded, codes: torch.Tensor, *, at_every_item: bool = False) -> list[torch.Tensor]:
        tokens = F.pad(codes[..., :-1] + self.level_offset[:-1], (1, 0), value=0)
        bias = self._up_to_each_item(encoded, codes.shape[1]) if at_every_item else encoded.padding_bias
        histories = self.decoder.history_keys_values(encoded.hidden)
        hidden = self.decoder(self.embedding(tokens), histories, bias)
        return [head(of_level) for head, of_level in zip(self.heads, hidden.unbind(2), strict=True)]

    def states(self, encoded: Encoded, *, at_every_item: bool = False) -> torch.Tensor:
        items = encoded.hidden[:, self._last_position(encoded)]
        if at_every_item:
            return items
        last = (encoded.lengths - 1)[:, None, None].expand(-1, 1, items.shape[-1])
        return items.gather(1, last)

    def start_decoding(self, encoded: Encoded) -> "BeamDecoder":
        return BeamDecoder(self, self.decoder.history_keys_values(encoded.hidden), encoded.padding_bias)

    def _last_position(self, encoded: Encoded) -> torch.Tensor:
        """The last position of every item, int64 ``[t]``."""
        before, per_item = int(self.options.user_buckets > 0), self.positions_per_item
        return torch.arange(before + per_item - 1, encoded.hidden.shape[1], per_item, device=encoded.hidden.device)

    def _up_to_each_item(self, encoded: Encoded, items: int) -> torch.Tensor:
        """What the codes after each item see of the history: ``[1, 1, items * L, positions]``, 0 or -inf.

        Padding is behind the items and needs no bias of its own.
        """
        position = torch.arange(encoded.hidden.shape[1], device=encoded.hidden.device)
        later = position > self._last_position(encoded)[:items, None]
        bias = torch.zeros(later.shape, dtype=encoded.hidden.dtype, device=later.device).masked_fill(later, -torch.inf)
        return bias.repeat_interleave(self.n_levels, dim=0)[None, None]


class BeamDecoder:
    """The decoder's state during a beam search: the history's keys and values once per user, the codes' per beam."""

    def __init__(self, model: EncoderDecoder, histories: list[KeysValues], padding_bias: torch.Tensor) -> None:
        self.model, self.histories, self.padding_bias = model, histories, padding_bias
        self.level = 0
        self.past: list[list[Generated]] | None = None

    def select(self, users: torch.Tensor) -> "BeamDecoder":
        """The same for some of the users (int64 indices), before any code was generated."""
        histories = [(keys[users], values[users]) for keys, values in self.histories]
        return BeamDecoder(self.model, histories, self.padding_bias[users])

    def start(self) -> torch.Tensor:
        """Log-probabilities of the first code, ``[b, 1, codes]``."""
        self.level, self.past = 0, None
        begin = torch.zeros(len(self.padding_bias), 1, dtype=torch.long, device=self.padding_bias.device)
        return self._next_log_probs(begin)

    def advance(self, parent: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """Log-probabilities of the next code for the beams made of ``parent`` beams and one more ``code``."""
        assert self.past is not None  # start() comes first
        self.past = of_parents(self.past, parent)
        tokens = code + self.model.level_offset[self.level]
        self.level += 1
        return self._next_log_probs(tokens)

    def _next_log_probs(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.model.embedding(tokens)
        hidden, self.past = self.model.decoder.generate(hidden, self.past, self.histories, self.padding_bias)
        return self.model.heads[self.level](hidden).float().log_softmax(-1)
