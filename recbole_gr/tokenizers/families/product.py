"""Product quantisation: one code per part of the vector, in no order (RPG, arXiv 2506.05781, section 3.1)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from recbole_gr.tokenizers.families.rkmeans import KMeansIterations, faiss_library
from recbole_gr.tokenizers.semantic_ids import Quantised, check_codes_of_bits
from recbole_gr.utils.arrays import copy_in_chunks
from recbole_gr.utils.errors import SettingError

#: Of more vectors so many, drawn by seed, fit rotation and codebooks: 256 a code where there are 256, as faiss has it by default.
MOST_TRAINING_POINTS = 1 << 16


def pq(
    vectors: np.ndarray,
    codebook_num: int,
    codebook_size: int,
    *,
    seed: int = 2020,
    kmeans_iterations: KMeansIterations = 20,
) -> Quantised:
    """Split every vector into ``codebook_num`` equal parts and cluster each part by itself (Jegou et al., 2011).

    Codebooks are fitted to all vectors, of more than 65,536 to so many drawn at random; every vector gets its nearest codes.

    Args:
        vectors: float32 ``[n, d]``, one row per item, no padding row.
        codebook_num: number of parts m, 4 to 64 in RPG; must divide d.
        codebook_size: codes per part, a power of two.
        seed: seed of the k-means of each part.
        kmeans_iterations: Lloyd iterations over all points that codebooks are fitted to.

    Raises:
        SettingError: m does not divide d, or ``codebook_size`` is not a power of two.
    """
    check_parts(vectors.shape, codebook_num, codebook_size)
    return _product_codes(copy_in_chunks(vectors), codebook_num, codebook_size, seed=seed, iterations=kmeans_iterations)


def opq(
    vectors: np.ndarray,
    codebook_num: int,
    codebook_size: int,
    *,
    seed: int = 2020,
    kmeans_iterations: KMeansIterations = 20,
    opq_iterations: Annotated[
        int, Field(description="How often rotation and codes are fitted to each other in turn.", ge=1)
    ] = 20,
) -> Quantised:
    """Product quantisation after the rotation with the smallest quantisation error (Ge et al., 2013).

    Rotation and codebooks are fitted to as many vectors as those of :func:`pq`.

    Args:
        vectors, codebook_num, codebook_size, seed, kmeans_iterations: as in :func:`pq`.
        opq_iterations: how often rotation and codes are fitted to each other in turn.

    Raises:
        SettingError: as :func:`pq`.
    """
    check_parts(vectors.shape, codebook_num, codebook_size)
    faiss = faiss_library()
    points = copy_in_chunks(vectors)
    rotation = faiss.OPQMatrix(points.shape[1], codebook_num)
    rotation.niter = opq_iterations
    parts = faiss.ProductQuantizer(points.shape[1], codebook_num, _bits(codebook_size))
    parts.cp.seed, parts.cp.min_points_per_centroid = seed % (1 << 31), 1  # training the rotation sets the others
    rotation.pq = parts
    # with fewer points than dimensions faiss writes beyond a buffer and the process dies; repeated, they mean the same
    some = _training_points(points, seed)
    training_points = np.tile(some, (-(-points.shape[1] // len(some)), 1)) if len(some) < points.shape[1] else some
    rotation.max_train_points = len(training_points)
    rotation.train(training_points)
    made = _product_codes(rotation.apply(points), codebook_num, codebook_size, seed=seed, iterations=kmeans_iterations)
    turned = faiss.vector_to_array(rotation.A).reshape(points.shape[1], points.shape[1])
    return replace(made, fitted={**(made.fitted or {}), "rotation": turned})


def check_parts(shape: tuple[int, ...], codebook_num: int, codebook_size: int) -> None:
    """Check what both kinds need.

    Raises:
        SettingError: the vectors cannot be split into so many parts, or the codes are not made of bits.
    """
    _, d = shape
    if d % codebook_num:
        near = [m for m in range(1, d + 1) if d % m == 0 and m <= 64]
        raise SettingError(
            "codebook_num", codebook_num, f"must divide the vectors' dimension {d}: {near}; or set pca_dimension"
        )
    check_codes_of_bits(codebook_size)


def _bits(codebook_size: int) -> int:
    return codebook_size.bit_length() - 1


def _training_points(points: np.ndarray, seed: int) -> np.ndarray:
    if len(points) <= MOST_TRAINING_POINTS:
        return points
    return points[np.sort(np.random.default_rng(seed).choice(len(points), MOST_TRAINING_POINTS, replace=False))]


def _take_all_points(clustering: Any, seed: int, iterations: int, n: int) -> None:
    clustering.seed, clustering.niter = seed % (1 << 31), iterations
    clustering.min_points_per_centroid, clustering.max_points_per_centroid = 1, n


def _product_codes(points: np.ndarray, codebook_num: int, codebook_size: int, *, seed: int, iterations: int) -> Quantised:
    faiss = faiss_library()
    parts, some = faiss.ProductQuantizer(points.shape[1], codebook_num, _bits(codebook_size)), _training_points(points, seed)
    _take_all_points(parts.cp, seed, iterations, len(some))
    parts.train(some)
    codes = faiss.unpack_bitstrings(parts.compute_codes(points), codebook_num, _bits(codebook_size))
    width = points.shape[1] // codebook_num
    codebooks = faiss.vector_to_array(parts.centroids).reshape(codebook_num, codebook_size, width)
    fitted = {"codebooks": codebooks}
    return Quantised(codes.astype(np.int32), np.ascontiguousarray(points[:, -width:]), list(codebooks), fitted=fitted)


def encode_pq(vectors: np.ndarray, fitted: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Quantised:
    """Codes of other items by the codebooks of :func:`pq` or :func:`opq`, after the rotation of the latter."""
    faiss = faiss_library()
    codebooks, points = fitted["codebooks"], copy_in_chunks(vectors)
    if "rotation" in fitted:
        points = np.ascontiguousarray(points @ fitted["rotation"].T)
    m, codes_of_part, width = codebooks.shape
    parts = faiss.ProductQuantizer(points.shape[1], m, _bits(codes_of_part))
    faiss.copy_array_to_vector(np.ascontiguousarray(codebooks, np.float32).ravel(), parts.centroids)
    codes = faiss.unpack_bitstrings(parts.compute_codes(points), m, _bits(codes_of_part))
    return Quantised(codes.astype(np.int32), np.ascontiguousarray(points[:, -width:]), list(codebooks))


TOKENIZERS = {"opq": opq, "pq": pq}
ENCODERS = {"opq": encode_pq, "pq": encode_pq}
