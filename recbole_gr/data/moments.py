"""Times as people write them, as seconds from 1970."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from recbole_gr.utils.errors import DataError, SettingError
from recbole_gr.utils.numbers import to_numbers

#: Units of numbers, by how many there are in a second.
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}

#: From this size on, numbers are of the next smaller unit: 10**11 seconds are the year 5138.
_NEXT_UNIT = 10**11


@dataclass(frozen=True)
class Moments:
    """A column of times.

    Args:
        text: seconds as text without loss, missing where there is none.
        first, last: the earliest and the latest, as dates; None where there is none.
    """

    text: pd.Series
    first: str | None
    last: str | None


def moments_of(column: pd.Series, unit: str = "auto") -> Moments:
    """Read a column of times.

    Args:
        column: dates, as such or as ISO text, taken as UTC unless they say otherwise; or numbers, or these as text.
        unit: of numbers: one of :data:`UNITS`, or ``auto``, by the size of the largest.

    Raises:
        SettingError: there is no such unit.
        DataError: cells that are neither, or that might be either, or that no calendar has.
    """
    if unit != "auto" and unit not in UNITS:
        raise SettingError("time_unit", unit, f"must be one of auto, {', '.join(UNITS)}")
    try:
        return _moments_of(column, unit)
    except (OverflowError, pd.errors.OutOfBoundsDatetime) as error:
        raise DataError(
            f"the column {column.name} of times holds some that are no dates, beyond the years 1677 to 2262; numbers may be of another "
            "time_unit"
        ) from error


def _moments_of(column: pd.Series, unit: str) -> Moments:
    missing = column.isna()
    if isinstance(column.dtype, pd.DatetimeTZDtype) or pd.api.types.is_datetime64_dtype(column):
        return _of_dates(pd.to_datetime(column, utc=True))
    if pd.api.types.is_bool_dtype(column):
        raise DataError(f"the column {column.name} of times holds truth values")
    if not pd.api.types.is_numeric_dtype(column):
        cells = column.astype(str).str.strip()
        missing |= cells == ""
        numbers = to_numbers(cells.where(~missing))
        if not (numbers.isna() & ~missing).any():
            whole = cells[~missing].str.fullmatch(r"[+-]?\d+").all()
            # a float64 does not hold all nanoseconds
            column = cells.where(~missing).map(int, na_action="ignore") if whole else numbers
            return _of_numbers(column, missing, unit)
        dates = pd.to_datetime(cells.where(~missing), utc=True, format="ISO8601", errors="coerce")
        wrong = dates.isna() & ~missing
        if wrong.any():
            first = int(wrong.to_numpy().argmax())
            raise DataError(
                f"{int(wrong.sum()):,} of {len(cells):,} cells of the column {column.name} are no times, the first in row {first + 1:,}: "
                f"{cells.iloc[first]!r}; a time is a number or an ISO date, as 2020-12-31 or 2020-12-31T23:59:59+02:00"
            )
        return _of_dates(dates)
    return _of_numbers(column, missing, unit)


def _of_dates(dates: pd.Series) -> Moments:
    there = dates.dropna()
    nanoseconds = there.dt.as_unit("ns").astype("int64").to_numpy()
    return _moments(dates.index, dates.isna().to_numpy(), nanoseconds, "ns")


def _of_numbers(column: pd.Series, missing: pd.Series, unit: str) -> Moments:
    there = column[~missing]
    values = there.to_numpy()
    if values.dtype == object or np.issubdtype(values.dtype, np.integer):
        values = values.astype(np.int64)
    elif not np.isfinite(values.astype(np.float64)).all():
        raise DataError(f"the column {column.name} of times holds infinite numbers")
    elif (values == np.floor(values)).all():
        values = values.astype(np.int64)
    if unit == "auto":
        if _are_like_dates(values):
            raise DataError(
                f"the column {column.name} of times holds numbers like {values[0]}, which might be a date of the form YYYYMMDD: write "
                "dates as 2020-12-31, or set time_unit=s"
            )
        unit = unit_of(values)
    return _moments(column.index, missing.to_numpy(), values, unit)


def unit_of(values: np.ndarray) -> str:
    """The unit of numbers by the size of the largest: seconds of today have 10 digits, milliseconds 13."""
    largest = float(np.abs(values).max()) if len(values) else 0.0
    return next((unit for unit, per_second in UNITS.items() if largest < _NEXT_UNIT * per_second), "ns")


def _are_like_dates(values: np.ndarray) -> bool:
    if not len(values) or values.dtype != np.int64:
        return False
    year, month, day = values // 10_000, values // 100 % 100, values % 100
    return bool(((year >= 1900) & (year < 2100) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)).all())


def _moments(index: pd.Index, missing: np.ndarray, values: np.ndarray, unit: str) -> Moments:
    cells = np.full(len(index), None, dtype=object)
    cells[~missing] = _as_seconds(values, UNITS[unit])
    if not len(values):
        return Moments(pd.Series(cells, index=index), None, None)
    ends = [pd.to_datetime(end / UNITS[unit], unit="s").strftime("%Y-%m-%d") for end in (values.min(), values.max())]
    return Moments(pd.Series(cells, index=index), *ends)


def _as_seconds(values: np.ndarray, per_second: int) -> list[str]:
    """Numbers of a unit as seconds in text, without loss where they are whole."""
    if values.dtype != np.int64:
        seconds = values.astype(np.float64) / per_second
        return [str(int(second)) if second.is_integer() else repr(second) for second in seconds.tolist()]
    if per_second == 1:
        return [str(value) for value in values.tolist()]
    digits = len(str(per_second)) - 1
    signs = ["-" if value < 0 else "" for value in values.tolist()]
    whole, rest = np.divmod(np.abs(values), per_second)
    fractions = [f".{part:0{digits}}".rstrip("0") if part else "" for part in rest.tolist()]
    return [f"{sign}{second}{fraction}" for sign, second, fraction in zip(signs, whole.tolist(), fractions)]
