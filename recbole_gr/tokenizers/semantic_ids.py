"""SemanticIDs: the codes of every item, and everything downstream needs to know about them."""

import hashlib
import json
from dataclasses import dataclass, field

import numpy as np

from recbole_gr.utils.errors import DataError
from recbole_gr.utils.atomic_files import written_whole
from recbole_gr.tokenizers.groups import number_groups

#: The most codes of all levels together; each is a row of an embedding and of an output layer.
MAX_VOCABULARY = 1 << 24


@dataclass(frozen=True)
class SemanticIDs:
    """One semantic ID per item.

    Args:
        codes (np.ndarray): int32 ``[n_items, levels]``; row = item id. Row 0 is RecBole's padding item and holds -1.
        codebook_sizes (tuple of int): number of codes of each level, ``codes[1:, l] < codebook_sizes[l]``.
        collision (str): how items with the same codes were told apart, for example ``digit`` or ``none``.
        source (dict): where the codes come from (encoder, tokenizer, settings); plain json values.

    Raises:
        DataError: the codes do not fit the codebook sizes.
    """

    codes: np.ndarray
    codebook_sizes: tuple
    collision: str
    source: dict = field(default_factory=dict)

    def __post_init__(self):
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
    def n_items(self):
        """Number of items, the padding item included, as RecBole counts."""
        return len(self.codes)

    @property
    def n_levels(self):
        """Number of codes of an item."""
        return self.codes.shape[1]

    def digest(self):
        """Sixteen hex digits that change when any code or codebook size does."""
        content = hashlib.sha256(self.codes.tobytes())
        content.update(repr((self.codes.shape, self.codebook_sizes)).encode())
        return content.hexdigest()[:16]

    def statistics(self):
        """What one looks at before training anything.

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

    def save(self, path):
        """Write an ``.npz`` of plain arrays."""
        meta = {"codebook_sizes": self.codebook_sizes, "collision": self.collision, "source": self.source}
        with written_whole(path, "wb") as file:
            np.savez(file, codes=self.codes, meta=np.array(json.dumps(meta)))

    @classmethod
    def load(cls, path):
        """Read what :meth:`save` wrote.

        Raises:
            DataError: the file is no such ``.npz``.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                codes, meta = arrays["codes"], json.loads(str(arrays["meta"]))
                return cls(codes, meta["codebook_sizes"], meta["collision"], meta["source"])
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        except Exception as error:  # numpy and zipfile meet noise with nearly any exception
            raise DataError(f"{path}: not a semantic-ID file written by SemanticIDs.save ({error})") from error
