"""The Yelp Open Dataset: reviews and businesses, one json record a line."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from recbole_gr.prepare.source import Begun, RawFile, Source
from recbole_gr.utils.cells import date_as_seconds, number, text, token


def _begin_reviews(first_line: str) -> Begun:
    return _review, False


def _review(line: str) -> tuple[str, ...]:
    record = json.loads(line)
    return (
        token(record["user_id"]),
        token(record["business_id"]),
        number(record["stars"]),
        date_as_seconds(record["date"]),
    )


def _begin_businesses(first_line: str, wanted: Collection[str]) -> Begun:
    def parse(line: str) -> Any:
        record = json.loads(line)
        item = token(record["business_id"])
        if "user_id" in record:
            raise ValueError("a review or a tip")
        if item not in wanted:
            return None
        names = {"title": "name", "categories": "categories", "city": "city", "state": "state"}
        return item, {column: text(record.get(key)) for column, key in names.items()}

    return parse, False


YELP = Source(
    name="yelp",
    page="Yelp Open Dataset, whose terms must be accepted there",
    variants={"reviews": (RawFile("yelp_academic_dataset_review.json", _begin_reviews),)},
    metadata=RawFile("yelp_academic_dataset_business.json", _begin_businesses),
    columns=dict.fromkeys(("title", "categories", "city", "state"), "token_seq"),
    template="{title}, {categories}, {city}, {state}",
    core=5,
)
