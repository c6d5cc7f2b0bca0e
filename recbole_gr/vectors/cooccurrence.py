"""Item vectors from which items follow each other: a truncated SVD of their positive pointwise mutual information.

Levy and Goldberg, "Neural Word Embedding as Implicit Matrix Factorization" (NIPS 2014): what word2vec factorises, with items for
words and histories for sentences. Two items are a pair where at most ``window`` steps lie between them in a history, and count
the less the more steps there are. Sparse from end to end: time and memory grow with the interactions times the window.
"""

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from sklearn.utils.extmath import randomized_svd

#: Levy, Goldberg and Dagan, TACL 2015: how often a context occurs is smoothed, or the PMI of rare items is too large.
_CONTEXT_SMOOTHING = 0.75


def cooccurrence_vectors(
    items: np.ndarray, first: np.ndarray, n_items: int, *, dimension: int, window: int, shift: float, seed: int
) -> np.ndarray:
    """One vector per item; items that occur near the same items are close together by cosine.

    Args:
        items: int64 ``[interactions]``, the histories one after the other, each in the order of time.
        first: int64 ``[users + 1]``, where each history begins; the last entry is the number of interactions.
        n_items: items are numbered from 0 to ``n_items - 1``.
        dimension: of the vectors, at most ``n_items``.
        window: the most steps from an item to another that makes a pair with it.
        shift: what word2vec calls the number of negative samples; its logarithm is taken off the PMI, what is left below 0 is 0.
        seed: of the randomised SVD.

    Returns:
        float32 ``[n_items, dimension]``: the rows of the matrix on its first singular directions. Zeros for an item that has no pair
        with more than the shift.
    """
    matrix = positive_pmi(_pair_counts(items, first, n_items, window), shift)
    left, singular, _ = randomized_svd(matrix, dimension, n_iter=7, random_state=np.random.RandomState(seed))
    vectors = (left * singular).astype(np.float32)
    vectors[np.diff(matrix.indptr) == 0] = 0  # not the SVD's rounding errors, which would have a direction
    return vectors


def _pair_counts(items: np.ndarray, first: np.ndarray, n_items: int, window: int) -> csr_matrix:
    """How often two items are a pair, in either order, each time ``1 / steps``: symmetric, float64 ``[n_items, n_items]``."""
    user = np.repeat(np.arange(len(first) - 1), np.diff(first))
    counts = csr_matrix((n_items, n_items))
    for steps in range(1, min(window, int(np.diff(first).max(initial=1)) - 1) + 1):
        same_user = user[steps:] == user[:-steps]
        pair = items[:-steps][same_user], items[steps:][same_user]
        counts = counts + coo_matrix((np.full(len(pair[0]), 1 / steps), pair), (n_items, n_items)).tocsr()
    return (counts + counts.T).tocsr()


def positive_pmi(counts: csr_matrix, shift: float) -> csr_matrix:
    """``max(0, log(p(i, j) / (p(i) p(j))) - log(shift))`` where there are counts, sparse as they are.

    Args:
        counts: symmetric, float64 ``[n_items, n_items]``.
        shift: see :func:`cooccurrence_vectors`.

    Returns:
        float64 ``[n_items, n_items]``, without stored zeros.
    """
    pairs = counts.tocoo()
    of_item = np.asarray(counts.sum(axis=1)).ravel()
    of_context = of_item**_CONTEXT_SMOOTHING
    pmi = np.log(pairs.data * of_context.sum() / (of_item[pairs.row] * of_context[pairs.col])) - np.log(shift)
    kept = pmi > 0
    return csr_matrix((pmi[kept], (pairs.row[kept], pairs.col[kept])), counts.shape)
