# PYTHON_ARGCOMPLETE_OK
"""``python run_recbole_gr.py --model=TIGER --dataset=ml-100k``: the same as ``recbole-gr run``."""

import sys

from recbole_gr.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command(sys.argv[1:]))
