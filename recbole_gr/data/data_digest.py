"""A digest of the data that a run is trained on, by which a resumed run knows that they are still the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

#: Tables of a RecBole dataset, where it has them.
_TABLES = ("inter_feat", "user_feat", "item_feat", "kg_feat", "net_feat")


def data_digest(dataset: Any) -> str:
    """Digest of what a dataset has read, its filters applied.

    Args:
        dataset: a RecBole ``Dataset`` before it is split; afterwards its tables are those of one part.

    Returns:
        16 hexadecimal digits, equal where tokens, interactions and features are, in their order.
    """
    found = hashlib.sha256()
    for part in _parts(dataset):
        found.update(part)
    return found.hexdigest()[:16]


def _parts(dataset: Any) -> Iterator[bytes]:
    for field in (dataset.uid_field, dataset.iid_field):
        if field is not None:
            yield _strings(dataset.field2id_token[field])
    yield _strings(getattr(dataset, "item_texts", ()))  # of a model that reads them itself
    for name in _TABLES:
        table = getattr(dataset, name, None)
        if table is None:
            continue
        for column in sorted(map(str, table.columns)):
            yield f"{name}.{column}\0".encode()
            yield _values(np.asarray(table[column]) if hasattr(table, "iloc") else table[column].numpy())


def _values(values: np.ndarray) -> bytes:
    if values.dtype != object:
        return f"{values.dtype}{values.shape}".encode() + np.ascontiguousarray(values).tobytes()
    rows = [np.atleast_1d(np.asarray(row)) for row in values]  # lists of tokens or numbers
    lengths = np.array([len(row) for row in rows], np.int64)
    joined = np.concatenate(rows) if rows else np.zeros(0)
    content = _strings(joined) if joined.dtype.kind in "OUS" else f"{joined.dtype}".encode() + joined.tobytes()
    return lengths.tobytes() + content


def _strings(values: Any) -> bytes:
    return b"\0".join(str(value).encode("utf-8", "surrogatepass") for value in values)
