"""RecBole's atomic files from tables in memory."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from logging import getLogger
from typing import Any

import numpy as np
import pandas as pd

from recbole_gr.data.moments import moments_of
from recbole_gr.utils.atomic_files import atomic_write
from recbole_gr.utils.cells import text, token, truncate
from recbole_gr.utils.errors import DataError, SettingError
from recbole_gr.utils.numbers import to_numbers

#: The names of the columns in the files; RecBole's defaults.
USER, ITEM, TIME, SPLIT = "user_id", "item_id", "timestamp", "split"


@dataclass(frozen=True)
class WrittenFiles:
    """What :func:`write_atomic_files` wrote.

    Args:
        inter: path of the interactions.
        item: path of the items; None where there are none.
        users, items, interactions: how many there are in the ``.inter`` file.
        left_out: interactions without a user, an item or a time, by the column.
        described: items of the ``.inter`` file that have a row in the ``.item`` file; None without that.
        first, last: the earliest and the latest time, as dates; None without times.
        settings: keys to run with beside ``dataset`` and ``data_path``.
    """

    inter: str
    item: str | None
    users: int
    items: int
    interactions: int
    left_out: dict[str, int]
    described: int | None
    first: str | None
    last: str | None
    settings: dict[str, Any]


def write_atomic_files(
    interactions: pd.DataFrame,
    name: str,
    data_path: str = "dataset",
    *,
    user: str = USER,
    item: str = ITEM,
    time: str | None = TIME,
    time_unit: str = "auto",
    split: str | None = None,
    columns: Sequence[str] = (),
    items: pd.DataFrame | None = None,
    item_columns: Sequence[str] | None = None,
) -> WrittenFiles:
    """Write ``data_path/name/name.inter`` and ``.item``, with which ``recbole_gr.run(model, name)`` works.

    The files have the columns ``user_id``, ``item_id``, ``timestamp``, in seconds from 1970, and what else is asked for;
    interactions stay in their order. A user or item that is a whole number is written without a point, as pandas makes ``1.0``
    of ``1`` where a cell of the column is empty. Interactions without a user, an item or a time are left out and counted in a
    warning.

    Args:
        interactions: a row for each.
        name: of the dataset.
        data_path: the folder that gets a folder of this name.
        user, item: the columns of users and items; item also in ``items``.
        time: the column of times: dates, as such or as ISO text (UTC unless they say otherwise), or numbers. None for data with a
            ``split`` and without times, whose rows then are in the order of time.
        time_unit: of numbers: ``s``, ``ms``, ``us``, ``ns``, or ``auto``, by their size.
        split: a column with ``train``, ``valid`` and ``test``, where the data comes with a split; run it with
            ``split_column="split"``.
        columns: further columns of the interactions; numbers, also as text, become float, all else token.
        items: a row for each item, with text; the first row of an item counts.
        item_columns: columns of the items; all by default. Where ``items`` is None they are columns of ``interactions``. Numbers
            become float, all else token_seq, from which item text is made.

    Raises:
        SettingError: an argument names no column, or cannot work.
        DataError: the table has nothing that can be used, or times that are none.
        OSError: the files cannot be written.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise SettingError("name", name, "must be letters, digits, dashes and dots")
    if time is None and split is None:
        raise SettingError("time", None, "the order of interactions is unknown without it, unless split names a column")
    asked = {"user": user, "item": item, "time": time, "split": split}
    for key, column in [*asked.items(), *(("columns", column) for column in columns)]:
        _check_column(key, column, interactions)

    kept: dict[str, pd.Series] = {USER: _tokens(interactions[user], "user"), ITEM: _tokens(interactions[item], "item")}
    types = {USER: "token", ITEM: "token"}
    span: tuple[str | None, str | None] = (None, None)
    if time is not None:
        moments = moments_of(interactions[time], time_unit)
        kept[TIME], types[TIME], span = moments.text, "float", (moments.first, moments.last)
    left_out = {column: int(kept[column].isna().sum()) for column in kept}
    whole = ~pd.concat(list(kept.values()), axis=1).isna().any(axis=1)
    if not whole.any():
        raise DataError(f"none of the {len(whole):,} interactions has a {', a '.join(kept)}")
    if not whole.all():
        listed = ", ".join(f"{n:,} no {column}" for column, n in left_out.items() if n)
        getLogger().warning(f"{int((~whole).sum()):,} of {len(whole):,} interactions are left out: {listed}.")
    if split is not None:
        kept[SPLIT], types[SPLIT] = interactions[split].fillna("").map(text), "token"
    for column in columns:
        kept[_name(column)], types[_name(column)] = _cells(_numbers_if_all_are(interactions[column]), "token")
    table = pd.DataFrame({column: cells[whole] for column, cells in kept.items()})

    described = _items_table(interactions, items, item, item_columns)
    n_described = None
    if described is not None:
        n_described = int(described[0][ITEM].isin(table[ITEM]).sum())
        _check_same_items(described[0][ITEM], table[ITEM], n_described)
    folder = os.path.join(data_path, name)
    os.makedirs(folder, exist_ok=True)
    paths = [os.path.join(folder, f"{name}.{ending}") for ending in ("inter", "item")]
    with ExitStack() as both:  # both are there in the end, or neither
        for path, content in zip(paths, [(table, types), described]):
            if content is not None:
                _write(both.enter_context(atomic_write(path)), *content)
    return WrittenFiles(
        inter=paths[0],
        item=paths[1] if described is not None else None,
        users=table[USER].nunique(),
        items=table[ITEM].nunique(),
        interactions=len(table),
        left_out=left_out,
        described=n_described,
        first=span[0],
        last=span[1],
        settings={"split_column": SPLIT} if split is not None else {},
    )


