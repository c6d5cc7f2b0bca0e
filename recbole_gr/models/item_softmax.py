"""Cross-entropy over the items of a catalogue: all of them, or the target and a sample."""

from typing import Any

import torch
from torch.nn import functional as F

from recbole_gr.utils.devices import PerDevice

#: Logits alive at a time; on a CPU about what its caches hold.
LOGITS_AT_ONCE = PerDevice(cpu=1 << 20, cuda=1 << 28)
#: Rows at a time at least: each chunk is one pass over the gradient of the embeddings.
FEWEST_ROWS = 64


def full_softmax_loss(states: torch.Tensor, embeddings: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the items that follow, with a softmax of ``states @ embeddings.T`` over all items but 0.

    The logits are never there as a whole: a chunk of rows gives its part of the loss and of both gradients. Under autocast the
    matrix products have its precision, everything between them float32.

    Args:
        states: ``[n, d]``.
        embeddings: ``[n_items, d]``; row 0 is padding.
        targets: int64 ``[n]``; rows whose target is 0 do not count.

    Returns:
        float32 scalar; 0 where no row has a target.
    """
    device = states.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
    return _FullSoftmax.apply(states, embeddings, targets, dtype) / (targets > 0).sum().clamp(min=1)


class _FullSoftmax(torch.autograd.Function):
    """The summed cross-entropy; its gradients are computed with it, from the same logits."""

    @staticmethod
    def forward(
        ctx: Any, states: torch.Tensor, embeddings: torch.Tensor, targets: torch.Tensor, dtype: torch.dtype
    ) -> torch.Tensor:
        device = states.device.type
        with torch.autocast(device, enabled=False):
            items = embeddings[1:].to(dtype)
            of_states = torch.zeros(states.shape, dtype=torch.float32, device=states.device)
            of_embeddings = torch.zeros(embeddings.shape, dtype=torch.float32, device=states.device)
            total = torch.zeros((), device=states.device)
            rows = max(FEWEST_ROWS, LOGITS_AT_ONCE[device] // len(items))
            parts = (part.split(rows) for part in (states.to(dtype), targets.unsqueeze(1), of_states))
            for state, target, of_state in zip(*parts, strict=True):
                counts = (target > 0).float()
                column = (target - 1).clamp(min=0)
                shares = (state @ items.T).float()
                of_target = shares.gather(1, column)
                highest = shares.amax(dim=1, keepdim=True)
                shares.sub_(highest).exp_()
                mass = shares.sum(dim=1, keepdim=True)
                total += ((mass.log() + highest - of_target) * counts).sum()
                shares.mul_(counts / mass).scatter_add_(1, column, -counts)
                of_logits = shares.to(dtype)
                of_state.copy_(of_logits @ items)
                if dtype == torch.float32:
                    of_embeddings[1:].addmm_(of_logits.T, state)
                else:
                    of_embeddings[1:] += of_logits.T @ state
        ctx.save_for_backward(of_states, of_embeddings)
        ctx.dtypes = states.dtype, embeddings.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        of_states, of_embeddings = (
            (part * grads[0]).to(dtype) for part, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        return of_states, of_embeddings, None, None


def sampled_softmax_loss(
    states: torch.Tensor, embeddings: torch.Tensor, targets: torch.Tensor, n_negatives: int
) -> torch.Tensor:
    """As :func:`full_softmax_loss`, but beside the target stands a sample of the items, one for all rows.

    The sample is drawn uniformly without replacement; a row does not count its own target in it, and each of the others stands for
    equally many items of the catalogue. With all items drawn it is the full softmax.

    Args:
        states, embeddings, targets: as above.
        n_negatives: items drawn, at least 1 and below ``n_items``.
    """
    n_items = len(embeddings)
    drawn = 1 + torch.randperm(n_items - 1, device=states.device)[:n_negatives]
    own = drawn == targets.unsqueeze(1)
    stands_for = (n_items - 2) / (n_negatives - own.sum(dim=1, keepdim=True)).clamp(min=1)
    negative = (states @ F.embedding(drawn, embeddings).T).float() + stands_for.log()
    positive = (states * F.embedding(targets, embeddings)).sum(dim=1, keepdim=True, dtype=torch.float32)
    logits = torch.cat([positive, negative.masked_fill(own, -torch.inf)], dim=1)
    counts = targets > 0
    return ((logits.logsumexp(dim=1) - positive.squeeze(1)) * counts).sum() / counts.sum().clamp(min=1)
