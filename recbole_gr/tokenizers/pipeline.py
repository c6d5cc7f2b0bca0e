"""One call from vectors to semantic IDs: check, quantise, resolve collisions."""

from logging import getLogger
from typing import Any, Literal

import numpy as np

from recbole_gr.settings.field import check_value
from recbole_gr.tokenizers.collision import COLLISION_RULES, resolve_collisions
from recbole_gr.tokenizers.families.product import check_parts
from recbole_gr.tokenizers.registry import (
    check_tokenizer_settings,
    find_tokenizer,
    given_by_the_run,
    settings_of,
    takes_cf_vectors,
)
from recbole_gr.tokenizers.semantic_ids import MAX_VOCABULARY, Quantised, SemanticIDs, check_codes_of_bits, number_groups
from recbole_gr.utils.errors import DataError, SettingError
from recbole_gr.vectors.vector_file import fault_of

#: Tokenizers whose codes are made of bits.
CODES_OF_BITS = ("lsh", "pq", "opq")

#: Tokenizers that split the vectors into parts.
OF_PARTS = ("pq", "opq")

#: The share of its codes that a codebook must use not to count as collapsed; TIGER's RQ-VAE meets it (section 3.1).
MIN_USE = 0.8


def tokenize(
    vectors: np.ndarray,
    tokenizer: str = "rkmeans",
    codebook_num: int = 3,
    codebook_size: int = 256,
    collision: str = "digit",
    *,
    seed: int = 2020,
    cf_vectors: np.ndarray | None = None,
    item_tokens: np.ndarray | None = None,
    allow_zero_vectors: bool = False,
    device: str = "cpu",
    show_progress: bool = False,
    **settings: Any,
) -> SemanticIDs:
    """Make one semantic ID per item.

    Args:
        vectors: float32 ``[n_items, d]``; row = item id, row 0 = padding, not used. May be a memory map.
        tokenizer: one of :func:`tokenizer_names`.
        codebook_num, codebook_size: levels and codes per level.
        collision: one of :data:`COLLISION_RULES`.
        seed: of the tokenizer.
        cf_vectors: float32 ``[n_items, d']``, rows as those of ``vectors``, zeros for items without: for a tokenizer that learns from
            collaborative vectors too (:func:`~recbole_gr.tokenizers.registry.takes_cf_vectors`), of no use to others.
        item_tokens: str ``[n_items]``, to name items in errors; None: they are named by row.
        allow_zero_vectors: accept vectors of zeros, of items without a text; such items share their codes.
        device: where a tokenizer that is trained is trained.
        show_progress: show a progress bar where training takes long.
        settings: those of the tokenizer, see :func:`settings_of`; the others have their defaults.

    Returns:
        SemanticIDs: its ``source`` has the settings, and ``unique_share_quantised`` and ``largest_collision_quantised``
        as they were before collisions were resolved, and ``collapsed_levels``, those that use less than :data:`MIN_USE`
        of their codes, which a warning names too.

    Raises:
        SettingError: an unknown name or setting, a codebook that does not fit the catalogue, or a tokenizer that lacks CF vectors.
        DataError: a vector holds NaN or infinity, or is zero.
    """
    function = find_tokenizer(tokenizer)
    known = settings_of(function)
    for key in settings.keys() - known.keys():
        raise SettingError(
            key, settings[key], f"is not a setting of tokenizer={tokenizer}, which has {', '.join(known) or 'none'}"
        )
    settings = {**known, **settings}
    check_value("collision", collision, Literal[tuple(COLLISION_RULES)])
    check_codebooks(tokenizer, codebook_num, codebook_size, len(vectors) - 1)
    check_tokenizer_settings(settings, function)
    names = np.arange(len(vectors)) if item_tokens is None else item_tokens
    if (fault := fault_of(vectors, names, allow_zero_vectors)) is not None:
        raise DataError(fault)
    of_the_run = {"seed": seed, "device": device, "show_progress": show_progress}
    if takes_cf_vectors(function):
        of_the_run["cf_vectors"] = _checked_cf_vectors(tokenizer, vectors, cf_vectors, names)
    context = {name: of_the_run[name] for name in given_by_the_run(function)}
    quantised = function(vectors[1:], codebook_num, codebook_size, **context, **settings)
    _check_made(quantised, tokenizer, (len(vectors) - 1, codebook_num), codebook_size)
    group = np.bincount(number_groups(quantised.codes))
    found = {
        "unique_share_quantised": round(len(group) / len(quantised.codes), 6),
        "largest_collision_quantised": int(group.max()),
        "collapsed_levels": _collapsed_levels(quantised.codes, codebook_size, tokenizer),
    }
    codes, sizes = resolve_collisions(quantised, (codebook_size,) * codebook_num, collision)
    codes = np.concatenate([np.full((1, codes.shape[1]), -1, dtype=np.int32), codes])
    source = {"tokenizer": tokenizer, "codebook_num": codebook_num, "codebook_size": codebook_size, "seed": seed, **settings}
    source = {**source, **found, "training": quantised.training}
    return SemanticIDs(codes, sizes, collision, source, quantised.fitted or {}, item_tokens)


