"""Splits that the data brings along: parts in files of their own, or a column that names the part of each interaction.

A part is a column of the interactions until the split, so that filters, numbers and the order of time are those of any data. A
user's interactions are in the order of the parts first and of time within them; so every history is made of the parts before, and
of what came earlier in the same part.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from recbole.utils import FeatureSource, FeatureType

from recbole_gr.utils.errors import DataError

#: The column that holds the number of the part; it is gone when the data is split.
PART = "split_part"

#: Numbers of the parts by the words of ``split_column``.
PARTS = {"train": 0, "valid": 1, "validation": 1, "val": 1, "test": 2}


def load_interactions(dataset: Any, load: Callable[[], None]) -> None:
    """Let RecBole read the interactions, and note the part of each where ``split_files`` or ``split_column`` asks for it.

    Args:
        dataset: a RecBole ``Dataset`` that has read nothing yet.
        load: reads ``dataset.inter_feat`` as RecBole does.

    Raises:
        DataError: a part has no file, or the column other words than :data:`PARTS`.
    """
    files, column = dataset.config["split_files"], dataset.config["split_column"]
    if files:
        dataset.benchmark_filename_list = files  # RecBole reads the files of this list, one after another
        try:
            load()
        finally:
            dataset.benchmark_filename_list = None
        part = np.repeat(np.arange(len(files)), dataset.file_size_list)
    elif column:
        load()
        part = _parts_named(dataset, column)
    else:
        load()
        return
    dataset.inter_feat[PART] = part.astype(str)
    dataset.set_field_property(PART, FeatureType.TOKEN, FeatureSource.INTERACTION, 1)


def _parts_named(dataset: Any, column: str) -> np.ndarray:
    words = dataset.inter_feat[column].fillna("").astype(str).str.strip().str.lower()
    part = words.map(PARTS)
    if part.isna().any():
        others = words[part.isna()]
        listed = ", ".join(repr(word) for word in others.drop_duplicates()[:3])
        raise DataError(
            f"{os.path.basename(dataset.dataset_path)}.inter names no part in {len(others):,} of {len(words):,} rows of its column "
            f"{column} (split_column): {listed}; the parts are train, valid and test"
        )
    dataset._del_col(dataset.inter_feat, column)
    return part.to_numpy(dtype=np.int64)


def number_parts(dataset: Any) -> None:
    """RecBole has numbered the parts as it found them; before the conversion they get their own numbers, 0 to 2."""
    if PART in dataset.field2type and isinstance(dataset.inter_feat, pd.DataFrame):
        words = dataset.field2id_token[PART]
        numbers = np.array([-1, *(int(word) for word in words[1:])])
        dataset.inter_feat[PART] = numbers[dataset.inter_feat[PART].to_numpy()]


def order_of(dataset: Any, by: Any) -> Any:
    """What interactions are sorted by: the part comes before the time, which may be missing then."""
    fields = [by] if isinstance(by, str) else list(by)
    if PART not in dataset.inter_feat or dataset.time_field not in fields:
        return by
    place = fields.index(dataset.time_field)
    times = fields[place : place + 1] if dataset.time_field in dataset.inter_feat else []
    return [*fields[:place], PART, *times, *fields[place + 1 :]]


def split_by_part(dataset: Any) -> list[Any]:
    """The parts of a dataset that has been converted: training, validation and test.

    The rows of a part are laid out as RecBole's leave-one-out lays them out, users in the order of their first interaction, so
    that the same split gives the same run.
    """
    interactions = dataset.inter_feat
    if dataset.time_field in interactions:
        interactions.sort(by=dataset.time_field)
    part, users = interactions[PART].numpy(), interactions[dataset.uid_field].numpy()
    for field in (PART, PART + dataset.config["LIST_SUFFIX"]):
        if field in interactions:
            dataset._del_col(interactions, field)
    dataset._drop_unused_col()
    _, first, user = np.unique(users, return_index=True, return_inverse=True)
    order = np.argsort(first[user], kind="stable")
    return [dataset.copy(interactions[order[part[order] == number]]) for number in range(3)]
