"""Imports go one way: down the list of folders in docs/draw_architecture.py, which also draws docs/architecture.md."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "docs"))
from draw_architecture import FOLDERS, PACKAGE, PAGE, imports, page  # noqa: E402

#: Folders that may import RecBole; what the others need of it comes to them through these.
MAY_IMPORT_RECBOLE = {"data", "integration", "models", "experiment"}
#: Modules that import others of ours inside functions, and why.
LATE = {
    "recbole_gr.cli": "a help or a refused setting must not wait for what another command needs",
    "recbole_gr.cli.parsers": "as recbole_gr.cli",
    "recbole_gr.integration.checkpoint_tokens": "as recbole_gr.integration.compat",
    "recbole_gr.integration.compat": "torch, which the import of recbole_gr does without",
    "recbole_gr.integration.plugin": "runs before RecBole is imported, and these modules import it",
    "recbole_gr.integration.untrusted": "as recbole_gr.integration.compat",
    "recbole_gr.leaderboard.cell_process": "torch and RecBole, in the process of a cell only",
    "recbole_gr.leaderboard.command": "a refused board must not wait for plotly and pandas",
    "recbole_gr.leaderboard.dry_run": "as recbole_gr.leaderboard.row_check",
    "recbole_gr.leaderboard.row_check": "RecBole, when rows are checked as it would read them",
    "recbole_gr.models.llmasrs.model": "transformers",
    "recbole_gr.tokenizers.families.letter": "as recbole_gr.tokenizers.families.rqvae",
    "recbole_gr.tokenizers.families.rqvae": "torch, which reading the settings of a tokenizer does without",
}


def test_page_is_drawn_from_the_code():
    assert PAGE.read_text(encoding="utf-8") == page(), "run python docs/draw_architecture.py"


def test_every_folder_has_its_place():
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(FOLDERS)


def test_imports_go_down_the_list():
    place = {folder: number for number, folder in enumerate(FOLDERS)}
    wrong = [one for one in imports() if set(one.folders) <= set(place) and place[one.folders[0]] > place[one.folders[1]]]
    assert not wrong


def test_only_some_folders_import_recbole():
    assert {one.folders[0] for one in imports() if one.folders[1] == "recbole"} <= MAY_IMPORT_RECBOLE


def test_no_module_imports_itself_by_others():
    after = {}
    for one in imports():
        if not one.late:
            after.setdefault(one.module, set()).add(one.imported)

    def follow(module, way):
        assert module not in way, f"a cycle: {' -> '.join([*way, module])}"
        if module not in done:
            for imported in after.get(module, ()):
                follow(imported, [*way, module])
            done.add(module)

    done = set()
    for module in after:
        follow(module, [])


def test_late_imports_of_our_modules_have_a_reason():
    assert {one.module for one in imports() if one.late and one.imported.startswith("recbole_gr")} == set(LATE)


@pytest.mark.parametrize(
    "line, folders", [("recbole_gr.utils.cache", "utils"), ("recbole.config", "recbole"), ("numpy", "numpy")]
)
def test_folder_of_an_import(line, folders):
    from draw_architecture import Import

    assert Import("recbole_gr.data.seen", line, False).folders == ("data", folders)
