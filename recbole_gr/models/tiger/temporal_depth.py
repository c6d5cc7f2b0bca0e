"""One position per item, and a small stack that generates the codes of the next item from one state.

The RQ-Transformer (Lee et al., CVPR 2022, arXiv 2203.01941, section 3.2) for histories of items: the codes of an item are
summed to one position, a temporal stack reads the positions, and a depth stack generates code after code.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import nn

from recbole_gr.models.tiger.history import History
from recbole_gr.models.tiger.layers import Encoder, Generated, initialise_attention, of_parents
from recbole_gr.models.tiger.network import NetworkOptions, SemanticIDNetwork


class Encoded(NamedTuple):
    """Histories that were read.

    Args:
        hidden: ``[b, t, d]``, the state after each item.
        lengths: int64 ``[b]``, items of each history.
    """

    hidden: torch.Tensor
    lengths: torch.Tensor


class TemporalDepth(SemanticIDNetwork):
    """A temporal stack over items and a depth stack over the codes of the next one.

    The depth stack has a position per level: the state after the history plus the sum of the codes generated so far, so that
    what is known of the item so far is at hand at every level and not only through attention. Dropout of its own
    (``depth_dropout``) comes on top of that of the state.
    """

    def __init__(self, codebook_sizes: Sequence[int], options: NetworkOptions) -> None:
        super().__init__(codebook_sizes, options)
        stack: dict[str, Any] = {**vars(options.size), "feed_forward": options.feed_forward, "dropout": options.dropout}
        self.temporal = Encoder(**stack, causal=options.causal)
        self.depth = Encoder(**{**stack, "n_layers": options.depth_layers, "dropout": options.depth_dropout}, causal=True)
        self._initialise()

    def _initialise(self) -> None:
        d_model = self.options.size.d_model
        nn.init.normal_(self.embedding.weight, std=1.0)
        for name, weight in self.named_parameters():
            if weight.dim() == 2 and not name.startswith("embedding"):
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
            if name.endswith("position_bias.bias.weight"):
                nn.init.zeros_(weight)
            elif name.startswith("heads"):
                nn.init.normal_(weight, std=0.1 * d_model**-0.5)
        initialise_attention(self, scaled=self.options.scaled_attention)

    def encode(self, history: History) -> Encoded:
        hidden, present = self.positions(history)
        padding_bias = torch.zeros(present.shape, dtype=hidden.dtype, device=hidden.device)
        padding_bias = padding_bias.masked_fill(~present, -torch.inf)[:, None, None, :]
        hidden = self.temporal(hidden, padding_bias)
        return Encoded(hidden[:, int(self.options.user_buckets > 0) :], history.lengths)

    def states(self, encoded: Encoded, *, at_every_item: bool = False) -> torch.Tensor:
        if at_every_item:
            return encoded.hidden
        last = (encoded.lengths - 1)[:, None, None].expand(-1, 1, encoded.hidden.shape[-1])
        return encoded.hidden.gather(1, last)

    def code_logits(self, encoded: Encoded, codes: torch.Tensor, *, at_every_item: bool = False) -> list[torch.Tensor]:
        b, r, _ = codes.shape
        states = self.states(encoded, at_every_item=at_every_item).expand(b, r, -1)
        before = self.embedding(codes[..., :-1] + self.level_offset[:-1]).unbind(2)
        read = torch.stack(list(accumulate((states, *before))), dim=2)
        by_level = self.depth(read.flatten(0, 1)).unbind(1)
        return [head(hidden).view(b, r, -1) for head, hidden in zip(self.heads, by_level, strict=True)]

    def start_decoding(self, encoded: Encoded) -> "DepthDecoder":
        return DepthDecoder(self, self.states(encoded))


class DepthDecoder:
    """The depth stack during a beam search: one state per user, and per beam the sum and the keys and values of its codes."""

    def __init__(self, model: TemporalDepth, states: torch.Tensor) -> None:
        self.model, self.states = model, states
        self.level = 0
        self.codes: torch.Tensor | None = None
        self.past: list[list[Generated]] | None = None

    def select(self, users: torch.Tensor) -> "DepthDecoder":
        """The same for some of the users (int64 indices), before any code was generated."""
        return DepthDecoder(self.model, self.states[users])

    def start(self) -> torch.Tensor:
        """Log-probabilities of the first code, ``[b, 1, codes]``."""
        self.level, self.codes, self.past = 0, None, None
        return self._next_log_probs(self.states)

    def advance(self, parent: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """Log-probabilities of the next code for the beams made of ``parent`` beams and one more ``code``."""
        assert self.past is not None  # start() comes first
        self.past = of_parents(self.past, parent)
        newest = self.model.embedding(code + self.model.level_offset[self.level])
        before = 0 if self.codes is None else self.codes.gather(1, parent.unsqueeze(-1).expand_as(newest))
        self.codes = before + newest
        self.level += 1
        return self._next_log_probs(self.states + self.codes)

    def _next_log_probs(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden, self.past = self.model.depth.generate(hidden, self.past)
        return self.model.heads[self.level](hidden).float().log_softmax(-1)
