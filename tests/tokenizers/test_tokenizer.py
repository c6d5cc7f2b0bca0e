"""From vectors to semantic IDs, and RK-Means. References: hand-worked examples, plain loops, numpy, scipy, scikit-learn."""

import inspect

import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.cluster import KMeans

from recbole_gr.settings.properties import properties_file, read_properties
from recbole_gr.tokenizers import SemanticIDs, all_settings, find_tokenizer, settings_of, tokenize, tokenizer_names
from recbole_gr.tokenizers.families.rkmeans import rkmeans
from recbole_gr.utils.errors import DataError, SettingError


def vectors(n=400, d=16, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def with_padding(rows):
    return np.concatenate([np.zeros((1, rows.shape[1]), dtype=rows.dtype), rows])


@pytest.mark.parametrize("normalise", [True, False])
def test_codes_are_the_nearest_centroids_of_the_residual(normalise):
    made = rkmeans(vectors(), 3, 8, normalise_residual=normalise, seed=0)
    residual = vectors()
    for level in range(3):
        residual = unit(residual) if normalise else residual
        distance = np.linalg.norm(residual[:, None] - made.codebooks[level][None], axis=2)
        chosen = distance[np.arange(len(residual)), made.codes[:, level]]
        np.testing.assert_allclose(chosen, distance.min(axis=1), atol=1e-4)
        if level == 2:
            np.testing.assert_allclose(made.last_residual, residual, atol=1e-5)
        residual = residual - made.codebooks[level][made.codes[:, level]]


def test_without_normalising_the_codebooks_add_up_to_the_vectors():
    rows = vectors()
    made = rkmeans(rows, 4, 16, normalise_residual=False, seed=0)
    parts = np.stack([made.codebooks[level][made.codes[:, level]] for level in range(4)])
    errors = [((rows - parts[:levels].sum(axis=0)) ** 2).sum() for levels in range(5)]
    assert all(after < before for before, after in zip(errors, errors[1:]))


def test_a_level_clusters_as_well_as_scikit_learn():
    rows = unit(vectors(1000))
    made = rkmeans(rows, 1, 20, kmeans_iterations=50, seed=0)
    ours = ((rows - made.codebooks[0][made.codes[:, 0]]) ** 2).sum()
    assert ours < 1.05 * KMeans(20, n_init=1, max_iter=50, random_state=0).fit(rows).inertia_


@pytest.mark.parametrize("n", [400, 20_000])
def test_planted_clusters_are_found(n):
    """Below and above the number of points from which k-means++ takes a sample."""
    rng = np.random.default_rng(0)
    cluster = rng.integers(0, 8, n)
    rows = (10 * np.eye(8, 16)[cluster] + 0.1 * rng.normal(size=(n, 16))).astype(np.float32)
    codes = rkmeans(rows, 1, 8, seed=0).codes
    assert len({(a, b) for a, b in zip(cluster, codes[:, 0])}) == 8


def test_balanced_codes_get_an_even_share_and_are_stable():
    """No item and code would both be better off with each other: the mark of what taking the nearest pair first gives."""
    rows = np.concatenate([vectors(150), 2 + 0.3 * vectors(250, seed=1)])
    made = rkmeans(rows, 1, 8, normalise_residual=False, kmeans_balanced=True, seed=0)
    assert np.bincount(made.codes[:, 0]).tolist() == [50] * 8
    free = rkmeans(rows, 1, 8, normalise_residual=False, seed=0)
    assert np.bincount(free.codes[:, 0]).max() > 100
    distance = np.linalg.norm(rows[:, None] - free.codebooks[0][None], axis=2)  # the balanced ones were cut from these
    own = distance[np.arange(400), made.codes[:, 0]]
    farthest = np.array([own[made.codes[:, 0] == code].max() for code in range(8)])
    envious = (distance < own[:, None] - 1e-3) & (distance < farthest - 1e-3)
    assert not envious.any()


def test_a_memory_map_gives_the_codes_of_the_array(tmp_path):
    np.save(tmp_path / "vectors.npy", with_padding(vectors(3000)))
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    again = tokenize(mapped, codebook_size=16, seed=0)
    assert (again.codes == tokenize(with_padding(vectors(3000)), codebook_size=16, seed=0).codes).all()
    assert (np.load(tmp_path / "vectors.npy") == with_padding(vectors(3000))).all()


@pytest.mark.parametrize("name", ["rkmeans", "rvq", "rqvae", "opq", "pq", "random", "lsh"])
def test_the_seed_decides(name):
    settings = {"tokenizer": name, "codebook_num": 2, "codebook_size": 16, "collision": "none"}
    settings.update({"tokenizer_steps": 5} if name in ("rvq", "rqvae") else {})
    first, again, other = (tokenize(with_padding(vectors()), seed=seed, **settings).codes for seed in (3, 3, 4))
    assert (first == again).all() and (first != other).any()
    assert first[1:].min() >= 0 and first.max() < 16


def test_tokenize_gives_every_item_an_id_of_its_own_or_not():
    rows = with_padding(np.repeat(vectors(50), 3, axis=0))
    alone = tokenize(rows, codebook_num=2, codebook_size=8, collision="digit", seed=0)
    shared = tokenize(rows, codebook_num=2, codebook_size=8, collision="none", seed=0)
    assert alone.statistics()["unique_share"] == 1.0 and alone.n_levels == 3
    assert shared.statistics()["largest_collision"] >= 3 and shared.n_levels == 2
    assert (alone.codes[0] == -1).all() and (alone.codes[1:, :2] == shared.codes[1:]).all()
    for key, statistic in (("unique_share_quantised", "unique_share"), ("largest_collision_quantised", "largest_collision")):
        assert alone.source[key] == shared.source[key] == shared.statistics()[statistic]


def test_a_collapsed_codebook_is_named(caplog):
    rows = with_padding(np.repeat(vectors(5), 20, axis=0))
    ids = tokenize(rows, tokenizer="lsh", codebook_num=2, codebook_size=64, seed=0)
    used = ids.statistics()["codes_used"][:2]
    assert ids.source["collapsed_levels"] == [0, 1] and max(used) <= 5
    for level in (0, 1):
        assert f"tokenizer=lsh: level {level} uses {used[level]} of its 64 codes" in caplog.text
    caplog.clear()
    healthy = tokenize(with_padding(vectors()), codebook_size=16, seed=0)
    assert healthy.source["collapsed_levels"] == [] and caplog.text == ""


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"codebook_size": 31}, "codebook_size=31: must be at most the number of items, 30"),
        ({"tokenizer": "kmeans"}, "tokenizer='kmeans': must be one of rkmeans, rvq, rqvae, letter, opq, pq, random, lsh"),
        ({"collision": "hope"}, "collision='hope': must be one of digit, none, nearest, sinkhorn"),
        ({"codebook_num": 0}, "codebook_num=0: must be a whole number of at least 1"),
        ({"codebook_num": True}, "codebook_num=True"),
        ({"codebook_num": 1 << 23}, "codebook_size=8: with codebook_num=8388608 there are more than 16777216 codes"),
        (
            {"tokenizer": "pq", "codebook_num": 5},
            r"codebook_num=5: must divide the vectors' dimension 16: \[1, 2, 4, 8, 16\]",
        ),
        ({"tokenizer": "opq", "codebook_num": 3}, "codebook_num=3: must divide"),
        ({"tokenizer": "pq", "codebook_size": 12, "codebook_num": 4}, "codebook_size=12: must be a power of two from 2"),
        ({"tokenizer": "lsh", "codebook_size": 12}, "codebook_size=12: must be a power of two from 2"),
        ({"normalise_residual": 1}, "normalise_residual=1: must be True or False"),
        ({"kmeans_iterations": 0}, "kmeans_iterations=0: must be a whole number of at least 1"),
        ({"tokenizer": "rqvae", "commitment": -1}, "commitment=-1: must be a number at least 0"),
        ({"tokenizer": "rqvae", "ema_decay": 1.0}, "ema_decay=1.0: must be a number at least 0 and below 1"),
        ({"tokenizer": "rqvae", "rqvae_hidden": [0]}, r"rqvae_hidden=\[0\]: must be a list of whole numbers"),
        (
            {"tokenizer": "rqvae", "quantiser_gradient": "none"},
            "quantiser_gradient='none': must be one of straight_through, rotation",
        ),
        ({"tokenizer": "rvq", "tokenizer_learner": "sgd"}, "tokenizer_learner='sgd': must be one of adam, adagrad"),
        ({"tokenizer": "rvq", "commitment": 0.5}, "commitment=0.5: is not a setting of tokenizer=rvq"),
    ],
)
def test_settings_that_cannot_work(settings, words):
    with pytest.raises(SettingError, match=words):
        tokenize(with_padding(vectors(30)), **{"codebook_size": 8, **settings})


