"""Files that are written whole or not at all, full disks, and what killed processes leave."""

import contextlib
import os
import pickle
import resource
import signal
import subprocess
import sys

import pyarrow
import pyarrow.parquet
import pytest
import torch

from recbole_gr.utils.atomic_files import atomic_write, remove_leftovers
from recbole_gr.utils.errors import DiskError, RecBoleGRError
from recbole_gr.utils.signals import Stopped, ending, signals_stop, signals_wait
from recbole_gr.utils.temporary_folders import LOCK, remove_left_folders, temporary_folder


@pytest.fixture
def full_disk():
    """No file may grow beyond 20,000 bytes, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "write",
    [
        lambda file: torch.save({"weights": torch.rand(50_000)}, file),
        lambda file: pyarrow.parquet.write_table(pyarrow.table({"a": torch.rand(50_000).numpy()}), file),
        lambda file: file.write(os.urandom(50_000)),
    ],
    ids=["torch", "parquet", "bytes"],
)
def test_a_full_disk_is_one_line_and_the_file_before_stays(write, full_disk, tmp_path):
    path = str(tmp_path / "kept.pth")
    with open(path, "wb") as file:
        file.write(b"before")
    with pytest.raises(DiskError) as raised, atomic_write(path, "wb") as file:
        write(file)
    assert str(raised.value) == f"[{path}] cannot be written (File too large)"
    assert isinstance(raised.value, OSError) and isinstance(raised.value, RecBoleGRError)
    assert os.listdir(tmp_path) == ["kept.pth"] and open(path, "rb").read() == b"before"
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.errno, again.strerror) == (str(raised.value), raised.value.errno, "File too large")


def test_a_folder_that_is_gone_is_one_line(tmp_path):
    with (
        pytest.raises(DiskError, match=r"^\[.*x\] cannot be written \(No such file or directory\)$"),
        atomic_write(str(tmp_path / "gone" / "x")),
    ):
        pass


def test_only_files_of_dead_processes_are_removed(tmp_path):
    code = (
        "import sys, time; from recbole_gr.utils.atomic_files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file: print('open', flush=True); time.sleep(600)"
    )
    target = str(tmp_path / "record.json")
    process = subprocess.Popen([sys.executable, "-c", code, target], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "open\n"
    (being_written,) = os.listdir(tmp_path)
    for name in ("notes.tmp", "mine.123-abc.tmp", "cafe.npz"):
        (tmp_path / name).write_text("somebody's")
    os.symlink(tmp_path / "notes.tmp", tmp_path / f"x.1-{'0' * 32}.tmp")
    others = {*os.listdir(tmp_path)} - {being_written}

    assert remove_leftovers([str(tmp_path), None, str(tmp_path / "gone")]) == []
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert remove_leftovers([str(tmp_path)]) == [str(tmp_path / being_written)]
    assert {*os.listdir(tmp_path)} == others


def test_only_folders_of_dead_processes_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "mine-left").mkdir()
    (tmp_path / "mine-left" / LOCK).touch()
    (tmp_path / "mine-left" / "job.json").touch()
    (tmp_path / "mine-other").mkdir()  # without a lock: nobody knows whose
    with temporary_folder("mine-") as folder:
        assert sorted(os.listdir(tmp_path)) == sorted(["mine-other", os.path.basename(folder)])
        assert remove_left_folders("mine-") == [] and os.path.isdir(folder)
    assert os.listdir(tmp_path) == ["mine-other"]


@contextlib.contextmanager
def handled_by(number, handler):
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize(
    ("number", "told"),
    [(signal.SIGTERM, ("terminated", 143)), (signal.SIGINT, ("interrupted", 130)), (signal.SIGHUP, ("terminated", 129))],
)
def test_a_signal_waits_for_what_belongs_together(number, told):
    steps = []
    with handled_by(number, signal.SIG_DFL):  # who runs the tests may ignore it
        with pytest.raises(Stopped) as raised, signals_stop():
            with signals_wait():
                steps.append("first")
                os.kill(os.getpid(), number)
                with signals_wait():
                    steps.append("second")
                steps.append("third")
            steps.append("never")
        assert signal.getsignal(number) == signal.SIG_DFL
    assert steps == ["first", "second", "third"] and ending(raised.value) == told


def test_what_was_told_to_be_ignored_stays_so():
    with handled_by(signal.SIGHUP, signal.SIG_IGN), signals_stop():  # as nohup does
        os.kill(os.getpid(), signal.SIGHUP)
