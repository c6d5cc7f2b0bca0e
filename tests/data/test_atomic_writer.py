"""Tables in memory to atomic files: users, items, times and text as RecBole and our readers read them back."""

import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from recbole.data import create_dataset
from support.cases import case_config

from recbole_gr.data import write_atomic_files
from recbole_gr.data.item_text import read_item_text
from recbole_gr.data.moments import moments_of
from recbole_gr.utils.errors import DataError, SettingError

NOON = 1_577_880_000  # 2020-01-01T12:00 UTC


@pytest.mark.parametrize(
    "column, expected",
    [
        (["2020-01-01", "2020-01-01T12:00:00", "2020-01-01 14:00:00.5+02:00"], ["1577836800", str(NOON), f"{NOON}.5"]),
        ([NOON, NOON + 1], [str(NOON), str(NOON + 1)]),
        ([NOON * 1000 + 923, NOON * 1000], [f"{NOON}.923", str(NOON)]),
        ([NOON * 10**6 + 1], [f"{NOON}.000001"]),
        ([NOON * 10**9 + 123456789], [f"{NOON}.123456789"]),
        ([str(NOON * 1000 + 5), ""], [f"{NOON}.005", None]),
        ([float(NOON), np.nan, NOON + 0.25], [str(NOON), None, f"{NOON}.25"]),
        ([datetime.date(2020, 1, 1)], ["1577836800"]),
        (pd.to_datetime(["2020-01-01 12:00", None]), [str(NOON), None]),
        (pd.to_datetime(["2020-01-01 14:00"]).tz_localize("Europe/Helsinki"), [str(NOON)]),
        (pd.array([NOON * 1000, None], dtype="Int64"), [str(NOON), None]),
        ([-1500, NOON * 1000], ["-1.5", str(NOON)]),
    ],
)
def test_times_are_seconds_without_loss(column, expected):
    assert moments_of(pd.Series(column)).text.tolist() == expected


def test_the_unit_of_numbers_may_be_set_and_the_dates_are_told():
    moments = moments_of(pd.Series([5_000, 86_400_000]), "ms")
    assert moments.text.tolist() == ["5", "86400"] and (moments.first, moments.last) == ("1970-01-01", "1970-01-02")
    with pytest.raises(SettingError, match="time_unit='min': must be one of auto, s, ms, us, ns"):
        moments_of(pd.Series([1]), "min")


@pytest.mark.parametrize(
    "column, words",
    [
        (["2020-01-01", "soon", "31.12.2020"], "2 of 3 cells of the column day are no times, the first in row 2: 'soon'"),
        ([20200101, 20201231], "holds numbers like 20200101, which might be a date of the form YYYYMMDD"),
        (["1600000000", "2020-01-01"], "1 of 2 cells of the column day are no times, the first in row 1: '1600000000'"),
        ([1.0, np.inf], "holds infinite numbers"),
        ([True], "holds truth values"),
    ],
)
def test_what_is_no_time_is_one_line(column, words):
    with pytest.raises(DataError, match=words):
        moments_of(pd.Series(column, name="day"))


def tables():
    sales = pd.DataFrame(
        {
            "who": ["a", "b", None, "null", "a", '"q"', "c"],
            "what": [1.0, 2.0, 3.0, 1.0, np.nan, 2.0, 1.0],
            "when": ["2020-01-01", "2020-01-02", "2020-01-03", "2020-01-04", "2020-01-05", "2020-01-06", ""],
            "stars": ["1", "2.5", "3", "4", "5", "", "1"],
            "shop": ["x\ty", "z", "z", None, "z", "z", "z"],
        }
    )
    items = pd.DataFrame(
        {"what": [1, 2, 2, 9], "full title": ['A "b"\tc\r\nd', None, "again", "none"], "tags": [["x", "y z"], ["q"], [], []]}
    )
    return sales, items.assign(price=[1.5, np.nan, 2, 3], year=[1999, 2000, 2000, 1])


