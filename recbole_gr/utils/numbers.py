"""Text to numbers, where pandas ends the whole process on some of it.

An exponent that no 32-bit integer holds (``1e4000120120``, as a damaged file has it) makes pandas 2.3.3 read beyond a table of powers of
ten: a segmentation fault, in ``to_numeric`` as in ``read_csv`` with numbers.
"""

from __future__ import annotations

import mmap
import os
import re
from typing import Any

#: An exponent of nine digits or more, in text and in the bytes of a file.
_ENDLESS = r"[eE][+-]?[0-9]{9}"
_IN_BYTES = re.compile(_ENDLESS.encode())


def to_numbers(cells: Any) -> Any:
    """As ``pandas.to_numeric``, what is no number missing; a cell with an endless exponent is none.

    Args:
        cells: a pandas Series.
    """
    import pandas as pd

    return pd.to_numeric(cells.mask(has_endless_exponent(cells)), errors="coerce")


def has_endless_exponent(cells: Any) -> Any:
    """Which cells of a Series are text with an exponent that pandas cannot read: bool ``[cells]``."""
    if cells.dtype.kind != "O":  # numbers already
        return cells.isna() & False
    return cells.astype(str).str.contains(_ENDLESS, regex=True)


def file_may_have_endless_exponents(path: str, encoding: str) -> bool:
    """Whether anything in a file looks like one, in a column of numbers or not; True where letters have several bytes."""
    if "1e1".encode(encoding).find(b"1e1") < 0:
        return True
    if not os.path.getsize(path):
        return False
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return _IN_BYTES.search(content) is not None
