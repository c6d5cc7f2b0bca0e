"""The options of ``recbole-gr prepare``: what they are, and what is wrong with those that a user set."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator

from recbole_gr.prepare import SOURCES
from recbole_gr.settings.check import raise_faults, unknown_keys
from recbole_gr.settings.field import Fault, RunValues, Settings, field_faults, setting

SOURCE_NAMES = tuple(SOURCES)
_ONE_OF_SOURCES = f"must be one of {', '.join(SOURCE_NAMES)}, or csv with a FILE"


def _source(name: str) -> str:
    if name not in SOURCES:
        raise ValueError(_ONE_OF_SOURCES)
    return name


def _name(name: str | None) -> str | None:
    if name is not None and not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError("must be letters, digits, dashes and dots")
    return name


class PrepareOptions(Settings):
    """What is made of which raw files."""

    title: ClassVar[str] = "prepare"

    source: Annotated[str, AfterValidator(_source)] = setting(
        None, "Where the raw files come from.", "dataset", allowed=_ONE_OF_SOURCES
    )
    category: str | None = setting(
        None, "of Amazon, as in the names of its files: Beauty, Sports_and_Outdoors, ...", "dataset"
    )
    raw_dir: str | None = setting(None, "where the raw files lie or are downloaded to (raw/SOURCE)", "runtime", path=True)
    output_dir: str = setting(
        "dataset", "where NAME/NAME.inter and NAME/NAME.item go (dataset, where RecBole looks)", "runtime", path=True
    )
    core: int | None = setting(
        None,
        "users and items with fewer interactions are left out, again and again; 0 keeps all (5; MovieLens: 0, as published)",
        "dataset",
        ge=0,
    )
    text_columns: list[str] | None = setting(
        None, "columns of the .item file, title,brand for example; none: no .item file (all)", "dataset"
    )
    variant: str | None = setting(
        None, "5core or all (Amazon 2014, 2018); reviews, ratings or splits (2023) (the one that is there)", "dataset"
    )
    name: Annotated[str | None, AfterValidator(_name)] = setting(
        None, "name of the dataset (amazon-beauty-2014 and the like)", "dataset"
    )
    download: bool = setting(True, "False: use only what lies in raw_dir (True)", "runtime")

    @classmethod
    def conflicts(cls, run: RunValues) -> Iterator[Fault]:
        source, category = SOURCES[run["source"]], run["category"]
        if not source.categories and category is not None:
            yield Fault("category", category, f"{source.name} has no categories")
        if source.categories and not re.fullmatch(r"[A-Za-z0-9_]+", category or ""):
            yield Fault("category", category, "must be as in the names of the files, for example Sports_and_Outdoors")
        for column in run["text_columns"] or []:
            if column not in source.columns:
                yield Fault("text_columns", column, f"must be one of {', '.join(source.columns)}")
        if run["variant"] is not None and run["variant"] not in source.variants:
            yield Fault("variant", run["variant"], f"must be one of {', '.join(source.variants)}")


def options_of_text(given: Mapping[str, str]) -> dict[str, Any]:
    """Options as the command line has them, read as what they mean; what cannot be read stays text."""
    options: dict[str, Any] = dict(given)
    if "core" in options and options["core"].isdecimal():
        options["core"] = int(options["core"])
    if "text_columns" in options:
        options["text_columns"] = [name.strip() for name in options["text_columns"].split(",") if name.strip() != "none"]
    if "download" in options:
        options["download"] = {"true": True, "false": False}.get(options["download"].lower(), options["download"])
    return options


def checked_options(options: Mapping[str, Any]) -> PrepareOptions:
    """The options, defaults included.

    Raises:
        SettingError, SettingErrors: a line for each that cannot work.
    """
    values = {**PrepareOptions.defaults(), **options}
    others = ", ".join(key for key in PrepareOptions.model_fields if key != "source")
    faults = [
        Fault(key, options[key], f"recbole-gr prepare has no such option{near or f'; it has {others}'}")
        for key, near in unknown_keys(options, PrepareOptions.model_fields)
    ]
    wrong = field_faults(PrepareOptions, values)
    faults += wrong
    if "source" not in {fault.key for fault in wrong}:  # what else is wrong is said with it
        right = {**values, **{fault.key: PrepareOptions.defaults()[fault.key] for fault in wrong}}
        faults += PrepareOptions.conflicts(RunValues(right))
    raise_faults(faults)
    return PrepareOptions.model_validate(values)
