"""Artifacts that are expensive to make, kept on disk under a digest of everything that shaped them.

An artifact is a dict of numpy arrays and a dict of metadata that JSON can hold. It lies in one ``.npz`` file,
``<folder>/<name>-<key>.npz``, by an atomic write: a reader sees all of it or none.
Nothing is ever pickled. An entry also says what making it cost; whoever reuses it can so tell what it takes from nothing, see
:mod:`recbole_gr.utils.stopwatch`.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np

from recbole_gr.utils.atomic_files import atomic_write, probe
from recbole_gr.utils.errors import SettingError
from recbole_gr.utils.processes import from_first
from recbole_gr.utils.stopwatch import Cost, clock, cost_since, count_made, count_reused

#: Arrays by name, and metadata that JSON can hold.
Artifact = tuple[dict[str, np.ndarray], dict[str, Any]]

_ENTRY = "_entry"  # the array that holds an entry's key, checksum and metadata, as a JSON string


def digest(*parts: Any) -> str:
    """Digest of values, equal on every machine exactly when the values are equal.

    The values keep their boundaries, their types and their nesting: ``("ab", "c")``, ``("a", "bc")``, ``(1,)``,
    ``(1.0,)`` and ``("1",)`` all differ. The order of a dict's keys does not count; lists and tuples are the same.

    Args:
        *parts: str, bytes, bool, int, float, None, numpy array (of numbers or strings), or lists, tuples and dicts of
            these.

    Returns:
        str: 16 hexadecimal digits of the SHA-256.

    Raises:
        TypeError: for a value of another type, which has no canonical form.
    """
    hasher = hashlib.sha256()
    for chunk in _canonical(parts):
        hasher.update(chunk)
    return hasher.hexdigest()[:16]


def cached(
    folder: str | None, name: str, key: str, compute: Callable[[], Artifact], logger: logging.Logger | None = None
) -> Artifact:
    """The artifact kept under a key, or else computed and kept.

    An entry that cannot be read completely (damaged, truncated, of another key) is computed anew with a warning. Processes
    that compute the same entry at once each write a file of their own, and the last to finish names the entry. Of processes that
    train together the first reads or computes it and sends it to the others: on GPUs what is trained may differ by rounding.

    Args:
        folder: where artifacts are kept, made when missing; None keeps nothing.
        name: what the artifact is, for the file name and the log, e.g. ``"vectors"``.
        key: :func:`digest` of everything that shapes the artifact.
        compute: takes nothing, returns ``(arrays, metadata)``: dict of str to numpy array, dict for JSON.
        logger: the root logger, which RecBole sets up, when None.

    Returns:
        tuple: ``(arrays, metadata)``, as ``compute`` gives them.

    Raises:
        SettingError: if the entry has to be made and the folder cannot be written, before anything is computed.
    """
    return from_first(lambda: _cached(folder, name, key, compute, logger or logging.getLogger()))


def _cached(folder: str | None, name: str, key: str, compute: Callable[[], Artifact], logger: logging.Logger) -> Artifact:
    if folder is None:
        return _computed(compute, name, "not kept", logger)[0]
    path = os.path.join(folder, f"{name}-{key}.npz")
    if os.path.lexists(path):
        try:
            (arrays, metadata), cost = _load(path, key)
        except Exception as error:  # a damaged zip or array header raises nearly anything, MemoryError included
            logger.warning(f"The {name} kept in [{path}] cannot be used ({error!r}); they are made anew.")
        else:
            logger.info(f"Reused {name} [{path}]")
            count_reused(path, cost)
            return arrays, metadata
    _check_writable(folder)
    (arrays, metadata), cost = _computed(compute, name, path, logger)
    count_made(path)
    try:
        _save(path, key, arrays, metadata, cost)
    except OSError as error:  # a full disk: what took long to compute is still good for this run
        logger.warning(f"The {name} could not be kept in [{path}] ({error!r}); this run goes on without.")
    return arrays, metadata


def _canonical(part: Any) -> Iterator[bytes | memoryview]:
    """Yields bytes from which the value could be read back: a type letter, a length or count, the content."""
    if part is None:
        yield b"n;"
    elif isinstance(part, (bool, np.bool_)):
        yield b"t;" if part else b"f;"
    elif isinstance(part, Integral):
        yield b"i%d;" % int(part)
    elif isinstance(part, Real):
        yield b"r" + repr(float(part)).encode() + b";"
    elif isinstance(part, str):
        yield from _sized(b"s", part.encode("utf-8", "surrogatepass"))
    elif isinstance(part, bytes):
        yield from _sized(b"b", part)
    elif isinstance(part, (list, tuple)):
        yield b"l%d:" % len(part)
        for member in part:
            yield from _canonical(member)
    elif isinstance(part, dict):
        members = sorted((b"".join(_canonical(key)), value) for key, value in part.items())
        yield b"d%d:" % len(members)
        for key, value in members:
            yield key
            yield from _canonical(value)
    elif isinstance(part, np.ndarray) and not part.dtype.hasobject:
        yield from _canonical([part.dtype.str, list(part.shape)])
        yield from _sized(b"a", np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
    else:
        raise TypeError(f"no canonical form of a {type(part).__name__}")


def _sized(letter: bytes, content: bytes | memoryview) -> Iterator[bytes | memoryview]:
    yield letter + b"%d:" % len(content)
    yield content


def _computed(compute: Callable[[], Artifact], name: str, where: str, logger: logging.Logger) -> tuple[Artifact, Cost]:
    """The artifact, and its cost with that of what it was made from and reused."""
    start = clock()
    arrays, metadata = compute()
    passed = cost_since(start)
    logger.info(f"Computed {name} in {passed['seconds']:.1f} s [{where}]")
    cost = {key: round(passed[key] + passed.get(f"reused_{key}", 0.0), 3) for key in ("seconds", "cpu_seconds")}
    artifact = arrays, json.loads(json.dumps(metadata))  # what a later run will read: lists for tuples, str keys
    return artifact, None if "reused_untimed" in passed else cost


def _load(path: str, key: str) -> tuple[Artifact, Cost]:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    entry = json.loads(str(arrays.pop(_ENTRY)))
    if entry["key"] != key:
        raise ValueError(f"it was stored under the key {entry['key']}")
    if entry["checksum"] != digest(arrays, entry["metadata"]):
        raise ValueError("its checksum does not fit")
    return (arrays, entry["metadata"]), entry.get("cost")  # entries of older versions do not say


def _save(path: str, key: str, arrays: dict[str, np.ndarray], metadata: dict[str, Any], cost: Cost) -> None:
    entry = json.dumps({"key": key, "checksum": digest(arrays, metadata), "metadata": metadata, "cost": cost})
    with atomic_write(path, "wb") as file:
        np.savez(file, **{_ENTRY: np.array(entry), **arrays})  # type: ignore[arg-type]  # numpy's stubs take an array for allow_pickle


def _check_writable(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
        probe(folder)
    except OSError as error:
        raise SettingError("cache_dir", folder, f"the folder cannot be written ({error!r})") from error
