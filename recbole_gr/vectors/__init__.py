"""Item vectors: float32 ``[n_items x d]``, row = RecBole item id, row 0 (padding) zeros."""

from recbole_gr.vectors.text_encoder import (
    DEFAULT_TEXT_ENCODER,
    encode_texts,
    encoder_identity,
    encoder_precision,
    fetch_text_encoder,
    resolve_text_encoder,
)
from recbole_gr.vectors.vector_file import read_vector_file
from recbole_gr.vectors.item_vectors import item_vectors

__all__ = [
    "DEFAULT_TEXT_ENCODER",
    "encode_texts",
    "encoder_identity",
    "encoder_precision",
    "fetch_text_encoder",
    "item_vectors",
    "read_vector_file",
    "resolve_text_encoder",
]
