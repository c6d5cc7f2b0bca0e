"""Which items have equal codes."""

import numpy as np
import pandas as pd


def number_groups(codes):
    """Equal rows get equal numbers, counted from 0.

    Args:
        codes (np.ndarray): int ``[n, L]``, not negative.

    Returns:
        np.ndarray: int64 ``[n]``.
    """
    group = np.zeros(len(codes), dtype=np.int64)
    for level in range(codes.shape[1]):
        # both factors are below 2**31, since groups are no more than items: no depth overflows
        group = pd.factorize(group * (int(codes[:, level].max()) + 1) + codes[:, level])[0]
    return group
