"""``recbole-gr recommend``: the formats agree, what goes wrong is one line, memory holds a batch."""

import json
import os
import shutil

import pandas as pd
import pyarrow.parquet
import pytest
from support.trained_cases import CASES

from recbole_gr import cli
from recbole_gr.recommend import recommender as module
from recbole_gr.recommend import writers
from recbole_gr.recommend.options import check_recommend_options
from recbole_gr.utils.errors import SettingError


def recommend(capsys, *arguments):
    """Runs the command in this process; returns its exit status and what it printed to stdout and stderr."""
    status = cli.main(["recommend", *arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_every_format_holds_what_python_returns(trained, capsys, monkeypatch):
    result, recommender = trained("TIGER")
    monkeypatch.setattr(module, "MOST_USERS_AT_ONCE", 7)  # nine batches
    monkeypatch.setattr(writers, "ROWS_OF_A_GROUP", 100)
    expected = recommender.recommend(k=4, history="valid")
    for name in ("lists.parquet", "lists.csv", "lists.jsonl"):
        status, out, _ = recommend(capsys, result["checkpoint"], "--k=4", "--history=valid", "--output", f"out/{name}")
        assert status == 0 and os.listdir("out") == [name]
        users, speed, output = out.splitlines()
        assert users == "users       60, 240 items; lists proven: 60"
        assert speed.startswith("speed       ") and "users per second" in speed
        assert output == f"output      out/{name}"
        read = {"parquet": pd.read_parquet, "csv": pd.read_csv, "jsonl": lambda path: pd.read_json(path, lines=True)}
        found = read[name.split(".")[1]](f"out/{name}")
        pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-5)
        if name.endswith("parquet"):
            file = pyarrow.parquet.ParquetFile(f"out/{name}")
            assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [112, 112, 16]
            assert str(file.schema_arrow.field("rank").type) == "int32" and file.schema_arrow.names == list(module.COLUMNS)
        os.remove(f"out/{name}")


def test_a_default_place_and_the_latest_result(trained, capsys):
    result, _ = trained("BPR")
    stem = os.path.splitext(os.path.basename(result["checkpoint"]))[0]
    for k in (3, 2):  # the second replaces the first
        status, _, _ = recommend(capsys, result["checkpoint"], f"--k={k}")
        path = os.path.join("results", "recommendations", f"{stem}.parquet")
        assert status == 0 and len(pd.read_parquet(path)) == 60 * k
    assert pd.read_parquet(path)["semantic_id"].isna().all()


def test_users_and_candidates_from_files(trained, capsys, caplog):
    result, recommender = trained("TIGER")
    with open("users.txt", "w", encoding="utf-8-sig") as file:
        file.write("u9\n\nu1 \nnobody\nu9\n")
    with open("items.txt", "w") as file:
        file.write("i1\ni2\ni5\nold\n")
    status, _, _ = recommend(
        capsys, result["checkpoint"], "--users=users.txt", "--candidates=items.txt", "--output=a.jsonl", "--k", "2"
    )
    with open("a.jsonl") as file:
        rows = [json.loads(line) for line in file]
    expected = recommender.recommend(["u9", "u1"], k=2, candidates=["i1", "i2", "i5"])
    assert status == 0 and [row["user"] for row in rows] == expected["user"].tolist()
    assert [row["item"] for row in rows] == expected["item"].tolist()
    assert (
        "1 of 3 users to recommend for are not in the dataset of the checkpoint and are left out, e.g. nobody" in caplog.text
    )
    assert "1 of 4 items of candidates are not in the dataset of the checkpoint and are left out, e.g. old" in caplog.text


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--k=0"], "k=0: must be a whole number of at least 1"),
        (["--format=xml"], "format='xml': must be one of parquet, csv, jsonl, html"),
        (["--history=test"], "history='test': must be one of all, train, valid"),
        (["--users=nobody.txt"], "users='nobody.txt': no such file; it must be all or a file with a token a line"),
        (["--candidates=none.txt"], "candidates='none.txt': no such file with a token a line"),
        (["--users=empty.txt"], "users='empty.txt': is empty; must have a token a line"),
        (["--users=others.txt"], "none of the 2 users to recommend for is in the dataset of the checkpoint, e.g. a, b, "),
        (["--output=."], "output='.': is a folder; must be a file"),
        (["--output=empty.txt/lists.csv"], "output='empty.txt': the folder cannot be made (File exists)"),
        (["--tree_user=u1"], "tree_user='u1': has no use with format=parquet, only with html"),
        (["--format=html", "--tree_user=u1"], "tree_user='u1': BPR does not search semantic IDs by beams"),
        (["--exclude_seen=maybe"], "exclude_seen='maybe': must be True or False"),
    ],
)
def test_what_cannot_work_is_one_line_and_leaves_nothing(arguments, message, trained, capsys):
    result, _ = trained("BPR")
    open("empty.txt", "w").close()
    with open("others.txt", "w") as file:
        file.write("a\nb\n")
    status, out, err = recommend(capsys, result["checkpoint"], *arguments)
    assert status == 2 and out == "" and err.startswith(f"error: {message}") and err.count("\n") == 1
    assert not os.path.exists("results") or not any(files for _, _, files in os.walk("results"))


def test_all_faults_are_said_at_once(trained):
    result, _ = trained("BPR")
    with pytest.raises(SettingError.__base__) as caught:
        check_recommend_options(result["checkpoint"], {"k": 0, "history": "x", "users": "none"})
    assert len(str(caught.value).splitlines()) == 3


def test_an_interrupted_export_leaves_the_old_file(trained, capsys, monkeypatch):
    result, _ = trained("BPR")
    with open("lists.csv", "w") as file:
        file.write("old")
    monkeypatch.setattr(module.Recommender, "table", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        recommend(capsys, result["checkpoint"], "--output=lists.csv")
    assert os.listdir(".") == ["lists.csv"] or set(os.listdir(".")) <= {"lists.csv", "log", "log_tensorboard", "saved"}
    assert open("lists.csv").read() == "old"


def test_settings_of_the_run_may_be_changed_but_for_what_was_trained(trained, tmp_path, capsys):
    result, recommender = trained("TIGER")
    shutil.copytree(CASES / "plain", tmp_path / "moved" / "plain")
    path = tmp_path / "moved" / "plain" / "plain.item"
    path.write_text(
        "".join(line.replace("\t", "\tnew ", 1) for line in path.read_text().splitlines(True)).replace("new t", "t", 1)
    )
    status, _, err = recommend(capsys, result["checkpoint"], "--data_path=moved", "--output=x.csv", "--k=3")
    assert status == 0, err
    lists = pd.read_csv("x.csv")
    assert len(lists) == 3 * len(recommender.user_tokens[1:]) and lists["title"].str.startswith("new ").all()
    for option, message in (
        ("--d_model=8", "d_model=8: the checkpoint was trained with 16"),
        ("--datapath=moved", "datapath='moved': is no option of recommend, nor a setting; did you mean data_path?"),
    ):
        status, _, err = recommend(capsys, result["checkpoint"], option)
        assert status == 2 and err.startswith(f"error: {message}") and err.count("\n") == 1, err
