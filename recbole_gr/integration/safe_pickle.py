"""Reading checkpoints and saved datasets, which are pickles, without running what they hold.

A pickle is a program: it may name any function of any module and call it. RecBole keeps its Config in every checkpoint, and whole
datasets and loaders with ``save_dataset`` and ``save_dataloaders``, so nothing but a pickle will do. This reader makes the objects
that RecBole's files are made of, and nothing else: what may be named, what may be called, and what may be given a state are
three lists below, and a file that asks for more is refused in one line before it did anything.

The reader is the one of Python's library that is written in Python, for only there every call can be looked at first.
"""

from __future__ import annotations

import enum
import importlib
import io
import pickle
import sys
import types
from typing import IO, Any, ClassVar

import torch

from recbole_gr.utils.errors import DataError

#: Packages whose classes may be named and made empty, to be given their attributes; their functions may not be called.
_OUR_PACKAGES = ("recbole", "recbole_gr")

#: Classes of others that are made empty and given their attributes.
_EMPTY = {
    "pandas.core.frame.DataFrame",
    "pandas.core.series.Series",
    "torch.utils.data.sampler.BatchSampler",
    "torch.utils.data.sampler.RandomSampler",
    "torch.utils.data.sampler.SequentialSampler",
    "torch.nn.parameter.Parameter",
    "transformers.tokenization_utils_tokenizers.TokenizersBackend",
    "transformers.tokenization_utils_fast.PreTrainedTokenizerFast",
    "tokenizers.models.Model",
    "tokenizers.AddedToken",
    "scipy.sparse._coo.coo_matrix",
    "scipy.sparse._csr.csr_matrix",
    "scipy.sparse._csc.csc_matrix",
    "scipy.sparse._dok.dok_matrix",
    "scipy.sparse._lil.lil_matrix",
    "numpy.matrix",
}

#: What may be called, with what it is given: all of these make a value and do nothing else.
_CALLED = {
    "collections.OrderedDict",
    "collections.Counter",
    "collections.defaultdict",
    "builtins.bytearray",
    "builtins.complex",
    "builtins.dict",
    "builtins.frozenset",
    "builtins.int",
    "builtins.list",
    "builtins.range",
    "builtins.set",
    "builtins.slice",
    "builtins.tuple",
    "_codecs.encode",
    "logging.getLogger",
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "pandas._libs.internals._unpickle_block",
    "pandas.core.indexes.base.Index",
    "pandas.core.indexes.base._new_Index",
    "pandas.core.indexes.range.RangeIndex",
    "pandas.core.internals.managers.BlockManager",
    "pandas.core.internals.managers.SingleBlockManager",
    "tokenizers.Tokenizer",
    "torch.Size",
    "torch.device",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_device_tensor_from_numpy",
}

#: What is only named, as the value of an attribute.
_NAMED = {"yaml.loader.FullLoader", "yaml.loader.SafeLoader", "recbole_gr.settings.values.SettingsLoader"}


class UnsafeFileError(DataError):
    """A checkpoint or saved dataset would name or call what files of RecBole do not."""


def load(file: IO[bytes], **_: Any) -> Any:
    """``pickle.load`` for what RecBole writes: datasets and loaders.

    Raises:
        UnsafeFileError: the file would name or call what files of RecBole do not.
    """
    try:
        return SafeUnpickler(file).load()
    except UnsafeFileError as error:
        name = getattr(file, "name", None)
        raise UnsafeFileError(f"[{name}] {error}" if name else str(error)) from None


def load_torch(file: Any, map_location: Any = None, **_: Any) -> Any:
    """``torch.load`` for the checkpoints that RecBole's Trainer writes.

    Raises:
        UnsafeFileError: the file would name or call what files of RecBole do not.
    """
    try:
        return torch.load(file, map_location=map_location, weights_only=False, pickle_module=_AS_MODULE)
    except UnsafeFileError as error:
        named = isinstance(file, str) and not str(error).startswith(f"[{file}]")  # in torch's old format it is by now
        raise UnsafeFileError(f"[{file}] {error}" if named else str(error)) from None


_PythonUnpickler: Any = vars(pickle)["_Unpickler"]  # it has no public name


