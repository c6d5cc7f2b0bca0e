"""RK-Means: residual quantisation by one k-means per level (GRID, arXiv 2507.22224, section 3)."""

import logging

import numpy as np
import torch

from recbole_gr.utils.memory import copy_in_pieces, pieces
from recbole_gr.tokenizers.matching import match
from recbole_gr.tokenizers.quantised import Quantised

#: k-means++ draws the first centroids from at most this many points per code; every iteration then takes all points.
SEEDING_POINTS = 256


def rkmeans(
    vectors, codebook_num, codebook_size, *, seed=2020, normalise_residual=True, kmeans_iterations=20, kmeans_balanced=False
):
    """Quantise vectors level by level: each level clusters what the levels before it left over.

    Args:
        vectors (np.ndarray): float32 ``[n, d]``, one row per item, no padding row. A memory map is read in pieces and
            one copy of it is held, the residual.
        codebook_num (int): number of levels L.
        codebook_size (int): codes per level W.
        seed (int): seed of the k-means++ initialisation; level l uses ``seed + l``.
        normalise_residual (bool): scale each residual to unit length before clustering it, as GRID does.
        kmeans_iterations (int): Lloyd iterations over all points.
        kmeans_balanced (bool): at every level, no code gets more than its even share of the items, rounded up; an item that
            its nearest code has no room for goes to the next.

    Returns:
        Quantised
    """
    residual = copy_in_pieces(vectors)
    codes, codebooks = np.empty((len(residual), codebook_num), dtype=np.int32), []
    for level in range(codebook_num):
        if normalise_residual:
            faiss_library().normalize_L2(residual)
        codebook, codes[:, level] = kmeans(residual, codebook_size, kmeans_iterations, seed + level)
        if kmeans_balanced:
            codes[:, level] = _balanced_codes(residual, codebook)
            codebook = _means(residual, codes[:, level], codebook)
        codebooks.append(codebook)
        if level + 1 < codebook_num:
            _subtract(residual, codebook, codes[:, level])
    return Quantised(codes, residual, codebooks)


def kmeans(points, n_clusters, iterations, seed):
    """Lloyd's k-means over all points, begun by k-means++ on a seeded sample of them.

    Args:
        points (np.ndarray): float32 ``[n, d]``, C-contiguous.
        n_clusters (int): at most n.

    Returns:
        tuple: centroids float32 ``[n_clusters, d]``; the nearest one of each point, int64 ``[n]``.
    """
    faiss = faiss_library()
    plus_plus = faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS
    options = {"seed": seed % (1 << 31), "min_points_per_centroid": 1, "max_points_per_centroid": len(points)}
    beginning = None
    if len(points) > SEEDING_POINTS * n_clusters:
        chosen = np.random.default_rng(seed).choice(len(points), SEEDING_POINTS * n_clusters, replace=False)
        seeding = faiss.Kmeans(points.shape[1], n_clusters, niter=1, init_method=plus_plus, **options)
        seeding.train(points[np.sort(chosen)])
        beginning = seeding.centroids
    clustering = faiss.Kmeans(points.shape[1], n_clusters, niter=iterations, init_method=plus_plus, **options)
    clustering.train(points, init_centroids=beginning)
    return clustering.centroids, clustering.assign(points)[1]


def faiss_library():
    """faiss, with as many threads as torch has."""
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # it tells which of its builds the processor cannot run
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    return faiss


def _subtract(residual, codebook, codes):
    for rows, part in pieces(residual):
        part -= codebook[codes[rows]]


def _balanced_codes(residual, codebook):
    costs = np.empty((len(residual), len(codebook)), dtype=np.float32)
    lengths = (codebook**2).sum(axis=1)
    for rows, part in pieces(residual):
        costs[rows] = (part**2).sum(axis=1, keepdims=True) + lengths - 2 * part @ codebook.T
    return match(costs, np.zeros(len(residual), dtype=np.int64), capacity=-(-len(residual) // len(codebook)))


def _means(residual, codes, codebook):
    """The mean of each code's points; the centroid as it was for a code without points."""
    order = np.argsort(codes, kind="stable")
    used, first = np.unique(codes[order], return_index=True)
    means = codebook.copy()
    for code, rows in zip(used, np.split(order, first[1:])):
        means[code] = residual[rows].mean(axis=0)
    return means
