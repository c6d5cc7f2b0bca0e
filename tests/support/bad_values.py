"""Bad values of settings, made from the table of settings: wrong types, out of bounds, no numbers, words for switches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from recbole_gr.data.settings import SemanticIDSettings
from recbole_gr.models.registry import find_spec, model_names, model_settings
from recbole_gr.settings.field import _without_none, fits
from recbole_gr.settings.protocol import ProtocolSettings
from recbole_gr.settings.recbole_keys import RecBoleSettings, recbole_model_names
from recbole_gr.settings.recbole_models import model_faults, model_fields
from recbole_gr.settings.recbole_values import VALUES
from recbole_gr.settings.values import parse_text
from recbole_gr.tokenizers.registry import find_tokenizer, setting_fields, tokenizer_names

#: Settings that are no values of a run's user: chosen by RecBole, options of a command, or folders that may have any name.
OTHERWISE = {
    *("model", "dataset", "config_files", "data_path", "device", "local_rank", "single_spec", "offset"),
    *("nproc", "world_size", "group_offset", "ip", "port"),  # checked by the command, see tests/cli
}

#: By kind of setting; each is tried where the setting does not allow it.
JUNK: dict[Any, tuple[Any, ...]] = {
    bool: ("perhaps", 2, None),
    int: ("many", 1.5, float("nan"), [1], True),
    float: ("much", float("nan"), float("inf"), [0.1], "0,1"),
    str: (3, ["a"], {"a": 1}),
    list: ("a", 3, [None], {"a": 1}),
    Any: ("\0", float("nan"), -1, "[5,3]", {"no such part": "\0"}, [[]]),
}


def own_models() -> list[str]:
    """The models of this package."""
    return [name for name in model_names() if str(find_spec(name).model).startswith("recbole_gr.")]


def table() -> Iterator[tuple[list[str], str, FieldInfo]]:
    """Every setting once: what a run needs to have it (``--model=...``), its key, what it may be."""
    seen = set(OTHERWISE)
    general = [(["--model=BPR"], one) for one in (RecBoleSettings, ProtocolSettings, *VALUES)]
    own = [([f"--model={name}"], model_settings(name)) for name in own_models()]
    for run, settings in (*general, (["--model=TIGER"], SemanticIDSettings), *own):
        for key, info in settings.model_fields.items():
            if key not in seen:
                seen.add(key)
                yield run, key, info
    for name in tokenizer_names():
        for key, info in setting_fields(find_tokenizer(name)).items():
            if key not in seen:
                seen.add(key)
                yield ["--model=TIGER", f"--tokenizer={name}"], key, info
    for name in recbole_model_names():
        for key, info in model_fields(name).items():
            if key not in seen:
                seen.add(key)
                yield [f"--model={name}"], key, info


def bad_values(key: str, info: FieldInfo) -> list[str]:
    """Values that a setting must refuse, as they are written on the command line."""
    kinds, optional = _without_none(info.annotation)
    kind = kinds[0]
    if get_origin(kind) is Literal:
        tried: tuple[Any, ...] = ("nonsense", 17, float("nan"), [get_args(kind)[0]])
    else:
        tried = tuple(value for one in kinds for value in JUNK.get(get_origin(one) or one, JUNK[Any]))
        tried += tuple(_beyond(info))
    texts = dict.fromkeys(map(str, tried))
    return [text for text in texts if not _allowed(key, info, parse_text(text))]


def _allowed(key: str, info: FieldInfo, value: Any) -> bool:
    if isinstance(info.get_default(call_default_factory=True), list) and info.annotation is list:
        for model in recbole_model_names():  # the elements of lists of RecBole's models are checked apart
            if model_fields(model).get(key) is info:
                return not list(model_faults(model, {key: value}))
    return fits(info, value)


def _beyond(info: FieldInfo) -> Iterator[Any]:
    """Numbers just outside of the bounds."""
    for bound in info.metadata:
        for name, sign in (("ge", -1), ("gt", 0), ("le", 1), ("lt", 0)):
            if hasattr(bound, name):
                yield getattr(bound, name) + sign
