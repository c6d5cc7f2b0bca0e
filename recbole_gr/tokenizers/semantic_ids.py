"""What travels between tokenizers and models: the codes of every item, before and after collisions are resolved."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from recbole_gr.utils.atomic_files import atomic_write
from recbole_gr.utils.errors import DataError, SettingError

if TYPE_CHECKING:
    import torch

#: The most codes of all levels together; each is a row of an embedding and of an output layer.
MAX_VOCABULARY = 1 << 24
#: Before the names of what a file keeps for new items.
_FITTED = "fitted."
#: Rows of residuals that are worked on at a time: few enough to stay in the processor's cache.
ROWS_IN_CACHE = 1 << 11


@dataclass(frozen=True)
class Quantised:
    """Codes of all items, before collisions are resolved.

    Args:
        codes: int ``[n, L]``, one row per item, no padding row.
        last_residual: float32 ``[n, d']``, what the last level quantised; None if codes have no geometry,
            and to a collision rule all codes are equally near.
        codebooks: per level float32 ``[W, d']``, what its codes stand for; None if codes have no
            geometry. Collision rules that move an item to another code of the last level go by its distances to the last.
        training: what making them showed (losses, revived codes), for the run record; plain json values.
        fitted: what gives other items their codes, by name (:func:`recbole_gr.tokenizers.registry.find_encoder`); None: nothing does.
    """

    codes: np.ndarray
    last_residual: np.ndarray | None = None
    codebooks: list[np.ndarray] | None = None
    training: dict[str, Any] = field(default_factory=dict)
    fitted: dict[str, np.ndarray] | None = None

    def last_distances(self, rows: np.ndarray, n_codes: int) -> "torch.Tensor":
        """Squared distances of items to the ``n_codes`` codes of the last level, float32 ``[rows, W]``."""
        import torch

        distances = torch.zeros(len(rows), n_codes)
        if self.last_residual is not None and self.codebooks is not None:
            codebook = torch.from_numpy(self.codebooks[-1]).float()
            lengths = codebook.square().sum(dim=1)
            for here, residual in self._last_residuals(rows):
                torch.addmm(lengths, residual, codebook.T, alpha=-2, out=distances[here])
                distances[here] += torch.linalg.vector_norm(residual, dim=1, keepdim=True).square()
        return distances.clamp_(min=0)

    def distances_to_own(self, rows: np.ndarray) -> "torch.Tensor":
        """Squared distances of items to their own code of the last level, float32 ``[rows]``."""
        import torch

        distances = torch.zeros(len(rows))
        if self.last_residual is not None and self.codebooks is not None:
            codebook, own = torch.from_numpy(self.codebooks[-1]).float(), torch.as_tensor(self.codes[rows, -1])
            for here, residual in self._last_residuals(rows):
                distances[here] = residual.sub_(codebook.index_select(0, own[here])).square_().sum(dim=1)
        return distances

    def _last_residuals(self, rows: np.ndarray) -> "Iterator[tuple[slice, torch.Tensor]]":
        """Yield ``(slice of rows, residuals)``, of so few rows at a time that they stay in the processor's cache."""
        import torch

        residuals = torch.from_numpy(self.last_residual)
        for start in range(0, len(rows), ROWS_IN_CACHE):
            here = slice(start, start + ROWS_IN_CACHE)
            yield here, residuals.index_select(0, torch.as_tensor(rows[here])).float()


@dataclass(frozen=True)
class SemanticIDs:
    """One semantic ID per item.

    Args:
        codes: int32 ``[n_items, levels]``; row = item id. Row 0 is RecBole's padding item and holds -1.
        codebook_sizes: number of codes of each level, ``codes[1:, l] < codebook_sizes[l]``.
        collision: how collisions were resolved, for example ``digit`` or ``none``.
        source: where the codes come from (encoder, tokenizer, settings); plain json values.
        fitted: what gives new items their codes, by name; empty: nothing does.
        item_tokens: str ``[n_items]``, whose codes they are; None: those of the catalogue at hand.

    Raises:
        DataError: the codes do not fit the codebook sizes.
    """

    codes: np.ndarray
    codebook_sizes: tuple[int, ...]
    collision: str
    source: dict[str, Any] = field(default_factory=dict)
    fitted: dict[str, np.ndarray] = field(default_factory=dict)
    item_tokens: np.ndarray | None = None

    def __post_init__(self) -> None:
        codes = np.asarray(self.codes)
        if codes.dtype.kind not in "iu":
            raise DataError(f"semantic IDs: codes must be whole numbers, not {codes.dtype}")
        object.__setattr__(self, "codebook_sizes", tuple(int(size) for size in self.codebook_sizes))
        if codes.ndim != 2 or len(codes) < 2 or codes.shape[1] != len(self.codebook_sizes):
            raise DataError(
                f"semantic IDs: codes of shape {codes.shape} do not fit {len(self.codebook_sizes)} codebooks; "
                "they must be [n_items, levels] with a padding row and at least one item"
            )
        outside = (codes[1:] < 0) | (codes[1:] >= np.array(self.codebook_sizes))
        if outside.any():
            row, level = np.argwhere(outside)[0]
            raise DataError(
                f"semantic IDs: item {row + 1} has code {codes[row + 1, level]} at level {level}, "
                f"allowed is 0 to {self.codebook_sizes[level] - 1}"
            )
        if max(self.codebook_sizes) > 2**31:
            raise DataError(f"semantic IDs: a codebook of {max(self.codebook_sizes)} codes is too large")
        object.__setattr__(self, "codes", np.ascontiguousarray(codes, dtype=np.int32))

    @property
    def n_items(self) -> int:
        """Number of items, the padding item included, as RecBole counts."""
        return len(self.codes)

    @property
    def n_levels(self) -> int:
        """Number of codes of an item."""
        return self.codes.shape[1]

    def digest(self) -> str:
        """Sixteen hex digits that change when any code or codebook size does."""
        content = hashlib.sha256(self.codes.tobytes())
        content.update(repr((self.codes.shape, self.codebook_sizes)).encode())
        return content.hexdigest()[:16]

    def statistics(self) -> dict[str, Any]:
        """Measures of the codes alone, to look at before anything is trained.

        Returns:
            dict: ``items``, ``levels``, ``codebook_sizes``, ``unique_share`` (distinct IDs / items),
            ``largest_collision`` (items that share the most common ID), ``codes_used`` and ``perplexity`` per level,
            ``first_level_entropy`` (bits), ``collision``.
        """
        codes = self.codes[1:]
        counts = np.bincount(number_groups(codes))
        used, perplexity = [], []
        for level, size in enumerate(self.codebook_sizes):
            share = np.bincount(codes[:, level], minlength=size) / len(codes)
            share = share[share > 0]
            used.append(int(len(share)))
            perplexity.append(float(np.exp(-(share * np.log(share)).sum())))
        return {
            "items": len(codes),
            "levels": self.n_levels,
            "codebook_sizes": list(self.codebook_sizes),
            "unique_share": round(len(counts) / len(codes), 6),
            "largest_collision": int(counts.max()),
            "codes_used": used,
            "perplexity": [round(value, 2) for value in perplexity],
            "first_level_entropy": round(float(np.log2(perplexity[0])), 4),
            "collision": self.collision,
        }

    def save(self, path: str) -> None:
        """Write an ``.npz`` of plain arrays, by an atomic write."""
        meta = {"codebook_sizes": self.codebook_sizes, "collision": self.collision, "source": self.source}
        arrays = {f"{_FITTED}{name}": array for name, array in self.fitted.items()}
        if self.item_tokens is not None:
            arrays["item_tokens"] = np.asarray(self.item_tokens).astype(str)
        arrays.update(codes=self.codes, meta=np.array(json.dumps(meta)))
        with atomic_write(path, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stubs take an array for allow_pickle

    @classmethod
    def load(cls, path: str) -> "SemanticIDs":
        """Read a file of :meth:`save`.

        Raises:
            DataError: the file is not such an ``.npz``.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                codes, meta = arrays["codes"], json.loads(str(arrays["meta"]))
                fitted = {name.removeprefix(_FITTED): arrays[name] for name in arrays.files if name.startswith(_FITTED)}
                tokens = arrays["item_tokens"] if "item_tokens" in arrays.files else None
                if tokens is not None and tokens.shape != codes.shape[:1]:
                    raise DataError(f"has item tokens {list(tokens.shape)} for codes {list(codes.shape)}")
                return cls(codes, meta["codebook_sizes"], meta["collision"], meta["source"], fitted, tokens)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        except Exception as error:  # numpy and zipfile meet noise with nearly any exception
            raise DataError(f"{path}: not a semantic-ID file of SemanticIDs.save ({error})") from error


def number_groups(codes: np.ndarray) -> np.ndarray:
    """Equal rows get equal numbers, counted from 0.

    Args:
        codes: int ``[n, L]``, not negative.

    Returns:
        np.ndarray: int64 ``[n]``.
    """
    group = np.zeros(len(codes), dtype=np.int64)
    for level in range(codes.shape[1]):
        # both factors are below 2**31, since groups are no more than items: no depth overflows
        group = pd.factorize(group * (int(codes[:, level].max()) + 1) + codes[:, level])[0]
    return group


def check_codes_of_bits(codebook_size: int) -> None:
    """Codes of which each bit is found by itself, or that are kept in bits, are 2, 4, 8, ... up to 65536.

    Raises:
        SettingError
    """
    if type(codebook_size) is not int or not 2 <= codebook_size <= 1 << 16 or codebook_size & (codebook_size - 1):
        raise SettingError("codebook_size", codebook_size, "must be a power of two from 2 to 65536")
