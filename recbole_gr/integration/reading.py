"""How RecBole's reader takes files as people have them: their faults become one line, and nothing is lost in silence.

RecBole reads a file by ``Dataset._load_feat``: the first line by itself, the rest by ``pandas.read_csv``. Both are watched here.
"""

from __future__ import annotations

import csv
import io
import types
from collections.abc import Callable
from typing import Any

from recbole_gr.utils.errors import DataError, RecBoleGRError
from recbole_gr.utils.numbers import file_may_have_endless_exponents, has_endless_exponent, to_numbers
from recbole_gr.utils.table_files import (
    check_no_nul,
    encoding_of,
    lines_with_text,
    read_header,
    rows_too_long,
    scan,
    undecodable,
    without_lone_returns,
)


def read_as_people_write(dataset_module: Any) -> None:
    """Give RecBole's module of datasets a ``read_csv`` of ours; nobody but that module sees a difference."""
    pandas = dataset_module.pd
    stand_in: Any = types.ModuleType("pandas")
    stand_in.read_csv, stand_in.__getattr__ = _reader(pandas), lambda name: getattr(pandas, name)
    dataset_module.pd = stand_in


def with_checked_header(original: Callable) -> Callable:
    """RecBole fails in the header with a traceback, and takes a byte-order mark for a part of the first column's name."""

    def load_feat(self: Any, filepath: str, source: Any) -> Any:
        if self._get_load_and_unload_col(source)[0] == set():
            return original(self, filepath, source)
        config = self.config
        set_by_user = config["encoding"]
        read_header(filepath, config["field_separator"], set_by_user)
        try:
            config["encoding"] = encoding_of(filepath, set_by_user)
            return original(self, filepath, source)
        except ValueError as error:  # of a column of lists of numbers, for example
            if isinstance(error, RecBoleGRError):
                raise
            raise DataError(f"[{filepath}] cannot be read: {' '.join(str(error).split())}") from error
        finally:
            config["encoding"] = set_by_user

    return load_feat


def _reader(pandas: Any) -> Callable[..., Any]:
    def read_csv(
        filepath: str, *, delimiter: str, usecols: list[str], dtype: dict[str, Any], encoding: str, engine: str
    ) -> Any:
        """As RecBole calls pandas.

        Raises:
            DataError: the file cannot be read as it is meant; names the line where it can.
        """
        scanned = scan(filepath, delimiter)
        check_no_nul(filepath, scanned, encoding)
        options = {"delimiter": delimiter, "usecols": usecols, "encoding": encoding, "engine": engine, "index_col": False}
        try:
            n_columns = len(read_header(filepath, delimiter, encoding))
            too_long = rows_too_long(filepath, n_columns, delimiter, encoding, scanned)
            source = _cleaned(filepath, encoding) if scanned.lone_returns else filepath
            if file_may_have_endless_exponents(filepath, encoding):
                _check_exponents(pandas.read_csv(source, dtype=str, **options), dtype, filepath)
                source = _cleaned(filepath, encoding) if scanned.lone_returns else filepath
            try:
                rows = pandas.read_csv(source, dtype=dtype, **options)
            except ValueError as error:
                if "convert" not in str(error):
                    raise
                source = _cleaned(filepath, encoding) if scanned.lone_returns else filepath
                raise _no_number(pandas.read_csv(source, dtype=str, **options), dtype, filepath, pandas) from error
        except UnicodeError as error:
            raise undecodable(filepath, encoding, error) from error
        except (pandas.errors.ParserError, csv.Error) as error:
            marks = "; a cell that begins with a double quotation mark is read as quoted" if scanned.quoted_cells else ""
            raise DataError(f"[{filepath}] cannot be read: {' '.join(str(error).split())}{marks}") from error
        if too_long:
            raise DataError(
                f"[{filepath}] has {len(too_long):,} rows with more cells than its header, the first in line {too_long[0]:,}: "
                f"a cell holds the field_separator {delimiter!r}"
            )
        if rows.empty:
            raise DataError(f"[{filepath}] has a header and no rows")
        if scanned.quoted_cells and delimiter != "," and len(rows) < (there := lines_with_text(filepath) - 1):
            raise DataError(
                f"[{filepath}] has {there:,} rows, of which RecBole's reader makes {len(rows):,}: a cell that begins with a double "
                "quotation mark holds all until the next one; remove the marks"
            )
        return rows

    return read_csv


def _cleaned(path: str, encoding: str) -> io.StringIO:
    """The text of a file in which carriage returns within cells are blanks; a reader would take them for ends of lines."""
    with open(path, encoding=encoding, newline="\n") as file:
        return io.StringIO("".join(without_lone_returns(file)))


def _check_exponents(rows: Any, dtype: dict[str, Any], path: str) -> None:
    """pandas does not survive exponents of nine digits in a column of numbers.

    Raises:
        DataError: there are some.
    """
    for column, kind in dtype.items():
        endless = has_endless_exponent(rows[column]) if kind is not str else None
        if endless is not None and endless.any():
            first = int(endless.to_numpy().argmax())
            raise DataError(
                f"[{path}] has {int(endless.sum()):,} cells in the column {column} that are no numbers, the first in line {first + 2:,}: "
                f"{rows[column].iloc[first]!r}; empty it"
            )


def _no_number(rows: Any, dtype: dict[str, Any], path: str, pandas: Any) -> DataError:
    """The error of a column of numbers that holds something else; dates are told apart."""
    for column, kind in dtype.items():
        if kind is str:
            continue
        cells = rows[column]
        wrong = cells.notna() & to_numbers(cells).isna()
        if not wrong.any():
            continue
        first = wrong.to_numpy().argmax()
        is_date = pandas.to_datetime(cells[wrong].head(), errors="coerce", utc=True, format="ISO8601").notna().all()
        advice = (
            "a time is given in seconds from 1970; recbole-gr prepare csv writes them from dates" if is_date else "empty it"
        )
        return DataError(
            f"[{path}] has {int(wrong.sum()):,} cells in the column {column} that are no numbers, the first in line {first + 2:,}: "
            f"{cells.iloc[first]!r}; {advice}"
        )
    return DataError(f"[{path}] cannot be read: a column of numbers holds something else")
