"""The run record: one json file with everything that is needed to trust and to repeat a run."""

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pandas as pd
import torch
from recbole.config import Config

from recbole_gr.experiment.monitor import Progress
from recbole_gr.experiment.target_ranks import write_target_ranks
from recbole_gr.models.registry import path_keys
from recbole_gr.settings.values import plain
from recbole_gr.utils.atomic_files import atomic_write
from recbole_gr.utils.devices import device_name
from recbole_gr.vectors.text_encoder import encoder_parameters
from recbole_gr.version import __version__

VERSIONS = (
    *("recbole", "torch", "numpy", "scipy", "scikit-learn", "pandas"),
    *("transformers", "peft", "sentence-transformers", "faiss-cpu"),
)

#: Where a group of processes met: nothing that is to be published.
_ADDRESS = ("ip", "port")


def write_record(
    record: dict[str, Any], folder: str, name: str | None = None, target_ranks: pd.DataFrame | None = None
) -> str:
    """Write a record and, under the same name before it, the ranks of the test's targets.

    Args:
        record: from :func:`build_record`.
        folder: made if it is not there.
        name: without ending; None: one of model, dataset, time and content.
        target_ranks: from :func:`recbole_gr.experiment.target_ranks.target_ranks_table`; None: there are none.

    Returns:
        The path of the record.
    """
    os.makedirs(folder, exist_ok=True)
    if name is None:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        content = hashlib.sha256(json.dumps(record).encode()).hexdigest()[:8]
        name = f"{record['model']}-{record['dataset']}-{stamp}-{content}"
    if target_ranks is not None:
        write_target_ranks(target_ranks, os.path.join(folder, f"{name}.parquet"))
        record = {**record, "hit_ranks": {"file": f"{name}.parquet", "depth": max(record["config"]["topk"])}}
    path = os.path.join(folder, f"{name}.json")
    with atomic_write(path) as file:
        file.write(json.dumps(record, indent=1) + "\n")
    return path


def build_record(
    config: Config,
    dataset: Any,
    loaders: Sequence[Any],
    model: Any,
    *,
    result: Mapping[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """Gather what :func:`write_record` writes.

    Args:
        config: the merged settings.
        dataset: a RecBole ``Dataset``, before it was split.
        loaders: training, validation and test data.
        model: the trained model.
        result: what RecBole's ``run_recbole`` returns.
        progress: per stage its seconds and rates, the learning curve, the peak of memory.

    Returns:
        Plain json values by key.
    """
    record: dict[str, Any] = {
        "model": config["model"],
        "dataset": config["dataset"],
        "seed": config["seed"],
        "valid": _floats(result["best_valid_result"]),
        "test": _floats(result["test_result"]),
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "stages": progress.stages,
        **progress.peak(),
        "dataset_statistics": dataset_statistics(dataset, loaders),
        "config": portable_settings({key: value for key, value in config.final_config_dict.items() if key not in _ADDRESS}),
        "command": portable_command(sys.argv),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "git_revision": git_revision(),
        "versions": {
            # an editable install keeps the version of the day it was made
            **{"recbole_gr": __version__, "python": platform.python_version()},
            **{name: _version(name) for name in VERSIONS},
        },
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "device": device_name(config["device"]),
            "torch_threads": torch.get_num_threads(),
        },
    }
    record["learning_curve"] = progress.learning_curve
    if progress.resumed_after:
        record["resumed_after"] = progress.resumed_after
    if hasattr(model, "certificates"):
        record["test_rankings"] = model.rankings_report()
    if hasattr(model, "describe"):
        record["language_model"] = model.describe(dataset, progress.stages)
    if hasattr(dataset, "semantic_ids"):
        ids = dataset.semantic_ids
        record["semantic_ids"] = {**dataset.semantic_id_measures, "digest": ids.digest(), "source": ids.source}
        if dataset.semantic_id_measures["largest_collision"] > 1:
            record["semantic_ids"]["leaf_order"] = config["leaf_order"]
        if "text_encoder" in ids.source:
            record["semantic_ids"]["text_encoder_parameters"] = encoder_parameters(config["text_encoder"])
    return record


def dataset_statistics(dataset: Any, loaders: Sequence[Any]) -> dict[str, Any]:
    """Users, items and interactions as counted without padding, and the samples of each split."""
    # a sequential dataset turns every interaction but a user's first into a sample
    interactions = len(dataset) + (dataset.user_num - 1 if hasattr(dataset, "item_list_length_field") else 0)
    return {
        "users": dataset.user_num - 1,
        "items": dataset.item_num - 1,
        "interactions": interactions,
        "mean_length": round(interactions / (dataset.user_num - 1), 4),
        "sparsity": round(1 - interactions / (dataset.user_num - 1) / (dataset.item_num - 1), 6),
        "samples": dict(zip(("train", "valid", "test"), (len(loader._dataset) for loader in loaders))),
    }


def git_revision() -> str | None:
    """Commit of the checkout the package runs from, with ``+changes`` if it was edited; None outside a checkout."""
    folder = os.path.dirname(os.path.abspath(__file__))
    try:
        tracked = subprocess.run(["git", "ls-files", "--error-unmatch", __file__], cwd=folder, capture_output=True)
        if tracked.returncode:
            return None
        revision = _git(folder, "rev-parse", "HEAD")
        return revision + ("+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: str, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _floats(result: Mapping[str, Any] | None) -> dict[str, float]:
    return {key: float(value) for key, value in (result or {}).items()}


def portable_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by key as json values, paths as :func:`portable` gives them, of ``checkpoint_dir`` the last part alone."""
    values = {key: plain(value) for key, value in sorted(settings.items())}
    declared = path_keys()
    # a cell of a board has a folder of its own, which goes when it is done, and what it went on from with it
    for key in ("checkpoint_dir", "resume"):
        if isinstance(values.get(key), str):
            values[key] = os.path.basename(os.path.normpath(values[key]))
    return {
        key: portable(value) if isinstance(value, str) and _holds_a_path(key, declared) else value
        for key, value in values.items()
    }


def portable_command(arguments: Sequence[str]) -> list[str]:
    """A command line, paths as :func:`portable` gives them."""
    portable_arguments, declared = [portable(arguments[0])], path_keys()
    for argument in arguments[1:]:
        key, equals, value = argument.partition("=")
        holds_a_path = _holds_a_path(key.removeprefix("--"), declared)
        portable_arguments.append(key + equals + portable(value) if holds_a_path else argument)
    return portable_arguments


def portable(path: str) -> str:
    """A path as it is if it is relative; else from the current folder on, or its last part alone if it lies elsewhere.

    A record is there to be published; where on a machine something lay is of no use to its reader.
    """
    if not os.path.isabs(path):
        return path
    inside = os.path.relpath(path)
    return os.path.basename(os.path.normpath(path)) if inside.startswith(os.pardir) else inside


def _holds_a_path(key: str, declared: Collection[str]) -> bool:
    """A setting says so itself; of keys that nobody declared, the ending of the name decides."""
    return key in declared or key.endswith(("_path", "_dir", "_file", "_checkpoint"))