def check_codebooks(tokenizer: str, codebook_num: int, codebook_size: int, n_items: int) -> None:
    """Check the sizes of the codebooks, as far as that needs no vectors.

    Raises:
        SettingError: too few or too many levels or codes.
    """
    check_value("codebook_num", codebook_num, int, ge=1)
    check_value("codebook_size", codebook_size, int, ge=1)
    if codebook_size > n_items:
        raise SettingError("codebook_size", codebook_size, f"must be at most the number of items, {n_items}")
    if codebook_num * codebook_size > MAX_VOCABULARY:
        limit = f"with codebook_num={codebook_num} there are more than {MAX_VOCABULARY} codes in all"
        raise SettingError("codebook_size", codebook_size, limit)
    if tokenizer in CODES_OF_BITS:
        check_codes_of_bits(codebook_size)


def check_vectors(tokenizer: str, dimension: int, codebook_num: int, codebook_size: int) -> None:
    """Check that vectors of so many dimensions can be quantised so, as far as that needs no vectors.

    Raises:
        SettingError: they cannot be split into so many parts.
    """
    if tokenizer in OF_PARTS:
        check_parts((0, dimension), codebook_num, codebook_size)


def _checked_cf_vectors(tokenizer: str, vectors: np.ndarray, cf_vectors: np.ndarray | None, names: np.ndarray) -> np.ndarray:
    """The CF vectors of the items, without the padding row."""
    if cf_vectors is None or cf_vectors.ndim != 2 or len(cf_vectors) != len(vectors):
        found = "there are none" if cf_vectors is None else f"not {list(cf_vectors.shape)}"
        raise SettingError(
            "tokenizer", tokenizer, f"needs CF vectors of the same {len(vectors)} items, [n_items, d]; {found}"
        )
    if (fault := fault_of(cf_vectors, names, allow_zero=True)) is not None:
        raise DataError(f"of the CF vectors, {fault}")
    if not cf_vectors[1:].any():
        raise DataError(f"tokenizer={tokenizer}: the CF vectors of all items are zeros")
    return cf_vectors[1:]


def _check_made(quantised: Any, tokenizer: str, shape: tuple[int, int], codebook_size: int) -> None:
    """The result of a tokenizer of another package may be wrong."""
    codes = quantised.codes if isinstance(quantised, Quantised) else None
    if not isinstance(codes, np.ndarray) or codes.shape != shape or codes.dtype.kind not in "iu":
        found = type(quantised).__name__ if not isinstance(codes, np.ndarray) else f"codes {codes.dtype} {list(codes.shape)}"
        raise SettingError("tokenizer", tokenizer, f"must return Quantised with whole codes {list(shape)}, not {found}")
    if codes.min() < 0 or codes.max() >= codebook_size:
        found = f"{codes.min()} to {codes.max()}"
        raise SettingError("tokenizer", tokenizer, f"must return codes from 0 to {codebook_size - 1}, not {found}")


def _collapsed_levels(codes: np.ndarray, codebook_size: int, tokenizer: str) -> list[int]:
    used = [int((np.bincount(level, minlength=codebook_size) > 0).sum()) for level in codes.T]
    collapsed = [level for level, n_codes in enumerate(used) if n_codes < MIN_USE * codebook_size]
    for level in collapsed:
        getLogger().warning(
            f"tokenizer={tokenizer}: level {level} uses {used[level]} of its {codebook_size} codes; a codebook that uses "
            f"less than {MIN_USE:.0%} has collapsed"
        )
    return collapsed
