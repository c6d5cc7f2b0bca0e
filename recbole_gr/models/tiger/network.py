"""What the architectures of TIGER share: the vocabulary, the positions of a history, the heads and the loss."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from recbole_gr.decoding.protocols import CodeDecoder
from recbole_gr.models.tiger.history import History
from recbole_gr.models.tiger.settings import ModelSize


@dataclass(frozen=True)
class NetworkOptions:
    """How a network is built; the settings of the same names say what each is."""

    size: ModelSize
    feed_forward: str = "relu"
    dropout: float = 0.0
    scaled_attention: bool = False
    history_position: str = "item"
    separator: bool = False
    user_buckets: int = 0
    causal: bool = False
    label_smoothing: float = 0.0
    code_temperature: float = 1.0
    depth_layers: int = 1
    depth_dropout: float = 0.0


class SemanticIDNetwork(nn.Module, ABC):
    """From histories of semantic IDs to log-probabilities of the next item's codes.

    The vocabulary: token 0 is padding and begins an item that is generated, then the codes of level 0, level 1, ..., one
    separator, and the hashed users. Each level has its own output head, so a code's probability is over its level.

    What :meth:`encode` returns is handed to the other methods as it is; only the architecture knows what is in it.

    Args:
        codebook_sizes: codes per level.
        options: how it is built.
    """

    level_offset: torch.Tensor

    def __init__(self, codebook_sizes: Sequence[int], options: NetworkOptions) -> None:
        super().__init__()
        self.codebook_sizes = tuple(codebook_sizes)
        self.n_levels = len(self.codebook_sizes)
        self.options = options
        *level_offset, self.separator_token = accumulate((1, *self.codebook_sizes))
        self.register_buffer("level_offset", torch.tensor(level_offset), persistent=False)
        self.first_user_token = self.separator_token + 1
        d_model = options.size.d_model
        self.embedding = nn.Embedding(self.first_user_token + options.user_buckets, d_model)
        self.heads = nn.ModuleList(nn.Linear(d_model, codes, bias=False) for codes in self.codebook_sizes)

    @abstractmethod
    def encode(self, history: History) -> Any:
        """Read histories."""

    @abstractmethod
    def code_logits(self, encoded: Any, codes: torch.Tensor, *, at_every_item: bool = False) -> list[torch.Tensor]:
        """Logits of every level of given items, each level seeing the codes before it (teacher forcing).

        Args:
            encoded: from :meth:`encode`.
            codes: int64 ``[b, r, L]``, r items per user.
            at_every_item: item j follows item j of the history, whatever comes after (r = t); otherwise all r items
                follow the whole history.

        Returns:
            list: per level ``[b, r, codes of the level]``.
        """

    @abstractmethod
    def states(self, encoded: Any, *, at_every_item: bool = False) -> torch.Tensor:
        """What the network knows after each item of the history, ``[b, t, d]``, or after the last one, ``[b, 1, d]``."""

    @abstractmethod
    def start_decoding(self, encoded: Any) -> CodeDecoder:
        """A decoder for :func:`recbole_gr.decoding.beam_search.beam_search`."""

    def forward(
        self, history: History, targets: torch.Tensor, present: torch.Tensor, *, at_every_item: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean cross-entropy over the codes of the next items.

        Args:
            history: b histories.
            targets: int64 ``[b, r, L]``: what follows each history (r = 1), or each of its items (r = t).
            present: bool ``[b, r]``, which of the targets count.
            at_every_item: whether there is a target for each item of the history.

        Returns:
            tuple: the loss, a scalar; the states that the targets follow, ``[b, r, d]``.
        """
        encoded = self.encode(history)
        logits = self.code_logits(encoded, targets, at_every_item=at_every_item)
        return self.loss(logits, targets, present), self.states(encoded, at_every_item=at_every_item)

    def loss(self, logits: list[torch.Tensor], targets: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of the logits of every level, ``[b, r, codes of the level]``; the rest as :meth:`forward`.

        With ``code_temperature`` it is LETTER's ranking-guided generation loss (arXiv 2405.07314, section 3.3): the softmax of the
        logits divided by it.
        """
        expected = targets.masked_fill(~present.unsqueeze(-1), -100)  # what cross_entropy leaves out
        losses = [
            F.cross_entropy(
                level.flatten(0, 1).float() / self.options.code_temperature,
                expected[..., i].flatten(),
                label_smoothing=self.options.label_smoothing,
            )
            for i, level in enumerate(logits)
        ]
        return torch.stack(losses).mean()

    def log_likelihood(self, encoded: Any, codes: torch.Tensor) -> torch.Tensor:
        """Exact log-probability of given items: float32 ``[b, r]`` for codes int64 ``[b, r, L]``."""
        log_probs = [level.float().log_softmax(-1) for level in self.code_logits(encoded, codes)]
        by_level = [level.gather(-1, codes[..., i : i + 1]).squeeze(-1) for i, level in enumerate(log_probs)]
        return sum(by_level[1:], by_level[0])

    def item_tokens(self, history: History) -> torch.Tensor:
        """Tokens of the history's codes, int64 ``[b, t, L]``, 0 beyond its length."""
        return (history.codes + self.level_offset).masked_fill(~history.items().unsqueeze(-1), 0)

    def with_user(
        self, hidden: torch.Tensor, present: torch.Tensor, users: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Put the hashed user before the positions, if the vocabulary has users: ``[b, p, d]`` and bool ``[b, p]``."""
        if not self.options.user_buckets:
            return hidden, present
        assert users is not None
        user_token = self.first_user_token + users % self.options.user_buckets
        hidden = torch.cat([self.embedding(user_token).unsqueeze(1), hidden], dim=1)
        return hidden, F.pad(present, (1, 0), value=True)

    def positions(self, history: History) -> tuple[torch.Tensor, torch.Tensor]:
        """The input of a stack over the history.

        Returns:
            tuple: ``[b, positions, d]``; which positions there are, bool ``[b, positions]``. First the user, if the
            vocabulary has users, then :attr:`positions_per_item` of each item.
        """
        tokens, items = self.item_tokens(history), history.items()
        if self.options.history_position == "item":
            hidden, present = self.embedding(tokens).sum(dim=2), items
            if history.injected is not None:
                hidden = hidden + history.injected
            return self.with_user(hidden, present, history.users)
        if self.options.separator:
            tokens = F.pad(tokens, (0, 1), value=self.separator_token)
        hidden = self.embedding(tokens)
        if history.injected is not None:
            hidden = hidden + history.injected.unsqueeze(2)
        present = items.unsqueeze(-1).expand_as(tokens).flatten(1)
        return self.with_user(hidden.flatten(1, 2), present, history.users)

    @property
    def positions_per_item(self) -> int:
        """How many positions of a stack over the history an item has."""
        return 1 if self.options.history_position == "item" else self.n_levels + self.options.separator
