"""The network of RPG: a causal stack over items, and a head for each digit of the next one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from recbole_gr.models.tiger.history import History
from recbole_gr.models.tiger.layers import Encoder, initialise_attention

#: What embeddings begin with. The logits know their direction alone, which a step of the optimizer turns the quicker the shorter
#: they are; as parts of items they are lengthened again.
EMBEDDING_STD = 0.1


@dataclass(frozen=True)
class RPGOptions:
    """How the network is built; the settings of the same names say what each is."""

    n_layers: int
    d_model: int
    n_heads: int
    d_kv: int
    d_ff: int
    feed_forward: str = "relu"
    dropout: float = 0.0
    residual_dropout: float = 0.0
    scaled_attention: bool = False
    temperature: float = 0.03
    digits_per_step: int | None = None


class RPGNetwork(nn.Module):
    """From histories of semantic IDs to log-probabilities of the next item's codes, each independent of the others.

    An item is the mean of the embeddings of its codes, by :data:`EMBEDDING_STD`. The state after an item goes through a residual layer per digit, and
    the logit of a code is the cosine of that with the code's embedding, divided by the temperature.

    Args:
        codebook_sizes: codes of each digit.
        options: how it is built.
    """

    first_code: torch.Tensor
    no_code: torch.Tensor | None

    def __init__(self, codebook_sizes: Sequence[int], options: RPGOptions) -> None:
        super().__init__()
        self.codebook_sizes, self.options = tuple(codebook_sizes), options
        self.n_digits, self.n_codes, d_model = len(codebook_sizes), max(codebook_sizes), options.d_model
        # digits of fewer codes have rows that no item uses, so that all digits are one product of matrices
        self.embedding = nn.Embedding(self.n_digits * self.n_codes, d_model)
        first = torch.arange(self.n_digits) * self.n_codes
        self.register_buffer("first_code", first, persistent=False)
        unused = torch.arange(self.n_codes) >= torch.tensor(self.codebook_sizes).unsqueeze(1)
        self.register_buffer("no_code", unused.unsqueeze(1) if unused.any() else None, persistent=False)
        not_of_stack = ("scaled_attention", "temperature", "digits_per_step")
        stack: dict[str, Any] = {name: value for name, value in vars(options).items() if name not in not_of_stack}
        self.items = Encoder(**stack, causal=True)
        self.heads = nn.Parameter(torch.empty(self.n_digits, d_model, d_model))
        self._initialise()

    def _initialise(self) -> None:
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
            if name.endswith("position_bias.bias.weight"):
                nn.init.zeros_(weight)
        nn.init.normal_(self.embedding.weight, std=EMBEDDING_STD)
        nn.init.zeros_(self.heads)  # each digit begins with the state as it is
        initialise_attention(self, scaled=self.options.scaled_attention)

    def places(self, codes: torch.Tensor) -> torch.Tensor:
        """Rows of the embedding that belong to codes int64 ``[..., m]``: int64 ``[..., m]``; so lie the log-probabilities too.

        The padding item, whose codes are -1, gets the rows of some codes; nothing may depend on it.
        """
        return codes.clamp(min=0) + self.first_code

    def code_embeddings(self) -> torch.Tensor:
        """``[m, codes, d]``."""
        return self.embedding.weight.view(self.n_digits, self.n_codes, -1)

    def states(self, history: History) -> torch.Tensor:
        """What the network knows after each item of the history, ``[b, t, d]``; behind its end, anything."""
        places = self.places(history.codes)
        items = F.embedding_bag(places.flatten(0, 1), self.embedding.weight, mode="mean") / EMBEDDING_STD
        return self.items(items.view(*places.shape[:2], -1))

    def last_states(self, history: History) -> torch.Tensor:
        """What the network knows after the whole history, ``[b, d]``."""
        states = self.states(history)
        last = (history.lengths - 1)[:, None, None].expand(-1, 1, states.shape[-1])
        return states.gather(1, last).squeeze(1)

    def logits(self, states: torch.Tensor, digits: torch.Tensor | None = None) -> torch.Tensor:
        """``[n, d]`` -> float32 ``[m, n, codes]``, of codes that a digit does not have -inf.

        In float32 whatever the rest is in: cosines that are divided by .03 and summed over digits need more than 8 bits, in
        training too.

        Args:
            states: what the network knows.
            digits: int64 ``[m']``, of which digits; None: of all.
        """
        heads: torch.Tensor = self.heads
        embeddings, no_code = self.code_embeddings(), self.no_code
        if digits is not None:
            heads, embeddings = heads.index_select(0, digits), embeddings.index_select(0, digits)
            no_code = None if no_code is None else no_code.index_select(0, digits)
        with torch.autocast(states.device.type, enabled=False):
            every = states.float().expand(len(heads), -1, -1)
            of_digit = F.normalize(every + F.silu(torch.bmm(every, heads)), dim=-1)
            codes = F.normalize(embeddings, dim=-1)
            logits = torch.bmm(of_digit / self.options.temperature, codes.transpose(1, 2))
        return logits if no_code is None else logits.masked_fill(no_code, -torch.inf)

    def drawn_digits(self) -> torch.Tensor | None:
        """Which digits' losses a training step computes: ``digits_per_step`` of them, int64; None: all.

        Each digit is as likely as the others, so the mean of their losses has the mean of all as its expectation, and its
        gradient that gradient.
        """
        few = self.options.digits_per_step
        if few is None or not self.training:
            return None
        return torch.randperm(self.n_digits, device=self.heads.device)[:few]

    def log_probs(self, states: torch.Tensor) -> torch.Tensor:
        """Log-probabilities of all codes after states ``[n, d]``: float32 ``[n, m * codes]``, laid out as :meth:`places` says."""
        return self.logits(states).log_softmax(dim=-1).transpose(0, 1).flatten(1)

    def forward(
        self, history: History, targets: torch.Tensor, present: torch.Tensor, *, at_every_item: bool
    ) -> torch.Tensor:
        """Mean cross-entropy over the codes of the next items; in training over those of :meth:`drawn_digits`.

        Args:
            history: b histories.
            targets: int64 ``[b, r, m]``, codes of what follows each history (r = 1), or each of its items (r = t).
            present: bool ``[b, r]``, which of the targets count.
            at_every_item: whether there is a target for each item of the history.

        Returns:
            A scalar.
        """
        states = self.states(history).flatten(0, 1) if at_every_item else self.last_states(history)
        expected = targets.masked_fill(~present.unsqueeze(-1), -100).flatten(0, 1).t()  # what cross_entropy leaves out
        if (digits := self.drawn_digits()) is not None:
            expected = expected.index_select(0, digits)
        return F.cross_entropy(self.logits(states, digits).flatten(0, 1), expected.flatten())
