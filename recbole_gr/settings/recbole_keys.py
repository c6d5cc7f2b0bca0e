"""RecBole's own settings, as far as this package must know them: their scope, and that their names are known.

Those that a run of ours reads; the others are in :mod:`recbole_gr.settings.recbole_values` and, of single models,
:mod:`recbole_gr.settings.recbole_models`.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, ClassVar

import yaml
from pydantic import AfterValidator

from recbole_gr.settings import forms
from recbole_gr.settings.field import Settings, setting
from recbole_gr.settings.intervals import ALLOWED, intervals
from recbole_gr.settings.values import SettingsLoader

#: What RecBole's logger knows; another word is INFO to it.
LEVELS = ("info", "debug", "warning", "error", "critical")

_Intervals = Annotated[Any, AfterValidator(intervals)]
_Text = Annotated[Any, AfterValidator(forms.text)]


class RecBoleSettings(Settings):
    """Keys of RecBole that this package reads, with RecBole's defaults."""

    title: ClassVar[str] = "RecBole"

    model: str | None = setting(None, "The model.", "model", resumable=True)
    dataset: str | None = setting(None, "The dataset.", "protocol", resumable=True)
    seed: int = setting(2020, "Random seed.", "model", resumable=True, ge=0, lt=2**32)
    config_files: str | None = setting(None, "Files with settings.", "runtime", path=True)
    data_path: str = setting("dataset/", "The path of input dataset.", "runtime", path=True)
    checkpoint_dir: str = setting("saved", "The path to save checkpoint file.", "runtime", path=True)
    show_progress: Annotated[Any, AfterValidator(forms.switch)] = setting(
        True,
        "Whether or not to show the progress bar of every epoch; by default only where stderr is a terminal.",
        "runtime",
    )
    state: Annotated[Any, AfterValidator(forms.one_of(LEVELS, optional=True))] = setting(
        "INFO", "Logging level.", "runtime", allowed=f"must be one of {', '.join(LEVELS)}, None"
    )
    gpu_id: Annotated[Any, AfterValidator(forms.gpu_ids)] = setting("0", "The id of GPU device(s).", "runtime")
    use_gpu: bool = setting(True, "Whether or not to use GPU.", "runtime")
    device: Any = setting(None, "Where the model is; RecBole chooses it.", "runtime")
    worker: int = setting(0, "The number of workers processing the data.", "runtime", ge=0)
    log_wandb: bool = setting(False, "Whether or not to use Weights & Biases(W&B).", "runtime")
    wandb_project: str = setting("recbole", "The project to conduct experiments in W&B.", "runtime")
    save_dataset: bool = setting(False, "Whether or not to save filtered dataset.", "runtime")
    dataset_save_path: str | None = setting(None, "The path of saved dataset.", "runtime", path=True)
    save_dataloaders: bool = setting(False, "Whether or not save split dataloaders.", "runtime")
    dataloaders_save_path: str | None = setting(None, "The path of saved dataloaders.", "runtime", path=True)
    nproc: int = setting(1, "Processes on this host.", "runtime", ge=1)
    world_size: int = setting(-1, "Processes on all hosts; -1: those of this host.", "runtime", ge=-1)
    ip: Any = setting("localhost", "The address of the first host.", "runtime")
    port: Any = setting("5678", "The port on the first host.", "runtime")
    offset: Any = setting(0, "The rank of this host's first process.", "runtime")
    group_offset: Any = setting(0, "The rank of this host's first process.", "runtime")
    local_rank: Any = setting(0, "The rank of a process on its host.", "runtime")
    single_spec: Any = setting(True, "Whether there is one process.", "runtime")
    verbose: bool = setting(False, "Print all settings, not only those that differ from their defaults.", "runtime")
    benchmark_filename: Annotated[Any, AfterValidator(forms.texts)] = setting(
        None, "Parts of a split that come in files.", "protocol"
    )
    user_inter_num_interval: _Intervals = setting(
        None, "Users with so many interactions are kept.", "protocol", allowed=ALLOWED
    )
    item_inter_num_interval: _Intervals = setting(
        None, "Items with so many interactions are kept.", "protocol", allowed=ALLOWED
    )
    filter_inter_by_user_or_item: bool = setting(True, "Filter interactions by user or item.", "protocol")
    val_interval: Annotated[Any, AfterValidator(forms.val_interval)] = setting(
        None, "Interactions with such values are kept.", "protocol"
    )
    rm_dup_inter: Annotated[Any, AfterValidator(forms.one_of(("first", "last"), optional=True))] = setting(
        None, "Which of repeated interactions is kept.", "protocol", allowed="must be one of first, last, None"
    )
    USER_ID_FIELD: _Text = setting("user_id", "Field name of user ID feature.", "dataset")
    ITEM_ID_FIELD: _Text = setting("item_id", "Field name of item ID feature.", "dataset")
    TIME_FIELD: str | None = setting("timestamp", "Field name of timestamp feature.", "dataset")
    field_separator: _Text = setting("\t", "Separator of different columns in atomic files.", "dataset")
    encoding: str | None = setting(None, "Encoding of the atomic files; ~: utf-8.", "dataset")
    enable_scaler: bool = setting(False, "Whether or not to use GradScaler in mixed precision training.", "training")


