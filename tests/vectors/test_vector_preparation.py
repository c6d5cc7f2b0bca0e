"""Vectors joined by weight, cut to their principal axes and whitened; numpy and scikit-learn are the references."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from recbole_gr.utils import arrays
from recbole_gr.utils.errors import SettingError
from recbole_gr.vectors.preparation import centred, join_vectors, reduce_vectors


def with_padding(rows):
    return np.vstack([np.zeros(len(rows[0])), rows]).astype(np.float32)


def correlated(items=200, dimension=6, rank=6, seed=0):
    """Items far from the origin, whose columns depend on each other."""
    draw = np.random.default_rng(seed)
    rows = draw.normal(size=(items, rank)) * 3.0 ** -np.arange(rank) @ draw.normal(size=(rank, dimension))
    return with_padding(rows + 100)


@pytest.fixture(params=[7, arrays.ROWS_AT_ONCE])
def piece(request, monkeypatch):
    """Pieces that do not fit, and one for all."""
    monkeypatch.setattr(arrays.chunks, "__defaults__", (request.param,))


# Joining


def test_join_by_hand():
    text = with_padding([[3, 4], [0, 0], [0, 2]])
    cf = with_padding([[0, 5, 0], [1, 2, 2], [0, 0, 0]])
    expected = [[0, 0, 0, 0, 0], [1.2, 1.6, 0, 3, 0], [0, 0, 1, 2, 2], [0, 2, 0, 0, 0]]
    joined = join_vectors([text, cf], [2.0, 3.0])
    assert joined.dtype == np.float32
    np.testing.assert_allclose(joined, expected, atol=1e-6)


def test_squared_distances_are_the_weighted_sum_of_those_of_the_parts(piece):
    draw = np.random.default_rng(1)
    parts = [with_padding(scale * draw.normal(size=(30, size))) for scale, size in ((1, 4), (1e30, 9), (1e-30, 3))]
    weights = [1.0, 0.5, 2.0]
    joined = join_vectors(parts, weights)

    def squared_distances(rows):
        return ((rows[:, None] - rows[None, :]) ** 2).sum(axis=2)

    expected = 0
    for part, weight in zip(parts, weights):
        rows = part[1:].astype(np.float64)
        expected += weight**2 * squared_distances(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    np.testing.assert_allclose(squared_distances(joined[1:]), expected, atol=1e-5)


# Principal axes


def test_neither_is_asked_for():
    vectors = correlated()
    assert reduce_vectors(vectors) is vectors


@pytest.mark.parametrize("dimension", [1, 3, 6])
@pytest.mark.parametrize("whiten", [False, True])
def test_pca_is_scikit_learns(piece, dimension, whiten):
    vectors = correlated()
    reduced = reduce_vectors(vectors, dimension, whiten)
    assert reduced.shape == (201, dimension) and reduced.dtype == np.float32 and not reduced[0].any()
    reference = PCA(dimension, whiten=whiten, svd_solver="full").fit_transform(vectors[1:].astype(np.float64))
    signs = np.sign((reduced[1:] * reference).sum(axis=0))  # an axis has no direction
    np.testing.assert_allclose(reduced[1:], reference * signs, atol=2e-4)


def test_all_axes_keep_all_distances(piece):
    vectors = correlated()
    reduced = reduce_vectors(vectors, 6)
    before, after = (np.linalg.norm(v[1:, None] - v[None, 1:], axis=2) for v in (vectors.astype(float), reduced))
    np.testing.assert_allclose(after, before, atol=1e-4)


def test_whitened_covariance_is_the_identity():
    whitened = reduce_vectors(correlated(), whiten=True)[1:].astype(np.float64)
    np.testing.assert_allclose(np.cov(whitened, rowvar=False), np.eye(6), atol=1e-4)
    np.testing.assert_allclose(whitened.mean(axis=0), 0, atol=1e-5)


@pytest.mark.parametrize("items, dimension, rank", [(200, 40, 4), (5, 40, 40)])
def test_whitening_keeps_the_axes_that_vary(items, dimension, rank):
    """Columns that depend on each other, or fewer items than columns: the rest is rounding, and stays out."""
    vectors = correlated(items, dimension, rank)
    centred = vectors[1:] - vectors[1:].mean(axis=0, dtype=np.float64)
    singular = np.linalg.svd(centred, compute_uv=False)
    varying = min(rank, items - 1)
    assert (singular > 1e-4 * singular[0]).sum() == varying
    whitened = reduce_vectors(vectors, whiten=True)
    assert whitened.shape == (items + 1, varying)
    np.testing.assert_allclose(np.cov(whitened[1:], rowvar=False), np.eye(varying), atol=1e-3)
    message = f"the vectors vary along {varying} axes only, and whitening divides by that"
    with pytest.raises(SettingError, match=f"^pca_dimension={varying + 1}: {message}$"):
        reduce_vectors(vectors, varying + 1, whiten=True)


def test_the_vectors_do_not_depend_on_the_chunks(monkeypatch):
    vectors = correlated()
    whole = reduce_vectors(vectors, 3)
    monkeypatch.setattr(arrays.chunks, "__defaults__", (13,))
    np.testing.assert_allclose(reduce_vectors(vectors, 3), whole, atol=1e-5)


def test_what_cannot_be_reduced():
    with pytest.raises(SettingError, match="^pca_dimension=7: must be at most 6, the dimension of the vectors$"):
        reduce_vectors(correlated(), 7)
    with pytest.raises(SettingError, match="^pca_dimension=6: must be at most 5, the number of items$"):
        reduce_vectors(correlated(items=5), 6)
    for vectors in (with_padding([[1, 2]]), with_padding([[1, 2]] * 4)):
        with pytest.raises(SettingError, match="^whiten=True: the vectors vary along 0 axes only"):
            reduce_vectors(vectors, whiten=True)


def test_centred_vectors_have_no_mean_and_items_without_stay_zeros():
    rows = np.random.default_rng(0).normal(5, 2, (9, 4)).astype(np.float32)
    rows[[0, 3]] = 0
    known = np.array([1, 2, 4, 5, 6, 7, 8])
    found = centred(rows)
    np.testing.assert_allclose(found[known], rows[known] - rows[known].mean(axis=0), atol=1e-6)
    assert not found[[0, 3]].any() and found.dtype == np.float32
