"""Textual IDs as a model has them: tokens of a vocabulary, as rows of a table, and back as text."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from recbole_gr.language_model.item_tokens import ItemTokens, laid_end_to_end


class Vocabulary(Protocol):
    """What the tokens of IDs mean."""

    size: int
    begin: int
    end: int

    def text(self, tokens: Sequence[int]) -> str:
        """The words of an ID."""


class WordVocabulary:
    """The words of keyphrase IDs: token 0 begins an ID and is padding, 1 ends it, then the words in alphabetical order.

    Args:
        ids: the words of every item's ID.
    """

    begin, end = 0, 1

    def __init__(self, ids: Sequence[tuple[str, ...]]) -> None:
        self.words = sorted({word for one in ids for word in one})
        self.token_of = {word: token for token, word in enumerate(self.words, start=2)}
        self.size = 2 + len(self.words)

    def tokens(self, ids: Sequence[tuple[str, ...]]) -> list[tuple[int, ...]]:
        """The tokens of IDs."""
        return [tuple(self.token_of[word] for word in one) for one in ids]

    def text(self, tokens: Sequence[int]) -> str:
        return " ".join(self.words[token - 2] for token in tokens)


class TokenizerVocabulary:
    """The tokens of a T5.

    Args:
        llm_tokenizer: a ``transformers.PreTrainedTokenizerFast`` with an eos token.
        size: rows of the model's embedding.
        begin: the token that its decoder begins with.
    """

    def __init__(self, llm_tokenizer: Any, size: int, begin: int) -> None:
        self.llm_tokenizer, self.size, self.begin, self.end = llm_tokenizer, size, begin, llm_tokenizer.eos_token_id

    def text(self, tokens: Sequence[int]) -> str:
        return self.llm_tokenizer.decode(list(tokens))


def as_table(items: ItemTokens) -> torch.Tensor:
    """IDs as rows: int64 ``[n_items, longest]``, 0 behind their ends."""
    table = np.zeros((len(items.lengths), int(items.lengths.max())), dtype=np.int64)
    table[np.arange(table.shape[1]) < items.lengths[:, None]] = items.tokens
    return torch.from_numpy(table)


def as_item_tokens(table: torch.Tensor, lengths: torch.Tensor) -> ItemTokens:
    """The way back from :func:`as_table`, with the lengths int64 ``[n_items]``."""
    rows, count = table.cpu().numpy(), lengths.cpu().numpy()
    tokens = rows[np.arange(rows.shape[1]) < count[:, None]]
    return ItemTokens(tokens, np.append(0, count.cumsum()))


def with_ends(made: Sequence[tuple[int, ...]], end: int) -> ItemTokens:
    """IDs of items 0, 1, ..., of which 0 is the padding, each ended."""
    return laid_end_to_end(made[1:], end)
