"""A GPU that is not there: tensors that lie on the CPU, say that they lie on ``cuda:0``, and keep torch's rules about it.

No test machine of ours has a GPU, and a tensor left on the CPU is an error on a GPU only. Within :func:`pretend_device`
``.to("cuda")``, ``device="cuda"`` and the like give a :class:`Pretended` tensor; each operation runs on the CPU, and one
in which tensors of both kinds meet raises what torch raises. The rules, as torch has them on a real GPU:

- a tensor of no dimension may come from the CPU in operations that go element by element, but not be written to;
- indices on the CPU may index a tensor on the device, indices on the device none on the CPU;
- ``copy_`` and ``to`` go across; everything else needs all its tensors in one place;
- a tensor on the device has no ``numpy()``.

What makes a GPU wait for the CPU, or the CPU for the GPU, is counted in :class:`Traffic`.

How: to C++ the tensors are on ``lazy:0``, a device that every build of torch knows by name, whose backward pass runs in the
calling thread, and that nothing else uses; python code, which could ask for ``device.type == "cuda"``, is told ``cuda:0``.
"""

import contextlib
import copy
from dataclasses import dataclass, field
from types import SimpleNamespace
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_map

from recbole_gr.integration import safe_pickle

DEVICE = torch.device("cuda", 0)
_BENEATH = torch.device("lazy", 0)
aten = torch.ops.aten

MIXED = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
DEVICE_INDEX = "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
NO_NUMPY = "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."

_INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
_COPYING = {aten.copy_.default, aten._to_copy.default}
#: Besides the operations tagged as pointwise, those that take a number which may be a tensor of no dimension.
_TAKES_NUMBERS = {aten.masked_fill.Tensor, aten.masked_fill_.Tensor, aten.fill.Tensor, aten.fill_.Tensor}
#: Their result, or its size, is known on the device only, and the CPU waits for it.
_WAITING = {
    *(aten._local_scalar_dense.default, aten.equal.default, aten.is_nonzero.default, aten.bincount.default),
    *(aten.nonzero.default, aten.masked_select.default, aten._unique2.default, aten.unique_dim.default),
    *(aten.unique_consecutive.default, aten.unique_dim_consecutive.default),
}


@dataclass
class Traffic:
    """What happened on the device: names of operations in their order.

    Args:
        waits: after which the CPU has to wait for the device: numbers and copies taken to the CPU, results whose size
            the values decide (``nonzero``, boolean indices, ...), uploads that are not ``non_blocking``.
        uploads: copies from the CPU to the device.
        operations: all that ran on the device, about as many kernels as a GPU would have to launch.
    """

    waits: list = field(default_factory=list)
    uploads: list = field(default_factory=list)
    operations: list = field(default_factory=list)

    def clear(self):
        for names in vars(self).values():
            names.clear()


class Pretended(torch.Tensor):
    """A tensor on the pretended device; ``inner`` holds its values."""

    # not Tensor's own, which would make every result one of this class, those of .cpu() too
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner, requires_grad=False):
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, device=_BENEATH, requires_grad=requires_grad, **layout)

    def __init__(self, inner, requires_grad=False):
        self.inner = inner

    #: What python is told.
    device, is_cuda = property(lambda self: DEVICE), property(lambda self: True)

    def get_device(self):
        return DEVICE.index

    def numpy(self, *args, **kwargs):
        raise TypeError(NO_NUMPY)

    def __array__(self, *args, **kwargs):
        raise TypeError(NO_NUMPY)

    def tolist(self):
        return self.cpu().tolist()

    def __repr__(self):
        return f"Pretended({self.inner!r})"

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            made = Pretended(self.inner.clone(), self.requires_grad)
            made.__dict__.update((name, copy.deepcopy(value, memo)) for name, value in vars(self).items() if name != "inner")
            memo[id(self)] = made
        return memo[id(self)]

    def __reduce_ex__(self, protocol):
        return _on_device, (self.inner.detach(), self.requires_grad)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _carried_out(func, args, kwargs or {}, Traffic())


#: How many of the context managers below are open.
_open = []


# checkpoints hold such tensors, and are read by what names all that it may call
safe_pickle._CALLED.add(f"{__name__}._on_device")


