"""The prompt: a history of items, oldest to newest, by a template."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from recbole_gr.language_model.item_tokens import ItemTokens
from recbole_gr.utils.arrays import nth_of, ragged


@dataclass
class TokenCounter:
    """How many tokens a language model has read."""

    tokens: int = 0


@dataclass
class LaidOut:
    """Prompts, and what follows them, one per row.

    Args:
        tokens: int64 ``[b, t]``, 0 beyond the end.
        prompt_lengths: int64 ``[b]``.
        target_lengths: int64 ``[b]``, tokens of the target behind the prompt; 0 without targets.
        items: int64 ``[b, t]``, to which item of the history a token belongs, 0 where to none.
        vector_places: bool ``[b, t]``, where an item's vector stands in place of a token.
    """

    tokens: torch.Tensor
    prompt_lengths: torch.Tensor
    target_lengths: torch.Tensor
    items: torch.Tensor
    vector_places: torch.Tensor


def template_tokens(
    llm_tokenizer: Any, template: str, separator: str, slot: str = "{history}"
) -> tuple[list[int], list[int], list[int]]:
    """The tokens of a prompt's template: before the history, between items, and behind it.

    Before the history also stands what the tokenizer puts at the beginning of a text by itself, e.g. bos.

    Args:
        llm_tokenizer (transformers.PreTrainedTokenizerFast): of the language model.
        template: text with the slot in it once.
        separator: text between two items.
        slot: where the history stands.

    Returns:
        tuple: three lists of int.
    """
    before, after = template.split(slot)
    special, alone = (llm_tokenizer("a", add_special_tokens=added)["input_ids"] for added in (True, False))
    beginning = special[: special.index(alone[0])]
    pieces = [
        llm_tokenizer(text, add_special_tokens=False)["input_ids"] if text else [] for text in (before, separator, after)
    ]
    return beginning + pieces[0], pieces[1], pieces[2]


#: Pieces that a row is put together from; behind them the items as parts of a history, then the items as targets.
NOTHING, BEFORE, SEPARATOR, AFTER, VECTOR, FIRST_ITEM = range(6)


class PromptLayout:
    """Lays out prompts from the tokens of their pieces, for all rows of a batch at once.

    On the CPU: how large what is laid out gets, the tokens decide, and a GPU would have to be waited for.

    A prompt is ``before``, the items' tokens with ``separator`` between them, and ``after``. Where that is more than
    ``max_tokens``, the oldest items are left out, each with all its tokens, so that the newest fit.

    Args:
        item_tokens: the tokens of all items.
        before, separator, after: tokens of the template.
        max_tokens: the longest prompt.
        ending: how many tokens at the end of an item's are there in a target only, 1 for the eos of titles.
        vector_places: whether one more position follows each item's tokens, for its vector.
        targets: the tokens of all items as they are generated; None: as they are read.
    """

    pool: torch.Tensor
    piece_start: torch.Tensor
    piece_length: torch.Tensor

    def __init__(
        self,
        item_tokens: ItemTokens,
        before: list[int],
        separator: list[int],
        after: list[int],
        max_tokens: int,
        ending: int,
        vector_places: bool = False,
        targets: ItemTokens | None = None,
    ) -> None:
        self.max_tokens, self.ending = max_tokens, ending
        self.n_items = len(item_tokens.lengths)
        self.first_target = FIRST_ITEM + self.n_items
        template = [before, separator, after, [0] * vector_places]
        in_history = np.maximum(item_tokens.lengths - ending, 0)
        in_template = np.cumsum([0, *map(len, template)])
        item_start = item_tokens.first[:-1] + in_template[-1]
        parts, target_start, target_lengths = [item_tokens.tokens], item_start, item_tokens.lengths
        if targets is not None:
            target_start, target_lengths = targets.first[:-1] + in_template[-1] + len(item_tokens.tokens), targets.lengths
            parts.append(targets.tokens)
        pool = np.concatenate([np.array(sum(template, []), dtype=np.int64), *parts])
        tables = {
            "pool": pool,
            "piece_start": np.concatenate([[0], in_template[:-1], item_start, target_start]),
            "piece_length": np.concatenate([[0], [len(piece) for piece in template], in_history, target_lengths]),
        }
        for name, table in tables.items():
            setattr(self, name, torch.from_numpy(table))

    @property
    def longest_newest(self) -> int:
        """Tokens of the longest prompt with one item."""
        return int(self.piece_length[[BEFORE, AFTER, VECTOR]].sum() + self._in_history().max())

    @property
    def longest_target(self) -> int:
        """Tokens of the longest item as it is generated."""
        return int(self.piece_length[self.first_target :].max())

    def _in_history(self) -> torch.Tensor:
        return self.piece_length[FIRST_ITEM : self.first_target]

    def __call__(self, history: torch.Tensor, lengths: torch.Tensor, target: torch.Tensor | None = None) -> LaidOut:
        """Lay out a batch.

        Args:
            history: int64 ``[b, t]``, item ids, oldest first; anything beyond ``lengths``.
            lengths: int64 ``[b]``, items in each history, at least one.
            target: int64 ``[b]``, the items behind the prompts; None for prompts only.

        Returns:
            LaidOut
        """
        kept = self._that_fit(history, lengths)
        pieces = self._pieces(history.masked_fill(~kept, 0), kept)
        items = torch.zeros_like(pieces)
        places = items[:, 1:-1].unflatten(1, (-1, 3))  # a view of items
        places[:, :, :2] = history.masked_fill(~kept, 0).unsqueeze(-1)
        if target is not None:
            pieces = torch.cat([pieces, (self.first_target + target).unsqueeze(1)], dim=1)
            items = torch.nn.functional.pad(items, (0, 1))
        sizes = self.piece_length[pieces]
        target_lengths = sizes[:, -1] if target is not None else torch.zeros_like(lengths)
        tokens, items, vectors = self._lay_out(pieces, sizes, items)
        return LaidOut(tokens, sizes.sum(dim=1) - target_lengths, target_lengths, items, vectors)

    def _that_fit(self, history: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Which items of the histories the prompts hold: bool ``[b, t]``."""
        inside = torch.arange(history.shape[1], device=history.device) < lengths.unsqueeze(1)
        size = self._in_history()[history.masked_fill(~inside, 0)] + self.piece_length[SEPARATOR] + self.piece_length[VECTOR]
        from_here_on = size.masked_fill(~inside, 0).flip(1).cumsum(1).flip(1) - self.piece_length[SEPARATOR]
        room = self.max_tokens - self.piece_length[BEFORE] - self.piece_length[AFTER]
        return inside & (from_here_on <= room)

    def _pieces(self, history: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """The pieces of prompts ``[b, 2 + 3 t]``: before, then item, vector and separator in turns, then after."""
        items = torch.where(kept, FIRST_ITEM + history, NOTHING)
        newer = torch.nn.functional.pad(kept[:, 1:], (0, 1))
        separators = torch.where(kept & newer, SEPARATOR, NOTHING)
        vectors = torch.where(kept, VECTOR, NOTHING)
        in_turns = torch.stack([items, vectors, separators], dim=2).flatten(1)
        ends = [torch.full_like(in_turns[:, :1], piece) for piece in (BEFORE, AFTER)]
        return torch.cat([ends[0], in_turns, ends[1]], dim=1)

    def _lay_out(self, pieces: torch.Tensor, sizes: torch.Tensor, items: torch.Tensor) -> list[torch.Tensor]:
        flat_sizes = sizes.flatten()
        owner, nth = ragged(flat_sizes)
        row, piece = owner // sizes.shape[1], pieces.flatten()[owner]
        of_row = sizes.sum(dim=1)
        column = nth_of(row, of_row)
        shape = (len(sizes), int(of_row.max()))
        laid = [torch.zeros(shape, dtype=kind, device=sizes.device) for kind in (torch.long, torch.long, torch.bool)]
        values = (self.pool[self.piece_start[piece] + nth], items.flatten()[owner], piece == VECTOR)
        for matrix, value in zip(laid, values, strict=True):
            matrix[row, column] = value
        return laid
