"""From the settings to the semantic IDs of a catalogue: a file, or item vectors -> tokenizer."""

import os
from collections.abc import Callable
from logging import getLogger
from typing import Any, TypeVar

import numpy as np
import torch
from recbole.config import Config

from recbole_gr.data.checks_only import only_checks
from recbole_gr.data.item_text import read_item_categories, read_item_file_tokens
from recbole_gr.data.item_vectors import cf_item_vectors, item_file, make_item_vectors, reading
from recbole_gr.data.settings import tokenizer_settings
from recbole_gr.data.training_part import TrainingPart
from recbole_gr.tokenizers import (
    SemanticIDs,
    check_codebooks,
    check_vectors,
    find_tokenizer,
    fingerprint,
    read_sid_file,
    tokenize,
)
from recbole_gr.tokenizers.measures import compare_with_vectors, describe, diagnose, quantised_levels
from recbole_gr.tokenizers.registry import takes_cf_vectors
from recbole_gr.utils.cache import Artifact, cached, digest
from recbole_gr.utils.stopwatch import Stages, stopwatch

MadeT = TypeVar("MadeT")


def make_semantic_ids(
    config: Config, item_tokens: np.ndarray, part: Callable[[], TrainingPart]
) -> tuple[SemanticIDs, dict[str, Any], Stages]:
    """The semantic IDs that the settings ask for, reused from the cache where they were made before.

    Args:
        config: the merged settings.
        item_tokens: str ``[n_items]``, RecBole's tokens by item id; entry 0 is the padding item.
        part: gives the training part, called where CF vectors are made.

    Returns:
        The semantic IDs; their measures, see :func:`recbole_gr.tokenizers.measures.diagnose`, those that need vectors
        left out with ``sid_file``; the seconds of each stage, for the run record.

    Raises:
        RecBoleGRError: a file, column or value cannot work.
    """
    stages: Stages = {}
    comparison: dict[str, Any]
    categories = read_item_categories(item_file(config), item_tokens, config["category_column"], **reading(config))
    if config["sid_file"]:
        with stopwatch(stages, "semantic_ids"):
            ids, comparison = _from_file(config, item_tokens), {}
    else:
        _fit_codebook_size(config, len(item_tokens) - 1)
        check_codebooks(config["tokenizer"], config["codebook_num"], config["codebook_size"], len(item_tokens) - 1)
        with stopwatch(stages, "vectors"):
            vectors, provenance = make_item_vectors(config, item_tokens, part, stages)
            cf_vectors = None
            if takes_cf_vectors(find_tokenizer(config["tokenizer"])):
                cf_vectors, made_from = cf_item_vectors(config, item_tokens, part, stages)
                provenance = {**provenance, **made_from}
        with stopwatch(stages, "semantic_ids"):
            ids, comparison = _tokenized(config, item_tokens, vectors, cf_vectors, provenance)
    measures = {**diagnose(ids, categories=categories), **comparison}
    getLogger().info(describe(measures))
    return ids, measures, stages


def _fit_codebook_size(config: Config, n_items: int) -> None:
    """A default that is larger than the catalogue becomes the largest power of two that is not; the user's own stays."""
    if "codebook_size" not in config.external_config_dict and config["codebook_size"] > n_items:
        config["codebook_size"] = 1 << (max(1, n_items).bit_length() - 1)
        getLogger().warning(f"codebook_size={config['codebook_size']}: the catalogue has only {n_items} items")


def _from_file(config: Config, item_tokens: np.ndarray) -> SemanticIDs:
    path = item_file(config)
    file_tokens = read_item_file_tokens(path, **reading(config)) if os.path.isfile(path) else None
    return read_sid_file(config["sid_file"], item_tokens, file_tokens, config["sid_codebook_sizes"])


def _tokenized(
    config: Config,
    item_tokens: np.ndarray,
    vectors: np.ndarray,
    cf_vectors: np.ndarray | None,
    provenance: dict[str, Any],
) -> tuple[SemanticIDs, dict[str, Any]]:
    if only_checks():
        return _drawn(config, item_tokens, vectors), {}
    device = str(config["device"])
    settings = {key: config[key] for key in ("tokenizer", "codebook_num", "codebook_size", "collision", "seed")}
    settings.update(tokenizer_settings(config.final_config_dict, config.external_config_dict))

    def compute() -> Artifact:
        made = tokenize(
            vectors,
            cf_vectors=cf_vectors,
            item_tokens=item_tokens,
            allow_zero_vectors=True,  # of items without a text, which were named; other sources have refused theirs
            device=device,
            show_progress=config["show_progress"],
            **settings,
        )
        meta = {name: getattr(made, name) for name in ("codebook_sizes", "collision", "source")}
        comparison = compare_with_vectors(made.codes[1:, : quantised_levels(made)], vectors[1:])
        return {"codes": made.codes}, {**meta, "comparison": comparison}

    made_by = fingerprint(find_tokenizer(config["tokenizer"]))
    shaped_by = [provenance["vector_digest"], settings, made_by, torch.device(device).type]
    if cf_vectors is not None:  # where there are none, codes that were kept before there could be some are found again
        shaped_by.append(digest(cf_vectors))
    folder = config["cache_dir"] if made_by is not None else None  # what may have changed unseen is not kept
    kept = cached(folder, "semantic_ids", digest("semantic IDs and their measures", *shaped_by), compute)
    arrays, meta = as_in_first_process(kept)
    source = {**provenance, **meta["source"]}
    return SemanticIDs(arrays["codes"], meta["codebook_sizes"], meta["collision"], source), meta["comparison"]


def _drawn(config: Config, item_tokens: np.ndarray, vectors: np.ndarray) -> SemanticIDs:
    """Semantic IDs of the shape that is asked for, as far as it is known before the tokenizer runs."""
    check_vectors(config["tokenizer"], vectors.shape[1], config["codebook_num"], config["codebook_size"])
    return tokenize(
        vectors,
        "random",
        codebook_num=config["codebook_num"],
        codebook_size=config["codebook_size"],
        collision="digit" if config["collision"] == "digit" else "none",
        item_tokens=item_tokens,
        seed=config["seed"],
        allow_zero_vectors=True,
    )


def as_in_first_process(made: MadeT) -> MadeT:
    """Of processes that train together, all get what the first one made: on GPUs, trained codes may differ by rounding."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return made
    shared = [made]
    torch.distributed.broadcast_object_list(shared, src=0)
    return shared[0]
