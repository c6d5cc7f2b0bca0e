"""``recbole-gr`` and its commands: helps, lists, errors, and that none of them waits for torch."""

import json
import subprocess
import sys

import pytest

import recbole_gr
from recbole_gr import cli
from recbole_gr.integration.check_run import check_run
from recbole_gr.models.registry import find_spec
from recbole_gr.settings.properties import properties_file

COMMANDS = ("run", "tokenize", "recommend", "prepare", "leaderboard", "list")

#: Runs the command line in a process of its own, and says what it cost.
MEASURED = """
import json, resource, sys
from recbole_gr.cli import main
status = main(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"status": status, "seconds": used.ru_utime + used.ru_stime,
                  "heavy": [name for name in ("torch", "recbole", "transformers") if name in sys.modules]}))
"""


def measured(*arguments):
    """Returns what the process says of itself, and what it printed."""
    done = subprocess.run([sys.executable, "-c", MEASURED, *arguments], capture_output=True, text=True, check=True)
    *printed, last = done.stdout.splitlines()
    return json.loads(last), "\n".join(printed), done.stderr


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS)], ids=lambda words: " ".join(words) or "all")
def test_a_help_is_quick_and_imports_no_torch(arguments):
    """Processor seconds, which other processes do not change much; the limit leaves room for a slow machine."""
    said, printed, _ = measured(*arguments, "--help")
    assert said["status"] == 0 and said["heavy"] == [] and said["seconds"] < 3
    assert printed.startswith(" ".join(["usage: recbole-gr", *arguments]))
    assert "docs/" in printed and (not arguments or "examples:\n  recbole-gr " in printed)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["run", "--dropout=2"], "error: dropout=2: must be a number at least 0 and below 1 (set on the command line)"),
        (
            ["run", "--beam-sise", "3"],
            "error: beam_sise=3: is not a setting of any model or dataset; did you mean beam_size?",
        ),
        (["run", "--config_files=grid", "--dropout", "2"], "error: dropout=2: must be a number at least 0 and below 1"),
        (["run", "--model=TIGGER"], "error: model='TIGGER': no such model; did you mean TIGER"),
        (["run", "--sid_format=json"], "error: argument '--sid_format=json': recbole-gr run has no such option"),
        (["run", "--nproc=many"], "error: nproc='many': must be a whole number"),
        (["tokenize", "--sid_format=xml"], "error: sid_format='xml': must be one of json, tokens, pt, parquet, npz"),
        (["tokenize", "--codebook_num=0"], "error: codebook_num=0: must be a whole number of at least 1"),
        (["prepare", "yelp", "--core=few"], "error: core='few': must be a whole number of at least 0"),
        (["recommend"], "error: checkpoint=None: must be a file that a run saved"),
        (["recommend", "no.pth"], "error: checkpoint='no.pth': no such file"),
        (["recommend", "/dev/null"], "error: checkpoint='/dev/null': no such file"),
        (["recommend", __file__], f"error: checkpoint={__file__!r}: is not a checkpoint of RecBole"),
        (
            ["recommend", "no.pth", "--user=3"],
            "error: user=3: is no option of recommend, nor a setting; did you mean users?",
        ),
        (["recommend", "no.pth", "--beams=3"], "error: beams=3: is no option of recommend, nor a setting"),
        (["leaderboard"], "error: the following arguments are required: board"),
        (["leaderboard", "ml-100k", "--jobs", "two"], "error: argument --jobs: invalid int value: 'two'"),
        (["leaderboard", "ml-10k"], "error: board='ml-10k': no such file; boards with a short name: "),
        (["prepare"], "error: source=None: must be one of amazon-2014"),
    ],
)
def test_a_refused_setting_is_quick_and_imports_no_torch(arguments, message):
    said, printed, stderr = measured(*arguments)
    assert said["status"] == 2 and said["heavy"] == [] and said["seconds"] < 6
    assert printed == "" and stderr.count("\n") == 1 and stderr.startswith(message)


@pytest.mark.parametrize("written, meant", [("rum", "run"), ("leaderbord", "leaderboard"), ("tokenise", "tokenize")])
def test_an_unknown_command_is_named_with_a_suggestion(written, meant, capsys):
    assert cli.main([written, "--help"]) == 2
    assert capsys.readouterr().err == f"error: recbole-gr has no command '{written}'; did you mean {meant}?\n"


def test_a_command_that_resembles_none(capsys):
    assert cli.main(["xyz"]) == 2
    expected = "error: recbole-gr has no command 'xyz'; it has run, tokenize, recommend, prepare, leaderboard, study, list\n"
    assert capsys.readouterr().err == expected


