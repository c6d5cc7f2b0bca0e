"""What depends on the kind of device a model lies on."""

from typing import Any

import torch


class PerDevice(dict[str, int]):
    """Numbers by device type, ``cpu`` and ``cuda``; every other accelerator (``xpu``, ``mps``, ...) has that of ``cuda``."""

    def __missing__(self, kind: str) -> int:
        return self["cuda"]


def device_name(device: torch.device) -> str:
    """What a run record calls a device: the name of a GPU's model, else its type.

    Args:
        device: where a model lies.
    """
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def computes_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies matrices of bfloat16 in hardware, several times faster than those of float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and bool(
        torch.cpu.get_capabilities().get("avx512_bf16") or torch.cpu.get_capabilities().get("amx_bf16")
    )


class LossOnDevice:
    """A training loss that stays on its device, in the places where RecBole's training loop looks at it.

    That loop asks every loss for ``item()``, to add it up, and adds what processes must synchronise before it calls
    ``backward()``. On a GPU each number that is asked for makes the CPU wait until all kernels have run, and small models
    are done before the next ones are launched. So the sum is kept on the device, in float64 as python's would be.

    Args:
        loss: a scalar.
    """

    def __init__(self, loss: torch.Tensor) -> None:
        self.loss = loss

    def item(self) -> torch.Tensor:
        """The loss, without its gradient, as a scalar on the device."""
        detached = self.loss.detach()
        return detached if detached.device.type == "mps" else detached.double()  # which has no float64

    def __mul__(self, factor: Any) -> "LossOnDevice":
        return LossOnDevice(self.loss * factor)

    def __add__(self, other: Any) -> torch.Tensor:
        return self.loss + other
