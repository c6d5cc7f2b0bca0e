"""What stands in a cell of an atomic file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

#: The longest cell that RecBole's reader takes: Python's csv module, which pandas reads with there, has this limit.
CELL_CHARACTERS = 131_072
_LONGEST_WORD = 100

_PRICE = re.compile(r"\$?\s*(\d[\d,]*(?:\.\d+)?|\.\d+)\s*$")
_UNFIT_FOR_TOKENS = str.maketrans(dict.fromkeys("\t\n\r\0", " "))
# pandas, which RecBole reads with, takes these words for missing values
_MISSING = frozenset(
    ("#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL")
    + ("NaN", "None", "n/a", "nan", "null")
)


def token(value: Any) -> str:
    """A user or item as it stands in the file.

    Tabs and line breaks become blanks. RecBole's reader would take a token such as ``null`` for a missing value, and a
    quotation mark at the beginning for one around several cells: the first gets a ``_`` at the end, in the second
    double quotation marks become single ones.

    Raises:
        ValueError: it is empty, or longer than a cell; truncated it could be another's.
        TypeError: it is no text and no whole number.
    """
    if type(value) is int:
        return str(value)
    if not isinstance(value, str):
        raise TypeError("a token is text")
    if not value.isalnum():
        value = _unquoted(_writable(value).translate(_UNFIT_FOR_TOKENS))
        if not value or value.isspace():
            raise ValueError("an empty token")
    if len(value) > CELL_CHARACTERS:
        raise ValueError("a token longer than a cell")
    return f"{value}_" if value in _MISSING else value


def text(value: Any, separator: str = ", ") -> str:
    """Text of one line: line breaks, tabs and runs of blanks become one blank, the parts of lists are joined.

    What stands twice in a list (categories in lists of lists) is kept once; None is ``""``.
    """
    return _unquoted(separator.join(dict.fromkeys(filter(None, _parts(value)))))


def _parts(value: Any) -> Iterator[str]:
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _parts(part)
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
        yield " ".join(_writable(str(value)).replace("\0", " ").split())


def truncate(cell: str) -> str:
    """As much of a text as a cell holds, :data:`CELL_CHARACTERS`; it ends before a blank, unless the last word is long."""
    if len(cell) <= CELL_CHARACTERS:
        return cell
    end = cell.rfind(" ", CELL_CHARACTERS - _LONGEST_WORD, CELL_CHARACTERS + 1)
    return cell[: CELL_CHARACTERS if end < 0 else end]


def price(value: Any) -> str:
    """A price as a number; ``""`` where there is none, or a range, or words, or more digits than a cell holds."""
    if isinstance(value, str):
        found = _PRICE.match(value.strip()) if len(value) <= CELL_CHARACTERS else None
        return found[1].replace(",", "") if found else ""
    return number(value) if type(value) in (int, float) and math.isfinite(value) else ""


def number(value: Any) -> str:
    """A number, written as short as its value allows.

    Raises:
        ValueError, TypeError: it is none, or not finite.
    """
    if not math.isfinite(as_float := float(value)):
        raise ValueError("not finite")
    return str(value) if type(value) is int else repr(as_float)


def seconds(value: Any) -> str:
    """Whole seconds, as text.

    Raises:
        ValueError, TypeError: they are none.
    """
    if type(value) is float:
        raise TypeError("not a whole number")
    return str(int(value))


def milliseconds(value: Any) -> str:
    """Milliseconds as seconds in text, without loss: ``1588687728923`` is ``1588687728.923``."""
    whole, rest = divmod(abs(int(value)), 1000)
    sign = "-" if int(value) < 0 else ""
    return sign + (f"{whole}.{rest:03}".rstrip("0") if rest else str(whole))


def date_as_seconds(value: str) -> str:
    """Seconds from 1970, in text, of a date in ISO format with or without the time of the day, taken as UTC."""
    return str(int(datetime.fromisoformat(value).replace(tzinfo=timezone.utc).timestamp()))


def _writable(value: str) -> str:
    """Halves of a pair of surrogates, which json may hold and UTF-8 may not, become question marks."""
    return value if value.isascii() else value.encode("utf-8", errors="replace").decode("utf-8")


def _unquoted(value: str) -> str:
    return value.replace('"', "'") if value.startswith('"') else value
