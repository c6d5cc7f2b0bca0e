"""From the settings to the semantic IDs of a catalogue: a file, or item vectors -> tokenizer."""

import os
from collections.abc import Callable
from dataclasses import replace
from logging import getLogger
from typing import Any

import numpy as np
import torch
from recbole.config import Config

from recbole_gr.data.catalogue_match import some_of
from recbole_gr.data.checks_only import only_checks
from recbole_gr.data.item_text import read_item_categories, read_item_file_tokens
from recbole_gr.data.item_vectors import cf_item_vectors, item_file, make_item_vectors, reading
from recbole_gr.data.settings import tokenizer_settings
from recbole_gr.data.training_part import TrainingPart
from recbole_gr.data.unseen_items import ALL
from recbole_gr.tokenizers import (
    SemanticIDs,
    check_codebooks,
    check_vectors,
    find_tokenizer,
    fingerprint,
    read_sid_file,
    tokenize,
)
from recbole_gr.tokenizers.extension import extend_semantic_ids
from recbole_gr.tokenizers.measures import compare_with_vectors, describe, diagnose, quantised_levels
from recbole_gr.tokenizers.registry import find_encoder, settings_of, takes_cf_vectors
from recbole_gr.utils.cache import Artifact, cached, digest
from recbole_gr.utils.errors import SettingError
from recbole_gr.utils.stopwatch import Stages, stopwatch
from recbole_gr.vectors.preparation import PREPARED, Preparation

#: Before the names of what gives new items their codes, among the arrays that are kept.
_FITTED = "fitted."


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
            preparation = Preparation()
            vectors, provenance = make_item_vectors(config, item_tokens, part, stages, preparation)
            cf_vectors = None
            if takes_cf_vectors(find_tokenizer(config["tokenizer"])):
                cf_vectors, made_from = cf_item_vectors(config, item_tokens, part, stages)
                provenance = {**provenance, **made_from}
        with stopwatch(stages, "semantic_ids"):
            ids, comparison = _tokenized(config, item_tokens, vectors, cf_vectors, provenance)
            ids = replace(ids, fitted={**ids.fitted, **preparation.arrays}, item_tokens=item_tokens)
    measures = {**diagnose(ids, categories=categories), **comparison}
    getLogger().info(describe(measures))
    return ids, measures, stages


def extended_semantic_ids(config: Config, path: str, item_tokens: np.ndarray) -> SemanticIDs:
    """The semantic IDs of a file, and behind them those of the items of a catalogue that it lacks, by the same quantiser.

    What made the codes is what the file says; a setting that the user gave must agree with it.

    Args:
        config: the merged settings; those that shaped the vectors of the file become its.
        path: a ``.npz`` of ``recbole-gr tokenize``.
        item_tokens: str ``[n_items]``, RecBole's tokens by item id; entry 0 is the padding item.

    Raises:
        RecBoleGRError: the file keeps no quantiser, its tokenizer cannot give codes to new items, all items have codes, or their
            vectors cannot be made as those of the file were.
    """
    ids = _with_quantiser(path)
    assert ids.item_tokens is not None
    _follow_source(config, ids.source)
    new = item_tokens[1:][~np.isin(item_tokens[1:], ids.item_tokens[1:])]
    if len(new) == 0:
        hint = (
            "; load_items=all also takes those of the .item file without interactions" if config["load_items"] != ALL else ""
        )
        raise SettingError("extend", path, f"has codes for all {len(item_tokens) - 1:,} items of the catalogue{hint}")
    find_encoder(ids.source["tokenizer"])  # before the vectors, which take long
    tokens = np.append(item_tokens[:1], new)
    kept = {name: array for name, array in ids.fitted.items() if name in PREPARED}
    vectors, provenance = make_item_vectors(config, tokens, _no_part, {}, Preparation(kept))
    if provenance.get("encoder_digest") != ids.source.get("encoder_digest"):
        raise SettingError("text_encoder", config["text_encoder"], f"is not the one that the codes of {path} were made with")
    extended = extend_semantic_ids(ids, vectors, tokens)
    before, after = ids.codebook_sizes[-1], extended.codebook_sizes[-1]
    getLogger().info(f"{len(new):,} items have new semantic IDs ({some_of(new)}), {ids.n_items - 1:,} keep theirs")
    if after > before:
        beyond = extended.codes[:, -1] >= before
        getLogger().warning(
            f"{int(beyond.sum())} of them ({some_of(extended.item_tokens[beyond])}) have a digit beyond the {before} that there were: "  # type: ignore[index]
            "a model that was trained with those cannot recommend them"
        )
    return extended


