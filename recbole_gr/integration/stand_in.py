"""A module as one other module sees it, with other values of some names."""

from __future__ import annotations

import types
from typing import Any


def stand_in(module: Any, **others: Any) -> Any:
    """A module that has ``others``, and else what ``module`` has."""
    made: Any = types.ModuleType(module.__name__)
    vars(made).update(others)
    made.__getattr__ = lambda name: getattr(module, name)
    return made
