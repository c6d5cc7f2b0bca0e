"""Settings of RecBole that its Config takes and that the model, once it trains, does not."""

from __future__ import annotations

from typing import Any

from recbole.utils import InputType

from recbole_gr.utils.errors import SettingError

#: What a transform of RecBole reads (data/transform.py).
_NEEDED_BY_TRANSFORM = {"mask_itemseq": "mask_ratio", "crop_itemseq": "eta", "reorder_itemseq": "beta"}


def check_training_settings(config: Any) -> None:
    """What a model of RecBole is trained with must be there: negative items for pairs, the settings of a transform.

    Raises:
        SettingError: a KeyError or TypeError of its first batch, told before the data are read.
    """
    drawn = config["train_neg_sample_args"]["distribution"]
    if config["MODEL_INPUT_TYPE"] == InputType.PAIRWISE and drawn == "none":
        allowed = (
            f"{config['model']} is trained on pairs of items and needs negative ones, for example {{distribution: uniform}}"
        )
        raise SettingError("train_neg_sample_args", None, allowed)
    transform = config["transform"]
    needed = _NEEDED_BY_TRANSFORM.get(transform)
    if needed is not None and config[needed] is None:
        raise SettingError("transform", transform, f"needs the setting {needed}, which {config['model']} has not")


def check_optimizer(config: Any, model: Any) -> None:
    """SparseAdam takes the gradients of sparse embeddings alone.

    Raises:
        SettingError: the model has none.
    """
    if str(config["learner"]).lower() != "sparse_adam" or not hasattr(model, "modules"):
        return
    if not any(getattr(module, "sparse", False) for module in model.modules()):
        raise SettingError("learner", config["learner"], f"needs sparse embeddings, which {config['model']} has not; adam")
