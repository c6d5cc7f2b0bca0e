"""Product quantisation and the controls. References: faiss used directly, numpy, plain loops, scipy, scikit-learn."""

import itertools
from functools import partial

import faiss
import numpy as np
import pytest
from scipy.stats import chisquare, ortho_group
from sklearn.cluster import KMeans

from recbole_gr.tokenizers.families.baselines import lsh, random
from recbole_gr.tokenizers.families.product import opq, pq
from recbole_gr.tokenizers.measures import reconstruct
from recbole_gr.utils.errors import SettingError


def normal(n=1500, d=32, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def correlated(n=1500, d=32, seed=0):
    """Nearly all variance is along few directions, which lie across the parts."""
    scale = 2.0 ** -np.arange(d)[:, None] * 8
    return (normal(n, d, seed) @ (scale * ortho_group.rvs(d, random_state=seed))).astype(np.float32)


def parts_of(points, m):
    return np.split(points, m, axis=1)


def decoded(made):
    return np.concatenate([codebook[codes] for codebook, codes in zip(made.codebooks, made.codes.T)], axis=1)


@pytest.mark.parametrize("m, size", [(4, 16), (16, 8), (32, 2), (2, 512), (1, 64), (8, 256), (4, 1024)])
def test_each_code_is_the_nearest_centroid_of_its_part(m, size):
    """Among them sizes of less than a byte, of a byte, and of more."""
    rows = normal()
    made = pq(rows, m, size, seed=0, kmeans_iterations=5)
    assert made.codes.shape == (1500, m) and made.codes.dtype == np.int32
    assert [codebook.shape for codebook in made.codebooks] == [(size, 32 // m)] * m
    for part, codes, codebook in zip(parts_of(rows, m), made.codes.T, made.codebooks):
        distance = ((part[:, None].astype(np.float64) - codebook) ** 2).sum(axis=2)
        chosen = distance[np.arange(1500), codes]
        np.testing.assert_allclose(chosen, distance.min(axis=1), atol=1e-4)
        assert (codes == distance.argmin(axis=1)).mean() > 0.998  # but for ties within rounding
    np.testing.assert_array_equal(made.last_residual, parts_of(rows, m)[-1])


@pytest.mark.parametrize("m, size", [(4, 256), (16, 256), (32, 256)])
def test_codes_and_reconstruction_are_those_of_faiss(m, size):
    """Codes of a byte, which faiss does not pack."""
    rows = normal()
    made = pq(rows, m, size, seed=7, kmeans_iterations=6)
    theirs = faiss.ProductQuantizer(32, m, 8)
    theirs.cp.seed, theirs.cp.niter = 7, 6
    theirs.cp.min_points_per_centroid, theirs.cp.max_points_per_centroid = 1, 10**6
    theirs.train(rows)
    codes = theirs.compute_codes(rows)
    assert made.codes.tolist() == codes.tolist()
    np.testing.assert_array_equal(decoded(made), theirs.decode(codes))


@pytest.mark.parametrize("size", [2, 16, 512, 4096])
def test_codes_of_any_number_of_bits_are_unpacked(size):
    """As many distinct rows as codes, so that each has a centroid of its own and is decoded to itself."""
    values = np.arange(size, dtype=np.float32)
    rows = np.stack([values, values[::-1], (values * 5 + 1) % size], axis=1)
    made = pq(np.ascontiguousarray(rows), 3, size, seed=0)
    assert [sorted(codes.tolist()) for codes in made.codes.T] == [list(range(size))] * 3
    np.testing.assert_array_equal(decoded(made), rows)


def test_a_part_clusters_as_well_as_scikit_learn():
    rows = normal()
    made = pq(rows, 4, 16, seed=0, kmeans_iterations=30)
    for part, codes, codebook in zip(parts_of(rows, 4), made.codes.T, made.codebooks):
        ours = ((part - codebook[codes]) ** 2).sum()
        assert ours < 1.03 * KMeans(16, n_init=1, max_iter=30, random_state=0).fit(part).inertia_


def test_more_iterations_lose_less():
    rows = normal()
    errors = [((rows - decoded(pq(rows, 8, 64, seed=0, kmeans_iterations=n))) ** 2).sum() for n in (1, 5, 25)]
    assert errors[0] > errors[1] > errors[2]


def test_all_points_are_taken():
    """faiss alone takes 256 points per centroid; two rare clusters are found only by who looks at all."""
    rows = np.zeros((5000, 2), np.float32)
    rows[:2, 0], rows[2:4, 1] = 1000, 1000
    made = pq(rows, 2, 2, seed=0)
    assert sorted(made.codebooks[0][:, 0].tolist()) == sorted(made.codebooks[1][:, 0].tolist()) == [0.0, 1000.0]
    np.testing.assert_array_equal(decoded(made), rows)


@pytest.mark.parametrize("quantise", [pq, partial(opq, opq_iterations=2)])
def test_of_many_vectors_a_sample_fits_the_codebooks_and_all_get_codes(quantise):
    rows = np.random.default_rng(0).normal(size=(70_000, 4)).astype(np.float32)
    sample = np.sort(np.random.default_rng(5).choice(70_000, 65_536, replace=False))
    made, fitted = (quantise(some, 2, 16, seed=5, kmeans_iterations=3) for some in (rows, rows[sample]))
    for name, values in fitted.fitted.items():
        np.testing.assert_array_equal(made.fitted[name], values)
    turned = parts_of(rows @ made.fitted.get("rotation", np.eye(4, dtype=np.float32)).T, 2)
    for part, codebook, codes in zip(turned, made.codebooks, made.codes.T, strict=True):
        distances = ((part[:, None] - codebook) ** 2).sum(axis=2)
        chosen = distances[np.arange(70_000), codes]
        np.testing.assert_allclose(chosen, distances.min(axis=1), atol=1e-4)


@pytest.mark.parametrize("m, bits", [(4, 4), (8, 6), (16, 2)])
def test_opq_is_the_product_quantisation_of_rows_turned_by_faiss_and_loses_less(m, bits):
    """Parts of these rows are correlated, which is what the rotation is for."""
    rows = correlated()
    settings = {"seed": 3, "kmeans_iterations": 8}
    made = opq(rows, m, 2**bits, opq_iterations=5, **settings)
    rotation, parts = faiss.OPQMatrix(32, m), faiss.ProductQuantizer(32, m, bits)
    parts.cp.seed, rotation.niter, rotation.pq = 3, 5, parts
    rotation.train(rows)
    matrix = faiss.vector_to_array(rotation.A).reshape(32, 32)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(32), atol=1e-4)
    turned = rotation.apply(rows)
    np.testing.assert_array_equal(made.codes, pq(turned, m, 2**bits, **settings).codes)
    np.testing.assert_array_equal(made.last_residual, parts_of(turned, m)[-1])
    plain = pq(rows, m, 2**bits, **settings)
    errors = [((rows - found) ** 2).sum() for found in (rotation.reverse_transform(decoded(made)), decoded(plain))]
    assert errors[0] < 0.9 * errors[1]


def test_levels_of_more_parts_reconstruct_better():
    rows = normal()
    for quantise in (pq, opq):
        errors = [reconstruct(quantise(rows, m, 16, seed=0).codes, rows)[0][-1] for m in (2, 8)]
        assert errors[1] < errors[0] < 1


@pytest.mark.parametrize("quantise", [pq, opq])
@pytest.mark.parametrize(
    "m, size, key", [(5, 16, "codebook_num"), (64, 16, "codebook_num"), (4, 24, "codebook_size"), (4, 1, "codebook_size")]
)
def test_parts_and_sizes_that_do_not_work(quantise, m, size, key):
    with pytest.raises(SettingError) as raised:
        quantise(normal(100), m, size)
    assert raised.value.key == key


@pytest.mark.parametrize("quantise", [pq, opq, lsh, random])
def test_the_vectors_are_left_as_they_are(quantise):
    rows = normal(300)
    quantise(rows, 4, 16)
    assert (rows == normal(300)).all()


# --- random


def test_random_codes_are_even_and_independent():
    """The pairs of codes of two levels are even too."""
    codes = random(np.empty((20_000, 1)), 3, 16, seed=0).codes
    assert codes.shape == (20_000, 3) and codes.dtype == np.int32
    for level in codes.T:
        assert chisquare(np.bincount(level, minlength=16)).pvalue > 0.01
    for first, second in itertools.combinations(codes.T, 2):
        assert chisquare(np.bincount(16 * first + second, minlength=256)).pvalue > 0.01
    assert chisquare(np.bincount(16 * codes[:-1, 0] + codes[1:, 0], minlength=256)).pvalue > 0.01  # from item to item


def test_random_codes_need_no_power_of_two_and_have_no_geometry():
    made = random(np.empty((5000, 1)), 2, 7, seed=0)
    assert sorted(set(made.codes.ravel().tolist())) == list(range(7))
    assert made.last_residual is None and made.codebooks is None
    assert (made.last_distances(np.arange(3), 7) == 0).all()


# --- lsh


def test_lsh_by_a_plain_loop():
    rows, levels, planes = normal(60, 6), 3, 4
    made = lsh(rows, levels, 2**planes, seed=5)
    normals = np.random.default_rng(5).normal(size=(6, levels * planes))
    for item, row in enumerate(rows):
        for level in range(levels):
            code = 0
            for plane in range(planes):
                side = float(row @ normals[:, level * planes + plane])
                code += 2**plane if side > 0 else 0
            assert made.codes[item, level] == code


def test_the_codebook_of_lsh_has_the_corner_on_the_side_of_every_plane():
    rows = normal(200, 6)
    made = lsh(rows, 2, 8, seed=5)
    assert sorted(map(tuple, made.codebooks[-1].tolist())) == sorted(itertools.product([-1.0, 1.0], repeat=3))
    own = made.codebooks[-1][made.codes[:, -1]]
    np.testing.assert_array_equal(own, np.sign(made.last_residual))
    distance = made.last_distances(np.arange(200), 8)
    assert (distance.argmin(axis=1) == made.codes[:, -1]).all()


def test_planes_part_vectors_as_often_as_their_angle_says():
    """Goemans and Williamson: a random plane parts two vectors with probability angle / pi."""
    rng = np.random.default_rng(0)
    first = np.zeros(8)
    first[0] = 1
    for angle in (0.2, 1.0, 2.5):
        second = np.zeros(8)
        second[:2] = np.cos(angle), np.sin(angle)
        rows = np.stack([first, rng.uniform(0.5, 9) * second]).astype(np.float32)  # the length does not count
        codes = lsh(rows, 4000, 2, seed=1).codes
        assert (codes[0] != codes[1]).mean() == pytest.approx(angle / np.pi, abs=0.025)


def test_near_vectors_share_more_codes():
    rows = normal(400, 16)
    near, far = rows + 0.2 * normal(400, 16, seed=1), normal(400, 16, seed=2)
    codes = lsh(np.concatenate([rows, near, far]), 8, 16, seed=0).codes
    shared = [(codes[:400] == codes[start : start + 400]).mean() for start in (400, 800)]
    assert shared[0] > 0.6 and shared[1] == pytest.approx(1 / 16, abs=0.02)


def test_opq_of_fewer_items_than_dimensions():
    """faiss alone writes beyond a buffer here, and the process dies of it sooner or later."""
    rows = np.random.default_rng(0).normal(size=(9, 64)).astype(np.float32)
    made = opq(rows, 2, 8, seed=0)
    assert made.codes.shape == (9, 2) and made.last_residual.shape == (9, 32)
