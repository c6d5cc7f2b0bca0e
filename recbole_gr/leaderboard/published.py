"""Published numbers that boards name: yaml files in ``properties/published/``.

Each has ``source``, ``differences``, ``metrics`` and, by dataset, ``rows``: a list of numbers per name in the order of ``metrics``,
``null`` where the source gives none.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import yaml

from recbole_gr.settings.properties import names_in, properties_file
from recbole_gr.utils.errors import SettingError
from recbole_gr.utils.words import nearest

PUBLISHED = "published"


def published_blocks() -> list[str]:
    """The names of all blocks of published numbers, sorted."""
    return names_in(PUBLISHED)


def check_published(names: list[str]) -> list[str]:
    """The names, if there is a block of each.

    Raises:
        SettingError: there is none of that name.
    """
    for name in names:
        _block(name)
    return names


def read_published(names: Collection[str], dataset: str) -> list[dict[str, Any]]:
    """The blocks of published numbers that a board names, with their numbers for its dataset.

    Args:
        names: of :func:`published_blocks`.
        dataset: for example ``amazon-beauty-2014``.

    Returns:
        ``source``, ``differences`` and ``rows`` of each, the rows dicts with ``name`` and the numbers by metric. Blocks
        without numbers for the dataset are left out, see :func:`published_elsewhere`.

    Raises:
        SettingError: there is no such block.
    """
    return [_numbers_of(block, dataset) for block in map(_block, names) if dataset in block["rows"]]


def published_elsewhere(names: Collection[str], dataset: str) -> list[str]:
    """A line for each block that has no numbers for the dataset of a board that names it."""
    lines = []
    for name in names:
        others = ", ".join(_block(name)["rows"])
        if dataset not in _block(name)["rows"]:
            lines.append(f"published: {name} is left out, it has no numbers for {dataset}; it has some for {others}")
    return lines


def _block(name: str) -> dict[str, Any]:
    there = published_blocks()
    if name not in there:
        raise SettingError("published", name, f"no such block; there are {', '.join(there)}{nearest(name, there)}")
    return yaml.safe_load(properties_file(PUBLISHED, name).read_text(encoding="utf-8"))


def _numbers_of(block: dict[str, Any], dataset: str) -> dict[str, Any]:
    rows = [
        {"name": row, **{metric: value for metric, value in zip(block["metrics"], values, strict=True) if value is not None}}
        for row, values in block["rows"][dataset].items()
    ]
    return {"source": block["source"], "differences": block["differences"], "rows": rows}
