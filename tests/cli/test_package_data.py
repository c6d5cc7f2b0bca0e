"""What a wheel holds: recipes, boards and dataset files are found by name without a checkout."""

import configparser
import fnmatch
import os
from pathlib import Path

from setuptools import find_packages

import recbole_gr
from recbole_gr.settings.properties import PROPERTIES, named_file

CHECKOUT = Path(recbole_gr.__file__).parent.parent


def setup():
    read = configparser.ConfigParser()
    read.read(CHECKOUT / "setup.cfg", encoding="utf-8")
    return read


def test_every_property_file_is_package_data():
    patterns = setup()["options.package_data"]["recbole_gr.properties"].split()
    paths = [path.relative_to(PROPERTIES).as_posix() for path in PROPERTIES.rglob("*.yaml")]
    assert {os.path.dirname(path) for path in paths} >= {"recipes", "leaderboard", "dataset", "model", "published"}
    assert [path for path in paths if not any(Path(path).match(pattern) for pattern in patterns)] == []
    assert "recipes/grid.yaml" in paths and "leaderboard/ml-100k.yaml" in paths


def test_every_folder_of_python_files_is_a_package():
    """setup.py looks for packages, which a folder is that has an __init__.py; nobody has to list a new one."""
    folders = {path.parent.relative_to(CHECKOUT) for path in (CHECKOUT / "recbole_gr").rglob("*.py")}
    assert {".".join(folder.parts) for folder in folders} == set(find_packages(str(CHECKOUT), include=["recbole_gr*"]))


def test_files_beside_the_python_files_are_package_data():
    data = {package: patterns.split() for package, patterns in setup()["options.package_data"].items()}
    for path in (CHECKOUT / "recbole_gr").rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            where = path.relative_to(CHECKOUT)
            owners = [(".".join(where.parts[:n]), "/".join(where.parts[n:])) for n in range(1, len(where.parts))]
            assert any(fnmatch.fnmatch(rest, pattern) for package, rest in owners for pattern in data.get(package, [])), (
                where
            )


def test_a_bare_name_is_a_recipe_unless_there_is_such_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert named_file("recipes", "grid") == str(PROPERTIES / "recipes" / "grid.yaml")
    assert named_file("recipes", "unknown") == "unknown"
    (tmp_path / "grid").write_text("epochs: 1\n")
    assert named_file("recipes", "grid") == "grid"
