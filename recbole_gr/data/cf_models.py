"""The models that may make CF vectors: which, with what settings, and which settings are the run's. Imports none of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from recbole_gr.settings.check import unknown_keys
from recbole_gr.settings.field import Fault
from recbole_gr.settings.properties import properties_file, read_properties
from recbole_gr.settings.recbole_keys import keys_of_every_model, keys_of_recbole_model, recbole_model_names

#: The one without training: :mod:`recbole_gr.vectors.cooccurrence`.
SVD = "svd"

#: Our own recommender over items that needs nothing but the order of a history.
SASREC_CAUSAL = "SASRecCausal"

#: A fixed number of epochs for any model: early stopping would look at the validation part.
EPOCHS = 30

_SEQUENTIAL = {"loss_type": "CE", "train_neg_sample_args": None, "MAX_ITEM_LIST_LENGTH": 20, "learning_rate": 0.002}
#: On top of RecBole's defaults.
DEFAULTS: dict[str, dict[str, Any]] = {
    "SASRec": {
        **_SEQUENTIAL,
        **{"hidden_size": 64, "inner_size": 256, "n_layers": 2, "n_heads": 2},
        **{"hidden_dropout_prob": 0.5, "attn_dropout_prob": 0.5},
    },
    SASREC_CAUSAL: {"epochs": 12, "MAX_ITEM_LIST_LENGTH": 20, "hidden_size": 64, "learning_rate": 0.003},
    "GRU4Rec": {**_SEQUENTIAL, "embedding_size": 64, "hidden_size": 64, "num_layers": 1, "dropout_prob": 0.3},
    "BPR": {"epochs": 100, "embedding_size": 64},
    "LightGCN": {"epochs": 60, "embedding_size": 64, "learning_rate": 0.002},
}

#: What the run sets for any model: all interactions are for training, and no epoch is evaluated.
OF_THE_RUN: dict[str, Any] = {
    **{"USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "TIME_FIELD": "timestamp"},
    **{"load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "field_separator": "\t"},
    **{"benchmark_filename": None, "split_files": None, "split_column": None, "numbering": "file"},
    "eval_args": {"split": {"RS": [1, 0, 0]}, "order": "TO", "group_by": None, "mode": "full"},
    **{"eval_step": 0, "save_dataset": False, "save_dataloaders": False, "log_wandb": False},
    "reproducibility": True,
}
_NOT_YOURS = {
    *OF_THE_RUN,
    *(
        "model",
        "dataset",
        "data_path",
        "checkpoint_dir",
        "config_files",
        "seed",
        "device",
        "gpu_id",
        "use_gpu",
        "show_progress",
    ),
    *("metrics", "topk", "valid_metric", "stopping_step", "eval_batch_size"),
}


def settings_of_cf_model(model: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a model by key: ours for CF vectors, below those that the user gave."""
    return {"epochs": EPOCHS, **DEFAULTS.get(model, {}), **given}


def cf_model_faults(model: str, given: Mapping[str, Any]) -> Iterator[Fault]:
    """A model must be known, and have the settings that it is given.

    Args:
        model: as in ``cf_model``.
        given: as in ``cf_settings``.
    """
    ranking = ("general_recommender", "sequential_recommender")
    names = [SASREC_CAUSAL, *(name for name, folder in recbole_model_names().items() if folder in ranking)]
    if model == SVD:
        return
    if model not in names:
        ((_, hint),) = unknown_keys([model], [SVD, *names])
        examples = ", ".join(name for name in DEFAULTS if name != SASREC_CAUSAL)
        others = f"a general or sequential model of RecBole that embeds items, e.g. {examples}"
        allowed = f"must be {SVD}, {SASREC_CAUSAL} or {others}{hint}"
        yield Fault("cf_model", model, allowed)
        return
    if taken := sorted(given.keys() & _NOT_YOURS):
        yield Fault("cf_settings", dict(given), f"{', '.join(taken)} cannot be set, the run decides that")
    own = read_properties(properties_file("model", model)).keys() if model == SASREC_CAUSAL else keys_of_recbole_model(model)
    for key, near in unknown_keys(given, own | keys_of_every_model()):
        yield Fault("cf_settings", dict(given), f"{model} has no setting {key}{near}")
