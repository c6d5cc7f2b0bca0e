"""Settings that fit the columns of a prepared data set, where its property file does not."""

import os
import re

import yaml

from recbole_gr.settings.properties import properties_file, read_properties
from recbole_gr.utils.atomic_files import atomic_write


def write_settings(folder, name, source, columns):
    """Write ``name.yaml`` beside the atomic files, unless ``properties/dataset/name.yaml`` is there and fits them.

    Args:
        folder (str): where to.
        name (str): of the data set.
        source (Source): with the template for item text.
        columns (sequence of str): of the ``.item`` file, beside the item.

    Returns:
        str: its path; None where none is needed.
    """
    path = os.path.join(folder, f"{name}.yaml")
    kept = read_properties(properties_file("dataset", name))
    if kept and all(set(_fields(kept.get(key))) <= set(columns) for key in ("text_template", "title_template")):
        return None
    settings = {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}}
    fields = [field for field in _fields(source.template) if field in columns] or list(columns)
    if fields:
        settings["text_template"] = ", ".join(f"{{{field}}}" for field in fields)
    if "title" in columns:
        settings["title_template"] = "{title}"
    with atomic_write(path) as file:
        yaml.safe_dump(settings, file, sort_keys=False)
    return path


def _fields(template):
    return re.findall(r"\{(\w+)\}", template or "")
