"""The model of a run is made: where it cannot be, for its settings or for its size, one line says so."""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.nn.modules.module import register_module_parameter_registration_hook

from recbole_gr.integration.config import places_of
from recbole_gr.integration.config_checks import check_optimizer
from recbole_gr.integration.refusals import model_refused
from recbole_gr.models.registry import find_spec, keys_of_model
from recbole_gr.settings.recbole_keys import keys_of_recbole_model
from recbole_gr.utils.errors import DataError, RecBoleGRError, SettingError

#: How often an optimizer keeps a parameter beside its gradient.
STATES = {"sgd": 0, "adagrad": 1, "rmsprop": 1}

#: A limit of a container, which the system's own numbers do not show.
_LIMIT, _USED = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))


def make_model(config: Any, dataset: Any) -> Any:
    """The model of a run, where its settings say.

    Args:
        config: RecBole's Config.
        dataset: that of the training part.

    Raises:
        SettingError, DataError: its parameters, with gradients and what the optimizer keeps, do not fit into the memory that is
            free, which is told before they are filled; or a model of RecBole refuses what the user set for it.
    """
    settings = _settings_of(config)
    try:
        with _bounded_parameters(config, settings):
            model = config.model_class(config, dataset)
            check_optimizer(config, model)
            check_training_fits(config, model, settings)
            return model.to(config["device"])
    except RecBoleGRError:
        raise
    except Exception as error:
        own = find_spec(config.model_class) if find_spec(config["model"]) is None else find_spec(config["model"])
        if own is not None and own.settings is not None:
            raise
        lacking = _column_lacking(config, dataset, error)
        if lacking is None and not settings:
            raise
        raise lacking or model_refused(config["model"], settings, error) from error


def _column_lacking(config: Any, dataset: Any, error: Exception) -> DataError | None:
    """The error of a column that a setting of the model names, by default perhaps, and the data lack."""
    column = error.args[0] if isinstance(error, KeyError) and error.args else None
    if not isinstance(column, str) or column in dataset.field2type:
        return None
    for key in sorted(keys_of_recbole_model(config["model"])):
        named = config[key]
        if named == column or (isinstance(named, list) and column in named):
            return DataError(
                f"{config['model']} needs the column {column!r} ({key}={named!r}); of {config['dataset']} are read "
                f"{', '.join(dataset.field2type)} (load_col)"
            )
    return None


def _settings_of(config: Any) -> list[tuple[str, Any, str]]:
    """What the user set for the model: keys, values and places."""
    keys = keys_of_model(config["model"]) if find_spec(config["model"]) else keys_of_recbole_model(config["model"])
    return [(key, config[key], place) for key, place in places_of(config).items() if key in keys]


@contextmanager
def _bounded_parameters(config: Any, settings: list[tuple[str, Any, str]]) -> Iterator[None]:
    """Within, parameters that do not fit into memory are an error; they are counted before they are filled with numbers."""
    free = free_memory()
    # a language model may be frozen after it is read, and then needs no gradients; nor does what is not trained
    copies = 1 if config["tuning"] or not config["epochs"] else 2 + STATES.get(str(config["learner"]).lower(), 2)
    sizes: weakref.WeakKeyDictionary[Any, dict[str, int]] = weakref.WeakKeyDictionary()

    def count(module: Any, name: str, parameter: Any) -> None:
        if parameter is None or parameter.device.type == "meta":
            return
        sizes.setdefault(module, {})[name] = parameter.numel() * parameter.element_size()
        needed = copies * sum(size for of_module in list(sizes.values()) for size in of_module.values())
        if needed > free:
            raise _too_large(config, settings, needed, free, _what(config, copies - 2), list(parameter.shape))

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    except RuntimeError as error:
        asked = re.search("tried to allocate ([0-9]+) bytes", str(error))
        if asked is None and "overflow" not in str(error):
            raise
        raise _too_large(config, settings, int(asked[1]) if asked else None, free, "one tensor alone", []) from error
    finally:
        hook.remove()


def check_training_fits(config: Any, model: Any, settings: list[tuple[str, Any, str]]) -> None:
    """What training keeps of the parameters that it changes must fit: gradients and the optimizer's states.

    Args:
        config: RecBole's Config.
        model: a model; one without parameters needs nothing.
        settings: what the user set for it.

    Raises:
        SettingError, DataError: it does not.
    """
    if not hasattr(model, "parameters") or not config["epochs"]:
        return
    copies = 1 + STATES.get(str(config["learner"]).lower(), 2)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    needed = copies * sum(parameter.numel() * parameter.element_size() for parameter in trained)
    on_gpu = config["device"].type == "cuda"
    if on_gpu:
        needed += sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    free = torch.cuda.mem_get_info(config["device"])[0] if on_gpu else free_memory()
    if needed > free:
        largest = max(trained, key=lambda parameter: parameter.numel())
        raise _too_large(config, settings, needed, free, _what(config, copies - 1), list(largest.shape))


def free_memory() -> int:
    """Bytes that this process may still use."""
    free = psutil.virtual_memory().available
    try:
        limit, used = (path.read_text(encoding="ascii").strip() for path in (_LIMIT, _USED))
        return free if limit == "max" else min(free, int(limit) - int(used))
    except (OSError, ValueError):
        return free


def _what(config: Any, states: int) -> str:
    return f"parameters, gradients and {states} states of {config['learner']} for each" if states >= 0 else "parameters"


def _too_large(
    config: Any, settings: list[tuple[str, Any, str]], needed: int | None, free: int, what: str, shape: list[int]
) -> RecBoleGRError:
    size = f"{needed / 1e9:,.1f} GB" if needed else "more memory than there can be"
    line = f"{config['model']} needs {size} of memory ({what}), {free / 1e9:,.1f} GB are free"
    for key, value, _ in settings:  # the setting that made it so large, where one did
        if type(value) is int and value > 1 and value in shape:
            return SettingError(key, value, line)
    largest = max((given for given in settings if type(given[1]) is int), key=lambda given: given[1], default=None)
    if largest is not None:
        return SettingError(largest[0], largest[1], line)
    return DataError(f"{line}; the largest parameter has the shape {shape}, {config['dataset']} is too large for it")
