"""Published numbers, kept beside the measured ones: each block with its source and with what its protocol did otherwise.

The blocks are yaml files in ``properties/published/``: ``source``, ``differences``, ``metrics`` and, by dataset, ``rows``
with a list of numbers per name in the order of ``metrics``, ``null`` where the source gives none.
"""

import yaml

from recbole_gr.settings.properties import PROPERTIES, properties_file
from recbole_gr.utils.errors import SettingError

FOLDER = "published"


def published_blocks():
    """The names of all blocks, sorted."""
    return sorted(file.name.removesuffix(".yaml") for file in (PROPERTIES / FOLDER).iterdir() if file.name.endswith(".yaml"))


def read_published(names, dataset):
    """The blocks that a board names, with their numbers for its dataset.

    Args:
        names (iterable of str): of :func:`published_blocks`.
        dataset (str): for example ``amazon-beauty-2014``.

    Returns:
        list of dict: ``source``, ``differences`` and ``rows``, a list of dicts with ``name`` and the numbers by metric.

    Raises:
        SettingError: there is no such block, or it has no numbers for the dataset.
    """
    there = published_blocks()
    for name in names:
        if name not in there:
            raise SettingError("published", name, f"no such block; there are {', '.join(there)}")
    return [_read_block(name, dataset) for name in names]


def _read_block(name, dataset):
    block = yaml.safe_load(properties_file(FOLDER, name).read_text(encoding="utf-8"))
    if dataset not in block["rows"]:
        raise SettingError("published", name, f"has no numbers for {dataset}; it has some for {', '.join(block['rows'])}")
    rows = [{"name": row, **_numbers(block["metrics"], values)} for row, values in block["rows"][dataset].items()]
    return {"source": block["source"], "differences": block["differences"], "rows": rows}


def _numbers(metrics, values):
    return {metric: value for metric, value in zip(metrics, values, strict=True) if value is not None}
