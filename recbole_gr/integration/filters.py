"""What RecBole leaves out of the data, or fills in, is counted and said; a filter that cannot work is one line.

Each function is given a method of RecBole's ``Dataset`` and returns what takes its place.
"""

from __future__ import annotations

from collections.abc import Callable
from logging import getLogger
from typing import Any

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
            missing = self.inter_feat[self.time_field].isnull()
            if missing.any():
                keep = f"--val_interval=\"{{'{self.time_field}':'(-inf,inf)'}}\""
                raise DataError(
                    f"{int(missing.sum()):,} of {len(missing):,} interactions of {self.dataset_name} have no {self.time_field}, and "
                    f"their place in the order of time is unknown; {keep} leaves them out"
                )
        original(self)

    return fill_nan


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
