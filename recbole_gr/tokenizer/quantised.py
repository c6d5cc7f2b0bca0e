"""What a tokenizer hands over: the codes, and where each item lies at the last level."""

from dataclasses import dataclass, field

import numpy as np

from recbole_gr.memory import ROWS_AT_ONCE


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
        if self.last_residual is None:
            return np.zeros((len(rows), n_codes), dtype=np.float32)
        residual, codebook = np.ascontiguousarray(self.last_residual[rows], dtype=np.float32), self.codebooks[-1]
        distances = (residual**2).sum(axis=1, keepdims=True) + (codebook**2).sum(axis=1) - 2 * residual @ codebook.T
        return np.maximum(distances, 0, dtype=np.float32)

    def distances_to_own(self, rows):
        """Squared distances of items to their own code of the last level, float32 ``[rows]``."""
        distances = np.zeros(len(rows), dtype=np.float32)
        if self.last_residual is None:
            return distances
        for start in range(0, len(rows), ROWS_AT_ONCE):
            piece = rows[start : start + ROWS_AT_ONCE]
            difference = self.last_residual[piece] - self.codebooks[-1][self.codes[piece, -1]]
            distances[start : start + ROWS_AT_ONCE] = (difference**2).sum(axis=1)
        return distances
