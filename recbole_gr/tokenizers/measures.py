"""Measures of semantic IDs, before a model is trained on them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from tabulate import tabulate

from recbole_gr.tokenizers.families.rkmeans import faiss_library
from recbole_gr.tokenizers.semantic_ids import SemanticIDs, number_groups

#: What is measured on vectors is measured on at most this many items, drawn by a fixed seed.
SAMPLED_ITEMS, SAMPLED_QUERIES, SAMPLED_PAIRS = 100_000, 2_000, 50_000
NEIGHBOURS = 10
SEED = 2020


def diagnose(ids: SemanticIDs, vectors: np.ndarray | None = None, categories: Sequence[str] | None = None) -> dict[str, Any]:
    """All measures that can be taken.

    Args:
        ids: the codes.
        vectors: float32 ``[n_items, d]``, what was quantised; None: those measures are left out.
        categories: ``[n_items]``, the category of each item, "" where it is unknown; None: left out.

    Returns:
        dict: plain json values; those of :meth:`SemanticIDs.statistics`, :func:`compare_with_vectors` and
        :func:`agreement_with_categories`; and where the source has them, ``unique_share_quantised`` and
        ``largest_collision_quantised``, from before collisions were resolved, and ``collapsed_levels``.
    """
    measures = ids.statistics()
    of_tokenizer = ("unique_share_quantised", "largest_collision_quantised", "collapsed_levels")
    measures.update({name: ids.source[name] for name in of_tokenizer if name in ids.source})
    codes = ids.codes[1:, : quantised_levels(ids)]
    if vectors is not None:
        measures.update(compare_with_vectors(codes, vectors[1:]))
    if categories is not None:
        measures.update(agreement_with_categories(codes, np.asarray(categories, dtype=object)[1:]))
    return measures


def quantised_levels(ids: SemanticIDs) -> int:
    """The number of levels that the tokenizer made; an appended digit is left out."""
    return ids.n_levels - (ids.collision == "digit")


def compare_with_vectors(codes: np.ndarray, vectors: np.ndarray) -> dict[str, Any]:
    """How well the codes represent the vectors, of which only the direction counts, as for cosine similarity.

    Vectors of zeros are left out, and of more than :data:`SAMPLED_ITEMS` items that many are drawn.

    Args:
        codes: int ``[n, L]``; an appended digit left out.
        vectors: float32 ``[n, d]``.

    Returns:
        dict: ``items_compared``; per level ``reconstruction_error`` and ``reconstruction_cosine`` (:func:`reconstruct`)
        and ``neighbours_sharing_prefix``, the share of an item's :data:`NEIGHBOURS` nearest that begin with the same
        codes; ``distance_correlation``, Spearman's, over random pairs, of the distance of vectors with the number of
        levels from the first that differs (``prefix``) and with the number of levels that differ (``hamming``), None
        where all pairs have the same distance, of vectors or of codes. Empty if fewer than two vectors are left.
    """
    rng = np.random.default_rng(SEED)
    rows = np.sort(rng.choice(len(codes), min(len(codes), SAMPLED_ITEMS), replace=False))
    points = np.ascontiguousarray(vectors[rows], dtype=np.float32)
    known = points.any(axis=1)
    codes, points = codes[rows[known]], points[known]
    if len(points) < 2:
        return {}
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    error, cosine = reconstruct(codes, points)
    return {
        "items_compared": len(points),
        "reconstruction_error": error,
        "reconstruction_cosine": cosine,
        "neighbours_sharing_prefix": _neighbours_sharing_prefix(codes, points, rng),
        "distance_correlation": _distance_correlation(codes, points, rng),
    }


def reconstruct(codes: np.ndarray, points: np.ndarray) -> tuple[list[float], list[float]]:
    """Reconstruction error of codes, by one decoder for all kinds of tokenizers.

    A code stands for the mean residual of its items after the levels before it, one of the first level for the mean of its
    items; the sum over the levels is the reconstruction. For a residual quantiser that does not normalise, these are its
    own codebooks, except for the last step of its training. The decoders of RQ-VAE and OPQ may reconstruct better from their
    codes; PQ gains here, where a level may also help to reconstruct the other parts of a vector.

    Args:
        codes: int ``[n, L]``.
        points: float32 ``[n, d]``.

    Returns:
        tuple: per number of levels used, the squared error as a share of the points' variance, and the mean cosine of
        point and reconstruction; two lists of L numbers.
    """
    residual = points.copy()
    variance = float(((points - points.mean(axis=0)) ** 2).sum(dtype=np.float64))
    lengths = np.linalg.norm(points, axis=1)
    errors, cosines = [], []
    for level in codes.T:
        residual -= _means_by_code(level, residual)
        errors.append(round(float((residual**2).sum(dtype=np.float64)) / max(variance, 1e-12), 4))
        found = points - residual
        scale = np.maximum(np.linalg.norm(found, axis=1) * lengths, 1e-12)
        cosines.append(round(float(((found * points).sum(axis=1) / scale).mean()), 4))
    return errors, cosines


def _means_by_code(level: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """For every item the mean residual of the items with its code, float32 ``[n, d]``."""
    order = np.argsort(level, kind="stable")
    present, first, place = np.unique(level[order], return_index=True, return_inverse=True)
    sums = np.add.reduceat(residual[order], first, axis=0, dtype=np.float32)
    means = sums / np.bincount(place, minlength=len(present))[:, None]
    return means[np.searchsorted(present, level)].astype(np.float32)


def _neighbours_sharing_prefix(codes: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> list[float]:
    queries = rng.choice(len(points), min(len(points), SAMPLED_QUERIES), replace=False)
    n_neighbours = min(NEIGHBOURS, len(points) - 1)
    inner_product = faiss_library().METRIC_INNER_PRODUCT
    _, found = faiss_library().knn(points[queries], points, n_neighbours + 1, metric=inner_product)
    others = found != queries[:, None]
    others[others.all(axis=1), -1] = False  # the item itself is not among its nearest where more are just like it
    neighbours = found[others].reshape(len(queries), n_neighbours)
    same = (codes[queries][:, None] == codes[neighbours]).cumprod(axis=2)
    return [round(float(share), 4) for share in same.mean(axis=(0, 1))]


def _distance_correlation(codes: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> dict[str, float | None]:
    first, second = rng.integers(len(points), size=(2, SAMPLED_PAIRS))
    first, second = first[first != second], second[first != second]
    apart = np.linalg.norm(points[first] - points[second], axis=1)
    equal = codes[first] == codes[second]
    code_distances = {"prefix": (1 - equal.cumprod(axis=1)).sum(axis=1), "hamming": (~equal).sum(axis=1)}
    return {
        name: None if np.ptp(distance) == 0 or np.ptp(apart) == 0 else round(float(spearmanr(apart, distance).statistic), 4)
        for name, distance in code_distances.items()
    }


def agreement_with_categories(codes: np.ndarray, categories: np.ndarray) -> dict[str, Any]:
    """How well a prefix predicts the category.

    Args:
        codes: int ``[n, L]``.
        categories: str ``[n]``; items with "" are left out.

    Returns:
        dict: ``category_agreement``, per level the share of pairs of items with the same prefix that also have the same
        category, None where no two items share a prefix; ``category_agreement_by_chance``, that share of all pairs.
        Empty if fewer than two items have a category.
    """
    known = categories != ""
    if known.sum() < 2:
        return {}
    category = pd.factorize(categories[known])[0]
    agreement: list[float | None] = []
    for depth in range(1, codes.shape[1] + 1):
        prefix = number_groups(codes[known, :depth])
        pairs, same = _pairs(prefix), _pairs(number_groups(np.column_stack([prefix, category])))
        agreement.append(round(same / pairs, 4) if pairs else None)
    by_chance = round(_pairs(category) / _pairs(np.zeros(len(category), dtype=np.int64)), 4)
    return {"category_agreement": agreement, "category_agreement_by_chance": by_chance}


def _pairs(group: np.ndarray) -> float:
    """The number of pairs of items within groups."""
    sizes = np.bincount(group).astype(np.float64)
    return float((sizes * (sizes - 1) / 2).sum())


def describe(measures: dict[str, Any]) -> str:
    """The measures for the terminal: a row per level, between two lines of measures of all levels."""
    columns = {
        "codes": "codebook_sizes",
        "used": "codes_used",
        "perplexity": "perplexity",
        "reconstruction\nerror": "reconstruction_error",
        "\ncosine": "reconstruction_cosine",
        f"{NEIGHBOURS} neighbours\nwith its prefix": "neighbours_sharing_prefix",
        "same category\ngiven the prefix": "category_agreement",
    }
    columns = {head: measures[name] for head, name in columns.items() if measures.get(name)}
    rows = [
        [level, *(values[level] if level < len(values) else None for values in columns.values())]
        for level in range(measures["levels"])
    ]
    parts = (_first_line(measures), tabulate(rows, ["level", *columns], missingval="-"), _last_line(measures))
    return "\n".join(parts)


def _first_line(measures: dict[str, Any]) -> str:
    before = ""
    if "unique_share_quantised" in measures:
        share, largest = measures["unique_share_quantised"], measures["largest_collision_quantised"]
        before = f" (quantised: {share:.2%}, {largest})"
    return (
        f"Semantic IDs: {measures['items']:,} items, {measures['unique_share']:.2%} distinct, at most "
        f"{measures['largest_collision']} with one ID{before}; collision rule: {measures['collision']}"
    )


def _last_line(measures: dict[str, Any]) -> str:
    parts = [f"entropy of the first level: {measures['first_level_entropy']} bits"]
    if "category_agreement_by_chance" in measures:
        parts.append(f"same category by chance: {measures['category_agreement_by_chance']}")
    if "distance_correlation" in measures:
        by = ", ".join(f"{value} ({name})" for name, value in measures["distance_correlation"].items())
        parts.append(f"correlation of code and vector distance: {by}")
    if measures.get("collapsed_levels"):  # said here too, since kept codes are reused without the tokenizer's warning
        parts.append(f"COLLAPSED: level {', '.join(map(str, measures['collapsed_levels']))} uses too few of its codes")
    return "; ".join(parts)
