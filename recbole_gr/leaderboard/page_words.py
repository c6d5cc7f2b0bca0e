"""How values of a board's summary are written on its pages."""

import json
from html import escape


def words(value):
    """A setting or a published value as text: yes and no, lists without brackets, a dash for what is missing."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and not any(isinstance(entry, (list, dict)) for entry in value):
        return ", ".join(map(words, value))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else str(value)


def number(value, digits=0):
    """A number with thousands apart, a dash where it is missing."""
    return "-" if value is None else f"{value:,.{digits}f}"


def variant_text(row):
    """What tells the row from others of its name: ``tie order: shuffled``."""
    return ", ".join(f"{key.replace('_', ' ')}: {words(value)}" for key, value in (row["variant"] or {}).items())


def label(row):
    """The row's name and variant as HTML."""
    variant = variant_text(row)
    return escape(row["name"]) + (f' <span class="tag">{escape(variant)}</span>' if variant else "")


def definitions(values):
    """A mapping as an HTML list of terms and their values."""
    entries = "".join(f"<dt>{escape(key)}</dt><dd>{escape(words(value))}</dd>" for key, value in values.items())
    return f"<dl>{entries}</dl>"
