"""``recbole-gr prepare``: RecBole's atomic files, with text, from the raw files that a dataset is published in."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from logging import getLogger
from typing import Any

import yaml

from recbole_gr.prepare import SOURCES
from recbole_gr.prepare.atomic import write_atomic_files
from recbole_gr.prepare.options import checked_options, options_of_text
from recbole_gr.prepare.place import check_raw_dir, choose_variant, get_file
from recbole_gr.prepare.source import Source
from recbole_gr.prepare.table import prepare_table
from recbole_gr.prepare.table_options import TABLE
from recbole_gr.settings.properties import properties_file, read_properties
from recbole_gr.utils.atomic_files import atomic_write, remove_leftovers
from recbole_gr.utils.cells import CELL_CHARACTERS
from recbole_gr.utils.errors import SettingError

#: Names that differ from the category's.
_SHORT = {"Sports_and_Outdoors": "sports", "Toys_and_Games": "toys"}

#: Users, items and interactions by dataset and core; None where the publishers do not tell.
#: Amazon 2014: the tables of S3-Rec (CIKM 2020) and TIGER (NeurIPS 2023); MovieLens: the README files of GroupLens.
PUBLISHED = {
    ("amazon-beauty-2014", 5): (22_363, 12_101, 198_502),
    ("amazon-sports-2014", 5): (35_598, 18_357, 296_337),
    ("amazon-toys-2014", 5): (19_412, 11_924, 167_597),
    ("movielens-100k", 0): (943, 1_682, 100_000),
    ("movielens-1m", 0): (6_040, 3_706, 1_000_209),
    ("movielens-20m", 0): (138_493, 26_744, 20_000_263),
    ("movielens-32m", 0): (200_948, None, 32_000_204),
}


def prepare(given: Mapping[str, str]) -> None:
    """Launch :func:`prepare_dataset` from the command line, and print what came out.

    Args:
        given: values by key, all of them text; ``source`` is the name of the source, or csv for a table of one's own, ``file``.

    Raises:
        RecBoleGRError: an option or a file cannot work; a line for each fault.
    """
    if given.get("source") == TABLE:
        print(prepare_table({key: value for key, value in given.items() if key != "source"}))
    else:
        print(report(prepare_dataset(**{"source": None, **options_of_text(given)})))


def prepare_dataset(source: str, category: str | None = None, **options: Any) -> dict[str, Any]:
    """Make ``NAME/NAME.inter`` and ``NAME/NAME.item`` under ``output_dir``.

    Files are read line by line. Memory grows with users and items, not with interactions; those are kept in temporary
    files in the folder of the result.

    Args:
        source: one of :data:`recbole_gr.prepare.SOURCES`.
        category: of the sources that have categories, as in the names of their files.
        **options: the others of :class:`~recbole_gr.prepare.options.PrepareOptions`. ``raw_dir`` is ``raw/<source>`` by
            default, as files of several sources have the same names; ``variant`` is what is in that folder; without any
            ``text_columns`` there is no ``.item`` file and no metadata is needed.

    Returns:
        A dict of ``name``, ``folder``, ``users``, ``items``, ``interactions``, ``titled`` (items with a title, or None),
        ``truncated_cells`` (texts that were too long for RecBole's reader and are truncated, or None),
        ``tallies`` (list of :class:`~recbole_gr.prepare.lines.Tally`, one a file of interactions),
        ``metadata_tally`` (another, or None), ``published`` (how the size compares, in words), ``settings`` (path of a
        yaml file to run with, or None), ``core``, ``data_path``.

    Raises:
        SettingError, SettingErrors: an option cannot work, or a folder cannot be written.
        DataError: a file is missing, or is the wrong one.
    """
    asked = checked_options({"source": source, "category": category, **options})
    known = SOURCES[asked.source]
    usual_name = _usual_name(known, asked.category)
    name = asked.name or usual_name
    raw_dir = os.path.join("raw", known.name) if asked.raw_dir is None else asked.raw_dir
    core = known.core if asked.core is None else asked.core
    columns = list(known.columns) if asked.text_columns is None else list(dict.fromkeys(asked.text_columns))

    check_raw_dir(raw_dir)
    variant = asked.variant or choose_variant(known, asked.category, raw_dir)
    wanted = [*known.variants[variant], *([known.metadata] if columns else [])]
    found = [(raw, get_file(known, raw, asked.category, raw_dir, may_download=asked.download)) for raw in wanted]
    metadata = found.pop() if columns else None
    folder = os.path.join(asked.output_dir, name)
    try:
        os.makedirs(folder, exist_ok=True)
        remove_leftovers([folder])
        result = write_atomic_files(known, found, metadata, folder=folder, name=name, core=core, columns=columns)
        settings = write_settings(folder, name, known, columns)
    except OSError as error:
        reason = f"the folder {name} in it cannot be written ({error.strerror or error})"
        raise SettingError("output_dir", asked.output_dir, reason) from error
    published = compare_with_published(usual_name, core, [result[key] for key in ("users", "items", "interactions")])
    return {
        **result,
        **{"name": name, "core": core, "folder": folder, "data_path": asked.output_dir},
        **{"published": published, "settings": settings},
    }


def _usual_name(source: Source, category: str | None) -> str:
    if category is None:
        return source.name
    brand, year = source.name.split("-")
    short = _SHORT.get(category) or "-".join(word for word in category.lower().split("_") if word != "and")
    return f"{brand}-{short}-{year}"


def compare_with_published(dataset: str, core: int, counted: Sequence[int]) -> str:
    """Log a warning that names each difference from the published size.

    Args:
        dataset: its usual name.
        core: of the k-core filter; where sizes are published for another core, nothing is compared.
        counted: users, items, interactions.

    Returns:
        How the comparison came out, in words.
    """
    published = PUBLISHED.get((dataset, core))
    if published is None:
        return f"not known for {dataset} with core={core}"
    differences = [
        f"{ours:,} {name} instead of {theirs:,}"
        for name, ours, theirs in zip(("users", "items", "interactions"), counted, published)
        if theirs is not None and ours != theirs
    ]
    if not differences:
        return "the same"
    getLogger().warning(f"{dataset} has not the size that was published: {', '.join(differences)}")
    return f"differs: {', '.join(differences)}"


def write_settings(folder: str, name: str, source: Source, columns: Sequence[str]) -> str | None:
    """Write ``name.yaml`` beside the atomic files, unless ``properties/dataset/name.yaml`` is there and fits them.

    Args:
        folder: where to.
        name: of the dataset.
        source: with the template for item text.
        columns: of the ``.item`` file, beside the item.

    Returns:
        Its path; None where none is needed.
    """
    path = os.path.join(folder, f"{name}.yaml")
    kept = read_properties(properties_file("dataset", name))
    if kept and all(set(_fields(kept.get(key))) <= set(columns) for key in ("text_template", "title_template")):
        return None
    settings: dict[str, Any] = {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}}
    fields = [field for field in _fields(source.template) if field in columns] or list(columns)
    if fields:
        settings["text_template"] = ", ".join(f"{{{field}}}" for field in fields)
    if "title" in columns:
        settings["title_template"] = "{title}"
    with atomic_write(path) as file:
        yaml.safe_dump(settings, file, sort_keys=False)
    return path


def _fields(template: str | None) -> list[str]:
    return re.findall(r"\{(\w+)\}", template or "")


def report(result: Mapping[str, Any]) -> str:
    """What :func:`prepare_dataset` made, in lines of text."""
    of_interactions, of_items = result["tallies"], result["metadata_tally"]
    read = sum(tally.lines for tally in of_interactions)
    broken = sum(tally.broken for tally in of_interactions)
    kept = result["interactions"]
    lines = [
        f"{result['name']}, core={result['core']}",
        f"  rows read          {read:,} from {', '.join(tally.path for tally in of_interactions)}",
        f"  broken             {broken:,}",
        f"  kept               {kept:,} ({kept / read:.1%})",
        f"  users              {result['users']:,}",
        f"  items              {result['items']:,}",
        f"  interactions       {kept:,}",
        f"  published size     {result['published']}",
    ]
    if of_items is not None:
        lines.append(f"  metadata           {of_items.lines:,} rows from {of_items.path}, {of_items.broken:,} broken")
    if result["titled"] is not None:
        lines.append(f"  items with title   {result['titled']:,} ({result['titled'] / result['items']:.1%})")
    if result["truncated_cells"] is not None:
        lines.append(f"  texts truncated    {result['truncated_cells']:,} (to {CELL_CHARACTERS:,} characters)")
    cut_off = [tally.path for tally in (*of_interactions, of_items) if tally is not None and tally.damage]
    if cut_off:
        lines.append(f"  cut off            {', '.join(cut_off)}")
    command = f"recbole-gr run --dataset={result['name']} --data_path={shlex.quote(result['data_path'])}"
    if result["settings"]:
        command += f" --config_files={shlex.quote(result['settings'])}"
    return "\n".join([*lines, f"  files              {result['folder']}", f"next: {command}"])
