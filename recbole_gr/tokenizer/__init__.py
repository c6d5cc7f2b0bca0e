"""Vectors -> semantic IDs. Knows nothing of RecBole.

A tokenizer is a function ``(vectors, codebook_num, codebook_size, seed, **options) -> (codes, codebooks)`` with an
entry in :data:`TOKENIZERS`; collisions are resolved after it, by the same rules for all.
"""

import numpy as np

from recbole_gr.errors import DataError, SettingError
from recbole_gr.tokenizer.collision import COLLISION_RULES, append_digit, resolve_collisions
from recbole_gr.tokenizer.rkmeans import rkmeans
from recbole_gr.tokenizer.semantic_ids import SemanticIDs
from recbole_gr.tokenizer.sid_file import read_sid_file

TOKENIZERS = {"rkmeans": rkmeans}

__all__ = [
    "COLLISION_RULES",
    "TOKENIZERS",
    "SemanticIDs",
    "append_digit",
    "read_sid_file",
    "resolve_collisions",
    "rkmeans",
    "tokenize",
]


def tokenize(vectors, tokenizer="rkmeans", codebook_num=3, codebook_size=256, collision="digit", seed=2020, **options):
    """Make one semantic ID per item.

    Args:
        vectors (np.ndarray): float32 ``[n_items, d]``; row = item id, row 0 = padding, not used.
        tokenizer (str): a key of :data:`TOKENIZERS`.
        codebook_num, codebook_size (int): levels and codes per level.
        collision (str): one of :data:`COLLISION_RULES`.
        seed (int): seed of the tokenizer.
        options: further arguments of the tokenizer.

    Returns:
        SemanticIDs

    Raises:
        SettingError: an unknown name, or a codebook that does not fit the catalogue.
        DataError: a vector holds NaN or infinity.
    """
    if tokenizer not in TOKENIZERS:
        raise SettingError("tokenizer", tokenizer, f"must be one of {', '.join(TOKENIZERS)}")
    if collision not in COLLISION_RULES:
        raise SettingError("collision", collision, f"must be one of {', '.join(COLLISION_RULES)}")
    for key, value in (("codebook_num", codebook_num), ("codebook_size", codebook_size)):
        if not isinstance(value, int) or value < 1:
            raise SettingError(key, value, "must be a whole number of at least 1")
    damaged = np.flatnonzero(~np.isfinite(vectors[1:]).all(axis=1))
    if len(damaged):
        raise DataError(
            f"vectors: {len(damaged)} items have NaN or infinite values, the first is item {damaged[0] + 1}"
        )
    codes, _ = TOKENIZERS[tokenizer](vectors[1:], codebook_num, codebook_size, seed=seed, **options)
    codes, sizes = resolve_collisions(codes, (codebook_size,) * codebook_num, collision)
    codes = np.concatenate([np.full((1, codes.shape[1]), -1, dtype=np.int32), codes])
    settings = {"tokenizer": tokenizer, "codebook_num": codebook_num, "codebook_size": codebook_size, "seed": seed}
    return SemanticIDs(codes, sizes, collision, {**settings, **options})