def _on_device(inner, requires_grad=False):
    """A tensor that was saved there; where there is no such device it is read with ``map_location="cpu"``."""
    return Pretended(inner, requires_grad) if _open else inner.requires_grad_(requires_grad)


def _carried_out(func, args, kwargs, traffic):
    """One operation by torch's rules."""
    tensors = list(_tensors_in((args, kwargs)))
    ours = [tensor for tensor in tensors if isinstance(tensor, Pretended)]
    asked = kwargs.get("device")
    here = asked.type in ("cuda", _BENEATH.type) if asked is not None else bool(ours)
    if not ours and not here:
        return func(*args, **kwargs)
    if func not in _COPYING and 0 < len(ours) < len(tensors):
        _check_devices(func, args, tensors)
    _note(func, args, kwargs, ours, here, traffic)
    beneath = _mapped(_inner, args), _mapped(_inner, kwargs)
    result = func(*beneath[0], **beneath[1])
    if func is aten.copy_.default:
        return args[0]
    if not here:
        # a copy that the CPU's kernel did not make, for there nothing was to be copied, would be one tensor in two places
        return result.clone() if result is beneath[0][0] else result
    result = _mapped(lambda value: Pretended(value) if isinstance(value, torch.Tensor) else value, result)
    if not ours or func is aten._to_copy.default:
        return result
    return return_and_correct_aliasing(func, args, kwargs, result)


def _tensors_in(value):
    """What torch's ``tree_leaves`` would find; arguments of operations are plain lists, tuples and dicts, and there are many."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors_in(part)


def _mapped(change, value):
    """As torch's ``tree_map``."""
    if type(value) in (tuple, list):
        return type(value)([_mapped(change, part) for part in value])
    if isinstance(value, tuple) and not isinstance(value, torch.Size):  # what names its parts
        return tree_map(change, value)
    if isinstance(value, dict):
        return {name: _mapped(change, part) for name, part in value.items()}
    return change(value)


def _inner(value):
    if isinstance(value, Pretended):
        return value.inner
    return torch.device("cpu") if isinstance(value, torch.device) and value.type in ("cuda", _BENEATH.type) else value