def _check_column(key: str, column: str | None, table: pd.DataFrame) -> None:
    if column is not None and column not in table.columns:
        raise SettingError(key, column, f"the table has no such column; it has {', '.join(map(str, table.columns))}")


def _name(column: str) -> str:
    """The name of a column as a header of an atomic file can have it."""
    return re.sub(r"[\s:]+", "_", str(column).strip())


def _tokens(column: pd.Series, what: str) -> pd.Series:
    """Users or items as the files have them; missing where there is none."""
    numbers, distinct = pd.factorize(column)
    tokens = np.array([_token(value, what) for value in distinct] + [None], dtype=object)  # -1, the last, is missing
    return pd.Series(tokens[numbers], index=column.index, dtype=object)


def _token(value: Any, what: str) -> str | None:
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)
    value = str(value).strip()
    if not value:
        return None
    try:
        return token(value)
    except ValueError as error:
        raise DataError(f"the {what} {value[:60]!r} cannot be written: {error}") from error


def _cells(column: pd.Series, kind: str) -> tuple[pd.Series, str]:
    """The cells of a column as text, and its type: float for numbers, else the given one."""
    if pd.api.types.is_bool_dtype(column) or not pd.api.types.is_numeric_dtype(column):
        missing = column.map(lambda value: value is None or (pd.api.types.is_scalar(value) and pd.isna(value)))
        values = column.map(lambda value: value.tolist() if isinstance(value, np.ndarray) else value)
        values = values.where(~missing, "")
        return values.map(lambda value: truncate(text(value if isinstance(value, (list, tuple)) else str(value)))), kind
    return column.map(_number).where(column.notna(), ""), "float"


def _numbers_if_all_are(column: pd.Series) -> pd.Series:
    """A column of text that holds numbers only, as a csv has it, as numbers."""
    if pd.api.types.is_numeric_dtype(column):
        return column
    numbers, empty = to_numbers(column), column.isna() | (column.astype(str).str.strip() == "")
    return numbers if (numbers.notna() | empty).all() and numbers.notna().any() else column


def _number(value: Any) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value)) if np.isfinite(value) else ""


def _items_table(
    interactions: pd.DataFrame, items: pd.DataFrame | None, item: str, item_columns: Sequence[str] | None
) -> tuple[pd.DataFrame, dict[str, str]] | None:
    """The table of items and its types; None where nothing is known of them."""
    if items is None and not item_columns:
        return None
    source = interactions if items is None else items
    _check_column("item", item, source)
    chosen = [column for column in source.columns if column != item] if item_columns is None else list(item_columns)
    for column in chosen:
        _check_column("item_columns", column, source)
    tokens = _tokens(source[item], "item")
    first = tokens.notna() & ~tokens.duplicated()
    table, types = {ITEM: tokens[first]}, {ITEM: "token"}
    for column in chosen:
        table[_name(column)], types[_name(column)] = _cells(source.loc[first, column], "token_seq")
    return pd.DataFrame(table), types


def _check_same_items(described: pd.Series, had: pd.Series, n_described: int) -> None:
    if not n_described:
        examples = [", ".join(column.drop_duplicates()[:3]) for column in (described, had)]
        raise DataError(f"items has none of the items of the interactions, e.g. {examples[0]} against {examples[1]}")
    without = had.nunique() - n_described
    if without:
        getLogger().warning(f"{without:,} of {had.nunique():,} items have no row in items, and so no text.")


def _write(file: Any, table: pd.DataFrame, types: dict[str, str]) -> None:
    file.write("\t".join(f"{column}:{types[column]}" for column in table) + "\n")
    file.writelines("\t".join(cells) + "\n" for cells in zip(*(table[column] for column in table)))
