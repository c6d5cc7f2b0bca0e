"""What a tokenizer hands over: the codes, and where each item lies at the last level."""

from dataclasses import dataclass, field

import numpy as np
import torch

ROWS_IN_CACHE = 1 << 11


@dataclass(frozen=True)
class Quantised:
    """Codes of all items, before collisions are resolved.

    Args:
        codes (np.ndarray): int ``[n, L]``, one row per item, no padding row.
        last_residual (np.ndarray): float32 ``[n, d']``, what the last level quantised; None if codes have no geometry,
            and to a collision rule all codes are equally near.
        codebooks (list of np.ndarray): per level float32 ``[W, d']``, what its codes stand for; None if codes have no
            geometry. Collision rules that move an item to another code of the last level go by its distances to the last.
        training (dict): what making them showed (losses, revived codes), for the run record; plain json values.
    """

    codes: np.ndarray
    last_residual: np.ndarray = None
    codebooks: list = None
    training: dict = field(default_factory=dict)

    def last_distances(self, rows, n_codes):
        """Squared distances of items to the ``n_codes`` codes of the last level, float32 ``[rows, W]``."""
        distances = torch.zeros(len(rows), n_codes)
        if self.last_residual is not None:
            codebook = torch.from_numpy(self.codebooks[-1]).float()
            lengths = codebook.square().sum(dim=1)
            for here, residual in self._last_residuals(rows):
                torch.addmm(lengths, residual, codebook.T, alpha=-2, out=distances[here])
                distances[here] += torch.linalg.vector_norm(residual, dim=1, keepdim=True).square()
        return distances.clamp_(min=0)

    def distances_to_own(self, rows):
        """Squared distances of items to their own code of the last level, float32 ``[rows]``."""
        distances = torch.zeros(len(rows))
        if self.last_residual is not None:
            codebook, own = torch.from_numpy(self.codebooks[-1]).float(), torch.as_tensor(self.codes[rows, -1])
            for here, residual in self._last_residuals(rows):
                distances[here] = residual.sub_(codebook.index_select(0, own[here])).square_().sum(dim=1)
        return distances

    def _last_residuals(self, rows):
        """Yield ``(slice of rows, residuals)``, of so few rows at a time that they stay in the processor's cache."""
        residuals = torch.from_numpy(self.last_residual)
        for start in range(0, len(rows), ROWS_IN_CACHE):
            here = slice(start, start + ROWS_IN_CACHE)
            yield here, residuals.index_select(0, torch.as_tensor(rows[here])).float()
