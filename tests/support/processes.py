"""Python code in a process of its own."""

import json
import os
import subprocess
import sys
import textwrap

import recbole_gr

REPOSITORY = os.path.dirname(os.path.dirname(recbole_gr.__file__))


def in_new_process(code, *arguments):
    """Run python code in a process that has our checkout on its path, in the current folder; returns its last line."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": REPOSITORY, "ARGUMENTS": json.dumps(arguments)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip().splitlines()[-1]
