"""The cache gives back what was computed, computes once, and never trusts a damaged file."""

import hashlib
import logging
import multiprocessing
import os

import numpy as np
import pytest

from recbole_gr.utils.cache import cached, digest
from recbole_gr.utils.errors import SettingError

ARRAYS = {"vectors": np.arange(600, dtype=np.float32).reshape(200, 3), "names": np.array(["a", "ünï"])}
METADATA = {"encoder": "tiny", "sizes": [1, 2], "none": None}


class Computation:
    """Counts how often it is asked."""

    def __init__(self, arrays=ARRAYS, metadata=METADATA):
        self.arrays, self.metadata, self.calls = arrays, metadata, 0

    def __call__(self):
        self.calls += 1
        return self.arrays, self.metadata


def assert_is_artifact(result):
    arrays, metadata = result
    assert arrays.keys() == ARRAYS.keys()
    for name, expected in ARRAYS.items():
        assert arrays[name].dtype == expected.dtype
        np.testing.assert_array_equal(arrays[name], expected)
    assert metadata == METADATA


def entry_of(folder):
    (entry,) = [name for name in os.listdir(folder) if name.endswith(".npz")]
    return os.path.join(folder, entry)


@pytest.mark.parametrize(
    "one, other",
    [
        (("ab", "c"), ("a", "bc")),
        (("ab",), (b"ab",)),
        ((1,), (1.0,)),
        ((1,), (True,)),
        ((1,), ("1",)),
        ((None,), ("",)),
        ((None,), ()),
        ((["a"], "b"), (["a", "b"],)),
        (([[], []],), ([[[]]],)),
        (({"a": 1, "b": 2},), ({"a": 2, "b": 1},)),
        (({"a": 1},), (["a", 1],)),
        ((np.zeros(4, np.float32),), (np.zeros(2, np.float64),)),
        ((np.zeros((2, 3)),), (np.zeros((3, 2)),)),
        ((np.array([1, 2]),), ([1, 2],)),
        ((np.array(["a", "b"]),), (np.array(["a", "c"]),)),
    ],
)
def test_digest_tells_apart(one, other):
    assert digest(*one) != digest(*other)


def test_digest_is_the_same_for_equal_values_everywhere():
    assert digest({"a": 1, "b": [2, None]}) == digest({"b": (2, None), "a": 1})
    assert digest(np.float32(0.5), np.int64(3)) == digest(0.5, 3)
    matrix = np.arange(6).reshape(2, 3)
    assert digest(matrix.T) == digest(matrix.T.copy()) != digest(matrix)
    assert digest(np.zeros((0, 3))) != digest(np.zeros((3, 0)))


def test_digest_is_the_sha256_of_a_fixed_form():
    """By hand, so that a change of the form, which orphans every cache, does not go unseen."""
    array = b"l2:s3:<i8l1:i2;" + b"a16:" + bytes([0] * 8 + [1] + [0] * 7)
    form = b"l8:" + b"s4:text" + b"i1;" + b"r2.5;" + b"n;" + b"t;" + b"b1:x" + b"l1:s1:y" + b"d1:s1:k" + array
    values = "text", 1, 2.5, None, True, b"x", ["y"], {"k": np.arange(2, dtype="<i8")}
    assert digest(*values) == hashlib.sha256(form).hexdigest()[:16]


@pytest.mark.parametrize("part", [{1, 2}, object(), np.array([object()]), 1j])
def test_digest_refuses_what_has_no_canonical_form(part):
    with pytest.raises(TypeError, match="canonical"):
        digest(part)


