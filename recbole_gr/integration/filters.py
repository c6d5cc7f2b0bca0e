"""What RecBole leaves out of the data, or fills in, is counted and said; a filter that cannot work is one line.

Each function is given a method of RecBole's ``Dataset`` and returns what takes its place.
"""

from __future__ import annotations

from collections.abc import Callable
from logging import getLogger
from typing import Any

import numpy as np

from recbole_gr.utils.errors import DataError, SettingError
from recbole_gr.utils.table_files import read_header

#: Settings that leave interactions out.
FILTERS = (
    "val_interval",
    "user_inter_num_interval",
    "item_inter_num_interval",
    "rm_dup_inter",
    "filter_inter_by_user_or_item",
)


def with_columns_in_use(original: Callable) -> Callable:
    """Columns that a setting is about are loaded, whether or not ``load_col`` lists them."""

    def get_load_and_unload_col(self: Any, source: Any) -> Any:
        loaded, unloaded = original(self, source)
        asked = columns_in_use(self.config)
        if not asked:
            return loaded, unloaded
        unloaded = unloaded - asked if unloaded else unloaded
        name = getattr(source, "value", source)
        if loaded:
            loaded = loaded | asked
        elif loaded == set() and name in ("user", "item"):
            found = asked & _columns_of(self, name) - self.field2type.keys()
            loaded = {self.uid_field if name == "user" else self.iid_field, *found} if found else loaded
        return loaded, unloaded

    return get_load_and_unload_col


def columns_in_use(config: Any) -> set[str]:
    """Columns that settings of a run are about, beside users, items and times."""
    asked = {*(config["val_interval"] or {}), *(config["threshold"] or {})}
    if "labeled" in config["eval_args"]["mode"].values():
        asked.add(config["LABEL_FIELD"])
    if config["split_column"]:
        asked.add(config["split_column"])
    if config["benchmark_filename"]:
        asked.add(config["ITEM_ID_FIELD"] + config["LIST_SUFFIX"])
    return asked


def _columns_of(dataset: Any, name: str) -> set[str]:
    path = f"{dataset.dataset_path}/{dataset.dataset_name}.{name}"
    try:
        return set(read_header(path, dataset.config["field_separator"], dataset.config["encoding"]))
    except OSError:
        return set()


def with_counted_gaps(original: Callable) -> Callable:
    """RecBole lists the line of each row without a user or item, and takes lines for positions when it drops the second kind."""

    def filter_nan_user_or_item(self: Any) -> None:
        for name, field in (
            ("user", self.uid_field),
            ("item", self.iid_field),
            ("inter", self.uid_field),
            ("inter", self.iid_field),
        ):
            table = getattr(self, f"{name}_feat")
            if table is None or field is None:
                continue
            missing = table[field].isnull()
            if missing.any():
                what = (
                    f"{int(missing.sum()):,} of {len(table):,} rows of {self.dataset_name}.{name} have no {field}: the cell is "
                    "empty, or a word that stands for nothing, as NA, null, None, nan"
                )
                if missing.all():
                    raise DataError(what)
                getLogger().warning(f"{what}; they are left out.")
                table.drop(table.index[missing], inplace=True)
        original(self)

    return filter_nan_user_or_item


def with_intervals_that_work(original: Callable) -> Callable:
    """RecBole raises without saying which columns there are, and drops one row at random for an interval it cannot read."""

    def filter_by_field_value(self: Any) -> None:
        intervals = self.config["val_interval"] or {}
        for field, interval in intervals.items():
            kind = self.field2type.get(field)
            if kind is None:
                files = [self.dataset_name + ending for ending in (".inter", ".user", ".item")]
                raise SettingError("val_interval", intervals, f"no column {field!r} in {', '.join(files)}")
            if kind.value.startswith("float") and not _is_interval(self, interval):
                raise SettingError(
                    "val_interval", intervals, f"{field}: must be intervals, for example '[4,inf)' or '(0,1];[3,4)'"
                )
            if not kind.value.startswith("float") and not isinstance(interval, (list, tuple)):
                line = f"{field} is a column of type {kind.value}: must be a list of the tokens that are kept"
                raise SettingError("val_interval", intervals, line)
        original(self)

    return filter_by_field_value


def _is_interval(dataset: Any, interval: Any) -> bool:
    try:
        return bool(dataset._parse_intervals_str(interval))
    except (ValueError, IndexError):
        return False


