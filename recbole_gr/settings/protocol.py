"""The protocol: on which data, and how, every model that ranks the catalogue is measured."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator

from recbole_gr.settings.eval_args import eval_args_faults
from recbole_gr.settings.field import Fault, RunValues, Settings, setting
from recbole_gr.utils.errors import DataError
from recbole_gr.utils.file_names import is_file_name
from recbole_gr.utils.table_files import read_header

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


def _parts(value: list[str] | None) -> list[str] | None:
    if value is not None and (len(value) != 3 or len(set(value)) != 3 or not all(map(is_file_name, value))):
        raise ValueError("must be the names of the three parts, training, validation and test: [train, valid, test]")
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
    split_files: Annotated[list[str] | None, AfterValidator(_parts)] = setting(
        None,
        "A ready-made split, its parts in files: [train, valid, test] for NAME.train.inter, NAME.valid.inter, NAME.test.inter, "
        "one interaction a row, from which histories are built; or with histories, as benchmark_filename.",
        "protocol",
        allowed="must be the names of the three parts, training, validation and test: [train, valid, test]",
    )
    split_column: str | None = setting(
        None, "A ready-made split, its parts in a column of the .inter file: train, valid, test.", "protocol"
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
    numbering: Literal["token", "file"] = setting(
        "token",
        "Numbers of users and items, by which weights are drawn: token: in the order of their tokens, so that a file in another "
        "order is the same run; file: as they come in the file, as RecBole does.",
        "protocol",
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
    train_fraction: float = setting(
        1.0,
        "Share of the training part that is learned from; validation, test and histories stay whole.",
        "dataset",
        gt=0,
        le=1,
    )
    train_fraction_of: Literal["users", "interactions"] = setting(
        "users",
        "With train_fraction below 1: users: all targets of so many users are kept; interactions: so many targets, of anybody.",
        "dataset",
    )
    train_fraction_seed: int = setting(
        2020, "With train_fraction below 1, decides which; a smaller fraction is part of a larger one.", "dataset", ge=0
    )
    eval_memory: int | None = setting(
        None,
        "Megabytes that the scores of an evaluation batch may take where a model scores every item; a batch has fewer users than "
        "eval_batch_size where it must. ~: a quarter of what is available, 2,000 at most (16,000 on a GPU).",
        "runtime",
        ge=1,
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
        if run["train_fraction"] < 1:
            if run["benchmark_filename"] is not None:
                yield Fault(
                    "train_fraction", run["train_fraction"], "must be 1, benchmark_filename brings histories of its own"
                )
            if run["mask_seen"] == "recbole":
                yield Fault(
                    "mask_seen", "recbole", "must be True or False, RecBole would not know what train_fraction left out"
                )
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
        yield from _ready_split_faults(run)
        if run["eval_args"].get("order") == "TO":
            check_inter_file(run)

    @classmethod
    def idle(cls, run: RunValues) -> dict[str, str]:
        reasons = {}
        if run["tie_order"] != "shuffled":
            reasons = dict.fromkeys(("tie_interval", "tie_seed"), f"tie_order={run['tie_order']} shuffles nothing")
        if run["train_fraction"] == 1:
            why = "train_fraction=1 leaves nothing out"
            reasons |= dict.fromkeys(("train_fraction_of", "train_fraction_seed"), why)
        if run["threshold"] and run["eval_args"].get("mode") != "labeled":
            reasons["threshold"] = (
                "a ranking takes every interaction for a hit, whatever its label; val_interval keeps those above a value"
            )
        if run["repeatable"] and run["mask_seen"] is True:
            reasons["repeatable"] = "mask_seen=True, which keeps what a user had out of the ranking"
        return reasons


def _ready_split_faults(run: RunValues) -> Iterator[Fault]:
    """One split at a time."""
    ready = [key for key in ("benchmark_filename", "split_files", "split_column") if run[key] is not None]
    for key in ready[1:]:
        yield Fault(key, run[key], f"has no use beside {ready[0]}={run[ready[0]]!r}")
    if ready and run["eval_args"].get("split") != LEAVE_ONE_OUT["split"]:
        yield Fault("eval_args", run["eval_args"], f"its split has no use beside {ready[0]}={run[ready[0]]!r}")


def check_inter_file(run: RunValues) -> None:
    """The interaction files must have the user, item and time columns; those of a ready-made split may do without times.

    Raises:
        DataError: names the file, what is missing and what there is.
    """
    parts = run["split_files"] or run["benchmark_filename"]
    with_times = () if parts or run["split_column"] is not None else ("TIME_FIELD",)
    needed = {run[key]: key for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", *with_times)}
    if run["split_column"] is not None and not parts:
        needed[run["split_column"]] = "split_column"
    for part in parts or [None]:
        name = run["dataset"] if part is None else f"{run['dataset']}.{part}"
        path = os.path.join(str(run["data_path"]), f"{name}.inter")
        if not os.path.isfile(path):
            continue  # a dataset that RecBole knows is downloaded by RecBole; others were checked before
        columns = read_header(path, run["field_separator"], run["encoding"])
        for column, key in needed.items():
            if column not in columns:
                raise DataError(f"[{path}] has no column {column!r} ({key}); it has {', '.join(columns)}")