def _with_quantiser(path: str) -> SemanticIDs:
    if not os.path.isfile(path):
        raise SettingError("extend", path, "no such file")
    if not path.endswith(".npz"):
        raise SettingError(
            "extend", path, "must be a .npz of `recbole-gr tokenize --sid_format=npz`, others keep no quantiser"
        )
    ids = SemanticIDs.load(path)
    if ids.item_tokens is None or "tokenizer" not in ids.source:
        raise SettingError("extend", path, "does not say what made its codes; `recbole-gr tokenize --sid_format=npz` does")
    if ids.fitted.keys() <= {*PREPARED}:
        find_encoder(ids.source["tokenizer"])({}, {}, ids.source)  # which says why there is nothing
        raise SettingError("extend", path, f"keeps no quantiser of tokenizer={ids.source['tokenizer']}")
    return ids


#: What of a file's source is a setting of another name, and what need not agree.
_OTHER_NAMES = {"max_tokens": "text_max_tokens"}
_MAY_DIFFER = ("item_vector_file", "text_encoder", "seed")


def _follow_source(config: Config, source: dict[str, Any]) -> None:
    """Settings become those that the codes were made with, unless the user gave others."""
    if source["item_vectors"] == "cf":
        raise SettingError(
            "item_vectors", "cf", "items that nobody interacted with have no CF vectors, and so can have no codes"
        )
    shaping = {
        "item_vectors",
        "text_encoder",
        "text_template",
        "text_max_tokens",
        "item_vector_file",
        "text_weight",
        "cf_weight",
    }
    shaping |= {"pca_dimension", "whiten", "tokenizer", "codebook_num", "codebook_size"}
    shaping |= settings_of(find_tokenizer(source["tokenizer"])).keys()
    for name, value in source.items():
        key = _OTHER_NAMES.get(name, name)
        if key not in shaping:
            continue
        given = config[key] if key in config.external_config_dict else None
        if given is None or key in _MAY_DIFFER:
            config[key] = value if given is None else given
        elif _plain(given) != _plain(value):
            raise SettingError(key, given, f"the codes to extend were made with {value!r}")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _no_part() -> TrainingPart:
    raise AssertionError("new items have no CF vectors")


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
        fitted = {f"{_FITTED}{name}": array for name, array in made.fitted.items()}
        return {"codes": made.codes, **fitted}, {**meta, "comparison": comparison}

    made_by = fingerprint(find_tokenizer(config["tokenizer"]))
    shaped_by = [provenance["vector_digest"], settings, made_by, torch.device(device).type]
    if cf_vectors is not None:  # where there are none, codes that were kept before there could be some are found again
        shaped_by.append(digest(cf_vectors))
    folder = config["cache_dir"] if made_by is not None else None  # what may have changed unseen is not kept
    key = digest("semantic IDs, their measures and quantiser", *shaped_by)
    arrays, meta = cached(folder, "semantic_ids", key, compute)
    source = {**provenance, **meta["source"]}
    fitted = {name.removeprefix(_FITTED): array for name, array in arrays.items() if name.startswith(_FITTED)}
    return SemanticIDs(arrays["codes"], meta["codebook_sizes"], meta["collision"], source, fitted), meta["comparison"]


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
