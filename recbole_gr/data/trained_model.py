"""Item vectors from the item embedding of a trained model: the checkpoint that RecBole's Trainer saves.

A checkpoint is a pickle, and a pickle can run any code. ``torch.load(weights_only=True)`` is no way to read this one,
for RecBole pickles it with protocol 4, which that reader does not know, and keeps its Config in it, whose constructor
evaluates strings. So the pickle is read with stand-ins: of all that it names only tensors and plain containers are
made, and the Config, its enumerations and whatever else become objects that hold what they are given and do nothing.
"""

import os
import pickle
import types
from collections import OrderedDict
from typing import Any

import numpy as np
import recbole.data.dataset
import torch
from recbole.config import Config
from recbole.data.dataset import Dataset, KnowledgeBasedDataset
from recbole.utils import ModelType

from recbole_gr.data.catalogue_match import saved_tokens
from recbole_gr.utils.cache import digest
from recbole_gr.utils.errors import SettingError
from recbole_gr.vectors.vector_file import count_of, fault_of

_USUAL_NAME = "item_embedding.weight"
# What checkpoints of RecBole's models call while they are read; all of it is answered by stand-ins.
_USUAL_PACKAGES = ("recbole", "recbole_gr", "torch", "numpy", "scipy", "yaml", "collections")
# How Python 3.11.0 to 3.11.3 pickled the members of an Enum, and pickles before protocol 3 kept bytes.
_USUAL_CALLS = ("builtins.getattr", "_codecs.encode")
_MAX_NAMES = 8


def read_checkpoint_vectors(
    path: str, item_tokens: np.ndarray, dataset: str, data_path: str, *, parameter: str | None = None
) -> tuple[np.ndarray, dict[str, Any]]:
    """The item embedding of a trained model, one vector per item of the catalogue.

    The items are matched by their tokens, so the checkpoint may come from other filters than the catalogue's. One from before
    checkpoints kept tokens needs its dataset to be loaded again, by its own settings and from the files as they are now.

    Args:
        path: a checkpoint of RecBole's Trainer, ``saved/SASRec-....pth``.
        item_tokens: str ``[n_items]``, the item token per RecBole item id; entry 0 is padding.
        dataset: the name of the catalogue's dataset, which the checkpoint must be of too.
        data_path: the folder that holds the files of this dataset, as in a merged ``config["data_path"]``.
        parameter: name of the embedding in the model's ``state_dict``; None takes ``item_embedding.weight``, or
            the only matrix with item and emb in its name and a row for each item.

    Returns:
        Vectors float32 ``[n_items, d]`` with row 0 zeros, and the provenance: ``cf_checkpoint``, ``cf_model``,
        ``cf_parameter``, ``cf_dimension``, ``cf_digest``.

    Raises:
        SettingError: if the file is missing, is no checkpoint of RecBole, would run code, is of another dataset or
            embeds no items, all before the dataset is loaded; if it is not clear which parameter is the item embedding,
            if an item of the catalogue has no vector, or if a vector is not finite or all zeros.
    """
    settings, matrices, kept = _read(path)
    if settings["dataset"] != dataset:
        raise _unusable(path, f"was trained on the dataset {settings['dataset']}, this one is {dataset}")
    candidates = _candidates(path, settings["model"], matrices, parameter)
    row_of = _item_ids(path, settings, data_path) if kept is None else {token: row for row, token in enumerate(kept)}
    name = _choose(path, settings["model"], candidates, len(row_of), parameter=parameter)
    without = [str(token) for token in item_tokens[1:] if token not in row_of]
    if without:
        raise _unusable(path, f"{count_of(without)} of the {len(item_tokens) - 1} of the catalogue have no embedding")
    rows = torch.tensor([row_of[token] for token in item_tokens[1:]], dtype=torch.long)
    vectors = np.zeros((len(item_tokens), candidates[name].shape[1]), np.float32)
    vectors[1:] = candidates[name][rows].float().numpy()
    if (fault := fault_of(vectors, item_tokens)) is not None:
        raise _unusable(path, fault)
    return vectors, {
        "cf_checkpoint": path,
        "cf_model": settings["model"],
        "cf_parameter": name,
        "cf_dimension": vectors.shape[1],
        "cf_digest": digest(vectors),
    }


