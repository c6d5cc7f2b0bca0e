"""Collaborative item vectors, made in the run itself from its training part: no item of validation or test shapes them."""

import time
from collections.abc import Callable
from importlib.metadata import version
from logging import getLogger
from typing import Any

import numpy as np
import torch
from recbole.config import Config

from recbole_gr.data.cf_models import SVD, settings_of_cf_model
from recbole_gr.data.cf_process import train_in_a_process
from recbole_gr.data.training_part import TrainingPart
from recbole_gr.utils.cache import Artifact, cached, digest
from recbole_gr.utils.errors import DataError, SettingError
from recbole_gr.utils.stopwatch import Stages
from recbole_gr.vectors.cooccurrence import cooccurrence_vectors
from recbole_gr.version import __version__

#: What makes a run's CF vectors: an artifact with ``vectors`` float32 ``[len(part.item_tokens), d]`` and metadata for the record.
Maker = Callable[[TrainingPart], Artifact]


def make_cf_vectors(
    config: Config, item_tokens: np.ndarray, part: TrainingPart, stages: Stages
) -> tuple[np.ndarray, dict[str, Any]]:
    """CF vectors by ``cf_model``, reused from the cache where they were made before.

    What shapes them is the training part by tokens, the settings of the model, the run's seed, and the versions of what computes.

    Args:
        config: the merged settings.
        item_tokens: str ``[n_items]``, RecBole's tokens by item id; entry 0 is the padding item.
        part: the training part of the run.
        stages: gets ``cf_model``: ``seconds`` and ``cpu_seconds`` of the making, also where they come ``from_cache``.

    Returns:
        Vectors float32 ``[n_items, d]``, zeros for padding and for items that do not occur in the training part; and the
        provenance: ``cf_model``, its settings, for a trained one also ``cf_parameter`` and
        ``cf_train_loss``, ``cf_interactions``, ``cf_items_without_training``, ``cf_dimension``, ``cf_digest``.

    Raises:
        SettingError: the model cannot be made with these settings.
        DataError: the training part is empty.
    """
    if len(part.items) == 0:
        raise DataError(f"item_vectors={config['item_vectors']}: the training part has no interactions")
    model = config["cf_model"]
    settings, versions, make = _svd(config, part) if model == SVD else _recbole(config)
    shaped_by = (part.item_tokens, part.items, part.first, model, settings, versions)
    made_now = False

    def compute() -> Artifact:
        nonlocal made_now
        made_now = True
        wall, cpu = time.perf_counter(), time.process_time()
        arrays, meta = make(part)
        cost = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu, **meta.pop("cost", {})}
        return arrays, {**meta, "cost": {name: round(seconds, 3) for name, seconds in cost.items()}}

    arrays, meta = cached(config["cache_dir"], "cf_vectors", digest("CF vectors", *shaped_by), compute)
    _add_cost(stages, meta.pop("cost"), made_now)
    vectors, without = _by_item(arrays["vectors"], part, item_tokens)
    if without:
        getLogger().warning(
            f"{without} of {len(item_tokens) - 1} items do not occur in the training part; their CF vectors are zeros"
        )
    provenance = {"cf_model": model, **settings, **meta, "cf_interactions": len(part.items)}
    provenance.update(cf_items_without_training=without, cf_dimension=vectors.shape[1], cf_digest=digest(vectors))
    return vectors, provenance


def _add_cost(stages: Stages, cost: dict[str, float], made_now: bool) -> None:
    """Vectors that two parts of a run use are made once, or twice where no cache is kept."""
    before = stages.get("cf_model")
    if before is None:
        stages["cf_model"] = {"times": 1, **cost, "from_cache": not made_now}
    elif made_now:
        before.update({name: round(before[name] + value, 3) for name, value in cost.items()}, times=before["times"] + 1)


def _svd(config: Config, part: TrainingPart) -> tuple[dict[str, Any], dict[str, str], Maker]:
    """The settings and versions that shape the vectors of ``cf_model: svd``, and what makes them."""
    dimension, n_items = config["cf_dimension"], len(part.item_tokens)
    if dimension > n_items:
        raise SettingError("cf_dimension", dimension, f"must be at most {n_items}, the items of the training part")
    values = {"dimension": dimension, "window": config["cf_window"], "shift": config["cf_shift"], "seed": config["seed"]}

    def make(part: TrainingPart) -> Artifact:
        return {"vectors": cooccurrence_vectors(part.items, part.first, n_items, **values)}, {}

    versions = {"recbole_gr": __version__, **{name: version(name) for name in ("numpy", "scipy", "scikit-learn")}}
    return {f"cf_{name}": value for name, value in values.items()}, versions, make


def _recbole(config: Config) -> tuple[dict[str, Any], dict[str, str], Maker]:
    """As :func:`_svd`, for a model of RecBole."""
    model, parameter, device = config["cf_model"], config["cf_parameter"], torch.device(config["device"])
    settings = settings_of_cf_model(model, config["cf_settings"])
    gpus = str(config["gpu_id"]).split(",")
    place = {"use_gpu": device.type != "cpu", "gpu_id": gpus[(config["local_rank"] or 0) % len(gpus)]}
    runtime = {**place, "seed": config["seed"], "show_progress": config["show_progress"]}

    def make(part: TrainingPart) -> Artifact:
        getLogger().info(f"Training {model} for CF vectors, {settings['epochs']} epochs on {len(part.items)} interactions")
        arrays, meta = train_in_a_process(part, model, {**settings, **runtime}, parameter, torch.get_num_threads())
        getLogger().info(f"Trained {model}, loss {meta['cf_train_loss']}, {meta['cost']['cpu_seconds']:.1f} CPU seconds")
        return arrays, meta

    versions = {"recbole_gr": __version__, **{name: version(name) for name in ("recbole", "torch", "numpy")}}
    shaped_by = {"cf_settings": settings, "cf_seed": config["seed"], "cf_device": device.type}
    # asked for by name, or found
    return {**shaped_by, "cf_parameter": parameter}, versions, make


def _by_item(vectors: np.ndarray, part: TrainingPart, item_tokens: np.ndarray) -> tuple[np.ndarray, int]:
    """Vectors of the training part's items by RecBole's item ids, and how many items have none."""
    place = np.searchsorted(part.item_tokens, item_tokens).clip(max=len(part.item_tokens) - 1)
    occurs = part.item_tokens[place] == item_tokens
    occurs[0] = False
    by_item = np.zeros((len(item_tokens), vectors.shape[1]), np.float32)
    by_item[occurs] = vectors[place[occurs]]
    return by_item, len(item_tokens) - 1 - int(occurs.sum())
