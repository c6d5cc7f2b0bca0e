"""Steam reviews and games (Kang & McAuley, ICDM 2018): one Python literal a line; reviews have a day and no rating."""

from __future__ import annotations

import ast
from collections.abc import Collection
from typing import Any

from recbole_gr.prepare.source import Begun, RawFile, Source
from recbole_gr.utils.cells import date_as_seconds, number, price, text, token

_COLUMNS = {"title": "token_seq", "developer": "token_seq", "genres": "token_seq", "tags": "token_seq", "price": "float"}


def _begin_reviews(first_line: str) -> Begun:
    return _review, False


def _review(line: str) -> tuple[str, ...]:
    record = ast.literal_eval(line)
    hours = record.get("hours")
    return (
        token(record["username"]),  # user_id is missing in most reviews
        token(record["product_id"]),
        "" if hours is None else number(hours),
        date_as_seconds(record["date"]),
    )


def _begin_games(first_line: str, wanted: Collection[str]) -> Begun:
    def parse(line: str) -> Any:
        record = ast.literal_eval(line)
        if "product_id" in record:
            raise ValueError("a review")
        item = token(record["id"])
        if item not in wanted:
            return None
        title = record.get("title") or record.get("app_name")
        cells = {"title": title, **{name: record.get(name) for name in ("developer", "genres", "tags")}}
        return item, {**{name: text(value) for name, value in cells.items()}, "price": price(record.get("price"))}

    return parse, False


STEAM = Source(
    name="steam",
    page="Steam Video Game and Bundle Data of J. McAuley at UC San Diego",
    variants={"reviews": (RawFile("steam_reviews.json.gz", _begin_reviews),)},
    metadata=RawFile("steam_games.json.gz", _begin_games),
    columns=_COLUMNS,
    template="{title}, {developer}, {genres}",
    value="hours",
    core=5,
)
