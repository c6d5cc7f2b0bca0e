"""MovieLens 100K, 1M, 20M and 32M of GroupLens (Harper & Konstan, 2015), in the zip that is published or unpacked."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

from recbole_gr.prepare.lines import columns_of, split_line
from recbole_gr.prepare.source import Begun, RawFile, Source
from recbole_gr.utils.cells import number, seconds, text, token

#: The genres of u.item, in the order of its last 19 columns (file u.genre).
GENRES_100K = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy"),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
_COLUMNS = {"title": "token_seq", "release_year": "token", "genres": "token_seq"}
_TITLE_WITH_YEAR = re.compile(r"(.*\S)\s*\((\d{4})\)\s*$", re.DOTALL)


def _rating(user: str, item: str, rating: str, time: str) -> tuple[str, ...]:
    return token(user), token(item), number(rating), seconds(time)


def _movie(item: str, title: str, genres: Sequence[str], wanted: Collection[str]) -> Any:
    item = token(item)
    if not item.isdigit():
        raise ValueError("not the number of a movie")
    found = _TITLE_WITH_YEAR.match(title)
    title, year = found.groups() if found else (title, "")
    return (item, {"title": text(title), "release_year": year, "genres": text(genres)}) if item in wanted else None


def _begin_ratings_100k(first_line: str) -> Begun:
    return lambda line: _rating(*_exactly(split_line(line, "\t", 4), 4)), False


def _begin_movies_100k(first_line: str, wanted: Collection[str]) -> Begun:
    def parse(line: str) -> Any:
        cells = split_line(line, "|", 24)
        flags = _exactly(cells[5:], len(GENRES_100K))
        return _movie(cells[0], cells[1], [genre for genre, flag in zip(GENRES_100K, flags) if flag == "1"], wanted)

    return parse, False


def _begin_ratings_1m(first_line: str) -> Begun:
    return lambda line: _rating(*_exactly(split_line(line, "::", 4), 4)), False


def _begin_movies_1m(first_line: str, wanted: Collection[str]) -> Begun:
    def parse(line: str) -> Any:
        item, title, genres = _exactly(split_line(line, "::", 3), 3)
        return _movie(item, title, genres.split("|"), wanted)

    return parse, False


def _begin_ratings_csv(first_line: str) -> Begun:
    cells = columns_of(first_line, ("userId", "movieId", "rating", "timestamp"))
    return lambda line: _rating(*cells(line)), True


def _begin_movies_csv(first_line: str, wanted: Collection[str]) -> Begun:
    cells = columns_of(first_line, ("movieId", "title", "genres"))

    def parse(line: str) -> Any:
        item, title, genres = cells(line)
        return _movie(item, title, [] if genres == "(no genres listed)" else genres.split("|"), wanted)

    return parse, True


def _exactly(cells: list[str], n: int) -> list[str]:
    if len(cells) != n:
        raise ValueError("another number of cells")
    return cells


def _movielens(size: str, ratings: RawFile, movies: RawFile) -> Source:
    return Source(
        name=f"movielens-{size}",
        page=f"MovieLens {size.upper()} of GroupLens",
        variants={"ratings": (ratings,)},
        metadata=movies,
        columns=_COLUMNS,
        template="{title}, {release_year}, {genres}",
    )


def _file(size: str, name: str, begin: Callable[..., Begun], encoding: str = "utf-8") -> RawFile:
    return RawFile(name, begin, encoding, archive=f"ml-{size}.zip")


MOVIELENS_SOURCES = (
    _movielens(
        "100k",
        _file("100k", "u.data", _begin_ratings_100k, "latin-1"),
        _file("100k", "u.item", _begin_movies_100k, "latin-1"),
    ),
    _movielens(
        "1m",
        _file("1m", "ratings.dat", _begin_ratings_1m, "latin-1"),
        _file("1m", "movies.dat", _begin_movies_1m, "latin-1"),
    ),
    *(
        _movielens(size, _file(size, "ratings.csv", _begin_ratings_csv), _file(size, "movies.csv", _begin_movies_csv))
        for size in ("20m", "32m")
    ),
)