def with_counted_strangers(original: Callable) -> Callable:
    """Where RecBole loads .user or .item, it drops the interactions of whom these do not have, without a word."""

    def filter_inter_by_user_or_item(self: Any) -> None:
        before = self.inter_feat[[field for field in (self.uid_field, self.iid_field) if field in self.inter_feat]]
        original(self)
        if len(self.inter_feat) == len(before):
            return
        what = []
        for name, field in (("user", self.uid_field), ("item", self.iid_field)):
            table = getattr(self, f"{name}_feat")
            strangers: Any = before[field][~before[field].isin(table[field])] if table is not None else []
            if len(strangers):
                listed = ", ".join(strangers.drop_duplicates()[:3])
                what.append(
                    f"{len(strangers):,} of {len(before):,} interactions are of {'an' if name == 'item' else 'a'} {name} that {self.dataset_name}.{name} does not "
                    f"have, e.g. {listed}; it has {', '.join(table[field].astype(str)[:3])}"
                )
        line = f"{'; '.join(what)} (filter_inter_by_user_or_item)"
        if not len(self.inter_feat):
            raise DataError(line)
        getLogger().warning(f"{line}; they are left out.")

    return filter_inter_by_user_or_item


def with_something_left(original: Callable) -> Callable:
    """RecBole says that some table is empty."""

    def reset_index(self: Any) -> None:
        for name in self.feat_name_list:
            if getattr(self, name).empty:
                asked = ", ".join(f"{key}={self.config[key]!r}" for key in FILTERS if self.config[key] is not None)
                raise DataError(
                    f"nothing is left of {self.dataset_name}.{name.removesuffix('_feat')} after the filters: {asked}"
                )
        original(self)

    return reset_index


def with_times_that_are_there(original: Callable) -> Callable:
    """RecBole gives an interaction without a time the mean of the others, so that it comes anywhere in the order."""

    def fill_nan(self: Any) -> None:
        by_time = self.config["eval_args"]["order"] == "TO" and self.benchmark_filename_list is None
        if by_time and self.time_field in self.inter_feat:
            times = self.inter_feat[self.time_field]
            missing = times.isnull()
            endless = times.abs() > np.finfo(np.float32).max if times.dtype.kind == "f" else missing & False
            if missing.any() or endless.any():
                which, what = (missing, "have no") if missing.any() else (endless, "have an infinite")
                keep = f"--val_interval=\"{{'{self.time_field}':'(-inf,inf)'}}\""
                raise DataError(
                    f"{int(which.sum()):,} of {len(which):,} interactions of {self.dataset_name} {what} {self.time_field}, and "
                    f"their place in the order of time is unknown; {keep} leaves them out"
                )
        original(self)

    return fill_nan


def check_labels(dataset: Any) -> None:
    """A measurement of labels needs them; RecBole raises a KeyError in its first batch, or while it splits.

    Args:
        dataset: a RecBole ``Dataset`` whose data are processed.

    Raises:
        DataError: there is no column of labels.
    """
    modes, label = dataset.config["eval_args"]["mode"], dataset.label_field
    if "labeled" in modes.values() and label not in dataset.inter_feat:
        columns = ", ".join(dataset.inter_feat.columns)
        raise DataError(
            f"eval_args: mode labeled needs the column {label} (LABEL_FIELD) in {dataset.dataset_name}.inter, of which {columns} "
            "are read; threshold={'rating': 4} would make it of ratings"
        )


def check_aliases(dataset: Any) -> None:
    """Columns that share the numbers of users, items, entities or relations must be there, as tokens; RecBole raises a KeyError.

    Raises:
        SettingError: names the setting.
    """
    for name in ("user_id", "item_id", "entity_id", "relation_id"):
        key = f"alias_of_{name}"
        for column in dataset.config[key] or []:
            kind = dataset.field2type.get(column)
            if kind is None or not kind.value.startswith("token"):
                there = ", ".join(field for field, of in dataset.field2type.items() if of.value.startswith("token"))
                raise SettingError(key, dataset.config[key], f"no column {column!r} of tokens is read; there are {there}")


def check_id_types(dataset: Any) -> None:
    """Users and items are tokens; of another type RecBole has nothing to number.

    Raises:
        DataError: names the column.
    """
    for key, field in (("USER_ID_FIELD", dataset.uid_field), ("ITEM_ID_FIELD", dataset.iid_field)):
        kind = dataset.field2type.get(field)
        if kind is not None and kind.value != "token":
            raise DataError(
                f"{dataset.dataset_name}.inter has {field}:{kind.value}, but {key} must be a column of type token"
            )


def check_time_type(dataset: Any) -> None:
    """The order of time needs numbers; as a token RecBole numbers times in the order of the rows.

    Args:
        dataset: a RecBole ``Dataset`` that has read its interactions.

    Raises:
        DataError: the time column is of another type.
    """
    kind = dataset.field2type.get(dataset.time_field)
    by_time = dataset.config["eval_args"]["order"] == "TO" and dataset.benchmark_filename_list is None
    if by_time and kind is not None and kind.value != "float":
        raise DataError(
            f"{dataset.dataset_name}.inter has {dataset.time_field}:{kind.value}, but the order of time needs numbers: write "
            f"{dataset.time_field}:float in its first line"
        )
