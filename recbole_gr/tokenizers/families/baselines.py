"""The baselines of TIGER's ablation: random codes, and codes of random hyperplanes (arXiv 2305.05065, 4.2)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from recbole_gr.tokenizers.semantic_ids import Quantised, check_codes_of_bits
from recbole_gr.utils.errors import SettingError


def random(vectors: np.ndarray, codebook_num: int, codebook_size: int, *, seed: int = 2020) -> Quantised:
    """Codes drawn uniformly and independently; of the vectors only their number counts.

    Returns:
        Codes without geometry.
    """
    codes = np.random.default_rng(seed).integers(0, codebook_size, size=(len(vectors), codebook_num), dtype=np.int32)
    return Quantised(codes)


def lsh(vectors: np.ndarray, codebook_num: int, codebook_size: int, *, seed: int = 2020) -> Quantised:
    """Locality-sensitive hashing: each level has its own random hyperplanes; a code says on which side of each an item is.

    Args:
        vectors: float32 ``[n, d]``, one row per item, no padding row.
        codebook_num: number of levels.
        codebook_size: codes per level, ``2 ** hyperplanes``; TIGER has 8 hyperplanes a level, 256 codes.
        seed: seed of the hyperplanes' normals, drawn from a normal distribution.

    Raises:
        SettingError: ``codebook_size`` is not a power of two.
    """
    check_codes_of_bits(codebook_size)
    planes = codebook_size.bit_length() - 1
    normals = np.random.default_rng(seed).normal(size=(vectors.shape[1], codebook_num * planes)).astype(np.float32)
    return _sides(vectors, normals, codebook_num, codebook_size)


def _sides(vectors: np.ndarray, normals: np.ndarray, codebook_num: int, codebook_size: int) -> Quantised:
    planes = codebook_size.bit_length() - 1
    projections = (vectors @ normals).reshape(len(vectors), codebook_num, planes)
    weights = 1 << np.arange(planes)
    codes = ((projections > 0) * weights).sum(axis=2).astype(np.int32)
    corners = 2.0 * ((np.arange(codebook_size)[:, None] & weights) > 0) - 1
    return Quantised(codes, projections[:, -1], [corners.astype(np.float32)] * codebook_num, fitted={"normals": normals})


def encode_lsh(vectors: np.ndarray, fitted: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Quantised:
    """Codes of other items by the hyperplanes of :func:`lsh`."""
    return _sides(vectors, fitted["normals"], settings["codebook_num"], settings["codebook_size"])


def encode_random(vectors: np.ndarray, fitted: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Quantised:
    """
    Raises:
        SettingError: always.
    """
    raise SettingError("tokenizer", "random", "its codes know nothing of an item; those of a new one would be of no use")


TOKENIZERS = {"random": random, "lsh": lsh}
ENCODERS = {"random": encode_random, "lsh": encode_lsh}
