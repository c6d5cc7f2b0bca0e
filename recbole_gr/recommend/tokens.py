"""Users and items as people name them, by token: read from files, and matched with a dataset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from logging import getLogger
from typing import Any

import numpy as np

from recbole_gr.utils.errors import DataError, SettingError

_NAMED = 5


def read_tokens(path: str, key: str) -> list[str]:
    """The tokens of a text file with one a line, in its order; blank lines are left out.

    Args:
        path: of the file, UTF-8.
        key: the option that named it, for the errors.

    Raises:
        SettingError: it cannot be read, or holds nothing.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            tokens = [line.strip() for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(key, path, f"cannot be read ({error})") from error
    tokens = [token for token in tokens if token]
    if not tokens:
        raise SettingError(key, path, "is empty; must have a token a line")
    return tokens


def matched(tokens: Iterable[Any], ids: Mapping[str, int], what: str, where: str) -> np.ndarray:
    """The ids of tokens, each once, in their order; those that are unknown are counted and named in a warning.

    Args:
        tokens: as in the files of the dataset.
        ids: the dataset's, by token.
        what: users or items, for the messages.
        where: in words, where the tokens come from.

    Returns:
        int64 ``[n]``.

    Raises:
        DataError: nothing matches.
    """
    names = list(dict.fromkeys(map(str, tokens)))
    known = [ids[name] for name in names if ids.get(name, 0) > 0]
    unknown = [name for name in names if ids.get(name, 0) <= 0]
    if not known:
        example = next((token for token in ids if ids[token] > 0), None)
        given = f", e.g. {', '.join(unknown[:_NAMED])}, where the dataset has such as {example}" if unknown else ""
        raise DataError(f"none of the {len(names)} {what} {where} is in the dataset of the checkpoint{given}")
    if unknown:
        getLogger().warning(
            f"{len(unknown)} of {len(names)} {what} {where} are not in the dataset of the checkpoint and are left out, "
            f"e.g. {', '.join(unknown[:_NAMED])}"
        )
    return np.asarray(known, dtype=np.int64)
