"""RecBole's own settings of training, evaluation and data, with type and bounds.

RecBole takes most values as they come: it goes on with another optimizer than the one that was named, with all interactions where a
filter cannot be read, or fails in its third hour. These classes only check what the user set; the defaults that hold for a
model are those of RecBole's files and of its own settings, which may allow less (:mod:`recbole_gr.settings.training`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator

from recbole_gr.settings import forms
from recbole_gr.settings.eval_args import eval_args_faults
from recbole_gr.settings.field import Fault, RunValues, Settings, field_faults, setting
from recbole_gr.settings.intervals import ALLOWED, intervals

#: The optimizers of RecBole's trainers; another name is Adam to them.
LEARNERS = ("adam", "adamw", "sgd", "adagrad", "rmsprop", "sparse_adam")

#: The metrics of RecBole.
METRICS = (
    *("recall", "mrr", "ndcg", "hit", "map", "precision", "gauc", "auc", "mae", "rmse", "logloss"),
    *("itemcoverage", "averagepopularity", "shannonentropy", "giniindex", "tailpercentage"),
)

TRANSFORMS = ("mask_itemseq", "inverse_itemseq", "crop_itemseq", "reorder_itemseq", "user_defined")


def _eval_args(value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError("must be a dict with split, group_by, order or mode")
    for fault in eval_args_faults(value):
        raise ValueError(fault)
    return value


def known_metrics(value: Any) -> Any:
    """A name of a metric, or a list of them."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError("must be a list of names")
    for name in names:
        if name.lower() not in METRICS:
            raise ValueError(f"there is no metric {name!r}; there are {', '.join(METRICS)}")
    return value


def _valid_metric(value: Any) -> Any:
    name, at, k = value.partition("@") if isinstance(value, str) else ("", "", "")
    if name.lower() not in METRICS or (at and not (k.isdigit() and int(k) > 0)):
        raise ValueError("must be a metric, for example NDCG@10 or AUC")
    return value


Intervals = Annotated[Any, AfterValidator(intervals)]
Text = Annotated[Any, AfterValidator(forms.text)]
Texts = Annotated[Any, AfterValidator(forms.texts)]
Columns = Annotated[Any, AfterValidator(forms.columns_by_file)]


class RecBoleTraining(Settings):
    """How RecBole's trainers train."""

    title: ClassVar[str] = "RecBole: training"

    reproducibility: bool = setting(True, "Whether or not to make results reproducible.", "training")
    shuffle: bool = setting(True, "Whether or not to shuffle the training data before each epoch.", "training")
    epochs: int = setting(300, "The number of training epochs.", "training", ge=0)
    train_batch_size: int = setting(2048, "The training batch size.", "training", ge=1)
    learner: Annotated[Any, AfterValidator(forms.one_of(LEARNERS))] = setting(
        "adam", "The name of used optimizer.", "training", allowed=f"must be one of {', '.join(LEARNERS)}"
    )
    learning_rate: float = setting(0.001, "Learning rate.", "training", ge=0)
    train_neg_sample_args: Annotated[Any, AfterValidator(forms.train_neg_sample_args)] = setting(
        forms.NEG_SAMPLE_PARTS, "Negative sampling configuration for model training.", "training"
    )
    eval_step: int = setting(
        1, "Training epochs before an evaluation on the validation data; below 1: none.", "training", ge=-1
    )
    stopping_step: int = setting(10, "The threshold for validation-based early stopping.", "training", ge=0)
    clip_grad_norm: Annotated[Any, AfterValidator(forms.clip_grad_norm)] = setting(
        None, "The args of clip_grad_norm_ which will clip gradient norm of model.", "training"
    )
    weight_decay: float = setting(0.0, "The weight decay value (L2 penalty) for optimizers.", "training", ge=0)
    loss_decimal_place: int = setting(4, "The decimal place of training loss.", "training", ge=0, le=15)
    require_pow: bool = setting(False, "Whether or not to perform power operation in EmbLoss.", "training")
    enable_amp: bool = setting(False, "Whether or not to use mixed precision training.", "training")
    transform: Annotated[Any, AfterValidator(forms.one_of(TRANSFORMS, optional=True))] = setting(
        None,
        "The transform operation for batch data process.",
        "training",
        allowed=f"must be one of {', '.join(TRANSFORMS)}, None",
    )


