"""Values as json holds them."""

from __future__ import annotations

from typing import Any


def plain(value: Any) -> Any:
    """A setting as a json value; what json does not know becomes its text."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(inner) for inner in value]
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)
