"""Settings as the arguments of a printed command; a page names no place on this machine."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from recbole_gr.models.registry import path_keys
from recbole_gr.settings.values import parse_text

#: What stands for a folder that is not below the current one.
ELSEWHERE = "DIR"


def as_arguments(settings: Mapping[str, Any]) -> list[str]:
    """``--key=value`` for each setting."""
    return [f"--{key}={as_argument(value)}" for key, value in settings.items()]


def publishable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings for a page: those that are paths begin at the current folder, or at ``DIR``, which the reader replaces by his own."""
    keys = path_keys()
    return {key: publishable_path(value, key == "data_path") if key in keys else value for key, value in settings.items()}


def publishable_path(path: Any, is_folder: bool = False) -> Any:
    """A path as it is if it is relative, else from the current folder on, or ``DIR/name`` if it lies elsewhere.

    Args:
        path: what is no text stays as it is.
        is_folder: ``DIR`` alone stands for it.
    """
    if not isinstance(path, str) or not os.path.isabs(os.path.expanduser(path)):
        return path
    inside = os.path.relpath(os.path.expanduser(path))
    if not inside.startswith(os.pardir):
        return inside
    return ELSEWHERE if is_folder else os.path.join(ELSEWHERE, os.path.basename(os.path.normpath(path)))


def as_argument(value: Any) -> str:
    """A plain value as text that :func:`recbole_gr.settings.values.parse_text`, and RecBole's Config, read back.

    Args:
        value: text, a number, True or False, None, or a list or dict of such.
    """
    # what begins like a number or a bracket might be computed
    if isinstance(value, str) and parse_text(value) == value and re.match(r"[^\d(+\-][^=]*$", value):
        return value
    return _literal(value)


def _literal(value: Any) -> str:
    """A Python literal without blanks between its parts, and without '=', which an argument may hold only once."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{_literal(key)}:{_literal(part)}" for key, part in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_literal, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("=", "\\u003d")
    return repr(value)
