"""Vectors of a file come row by row to their items; files that cannot work are one line, and no pickle is ever run."""

import os

import numpy as np
import pytest
import torch
from support.vector_files import FILE_TOKENS, TOKENS, VECTORS, assert_rows, keyed, write

from recbole_gr.utils import arrays
from recbole_gr.utils.errors import SettingError
from recbole_gr.vectors import read_vector_file


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_npy_in_the_order_of_the_item_file(tmp_path, dtype):
    path = write(tmp_path / "vectors.npy", VECTORS.astype(dtype))
    assert_rows(read_vector_file(path, TOKENS, FILE_TOKENS))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_pt_tensor_and_dict(tmp_path, dtype):
    tensor = torch.tensor(VECTORS, dtype=dtype)
    assert_rows(read_vector_file(write(tmp_path / "tensor.pt", tensor), TOKENS, FILE_TOKENS))
    assert_rows(read_vector_file(write(tmp_path / "grad.pt", tensor.requires_grad_()), TOKENS, FILE_TOKENS))
    vectors_by_token = {name: vector.detach() for name, vector in zip(FILE_TOKENS[:4], tensor)}
    assert_rows(read_vector_file(write(tmp_path / "dict.pt", vectors_by_token), TOKENS))


def test_npz_with_item_ids(tmp_path):
    content = {"item_id": FILE_TOKENS.astype(str), "vectors": VECTORS}
    assert_rows(read_vector_file(write(tmp_path / "keyed.npz", content), TOKENS))


def test_numbers_are_read_as_item_tokens(tmp_path):
    tokens, vectors = np.array(["[PAD]", "12", "7"]), np.array([[1.0], [2.0]], np.float32)
    expected = [[0], [2], [1]]
    path = write(tmp_path / "keyed.npz", {"item_id": np.array([7, 12]), "vectors": vectors})
    assert read_vector_file(path, tokens).tolist() == expected
    path = write(tmp_path / "dict.pt", {7: torch.tensor([1.0]), 12: torch.tensor([2.0])})
    assert read_vector_file(path, tokens).tolist() == expected
    path = write(tmp_path / "whole.npy", np.array([[1], [2]]))
    assert read_vector_file(path, tokens, np.array(["7", "12"])).tolist() == expected


def test_empty_catalogue(tmp_path):
    path = write(tmp_path / "vectors.npy", VECTORS)
    assert read_vector_file(path, TOKENS[:1], FILE_TOKENS).tolist() == [[0, 0]]


def test_a_file_of_many_chunks(tmp_path, monkeypatch):
    """In another order than the catalogue's, with items that it does not have, and zeros that nobody asks for."""
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(50, 3)).astype(np.float32)
    file_tokens = draw.permutation(50).astype(str)
    vectors[file_tokens == "7"] = 0
    tokens = np.array(["[PAD]", *(str(token) for token in draw.permutation(50) if token != 7)][:40])
    path = write(tmp_path / "vectors.npy", vectors)
    row_of = {token: row for row, token in enumerate(file_tokens)}
    expected = np.vstack([np.zeros(3), vectors[[row_of[token] for token in tokens[1:]]]])
    for rows in (1, 7, 1000):
        monkeypatch.setattr(arrays.chunks, "__defaults__", (rows,))
        np.testing.assert_array_equal(read_vector_file(path, tokens, file_tokens), expected)


def changed(row, value):
    vectors = VECTORS.copy()
    vectors[row, 1] = value
    return vectors


