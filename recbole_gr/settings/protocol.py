"""The protocol: on which data, and how, every model that ranks the catalogue is measured."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator

from recbole_gr.settings.eval_args import eval_args_faults
from recbole_gr.settings.field import Fault, RunValues, Settings, setting
from recbole_gr.utils.errors import DataError, SettingError
from recbole_gr.utils.file_names import is_file_name

LEAVE_ONE_OUT = {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO", "mode": "full"}

#: Metrics without a k.
UNRANKED_METRICS = {"auc", "gauc", "mae", "rmse", "logloss"}

#: Metrics of scores, without any ranking.
VALUE_METRICS = UNRANKED_METRICS - {"gauc"}

#: Metrics of whole lists, which need k items for every user.
LIST_METRICS = {"itemcoverage", "averagepopularity", "shannonentropy", "giniindex", "tailpercentage"}


def _k(value: Any) -> Any:
    values = [value] if type(value) is int else value
    if not isinstance(values, list) or not values or any(type(k) is not int or k < 1 for k in values):
        raise ValueError("must be a list of whole numbers of at least 1")
    return value


class ProtocolSettings(Settings):
    """Leave one out, in the order of time, all items ranked, seen items excluded for all models alike."""

    title: ClassVar[str] = "Protocol"

    eval_args: dict[str, Any] = setting(
        LEAVE_ONE_OUT,
        "Split, grouping, order and mode of the evaluation, as RecBole has them; what is left out keeps its default. Here the "
        "last interaction of a user is for test, the one before for validation, and all items are ranked; uni100, pop100 rank "
        "sampled ones.",
        "protocol",
        allowed="must be a dict with split, group_by, order or mode",
    )
    metrics: list[str] | tuple[str, ...] | str = setting(
        ["Recall", "NDCG"], "Evaluation metrics.", "protocol", allowed="must be a list of names"
    )
    topk: Annotated[Any, AfterValidator(_k)] = setting(
        [5, 10], "The values of k.", "protocol", allowed="must be a list of whole numbers of at least 1"
    )
    valid_metric: str = setting(
        "NDCG@10", "The metric for early stopping; where topk alone is set, its k follows.", "protocol"
    )
    mask_seen: Literal[True, False, "recbole"] = setting(
        True,
        "True: no model may recommend what the user had before; False: all may; recbole: excluded for general models, not for "
        "sequential ones, as RecBole does.",
        "protocol",
    )
    timestamp_order: Literal["exact", "recbole"] = setting(
        "exact", "exact: sort by the file's full precision; recbole: sort after rounding to float32.", "protocol"
    )
    tie_order: Literal["file", "shuffled"] = setting(
        "file", "Interactions that share a timestamp: file: as in the file; shuffled: in random order.", "protocol"
    )
    tie_interval: int = setting(
        0, "Timestamps in one interval of this length count as shared; 0: equal ones only.", "protocol", ge=0
    )
    tie_seed: int = setting(2020, "The seed of the random order; the same for all models and seeds.", "protocol", ge=0)
    load_items: Literal["interacted", "all"] = setting(
        "interacted",
        "The catalogue: interacted: items with an interaction; all: those of the .item file that have none too, behind the others.",
        "protocol",
    )
    record_dir: str | None = setting("results/runs", "Where the run records are written.", "runtime", path=True)
    record_name: str | None = setting(
        None, "The name of the record; by default made of model, dataset, time and content.", "runtime"
    )
    resume: str | None = setting(None, "A checkpoint of an interrupted run to go on with.", "runtime", path=True)
    allow_unknown: bool = setting(False, "Let keys that no setting has pass with a warning.", "runtime")

    @classmethod
    def conflicts(cls, run: RunValues) -> Iterator[Fault]:
        if run["tie_order"] == "shuffled" and run["timestamp_order"] == "recbole":
            yield Fault("timestamp_order", "recbole", "has no use with tie_order=shuffled")
        for key in ("dataset", "record_name"):  # files are named after them
            if run[key] is not None and not is_file_name(str(run[key])):
                yield Fault(key, run[key], "must be a name without folders")
        topk = [run["topk"]] if isinstance(run["topk"], int) else run["topk"]
        metrics = [run["metrics"]] if isinstance(run["metrics"], str) else run["metrics"]
        ranked = {f"{metric.lower()}@{k}" for metric in metrics for k in topk}
        unranked = {metric.lower() for metric in metrics}
        if str(run["valid_metric"]).lower() not in ranked | unranked:
            yield Fault("valid_metric", run["valid_metric"], f"must be one of metrics at one of topk: {sorted(ranked)}")
        for key in ("epochs", "train_batch_size", "eval_batch_size", "MAX_ITEM_LIST_LENGTH"):
            least = 0 if key == "epochs" else 1
            if run[key] is not None and (type(run[key]) is not int or run[key] < least):
                yield Fault(key, run[key], f"must be a whole number of at least {least}")
        for words in eval_args_faults(run["eval_args"]):
            yield Fault("eval_args", run["eval_args"], words)
        modes = run["eval_args"].get("mode", "full")
        if "labeled" in (modes.values() if isinstance(modes, dict) else [modes]) and unranked - VALUE_METRICS:
            ranking = ", ".join(sorted(unranked - VALUE_METRICS))
            yield Fault("eval_args", run["eval_args"], f"mode labeled ranks no items, which {ranking} must")
        if run["eval_args"].get("order") == "TO":
            check_inter_file(run)

    @classmethod
    def idle(cls, run: RunValues) -> dict[str, str]:
        if run["tie_order"] == "shuffled":
            return {}
        return dict.fromkeys(("tie_interval", "tie_seed"), f"tie_order={run['tie_order']} shuffles nothing")


def check_inter_file(run: RunValues) -> None:
    """The interaction file must have the user, item and time columns.

    Raises:
        DataError: names the file, what is missing and what there is.
    """
    if run["benchmark_filename"] is not None:
        return
    path = os.path.join(str(run["data_path"]), f"{run['dataset']}.inter")
    if not os.path.isfile(path):
        return  # a dataset that RecBole knows is downloaded by RecBole; others were checked before
    try:
        codecs.lookup(run["encoding"] or "utf-8")
    except LookupError as error:
        raise SettingError("encoding", run["encoding"], "no such encoding") from error
    with open(path, encoding=run["encoding"] or "utf-8") as file:
        columns = [column.split(":")[0] for column in file.readline().rstrip("\n").split(run["field_separator"])]
    for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD"):
        if run[key] not in columns:
            raise DataError(f"[{path}] has no column {run[key]!r} ({key}); it has {', '.join(columns)}")
