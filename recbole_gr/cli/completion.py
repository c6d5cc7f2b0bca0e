"""What a shell completes, by argcomplete: commands, options, the settings of the model that is named, and names."""

from __future__ import annotations

import os
import re

import argcomplete

from recbole_gr.cli.listing import settings_by_concern
from recbole_gr.cli.parsers import Parser, make_parser
from recbole_gr.utils.errors import RecBoleGRError


def complete(line: str | None = None) -> None:
    """Answer the shell and end this process.

    Args:
        line: what has been typed so far; None: what the shell says.
    """
    line = os.environ.get("COMP_LINE", "") if line is None else line
    parser, parsers = make_parser()
    words = line.split()
    if "run_recbole_gr.py" in os.path.basename(words[0] if words else ""):
        parser = parsers["run"]
    if parser is parsers["run"] or "run" in words[1:2]:
        add_settings(parsers["run"], line)
    elif "tokenize" in words[1:2]:
        add_settings(parsers["tokenize"], line)
    argcomplete.autocomplete(parser)


def add_settings(parser: Parser, line: str) -> None:
    """Make the settings of the model that a line names options of its command."""
    named = re.search(r"--model[= ](\S+)", line)
    known = set(parser._option_string_actions)
    try:
        concerns = settings_by_concern(named[1] if named else "TIGER")
    except RecBoleGRError:  # its name is not finished yet
        return
    for _, rows in concerns:
        for row in rows:
            if f"--{row.key}" not in known:
                parser.add_argument(f"--{row.key}", choices=row.choices or None, help=row.sentence.replace("%", "%%"))
                known.add(f"--{row.key}")
