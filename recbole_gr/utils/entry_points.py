"""What installed packages offer by an entry point; looked up once, for it takes reading a file of each package."""

from __future__ import annotations

import importlib.metadata
import sys
from functools import cache


def entry_points(group: str) -> tuple[importlib.metadata.EntryPoint, ...]:
    """The entry points of a group, as of when they were first asked for with the same ``sys.path``."""
    return _entry_points(group, tuple(sys.path))


@cache
def _entry_points(group: str, _path: tuple[str, ...]) -> tuple[importlib.metadata.EntryPoint, ...]:
    return tuple(importlib.metadata.entry_points(group=group))
