"""RK-Means: residual quantisation by one k-means per level (GRID, arXiv 2507.22224, section 3)."""

import logging
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from recbole_gr.tokenizers.collision import match
from recbole_gr.tokenizers.semantic_ids import Quantised
from recbole_gr.utils.arrays import chunks, copy_in_chunks
from recbole_gr.utils.errors import SettingError

#: k-means++ draws the first centroids from at most this many points per code; every iteration then takes all points.
SEEDING_POINTS = 256


#: A setting of the families that cluster by k-means.
KMeansIterations = Annotated[int, Field(description="Lloyd iterations of each k-means, over all items.", ge=1)]


def rkmeans(
    vectors: np.ndarray,
    codebook_num: int,
    codebook_size: int,
    *,
    seed: int = 2020,
    normalise_residual: Annotated[
        bool, Field(description="Scale what each level quantises to unit length first, as GRID does.")
    ] = True,
    kmeans_iterations: KMeansIterations = 20,
    kmeans_balanced: Annotated[
        bool, Field(description="At every level, no code gets more than its even share of the items, rounded up.")
    ] = False,
) -> Quantised:
    """Quantise vectors level by level: each level clusters the residual of the levels before it.

    Args:
        vectors: float32 ``[n, d]``, one row per item, no padding row. A memory map is read in chunks and one copy of it
            is held, the residual.
        codebook_num: number of levels L.
        codebook_size: codes per level W.
        seed: seed of the k-means++ initialisation; level l uses ``seed + l``.
        normalise_residual: scale each residual to unit length before clustering it, as GRID does.
        kmeans_iterations: Lloyd iterations over all points.
        kmeans_balanced: at every level, no code gets more than its even share of the items, rounded up; an item whose
            nearest code is full gets the next.
    """
    residual = copy_in_chunks(vectors)
    codes, codebooks = np.empty((len(residual), codebook_num), dtype=np.int32), []
    for level in range(codebook_num):
        if normalise_residual:
            faiss_library().normalize_L2(residual)
        codebook, codes[:, level] = kmeans(residual, codebook_size, kmeans_iterations, seed + level)
        if kmeans_balanced:
            codes[:, level] = balanced_codes(residual, codebook)
            codebook = _means(residual, codes[:, level], codebook)
        codebooks.append(codebook)
        if level + 1 < codebook_num:
            _subtract(residual, codebook, codes[:, level])
    return Quantised(codes, residual, codebooks, fitted={"codebooks": np.stack(codebooks)})


def encode_rkmeans(vectors: np.ndarray, fitted: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Quantised:
    """Codes of other items by the codebooks of :func:`rkmeans`.

    Raises:
        SettingError: with ``kmeans_balanced``.
    """
    if settings["kmeans_balanced"]:
        raise SettingError(
            "kmeans_balanced", True, "which code an item gets depends on all the others; new ones cannot get any"
        )
    residual, codebooks = copy_in_chunks(vectors), list(fitted["codebooks"])
    codes = np.empty((len(residual), len(codebooks)), dtype=np.int32)
    faiss = faiss_library()
    for level, codebook in enumerate(codebooks):
        if settings["normalise_residual"]:
            faiss.normalize_L2(residual)
        nearest = faiss.IndexFlatL2(residual.shape[1])
        nearest.add(np.ascontiguousarray(codebook))
        codes[:, level] = nearest.search(residual, 1)[1][:, 0]
        if level + 1 < len(codebooks):
            _subtract(residual, codebook, codes[:, level])
    return Quantised(codes, residual, codebooks)


def kmeans(points: np.ndarray, n_clusters: int, iterations: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Lloyd's k-means over all points, initialised by k-means++ on a seeded sample of them.

    Args:
        points: float32 ``[n, d]``, C-contiguous.
        n_clusters: at most n.
        iterations: Lloyd iterations.
        seed: of the sample and of k-means++.

    Returns:
        Centroids float32 ``[n_clusters, d]``; the nearest one of each point, int64 ``[n]``.
    """
    faiss = faiss_library()
    plus_plus = faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS
    options = {"seed": seed % (1 << 31), "min_points_per_centroid": 1, "max_points_per_centroid": len(points)}
    initial = None
    if len(points) > SEEDING_POINTS * n_clusters:
        chosen = np.random.default_rng(seed).choice(len(points), SEEDING_POINTS * n_clusters, replace=False)
        seeding = faiss.Kmeans(points.shape[1], n_clusters, niter=1, init_method=plus_plus, **options)
        seeding.train(points[np.sort(chosen)])
        initial = seeding.centroids
    clustering = faiss.Kmeans(points.shape[1], n_clusters, niter=iterations, init_method=plus_plus, **options)
    clustering.train(points, init_centroids=initial)
    return clustering.centroids, clustering.assign(points)[1]


def faiss_library() -> Any:
    """The module faiss, with as many threads as torch has; imported here, so that settings are read without both."""
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # it lists the builds that the processor cannot run
    import faiss
    import torch

    faiss.omp_set_num_threads(torch.get_num_threads())
    return faiss


def _subtract(residual: np.ndarray, codebook: np.ndarray, codes: np.ndarray) -> None:
    for rows, chunk in chunks(residual):
        chunk -= codebook[codes[rows]]


def balanced_codes(residual: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """The nearest code of each point, of those that have room: none gets more than its even share, rounded up.

    Args:
        residual: float32 ``[n, d]``.
        codebook: float32 ``[k, d]``.

    Returns:
        numpy.ndarray: int64 ``[n]``.
    """
    costs = np.empty((len(residual), len(codebook)), dtype=np.float32)
    lengths = (codebook**2).sum(axis=1)
    for rows, chunk in chunks(residual):
        costs[rows] = (chunk**2).sum(axis=1, keepdims=True) + lengths - 2 * chunk @ codebook.T
    return match(costs, np.zeros(len(residual), dtype=np.int64), capacity=-(-len(residual) // len(codebook)))


def _means(residual: np.ndarray, codes: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """The mean of each code's points; the centroid as it was for a code without points."""
    order = np.argsort(codes, kind="stable")
    used, first = np.unique(codes[order], return_index=True)
    means = codebook.copy()
    for code, rows in zip(used, np.split(order, first[1:]), strict=True):
        means[code] = residual[rows].mean(axis=0)
    return means


TOKENIZERS = {"rkmeans": rkmeans}
ENCODERS = {"rkmeans": encode_rkmeans}