@pytest.mark.parametrize(
    "name, content, reason",
    [
        ("vectors.csv", torch.ones(1), "the name must end in one of .npy, .npz, .pt"),
        ("vectors.npy", VECTORS[:3], "has 3 rows, but the .item file has 5 items"),
        ("vectors.pt", torch.ones(6, 2), "has 6 rows, but the .item file has 5 items"),
        ("vectors.npy", VECTORS[:, 0], r"vectors must be \[rows, d\], not \[5\]"),
        ("vectors.npy", VECTORS[:, :0], r"vectors must be \[rows, d\], not \[5, 0\]"),
        ("vectors.pt", torch.ones(5, 2, 2), r"vectors must be \[rows, d\], not \[5, 2, 2\]"),
        ("vectors.npy", changed(1, np.nan), r"the vectors of 1 items \(b\) are NaN or infinite"),
        ("vectors.npy", changed(3, -np.inf), r"the vectors of 1 items \(c\) are NaN or infinite"),
        ("vectors.npy", changed(0, 1e300), r"the vectors of 1 items \(a\) are NaN or infinite"),
        ("vectors.npy", VECTORS * [[1], [0], [1], [0], [1]], r"the vectors of 2 items \(b, c\) are all zeros"),
        ("vectors.npy", VECTORS * [[1e-60], [1], [1], [1], [1]], r"the vectors of 1 items \(a\) are all zeros"),
        ("vectors.pt", {**keyed(), "a": torch.zeros(2)}, r"the vectors of 1 items \(a\) are all zeros"),
        ("vectors.pt", {**keyed(), "c": torch.full((2,), torch.nan)}, r"1 items \(c\) are NaN"),
        ("vectors.npy", VECTORS + 1j, "vectors must be real numbers, not complex128"),
        ("vectors.npy", FILE_TOKENS.astype(str)[:, None], "vectors must be real numbers, not <U6"),
        ("vectors.pt", torch.ones(5, 2, dtype=torch.complex64), "vectors must be real numbers, not torch.complex64"),
        ("vectors.pt", {"a": torch.ones(2)}, r"2 items \(b, c\) of the 3 of the catalogue have no vector"),
        ("vectors.pt", {}, "must be \\[d\\] with one d, not empty"),
        ("vectors.pt", {"a": torch.ones(2), "b": torch.ones(3)}, "must be \\[d\\] with one d"),
        ("vectors.pt", {"a": torch.ones(1, 2)}, "must be \\[d\\] with one d"),
        ("vectors.pt", {"a": [1.0, 2.0]}, "a dict of item token to tensor"),
        ("vectors.pt", [1.0, 2.0], "must hold a tensor"),
        ("vectors.npz", {"item_id": np.array(["a"]), "vectors": VECTORS}, "has 1 item ids for 5 vectors"),
        ("vectors.npz", {"ids": FILE_TOKENS[:1].astype(str)}, "must have the arrays item_id and vectors, has ids"),
        ("vectors.npz", {"item_id": np.array(["a"]), "vectors": VECTORS[:1]}, r"2 items \(b, c\) of the 3"),
        ("vectors.npy", np.array([[object()]]), "pickled objects are refused"),
        ("vectors.npz", {"item_id": FILE_TOKENS, "vectors": VECTORS}, "pickled objects are refused"),
        ("vectors.pt", {"a": SettingError("key", 1, "")}, "pickled objects are refused"),
    ],
)
def test_vector_files_that_cannot_work(tmp_path, name, content, reason):
    path = write(tmp_path / name, content)
    with pytest.raises(SettingError, match=f"^item_vector_file='.*': .*{reason}") as raised:
        read_vector_file(path, TOKENS, FILE_TOKENS)
    assert "\n" not in str(raised.value)


class Trap:
    """Pickles to something that makes a folder when it is unpickled, and is harmless after that."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("name", ["vectors.npy", "vectors.npz", "tensor.pt", "dict.pt"])
def test_a_pickle_is_never_run(tmp_path, name):
    trap = Trap(str(tmp_path / "trap"))
    array = np.array([[trap]], dtype=object)
    content = {"vectors.npy": array, "vectors.npz": {"item_id": array[0], "vectors": VECTORS[:1]}, "tensor.pt": trap}
    path = write(tmp_path / name, content.get(name, {"a": trap}))
    with pytest.raises(SettingError, match="pickled objects are refused"):
        read_vector_file(path, TOKENS, FILE_TOKENS)
    assert not os.path.exists(trap.path)


def test_long_lists_of_items_are_cut(tmp_path):
    path = write(tmp_path / "vectors.pt", {"x": torch.ones(2)})
    with pytest.raises(SettingError, match=r"5 items \(1, 2, 3, ...\) of the 6 of the catalogue have no vector"):
        read_vector_file(path, np.array(["[PAD]", "1", "2", "x", "3", "4", "5"]))


def test_vector_files_that_are_not_there_or_not_what_they_say(tmp_path):
    with pytest.raises(SettingError, match="there is no such file"):
        read_vector_file(str(tmp_path / "none.npy"), TOKENS, FILE_TOKENS)
    path = write(tmp_path / "vectors.npy", VECTORS)
    with pytest.raises(SettingError, match="has no item ids, so it needs the .item file"):
        read_vector_file(path, TOKENS)
    os.rename(path, tmp_path / "array.npz")
    with pytest.raises(SettingError, match="must have the arrays item_id and vectors, has one without name"):
        read_vector_file(str(tmp_path / "array.npz"), TOKENS)
    os.rename(write(tmp_path / "keyed.npz", {"vectors": VECTORS}), tmp_path / "keyed.npy")
    with pytest.raises(SettingError, match="is an .npz file with vectors"):
        read_vector_file(str(tmp_path / "keyed.npy"), TOKENS, FILE_TOKENS)
    for extension in ("npy", "npz", "pt"):
        (tmp_path / f"noise.{extension}").write_bytes(b"this is no file of vectors")
        with pytest.raises(SettingError, match="cannot be read"):
            read_vector_file(str(tmp_path / f"noise.{extension}"), TOKENS, FILE_TOKENS)
    for whole, cut in ((tmp_path / "vectors.npy", VECTORS), (tmp_path / "vectors.pt", torch.tensor(VECTORS))):
        os.truncate(write(whole, cut), os.path.getsize(whole) - 20)
        with pytest.raises(SettingError, match="cannot be read"):
            read_vector_file(str(whole), TOKENS, FILE_TOKENS)
