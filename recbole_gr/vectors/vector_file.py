"""Item vectors from a file of another program, and the check that vectors can be quantised."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from recbole_gr.utils.arrays import chunks
from recbole_gr.utils.errors import SettingError


def read_vector_file(path: str, item_tokens: np.ndarray, item_file_tokens: np.ndarray | None = None) -> np.ndarray:
    """Item vectors from a ``.npy``, ``.npz`` or ``.pt`` file.

    - ``.npy`` array or ``.pt`` tensor ``[rows, d]``: one row per row of the ``.item`` file, in its order.
    - ``.npz`` with the arrays ``item_id`` ``[m]`` (item tokens) and ``vectors`` ``[m, d]``.
    - ``.pt`` dict of item token to vector ``[d]``.

    Any real type is read and becomes float32. Where an item occurs twice, the first counts. Vectors of items that
    are not in the catalogue are left out. Pickled Python objects are refused, since they can run code. Of a ``.npy``
    file only some rows at a time are in memory, beside the result.

    Args:
        path: the file.
        item_tokens: ``[n_items]`` of str, the item token per RecBole item id; entry 0 is padding.
        item_file_tokens: ``[rows]`` of str, the item tokens in the order of the ``.item`` file, see
            :func:`recbole_gr.data.item_text.read_item_file_tokens`; needed for files without item ids only.

    Returns:
        numpy.ndarray: float32 ``[n_items, d]``, row 0 zeros.

    Raises:
        SettingError: if the file is missing, cannot be read or holds something else, if its rows are not those of
            the ``.item`` file, if an item of the catalogue has no vector, or if a vector is not finite or all zeros.
    """
    names, vectors = _read(path)
    if names is None:
        names = _names_from_item_file(path, vectors, item_file_tokens)
    elif len(names) != len(vectors):
        raise _unusable(path, f"has {len(names)} item ids for {len(vectors)} vectors")

    source = _rows_of([str(token) for token in item_tokens[1:]], names, path)
    selected = np.zeros((len(item_tokens), vectors.shape[1]), np.float32)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is reported with its item
        _copy_rows(vectors, source, selected[1:])
    if (fault := fault_of(selected, item_tokens)) is not None:
        raise _unusable(path, fault)
    return selected


def _read(path: str) -> tuple[Sequence[str] | None, np.ndarray]:
    """The item tokens of the rows, None where the file has none, and the vectors ``[rows, d]``."""
    readers: dict[str, Callable[[str], tuple[Sequence[str] | None, np.ndarray]]] = {
        ".npy": _read_npy,
        ".npz": _read_npz,
        ".pt": _read_pt,
    }
    extension = os.path.splitext(path)[1]
    if extension not in readers:
        raise _unusable(path, f"the name must end in one of {', '.join(readers)}")
    if not os.path.isfile(path):
        raise _unusable(path, "there is no such file")
    names, vectors = readers[extension](path)
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise _unusable(path, f"vectors must be [rows, d], not {list(vectors.shape)}")
    return names, vectors


def _read_npy(path: str) -> tuple[None, np.ndarray]:
    with _reading(path):
        content = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(content, np.ndarray):
        raise _unusable(path, f"must hold one array, but is an .npz file with {', '.join(content.files)}")
    return None, _real(path, content)


def _read_npz(path: str) -> tuple[list[str], np.ndarray]:
    with _reading(path):
        content = np.load(path, allow_pickle=False)
    names = [] if isinstance(content, np.ndarray) else content.files
    if not {"item_id", "vectors"} <= set(names):
        raise _unusable(path, f"must have the arrays item_id and vectors, has {', '.join(names) or 'one without name'}")
    with _reading(path), content:
        tokens, vectors = content["item_id"], content["vectors"]
    return [str(token) for token in tokens.reshape(-1).tolist()], _real(path, vectors)


def _read_pt(path: str) -> tuple[list[str] | None, np.ndarray]:
    with _reading(path):
        content = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(content, torch.Tensor):
        return None, _real(path, content)
    if not isinstance(content, dict) or not all(isinstance(vector, torch.Tensor) for vector in content.values()):
        raise _unusable(path, "must hold a tensor [rows, d] or a dict of item token to tensor [d]")
    shapes = {tuple(vector.shape) for vector in content.values()}
    if len(shapes) != 1 or len(min(shapes)) != 1:
        raise _unusable(path, f"the vectors of the dict must be [d] with one d, not {sorted(shapes) or 'empty'}")
    return [str(name) for name in content], _real(path, torch.stack(list(content.values())))


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the libraries meet noise and pickled objects with nearly any exception
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise _unusable(path, f"cannot be read; pickled objects are refused ({reason})") from error


def _real(path: str, vectors: Any) -> np.ndarray:
    """The vectors, if they are numbers; a tensor as an array, for which bfloat16 has to become float32."""
    if isinstance(vectors, torch.Tensor):
        if vectors.is_complex():
            raise _unusable(path, f"vectors must be real numbers, not {vectors.dtype}")
        vectors = vectors.detach()
        return (vectors.float() if vectors.dtype == torch.bfloat16 else vectors).numpy()
    if vectors.dtype.kind not in "fiu":
        raise _unusable(path, f"vectors must be real numbers, not {vectors.dtype}")
    return vectors


def _names_from_item_file(path: str, vectors: np.ndarray, item_file_tokens: np.ndarray | None) -> list[str]:
    if item_file_tokens is None:
        raise _unusable(path, "has no item ids, so it needs the .item file whose rows it follows, and there is none")
    if len(vectors) != len(item_file_tokens):
        raise _unusable(path, f"has {len(vectors)} rows, but the .item file has {len(item_file_tokens)} items")
    return item_file_tokens.tolist()


def _rows_of(catalogue: list[str], names: Sequence[str], path: str) -> np.ndarray:
    row_of: dict[str, int] = {}
    for row, name in enumerate(names):
        row_of.setdefault(name, row)
    without = [token for token in catalogue if token not in row_of]
    if without:
        raise _unusable(path, f"{count_of(without)} of the {len(catalogue)} of the catalogue have no vector")
    return np.array([row_of[token] for token in catalogue], dtype=np.int64)


def _copy_rows(vectors: np.ndarray, source: np.ndarray, selected: np.ndarray) -> None:
    """``selected[i] = vectors[source[i]]``, in the order of the file, for a memory map is read from a disk."""
    order = np.argsort(source, kind="stable")
    in_order = source[order]
    for here, part in chunks(vectors):
        first, last = np.searchsorted(in_order, (here.start, here.stop))
        selected[order[first:last]] = part[in_order[first:last] - here.start]


def _unusable(path: str, reason: str) -> SettingError:
    return SettingError("item_vector_file", path, reason)


def fault_of(vectors: np.ndarray, item_tokens: np.ndarray, allow_zero: bool = False) -> str | None:
    """What makes the vectors of a catalogue unusable, in words for an error.

    Args:
        vectors: float32 ``[n_items, d]``, row 0 padding.
        item_tokens: ``[n_items]`` of str; entry 0 is padding.
        allow_zero: vectors of zeros are no fault.

    Returns:
        str: how many items have a vector that is NaN, infinite, too long to be squared or all zeros, and the first of them;
        None if none has.
    """
    infinite, long, zero = np.zeros((3, len(vectors)), dtype=bool)
    for here, part in chunks(vectors):
        infinite[here] = ~np.isfinite(part).all(axis=1)
        with np.errstate(over="ignore", invalid="ignore"):
            long[here] = ~np.isfinite(np.square(part, dtype=np.float32).sum(axis=1, dtype=np.float32))
        zero[here] = False if allow_zero else ~part.any(axis=1)
    faults = (
        (infinite, "are NaN or infinite"),
        (long, "are so long that float32 cannot hold their squares"),
        (zero, "are all zeros"),
    )
    for bad, words in faults:
        items = [str(item_tokens[row]) for row in np.flatnonzero(bad[1:]) + 1]
        if items:
            return f"the vectors of {count_of(items)} {words}"
    return None


def count_of(items: Sequence[str]) -> str:
    """The number of some items and the names of the first three, e.g. ``4 items (a, b, c, ...)``."""
    more = ", ..." if len(items) > 3 else ""
    return f"{len(items)} items ({', '.join(items[:3])}{more})"
