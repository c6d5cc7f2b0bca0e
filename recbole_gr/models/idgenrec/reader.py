"""What the search over the trie of IDs asks of the network: log-probabilities of the words behind each beam."""

import copy

import torch

from recbole_gr.models.idgenrec.network import Encoded, IDNetwork


class NextWords:
    """Log-probabilities of what follows each token that was read.

    Args:
        logits: float32 ``[rows, vocabulary]``.
    """

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits, self.rows = logits, len(logits)
        # log_softmax, which on a CPU is twice as quick as logsumexp
        self.normaliser = logits.amax(dim=-1) - logits.log_softmax(dim=-1).amax(dim=-1)

    def log_prob(self, row: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
        """Exact log-probabilities over the whole vocabulary: float32, shaped as ``row`` and ``token`` (int64)."""
        return self.logits[row, token] - self.normaliser[row]


class IDReader:
    """A decoder for :func:`~recbole_gr.decoding.title_search.title_beam_search`.

    The history's keys and values are there once per user; those of what was generated, once per beam.

    Args:
        network: generates IDs.
        encoded: the histories of some users.
    """

    def __init__(self, network: IDNetwork, encoded: Encoded) -> None:
        self.network = network
        self.bias = encoded.bias
        self.histories = network.decoder.history_keys_values(encoded.hidden)

    def select(self, users: torch.Tensor) -> "IDReader":
        """The same for some of the users (int64 indices), before anything was generated."""
        part = copy.copy(self)
        part.bias = self.bias[users]
        part.histories = [(keys[users], values[users]) for keys, values in self.histories]
        return part

    def start(self) -> NextWords:
        """The first words, one row per user."""
        users, device = len(self.bias), self.bias.device
        shape = self.network.shape
        empty = torch.zeros(users, 1, 2, shape.n_heads, 0, shape.d_kv, device=device)
        self.past = [empty for _ in self.histories]  # keys and values of every layer, [users, beams, 2, h, n, e]
        begin = torch.full((users, 1, 1), self.network.begin, device=device)
        beam = torch.zeros(users, 1, dtype=torch.long, device=device)
        return NextWords(self.network.logits(self._read(beam, begin, beam)[:, 0, 0]))

    def follow(self, parent: torch.Tensor) -> None:
        """Continue the beams ``parent``, int64 ``[users, beams]``."""
        row = (torch.arange(len(parent), device=parent.device).unsqueeze(1) * self.past[0].shape[1] + parent).flatten()
        self.past = [so_far.flatten(0, 1).index_select(0, row).unflatten(0, parent.shape) for so_far in self.past]

    def read(self, beam: torch.Tensor, tokens: torch.Tensor, begin: torch.Tensor, count: torch.Tensor) -> NextWords:
        """Further tokens of some beams; see :class:`~recbole_gr.decoding.protocols.TitleDecoder`."""
        states = self._read(beam, tokens, begin + 1)  # behind the token that an ID begins from
        inside = torch.arange(tokens.shape[-1], device=count.device) < count.unsqueeze(-1)
        return NextWords(self.network.logits(states[inside]))

    def _read(self, beam: torch.Tensor, tokens: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
        """States ``[users, r, s, d]`` of tokens ``[users, r, s]`` that beams ``[users, r]`` have at places from ``first`` on.

        What stands beyond the tokens that count is put at places that no beam sees before it has read there.
        """
        users, beams = self.past[0].shape[:2]
        place = (first.unsqueeze(-1) + torch.arange(tokens.shape[-1], device=tokens.device)).flatten(0, 1)
        room = int(place.max()) + 1 - self.past[0].shape[4]
        if room > 0:
            self.past = [torch.nn.functional.pad(so_far, (0, 0, 0, room)) for so_far in self.past]
        row = (torch.arange(users, device=beam.device).unsqueeze(1) * beams + beam).flatten()
        past = [so_far.flatten(0, 1).index_select(0, row) for so_far in self.past]
        states = self.network.decoder.read_on(
            self.network.embedding(tokens), past, place, histories=self.histories, history_bias=self.bias
        )
        for so_far, read in zip(self.past, past, strict=True):
            so_far.view(users * beams, *so_far.shape[2:])[row] = read
        return states
