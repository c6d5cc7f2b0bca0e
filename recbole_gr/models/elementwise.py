"""What lies between the matrix products of a T5: norms, dropout, ReLU.

On a CPU these cost as many passes over memory as they are written in, so here they are written in few, with a gradient of
their own. On other devices, and when compiled, they are torch's.
"""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

#: One random number of 64 bits decides over so many elements, with 16 bits each.
PER_NUMBER = 4


class RMSNorm(nn.RMSNorm):
    """Divides by the root mean square. Under autocast on a CPU it gives the precision that its readers need."""

    def __init__(self, d_model: int) -> None:
        super().__init__(d_model, eps=1e-6)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if _torch_does_it(hidden):
            return super().forward(hidden)
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else hidden.dtype
        return _RMSNorm.apply(hidden, self.weight, self.eps, dtype)


class Dropout(nn.Dropout):
    """Dropout; on a CPU the rate is rounded to 1/65536."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0 or _torch_does_it(hidden):
            return super().forward(hidden)
        return _Dropout.apply(hidden, self.p)


class DropoutOfReLU(Dropout):
    """ReLU, then dropout: an element of the result above 0 is one that both let through, so no mask is kept."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if not self.training or _torch_does_it(hidden):
            return super().forward(F.relu(hidden))
        return _DropoutOfReLU.apply(hidden, self.p)


def _torch_does_it(hidden: torch.Tensor) -> bool:
    return hidden.device.type != "cpu" or torch.compiler.is_compiling()


def _kept(like: torch.Tensor, rate: float) -> torch.Tensor:
    """What dropout keeps: 1, else 0, shaped as ``like`` and of its type.

    NumPy's SFC64, seeded by torch's generator, is twice as quick as that generator; and comparisons, whose result is a
    mask of bytes, are several times as slow as arithmetic of 16 bits.
    """
    seed = int(torch.randint(2**63 - 1, ()))
    numbers = np.random.SFC64(seed).random_raw(-(-like.numel() // PER_NUMBER))
    first_kept = min(max(round(rate * 2**16), 1), 2**16 - 1) - 2**15
    kept = torch.from_numpy(numbers.view(np.int16))[: like.numel()]
    return kept.clamp_(first_kept - 1, first_kept).sub_(first_kept - 1).to(like.dtype).view(like.shape)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, eps: float, dtype: torch.dtype) -> torch.Tensor:
        mean_square = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True, dtype=weight.dtype).square_()
        scale = mean_square.div_(hidden.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(hidden, weight, scale)
        return (hidden * scale).mul_(weight).to(dtype)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden, weight, scale = ctx.saved_tensors
        grad = grads[0].to(weight.dtype)
        along = grad * hidden
        of_weight = (scale.view(1, -1) @ along.view(-1, len(weight))).view(-1)
        back = (along @ weight).unsqueeze(-1) * scale.pow(3).div_(-len(weight))
        of_hidden = (grad * weight).mul_(scale).addcmul_(hidden.to(weight.dtype), back)
        return of_hidden.to(hidden.dtype), of_weight, None, None


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, rate: float) -> torch.Tensor:
        kept, ctx.scale = _kept(hidden, rate), 1 / (1 - rate)
        ctx.save_for_backward(kept)
        return (hidden * kept).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return (grads[0] * ctx.saved_tensors[0]).mul_(ctx.scale), None


class _DropoutOfReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, rate: float) -> torch.Tensor:
        ctx.scale = 1 / (1 - rate)
        out = F.relu(hidden)
        if rate:
            out.mul_(_kept(hidden, rate)).mul_(ctx.scale)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return torch.ops.aten.threshold_backward(grads[0], ctx.saved_tensors[0], 0).mul_(ctx.scale), None
