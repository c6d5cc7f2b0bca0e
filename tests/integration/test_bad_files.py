"""Bad files, each in a command of its own: one line that names what is wrong, and exit status 2; a bug shows its traceback."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.bad_files import BOARD, GOOD, INTER, SID, YAML

from recbole_gr import cli
from recbole_gr.integration import check_run
from recbole_gr.leaderboard.board import LONGEST, Board, Cell, Row, Search
from recbole_gr.leaderboard.board_file import read_board
from recbole_gr.leaderboard.render.markdown import _paragraphs
from recbole_gr.settings.values import read_yaml
from recbole_gr.utils.errors import RecBoleGRError

RUN = ["run", "--epochs=1", "--topk=[1]", "--valid_metric=NDCG@1", "--metrics=['NDCG']", "--show_progress=False"]


@pytest.fixture
def write(tmp_path, smaller_part):
    """Writes a file below the current folder; ``data`` holds the small data."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "small").symlink_to(os.path.join(smaller_part[1], "small"))

    def write_file(name, content):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return name

    return write_file


def refused(capsys, arguments):
    status = cli.main(arguments)
    stderr = capsys.readouterr().err
    lines = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert status == 2 and lines and "Traceback" not in stderr, f"{status}, {stderr}"
    return "\n".join(lines)


def test_the_corpus_is_large():
    assert len(INTER) + len(YAML) + len(BOARD) + len(SID) >= 140


@pytest.mark.parametrize("name", INTER)
def test_interactions(write, capsys, name):
    content, words = INTER[name]
    write("data/bad/bad.inter", content)
    line = refused(capsys, [*RUN, "--model=Pop", "--dataset=bad", "--data_path=data"])
    assert words in line and "bad" in line and "\n" not in line, line


def test_interactions_of_one_each_leave_none_for_training(write, capsys):
    write("data/bad/bad.inter", INTER["one_interaction_each"][0])
    for model in ("SASRec", "SASRecCausal"):
        line = refused(capsys, [*RUN, f"--model={model}", "--dataset=bad", "--data_path=data"])
        assert "no interaction of bad is left for training" in line


def test_a_longer_list_than_there_are_items(write, capsys):
    write("data/bad/bad.inter", GOOD)
    line = refused(capsys, ["run", "--model=Pop", "--dataset=bad", "--data_path=data"])
    assert "topk=[5, 10]: must be at most 9, the number of items of bad" in line


@pytest.mark.parametrize("name", YAML)
def test_settings(write, capsys, name):
    content, words = YAML[name]
    write("bad.yaml", content)
    line = refused(capsys, ["run", "--model=BPR", "--dataset=small", "--data_path=data", "--config_files=bad.yaml"])
    assert words in line and "bad.yaml" in line and "\n" not in line, line


@pytest.mark.parametrize("name", BOARD)
def test_boards(write, capsys, tmp_path, name):
    content, words = BOARD[name]
    write("bad.yaml", content)
    lines = refused(capsys, ["leaderboard", "bad.yaml", "--data_path=data", "--dry-run"])
    assert words in lines and "bad.yaml" in lines, lines
    assert not (tmp_path.parent / "evil").exists() and not (tmp_path / "evil").exists()


@pytest.mark.parametrize("name", SID)
def test_semantic_ids(write, capsys, name):
    ending, content, words = SID[name]
    write("data/bad/bad.inter", GOOD)
    file = write(f"codes{ending}", content)
    arguments = ["--dataset=bad", "--data_path=data", f"--sid_file={file}", "--compare_vectors=False", "--output_dir=ids"]
    line = refused(capsys, ["tokenize", *arguments])
    assert words in line and file in line and "\n" not in line, line


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(content=st.text(alphabet="ab1:-[]{}&*!?|>'\"%@,#~ \n\t\0é", max_size=40) | st.binary(max_size=40))
def test_any_yaml_is_read_or_refused(write, content):
    write("bad.yaml", content)
    for read in (lambda: read_yaml("bad.yaml", "config_files"), lambda: read_board("bad.yaml")):
        try:
            read()
        except RecBoleGRError as error:
            assert "bad.yaml" in str(error)


@pytest.mark.parametrize(
    "content, words",
    [
        ("u,i,t\na\0,b,1\n", "there is a NUL byte in line 2"),
        ("u,i,t\na,b,1,2\n", "more cells than its header"),
        ("u,u,i,t\na,a,b,1\n", "two columns 'u'"),
        ("u,i,t\na,b,inf\n", "infinite numbers"),
        ("u,i,t\na,b,-99999999999999\n", "no dates, beyond the years"),
        ("u,i,t\na,b,99999999999999999999999\n", "no dates, beyond the years"),
        ("u,i,t\na,b,9999-12-31\n", "no times, the first in row 1"),
        ("u,i,t\na,b,1e4000120120\n", "no times, the first in row 1: '1e4000120120'"),
        ("u,i,t\na,b,soon\n", "no times, the first in row 1: 'soon'"),
        ("u,i,t\n,,\n", "none of the 1 interactions"),
        ('u,i,t\n"a,b,1\n', "cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_tables(write, capsys, content, words):
    write("bad.csv", content)
    arguments = ["--user=u", "--item=i", "--time=t", "--output_dir=out"]
    assert words in refused(capsys, ["prepare", "csv", "bad.csv", *arguments])


def test_one_column_for_two(write, capsys):
    write("bad.csv", "u,t\na,1\n")
    line = refused(capsys, ["prepare", "csv", "bad.csv", "--user=u", "--item=u", "--time=t"])
    assert line == "error: user='u': is the column of item already"


def test_what_is_no_model(capsys):
    for name in ("os:path", "os:sep", "collections:OrderedDict"):
        assert f"model='{name}': is no class of a model" in refused(capsys, ["run", f"--model={name}"])


def test_the_name_of_a_cell_fits_a_file():
    row = Row("x" * 400, "BPR", {}, (2020,), True)
    board = Board("b", "small", "", {}, ("Recall",), (5,), "recall@5", (row,), (), False, Search(), "b.yaml", {})
    key = Cell(board, row, 2020).key
    assert key.startswith("x" * LONGEST + "-seed2020-") and len(key) < 200


def test_a_description_is_text_in_markdown():
    evil = "<script>x</script> [a](javascript:x)\n\n# head | `code`\n\n1. one\n- two **bold** under_score"
    assert _paragraphs(evil) == (
        r"\<script\>x\</script\> \[a\](javascript:x)"
        "\n\n"
        r"\# head \| \`code\`"
        "\n\n"
        r"1\. one - two \*\*bold\*\* under\_score"
    )


def test_a_bug_shows_its_traceback_and_says_that_it_is_one(capsys, monkeypatch):
    def broken(*_):
        raise KeyError("a fault of ours")

    monkeypatch.setattr(check_run, "known_keys", broken)
    assert cli.main(["run", "--model=Pop"]) == 1
    stderr = capsys.readouterr().err
    assert stderr.startswith("Traceback (most recent call last)") and "KeyError: 'a fault of ours'" in stderr
    assert stderr.splitlines()[-1].startswith("bug: ") and "error: " not in stderr.splitlines()[-1]