def _check_devices(func, args, tensors):
    """Raises what torch raises where tensors of both kinds may not meet; there are some of each."""
    if func in _INDEXING:
        self, indices, *values = args
        others = [self, *(value for value in values if isinstance(value, torch.Tensor) and value.dim() > 0)]
        if not isinstance(self, Pretended) and any(isinstance(index, Pretended) for index in indices):
            raise RuntimeError(DEVICE_INDEX)
        if len({isinstance(other, Pretended) for other in others}) > 1:
            raise RuntimeError(MIXED)
        return
    takes_numbers = torch.Tag.pointwise in func.tags or func in _TAKES_NUMBERS or func.namespace == "prims"
    strangers = [tensor for tensor in tensors if not isinstance(tensor, Pretended)]
    written = [
        value
        for value, argument in zip(args, func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    if not takes_numbers and "foreach" not in func.__name__ and "_fused_" not in func.__name__:
        raise RuntimeError(MIXED)
    if any(tensor.dim() > 0 for tensor in strangers):
        raise RuntimeError(MIXED)
    if any(isinstance(value, torch.Tensor) and not isinstance(value, Pretended) for value in written):
        raise RuntimeError(MIXED)


def _note(func, args, kwargs, ours, here, traffic):
    name = str(func)
    if func in _COPYING:
        source = args[1] if func is aten.copy_.default else args[0]
        target_here = isinstance(args[0], Pretended) if func is aten.copy_.default else here
        if isinstance(source, Pretended) and not target_here:
            traffic.waits.append(name)
        elif target_here and not isinstance(source, Pretended):
            traffic.uploads.append(name)
            if not (kwargs.get("non_blocking") or func is aten.copy_.default and len(args) > 2 and args[2]):
                traffic.waits.append(name + " of an upload")
        else:
            traffic.operations.append(name)
        return
    traffic.operations.append(name)
    if func in _WAITING or func is aten.repeat_interleave.Tensor and kwargs.get("output_size") is None:
        traffic.waits.append(name)
    if func in _INDEXING:
        chosen = [index for index in args[1] if index is not None]
        # one mask and one number: torch fills by the mask
        fills = len(args) > 2 and len(chosen) == 1 and args[2].numel() == 1
        if not fills and any(index.dtype in (torch.bool, torch.uint8) for index in chosen):
            traffic.waits.append(name + " by a mask")
        uploaded = [f"{name}, its index" for index in chosen if not isinstance(index, Pretended)]
        traffic.uploads.extend(uploaded)
        traffic.waits.extend(uploaded)


class _Operations(TorchDispatchMode):
    """Sees every operation, those that make a tensor from nothing too."""

    def __init__(self, traffic):
        super().__init__()
        self.traffic = traffic

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _carried_out(func, args, kwargs or {}, self.traffic)


class _Calls(TorchFunctionMode):
    """Sees what python asks of torch: ``cuda`` is the device beneath."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.device:
            return func(*args, **(kwargs or {}))
        args, kwargs = _mapped(_beneath, tuple(args)), {name: _beneath(value) for name, value in (kwargs or {}).items()}
        if func is torch.Tensor.cuda:
            return args[0].to(_BENEATH)
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") == _BENEATH:
            kwargs.pop("device")
            made = args[0] if isinstance(args[0], Pretended) and not kwargs else func(*args, **kwargs)
            return made.to(_BENEATH)
        return func(*args, **kwargs)


def _beneath(value):
    if isinstance(value, torch.device):
        return _BENEATH if value.type == "cuda" else value
    return _BENEATH if isinstance(value, str) and value in ("cuda", "cuda:0") else value


@contextlib.contextmanager
def pretend_device(count=1):
    """Within, there are so many GPUs, of which the first one is used.

    Yields:
        Traffic: what has happened on it.
    """
    traffic = Traffic()
    states = [torch.full((16,), index, dtype=torch.uint8) for index in range(count)]  # of random numbers, one per GPU

    def set_state(state, device=DEVICE):
        states[_number(device)] = state.clone()

    def set_states(new):
        for index, state in enumerate(new):
            set_state(state, index)

    def load(file, map_location=None, **options):
        where = torch.device(map_location) if map_location is not None else None
        loaded = real_load(file, map_location="cpu", **options)
        if where is None:
            return loaded
        return tree_map(lambda value: value.to(where) if isinstance(value, torch.Tensor) else value, loaded)

    real_load = torch.load
    facade = {
        "_lazy_init": lambda: None,  # what C++ calls before it makes a tensor there; the tensor is made by _Operations
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "mem_get_info": lambda device=None: (1 << 34, 1 << 34),
        "is_bf16_supported": lambda including_emulation=True: False,
        "device_count": lambda: count,
        "current_device": lambda: 0,
        "get_device_name": lambda device=None: "Pretended GPU",
        "get_device_properties": lambda device=None: SimpleNamespace(name="Pretended GPU", total_memory=1 << 34),
        "get_device_capability": lambda device=None: (8, 0),
        "max_memory_allocated": lambda device=None: 12_300_000,
        "max_memory_reserved": lambda device=None: 20_000_000,
        "memory_allocated": lambda device=None: 0,
        "reset_peak_memory_stats": lambda device=None: None,
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "manual_seed": lambda seed: None,
        "manual_seed_all": lambda seed: None,
        "get_rng_state": lambda device=DEVICE: states[_number(device)].clone(),
        "get_rng_state_all": lambda: [state.clone() for state in states],
        "set_rng_state": set_state,
        "set_rng_state_all": set_states,
    }
    # as on a real GPU a parameter that is moved stays the same object, which two modules may share
    swapped = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    _open.append(traffic)
    try:
        with (
            mock.patch.multiple(torch.cuda, **facade),
            mock.patch.object(torch, "load", load),
            # in which tensors of a class of ours have no views; what is computed in it is computed without gradients
            mock.patch.object(torch._C, "_InferenceMode", _without_gradients),
            torch.serialization.safe_globals([_on_device]),
            _Operations(traffic),
            _Calls(),
        ):
            yield traffic
    finally:
        _open.pop()
        torch.__future__.set_swap_module_params_on_conversion(swapped)


def _without_gradients(mode):
    return torch.no_grad() if mode else contextlib.nullcontext()


def _number(device):
    return device if isinstance(device, int) else torch.device(device).index or 0
