"""Vectors by item token, in files as other programs write them."""

import numpy as np
import torch

TOKENS = np.array(["[PAD]", "b", "a", "c"])
FILE_TOKENS = np.array(["a", "b", "unused", "c", "b"], dtype=object)  # the second b is a double
VECTORS = np.array([[1.5, 2], [3, -4], [9, 9], [5, 0.25], [8, 8]])
EXPECTED = np.array([[0, 0], [3, -4], [1.5, 2], [5, 0.25]], dtype=np.float32)


def keyed(vectors=VECTORS):
    return {name: torch.tensor(vector) for name, vector in zip(FILE_TOKENS[:4], vectors)}


def write(path, content):
    path = str(path)
    if path.endswith(".npy"):
        np.save(path, content)
    elif path.endswith(".npz"):
        np.savez(path, **content)
    else:
        torch.save(content, path)
    return path


def assert_rows(result):
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, EXPECTED)
