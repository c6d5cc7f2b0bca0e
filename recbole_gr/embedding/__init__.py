"""Item vectors: float32 ``[n_items x d]``, row = RecBole item id, row 0 (padding) zeros."""

from recbole_gr.embedding.text_encoder import (
    DEFAULT_TEXT_ENCODER,
    encode_texts,
    encoder_identity,
    encoder_precision,
    fetch_text_encoder,
    resolve_text_encoder,
)
from recbole_gr.embedding.vector_file import read_vector_file
from recbole_gr.embedding.vectors import item_vectors

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
