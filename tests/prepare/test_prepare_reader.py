"""What was written is read as RecBole reads it: by pandas' python engine, whose csv module limits a cell."""

import csv
import json
import random

import numpy as np
import pandas as pd
import support.raw_sources as raw
from support.raw_sources import prepare_dataset

from recbole_gr.prepare.command import report
from recbole_gr.utils.cells import CELL_CHARACTERS, text, token, truncate

LIMIT = 131_072


def read_as_recbole(result, kind):
    """As ``Dataset._load_feat`` does, all columns."""
    path = f"{result['folder']}/{result['name']}.{kind}"
    with open(path, encoding="utf-8") as file:
        columns = file.readline()[:-1].split("\t")
    types = {column: np.float64 if column.endswith(":float") else str for column in columns}
    return pd.read_csv(path, delimiter="\t", usecols=columns, dtype=types, encoding="utf-8", engine="python")


def prepared(pairs, metadata):
    """Amazon 2018, whose lines are json."""
    raw.write_amazon_2018("raw", "Beauty")
    raw.write_gzip("raw/Beauty_5.json.gz", [raw.amazon_review(*pair, 5.0, 86_400) for pair in pairs])
    raw.write_gzip("raw/meta_Beauty.json.gz", map(json.dumps, metadata))
    return prepare_dataset("amazon-2018", "Beauty", core=0)


def test_a_cell_holds_what_the_csv_module_takes():
    assert CELL_CHARACTERS == LIMIT == csv.field_size_limit()


def test_texts_are_truncated_to_what_is_read(caplog):
    whole, hard, one_more = "x" * LIMIT, "\u00e9" * (LIMIT + 1), "x" * LIMIT + " y"
    words = "word " * 30_000  # blanks stand at 4, 9, ... of 149,999 characters; the last of the first 131,073 at 131,069
    titles = [whole, hard, one_more, words, "\U0001f600 " + "z" * LIMIT]
    expected = [whole, "\u00e9" * LIMIT, whole, words[:131_069], "\U0001f600 " + "z" * (LIMIT - 2)]
    metadata = [{"asin": f"i{n}", "title": title, "category": []} for n, title in enumerate(titles)]
    metadata[0]["description"] = ["a b"] + ["c" * LIMIT]
    result = prepared([("u", f"i{n}") for n in range(6)], metadata)
    items = read_as_recbole(result, "item").set_index("item_id:token")
    assert items["title:token_seq"].to_dict() == {**{f"i{n}": title for n, title in enumerate(expected)}, "i5": np.nan}
    assert items.loc["i0", "description:token_seq"] == "a b " + "c" * (LIMIT - 4)
    assert result["truncated_cells"] == 5
    assert "  texts truncated    5 (to 131,072 characters)\n" in report(result)
    warning = "[raw/meta_Beauty.json.gz] has 5 texts that are too long for RecBole; truncated to 131,072 characters"
    assert warning in caplog.text


def test_nothing_is_truncated_that_fits(caplog):
    result = prepared([("u", "i0")], [{"asin": "i0", "title": "x" * LIMIT}, {"asin": "unwanted", "title": "x" * 2 * LIMIT}])
    assert result["truncated_cells"] == 0 and "  texts truncated    0 (" in report(result) and "too long" not in caplog.text
    assert prepare_dataset("amazon-2018", "Beauty", core=0, text_columns=[])["truncated_cells"] is None


def test_a_user_an_item_or_a_price_is_never_truncated():
    """Two of them could have the same beginning."""
    pairs = [("u" * LIMIT, "i0"), ("u" * LIMIT + "1", "i0"), ("u", "i" * (LIMIT + 1)), ("u", "- " * LIMIT), ("u", "i1")]
    metadata = [{"asin": "i0", "price": "9" * (LIMIT + 1)}, {"asin": "i" * (LIMIT + 1)}, {"asin": "i1", "price": "$9"}]
    result = prepared(pairs, metadata)
    assert (result["tallies"][0].broken, result["metadata_tally"].broken, result["truncated_cells"]) == (3, 1, 0)
    inter, items = (read_as_recbole(result, kind) for kind in ("inter", "item"))
    assert inter["user_id:token"].tolist() == ["u" * LIMIT, "u"] and inter["item_id:token"].tolist() == ["i0", "i1"]
    np.testing.assert_array_equal(items["price:float"], [np.nan, 9.0])


#: What a reader of tables may stumble over: quotation marks, ends of lines and cells, NUL, halves of pairs, marks of order.
PIECES = ['"', '""', "'", "\t", "\r", "\n", "\r\n", "\0", "\v", "\f", "\x1a", "\x1c", "\x1e", "\x85", "\xa0", "\u2028"]
PIECES += [
    "\u200b",
    "\ufeff",
    "\ud83d",
    "\udc00",
    "\U0001f600",
    "\\",
    "\\N",
    "#",
    ",",
    ";",
    " ",
    "a",
    "1",
    "NA",
    "nan",
    "None",
]


def test_no_content_of_a_cell_breaks_the_reading():
    """1,500 made-up texts and names; what is read is what the cells hold, row by row and cell by cell."""
    made = random.Random(0)
    texts = PIECES + ["".join(made.choices(PIECES, k=made.randint(1, 6))) for _ in range(1_500)]
    texts = [json.loads(json.dumps(content)) for content in texts]  # two halves that meet become a pair
    items = [f"{content}{n}" for n, content in enumerate(texts)]
    users = [f"{content}|" for content in texts]
    metadata = [
        {"asin": item, "title": content, "brand": made.choice(texts), "description": made.choices(texts, k=3)}
        for item, content in zip(items, texts)
    ]
    result = prepared(list(zip(users, items)), metadata)
    inter, read = (read_as_recbole(result, kind) for kind in ("inter", "item"))
    assert inter["user_id:token"].tolist() == list(map(token, users))
    assert inter["item_id:token"].tolist() == read["item_id:token"].tolist() == list(map(token, items))
    for column, key in (
        ("title:token_seq", "title"),
        ("brand:token_seq", "brand"),
        ("description:token_seq", "description"),
    ):
        separator = " " if key == "description" else ", "
        cells = [text(record[key], separator) for record in metadata]
        missing = read[column].isna()
        assert [cell for cell, left_out in zip(cells, missing) if not left_out] == read[column][~missing].tolist()
        assert {cell for cell, left_out in zip(cells, missing) if left_out} <= {"", "NA", "#NA", "nan", "None"}


def test_truncated_at_a_blank_only_where_one_is_near():
    assert truncate("a " + "b" * LIMIT) == "a " + "b" * (LIMIT - 2)
    near = "b" * (LIMIT - 100) + " "
    assert truncate(near + "c" * 200) == near[:-1]
    assert truncate("b" + near[1:-2] + " " + "c" * 200) == near[:-2] + " " + "c" * 100
