"""RK-Means: residual quantisation by one k-means per level (GRID, arXiv 2507.22224, section 3)."""

import logging

import numpy as np

from recbole_gr.errors import SettingError


def rkmeans(
    vectors, codebook_num=3, codebook_size=256, normalise_residual=True, iterations=20, seed=2020, threads=None
):
    """Quantise vectors level by level: each level clusters what the levels before it left over.

    Args:
        vectors (np.ndarray): float32 ``[n, d]``, one row per item, no padding row.
        codebook_num (int): number of levels L.
        codebook_size (int): codes per level W.
        normalise_residual (bool): scale each residual to unit length before clustering it, as GRID does.
        iterations (int): Lloyd iterations over all points.
        seed (int): seed of the k-means++ initialisation; level l uses ``seed + l``.
        threads (int): OpenMP threads for faiss; ``None`` leaves faiss as it is.

    Returns:
        tuple: codes, int32 ``[n, L]``; the codebooks, float32 ``[L, W, d]``, which add up to the reconstruction
        when ``normalise_residual`` is off.

    Raises:
        SettingError: ``codebook_size`` is larger than the number of items.
    """
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # it tells which of its builds the processor cannot run
    import faiss

    if codebook_size > len(vectors):
        raise SettingError("codebook_size", codebook_size, f"must be at most the number of items, {len(vectors)}")
    if threads:
        faiss.omp_set_num_threads(threads)
    residual = np.array(vectors, dtype=np.float32, order="C")
    codes = np.empty((len(residual), codebook_num), dtype=np.int32)
    codebooks = np.empty((codebook_num, codebook_size, residual.shape[1]), dtype=np.float32)
    for level in range(codebook_num):
        if normalise_residual:
            faiss.normalize_L2(residual)
        clustering = faiss.Kmeans(
            residual.shape[1],
            codebook_size,
            niter=iterations,
            seed=seed + level,
            init_method=faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS,
            min_points_per_centroid=1,
            max_points_per_centroid=len(residual),
        )
        clustering.train(residual)
        codes[:, level] = clustering.assign(residual)[1]
        codebooks[level] = clustering.centroids
        residual -= codebooks[level][codes[:, level]]
    return codes, codebooks
