"""Reading vectors that are larger than one would like to hold twice."""

import mmap

import numpy as np

ROWS_AT_ONCE = 1 << 15


def pieces(vectors, rows=ROWS_AT_ONCE):
    """Yield ``(slice, part)`` over the rows; of a memory map, only the part in use stays in memory."""
    # what was written to a map that is opened for copy-on-write would be lost
    file = vectors._mmap if isinstance(vectors, np.memmap) and vectors.mode in ("r", "r+") else None
    for start in range(0, len(vectors), rows):
        here = slice(start, start + rows)
        yield here, vectors[here]
        if file is not None and hasattr(mmap, "MADV_DONTNEED"):
            file.madvise(mmap.MADV_DONTNEED)


def copy_in_pieces(vectors):
    """A float32 copy that can be written to."""
    copy = np.empty(vectors.shape, dtype=np.float32)
    for here, part in pieces(vectors):
        copy[here] = part
    return copy
