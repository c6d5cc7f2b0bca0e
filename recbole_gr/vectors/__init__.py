"""Item vectors: float32 ``[n_items, d]``, row = RecBole item id, row 0 (padding) zeros.

The names below are imported when they are first used, for some need torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recbole_gr.vectors.text_encoder import (
        DEFAULT_TEXT_ENCODER,
        encode_texts,
        encoder_identity,
        encoder_precision,
        fetch_text_encoder,
        resolve_text_encoder,
    )
    from recbole_gr.vectors.vector_file import read_vector_file

__all__ = [
    "DEFAULT_TEXT_ENCODER",
    "encode_texts",
    "encoder_identity",
    "encoder_precision",
    "fetch_text_encoder",
    "read_vector_file",
    "resolve_text_encoder",
]

_MODULE_OF = {"read_vector_file": "vector_file"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF.get(name, 'text_encoder')}"), name)
