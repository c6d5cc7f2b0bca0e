"""From the settings to the semantic IDs of a catalogue: a file, or item text -> vectors -> tokenizer."""

import os
import time
from logging import getLogger

import torch

from recbole_gr.cache import cached, digest
from recbole_gr.embedding import item_vectors
from recbole_gr.errors import SettingError
from recbole_gr.tokenizer import SemanticIDs, read_sid_file, tokenize


def make_semantic_ids(config, item_tokens):
    """The semantic IDs that the settings ask for, reused from the cache where they were made before.

    Args:
        config (recbole.config.Config): the merged settings.
        item_tokens (np.ndarray): str ``[n_items]``, RecBole's tokens by item id; entry 0 is the padding item.

    Returns:
        tuple: the SemanticIDs; a dict with the seconds of each stage, for the run record.

    Raises:
        RecBoleGRError: a file, column or value cannot work.
    """
    if config["sid_file"]:
        start = time.perf_counter()
        ids = read_sid_file(config["sid_file"], item_tokens)
        stages = {"semantic_ids": {"seconds": round(time.perf_counter() - start, 3)}}
    else:
        ids, stages = _encode_and_tokenize(config, item_tokens)
    statistics = ids.statistics()
    getLogger().info(
        f"Semantic IDs: {statistics['items']} items, codebooks {statistics['codebook_sizes']}, "
        f"{statistics['unique_share']:.2%} distinct, codes used {statistics['codes_used']}"
    )
    return ids, stages


def _encode_and_tokenize(config, item_tokens):
    if config["codebook_size"] > len(item_tokens) - 1:
        limit = f"must be at most the number of items, {len(item_tokens) - 1}"
        raise SettingError("codebook_size", config["codebook_size"], limit)
    device = str(config["device"])
    start = time.perf_counter()
    vectors, provenance = item_vectors(
        item_tokens,
        os.path.join(config["data_path"], f"{config['dataset']}.item"),
        item_vector_file=config["item_vector_file"],
        text_template=config["text_template"],
        text_encoder=config["text_encoder"],
        max_tokens=config["text_max_tokens"],
        device=device,
        cache_dir=config["cache_dir"],
        item_field=config["ITEM_ID_FIELD"],
        separator=config["field_separator"],
        encoding=config["encoding"],
        show_progress=config["show_progress"],
    )
    encoded = time.perf_counter()
    settings = {key: config[key] for key in ("tokenizer", "codebook_num", "codebook_size", "collision", "seed")}
    settings["normalise_residual"] = config["normalise_residual"]
    settings["iterations"] = config["kmeans_iterations"]

    def compute():
        made = tokenize(vectors, threads=torch.get_num_threads(), **settings)
        return {"codes": made.codes}, {"codebook_sizes": made.codebook_sizes, "collision": made.collision}

    key = digest("semantic IDs", provenance["vector_digest"], settings)
    arrays, meta = cached(config["cache_dir"], "semantic_ids", key, compute)
    ids = SemanticIDs(arrays["codes"], meta["codebook_sizes"], meta["collision"], {**provenance, **settings})
    stages = {
        "vectors": {"seconds": round(encoded - start, 3)},
        "semantic_ids": {"seconds": round(time.perf_counter() - encoded, 3)},
    }
    return ids, stages
