"""Cells of atomic files, one by one."""

import pytest

from recbole_gr.utils.cells import date_as_seconds, milliseconds, number, price, seconds, text, token

CELLS = [
    (token, "A1YJEY40YUW4SE", "A1YJEY40YUW4SE"),
    (token, 196, "196"),
    (token, "a\tb\r\nc\0d", "a b  c d"),
    (token, '"a" b', "'a' b"),
    (token, 'a "b"', 'a "b"'),
    (token, "null", "null_"),
    (token, "half \ud83d", "half ?"),
    (text, None, ""),
    (text, "  a\tb\n\nc\u2028d  ", "a b c d"),
    (text, [["x", "y"], ["x", None, "z"]], "x, y, z"),
    (text, {"a": 1}, ""),
    (text, "half \ude00 \U0001f600", "half ? \U0001f600"),
    (text, '"a"', "'a'"),
    (price, 12.5, "12.5"),
    (price, 3, "3"),
    (price, "$1,012.99", "1012.99"),
    (price, ".99", ".99"),
    (price, "$3.00 - $5.00", ""),
    (price, "Free To Play", ""),
    (price, True, ""),
    (price, float("nan"), ""),
    (price, None, ""),
    (number, 5.0, "5.0"),
    (number, "4", "4.0"),
    (number, 1e-07, "1e-07"),
    (seconds, 1_390_694_400, "1390694400"),
    (seconds, "881250949", "881250949"),
    (milliseconds, 1_588_687_728_923, "1588687728.923"),
    (milliseconds, "1588687728000", "1588687728"),
    (milliseconds, -1500, "-1.5"),
    (date_as_seconds, "1970-01-02", "86400"),
    (date_as_seconds, "2000-03-01 00:00:01", "951868801"),
]


@pytest.mark.parametrize("cell, value, expected", CELLS)
def test_a_cell(cell, value, expected):
    assert cell(value) == expected


WRONG = [(token, ""), (token, " \t"), (token, None), (token, True), (token, 1.5), (number, "five"), (number, float("inf"))]
WRONG += [(number, None), (seconds, 1.5), (seconds, "x"), (milliseconds, None), (date_as_seconds, "17 May"), (seconds, None)]


@pytest.mark.parametrize("cell, value", WRONG)
def test_what_a_cell_cannot_hold(cell, value):
    with pytest.raises((ValueError, TypeError)):
        cell(value)
