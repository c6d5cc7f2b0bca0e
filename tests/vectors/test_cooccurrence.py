"""Vectors from co-occurrence against plain loops over the histories and a dense SVD."""

import numpy as np

from recbole_gr.vectors.cooccurrence import cooccurrence_vectors


def random_histories(seed=0, n_items=12, users=15):
    generator = np.random.default_rng(seed)
    lengths = generator.integers(0, 9, users)  # some users have none or one
    items = np.minimum(generator.geometric(0.2, lengths.sum()) - 1, n_items - 1)
    return items.astype(np.int64), np.append(0, np.cumsum(lengths)), n_items


def counted_one_by_one(items, first, n_items, window):
    counts = np.zeros((n_items, n_items))
    for begin, end in zip(first, first[1:]):
        for here in range(begin, end):
            for there in range(begin, end):
                if 0 < abs(here - there) <= window:
                    counts[items[here], items[there]] += 1 / abs(here - there)
    return counts


def dense_ppmi(counts, shift):
    of_item, of_context = counts.sum(1), counts.sum(1) ** 0.75
    with np.errstate(divide="ignore", invalid="ignore"):
        pmi = np.log(counts * of_context.sum() / np.outer(of_item, of_context)) - np.log(shift)
    return np.where(counts > 0, np.maximum(pmi, 0), 0)


def test_vectors_have_the_products_of_the_rows_of_the_matrix():
    """With all dimensions nothing is lost: products of vectors are those of rows; with fewer, those of the truncated SVD."""
    items, first, n_items = random_histories()
    for window, shift in ((1, 1.0), (3, 1.0), (3, 1.5), (100, 1.0)):
        matrix = dense_ppmi(counted_one_by_one(items, first, n_items, window), shift)
        left, singular, _ = np.linalg.svd(matrix)
        for dimension in (n_items, 5):
            how = {"dimension": dimension, "window": window, "shift": shift, "seed": 1}
            vectors = cooccurrence_vectors(items, first, n_items, **how)
            truncated = left[:, :dimension] * singular[:dimension]
            assert vectors.shape == (n_items, dimension) and vectors.dtype == np.float32
            np.testing.assert_allclose(vectors @ vectors.T, truncated @ truncated.T, atol=1e-4)


def test_an_item_without_pairs_gets_zeros():
    items, first, n_items = random_histories()
    vectors = cooccurrence_vectors(items, first, n_items + 1, dimension=4, window=3, shift=1.0, seed=1)
    has_pairs = dense_ppmi(counted_one_by_one(items, first, n_items + 1, 3), 1.0).any(axis=1)
    assert (vectors.any(axis=1) == has_pairs).all() and not has_pairs[n_items]


def test_the_random_state_outside_is_neither_read_nor_moved():
    items, first, n_items = random_histories()
    how = {"dimension": 4, "window": 3, "shift": 1.0, "seed": 1}
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    one = cooccurrence_vectors(items, first, n_items, **how)
    assert (np.random.get_state()[1] == before).all()
    np.random.seed(5)
    assert (cooccurrence_vectors(items, first, n_items, **how) == one).all()
