# PYTHON_ARGCOMPLETE_OK
"""``python -m recbole_gr``: the same as ``recbole-gr``."""

import sys

from recbole_gr.cli import main

if __name__ == "__main__":
    sys.argv[0] = "recbole-gr"  # what the record of a run calls it
    sys.exit(main())
