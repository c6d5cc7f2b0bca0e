"""The semantic IDs of a dataset without any training: codes, measures and a report in a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from logging import getLogger
from typing import Any

import numpy as np
from recbole.config import Config
from recbole.data import create_dataset
from recbole.utils import init_seed

from recbole_gr.data.dataset import HistoryDataset
from recbole_gr.data.item_text import read_item_categories, read_item_text
from recbole_gr.data.item_vectors import item_file, make_item_vectors, reading
from recbole_gr.data.semantic_id_source import extended_semantic_ids
from recbole_gr.data.settings import vector_faults, vectors_used
from recbole_gr.data.training_part import training_part
from recbole_gr.experiment.console import start_log
from recbole_gr.experiment.tokenize_options import SID_FORMATS, check_tokenize_options
from recbole_gr.integration.check_run import check_writable
from recbole_gr.integration.config import errors_name_places, make_config, places_of
from recbole_gr.settings.check import raise_faults
from recbole_gr.settings.field import RunValues
from recbole_gr.tokenizers.measures import compare_with_vectors, describe, diagnose, quantised_levels
from recbole_gr.tokenizers.report import write_report
from recbole_gr.tokenizers.semantic_ids import SemanticIDs
from recbole_gr.tokenizers.sid_file_writer import write_sid_file
from recbole_gr.tokenizers.sid_files import LEVEL_LETTERS, import_pyarrow
from recbole_gr.utils.atomic_files import atomic_write, remove_leftovers
from recbole_gr.utils.errors import DataError, SettingError


def tokenize_dataset(
    dataset: str = "ml-100k",
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    *,
    output_dir: str | None = None,
    sid_format: str = "json",
    compare_vectors: bool = True,
    extend: str | None = None,
) -> dict[str, Any]:
    """Make the semantic IDs that TIGER would use, or read them from ``sid_file``, and show how good they are.

    Args:
        dataset: name of a folder under ``data_path`` with atomic files.
        config_file_list: yaml files, or names of recipes.
        config_dict: settings.
        output_dir: where ``semantic_ids.*``, ``measures.json`` and ``report.html`` go; None:
            ``results/tokenizers/<dataset>-<tokenizer>``.
        sid_format: one of :data:`~recbole_gr.experiment.tokenize_options.SID_FORMATS`.
        compare_vectors: with ``sid_file``, also make the item vectors and compare the codes with them.
        extend: a ``.npz`` of semantic IDs; the result has these, and behind them new ones for the items of the dataset that they lack,
            by the same vectors, quantiser and collision rule.

    Returns:
        A dict of ``measures``, and the paths ``semantic_ids``, ``measures_file``, ``report``.

    Raises:
        RecBoleGRError: a setting or a file cannot work; a line for each fault.
    """
    options = {"output_dir": output_dir, "sid_format": sid_format, "compare_vectors": compare_vectors, "extend": extend}
    check_tokenize_options(options)
    config = make_config("TIGER", dataset, config_file_list, config_dict)
    if extend and config["sid_file"]:
        raise SettingError(
            "sid_file", config["sid_file"], "has no use with extend, which names the semantic IDs that there are"
        )
    kind = "extended" if extend else "file" if config["sid_file"] else config["tokenizer"]
    folder = output_dir or os.path.join("results", "tokenizers", f"{dataset}-{kind}")
    _check_format(sid_format, config)
    check_writable("output_dir", folder)
    remove_leftovers([folder, config["cache_dir"]])
    init_seed(config["seed"], config["reproducibility"])
    start_log(config)
    with errors_name_places(config):
        tokens, ids, measures = _extend(config, extend) if extend else _tokenize(config, compare_vectors)
        names = _item_names(config, tokens, compare_vectors)

    ending, style = SID_FORMATS[sid_format]
    paths = {
        "semantic_ids": os.path.join(folder, f"semantic_ids{ending}"),
        "measures_file": os.path.join(folder, "measures.json"),
        "report": os.path.join(folder, "report.html"),
    }
    write_sid_file(ids, paths["semantic_ids"], tokens, style)
    with atomic_write(paths["measures_file"]) as file:
        file.write(
            json.dumps({"dataset": dataset, **measures, "digest": ids.digest(), "source": ids.source}, indent=1) + "\n"
        )
    write_report(paths["report"], dataset, ids, measures, item_names=names)
    return {"measures": measures, **paths}


def _tokenize(config: Config, compare_vectors: bool) -> tuple[np.ndarray, SemanticIDs, dict[str, Any]]:
    from_file = bool(config["sid_file"])
    if from_file and compare_vectors:
        run = RunValues({**config.final_config_dict, "sid_file": None}, places_of(config))  # the vectors without the file
        raise_faults(list(vector_faults(run, vectors_used(run))), run)
    made = create_dataset(config)
    tokens, ids, measures = made.field2id_token[made.iid_field].astype(str), made.semantic_ids, made.semantic_id_measures
    if from_file and compare_vectors:
        vectors, _ = make_item_vectors(config, tokens, partial(training_part, made), made.stages)
        measures = {**measures, **compare_with_vectors(ids.codes[1:, : quantised_levels(ids)], vectors[1:])}
        getLogger().info(describe(measures))
    return tokens, ids, measures


def _extend(config: Config, path: str) -> tuple[np.ndarray, SemanticIDs, dict[str, Any]]:
    made = HistoryDataset(config)
    ids = extended_semantic_ids(config, path, made.field2id_token[made.iid_field].astype(str))
    assert ids.item_tokens is not None
    categories = read_item_categories(item_file(config), ids.item_tokens, config["category_column"], **reading(config))
    measures = diagnose(ids, categories=categories)
    getLogger().info(describe(measures))
    return ids.item_tokens, ids, measures


def _check_format(sid_format: str, config: Config) -> None:
    """What the format cannot hold shall show before any long work."""
    if sid_format == "parquet":
        import_pyarrow("semantic_ids.parquet")
    n_levels = config["codebook_num"] + (config["collision"] == "digit")
    if sid_format == "tokens" and not config["sid_file"] and n_levels > len(LEVEL_LETTERS):
        limit = f"has a letter for each of {len(LEVEL_LETTERS)} levels at most, but the semantic IDs will have {n_levels}"
        raise SettingError("sid_format", sid_format, limit)


def _item_names(config: Config, tokens: np.ndarray, compare_vectors: bool) -> Any:
    """The text of each item for people to read, its token where it has none."""
    needs_text = config["item_vectors"] != "cf" and not config["item_vector_file"]
    needs_text = needs_text and (compare_vectors or not config["sid_file"])
    try:
        texts = read_item_text(item_file(config), tokens, config["text_template"], **reading(config))
    except DataError as error:
        if needs_text:
            raise
        getLogger().info(f"The report calls items by their tokens: {error}")
        return tokens
    return [text or token for text, token in zip(texts, tokens)]
