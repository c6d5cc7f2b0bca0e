"""What a shell is offered, as argcomplete asks for it."""

import os
import subprocess
import sys

import pytest


def offered(line, program=("-m", "recbole_gr")):
    """What is offered at the end of a line."""
    environment = {
        **os.environ,
        **{"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SUPPRESS_SPACE": "1", "_ARGCOMPLETE_SHELL": "zsh"},
        **{"_ARGCOMPLETE_STDOUT_FILENAME": "offered", "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9"},
    }
    subprocess.run([sys.executable, *program], env=environment, check=True, capture_output=True)
    with open("offered", encoding="utf-8") as file:
        return {word.replace("\\:", ":").partition(":")[0].strip() for word in file.read().split("\n") if word}


@pytest.mark.parametrize(
    "line, expected, never",
    [
        ("recbole-gr ", {"run", "tokenize", "prepare", "leaderboard", "list"}, {"SASRec"}),
        ("recbole-gr lea", {"leaderboard"}, {"list"}),
        ("recbole-gr run --model SAS", {"SASRec", "SASRecBCE", "SASRecCausal", "SASRecF"}, {"TIGER"}),
        ("recbole-gr run --config_files gr", {"grid"}, {"sasrec"}),
        ("recbole-gr run --beam", {"--beam_size", "--beam_certify"}, {"--epochs"}),
        ("recbole-gr run --collision ", {"digit", "none", "nearest", "sinkhorn"}, set()),
        (
            "recbole-gr run --model=SASRec --hidden",
            {"--hidden_size", "--hidden_dropout_prob", "--hidden_act"},
            {"--beam_size"},
        ),
        ("recbole-gr tokenize --tokenizer rq", {"rqvae"}, {"rvq"}),
        ("recbole-gr leaderboard ml", {"ml-100k"}, {"amazon-beauty-2014"}),
        ("recbole-gr prepare ama", {"amazon-2014", "amazon-2018", "amazon-2023"}, {"yelp"}),
        ("recbole-gr list rec", {"recipes"}, {"models"}),
    ],
)
def test_a_line_is_completed(line, expected, never):
    found = offered(line)
    assert expected <= found and not never & found


def test_scripts_say_that_they_can_be_completed():
    """argcomplete's global completion looks for this in the first kilobyte."""
    import recbole_gr

    package = os.path.dirname(recbole_gr.__file__)
    for path in ("cli/__init__.py", "__main__.py", "../run_recbole_gr.py"):
        with open(os.path.join(package, path), encoding="utf-8") as file:
            assert "PYTHON_ARGCOMPLETE_OK" in file.read(1024)
