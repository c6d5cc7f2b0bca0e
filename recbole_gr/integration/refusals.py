"""What RecBole refuses in words of its own is an error of what it was given; anything else that it raises is a bug."""

from __future__ import annotations

import linecache
import os
from collections.abc import Iterable
from typing import Any

from recbole_gr.settings.recbole_keys import recbole_folder
from recbole_gr.utils.errors import DataError


def refusal(error: BaseException) -> str | None:
    """RecBole's words, in one line, where its source says ``raise`` or ``assert`` at the place that an error comes from; else None."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None:
        return None
    path = place.tb_frame.f_code.co_filename
    source = linecache.getline(path, place.tb_lineno).strip()
    if not path.startswith(str(recbole_folder()) + os.sep) or not source.startswith(("raise ", "assert ")):
        return None
    return one_line(error) if str(error) else f"{type(error).__name__} ({source})"


def as_refusal(error: BaseException) -> DataError | None:
    """The error that the command line prints for what RecBole refuses; None for anything else."""
    words = refusal(error)
    return None if words is None else DataError(f"RecBole refuses the settings or the data: {words}")


def model_refused(model: str, settings: Iterable[tuple[str, Any, str]], error: Exception) -> DataError:
    """The error of a model of RecBole that could not be made with what the user set for it.

    Args:
        model: its name.
        settings: what the user set for it: keys, values and places.
        error: what it raised.
    """
    given = ", ".join(f"{key}={value!r} (set {place})" for key, value, place in settings)
    return DataError(f"{model} cannot be made with {given}: {type(error).__name__}: {one_line(error)}")


def one_line(error: BaseException) -> str:
    """The message of an error, on one line and not too long."""
    return " ".join(str(error).split())[:500]
