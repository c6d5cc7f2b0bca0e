"""docs/add_a_model.md, followed word for word: a model from outside the package; and a subclass of three lines, in all ways."""

import json
import os
import re
import shlex
import shutil
import sys

import pytest
import tomllib
from support.forked import finished
from support.model_tests import GenerativeModelTests

import recbole_gr
from recbole_gr.models import registry
from recbole_gr.utils.errors import SettingError

REPOSITORY = os.path.dirname(os.path.dirname(recbole_gr.__file__))
PAGE = os.path.join(REPOSITORY, "docs", "add_a_model.md")

SUBCLASS = """
from recbole_gr.models.tiger.model import TIGER
class MyTIGER(TIGER):
    pass
"""


def blocks(language):
    with open(PAGE, encoding="utf-8") as file:
        return re.findall(rf"```{language}\n(.*?)```", file.read(), re.DOTALL)


@pytest.fixture
def registered(monkeypatch):
    """What is registered within a test is forgotten after it."""
    registry.model_names()
    monkeypatch.setattr(registry, "_SPECS", {**registry._SPECS})


@pytest.fixture
def page_model(registered, tmp_path, monkeypatch):
    """The model of the page, registered as a notebook would."""
    (tmp_path / "shop_models.py").write_text(blocks("python")[0])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "shop_models", raising=False)
    import shop_models

    yield recbole_gr.register(shop_models.SPEC)
    del sys.modules["shop_models"]


@pytest.mark.usefixtures("page_model")
class TestCodeLM(GenerativeModelTests):
    """As the last block of the page has it."""

    names: dict = {}
    exec(blocks("python")[1], names)
    model, settings = names["TestCodeLM"].model, names["TestCodeLM"].settings

    def test_the_page_tests_it_by_the_same_suite(self):
        assert issubclass(self.names["TestCodeLM"], GenerativeModelTests)


@pytest.fixture
def site(tmp_path):
    """A folder as pip leaves it when it has installed the package of the page."""
    folder = tmp_path / "site"
    (folder / "shop_models-1.0.dist-info").mkdir(parents=True)
    (folder / "shop_models.py").write_text(blocks("python")[0])
    (folder / "shop_models-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: shop_models\nVersion: 1.0\n"
    )
    ((group, points),) = tomllib.loads(blocks("toml")[0])["project"]["entry-points"].items()
    assert group == registry.ENTRY_POINTS
    lines = "".join(f"{name} = {place}\n" for name, place in points.items())
    (folder / "shop_models-1.0.dist-info" / "entry_points.txt").write_text(f"[{group}]\n{lines}")
    return str(folder)


def in_process(site, *command):
    """Exit status and what was printed, of a command in a process that has a folder on its path, as if installed there."""
    status, printed, log = finished(list(command), path=[str(site)])
    return status, printed + log


def unnamed(site):
    """The module of the page alone, with no package around it."""
    folder = os.path.join(os.path.dirname(site), "alone")
    os.makedirs(folder)
    return os.path.dirname(shutil.copy(os.path.join(site, "shop_models.py"), folder))


def test_the_commands_of_the_page(site, small_part, tiny_settings):
    with open("tiny.yaml", "w") as file:
        json.dump(tiny_settings, file)
    commands = [shlex.split(line) for line in blocks("bash")[0].splitlines()]
    assert [command[:2] for command in commands] == [["recbole-gr", "run"], ["recbole-gr", "list"]]
    run = [argument.replace("ml-100k", "small") for argument in commands[0][1:]] + ["--config_files=tiny.yaml"]
    code, printed = in_process(site, *run)
    assert code == 0, printed[-3000:]
    (record,) = (name for name in os.listdir("results/runs") if name.endswith(".json"))
    with open(os.path.join("results/runs", record)) as file:
        record = json.load(file)
    assert record["model"] == "CodeLM" and record["config"]["width"] == 32
    code, printed = in_process(site, *commands[1][1:])
    assert code == 0 and "width" in printed and "Width of the network." in printed
    beside = [argument.replace("CodeLM", "shop_models:CodeLM") for argument in run]  # which needs no entry point
    code, printed = in_process(unnamed(site), *beside, "--record_dir=beside")
    assert code == 0 and [name for name in os.listdir("beside") if name.startswith("CodeLM-")], printed[-3000:]
    code, printed = in_process(site, *[argument.replace("32", "2") for argument in run])
    assert code == 2 and "error: width=2: must be a whole number of at least 4 (set on the command line)" in printed


def test_a_subclass_of_three_lines_by_name_by_class_by_path_and_by_recboles_function(
    registered, tmp_path, monkeypatch, small_part, tiny_settings
):
    from recbole.quick_start import run_recbole

    expected = recbole_gr.run("TIGER", "small", config_dict=tiny_settings)["test_result"]
    (tmp_path / "mine.py").write_text(SUBCLASS)
    monkeypatch.syspath_prepend(str(tmp_path))
    import mine

    assert recbole_gr.run(mine.MyTIGER, "small", config_dict=tiny_settings)["test_result"] == expected
    assert recbole_gr.run("MyTIGER", "small", config_dict=tiny_settings)["test_result"] == expected
    assert run_recbole(model="MyTIGER", dataset="small", config_dict=tiny_settings)["test_result"] == expected
    with open("tiny.yaml", "w") as file:
        json.dump(tiny_settings, file)
    arguments = ["--model=mine:MyTIGER", "--dataset=small", "--config_files=tiny.yaml", "--record_dir=by_command"]
    code, printed = in_process(tmp_path, "run", *arguments)
    assert code == 0, printed[-3000:]
    (record,) = (name for name in os.listdir("by_command") if name.endswith(".json"))
    with open(os.path.join("by_command", record)) as file:
        record = json.load(file)
    assert record["model"] == "MyTIGER" and record["test"] == {key: float(value) for key, value in expected.items()}
    assert recbole_gr.register(mine.MyTIGER).settings == registry.find_spec("TIGER").settings


def test_a_name_is_taken_once(registered):
    first = type("Twice", (), {"__module__": "one"})
    recbole_gr.register(first)
    with pytest.raises(SettingError, match="^model='Twice': there is a model of this name already, one:Twice"):
        recbole_gr.register(type("Twice", (), {"__module__": "two"}))


@pytest.mark.parametrize(
    "place, words",
    [
        ("no_such_package:X", "there is no module no_such_package"),
        ("recbole_gr.models.base:NoSuchModel", "the module recbole_gr.models.base has no NoSuchModel"),
    ],
)
def test_a_path_that_leads_nowhere_is_one_line(place, words):
    with pytest.raises(SettingError, match=f"^model='{place}': {words}$"):
        recbole_gr.run(place, "ml-100k")


def test_an_unknown_model_is_one_line_in_recboles_functions_too():
    from recbole.config import Config
    from recbole.quick_start import run_recbole
    from recbole.utils import get_model

    for ask in (get_model, lambda name: run_recbole(name, "ml-100k"), lambda name: Config(name, "ml-100k")):
        with pytest.raises(SettingError, match="^model='SASRek': no such model; did you mean SASRec"):
            ask("SASRek")
