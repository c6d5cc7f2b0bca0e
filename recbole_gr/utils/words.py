"""Words that somebody wrote and that nobody knows."""

import difflib
from collections.abc import Iterable
from typing import Any


def nearest(word: Any, known: Iterable[str]) -> str:
    """``"; did you mean <the known word most like it>?"``, or nothing where none is like it."""
    near = difflib.get_close_matches(str(word), list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