def test_files_are_as_the_tables_say(caplog):
    sales, items = tables()
    names = {"user": "who", "item": "what", "time": "when"}
    written = write_atomic_files(sales, "shop", "made", **names, columns=["stars", "shop"], items=items)
    assert Path(written.inter).read_text().splitlines() == [
        "user_id:token\titem_id:token\ttimestamp:float\tstars:float\tshop:token",
        "a\t1\t1577836800\t1\tx y",
        "b\t2\t1577923200\t2.5\tz",
        "null_\t1\t1578096000\t4\t",
        "'q'\t2\t1578268800\t\tz",
    ]
    assert Path(written.item).read_text().splitlines() == [
        "item_id:token\tfull_title:token_seq\ttags:token_seq\tprice:float\tyear:float",
        '1\tA "b" c d\tx, y z\t1.5\t1999',
        "2\t\tq\t\t2000",
        "9\tnone\t\t3\t1",
    ]
    assert "3 of 7 interactions are left out: 1 no user_id, 1 no item_id, 1 no timestamp." in caplog.text
    assert (written.users, written.items, written.interactions, written.described) == (4, 2, 4, 2)
    assert written.left_out == {"user_id": 1, "item_id": 1, "timestamp": 1}
    assert (written.first, written.last) == ("2020-01-01", "2020-01-06")


def test_what_was_written_is_read_back():
    sales, items = tables()
    write_atomic_files(sales, "shop", "made", user="who", item="what", time="when", items=items)
    dataset = create_dataset(case_config("BPR", "shop", "made", load_col=None))
    assert dataset.field2id_token["user_id"].tolist() == ["[PAD]", "'q'", "a", "b", "null_"]
    assert dataset.inter_feat["timestamp"].tolist() == [1577836800, 1577923200, 1578096000, 1578268800]
    texts = read_item_text("made/shop/shop.item", np.array(["[PAD]", "1", "2"]), "{full_title} ({tags})")
    assert texts == ["", 'A "b" c d (x, y z)', "(q)"]


def test_text_may_stand_beside_the_interactions():
    table = pd.DataFrame({"user_id": [1, 2], "item_id": ["x", "x"], "timestamp": [5, 6], "title": ["first", "second"]})
    written = write_atomic_files(table, "one", "made", item_columns=["title"])
    assert Path(written.item).read_text() == "item_id:token\ttitle:token_seq\nx\tfirst\n"
    assert write_atomic_files(table, "two", "made").item is None


def test_a_split_of_the_data_is_kept():
    table = pd.DataFrame({"user_id": ["a"] * 3, "item_id": list("xyz"), "part": ["train", "valid", "test"]})
    written = write_atomic_files(table, "parts", "made", time=None, split="part")
    assert Path(written.inter).read_text().splitlines()[0] == "user_id:token\titem_id:token\tsplit:token"
    assert written.settings == {"split_column": "split"}
    dataset = create_dataset(case_config("SASRecCausal", "parts", "made", **written.settings))
    assert [len(part) for part in dataset.build()] == [0, 1, 1]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"user": "who"}, "user='who': the table has no such column; it has user_id, item_id, timestamp"),
        ({"columns": ["stars"]}, "columns='stars': the table has no such column"),
        ({"time": None}, "time=None: the order of interactions is unknown without it, unless split names a column"),
        ({"items": pd.DataFrame({"item": [1]})}, "item='item_id': the table has no such column; it has item"),
        (
            {"items": pd.DataFrame({"item_id": [8, 9]})},
            "items has none of the items of the interactions, e.g. 8, 9 against 1",
        ),
    ],
)
def test_arguments_that_cannot_work_are_one_line_and_leave_no_file(changes, words):
    table = pd.DataFrame({"user_id": [1], "item_id": [1], "timestamp": [5]})
    with pytest.raises((SettingError, DataError), match=words):
        write_atomic_files(table, "shop", "made", **changes)
    assert not list(Path().rglob("shop.*"))
