"""``recbole-gr prepare``: RecBole's atomic files, with text, from the raw files that a data set is published in."""

import os
import re
import shlex

from recbole_gr.prepare import SOURCES
from recbole_gr.prepare.atomic import write_atomic_files
from recbole_gr.prepare.cells import CELL_CHARACTERS
from recbole_gr.prepare.counts import compare_with_published
from recbole_gr.prepare.place import check_raw_dir, choose_variant, get_file
from recbole_gr.prepare.settings_file import write_settings
from recbole_gr.settings.checks import check_choice, check_switch, check_whole_number
from recbole_gr.utils.errors import SettingError

#: On the command line; the source stands first, by itself.
OPTIONS = ("source", "category", "raw_dir", "output_dir", "core", "text_columns", "variant", "name", "download")

#: Names that differ from the category's.
_SHORT = {"Sports_and_Outdoors": "sports", "Toys_and_Games": "toys"}


def prepare(given):
    """Launch :func:`prepare_dataset` from the command line, and print what came out.

    Args:
        given (dict): values by key, all of them text; ``source`` is the name of the source.

    Raises:
        RecBoleGRError: an option or a file cannot work; one line.
    """
    for key in given.keys() - set(OPTIONS):
        raise SettingError(key, given[key], f"recbole-gr prepare has no such option; it has {', '.join(OPTIONS[1:])}")
    options = dict(given)
    if "core" in options:
        core = options["core"]
        options["core"] = int(core) if core.isdecimal() else core
    if "text_columns" in options:
        options["text_columns"] = [name.strip() for name in options["text_columns"].split(",") if name.strip() != "none"]
    if "download" in options:
        options["download"] = {"True": True, "False": False}.get(options["download"], options["download"])
    print(report(prepare_dataset(**{"source": None, **options})))


def prepare_dataset(
    source,
    category=None,
    raw_dir=None,
    output_dir="dataset",
    core=None,
    text_columns=None,
    variant=None,
    name=None,
    download=True,
):
    """Make ``NAME/NAME.inter`` and ``NAME/NAME.item`` under ``output_dir``.

    Files are read line by line. Memory grows with users and items, not with interactions; those are kept in temporary
    files in the folder of the result.

    Args:
        source (str): one of :data:`recbole_gr.prepare.SOURCES`.
        category (str): of the sources that have categories, as in the names of their files.
        raw_dir (str): where the raw files lie, or are downloaded to; None: ``raw/<source>``, as files of several
            sources have the same names.
        output_dir (str): RecBole's ``data_path``.
        core (int): k of the k-core filter; 0 keeps all, None is the source's usual one.
        text_columns (sequence of str): of the ``.item`` file; None takes all that the source has, without any there is no
            ``.item`` file and no metadata is needed.
        variant (str): which files to read interactions from; None takes what is in the folder.
        name (str): of the data set; None makes it of source and category.
        download (bool): get what is missing, where there is a network.

    Returns:
        dict: ``name``, ``folder``, ``users``, ``items``, ``interactions``, ``titled`` (items with a title, or None),
        ``cut_cells`` (texts that were too long for RecBole's reader and are cut, or None),
        ``tallies`` (list of :class:`~recbole_gr.prepare.lines.Tally`, one a file of interactions),
        ``metadata_tally`` (another, or None), ``published`` (how the size compares, in words), ``settings`` (path of a
        yaml file to run with, or None), ``core``, ``data_path``.

    Raises:
        SettingError: an option cannot work, or a folder cannot be written.
        DataError: a file is missing, or is the wrong one; one line.
    """
    check_choice("source", source, tuple(SOURCES))
    source = SOURCES[source]
    usual_name = _usual_name(source, category)
    name = usual_name if name is None else name
    raw_dir = os.path.join("raw", source.name) if raw_dir is None else raw_dir
    core = source.core if core is None else core
    columns = list(source.columns) if text_columns is None else list(dict.fromkeys(text_columns))
    _check_options(source, core, columns, variant, name, download)

    check_raw_dir(raw_dir)
    variant = variant or choose_variant(source, category, raw_dir)
    files = [(raw, get_file(source, raw, category, raw_dir, download)) for raw in source.variants[variant]]
    metadata = (source.metadata, get_file(source, source.metadata, category, raw_dir, download)) if columns else None
    folder = os.path.join(output_dir, name)
    try:
        os.makedirs(folder, exist_ok=True)
        result = write_atomic_files(source, files, metadata, folder, name, core, columns)
        settings = write_settings(folder, name, source, columns)
    except OSError as error:
        reason = f"the folder {name} in it cannot be written ({error.strerror or error})"
        raise SettingError("output_dir", output_dir, reason) from error
    published = compare_with_published(usual_name, core, [result[key] for key in ("users", "items", "interactions")])
    return {
        **result,
        **{"name": name, "core": core, "folder": folder, "data_path": output_dir},
        **{"published": published, "settings": settings},
    }


def _usual_name(source, category):
    if not source.categories:
        if category is not None:
            raise SettingError("category", category, f"{source.name} has no categories")
        return source.name
    if not isinstance(category, str) or not re.fullmatch(r"[A-Za-z0-9_]+", category):
        raise SettingError("category", category, "must be as in the names of the files, for example Sports_and_Outdoors")
    brand, year = source.name.split("-")
    short = _SHORT.get(category) or "-".join(word for word in category.lower().split("_") if word != "and")
    return f"{brand}-{short}-{year}"


def _check_options(source, core, columns, variant, name, download):
    check_whole_number("core", core, 0)
    check_switch("download", download)
    for column in columns:
        check_choice("text_columns", column, tuple(source.columns))
    if variant is not None:
        check_choice("variant", variant, tuple(source.variants))
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise SettingError("name", name, "must be letters, digits, dashes and dots")


def report(result):
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
    if result["cut_cells"] is not None:
        lines.append(f"  texts cut          {result['cut_cells']:,} (to {CELL_CHARACTERS:,} characters)")
    cut_off = [tally.path for tally in (*of_interactions, of_items) if tally is not None and tally.damage]
    if cut_off:
        lines.append(f"  cut off            {', '.join(cut_off)}")
    command = f"python run_recbole_gr.py --dataset={result['name']} --data_path={shlex.quote(result['data_path'])}"
    if result["settings"]:
        command += f" --config_files={shlex.quote(result['settings'])}"
    return "\n".join([*lines, f"  files              {result['folder']}", f"next: {command}"])
