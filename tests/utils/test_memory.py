"""Freed memory stays with the process."""

import json
import os
import subprocess
import sys

SCRIPT = """
import json, resource, sys
import torch
from recbole_gr.utils.memory import keep_freed_memory

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        [torch.ones(1 << 24) for _ in range(2)]  # 64 MB each: from 32 MB on glibc gives a block back, wherever it lies
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

page_faults()
before, kept = page_faults(), keep_freed_memory()
page_faults()
print(json.dumps([kept, before, page_faults()]))
"""


def in_a_process_of_its_own(**variables):
    environment = {**{key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}, **variables}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_freed_memory_is_used_again_without_page_faults():
    kept, before, after = in_a_process_of_its_own()
    if kept:  # glibc
        assert before > 100 and after < before / 10


def test_what_the_environment_says_stays():
    assert in_a_process_of_its_own(MALLOC_TRIM_THRESHOLD_="1000000")[0] is False