def test_vectors_that_cannot_work_are_named():
    names = np.array(["[PAD]", *(f"item{row}" for row in range(30))])
    for value in (np.nan, np.inf):
        rows = with_padding(vectors(30))
        rows[[7, 9], 2] = value
        with pytest.raises(DataError, match=r"the vectors of 2 items \(item6, item8\) are NaN or infinite"):
            tokenize(rows, codebook_size=8, item_tokens=names)
    rows = with_padding(vectors(30))
    rows[[3, 5, 6, 20]] = 0
    with pytest.raises(DataError, match=r"the vectors of 4 items \(3, 5, 6, ...\) are all zeros"):
        tokenize(rows, codebook_size=8)
    ids = tokenize(rows, codebook_size=8, collision="none", allow_zero_vectors=True)
    assert len(np.unique(ids.codes[[3, 5, 6, 20]], axis=0)) == 1


def test_vectors_that_float32_cannot_square_are_named():
    rows = with_padding(vectors(30))
    rows[4] *= 1e20
    with pytest.raises(DataError, match=r"the vectors of 1 items \(4\) are so long that float32 cannot hold their squares"):
        tokenize(rows, tokenizer="pq", codebook_num=4, codebook_size=8)


def test_a_copy_on_write_memory_map_keeps_what_was_written(tmp_path):
    np.save(tmp_path / "vectors.npy", with_padding(vectors(3000)))
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="c")
    mapped[1:] = vectors(3000, seed=1)
    expected = tokenize(with_padding(vectors(3000, seed=1)), codebook_size=16, seed=0)
    assert (tokenize(mapped, codebook_size=16, seed=0).codes == expected.codes).all()