def on_several_processes(run: Any) -> bool:
    """Whether a run has several processes; before RecBole's Config is made, which sets ``single_spec``, their numbers tell."""
    numbers = [run[key] for key in ("nproc", "world_size")]
    return run["single_spec"] is False or any(isinstance(number, int) and number > 1 for number in numbers)


@cache
def recbole_folder() -> Path:
    """The folder of the installed RecBole, which is not imported."""
    spec = find_spec("recbole")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("recbole is not installed: pip install recbole==1.2.1", name="recbole")
    return Path(spec.origin).parent


@cache
def recbole_models() -> dict[str, str]:
    """The folder of each model file of RecBole, by the file's name: ``{"sasrec": "sequential_recommender"}``."""
    files = sorted((recbole_folder() / "model").glob("*_recommender/*.py"))
    return {file.stem: file.parent.name for file in files if file.stem != "__init__"}


@cache
def recbole_model_names() -> dict[str, str]:
    """The folder of each model of RecBole, by the name of its class, read from the files without importing them."""
    names = {}
    for stem, folder in recbole_models().items():
        source = (recbole_folder() / "model" / folder / f"{stem}.py").read_text(encoding="utf-8")
        names.update(dict.fromkeys((n for n in re.findall(r"^class (\w+)", source, re.M) if n.lower() == stem), folder))
    return names


def read_recbole_properties(name: str) -> dict[str, Any]:
    """A yaml file below RecBole's ``properties``, for example ``model/SASRec``; empty if there is none."""
    path = recbole_folder() / "properties" / f"{name}.yaml"
    if not path.is_file():
        return {}
    return yaml.load(path.read_text(encoding="utf-8"), Loader=SettingsLoader) or {}


@cache
def recbole_keys() -> frozenset[str]:
    """Keys that RecBole has a default for, of itself, of its models and of its datasets."""
    found = set(RecBoleSettings.model_fields)
    for path in (recbole_folder() / "properties").rglob("*.yaml"):
        if path.name not in ("url.yaml", "kg_url.yaml"):
            found |= set(re.findall(r"^([\w-]+)\s*:", path.read_text(encoding="utf-8"), re.M))
    return frozenset(found)


@cache
def keys_read_by_recbole() -> frozenset[str]:
    """Keys that RecBole's source reads, with a default or without; takes a tenth of a second."""
    found = set()
    for path in recbole_folder().rglob("*.py"):
        found |= keys_read_in(path.read_text(encoding="utf-8", errors="replace"))
    arguments = (recbole_folder() / "utils" / "argument_list.py").read_text(encoding="utf-8")
    return frozenset(found | set(re.findall(r"'(\w+)'", arguments)))


@cache
def keys_of_every_model() -> frozenset[str]:
    """Keys that RecBole has or reads outside of its models, so that every model has them."""
    found = set(RecBoleSettings.model_fields) | {"model", "dataset"}
    folder = recbole_folder()
    for path in (folder / "properties" / "overall.yaml", *(folder / "properties" / "dataset").glob("*.yaml")):
        found |= set(re.findall(r"^([\w-]+)\s*:", path.read_text(encoding="utf-8"), re.M))
    for path in folder.rglob("*.py"):
        if "model" not in path.relative_to(folder).parts[:1] or path.parent.name == "model":
            found |= keys_read_in(path.read_text(encoding="utf-8", errors="replace"))
    arguments = (folder / "utils" / "argument_list.py").read_text(encoding="utf-8")
    return frozenset(found | set(re.findall(r"'(\w+)'", arguments)))


def keys_of_recbole_model(name: str) -> set[str]:
    """Keys of a model of RecBole: those of its property file, and those that its source and that of its base classes read."""
    folder = recbole_model_names().get(name)
    found = set(read_recbole_properties(f"model/{name}"))
    if folder is None:
        return found
    source = (recbole_folder() / "model" / folder / f"{name.lower()}.py").read_text(encoding="utf-8")
    for base in re.findall(rf"^class {name}\(([\w, ]*)\)", source, re.M):
        for parent in base.replace(" ", "").split(","):
            if parent != name and parent in recbole_model_names():
                found |= keys_of_recbole_model(parent)
    return found | keys_read_in(source)


def keys_read_in(source: str) -> set[str]:
    """Keys that a piece of source reads as ``config["key"]``."""
    return set(re.findall(r"""config(?:\.get\(|\[)\s*["'](\w+)["']""", source))
