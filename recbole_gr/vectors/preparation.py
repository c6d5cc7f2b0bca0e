"""Vectors prepared for quantisation: several parts joined by weight, fewer dimensions, equal variances."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from recbole_gr.utils.arrays import chunks
from recbole_gr.utils.errors import SettingError

#: What vectors can be prepared by.
PREPARED = ("cf_mean", "text_mean", "pca_mean", "pca_axes", "pca_scale")


class Preparation:
    """What vectors are prepared by: fitted to the first that come, or kept from those of other items.

    Args:
        kept: arrays by name, as another one had them in ``arrays``; None: they are fitted.
    """

    def __init__(self, kept: Mapping[str, np.ndarray] | None = None) -> None:
        self.fits = kept is None
        self.arrays: dict[str, np.ndarray] = dict(kept or {})

    def of(self, name: str, fit: Callable[[], np.ndarray]) -> np.ndarray:
        """The array of a name; ``fit`` makes it where it is not kept."""
        if self.fits:
            self.arrays[name] = np.asarray(fit())
        return self.arrays[name]


def centred(vectors: np.ndarray, preparation: Preparation | None = None, name: str = "mean") -> np.ndarray:
    """Vectors without their mean, which says nothing of how items differ and takes room at unit length.

    Args:
        vectors: float32 ``[n_items, d]``; rows of zeros, of padding and of items without, do not count and stay zeros.
        preparation: has the mean, or gets it, under ``name``.

    Returns:
        numpy.ndarray: float32 ``[n_items, d]``.
    """
    known: np.ndarray = np.any(vectors, axis=1)

    def fit() -> np.ndarray:
        none = np.zeros(vectors.shape[1], np.float32)
        return vectors[known].mean(axis=0, dtype=np.float64).astype(np.float32) if known.any() else none

    mean = (preparation or Preparation()).of(name, fit)
    return np.where(known[:, None], vectors - mean, np.float32(0))


def join_vectors(parts: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Several vectors per item side by side, each part at unit length times its weight.

    So the squared distance of two items is the sum of the parts' squared distances, each times its weight squared,
    however long a part's vectors are and however many dimensions they have. A vector of zeros stays zeros.

    Args:
        parts: each float32 ``[n_items, d]``, with a ``d`` of its own.
        weights: one per part.

    Returns:
        numpy.ndarray: float32 ``[n_items, sum of d]``.
    """
    joined = np.empty((len(parts[0]), sum(part.shape[1] for part in parts)), np.float32)
    first = 0
    for part, weight in zip(parts, weights, strict=True):
        last = first + part.shape[1]
        for here, rows in chunks(part):
            rows = rows.astype(np.float64)  # squares of what float32 holds can exceed it
            length = np.linalg.norm(rows, axis=1, keepdims=True)
            joined[here, first:last] = weight * rows / np.where(length > 0, length, 1)
        first = last
    return joined


def reduce_vectors(
    vectors: np.ndarray, pca_dimension: int | None = None, whiten: bool = False, preparation: Preparation | None = None
) -> np.ndarray:
    """The vectors along their principal axes; the vectors themselves with neither setting.

    Args:
        vectors: float32 ``[n_items, d]``; row 0 is padding and is not used.
        pca_dimension: how many axes are kept, those of the largest variance first; None keeps all, or when
            whitening, all along which the vectors vary by more than the rounding of float32.
        whiten: give every axis the variance 1.
        preparation: has mean, axes and deviations, or gets them.

    Returns:
        numpy.ndarray: float32 ``[n_items, pca_dimension]``, row 0 zeros.

    Raises:
        SettingError: if there are fewer axes than ``pca_dimension``, or fewer to divide by when whitening.
    """
    if pca_dimension is None and not whiten:
        return vectors
    preparation = preparation or Preparation()
    if preparation.fits:
        mean, axes, scale = _reduction(vectors, pca_dimension, whiten)
        preparation.arrays.update(pca_mean=mean, pca_axes=axes, pca_scale=scale)
    mean, axes, scale = (preparation.arrays[name] for name in ("pca_mean", "pca_axes", "pca_scale"))
    reduced = np.zeros((len(vectors), len(axes)), np.float32)
    for here, rows in chunks(vectors[1:]):
        reduced[1:][here] = (rows - mean) @ axes.T / scale
    return reduced


def _reduction(vectors: np.ndarray, pca_dimension: int | None, whiten: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean ``[d]``, the axes that are kept ``[k, d]``, and what to divide by ``[k]``, float64."""
    items, dimension = len(vectors) - 1, vectors.shape[1]
    if pca_dimension is not None and pca_dimension > min(items, dimension):
        limit = f"{items}, the number of items" if items < dimension else f"{dimension}, the dimension of the vectors"
        raise SettingError("pca_dimension", pca_dimension, f"must be at most {limit}")
    mean, axes, deviation = _principal_axes(vectors[1:])
    # Ten times the rounding error of float32 sums of so many terms, which grows with the numbers, not with their spread.
    rounding = 10 * np.sqrt(dimension) * np.finfo(np.float32).eps * max(deviation[0], np.abs(mean).max())
    varying = int((deviation > rounding).sum())
    if whiten and (varying == 0 or (pca_dimension or 0) > varying):
        key, value = ("whiten", True) if varying == 0 else ("pca_dimension", pca_dimension)
        raise SettingError(key, value, f"the vectors vary along {varying} axes only, and whitening divides by that")
    kept = pca_dimension or varying
    return mean, axes[:kept], deviation[:kept] if whiten else np.ones(kept)


def _principal_axes(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean ``[d]``, the axes ``[d, d]`` by falling variance, and the standard deviations ``[d]``, float64."""
    mean = sum(rows.sum(axis=0, dtype=np.float64) for _, rows in chunks(vectors)) / len(vectors)
    # Chunk by chunk and centred first: no second copy of the vectors, and in float64, where little is lost.
    scatter = np.zeros((len(mean), len(mean)))
    for _, rows in chunks(vectors):
        centred = rows - mean
        scatter += centred.T @ centred
    variance, axes = np.linalg.eigh(scatter / max(len(vectors) - 1, 1))
    variance, axes = variance[::-1], axes.T[::-1]
    # The sign of an axis is arbitrary; with the same one on every machine the vectors are the same.
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    return mean, axes * np.sign(largest), np.sqrt(variance.clip(min=0))
