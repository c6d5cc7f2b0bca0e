"""What makes vectors unfit to be quantised, in words for an error."""

import numpy as np

from recbole_gr.utils.memory import pieces


def fault_of(vectors, item_tokens, allow_zero=False):
    """What is wrong with the vectors of a catalogue.

    Args:
        vectors (numpy.ndarray): float32 ``[n_items x d]``, row 0 padding.
        item_tokens (numpy.ndarray): ``[n_items]`` of str; entry 0 is padding.
        allow_zero (bool): vectors of zeros are no fault.

    Returns:
        str: how many items have a vector that is NaN, infinite, too long to be squared or all zeros, and the first of them;
        None if none has.
    """
    infinite, long, zero = np.zeros((3, len(vectors)), dtype=bool)
    for here, part in pieces(vectors):
        infinite[here] = ~np.isfinite(part).all(axis=1)
        with np.errstate(over="ignore", invalid="ignore"):
            long[here] = ~np.isfinite(np.square(part, dtype=np.float32).sum(axis=1, dtype=np.float32))
        zero[here] = False if allow_zero else ~part.any(axis=1)
    faults = (infinite, "are NaN or infinite"), (long, "are so long that float32 cannot hold their squares"), (zero, "are all zeros")
    for bad, words in faults:
        items = [str(item_tokens[row]) for row in np.flatnonzero(bad[1:]) + 1]
        if items:
            return f"the vectors of {count_of(items)} {words}"
    return None


def count_of(items):
    """The number of some items and the names of the first three, e.g. ``4 items (a, b, c, ...)``."""
    more = ", ..." if len(items) > 3 else ""
    return f"{len(items)} items ({', '.join(items[:3])}{more})"
