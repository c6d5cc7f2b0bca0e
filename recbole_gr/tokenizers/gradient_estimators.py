"""How the gradient gets past a quantisation, whose own gradient is zero."""

import torch


def straight_through(points, quantised):
    """The quantised points, with the gradient of the points themselves (van den Oord et al., arXiv 1711.00937).

    Args:
        points, quantised (torch.Tensor): float32 ``[B, d]``.

    Returns:
        torch.Tensor: the values of ``quantised``.
    """
    return points + (quantised - points).detach()


def rotation_trick(points, quantised):
    """The quantised points, as the points turned and scaled onto them; the gradient turns along.

    Fifty et al., arXiv 2410.06424, section 4.2: with e and q of unit length, the rotation from e to q in the plane that
    they span is I - 2 r r' + 2 q e', r being the direction of e + q.

    Args:
        points, quantised (torch.Tensor): float32 ``[B, d]``.

    Returns:
        torch.Tensor: the values of ``quantised``.
    """
    with torch.no_grad():
        length = points.norm(dim=1, keepdim=True).clamp(min=1e-8)
        scale = quantised.norm(dim=1, keepdim=True) / length
        start, end = points / length, torch.nn.functional.normalize(quantised, dim=1)
        # of nearly opposite directions the sum is rounding error, which must not become a direction of its own
        middle = torch.nn.functional.normalize(start + end, dim=1, eps=1e-3)
    along_middle = (points * middle).sum(dim=1, keepdim=True)
    along_start = (points * start).sum(dim=1, keepdim=True)
    return straight_through(scale * (points - 2 * along_middle * middle + 2 * along_start * end), quantised)


ESTIMATORS = {"straight_through": straight_through, "rotation": rotation_trick}
