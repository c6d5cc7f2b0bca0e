"""The sequence model: from a history of semantic IDs to log-probabilities of the next item's codes."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from recbole_gr.models.tiger.layers import Decoder, Encoder, KeysValues
from recbole_gr.models.tiger.settings import ModelSize


class SequenceModel(nn.Module):
    """T5-style encoder-decoder over semantic IDs (TIGER section 3.2; numbers in arXiv 2305.05065, appendix).

    The vocabulary: token 0 is padding and begins the decoder's input, then the codes of level 0, level 1, ...,
    one separator, and the hashed users. Each level has its own output head, so a code's probability is over its level.

    Args:
        codebook_sizes: codes per level.
        size: layers, widths, heads.
        feed_forward: ``relu`` or ``gated``.
        dropout: rate after embeddings and in every sub-layer.
        history_position: ``code``, one encoder position per code as in the paper; or ``item``, one per item,
            the sum of its codes' embeddings, which makes the encoder's input L times shorter.
        separator: a learned token after each item of the history (GRID); for ``code`` only.
        user_buckets: 0, or the number of hashed user tokens put before the history (TIGER: 2,000).
    """

    level_offset: torch.Tensor

    def __init__(
        self,
        codebook_sizes: Sequence[int],
        size: ModelSize,
        *,
        feed_forward: str,
        dropout: float,
        history_position: str,
        separator: bool,
        user_buckets: int,
    ) -> None:
        super().__init__()
        self.codebook_sizes = tuple(codebook_sizes)
        self.n_levels = len(self.codebook_sizes)
        self.history_position, self.separator, self.user_buckets = history_position, separator, user_buckets
        *level_offset, self.separator_token = accumulate((1, *self.codebook_sizes))
        self.register_buffer("level_offset", torch.tensor(level_offset), persistent=False)
        self.first_user_token = self.separator_token + 1

        stack: dict[str, Any] = {**vars(size), "feed_forward": feed_forward, "dropout": dropout}
        self.embedding = nn.Embedding(self.first_user_token + user_buckets, size.d_model)
        self.encoder = Encoder(**stack)
        self.decoder = Decoder(**stack)
        self.heads = nn.ModuleList(nn.Linear(size.d_model, codes, bias=False) for codes in self.codebook_sizes)
        self._initialise(size)

    def _initialise(self, size: ModelSize) -> None:
        """T5's scheme: unscaled attention needs small query weights; heads start near uniform."""
        nn.init.normal_(self.embedding.weight, std=1.0)
        for head in self.heads:
            assert isinstance(head, nn.Linear)
            nn.init.normal_(head.weight, std=0.1 * size.d_model**-0.5)
        for name, weight in self.named_parameters():
            if name.endswith("query.weight"):
                nn.init.normal_(weight, std=(size.d_model * size.d_kv) ** -0.5)
            elif name.endswith("position_bias.bias.weight"):
                nn.init.normal_(weight, std=size.d_model**-0.5)
            elif weight.dim() == 2 and ("encoder." in name or "decoder." in name):
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)

    def encode(
        self, codes: torch.Tensor, lengths: torch.Tensor, users: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode histories.

        Args:
            codes: int64 ``[b, t, L]``, oldest first; anything beyond ``lengths``.
            lengths: int64 ``[b]``, items in each history.
            users: int64 ``[b]``, user ids, needed where there are user tokens.

        Returns:
            tuple: ``[b, positions, d]``; padding bias ``[b, 1, 1, positions]``, 0 or -inf.
        """
        items = torch.arange(codes.shape[1], device=codes.device) < lengths.unsqueeze(1)
        tokens = (codes + self.level_offset).masked_fill(~items.unsqueeze(-1), 0)
        if self.history_position == "item":
            hidden, present = self.embedding(tokens).sum(dim=2), items
        else:
            if self.separator:
                tokens = F.pad(tokens, (0, 1), value=self.separator_token)
            present = items.unsqueeze(-1).expand_as(tokens).flatten(1)
            hidden = self.embedding(tokens.flatten(1))
        if self.user_buckets:
            assert users is not None
            user_token = self.first_user_token + users % self.user_buckets
            hidden = torch.cat([self.embedding(user_token).unsqueeze(1), hidden], dim=1)
            present = F.pad(present, (1, 0), value=True)
        padding_bias = torch.zeros(present.shape, dtype=hidden.dtype, device=hidden.device)
        padding_bias = padding_bias.masked_fill(~present, -torch.inf)[:, None, None, :]
        return self.encoder(hidden, padding_bias), padding_bias

    def code_logits(self, encoded: torch.Tensor, padding_bias: torch.Tensor, codes: torch.Tensor) -> list[torch.Tensor]:
        """Logits of every level of given items, each level seeing the codes before it (teacher forcing).

        Args:
            codes: int64 ``[b, r, L]``, r items per user.

        Returns:
            list: per level ``[b, r, codes of the level]``.
        """
        tokens = F.pad(codes[..., :-1] + self.level_offset[:-1], (1, 0), value=0)
        histories = self.decoder.history_keys_values(encoded)
        hidden, _ = self.decoder(self.embedding(tokens), histories, padding_bias)
        return [head(hidden[:, :, level]) for level, head in enumerate(self.heads)]

    def forward(self, codes: torch.Tensor, lengths: torch.Tensor, users: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy over the codes of the next items.

        Args:
            codes, lengths, users: as in :meth:`encode`.
            target: int64 ``[b, L]``.

        Returns:
            torch.Tensor: the loss, a scalar.
        """
        logits = self.code_logits(*self.encode(codes, lengths, users), target.unsqueeze(1))
        losses = [F.cross_entropy(level.squeeze(1).float(), target[:, i]) for i, level in enumerate(logits)]
        return torch.stack(losses).mean()

    def log_likelihood(self, encoded: torch.Tensor, padding_bias: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Exact log-probability of given items: ``[b, r]`` for codes ``[b, r, L]``."""
        logits = self.code_logits(encoded, padding_bias, codes)
        log_probs = [level.float().log_softmax(-1) for level in logits]
        by_level = [level.gather(-1, codes[..., i : i + 1]).squeeze(-1) for i, level in enumerate(log_probs)]
        return sum(by_level[1:], by_level[0])

    def start_decoding(self, encoded: torch.Tensor, padding_bias: torch.Tensor) -> "BeamDecoder":
        """A decoder state for :func:`recbole_gr.decoding.beam_search.beam_search`."""
        return BeamDecoder(self, self.decoder.history_keys_values(encoded), padding_bias)


class BeamDecoder:
    """The decoder's state during a beam search: the history's keys and values once per user, the codes' per beam."""

    def __init__(self, model: SequenceModel, histories: list[KeysValues], padding_bias: torch.Tensor) -> None:
        self.model, self.histories, self.padding_bias = model, histories, padding_bias
        self.level = 0
        self.past: list[KeysValues] | None = None

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
        users, beams = parent.shape
        width = len(self.past[0][0]) // users
        source = (parent + torch.arange(users, device=parent.device).unsqueeze(1) * width).flatten()
        self.past = [(keys.index_select(0, source), values.index_select(0, source)) for keys, values in self.past]
        tokens = code + self.model.level_offset[self.level]
        self.level += 1
        return self._next_log_probs(tokens)

    def _next_log_probs(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.model.embedding(tokens).unsqueeze(2)
        hidden, self.past = self.model.decoder(hidden, self.histories, self.padding_bias, self.past)
        return self.model.heads[self.level](hidden[:, :, 0]).float().log_softmax(-1)
