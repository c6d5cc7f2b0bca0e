"""How arguments are read: one style for all commands."""

import pytest

from recbole_gr.cli.arguments import read_arguments
from recbole_gr.utils.errors import RecBoleGRError


@pytest.mark.parametrize(
    "arguments",
    [
        ["--beam_size=50", "--text_template={a} = {b}", "--tie_interval=-1"],
        ["--beam-size", "50", "--text-template", "{a} = {b}", "--tie_interval", "-1"],
        ["--beam-size=50", "--text_template", "{a} = {b}", "--tie-interval=-1"],
    ],
)
def test_both_ways_to_write_a_value_and_a_key(arguments):
    read = read_arguments(arguments)
    assert read.given == {"beam_size": "50", "text_template": "{a} = {b}", "tie_interval": "-1"}
    assert read.normalised() == ["--beam_size=50", "--text_template={a} = {b}", "--tie_interval=-1"]


def test_a_hyphen_of_a_value_and_of_recboles_own_key_stays():
    read = read_arguments(["--dataset=ml-100k", "--time-aware=True", "--record-dir", "my-runs"])
    assert read.given == {"dataset": "ml-100k", "time-aware": "True", "record_dir": "my-runs"}


def test_flags_and_arguments_without_a_key():
    read = read_arguments(["ml-100k", "--dry-run", "--jobs", "2"], flags=("dry_run",), most=1)
    assert read.positional == ["ml-100k"] and read.given == {"dry_run": "True", "jobs": "2"}
    assert read.normalised() == ["ml-100k", "--dry_run=True", "--jobs=2"]
    assert read.normalised(bare_flags=True) == ["ml-100k", "--dry_run", "--jobs=2"]
    assert read_arguments(["--dry_run=False", "x"], flags=("dry_run",), most=1).normalised() == ["x", "--dry_run=False"]


def test_an_empty_value_is_a_value():
    assert read_arguments(["--sid_file=", "--record_dir", ""]).given == {"sid_file": "", "record_dir": ""}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["epochs=3"], "argument 'epochs=3': settings are written --key=value or --key value"),
        (["-e", "3"], "argument '-e': settings are written --key=value or --key value"),
        (["--"], "argument '--': settings are written --key=value or --key value"),
        (["--epochs"], "argument '--epochs' has no value: settings are written --key=value or --key value"),
        (["--epochs", "--seed=1"], "argument '--epochs' has no value: settings are written --key=value or --key value"),
        (["--seed=1", "--seed", "2"], "argument '--seed': seed is given twice"),
        (["--beam-size=1", "--beam_size=1"], "argument '--beam_size=1': beam_size is given twice"),
    ],
)
def test_what_would_be_ignored_is_an_error(arguments, message):
    with pytest.raises(RecBoleGRError) as error:
        read_arguments(arguments)
    assert str(error.value) == message
