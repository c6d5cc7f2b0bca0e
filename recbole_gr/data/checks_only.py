"""A run that only shall show whether it can begin: what takes long to make is stood in for by random numbers of its shape."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np

from recbole_gr.vectors.text_encoder import fetch_text_encoder, resolve_text_encoder

_only: ContextVar[bool] = ContextVar("checks_only", default=False)

#: Dimensions of vectors whose model does not say it before it is trained or loaded.
UNKNOWN = 64


@contextlib.contextmanager
def checks_only() -> Iterator[None]:
    """Within, item vectors and semantic IDs are drawn; what is known to be wrong with them is an error as ever."""
    token = _only.set(True)
    try:
        yield
    finally:
        _only.reset(token)


def only_checks() -> bool:
    """Whether this is within :func:`checks_only`."""
    return _only.get()


def drawn_vectors(n_items: int, dimension: int) -> np.ndarray:
    """In place of item vectors: float32 ``[n_items, dimension]``, row 0 zeros."""
    vectors = np.random.default_rng(0).normal(size=(n_items, dimension)).astype(np.float32)
    vectors[0] = 0
    return vectors


def encoder_dimension(text_encoder: str) -> int:
    """How long the vectors of a text encoder are, by its files."""
    path = Path(fetch_text_encoder(resolve_text_encoder(text_encoder))) / "config.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return config.get("hidden_size") or config.get("d_model") or config.get("dim") or UNKNOWN
