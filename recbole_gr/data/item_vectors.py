"""From the settings to the vectors that a tokenizer quantises: of text, of a trained model, or of both."""

import os
from collections.abc import Callable
from logging import getLogger
from typing import Any

import numpy as np
from recbole.config import Config

from recbole_gr.data.cf_vectors import make_cf_vectors
from recbole_gr.data.checks_only import UNKNOWN, drawn_vectors, encoder_dimension, only_checks
from recbole_gr.data.item_text import read_item_file_tokens, read_item_text
from recbole_gr.data.trained_model import read_checkpoint_vectors
from recbole_gr.data.training_part import TrainingPart
from recbole_gr.utils.cache import cached, digest
from recbole_gr.utils.stopwatch import Stages
from recbole_gr.vectors.preparation import Preparation, centred, join_vectors, reduce_vectors
from recbole_gr.vectors.text_encoder import (
    DEFAULT_TEXT_ENCODER,
    encode_texts,
    encoder_identity,
    encoder_precision,
    fetch_text_encoder,
    resolve_text_encoder,
)
from recbole_gr.vectors.vector_file import read_vector_file


def make_item_vectors(
    config: Config,
    item_tokens: np.ndarray,
    part: Callable[[], TrainingPart],
    stages: Stages,
    preparation: Preparation | None = None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """The item vectors that the settings ask for, and what they were made from.

    ``item_vectors: text`` encodes item text or reads ``item_vector_file``, ``cf`` takes the item embedding of
    ``cf_checkpoint`` or makes CF vectors by ``cf_model``, ``text_cf`` joins both, centred, with ``text_weight`` and ``cf_weight``; then
    come ``pca_dimension`` and ``whiten``.

    Args:
        config: the merged settings.
        item_tokens: str ``[n_items]``, RecBole's tokens by item id; entry 0 is the padding item.
        part: gives the training part, called where CF vectors are made.
        stages: gets what making CF vectors cost.
        preparation: gets what the vectors are prepared by, or has it, kept from other items: then these are new ones, of which
            nobody knows who chose them, and a CF vector of zeros is all that they can have.

    Returns:
        Vectors float32 ``[n_items, d]`` with row 0 zeros, and the provenance, a dict that JSON can hold: what each part
        says of itself (:func:`item_vectors`,
        :func:`recbole_gr.data.trained_model.read_checkpoint_vectors`,
        :func:`recbole_gr.data.cf_vectors.make_cf_vectors`), ``item_vectors``, the weights where
        both parts are used, ``pca_dimension``, ``whiten``, and ``dimension`` and ``vector_digest`` of the result.

    Raises:
        RecBoleGRError: a file, column or value cannot work.
    """
    kind = config["item_vectors"]
    preparation = preparation or Preparation()
    provenance: dict[str, Any] = {"item_vectors": kind}
    parts: list[tuple[np.ndarray, float]] = []
    if kind in ("cf", "text_cf"):  # the quicker one to fail comes first
        if preparation.fits:
            vectors, made_from = cf_item_vectors(config, item_tokens, part, stages)
            provenance.update(made_from)
        else:
            vectors = np.zeros((len(item_tokens), len(preparation.arrays["cf_mean"])), np.float32)
        parts.append((vectors, config["cf_weight"]))
    if kind in ("text", "text_cf"):
        vectors, made_from = _text_vectors(config, item_tokens)
        parts.append((vectors, config["text_weight"]))
        provenance.update(made_from)
    if kind == "text_cf":
        means = zip(parts, ("cf_mean", "text_mean"), strict=True)
        centred_parts = [centred(part, preparation, name) for (part, _), name in means]
        vectors = join_vectors(centred_parts, [weight for _, weight in parts])
        provenance.update(text_weight=config["text_weight"], cf_weight=config["cf_weight"])
    vectors = reduce_vectors(vectors, config["pca_dimension"], config["whiten"], preparation)
    provenance.update(pca_dimension=config["pca_dimension"], whiten=config["whiten"])
    return vectors, {**provenance, "dimension": vectors.shape[1], "vector_digest": digest(vectors)}


def make_injected_vectors(
    config: Config, item_tokens: np.ndarray, part: Callable[[], TrainingPart], stages: Stages
) -> dict[str, np.ndarray]:
    """The un-quantised vectors that ``inject`` asks for, by ``text`` and ``cf``: float32 ``[n_items, d]`` each.

    Args and errors are those of :func:`make_item_vectors`.
    """
    kind, vectors = config["inject"] or "none", {}  # not every model of semantic IDs can inject
    if kind in ("cf", "text_cf"):
        vectors["cf"] = cf_item_vectors(config, item_tokens, part, stages)[0]
    if kind in ("text", "text_cf"):
        vectors["text"] = _text_vectors(config, item_tokens)[0]
    return vectors


def item_file(config: Config) -> str:
    """Path of the ``.item`` file."""
    return os.path.join(config["data_path"], f"{config['dataset']}.item")


def reading(config: Config) -> dict[str, Any]:
    """How the ``.item`` file is to be read, as the functions of ``item_text`` take it."""
    return {"item_field": config["ITEM_ID_FIELD"], "separator": config["field_separator"], "encoding": config["encoding"]}


def cf_item_vectors(
    config: Config, item_tokens: np.ndarray, part: Callable[[], TrainingPart], stages: Stages
) -> tuple[np.ndarray, dict[str, Any]]:
    """The item embedding of ``cf_checkpoint``, or CF vectors by ``cf_model``: float32 ``[n_items, d]``, and what they were made from.

    Args and errors are those of :func:`make_item_vectors`.
    """
    if not config["cf_checkpoint"] and only_checks():
        return drawn_vectors(len(item_tokens), config["cf_dimension"] if config["cf_model"] == "svd" else UNKNOWN), {}
    if not config["cf_checkpoint"]:
        return make_cf_vectors(config, item_tokens, part(), stages)
    vectors, made_from = read_checkpoint_vectors(
        config["cf_checkpoint"],
        item_tokens,
        config["dataset"],
        config["data_path"],
        parameter=config["cf_parameter"],
    )
    getLogger().info(f"Read item embeddings {list(vectors.shape)} from [{config['cf_checkpoint']}]")
    return vectors, made_from


def _text_vectors(config: Config, item_tokens: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    if only_checks() and not config["item_vector_file"]:
        read_item_text(item_file(config), item_tokens, config["text_template"], **reading(config))
        return drawn_vectors(len(item_tokens), encoder_dimension(config["text_encoder"])), {}
    return item_vectors(
        item_tokens,
        item_file(config),
        item_vector_file=config["item_vector_file"],
        text_template=config["text_template"],
        text_encoder=config["text_encoder"],
        max_tokens=config["text_max_tokens"],
        device=str(config["device"]),
        cache_dir=config["cache_dir"],
        show_progress=config["show_progress"],
        **reading(config),
    )


def item_vectors(
    item_tokens: np.ndarray,
    item_file: str,
    *,
    item_vector_file: str | None = None,
    text_template: str | None = None,
    text_encoder: str = DEFAULT_TEXT_ENCODER,
    max_tokens: int | None = 128,
    batch_size: int = 64,
    device: str = "cpu",
    cache_dir: str | None = None,
    item_field: str = "item_id",
    separator: str = "\t",
    encoding: str | None = None,
    show_progress: bool = True,
) -> tuple[np.ndarray, dict[str, Any]]:
    """One vector per item, and what it was made from.

    Encoded vectors are kept under a digest of the texts, the encoder's files, ``max_tokens`` and the precision; the
    file names, the template and the batch size do not change them. Vectors from a file are read every time.

    Args:
        item_tokens: str ``[n_items]``, the item token per RecBole item id; entry 0 is padding.
        item_file: path of the ``.item`` file; need not exist with an ``item_vector_file`` that has item ids.
        item_vector_file: read the vectors from here, see :func:`~recbole_gr.vectors.read_vector_file`; None encodes item text.
        text_template: how the columns make a text, see :func:`recbole_gr.data.item_text.read_item_text`.
        text_encoder: see :func:`~recbole_gr.vectors.resolve_text_encoder`.
        max_tokens: tokens of a text that are read; None is the encoder's own limit.
        batch_size: texts encoded at once.
        device: where to encode, e.g. ``"cpu"`` or ``"cuda:0"``.
        cache_dir: where encoded vectors are kept; None keeps nothing.
        item_field: name of the item id column of the ``.item`` file.
        separator: between the columns of the ``.item`` file.
        encoding: of the ``.item`` file; UTF-8 when None.
        show_progress: show a progress bar while encoding.

    Returns:
        Vectors float32 ``[n_items, d]`` with row 0 zeros, and the provenance, a dict that JSON can hold. For
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
        getLogger().info(f"Read vectors {list(vectors.shape)} from [{item_vector_file}]")
        provenance: dict[str, Any] = {"source": "file", "item_vector_file": item_vector_file}
    else:
        encoder = resolve_text_encoder(text_encoder)
        texts = read_item_text(
            item_file, item_tokens, text_template, item_field=item_field, separator=separator, encoding=encoding
        )
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

        def compute() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
            return {"vectors": encode_texts(texts, folder, batch_size, max_tokens, device, show_progress)}, provenance

        vectors = cached(cache_dir, "vectors", digest("text vectors", *shaped_by), compute)[0]["vectors"]
    return vectors, {**provenance, "dimension": vectors.shape[1], "vector_digest": digest(vectors)}
