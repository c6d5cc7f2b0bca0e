"""What a network over semantic IDs reads: the histories of some users."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class History:
    """Histories as semantic IDs, oldest item first, padded at the right.

    Args:
        codes: int64 ``[b, t, L]``; anything beyond ``lengths``.
        lengths: int64 ``[b]``, items in each history, at least 1.
        users: int64 ``[b]``, user ids; None: there are no user tokens.
        injected: float32 ``[b, t, d]``, vectors to be added to the items' positions; None: nothing is injected.
    """

    codes: torch.Tensor
    lengths: torch.Tensor
    users: torch.Tensor | None = None
    injected: torch.Tensor | None = None

    def items(self) -> torch.Tensor:
        """Where there is an item: bool ``[b, t]``."""
        return torch.arange(self.codes.shape[1], device=self.codes.device) < self.lengths.unsqueeze(1)
