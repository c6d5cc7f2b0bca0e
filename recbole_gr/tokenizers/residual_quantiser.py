"""The codebooks of a residual quantiser that is trained, and how their codes learn."""

import torch
from torch import nn


class ResidualQuantiser(nn.Module):
    """L codebooks, each of which quantises what those before it left over (TIGER, arXiv 2305.05065, section 3.1).

    Args:
        codebook_num, codebook_size (int): levels L and codes per level W.
        dimension (int): width d of what is quantised.
        ema_decay (float): codes follow the running mean of the points that take them, with this decay (van den Oord et
            al., arXiv 1711.00937, appendix A.1); None: they are parameters that follow the codebook loss.
    """

    def __init__(self, codebook_num, codebook_size, dimension, ema_decay=None):
        super().__init__()
        self.ema_decay = ema_decay
        self.codebooks = nn.ParameterList(
            nn.Parameter(torch.zeros(codebook_size, dimension), requires_grad=ema_decay is None) for _ in range(codebook_num)
        )
        self.register_buffer("taken", torch.zeros(codebook_num, codebook_size))
        self.register_buffer("mean_taken", torch.zeros(codebook_num, codebook_size))
        self.register_buffer("mean_sum", torch.zeros(codebook_num, codebook_size, dimension))

    @torch.no_grad()
    def place(self, level, codebook, counts):
        """Put the codes of a level where k-means found clusters of so many points of a batch."""
        self.codebooks[level].copy_(codebook)
        self.mean_taken[level] = counts
        self.mean_sum[level] = counts.unsqueeze(1) * codebook

    def forward(self, points, levels):
        """Quantise by the first codebooks; in training, the last of ``levels`` are those that learn.

        Args:
            points (torch.Tensor): float32 ``[B, d]``.
            levels (range): the levels that learn; those before them quantise as they are.

        Returns:
            tuple: the sum of the codes' vectors ``[B, d]``, without gradient; the codebook loss and the commitment loss,
            squared distances summed over the levels that learn, means over the batch.
        """
        residual = points
        codebook_loss = commitment_loss = torch.zeros((), device=points.device)
        for level in range(levels.stop):
            code = nearest(residual.detach(), self.codebooks[level].detach())
            # not by indexing, whose gradient adds up in another order every time when there are several threads
            chosen = nn.functional.embedding(code, self.codebooks[level])
            if level in levels:
                codebook_loss = codebook_loss + squared_length(residual.detach() - chosen).mean()
                commitment_loss = commitment_loss + squared_length(residual - chosen.detach()).mean()
                if self.training:
                    self._take_note(level, code, residual.detach())
            residual = residual - chosen.detach()
        return (points - residual).detach(), codebook_loss, commitment_loss

    @torch.no_grad()
    def encode(self, points):
        """Codes int64 ``[B, L]``, and what the last level quantised ``[B, d]``."""
        residual, codes = points, []
        for codebook in self.codebooks:
            last_residual = residual
            codes.append(nearest(residual, codebook))
            residual = residual - codebook[codes[-1]]
        return torch.stack(codes, dim=1), last_residual

    @torch.no_grad()
    def _take_note(self, level, code, residual):
        counts = torch.bincount(code, minlength=len(self.codebooks[level])).float()
        self.taken[level] += counts
        if self.ema_decay is not None:
            sums = torch.zeros_like(self.mean_sum[level]).index_add_(0, code, residual)
            self.mean_taken[level].lerp_(counts, 1 - self.ema_decay)
            self.mean_sum[level].lerp_(sums, 1 - self.ema_decay)
            weight = self.mean_taken[level].unsqueeze(1)
            known = weight > 1e-6  # below that a code had no point for so long that its mean is noise
            self.codebooks[level].copy_(torch.where(known, self.mean_sum[level] / weight, self.codebooks[level]))

    @torch.no_grad()
    def revive(self, points, levels):
        """Move codes that no point took since the last call onto points, those far from their own code the likelier.

        Args:
            points (torch.Tensor): float32 ``[B, d]``.
            levels (range): as in :meth:`forward`.

        Returns:
            int: how many codes were moved.
        """
        residual, revived = points, 0
        for level in range(levels.stop):
            codebook = self.codebooks[level]
            dead = torch.nonzero(self.taken[level] == 0).squeeze(1)[: len(points)]
            if level in levels and len(dead):
                error = squared_length(residual - codebook[nearest(residual, codebook)])
                self._place_some(level, dead, residual[torch.multinomial(error + 1e-12, len(dead))])
                revived += len(dead)
            residual = residual - codebook[nearest(residual, codebook)]  # points may take the moved codes
        self.taken.zero_()
        return revived

    def _place_some(self, level, codes, points):
        """Put some codes of a level onto one point each."""
        self.codebooks[level][codes] = points
        self.mean_taken[level, codes], self.mean_sum[level, codes] = 1.0, points


def nearest(points, codebook):
    """The nearest code of each point: int64 ``[B]``."""
    return (codebook.square().sum(dim=1) - 2 * points @ codebook.T).argmin(dim=1)


def squared_length(rows):
    """Sum of squares along the last dimension."""
    return rows.square().sum(dim=-1)