@pytest.mark.parametrize("name", ["rkmeans", "pq", "opq", "random", "lsh", "rqvae"])
def test_seeds_beyond_31_bits(name):
    settings = {"tokenizer_steps": 2} if name == "rqvae" else {}
    ids = tokenize(with_padding(vectors(100)), name, codebook_num=2, codebook_size=8, seed=3_000_000_000, **settings)
    assert ids.source["seed"] == 3_000_000_000 and ids.statistics()["unique_share"] == 1.0


def test_the_property_file_has_all_settings_with_the_defaults_of_the_functions():
    kept = read_properties(properties_file("", "semantic_ids"))
    assert {key: kept[key] for key in all_settings()} == {
        key: list(value) if isinstance(value, tuple) else value for key, value in all_settings().items()
    }
    for name in tokenizer_names():
        assert "seed" in inspect.signature(find_tokenizer(name)).parameters
        assert settings_of(find_tokenizer(name)).items() <= all_settings().items()


def test_statistics():
    codes = np.array([[-1, -1], [0, 1], [0, 1], [1, 1], [2, 0]])
    statistics = SemanticIDs(codes, (4, 2), "none").statistics()
    assert statistics["items"] == 4 and statistics["unique_share"] == 0.75 and statistics["largest_collision"] == 2
    assert statistics["codes_used"] == [3, 2]
    assert statistics["perplexity"] == [
        round(float(np.exp(entropy([2, 1, 1]))), 2),
        round(float(np.exp(entropy([1, 3]))), 2),
    ]
    assert statistics["first_level_entropy"] == 1.5


def test_save_and_load(tmp_path):
    ids = SemanticIDs(np.array([[-1, -1], [0, 1], [2, 0]]), (3, 2), "none", {"tokenizer": "by hand"})
    ids.save("ids.npz")
    again = SemanticIDs.load("ids.npz")
    assert (again.codes == ids.codes).all() and again.codebook_sizes == (3, 2)
    assert again.source == {"tokenizer": "by hand"} and again.digest() == ids.digest()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ids.npz"]
    assert SemanticIDs(ids.codes, (4, 2), "none").digest() != ids.digest()


@pytest.mark.parametrize("codes", [[[-1, -1], [0, 2]], [[-1, -1], [-1, 0]], [[-1, -1]], [[-1], [0]]])
def test_codes_that_do_not_fit(codes):
    with pytest.raises(DataError):
        SemanticIDs(np.array(codes), (2, 2), "none")


def test_codes_that_are_no_numbers_of_a_codebook():
    with pytest.raises(DataError, match="whole numbers, not float64"):
        SemanticIDs(np.array([[-1.0], [0.7]]), (2,), "none")
    with pytest.raises(DataError, match="too large"):
        SemanticIDs(np.array([[-1], [2**32]]), (2**32 + 1,), "none")
    with pytest.raises(DataError, match="item 1 has code 4294967296 at level 0, allowed is 0 to 7"):
        SemanticIDs(np.array([[-1], [2**32]]), (8,), "none")


def damaged_files():
    SemanticIDs(np.array([[-1], [0], [1]]), (2,), "none").save("whole.npz")
    with open("whole.npz", "rb") as file:
        whole = file.read()
    yield b"nothing"
    yield b""
    yield whole[: len(whole) // 2]
    place = whole.index(np.array([-1, 0, 1], dtype=np.int32).tobytes())
    yield whole[:place] + b"\x07" + whole[place + 1 :]
    np.save("array.npy", np.arange(3))
    with open("array.npy", "rb") as file:
        yield file.read()
    meta = np.array('{"codebook_sizes": [1], "collision": "none", "source": {}}')
    for arrays in (
        {"codes": np.zeros((3, 1), dtype=int)},
        {"codes": np.zeros((3, 1), dtype=int), "meta": np.array("[]")},
        {"codes": np.zeros((3, 1)), "meta": meta},
        {"codes": np.ones((3, 1), dtype=int), "meta": meta},
    ):
        np.savez("other.npz", **arrays)
        with open("other.npz", "rb") as file:
            yield file.read()


def test_a_damaged_file():
    for content in damaged_files():
        with open("ids.npz", "wb") as file:
            file.write(content)
        with pytest.raises(DataError, match="^ids.npz: "):
            SemanticIDs.load("ids.npz")


def test_vectors_that_are_all_alike():
    alike = with_padding(np.ones((20, 4), dtype=np.float32))
    for normalise in (True, False):
        ids = tokenize(alike, codebook_num=2, codebook_size=4, seed=0, normalise_residual=normalise)
        assert ids.statistics()["unique_share"] == 1.0 and ids.codebook_sizes == (4, 4, 20)
