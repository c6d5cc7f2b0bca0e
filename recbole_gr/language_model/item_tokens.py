"""Items as a language model generates them: the tokens of their titles, or of their semantic IDs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class ItemTokens:
    """The tokens of all items in one flat array; each title is tokenised once.

    Args:
        tokens: int64 ``[total]``.
        first: int64 ``[n_items + 1]``; item i has ``tokens[first[i]:first[i + 1]]``, padding has none.
        measures: for the run record.
    """

    tokens: np.ndarray
    first: np.ndarray
    measures: dict[str, Any] = field(default_factory=dict)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each item: int64 ``[n_items]``."""
        return self.first[1:] - self.first[:-1]


def title_numbers(items: ItemTokens) -> np.ndarray:
    """A number of each item's tokens, int64 ``[n_items]``: equal for equal tokens, and by all likelihood for these only."""
    place = np.arange(len(items.tokens)) - np.repeat(items.first[:-1], items.lengths)
    factors = np.random.default_rng(0).integers(
        1, 1 << 63, size=int(items.lengths.max(initial=1)), dtype=np.uint64
    ) | np.uint64(1)
    summed = np.append(np.uint64(0), np.cumsum((items.tokens.astype(np.uint64) + np.uint64(1)) * factors[place]))
    return (summed[items.first[1:]] - summed[items.first[:-1]]).view(np.int64)


def tokenise_titles(
    titles: Sequence[str], llm_tokenizer: Any, max_tokens: int, duplicates: str, suffixes: Sequence[str] | None = None
) -> ItemTokens:
    """The tokens of titles, each ended by the eos of the language model's tokenizer.

    Titles longer than ``max_tokens`` are truncated. Items whose tokens are the same after that are counted, and made
    distinct as ``duplicates`` says.

    Args:
        titles: one per item id; entry 0, the padding, is not used, the others are not empty.
        llm_tokenizer (transformers.PreTrainedTokenizerFast): with an eos token.
        max_tokens: tokens kept of a title, neither suffix nor eos counted.
        duplicates: ``tied``, they stay the same; ``counter``, the second of them by item id gets " (2)", the third
            " (3)", ...
        suffixes: with ``counter``, one per item id: first try, " (suffix)" behind the title; may be empty.

    Returns:
        ItemTokens
    """
    full = _tokens_of(titles[1:], llm_tokenizer)
    kept = [tokens[:max_tokens] for tokens in full]
    sharing = sum(count for count in Counter(kept).values() if count > 1)
    made = kept
    if duplicates != "tied":
        if suffixes is not None:
            made = _with_suffixes(made, suffixes[1:], llm_tokenizer)
        made = with_counters(made, llm_tokenizer)
    laid = laid_end_to_end(made, llm_tokenizer.eos_token_id)
    lengths = laid.lengths
    measures = {
        "distinct_titles": len(set(made)),
        "items_sharing_a_title": sharing,
        "items_told_apart": sum(before != after for before, after in zip(kept, made, strict=True)),
        "cut_titles": sum(before != after for before, after in zip(full, kept, strict=True)),
        "mean_title_tokens": round(float(lengths[1:].mean()), 2),
        "longest_title_tokens": int(lengths.max()),
    }
    return ItemTokens(laid.tokens, laid.first, measures)


def laid_end_to_end(made: Sequence[tuple[int, ...]], end: int) -> ItemTokens:
    """The tokens of items 1, 2, ... in one flat array, each followed by the token that ends it."""
    lengths = np.array([0] + [len(tokens) + 1 for tokens in made])
    flat = [token for tokens in made for token in (*tokens, end)]
    return ItemTokens(np.array(flat, dtype=np.int64), np.append(0, lengths.cumsum()))


def codes_as_tokens(codes: np.ndarray, codebook_sizes: Sequence[int], first_token: int) -> ItemTokens:
    """Semantic IDs as new words of a language model: code c of level l is token ``first_token`` + offset of l + c.

    Args:
        codes: int ``[n_items, L]``, row 0 is the padding item.
        codebook_sizes: codes per level.
        first_token: how many tokens there were before.

    Returns:
        ItemTokens
    """
    offsets = first_token + np.append(0, np.cumsum(codebook_sizes)[:-1])
    levels = codes.shape[1]
    first = np.append(0, np.arange(len(codes)) * levels)
    distinct = len(np.unique(codes[1:], axis=0))
    measures = {"distinct_titles": distinct, "mean_title_tokens": float(levels), "longest_title_tokens": levels}
    return ItemTokens((codes[1:] + offsets).reshape(-1).astype(np.int64), first, measures)


def _tokens_of(texts: Sequence[str], llm_tokenizer: Any) -> list[tuple[int, ...]]:
    """A tuple of tokens per text; what looks like a special token in a text is text."""
    encoded = llm_tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return [tuple(token for token in tokens if token != llm_tokenizer.eos_token_id) for tokens in encoded]


def _with_suffixes(made: list[tuple[int, ...]], suffixes: Sequence[str], llm_tokenizer: Any) -> list[tuple[int, ...]]:
    count = Counter(made)
    where = [item for item, tokens in enumerate(made) if count[tokens] > 1 and suffixes[item]]
    made = list(made)
    for item, suffix in zip(where, _tokens_of([f" ({suffixes[item]})" for item in where], llm_tokenizer), strict=True):
        made[item] += suffix
    return made


def with_counters(made: Sequence[tuple[int, ...]], llm_tokenizer: Any) -> list[tuple[int, ...]]:
    """Tuples of tokens of which no two are the same: the second one by place has " (2)" behind it, the third " (3)", ...

    Args:
        made: one per item.
        llm_tokenizer (transformers.PreTrainedTokenizerFast): whose tokens these are.
    """
    taken, made = set(made), list(made)
    number: Counter[tuple[int, ...]] = Counter()
    suffixes = _Counters(llm_tokenizer)
    for item, tokens in enumerate(made):
        number[tokens] += 1
        if number[tokens] == 1:
            continue
        while tokens + suffixes[number[tokens]] in taken:  # another item has this name already
            number[tokens] += 1
        made[item] = tokens + suffixes[number[tokens]]
        taken.add(made[item])
    return made


class _Counters(dict[int, tuple[int, ...]]):
    """The tokens of " (2)" by 2, and so on; each is tokenised once."""

    def __init__(self, llm_tokenizer: Any) -> None:
        super().__init__()
        self.llm_tokenizer = llm_tokenizer

    def __missing__(self, number: int) -> tuple[int, ...]:
        (self[number],) = _tokens_of([f" ({number})"], self.llm_tokenizer)
        return self[number]
