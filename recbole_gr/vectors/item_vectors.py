"""The item vectors a tokenizer starts from: encoded from item text, or read from a file."""

import logging
import os

from recbole_gr.utils.cache import cached, digest
from recbole_gr.data.item_text import read_item_file_tokens, read_item_text
from recbole_gr.vectors.text_encoder import (
    DEFAULT_TEXT_ENCODER,
    encode_texts,
    encoder_identity,
    encoder_precision,
    fetch_text_encoder,
    resolve_text_encoder,
)
from recbole_gr.vectors.vector_file import read_vector_file


def item_vectors(
    item_tokens,
    item_file,
    item_vector_file=None,
    text_template=None,
    text_encoder=DEFAULT_TEXT_ENCODER,
    max_tokens=128,
    batch_size=64,
    device="cpu",
    cache_dir=None,
    item_field="item_id",
    separator="\t",
    encoding=None,
    show_progress=True,
):
    """One vector per item, and what it was made from.

    Encoded vectors are kept under a digest of the texts, the encoder's files, ``max_tokens`` and the precision; the
    file names, the template and the batch size do not change them. Vectors from a file are read every time.

    Args:
        item_tokens (numpy.ndarray): ``[n_items]`` of str, the item token per RecBole item id; entry 0 is padding.
        item_file (str): path of the ``.item`` file; need not exist with an ``item_vector_file`` that has item ids.
        item_vector_file (str): read the vectors from here, see :func:`read_vector_file`; None encodes item text.
        text_template (str): how the columns make a text, see :func:`recbole_gr.data.item_text.read_item_text`.
        text_encoder (str): see :func:`resolve_text_encoder`.
        max_tokens (int): tokens of a text that are read; None is the encoder's own limit.
        batch_size (int): texts encoded at once.
        device (str): where to encode, e.g. ``"cpu"`` or ``"cuda:0"``.
        cache_dir (str): where encoded vectors are kept; None keeps nothing.
        item_field, separator, encoding (str): of the ``.item`` file, see ``read_item_text``.
        show_progress (bool): show a progress bar while encoding.

    Returns:
        tuple: float32 array ``[n_items x d]`` with row 0 zeros, and the provenance, a dict that JSON can hold. For
        text: ``source``, ``text_encoder``, ``encoder_digest``, ``text_template``, ``text_digest``, ``max_tokens``,
        ``precision``. For a file: ``source``, ``item_vector_file``. Both: ``dimension``, ``vector_digest``.

    Raises:
        SettingError, DataError: as the functions named above do.
    """
    if item_vector_file is not None:
        file_tokens = None  # a file with item ids does without
        if item_file is not None and os.path.isfile(item_file):
            file_tokens = read_item_file_tokens(item_file, item_field, separator, encoding)
        vectors = read_vector_file(item_vector_file, item_tokens, file_tokens)
        logging.getLogger().info(f"Read vectors {list(vectors.shape)} from [{item_vector_file}]")
        provenance = {"source": "file", "item_vector_file": item_vector_file}
    else:
        encoder = resolve_text_encoder(text_encoder)
        texts = read_item_text(item_file, item_tokens, text_template, item_field, separator, encoding)
        folder = fetch_text_encoder(encoder)
        provenance = {
            "source": "text",
            "text_encoder": text_encoder,
            "encoder_digest": digest(encoder_identity(folder)),
            "text_template": text_template,
            "text_digest": digest(texts),
            "max_tokens": max_tokens,
            "precision": encoder_precision(device),
        }
        shaped_by = [provenance[name] for name in ("encoder_digest", "text_digest", "max_tokens", "precision")]

        def compute():
            return {"vectors": encode_texts(texts, folder, batch_size, max_tokens, device, show_progress)}, provenance

        vectors = cached(cache_dir, "vectors", digest("text vectors", *shaped_by), compute)[0]["vectors"]
    return vectors, {**provenance, "dimension": vectors.shape[1], "vector_digest": digest(vectors)}
