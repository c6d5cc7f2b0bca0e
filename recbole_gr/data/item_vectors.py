"""From the settings to the vectors that a tokenizer quantises: of text, of a trained model, or of both."""

import os
from logging import getLogger

from recbole_gr.utils.cache import digest
from recbole_gr.vectors import item_vectors
from recbole_gr.vectors.trained_model import read_checkpoint_vectors
from recbole_gr.vectors.preparation import join_vectors, reduce_vectors


def make_item_vectors(config, item_tokens):
    """The item vectors that the settings ask for, and what they were made from.

    ``item_vectors: text`` encodes item text or reads ``item_vector_file``, ``cf`` takes the item embedding of
    ``cf_checkpoint``, ``text_cf`` joins both with ``text_weight`` and ``cf_weight``; then come ``pca_dimension`` and
    ``whiten``.

    Args:
        config (recbole.config.Config): the merged settings.
        item_tokens (numpy.ndarray): str ``[n_items]``, RecBole's tokens by item id; entry 0 is the padding item.

    Returns:
        tuple: float32 array ``[n_items x d]`` with row 0 zeros, and the provenance, a dict that JSON can hold: what
        each part says of itself (:func:`recbole_gr.vectors.item_vectors`,
        :func:`recbole_gr.vectors.trained_model.read_checkpoint_vectors`), ``item_vectors``, the weights where
        both parts are used, ``pca_dimension``, ``whiten``, and ``dimension`` and ``vector_digest`` of the result.

    Raises:
        RecBoleGRError: a file, column or value cannot work.
    """
    kind = config["item_vectors"]
    provenance, parts = {"item_vectors": kind}, []
    if kind in ("cf", "text_cf"):  # the quicker one to fail comes first
        vectors, made_from = read_checkpoint_vectors(
            config["cf_checkpoint"], item_tokens, config["dataset"], config["data_path"], config["cf_parameter"]
        )
        getLogger().info(f"Read item embeddings {list(vectors.shape)} from [{config['cf_checkpoint']}]")
        parts.append((vectors, config["cf_weight"]))
        provenance.update(made_from)
    if kind in ("text", "text_cf"):
        vectors, made_from = _text_vectors(config, item_tokens)
        parts.append((vectors, config["text_weight"]))
        provenance.update(made_from)
    if kind == "text_cf":
        vectors = join_vectors(*zip(*parts))
        provenance.update(text_weight=config["text_weight"], cf_weight=config["cf_weight"])
    vectors = reduce_vectors(vectors, config["pca_dimension"], config["whiten"])
    provenance.update(pca_dimension=config["pca_dimension"], whiten=config["whiten"])
    return vectors, {**provenance, "dimension": vectors.shape[1], "vector_digest": digest(vectors)}


def item_file(config):
    """Path of the ``.item`` file."""
    return os.path.join(config["data_path"], f"{config['dataset']}.item")


def reading(config):
    """How the ``.item`` file is to be read, as the functions of ``item_text`` take it."""
    return {"item_field": config["ITEM_ID_FIELD"], "separator": config["field_separator"], "encoding": config["encoding"]}


def _text_vectors(config, item_tokens):
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
