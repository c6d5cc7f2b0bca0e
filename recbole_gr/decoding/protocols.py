"""What the searches need of a decoder and of a trie, for codes of semantic IDs and for tokens of titles.

A *decoder* computes log-probabilities of what follows the beams of some users. A *trie* holds all valid candidates; its
leaves are the distinct ones, and each leaf leads to the items that have it.
"""

from typing import Protocol, TypeVar

import torch

from recbole_gr.decoding.exclusion import Exclusion

DecoderT = TypeVar("DecoderT", bound="Decoder")


class Decoder(Protocol):
    """What :func:`~recbole_gr.decoding.beam_search.certified_beam_search` needs of every decoder."""

    def select(self: DecoderT, users: torch.Tensor) -> DecoderT:
        """The same decoder for some of its users (int64 indices), before anything was generated."""


class CodeDecoder(Decoder, Protocol):
    """Generates semantic IDs, for :func:`~recbole_gr.decoding.beam_search.beam_search`.

    Log-probabilities are over the *whole* level, not renormalised over the valid children, which keeps scores exact.
    """

    def start(self) -> torch.Tensor:
        """Log-probabilities of the first code: ``[users, 1, codes of level 0]``."""

    def advance(self, parent: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """Log-probabilities of the next code: ``[users, beams, codes of the next level]``.

        Args:
            parent: int64 ``[users, beams]``, the beams of the call before that are continued.
            code: int64 ``[users, beams]``, the code that each of them is continued by.
        """


class NextTokens(Protocol):
    """Log-probabilities of what follows each token that was read; one row per token."""

    rows: int

    def log_prob(self, row: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
        """Exact log-probabilities over the whole vocabulary: float32, shaped as ``row`` and ``token`` (int64)."""


class TitleDecoder(Decoder, Protocol):
    """Generates titles, for :func:`~recbole_gr.decoding.title_search.title_beam_search`."""

    def start(self) -> NextTokens:
        """What follows the prompts, one row per user."""

    def follow(self, parent: torch.Tensor) -> None:
        """Continue the beams ``parent``, int64 ``[users, beams]``."""

    def read(self, beam: torch.Tensor, tokens: torch.Tensor, begin: torch.Tensor, count: torch.Tensor) -> NextTokens:
        """Read further tokens of some beams.

        Args:
            beam: int64 ``[users, r]``, which beams.
            tokens: int64 ``[users, r, s]``, their next tokens.
            begin: int64 ``[users, r]``, how many tokens behind the prompt each beam has had before.
            count: int64 ``[users, r]``, how many of ``tokens`` count.

        Returns:
            One row for each token that counts, in the order of user, ``r``, ``s``.
        """


class ItemTrie(Protocol):
    """What every trie offers: its leaves, the items behind each leaf, and what a user may not be given."""

    n_items: int
    device: torch.device
    items: torch.Tensor
    first_item: torch.Tensor

    def n_nodes(self, depth: int) -> int:
        """Number of nodes of a depth; -1 stands for the leaves."""

    def items_of(self, leaves: torch.Tensor) -> torch.Tensor:
        """Number of items per leaf: int64, shaped as ``leaves``; 0 where a leaf is -1."""

    def exclusion(
        self, users: int, seen: tuple[torch.Tensor, torch.Tensor], allowed: torch.Tensor | None = None
    ) -> Exclusion:
        """What users are not given.

        Args:
            users: number of users.
            seen: rows and items, int64 each: the user in ``rows[j]`` has seen ``items[j]``.
            allowed: bool ``[n_items]``, the items that any user may be given; None: all.
        """
