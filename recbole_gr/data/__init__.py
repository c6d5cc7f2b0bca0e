"""Datasets, histories, item text, and where vectors and semantic IDs come from."""

import importlib
from typing import Any

#: Where the public names are; they are imported when they are asked for.
_PUBLIC = {"write_atomic_files": "recbole_gr.data.atomic_writer"}

__all__ = ["write_atomic_files"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
