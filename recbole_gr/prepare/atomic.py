"""Writing RecBole's atomic files."""

from __future__ import annotations

import operator
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from logging import getLogger
from typing import IO, Any

from recbole_gr.prepare.interactions import Interactions
from recbole_gr.prepare.lines import parsed_lines
from recbole_gr.prepare.place import Place
from recbole_gr.prepare.source import RawFile, Source
from recbole_gr.utils.atomic_files import atomic_write
from recbole_gr.utils.cells import CELL_CHARACTERS, truncate
from recbole_gr.utils.errors import DataError


def write_atomic_files(
    source: Source,
    files: Sequence[tuple[RawFile, Place]],
    metadata: tuple[RawFile, Place] | None,
    *,
    folder: str,
    name: str,
    core: int,
    columns: Sequence[str],
) -> dict[str, Any]:
    """Read the raw files and write ``name.inter`` and ``name.item``; both are there in the end, or neither.

    Interactions stay in the order of the raw files, so that those of one time do too. Items come in the order of the
    metadata, those that it lacks at the end with empty cells; of an item's several records the first counts.

    Args:
        source: what the lines mean.
        files: pairs of a RawFile and its Place; read one after another.
        metadata: such a pair; None: no ``.item`` file is written.
        folder: where they go; it is there.
        name: of the dataset.
        core: users and items with fewer interactions are left out, again and again; 0 keeps all.
        columns: of the ``.item`` file, beside the item.

    Returns:
        A dict of ``tallies`` (list of Tally, of interactions), ``metadata_tally`` (None without metadata), ``users``,
        ``items``, ``interactions``, ``titled``, the number of items with a title, None without titles, and
        ``truncated_cells``, the number of cells of text that were too long and are truncated, None without metadata.

    Raises:
        DataError: a file is the wrong one, or nothing is left.
        OSError: the folder cannot be written.
    """
    tallies = []
    with Interactions(folder) as interactions, ExitStack() as whole:
        for raw, place in files:
            tally, rows = parsed_lines(place.path, raw.begin, raw.encoding, place.member)
            interactions.add(rows)
            tally.warn()
            tallies.append(tally)
        n_users, n_items = interactions.keep_core(core)
        if not n_users:
            raise DataError(f"no interactions are left of {interactions.rows:,} with core={core}; set a smaller core")
        counts: dict[str, Any] = {
            "users": n_users,
            "items": n_items,
            "titled": None,
            "metadata_tally": None,
            "truncated_cells": None,
        }
        inter = whole.enter_context(atomic_write(os.path.join(folder, f"{name}.inter")))
        wanted, counts["interactions"] = _write_interactions(inter, interactions, source.value)
        if metadata is not None:
            of_items, place = metadata
            item = whole.enter_context(atomic_write(os.path.join(folder, f"{name}.item")))
            tally, rows = parsed_lines(
                place.path, lambda first: of_items.begin(first, wanted), of_items.encoding, place.member
            )
            types = {column: source.columns[column] for column in columns}
            titled, truncated_cells = _write_items(item, rows, wanted, types)
            counts.update(
                titled=titled if "title" in columns else None, metadata_tally=tally, truncated_cells=truncated_cells
            )
            tally.warn()
            _warn_of_truncated_cells(tally.path, truncated_cells)
    return {"tallies": tallies, **counts}


def _write_interactions(file: IO[str], interactions: Interactions, value: str) -> tuple[dict[str, None], int]:
    """Returns the items (a dict, in the order they come in) and the number of interactions."""
    file.write(f"user_id:token\titem_id:token\t{value}:float\ttimestamp:float\n")
    items: dict[str, None] = {}
    n = 0
    for line in interactions.kept_lines():
        file.write(line)
        items[line.split("\t", 2)[1]] = None
        n += 1
    return items, n


def _write_items(file: IO[str], rows: Iterable[Any], wanted: Collection[str], columns: Mapping[str, str]) -> tuple[int, int]:
    """Returns how many items have a title, and how many cells are truncated."""
    file.write("\t".join(["item_id:token", *(f"{name}:{kind}" for name, kind in columns.items())]) + "\n")
    missing, titled, truncated_cells = dict.fromkeys(wanted), 0, 0
    for item, cells in rows:
        if item in missing:
            del missing[item]
            titled += bool(cells.get("title"))
            whole = [cells[name] for name in columns]
            fitting = [truncate(cell) for cell in whole]
            truncated_cells += sum(map(operator.ne, whole, fitting))
            file.write("\t".join([item, *fitting]) + "\n")
    for item in missing:
        file.write(item + "\t" * len(columns) + "\n")
    return titled, truncated_cells


def _warn_of_truncated_cells(path: str, n: int) -> None:
    if n:
        getLogger().warning(
            f"[{path}] has {n:,} texts that are too long for RecBole; truncated to {CELL_CHARACTERS:,} characters"
        )
