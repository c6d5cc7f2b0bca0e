"""The options of ``recbole-gr prepare csv``: what they are, and what is wrong with those that a user set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from recbole_gr.settings.check import raise_faults, unknown_keys
from recbole_gr.settings.field import Fault, Settings, field_faults, setting

#: What ``prepare`` is given in the place of a source.
TABLE = "csv"


class TableOptions(Settings):
    """What of a table becomes which column."""

    title: ClassVar[str] = "prepare csv"

    file: str | None = setting(None, "the table of interactions: .csv, .tsv (also .gz) or .parquet", "runtime", path=True)
    user: str = setting("user_id", "column of users (user_id)", "dataset")
    item: str = setting("item_id", "column of items, also in --items (item_id)", "dataset")
    time: str | None = setting(
        "timestamp",
        "column of times: ISO dates or numbers (timestamp); none: the data has a --split and no times",
        "dataset",
    )
    time_unit: Literal["auto", "s", "ms", "us", "ns"] = setting("auto", "unit of times that are numbers (auto)", "dataset")
    split: str | None = setting(None, "column with train, valid and test, where the data comes with a split", "dataset")
    columns: list[str] = setting([], "further columns of the interactions, rating for example (none)", "dataset")
    items: str | None = setting(None, "a table with a row for each item, with its text", "runtime", path=True)
    item_columns: list[str] | None = setting(
        None, "columns of the .item file, title,brand for example; of --items all, else of the interactions", "dataset"
    )
    name: str | None = setting(None, "name of the dataset (that of the file)", "dataset")
    output_dir: str = setting(
        "dataset", "where NAME/NAME.inter and NAME/NAME.item go (dataset, where RecBole looks)", "runtime", path=True
    )
    separator: str | None = setting(None, "between the columns of a .csv (a comma; of .tsv a tab)", "dataset")
    encoding: str | None = setting(None, "of a .csv (utf-8)", "dataset")


def checked_table_options(given: Mapping[str, str]) -> TableOptions:
    """The options, defaults included.

    Raises:
        SettingError, SettingErrors: a line for each that cannot work.
    """
    options: dict[str, Any] = dict(given)
    for key in ("columns", "item_columns"):
        if key in options:
            options[key] = [name.strip() for name in options[key].split(",") if name.strip() not in ("", "none")]
    if options.get("time") == "none":
        options["time"] = None
    if options.get("separator") in ("\\t", "tab"):
        options["separator"] = "\t"
    values = {**TableOptions.defaults(), **options}
    others = ", ".join(key for key in TableOptions.model_fields if key != "file")
    faults = [
        Fault(key, options[key], f"recbole-gr prepare csv has no such option{near or f'; it has {others}'}")
        for key, near in unknown_keys(options, TableOptions.model_fields)
    ]
    faults += field_faults(TableOptions, values)
    if values["file"] is None:
        faults.append(Fault("file", None, "the table of interactions is missing: recbole-gr prepare csv FILE"))
    faults += [
        Fault(key, values[key], "no such file")
        for key in ("file", "items")
        if values[key] is not None and not os.path.isfile(str(values[key]))
    ]
    places = {values[key]: key for key in ("user", "item", "time") if isinstance(values[key], str)}
    faults += [
        Fault(key, values[key], f"is the column of {places[values[key]]} already")
        for key in ("user", "item")
        if isinstance(values[key], str) and places[values[key]] != key
    ]
    raise_faults(faults)
    return TableOptions.model_validate(values)