def test_an_entry_is_computed_once(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    compute = Computation()
    folder = str(tmp_path / "made" / "on demand")
    assert_is_artifact(cached(folder, "vectors", "key", compute))
    assert "Computed vectors in" in caplog.text and "Reused" not in caplog.text
    assert_is_artifact(cached(folder, "vectors", "key", compute))
    assert f"Reused vectors [{os.path.join(folder, 'vectors-key.npz')}]" in caplog.text
    assert compute.calls == 1
    assert os.listdir(folder) == ["vectors-key.npz"]


def test_another_key_or_name_is_another_entry(tmp_path):
    compute = Computation()
    for name, key in [("vectors", "key"), ("vectors", "other"), ("codes", "key")]:
        cached(str(tmp_path), name, key, compute)
    assert compute.calls == 3


def test_without_a_folder_nothing_is_kept():
    compute = Computation()
    assert_is_artifact(cached(None, "vectors", "key", compute))
    assert_is_artifact(cached(None, "vectors", "key", compute))
    assert compute.calls == 2


def test_metadata_reads_the_same_fresh_and_reused(tmp_path):
    compute = Computation(metadata={"shape": (2, 3), 7: "key"})
    fresh = cached(str(tmp_path), "vectors", "key", compute)[1]
    assert fresh == cached(str(tmp_path), "vectors", "key", compute)[1] == {"shape": [2, 3], "7": "key"}
    assert compute.calls == 1


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_entry_is_made_anew(tmp_path, caplog, share):
    compute = Computation()
    cached(str(tmp_path), "vectors", "key", compute)
    path = entry_of(tmp_path)
    os.truncate(path, int(os.path.getsize(path) * share))
    assert_is_artifact(cached(str(tmp_path), "vectors", "key", compute))
    assert compute.calls == 2
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert path in warning and "made anew" in warning
    assert_is_artifact(cached(str(tmp_path), "vectors", "key", compute))
    assert compute.calls == 2


def test_no_flipped_bit_gets_through(tmp_path):
    """Whichever bit flips, the artifact is right: either the bit did not matter, or the entry was made anew."""
    compute = Computation()
    cached(str(tmp_path), "vectors", "key", compute)
    path = entry_of(tmp_path)
    with open(path, "rb") as file:
        whole = file.read()
    content = whole.index(ARRAYS["vectors"].tobytes())
    flips = np.random.default_rng(0).integers(0, 8 * len(whole), size=300).tolist()
    for position in [8 * (content + 100), *flips]:
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        with open(path, "wb") as file:
            file.write(damaged)
        calls = compute.calls
        assert_is_artifact(cached(str(tmp_path), "vectors", "key", compute))
        in_content = 0 <= position // 8 - content < ARRAYS["vectors"].nbytes
        assert compute.calls == calls + 1 or not in_content


def test_an_entry_of_another_key_is_not_used(tmp_path, caplog):
    compute = Computation()
    cached(str(tmp_path), "vectors", "old", Computation({"vectors": np.ones(3)}, {}))
    os.rename(tmp_path / "vectors-old.npz", tmp_path / "vectors-new.npz")
    assert_is_artifact(cached(str(tmp_path), "vectors", "new", compute))
    assert "stored under the key old" in caplog.text


def test_a_forged_array_is_not_used(tmp_path, caplog):
    """A valid zip whose arrays are not those that were stored: what the checksum is for."""
    compute = Computation()
    cached(str(tmp_path), "vectors", "key", compute)
    path = entry_of(tmp_path)
    with np.load(path) as file:
        stored = {name: file[name] for name in file.files}
    for change in ({"vectors": ARRAYS["vectors"] + 1}, {"extra": np.ones(1)}):
        np.savez(path, **{**stored, **change})
        assert_is_artifact(cached(str(tmp_path), "vectors", "key", compute))
    del stored["names"]
    np.savez(path, **stored)
    assert_is_artifact(cached(str(tmp_path), "vectors", "key", compute))
    assert compute.calls == 4
    assert caplog.text.count("checksum does not fit") == 3


class Trap:
    """Pickles to something that makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_is_never_run(tmp_path):
    trap = str(tmp_path / "trap")
    path = str(tmp_path / "vectors-key.npz")
    np.savez(path, vectors=np.array([Trap(trap)], dtype=object))
    compute = Computation()
    assert_is_artifact(cached(str(tmp_path), "vectors", "key", compute))
    assert compute.calls == 1 and not os.path.exists(trap)


def test_leftover_temporary_files_are_ignored(tmp_path):
    compute = Computation()
    leftover = tmp_path / "vectors-key.npz.123-abc.tmp"
    leftover.write_bytes(b"half an ent")
    assert_is_artifact(cached(str(tmp_path), "vectors", "key", compute))
    assert_is_artifact(cached(str(tmp_path), "vectors", "key", compute))
    assert compute.calls == 1
    assert leftover.read_bytes() == b"half an ent"


def test_a_computation_that_fails_leaves_nothing(tmp_path):
    def fail():
        raise ArithmeticError("no vectors today")

    with pytest.raises(ArithmeticError, match="no vectors today"):
        cached(str(tmp_path), "vectors", "key", fail)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_said_before_computing(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    compute = Computation()
    (tmp_path / "read only").mkdir(mode=0o500)
    # The superuser may write anywhere but in a file system that makes its files itself.
    unwritable = str(tmp_path / "read only") if os.geteuid() else "/proc/self"
    for folder in (str(tmp_path / "file"), str(tmp_path / "file" / "cache"), unwritable):
        with pytest.raises(SettingError, match="^cache_dir='.*': the folder cannot be written") as raised:
            cached(folder, "vectors", "key", compute)
        assert (raised.value.key, raised.value.value) == ("cache_dir", folder)
        assert "\n" not in str(raised.value)
    assert compute.calls == 0


def test_a_result_that_cannot_be_kept_is_still_returned(tmp_path, caplog):
    os.mkdir(tmp_path / "vectors-key.npz")  # no file can take the name of a folder
    assert_is_artifact(cached(str(tmp_path), "vectors", "key", Computation()))
    assert "could not be kept" in caplog.text
    assert os.listdir(tmp_path) == ["vectors-key.npz"]


def make_often(folder, barrier, number, answers):
    """Runs in a process of its own: both make the same new entries at the same time."""
    wrong = 0
    for entry in range(20):
        barrier.wait(timeout=60)
        arrays, metadata = cached(
            folder, "vectors", f"key{entry}", lambda value=entry: ({"vectors": np.full((500, 100), value)}, {"by": number})
        )
        wrong += not (arrays["vectors"] == entry).all() or metadata["by"] not in (0, 1)
    answers.put(wrong)


def test_two_processes_at_once_do_not_harm_each_other(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    barrier, answers = spawn.Barrier(2), spawn.Queue()
    workers = [spawn.Process(target=make_often, args=(str(tmp_path), barrier, n, answers)) for n in range(2)]
    for worker in workers:
        worker.start()
    assert [answers.get(timeout=60) for _ in workers] == [0, 0]
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
    assert sorted(os.listdir(tmp_path)) == sorted(f"vectors-key{entry}.npz" for entry in range(20))
    never = Computation()
    for entry in range(20):
        arrays, _ = cached(str(tmp_path), "vectors", f"key{entry}", never)
        assert (arrays["vectors"] == entry).all()
    assert never.calls == 0