def test_without_a_command_the_help_is_an_error(capsys):
    assert cli.main([]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("usage: recbole-gr")


def test_the_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"recbole_gr {recbole_gr.__version__}\n"


def test_the_package_is_a_command_too():
    done = subprocess.run([sys.executable, "-m", "recbole_gr", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == f"recbole_gr {recbole_gr.__version__}\n"


def test_the_help_of_run_has_the_defaults_of_the_settings(capsys):
    assert cli.main(["run", "--help"]) == 0
    printed = capsys.readouterr().out
    for words in (
        "  --beam_size=50   (whole number of at least 1)\n",
        "  --topk=[5, 10]",
        "recbole-gr list settings [MODEL]",
    ):
        assert words in printed


def test_a_reader_that_has_seen_enough_is_no_error():
    code = "import sys; from recbole_gr.cli import main; sys.exit(main(['list', 'datasets']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait() == 0


def listed(capsys, *arguments):
    assert cli.main(["list", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_lists_have_a_line_each(capsys):
    recipes = listed(capsys, "recipes")
    names = [line.split()[0] for line in recipes]
    assert names == sorted(names) and {"grid", "hstu", "idgenrec", "lc_rec", "llm_lora"} <= {*names}
    sentence = "GRID's setting (arXiv 2507.22224): RK-Means, 4+4 layers, a separator after each item, no user token."
    assert recipes[names.index("grid")].split(maxsplit=1) == ["grid", sentence]
    boards = {line.split()[0]: line for line in listed(capsys, "boards")}
    assert set(boards) == {path.stem for path in properties_file("leaderboard", "").parent.glob("*.yaml")}
    assert {"ml-100k", "tiger-beauty", "grid-architecture"} < set(boards)
    assert "Every kind of model side by side" in boards["ml-100k"]
    tokenizers = [line.split()[0] for line in listed(capsys, "tokenizers")]
    assert tokenizers == ["rkmeans", "rvq", "rqvae", "letter", "opq", "pq", "random", "lsh"]
    from recbole.model.sequential_recommender import SASRec

    find_spec(SASRec)  # a run by its class registers it; it stays RecBole's
    models = listed(capsys, "models")
    ours = [line.split()[0] for line in models]
    ours = ours[: ours.index("TIGER") + 1]
    assert ours == sorted(ours) and {"HSTU", "IDGenRec", "LIGER", "LLMasRS", "RPG", "SASRecBCE", "SASRecCausal"} <= {*ours}
    assert any(line.split() == ["SASRec", "RecBole,", "sequential"] for line in models)
    assert len({line.split()[0] for line in models}) == len(models) > 90


def test_recboles_key_with_a_hyphen_is_known():
    assert check_run("DiffRec", "ml-100k", arguments=["--time-aware=True"]).given.values == {"time-aware": True}


def test_datasets_that_are_there_come_first(small_part, capsys):
    lines = listed(capsys, "datasets", f"--data_path={small_part[1]}")
    assert lines[0].split() == ["ml-100k", "bundled", "with", "RecBole"]
    assert lines[1].split() == ["small", "in", f"{small_part[1]}/small"]
    assert any(line.split() == ["yelp", "made", "by", "recbole-gr", "prepare"] for line in lines)
    assert any(line.endswith("downloaded by RecBole") for line in lines)


def test_settings_of_a_model_of_ours_by_concern(capsys):
    lines = listed(capsys, "settings")
    assert lines == listed(capsys, "settings", "TIGER") and lines[0] == "TIGER"
    for title in ("Training", "Decoding", "Protocol", "Tokenizer rkmeans", "Item vectors and semantic IDs"):
        assert title in lines
    assert "  --collision=digit   (one of digit, none, nearest, sinkhorn)" in lines
    place = lines.index("  --epoch_samples=None   (whole number of at least 1)")
    assert lines[place + 1].strip() == "Samples drawn per epoch, counted by their targets; ~: all."


def test_settings_of_a_model_of_recbole(capsys):
    lines = listed(capsys, "settings", "SASRec")
    assert lines[:3] == [
        "RecBole's SASRec",
        "  --n_layers=2   (whole number of at least 0)",
        "      The number of transformer layers in transformer encoder.",
    ]
    assert "  --mask_seen=True   (one of True, False, recbole)" in lines
    assert not any("beam_size" in line for line in lines)
    assert any(line.startswith("  --eval_batch_size=4096   (whole number of at least 1)") for line in lines)
    assert any(line.startswith("  --hidden_act='gelu'   (one of gelu, relu, swish") for line in lines)
    assert any(line.startswith("  --seq_separator=") for line in lines)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "error: kind='': must be one of recipes, boards, studies, models, tokenizers, settings, datasets"),
        (["recipe"], "error: kind='recipe': did you mean recipes?"),
        (["settings", "SASREC"], "error: model='SASREC': no such model; did you mean SASRec"),
        (["boards", "SASRec"], "error: argument 'SASRec': only recbole-gr list settings takes a model"),
        (["boards", "--colour=red"], "error: argument '--colour=red': recbole-gr list has no such option"),
    ],
)
def test_what_cannot_be_listed(arguments, message, capsys):
    assert cli.main(["list", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith(message) and printed.err.count("\n") == 1
