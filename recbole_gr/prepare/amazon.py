"""Amazon reviews of J. McAuley's group: the releases of 2014, 2018 and 2023.

- 2014 (McAuley et al., SIGIR 2015; He & McAuley, WWW 2016): reviews in json, metadata in Python literals.
- 2018 (Ni et al., EMNLP 2019): both in json.
- 2023 (Hou et al., arXiv 2403.03952): both in json, times in milliseconds; an item is a ``parent_asin``. Also ratings
  only, in csv, k-core filtered or not, whole or split by leave-one-out.
"""

from __future__ import annotations

import ast
import html
import json
import re
from collections.abc import Collection
from typing import Any

from recbole_gr.prepare.lines import columns_of
from recbole_gr.prepare.source import Begun, RawFile, Source
from recbole_gr.utils.cells import milliseconds, number, price, seconds, text, token

_COLUMNS = {
    "title": "token_seq",
    "brand": "token_seq",
    "categories": "token_seq",
    "description": "token_seq",
    "price": "float",
}
_TEMPLATE = "{title}, {brand}, {categories}"
_ASIN_FIRST = re.compile(r"\{u?'asin': u?'(\w+)'")


def _begin_reviews(first_line: str) -> Begun:
    return _review, False


def _begin_reviews_2023(first_line: str) -> Begun:
    return _review_2023, False


def _begin_ratings_2023(first_line: str) -> Begun:
    cells = columns_of(first_line, ("user_id", "parent_asin", "rating", "timestamp"))

    def parse(line: str) -> Any:
        user, item, rating, time = cells(line)
        return token(user), token(item), number(rating), milliseconds(time)

    return parse, True


def _review(line: str) -> tuple[str, ...]:
    record = json.loads(line)
    return (
        token(record["reviewerID"]),
        token(record["asin"]),
        number(record["overall"]),
        seconds(record["unixReviewTime"]),
    )


def _review_2023(line: str) -> tuple[str, ...]:
    record = json.loads(line)
    return (
        token(record["user_id"]),
        token(record["parent_asin"]),
        number(record["rating"]),
        milliseconds(record["timestamp"]),
    )


def _begin_metadata_2014(first_line: str, wanted: Collection[str]) -> Begun:
    def parse(line: str) -> Any:
        begin = _ASIN_FIRST.match(line)
        if begin and begin[1] not in wanted:
            return None  # what costs is to parse
        return _item(ast.literal_eval(line), wanted, id_key="asin", brand_key="brand", categories_key="categories")

    return parse, False


def _begin_metadata_2018(first_line: str, wanted: Collection[str]) -> Begun:
    return lambda line: _item(json.loads(line), wanted, id_key="asin", brand_key="brand", categories_key="category"), False


def _begin_metadata_2023(first_line: str, wanted: Collection[str]) -> Begun:
    return lambda line: _item(
        json.loads(line), wanted, id_key="parent_asin", brand_key="store", categories_key="categories"
    ), False


def _item(record: dict[str, Any], wanted: Collection[str], *, id_key: str, brand_key: str, categories_key: str) -> Any:
    item = token(record[id_key])
    if record.keys() & {"reviewerID", "user_id", "category", "categories"} - {categories_key}:
        raise ValueError("a review, or an item of another release, whose files have the same names")
    if item not in wanted:
        return None
    # the releases hold what stood on the page, &amp; and the like included
    title, brand, categories = (text(_unescaped(record.get(key))) for key in ("title", brand_key, categories_key))
    described = text(_unescaped(record.get("description")), separator=" ")
    cells = {"title": title, "brand": brand, "categories": categories, "description": described}
    return item, {**cells, "price": price(record.get("price"))}


def _unescaped(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_unescaped(part) for part in value]
    return html.unescape(value) if isinstance(value, str) else value


_ABOUT: dict[str, Any] = {"columns": _COLUMNS, "template": _TEMPLATE, "core": 5, "categories": True}

AMAZON_SOURCES = (
    Source(
        name="amazon-2014",
        page="Amazon product data (2014) of J. McAuley at UC San Diego",
        variants={
            "5core": (RawFile("reviews_{category}_5.json.gz", _begin_reviews),),
            "all": (RawFile("reviews_{category}.json.gz", _begin_reviews),),
        },
        metadata=RawFile("meta_{category}.json.gz", _begin_metadata_2014),
        **_ABOUT,
    ),
    Source(
        name="amazon-2018",
        page="Amazon Review Data (2018) of J. Ni at UC San Diego",
        variants={
            "5core": (RawFile("{category}_5.json.gz", _begin_reviews),),
            "all": (RawFile("{category}.json.gz", _begin_reviews),),
        },
        metadata=RawFile("meta_{category}.json.gz", _begin_metadata_2018),
        **_ABOUT,
    ),
    Source(
        name="amazon-2023",
        page="Amazon Reviews 2023 of McAuley Lab at UC San Diego",
        variants={
            "reviews": (RawFile("{category}.jsonl.gz", _begin_reviews_2023),),
            "ratings": (RawFile("{category}.csv.gz", _begin_ratings_2023),),
            "splits": tuple(
                RawFile(f"{{category}}.{part}.csv.gz", _begin_ratings_2023) for part in ("train", "valid", "test")
            ),
        },
        metadata=RawFile("meta_{category}.jsonl.gz", _begin_metadata_2023),
        **_ABOUT,
    ),
)