class SafeUnpickler(_PythonUnpickler):
    """Makes values, tensors, arrays, tables and RecBole's objects; refuses everything else."""

    dispatch: ClassVar[dict[int, Any]] = dict(_PythonUnpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        full_name = f"{module}.{name}"
        if full_name == "builtins.getattr":
            return _attribute
        if full_name == "torch.storage._load_from_bytes":
            return _load_from_bytes
        if full_name in _CALLED | _EMPTY | _NAMED:
            return super().find_class(module, name)
        if module == "torch" and isinstance(
            found := getattr(torch, name, None), (torch.dtype, torch.memory_format, torch.layout)
        ):
            return found
        if module.startswith("torch.nn.modules.") and "." not in name and _is_torch_module(module, name):
            return super().find_class(module, name)
        if module == "torch" and name.endswith("Storage") and isinstance(found := getattr(torch, name, None), type):
            return found
        if "." not in name and isinstance(found := _class_named(module, name), type):
            return found
        raise UnsafeFileError(
            f"names {full_name}, which files of RecBole do not; nothing of it was run{_hint(module, name)}"
        )

    def load_reduce(self) -> None:
        called = self.stack[-2]
        if not _may_be_called(called):
            raise _refused(called)
        super().load_reduce()

    def load_newobj(self) -> None:
        arguments, made = self.stack[-1], self.stack[-2]
        if arguments and _full_name(made) not in _CALLED:
            raise _refused(made)
        super().load_newobj()

    def load_build(self) -> None:
        target = self.stack[-2]
        if isinstance(target, (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType)):
            raise UnsafeFileError(f"would change {_full_name(target)}; nothing of it was run")
        super().load_build()

    def refuse(self) -> None:
        raise UnsafeFileError("is written in a way in which RecBole writes none; nothing of it was run")

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.BUILD[0]] = load_build
    for _opcode in (pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4):
        dispatch[_opcode[0]] = refuse


_AS_MODULE: Any = types.ModuleType("safe_pickle")
_AS_MODULE.Unpickler, _AS_MODULE.load = SafeUnpickler, load


def _class_named(module: str, name: str) -> Any:
    """A class of RecBole or ours, or of the user's own code where that is imported already; else None."""
    if module.split(".")[0] in _OUR_PACKAGES:
        try:
            found = getattr(importlib.import_module(module), name, None)
        except ImportError:
            return None
        return found if getattr(found, "__module__", "").split(".")[0] in _OUR_PACKAGES else None
    from recbole.data.dataset import Dataset
    from recbole.model.abstract_recommender import AbstractRecommender

    found = getattr(sys.modules.get(module), name, None)  # never imported for the file
    return found if isinstance(found, type) and issubclass(found, (AbstractRecommender, Dataset)) else None


def _is_torch_module(module: str, name: str) -> bool:
    """A layer of torch, which some checkpoints keep whole among their other parameters."""
    found = getattr(sys.modules.get(module), name, None)
    return isinstance(found, type) and issubclass(found, torch.nn.Module)


def _hint(module: str, name: str) -> str:
    known = module in sys.modules or module.split(".")[0] in sys.stdlib_module_names
    return "" if known else f"; if {name} is a model of yours, import {module} before"


def _may_be_called(called: Any) -> bool:
    if called in (_attribute, _load_from_bytes):
        return True
    if isinstance(called, type) and issubclass(called, enum.Enum):
        return called.__module__.split(".")[0] in _OUR_PACKAGES
    return _full_name(called) in _CALLED or called in _called_objects()


def _called_objects() -> set[Any]:
    """What :data:`_CALLED` means, for what has another name inside: ``numpy.dtype`` and the like."""
    found = set()
    for full_name in _CALLED:
        module, _, name = full_name.rpartition(".")
        if module in sys.modules and hasattr(sys.modules[module], name):
            found.add(getattr(sys.modules[module], name))
    return found


def _attribute(owner: Any, name: str) -> Any:
    """``getattr`` for methods that loaders keep: of RecBole's objects, and none that Python reserves."""
    if type(owner).__module__.split(".")[0] not in _OUR_PACKAGES or name.startswith("__"):
        raise UnsafeFileError(f"would read {name} of {_full_name(type(owner))}; nothing of it was run")
    return getattr(owner, name)


def _load_from_bytes(data: bytes) -> Any:
    """A tensor's storage inside a pickle, which torch itself would read as a pickle of anything."""
    try:
        return torch.load(io.BytesIO(data), weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnsafeFileError("holds a storage that is not only numbers; nothing of it was run") from error


def _full_name(named: Any) -> str:
    return (
        f"{getattr(named, '__module__', type(named).__module__)}.{getattr(named, '__qualname__', type(named).__qualname__)}"
    )


def _refused(called: Any) -> UnsafeFileError:
    return UnsafeFileError(f"would call {_full_name(called)}, which files of RecBole do not; nothing of it was run")
