"""Settings as arguments ``--key=value`` that RecBole's Config reads back as they were."""

import ast
import json
import re


def read_argument(text):
    """What RecBole's Config makes of an argument: a Python literal, else a switch in any case, else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False}.get(text.lower(), text)


def as_argument(value):
    """A plain value as text that :func:`read_argument` reads back.

    Args:
        value: text, a number, a switch, None, or a list or dict of such.
    """
    # what begins like a number or a bracket might be computed
    if isinstance(value, str) and read_argument(value) == value and re.match(r"[^\d(+\-][^=]*$", value):
        return value
    return _literal(value)


def _literal(value):
    """A Python literal without blanks between its parts, and without '=', which may not stand in an argument twice."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{_literal(key)}:{_literal(part)}" for key, part in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_literal, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("=", "\\u003d")
    return repr(value)