def choose_item_embedding(model: str, matrices: dict[str, torch.Tensor], items: int, parameter: str | None) -> str:
    """The name of the item embedding of a model that was just trained.

    Args:
        model: its name, for the error.
        matrices: its parameters and buffers by name; those that are no floating-point matrices are left out.
        items: items of its dataset, padding included.
        parameter: as for :func:`read_checkpoint_vectors`.

    Raises:
        SettingError: as for a checkpoint.
    """
    of_two = {name: weight for name, weight in matrices.items() if _is_matrix(weight)}
    return _choose(model, model, _candidates(model, model, of_two, parameter), items, parameter=parameter)


def _read(path: str) -> tuple[dict[str, Any], dict[str, torch.Tensor], list[str] | None]:
    """The settings of a checkpoint, the floating-point matrices of its model by their names, and its item tokens where it keeps them."""
    if not os.path.isfile(path):
        raise _unusable(path, "there is no such file")
    with open(path, "rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    if not zipped:  # the format of torch before 1.6, which needs another reader
        raise _unusable(path, "is not a checkpoint of RecBole (not a file of torch.save)")
    reader = types.ModuleType("stand_ins")
    vars(reader)["Unpickler"] = _reader_for(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=False, pickle_module=reader)
    except SettingError:
        raise
    except Exception as error:  # noise in a pickle meets nearly any exception
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise _unusable(path, f"is not a checkpoint of RecBole ({reason})") from error
    content = content if isinstance(content, dict) else {}
    settings = getattr(content.get("config"), "state", None)
    settings = settings.get("final_config_dict") if isinstance(settings, dict) else None
    weights = content.get("state_dict")
    if not isinstance(settings, dict) or not isinstance(weights, dict):
        raise _unusable(path, "is not a checkpoint of RecBole (without a Config or a state_dict)")
    if not isinstance(settings.get("model"), str) or not isinstance(settings.get("dataset"), str):
        raise _unusable(path, "is not a checkpoint of RecBole (its Config names no model or dataset)")
    tokens = (saved_tokens(weights) or {}).get("items")
    if tokens is not None and not all(type(token) is str for token in tokens):
        raise _unusable(path, "is not a checkpoint of RecBole (its item tokens are not text)")
    return settings, {name: weight for name, weight in weights.items() if _is_matrix(weight)}, tokens


def _reader_for(path: str) -> type[pickle.Unpickler]:
    """A class of unpicklers that make tensors, containers and stand-ins, and refuse to call what is unusual."""

    class Reader(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            full_name = f"{module}.{name}"
            if full_name == "collections.OrderedDict":
                return OrderedDict
            if full_name == "torch._utils._rebuild_tensor_v2":
                # Not the function itself: a pickle can set attributes of what it names.
                return lambda *arguments: torch._utils._rebuild_tensor_v2(*arguments)
            if full_name == "torch._utils._rebuild_parameter":
                return lambda *arguments: torch._utils._rebuild_parameter(*arguments)
            if module.split(".")[0] in _USUAL_PACKAGES or full_name in _USUAL_CALLS:
                return type(name, (_StandIn,), {})
            return type(name, (_Refusal,), {"path": path, "full_name": full_name})

    return Reader


class _StandIn:
    """In place of an object of a checkpoint; keeps what it would have been made from."""

    arguments: tuple[Any, ...]

    def __new__(cls, *arguments: Any, **named: Any) -> "_StandIn":  # unpickling may leave out __init__
        made = super().__new__(cls)
        made.arguments = arguments
        return made

    def __init__(self, *arguments: Any, **named: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Refusal:
    """In place of what is foreign; to name it is harmless, as for a model of one's own, to call it is not."""

    path: str
    full_name: str

    def __new__(cls, *arguments: Any, **named: Any) -> "_Refusal":
        raise _unusable(cls.path, f"would call {cls.full_name}, which checkpoints of RecBole do not; it was not run")


def _is_matrix(weight: Any) -> bool:
    return isinstance(weight, torch.Tensor) and weight.dim() == 2 and weight.is_floating_point()


def _candidates(path: str, model: str, matrices: dict[str, torch.Tensor], parameter: str | None) -> dict[str, torch.Tensor]:
    """The matrices that may be the item embedding, by their names; at least one."""
    if not matrices:
        raise _unusable(path, f"{model} has no embeddings (no parameter is a matrix)")
    if parameter is not None:
        if parameter not in matrices:
            raise SettingError("cf_parameter", parameter, f"must be one of {_names(matrices)}, of [{path}]")
        return {parameter: matrices[parameter]}
    if _USUAL_NAME in matrices:
        return {_USUAL_NAME: matrices[_USUAL_NAME]}
    named = {name: matrix for name, matrix in matrices.items() if "item" in name.lower() and "emb" in name.lower()}
    if not named:
        hint = f"cf_parameter could name one of {_names(matrices)}"
        raise _unusable(path, f"no parameter of {model} is named like an item embedding; {hint}")
    return named


def _item_ids(path: str, settings: dict[str, Any], data_path: str) -> dict[str, int]:
    """By item token, the item id in the dataset that a checkpoint was trained on; padding is one of them."""
    # Never initialised: what reads the command line and evaluates strings stays out.
    config = Config.__new__(Config)
    config.final_config_dict = {**settings, "data_path": data_path}
    try:
        # Not by create_dataset, which reads and writes pickles, nor by the model's own class, which may do long work.
        dataset = _dataset_class(settings)(config)
    except Exception as error:  # settings from a file, or files that have changed, meet nearly any exception
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise _unusable(path, f"its dataset cannot be loaded again from [{data_path}] ({reason})") from error
    return dataset.field2token_id[dataset.iid_field]


def _dataset_class(settings: dict[str, Any]) -> type[Dataset]:
    """Of RecBole's datasets, those with a knowledge graph leave out the items that it does not know."""
    own_class = getattr(recbole.data.dataset, f"{settings['model']}Dataset", Dataset)
    arguments = getattr(settings.get("MODEL_TYPE"), "arguments", ())
    of_graphs = arguments[-1:] in ((ModelType.KNOWLEDGE.value,), (ModelType.KNOWLEDGE.name,))
    return KnowledgeBasedDataset if of_graphs or issubclass(own_class, KnowledgeBasedDataset) else Dataset


def _choose(path: str, model: str, candidates: dict[str, torch.Tensor], items: int, *, parameter: str | None) -> str:
    """The name of the one candidate with a row for each item; a mask token may have one more row, at the end."""
    fitting = {name: matrix for name, matrix in candidates.items() if len(matrix) in (items, items + 1)}
    if len(fitting) == 1:
        return next(iter(fitting))
    if fitting:
        raise _unusable(path, f"{model} has several item embeddings, cf_parameter chooses: {_names(fitting)}")
    reason = f"no row for each of the {items} items of the checkpoint's dataset (padding is one): {_names(candidates)}"
    if parameter is not None:
        raise SettingError("cf_parameter", parameter, f"has {reason}")
    raise _unusable(path, f"{model} has {reason}; cf_parameter chooses another, or the data have changed since")


def _names(matrices: dict[str, torch.Tensor]) -> str:
    names = [f"{name} {list(matrix.shape)}" for name, matrix in matrices.items()]
    return ", ".join(names[:_MAX_NAMES] + ["..."] * (len(names) > _MAX_NAMES))


def _unusable(path: str, reason: str) -> SettingError:
    return SettingError("cf_checkpoint", path, reason)
