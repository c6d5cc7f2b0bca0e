"""docs/recommend.md, followed: its commands and its Python, with a run that is quick."""

import re
import shlex
import shutil
from pathlib import Path

import pandas as pd
from support.trained_cases import CASES, QUICK_GENERATIVE

from recbole_gr import cli

PAGE = Path(__file__).resolve().parents[2] / "docs" / "recommend.md"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_page_is_followed(capsys):
    shutil.copytree(CASES / "plain", "mydata/shop")
    for kind in ("inter", "item"):
        Path(f"mydata/shop/plain.{kind}").rename(f"mydata/shop/shop.{kind}")
    checkpoint = ""
    for line in blocks("bash")[0].splitlines():
        program, *arguments = shlex.split(line.replace("saved/TIGER-....pth", checkpoint))
        assert program == "recbole-gr"
        if arguments[0] == "run":
            arguments += [f"--{key}={value}" for key, value in QUICK_GENERATIVE.items()]
        assert cli.main(arguments) == 0
        printed = capsys.readouterr().out
        if arguments[0] == "run":
            checkpoint = printed.split()[-1]
    assert len(pd.read_parquet("lists.parquet")) == 600 and "<svg" in Path("page.html").read_text()
    for code in blocks("python"):
        names: dict = {}
        exec(code.replace("saved/TIGER-....pth", checkpoint), names)
        if "lists" in names:
            assert names["lists"]["user"].nunique() == 60 and set(names["lists"]["item"]) <= {"i3", "i8", "i9"}
        else:
            assert names["items"].shape == (2, 20)
