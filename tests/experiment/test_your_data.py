"""docs/your_data.md, followed word for word: from a DataFrame to a leaderboard of two rows."""

import re
import shlex
from pathlib import Path

import pandas as pd

import recbole_gr
from recbole_gr import cli

PAGE = Path(recbole_gr.__file__).parents[1] / "docs" / "your_data.md"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_page(capsys, monkeypatch):
    names = {}
    tables, files, run = blocks("python")
    exec(tables, names)
    exec(files, names)
    assert capsys.readouterr().out.startswith("50 30 400 2024-01-01 2024-10-2")
    written = [Path(path).read_text() for path in ("mydata/shop/shop.inter", "mydata/shop/shop.item")]
    assert written[0].startswith("user_id:token\titem_id:token\ttimestamp:float\nc0\t")
    assert written[1].splitlines()[1].startswith("1000\tred table\tAcme\t")

    names["sales"].to_csv("sales.csv", index=False)
    names["products"].to_csv("products.csv", index=False)
    prepare, leaderboard = (shlex.split(block)[1:] for block in blocks("bash"))
    Path("mydata/shop/shop.inter").unlink()
    assert cli.main(prepare) == 0
    assert "next: recbole-gr run --dataset=shop --data_path=mydata" in capsys.readouterr().out
    assert Path("mydata/shop/shop.inter").read_text() == written[0]

    monkeypatch.setattr("sys.argv", ["a notebook"])
    exec(run, names)
    assert set(names["result"]["test_result"]) == {"recall@5", "recall@10", "ndcg@5", "ndcg@10"}
    assert Path(names["result"]["record"]).is_file()

    Path("shop.yaml").write_text(blocks("yaml")[0])
    assert cli.main(leaderboard) == 0
    page = Path("results/shop.md").read_text()
    assert "| SASRec |" in page and "| TIGER |" in page and Path("results/shop.html").is_file()


def test_the_times_of_the_page_are_exact():
    names = {}
    for block in blocks("python")[:2]:
        exec(block, names)
    table = pd.read_csv("mydata/shop/shop.inter", sep="\t")
    expected = pd.to_datetime(names["sales"]["day"], format="ISO8601").astype("int64") / 1e9
    assert (table["timestamp:float"] - expected).abs().max() < 1e-6
