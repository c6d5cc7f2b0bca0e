"""Recommendations into files, a batch of rows at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import IO, Any

import pandas as pd
import pyarrow
import pyarrow.parquet

from recbole_gr.utils.atomic_files import atomic_write

#: Rows that a parquet file keeps together; few make large files that are slow to read.
ROWS_OF_A_GROUP = 1 << 17

_SCHEMA = pyarrow.schema(
    [
        ("user", pyarrow.string()),
        ("rank", pyarrow.int32()),
        ("item", pyarrow.string()),
        ("title", pyarrow.string()),
        ("score", pyarrow.float32()),
        ("semantic_id", pyarrow.string()),
        ("certified", pyarrow.bool_()),
    ]
)

Write = Callable[[pd.DataFrame], None]


@contextlib.contextmanager
def open_writer(path: str, kind: str) -> Iterator[Write]:
    """A function that adds rows to a file, which is there when the block has ended, as a whole or not at all.

    Args:
        path: of the file; one of this name is replaced.
        kind: ``parquet``, ``csv`` or ``jsonl``.

    Raises:
        OSError: it cannot be written.
    """
    if kind == "parquet":
        with atomic_write(path, "wb") as file, _parquet(file) as write:
            yield write
        return
    with atomic_write(path) as file:
        yield (_csv if kind == "csv" else _jsonl)(file)


@contextlib.contextmanager
def _parquet(file: IO[Any]) -> Iterator[Write]:
    waiting: list[pyarrow.Table] = []
    with pyarrow.parquet.ParquetWriter(file, _SCHEMA, compression="zstd") as writer:

        def write_group() -> None:
            writer.write_table(pyarrow.concat_tables(waiting).combine_chunks())
            waiting.clear()

        def write(rows: pd.DataFrame) -> None:
            waiting.append(pyarrow.Table.from_pandas(rows, _SCHEMA, preserve_index=False))
            if sum(table.num_rows for table in waiting) >= ROWS_OF_A_GROUP:
                write_group()

        yield write
        if waiting:
            write_group()


def _csv(file: IO[Any]) -> Write:
    file.write(",".join(_SCHEMA.names) + "\n")
    return lambda rows: rows.to_csv(file, header=False, index=False, lineterminator="\n")


def _jsonl(file: IO[Any]) -> Write:
    return lambda rows: rows.to_json(file, orient="records", lines=True, force_ascii=False)
