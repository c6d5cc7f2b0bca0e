"""Referees: hand-worked examples, plain loops, numpy, scipy and scikit-learn."""

import json

import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.cluster import KMeans

from recbole_gr.errors import DataError, SettingError
from recbole_gr.tokenizer import SemanticIDs, append_digit, read_sid_file, rkmeans, tokenize


def vectors(n=400, d=16, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def with_padding(rows):
    return np.concatenate([np.zeros((1, rows.shape[1]), dtype=rows.dtype), rows])


def test_the_digit_counts_equal_codes_in_row_order():
    codes = np.array([[1, 2], [0, 0], [1, 2], [1, 1], [0, 0], [1, 2]])
    resolved, size = append_digit(codes)
    assert resolved.tolist() == [[1, 2, 0], [0, 0, 0], [1, 2, 1], [1, 1, 0], [0, 0, 1], [1, 2, 2]]
    assert size == 3


def test_digits_equal_those_of_a_plain_loop():
    codes = np.random.default_rng(1).integers(0, 4, size=(500, 3))
    seen, expected = {}, []
    for row in map(tuple, codes):
        seen[row] = seen.get(row, -1) + 1
        expected.append(seen[row])
    resolved, size = append_digit(codes)
    assert resolved[:, -1].tolist() == expected and size == max(expected) + 1
    assert len(np.unique(resolved, axis=0)) == len(codes)


@pytest.mark.parametrize("normalise", [True, False])
def test_codes_are_the_nearest_centroids_of_the_residual(normalise):
    codes, codebooks = rkmeans(vectors(), 3, 8, normalise_residual=normalise, seed=0, threads=1)
    residual = vectors()
    for level in range(3):
        residual = unit(residual) if normalise else residual
        distance = np.linalg.norm(residual[:, None] - codebooks[level][None], axis=2)
        chosen = distance[np.arange(len(residual)), codes[:, level]]
        np.testing.assert_allclose(chosen, distance.min(axis=1), atol=1e-4)
        residual = residual - codebooks[level][codes[:, level]]


def test_without_normalising_the_codebooks_add_up_to_the_vectors():
    rows = vectors()
    codes, codebooks = rkmeans(rows, 4, 16, normalise_residual=False, seed=0, threads=1)
    parts = np.stack([codebooks[level][codes[:, level]] for level in range(4)])
    errors = [((rows - parts[:levels].sum(axis=0)) ** 2).sum() for levels in range(5)]
    assert all(after < before for before, after in zip(errors, errors[1:]))


def test_a_level_clusters_as_well_as_scikit_learn():
    rows = unit(vectors(1000))
    codes, codebooks = rkmeans(rows, 1, 20, iterations=50, seed=0, threads=1)
    ours = ((rows - codebooks[0][codes[:, 0]]) ** 2).sum()
    assert ours < 1.05 * KMeans(20, n_init=1, max_iter=50, random_state=0).fit(rows).inertia_


def test_planted_clusters_are_found():
    rng = np.random.default_rng(0)
    cluster = rng.integers(0, 8, 400)
    rows = (10 * np.eye(8, 16)[cluster] + 0.1 * rng.normal(size=(400, 16))).astype(np.float32)
    codes, _ = rkmeans(rows, 1, 8, seed=0, threads=1)
    assert len({(a, b) for a, b in zip(cluster, codes[:, 0])}) == 8


def test_the_seed_decides():
    first, again, other = (rkmeans(vectors(), 2, 16, seed=seed, threads=1)[0] for seed in (3, 3, 4))
    assert (first == again).all() and (first != other).any()


def test_tokenize_gives_every_item_an_id_of_its_own_or_not():
    rows = with_padding(np.repeat(vectors(50), 3, axis=0))
    alone = tokenize(rows, codebook_num=2, codebook_size=8, collision="digit", seed=0)
    shared = tokenize(rows, codebook_num=2, codebook_size=8, collision="none", seed=0)
    assert alone.statistics()["unique_share"] == 1.0 and alone.n_levels == 3
    assert shared.statistics()["largest_collision"] >= 3 and shared.n_levels == 2
    assert (alone.codes[0] == -1).all() and (alone.codes[1:, :2] == shared.codes[1:]).all()


def test_values_that_cannot_work():
    rows = with_padding(vectors(30))
    for settings, word in (
        ({"codebook_size": 31}, "number of items, 30"),
        ({"tokenizer": "kmeans"}, "rkmeans"),
        ({"collision": "hope"}, "digit, none"),
        ({"codebook_num": 0}, "at least 1"),
    ):
        with pytest.raises(SettingError, match=word):
            tokenize(rows, **{"codebook_size": 8, **settings})
    for value in (np.nan, np.inf):
        rows[[7, 9], 2] = value
        with pytest.raises(DataError, match="2 items have NaN or infinite values, the first is item 7"):
            tokenize(rows, codebook_size=8)


def test_statistics():
    codes = np.array([[-1, -1], [0, 1], [0, 1], [1, 1], [2, 0]])
    statistics = SemanticIDs(codes, (4, 2), "none").statistics()
    assert statistics["items"] == 4 and statistics["unique_share"] == 0.75 and statistics["largest_collision"] == 2
    assert statistics["codes_used"] == [3, 2]
    assert statistics["perplexity"] == [
        round(float(np.exp(entropy([2, 1, 1]))), 2),
        round(float(np.exp(entropy([1, 3]))), 2),
    ]


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


TOKENS = np.array(["[PAD]", "b", "a", "c"])


def write_json(content):
    with open("ids.json", "w") as file:
        json.dump(content, file)
    return "ids.json"


def test_a_json_file_is_read_in_item_order_and_may_hold_more():
    path = write_json({"a": [5, 0], "b": [3, 1], "c": [3, 1], "unknown": [9, 9]})
    ids = read_sid_file(path, TOKENS)
    assert ids.codes.tolist() == [[-1, -1], [3, 1], [5, 0], [3, 1]] and ids.codebook_sizes == (6, 2)
    assert ids.statistics()["unique_share"] == round(2 / 3, 6)


def test_an_npz_file_must_have_the_catalogues_size():
    SemanticIDs(np.array([[-1], [0], [1], [2]]), (3,), "none").save("ids.npz")
    assert read_sid_file("ids.npz", TOKENS).codes[1:, 0].tolist() == [0, 1, 2]
    with pytest.raises(SettingError, match="holds 3 items, but the catalogue has 2"):
        read_sid_file("ids.npz", TOKENS[:3])


@pytest.mark.parametrize(
    "content, error, words",
    [
        ({"a": [1, 2], "b": [1, 2]}, SettingError, "1 of 3 items of the catalogue, for example c"),
        ({"a": [1, 2], "b": [1, 2], "c": [1]}, DataError, "all of one length"),
        ({"a": [1.5], "b": [1], "c": [2]}, DataError, "whole numbers"),
        ({"a": ["x"], "b": ["y"], "c": ["z"]}, DataError, "whole numbers"),
        ({"a": [[1]], "b": [[1]], "c": [[2]]}, DataError, "whole numbers"),
        ({"a": [True], "b": [False], "c": [True]}, DataError, "whole numbers"),
        ({"a": [], "b": [], "c": []}, DataError, "whole numbers"),
        ({"a": "12", "b": "12", "c": "12"}, DataError, "all of one length"),
        ({"a": 5, "b": 1, "c": 2}, DataError, "all of one length"),
        ({"a": [2**32], "b": [1], "c": [2]}, DataError, "too large"),
        ({"x": [1]}, SettingError, "no codes for 3 of 3 items of the catalogue, for example b, a, c"),
        ({"a": [-1], "b": [1], "c": [2]}, DataError, "item 2 has code -1"),
        ([1, 2], DataError, "json object"),
    ],
)
def test_json_files_that_cannot_work(content, error, words):
    with pytest.raises(error, match=words):
        read_sid_file(write_json(content), TOKENS)


def test_a_file_that_is_not_json():
    with open("ids.json", "w") as file:
        file.write("{")
    with pytest.raises(DataError, match="not valid json"):
        read_sid_file("ids.json", TOKENS)


def test_files_that_are_not_there():
    for path, words in (("ids.json", "no such file"), ("ids.npz", "no such file"), ("ids.txt", "must end in .json")):
        with pytest.raises(SettingError, match=words):
            read_sid_file(path, TOKENS)


def test_vectors_that_are_all_alike():
    alike = with_padding(np.ones((20, 4), dtype=np.float32))
    for normalise in (True, False):
        ids = tokenize(alike, codebook_num=2, codebook_size=4, seed=0, normalise_residual=normalise)
        assert ids.statistics()["unique_share"] == 1.0 and ids.codebook_sizes == (4, 4, 20)
