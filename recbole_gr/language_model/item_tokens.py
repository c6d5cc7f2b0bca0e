"""Items as a language model writes them: the tokens of their titles, or of their semantic IDs."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np


@dataclass
class ItemTokens:
    """The tokens of all items in one flat array; each title is tokenised once.

    Args:
        tokens (np.ndarray): int64 ``[total]``.
        first (np.ndarray): int64 ``[n_items + 1]``; item i has ``tokens[first[i]:first[i + 1]]``, padding has none.
        measures (dict): for the run record.
    """

    tokens: np.ndarray
    first: np.ndarray
    measures: dict = field(default_factory=dict)

    @property
    def lengths(self):
        """Tokens of each item: int64 ``[n_items]``."""
        return self.first[1:] - self.first[:-1]


def tokenise_titles(titles, tokenizer, max_tokens, duplicates, suffixes=None):
    """The tokens of titles, each ended by the tokenizer's eos.

    Titles longer than ``max_tokens`` are cut. Items whose tokens are the same after that are counted, and told apart as
    ``duplicates`` says.

    Args:
        titles (list of str): one per item id; entry 0, the padding, is not used, the others are not empty.
        tokenizer (transformers.PreTrainedTokenizerFast): with an eos token.
        max_tokens (int): tokens kept of a title, neither suffix nor eos counted.
        duplicates (str): ``tied``, they stay the same; ``counter``, the second of them by item id gets " (2)", the third
            " (3)", ...
        suffixes (list of str): with ``counter``, one per item id: first try, " (suffix)" behind the title; may be empty.

    Returns:
        ItemTokens
    """
    whole = _tokens_of(titles[1:], tokenizer)
    kept = [tokens[:max_tokens] for tokens in whole]
    sharing = sum(count for count in Counter(kept).values() if count > 1)
    made = kept
    if duplicates != "tied":
        if suffixes is not None:
            made = _with_suffixes(made, suffixes[1:], tokenizer)
        made = _with_counters(made, tokenizer)
    lengths = np.array([0] + [len(tokens) + 1 for tokens in made])
    flat = [token for tokens in made for token in (*tokens, tokenizer.eos_token_id)]
    measures = {
        "distinct_titles": len(set(made)),
        "items_sharing_a_title": sharing,
        "items_told_apart": sum(before != after for before, after in zip(kept, made)),
        "cut_titles": sum(before != after for before, after in zip(whole, kept)),
        "mean_title_tokens": round(float(lengths[1:].mean()), 2),
        "longest_title_tokens": int(lengths.max()),
    }
    return ItemTokens(np.array(flat, dtype=np.int64), np.append(0, lengths.cumsum()), measures)


def codes_as_tokens(codes, codebook_sizes, first_token):
    """Semantic IDs as new words of a language model: code c of level l is token ``first_token`` + offset of l + c.

    Args:
        codes (np.ndarray): int ``[n_items, L]``, row 0 is the padding item.
        codebook_sizes (sequence of int): codes per level.
        first_token (int): how many tokens there were before.

    Returns:
        ItemTokens
    """
    offsets = first_token + np.append(0, np.cumsum(codebook_sizes)[:-1])
    levels = codes.shape[1]
    first = np.append(0, np.arange(len(codes)) * levels)
    distinct = len(np.unique(codes[1:], axis=0))
    measures = {"distinct_titles": distinct, "mean_title_tokens": float(levels), "longest_title_tokens": levels}
    return ItemTokens((codes[1:] + offsets).reshape(-1).astype(np.int64), first, measures)


def _tokens_of(texts, tokenizer):
    """A tuple of tokens per text; what looks like a special token in a text is text."""
    encoded = tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return [tuple(token for token in tokens if token != tokenizer.eos_token_id) for tokens in encoded]


def _with_suffixes(made, suffixes, tokenizer):
    count = Counter(made)
    where = [item for item, tokens in enumerate(made) if count[tokens] > 1 and suffixes[item]]
    made = list(made)
    for item, suffix in zip(where, _tokens_of([f" ({suffixes[item]})" for item in where], tokenizer)):
        made[item] += suffix
    return made


def _with_counters(made, tokenizer):
    taken, number, made = set(made), Counter(), list(made)
    suffixes = _Counters(tokenizer)
    for item, tokens in enumerate(made):
        number[tokens] += 1
        if number[tokens] == 1:
            continue
        while tokens + suffixes[number[tokens]] in taken:  # another item is called so already
            number[tokens] += 1
        made[item] = tokens + suffixes[number[tokens]]
        taken.add(made[item])
    return made


class _Counters(dict):
    """The tokens of " (2)" by 2, and so on; each is tokenised once."""

    def __init__(self, tokenizer):
        super().__init__()
        self.tokenizer = tokenizer

    def __missing__(self, number):
        (self[number],) = _tokens_of([f" ({number})"], self.tokenizer)
        return self[number]
