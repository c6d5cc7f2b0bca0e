"""What to do when several items get the same codes."""

import numpy as np


def append_digit(codes):
    """Tell items with equal codes apart by one more code: 0, 1, 2, ... in row order (TIGER section 3.1, GRID).

    Args:
        codes (np.ndarray): int ``[n, L]``.

    Returns:
        tuple: int32 ``[n, L + 1]``, all rows distinct; the size of the new codebook, the largest group of equal rows.
    """
    _, group, sizes = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    group = group.reshape(-1)
    order = np.argsort(group, kind="stable")
    first = np.cumsum(sizes) - sizes
    digit = np.empty(len(codes), dtype=np.int32)
    digit[order] = np.arange(len(codes)) - np.repeat(first, sizes)
    return np.column_stack([codes, digit]).astype(np.int32), int(sizes.max())


def resolve_collisions(codes, codebook_sizes, collision):
    """Apply one of :data:`COLLISION_RULES`.

    Returns:
        tuple: codes ``[n, L']`` and the sizes of the L' codebooks.
    """
    if collision == "none":
        return codes, tuple(codebook_sizes)
    codes, digits = append_digit(codes)
    return codes, tuple(codebook_sizes) + (digits,)


COLLISION_RULES = ("digit", "none")
