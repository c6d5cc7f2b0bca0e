"""Intervals as RecBole's filters have them: ``"[5,inf)"``, several ``"(0,1];[3,4)"``."""

from __future__ import annotations

import math
import re
from typing import Any

#: What is said of a value that holds none.
ALLOWED = "must be intervals of numbers, for example '[5,inf)'"

_INTERVAL = re.compile(r"[\[(]([^,\[\]()]+),([^,\[\]()]+)[\])]")


def intervals_fault(value: Any) -> str | None:
    """What is wrong with a value that should hold intervals, in words; None: nothing.

    RecBole skips what it cannot read with a warning, and then keeps all or nothing.

    Args:
        value: text, or a list of two numbers, which ``[5,10]`` is to yaml and on the command line.
    """
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(type(end) in (int, float) for end in value):
        value = str(list(value))
    if not isinstance(value, str):
        return ALLOWED
    for part in value.split(";"):
        ends = _INTERVAL.fullmatch(part.strip())
        if ends is None:
            return ALLOWED
        try:
            low, high = map(float, ends.groups())
        except ValueError:
            return ALLOWED
        if math.isnan(low) or math.isnan(high):
            return ALLOWED
        if low > high:
            return f"must be intervals with the lower end first, {part.strip()} has not"
    return None


def intervals(value: Any) -> Any:
    """Check of a setting, ``~`` allowed; raises ValueError with what is allowed."""
    fault = None if value is None else intervals_fault(value)
    if fault is not None:
        raise ValueError(fault)
    return value
