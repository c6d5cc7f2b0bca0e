"""Semantic IDs for items that come later: by the same quantiser and the same collision rule, and no ID that there is changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recbole_gr.tokenizers.collision import append_digits_behind, recode_behind
from recbole_gr.tokenizers.registry import find_encoder
from recbole_gr.tokenizers.semantic_ids import Quantised, SemanticIDs
from recbole_gr.utils.errors import DataError
from recbole_gr.vectors.vector_file import fault_of


def extend_semantic_ids(ids: SemanticIDs, vectors: np.ndarray, item_tokens: np.ndarray) -> SemanticIDs:
    """Give new items semantic IDs.

    Args:
        ids: of the items that there were, with ``fitted`` and ``item_tokens``.
        vectors: float32 ``[new + 1, d]`` of the new items, prepared as theirs were; row 0 is padding.
        item_tokens: str ``[new + 1]``; entry 0 is padding.

    Returns:
        SemanticIDs: of the old items, as they were, and behind them of the new ones. With ``digit`` the last codebook may be
        larger than before.

    Raises:
        SettingError: the tokenizer cannot give codes to new items, or a prefix has no free code left.
        DataError: a vector is not finite, or has not the dimension of the others.
    """
    assert ids.item_tokens is not None
    source = ids.source
    encode = find_encoder(source["tokenizer"])
    if (fault := fault_of(vectors, item_tokens, allow_zero=True)) is not None:
        raise DataError(fault)
    if vectors.shape[1] != source.get("dimension", vectors.shape[1]):
        raise DataError(f"new items have vectors of {vectors.shape[1]} dimensions, those before had {source['dimension']}")
    quantised = encode(vectors[1:], ids.fitted, source)
    codes, sizes = _without_collisions(ids, quantised)
    return replace(
        ids,
        codes=np.concatenate([ids.codes, codes]),
        codebook_sizes=sizes,
        source={**source, "extended_by": source.get("extended_by", 0) + len(codes)},
        item_tokens=np.append(ids.item_tokens, item_tokens[1:]),
    )


def _without_collisions(ids: SemanticIDs, quantised: Quantised) -> tuple[np.ndarray, tuple[int, ...]]:
    """Codes of the new items alone, int32 ``[new, L]``, and the codebook sizes of all."""
    kept, sizes = ids.codes[1:], ids.codebook_sizes
    if ids.collision == "none":
        return quantised.codes, sizes
    if ids.collision == "digit":
        codes = append_digits_behind(kept, quantised.codes)
        return codes, (*sizes[:-1], max(sizes[-1], int(codes[:, -1].max()) + 1))
    return recode_behind(kept, quantised, sizes, ids.collision), sizes