class RecBoleEvaluation(Settings):
    """What RecBole measures, and how."""

    title: ClassVar[str] = "RecBole: evaluation"

    eval_args: Annotated[Any, AfterValidator(_eval_args)] = setting(
        {"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "user", "order": "RO", "mode": "full"},
        "4 keys: group_by, order, split, and mode.",
        "protocol",
    )
    repeatable: bool = setting(False, "Whether to evaluate results with a repeatable recommendation scene.", "protocol")
    metrics: Annotated[Any, AfterValidator(known_metrics)] = setting(
        ["Recall", "MRR", "NDCG", "Hit", "Precision"], "Evaluation metrics.", "protocol"
    )
    topk: Annotated[Any, AfterValidator(forms.topk)] = setting(
        [10], "The value of k for topk evaluation metrics.", "protocol"
    )
    valid_metric: Annotated[Any, AfterValidator(_valid_metric)] = setting(
        "MRR@10", "The evaluation metric for early stopping.", "protocol"
    )
    valid_metric_bigger: bool = setting(True, "Whether to take a bigger valid metric value as a better result.", "protocol")
    eval_batch_size: int = setting(4096, "The evaluation batch size.", "runtime", ge=1)
    metric_decimal_place: int = setting(4, "The decimal place of metric scores.", "protocol", ge=0, le=15)


class RecBoleData(Settings):
    """What RecBole reads, keeps and makes of it."""

    title: ClassVar[str] = "RecBole: data"

    seq_separator: Text = setting(" ", "Separator inside the sequence features.", "dataset")
    RATING_FIELD: Text = setting("rating", "Field name of rating feature.", "dataset")
    seq_len: Annotated[Any, AfterValidator(forms.lengths)] = setting(
        None, "Field name of sequence feature: maximum length of each sequence.", "dataset"
    )
    LABEL_FIELD: Text = setting(
        "label", "Expected field name of the generated labels for point-wise dataLoaders.", "dataset"
    )
    threshold: Annotated[Any, AfterValidator(forms.threshold)] = setting(
        None, "0/1 labels will be generated according to the pairs.", "dataset"
    )
    NEG_PREFIX: Text = setting("neg_", "Negative sampling prefix for pair-wise dataLoaders.", "dataset")
    numerical_features: Texts = setting([], "Float feature fields to be embedded.", "dataset")
    load_col: Columns = setting(
        {"inter": ["user_id", "item_id"]}, "The suffix of atomic files: field names to be loaded.", "dataset"
    )
    unload_col: Columns = setting(None, "The suffix of atomic files: field names NOT to be loaded.", "dataset")
    unused_col: Columns = setting(None, "The suffix of atomic files: field names which are loaded but not used.", "dataset")
    additional_feat_suffix: Annotated[Any, AfterValidator(forms.text_or_texts)] = setting(
        None, "Control loading additional atomic files.", "dataset"
    )
    alias_of_user_id: Texts = setting(
        None, "Fields' names remapped into the same index system with USER_ID_FIELD.", "dataset"
    )
    alias_of_item_id: Texts = setting(
        None, "Fields' names remapped into the same index system with ITEM_ID_FIELD.", "dataset"
    )
    alias_of_entity_id: Texts = setting(
        None, "Fields' names remapped into the same index system with ENTITY_ID_FIELD.", "dataset"
    )
    alias_of_relation_id: Texts = setting(
        None, "Fields' names remapped into the same index system with RELATION_ID_FIELD.", "dataset"
    )
    preload_weight: Annotated[Any, AfterValidator(forms.texts_by_name)] = setting(
        None, "Preloaded weight in {IDs (token): pretrained vectors (float-like)}.", "dataset"
    )
    normalize_field: Texts = setting(None, "List of filed names to be normalized.", "dataset")
    normalize_all: bool | None = setting(None, "Whether or not to normalize all the float like fields.", "dataset")
    discretization: Annotated[Any, AfterValidator(forms.discretization)] = setting(
        None, "The discretization settings.", "dataset"
    )
    ITEM_LIST_LENGTH_FIELD: Text = setting(
        "item_length", "Field name of the feature representing item sequences' length.", "dataset"
    )
    LIST_SUFFIX: Text = setting("_list", "Suffix of field names which are generated as sequences.", "dataset")
    MAX_ITEM_LIST_LENGTH: int = setting(50, "Maximum length of each generated sequence.", "dataset", ge=1)
    POSITION_FIELD: Text = setting("position_id", "Field name of the generated position sequence.", "dataset")
    HEAD_ENTITY_ID_FIELD: Text = setting("head_id", "Field name of the head entity ID feature.", "dataset")
    TAIL_ENTITY_ID_FIELD: Text = setting("tail_id", "Field name of the tail entity ID feature.", "dataset")
    RELATION_ID_FIELD: Text = setting("relation_id", "Field name of the relation ID feature.", "dataset")
    ENTITY_ID_FIELD: Text = setting("entity_id", "Field name of the entity ID.", "dataset")
    kg_reverse_r: bool = setting(False, "Whether to reverse relations of triples for bidirectional edges.", "dataset")
    entity_kg_num_interval: Intervals = setting("[0,inf)", "Entity interval for filtering kg.", "dataset", allowed=ALLOWED)
    relation_kg_num_interval: Intervals = setting(
        "[0,inf)", "Relation interval for filtering kg.", "dataset", allowed=ALLOWED
    )


VALUES = (RecBoleTraining, RecBoleEvaluation, RecBoleData)


#: Settings that name columns, which no two of them can share.
_NAMES = (
    *("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD", "LABEL_FIELD", "ITEM_LIST_LENGTH_FIELD", "POSITION_FIELD"),
    *("HEAD_ENTITY_ID_FIELD", "TAIL_ENTITY_ID_FIELD", "RELATION_ID_FIELD", "ENTITY_ID_FIELD"),
)


def name_faults(run: RunValues) -> Iterator[Fault]:
    """Columns of two meanings, where the user named one of them."""
    names = {
        key: run[key] or RecBoleData.model_fields[key].get_default() for key in _NAMES if key in RecBoleData.model_fields
    }
    names.update({key: run[key] for key in _NAMES if key not in names})
    for key in _NAMES:
        others = [other for other in _NAMES if other != key and names[other] == names[key] and names[key]]
        if key in run.given and others:
            yield Fault(key, run[key], f"{others[0]} has this name already")


def recbole_faults(given: Mapping[str, Any]) -> list[Fault]:
    """Values that the user set for settings of RecBole and that cannot work.

    Args:
        given: what the user set, by key.
    """
    return [fault for one in VALUES for fault in field_faults(one, given)]
