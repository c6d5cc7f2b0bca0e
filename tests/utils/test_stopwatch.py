"""What a stage costs: processor time of all threads and children, and what the cache saved."""

import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from recbole_gr.utils import cache
from recbole_gr.utils.cache import cached
from recbole_gr.utils.stopwatch import cpu_seconds_from_nothing, stopwatch

BURN = "import time\nwhile time.process_time() < {}: pass\n"
ARRAYS = {"codes": np.arange(3)}


def burn(seconds):
    """Use a processor for so long, whatever else runs on the machine."""
    start = time.thread_time()
    while time.thread_time() - start < seconds:
        pass


def test_waiting_costs_no_cpu_seconds():
    stages = {}
    with stopwatch(stages, "wait"):
        time.sleep(0.3)
    assert stages["wait"]["seconds"] >= 0.3 and stages["wait"]["cpu_seconds"] < 0.1
    assert stages["wait"].keys() == {"seconds", "cpu_seconds", "times"}


def test_all_threads_and_children_count():
    """Of a thread, of a child that has ended, and of one that lives: each .2 s, to the system's clock of 10 ms."""
    stages = {}
    living = None
    try:
        with stopwatch(stages, "work"):
            thread = threading.Thread(target=burn, args=[0.2])
            thread.start()
            subprocess.run([sys.executable, "-c", BURN.format(0.2)], check=True)
            command = [sys.executable, "-c", BURN.format(0.2) + "print(flush=True)\ninput()"]
            living = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            living.stdout.readline()
            thread.join()
        assert 0.57 <= stages["work"]["cpu_seconds"] < 0.9
    finally:
        living.communicate(b"\n")
    with stopwatch(stages, "after"):  # the one that lived has ended: what it used is not counted a second time
        pass
    assert stages["after"]["cpu_seconds"] < 0.1


def test_a_stage_adds_up_over_its_times():
    stages = {}
    for _ in range(2):
        with stopwatch(stages, "work"):
            burn(0.1)
    assert stages["work"]["times"] == 2 and 0.2 <= stages["work"]["cpu_seconds"] < 0.4


def made_twice(folder, before_second=lambda: None):
    """The stages of making an artifact, and of reusing it."""

    def compute():
        burn(0.2)
        return ARRAYS, {}

    first, second = {}, {}
    with stopwatch(first, "make"):
        cached(folder, "codes", "key", compute)
    before_second()
    with stopwatch(second, "make"):
        cached(folder, "codes", "key", compute)
    return first["make"], second["make"]


def test_what_is_reused_says_what_it_took(tmp_path):
    first, second = made_twice(str(tmp_path))
    assert 0.2 <= first["cpu_seconds"] < 0.4 and "reused_cpu_seconds" not in first
    assert second["cpu_seconds"] < 0.1 and 0.2 <= second["reused_cpu_seconds"] <= first["cpu_seconds"]
    assert 0.2 <= second["reused_seconds"] <= first["seconds"]
    assert cpu_seconds_from_nothing(first) == first["cpu_seconds"]
    assert cpu_seconds_from_nothing(second) == second["cpu_seconds"] + second["reused_cpu_seconds"]


def test_without_a_cache_nothing_is_reused():
    for stage in made_twice(None):
        assert stage["cpu_seconds"] >= 0.2 and "reused_cpu_seconds" not in stage


def test_an_artifact_counts_once(tmp_path):
    """However often it is read; and what was made in the same time spares nothing."""

    def compute():
        burn(0.2)
        return ARRAYS, {}

    stages = {}
    for name in ("made", "reused"):
        with stopwatch(stages, name):
            for _ in range(3):
                cached(str(tmp_path), "codes", "key", compute)
    assert 0.2 <= stages["made"]["cpu_seconds"] < 0.4 and "reused_cpu_seconds" not in stages["made"]
    assert 0.2 <= stages["reused"]["reused_cpu_seconds"] < 0.4


def test_what_was_made_from_reused_things_took_theirs_too(tmp_path):
    """Codes made from vectors that were reused: who reuses the codes later spared the vectors too."""

    def vectors():
        burn(0.2)
        return ARRAYS, {}

    def codes():
        cached(str(tmp_path), "vectors", "key", vectors)
        return ARRAYS, {}

    stages = {}
    cached(str(tmp_path), "vectors", "key", vectors)
    for name in ("made", "reused"):
        with stopwatch(stages, name):
            cached(str(tmp_path), "codes", "key", codes)
    assert stages["made"]["reused_cpu_seconds"] >= 0.2
    assert stages["reused"]["reused_cpu_seconds"] >= 0.2


def forget_cost(folder):
    """As entries were before they said what they cost."""
    (path,) = folder.glob("*.npz")
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    entry = json.loads(str(arrays.pop("_entry")))
    del entry["cost"]
    np.savez(path, _entry=np.array(json.dumps(entry)), **arrays)


def test_the_cost_of_an_old_entry_is_not_known(tmp_path):
    _, second = made_twice(str(tmp_path), before_second=lambda: forget_cost(tmp_path))
    assert second["reused_untimed"] == 1 and "reused_cpu_seconds" not in second
    assert cpu_seconds_from_nothing(second) is None
    assert cpu_seconds_from_nothing({"seconds": 3.0, "times": 1}) is None  # a record from before there were CPU seconds

    def codes():
        return cached(str(tmp_path), "codes", "key", pytest.fail)

    cached(str(tmp_path), "made_from", "key", codes)  # nor is that of what is made from it
    assert cache._load(str(tmp_path / "made_from-key.npz"), "key")[1] is None
