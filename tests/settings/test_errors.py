"""Bad input: one line, before any long work, that names the key, the value and what is allowed."""

import json
import os

import pytest

from recbole_gr import cli
from recbole_gr.experiment.run import run

TIGER = ["--model=TIGER", "--dataset=small"]


@pytest.fixture
def command(small_part, tiny_settings, capsys):
    """Runs the command line with the tiny settings in a yaml file; returns exit status and what stood on stderr."""
    with open("tiny.yaml", "w") as file:
        json.dump(tiny_settings, file)  # json is yaml

    def run_with(*arguments):
        status = cli.main(["run", "--config_files=tiny.yaml", *arguments])
        return status, capsys.readouterr().err

    return run_with


def assert_one_line(outcome, *words):
    status, stderr = outcome
    assert "Traceback" not in stderr
    lines = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert status == 2 and len(lines) == 1, stderr
    for word in words:
        assert word in lines[0], lines[0]
    assert not os.path.exists("saved") or not any(name.endswith(".pth") for name in os.listdir("saved"))


@pytest.mark.parametrize(
    "setting, words",
    [
        ("--tokenizer=kmeans", ["tokenizer='kmeans'", "rkmeans", "on the command line"]),
        ("--collision=digits", ["collision='digits'", "digit, none"]),
        ("--decoding=greedy", ["decoding='greedy'", "constrained, free"]),
        ("--model_size=12M", ["model_size='12M'", "13M"]),
        ("--schedule=linear", ["schedule='linear'", "cosine"]),
        ("--mask_seen=1", ["mask_seen=1", "True, False, recbole"]),
        ("--valid_metric=NDCG@20", ["valid_metric='NDCG@20'", "ndcg@10"]),
        ("--text_max_tokens=long", ["text_max_tokens='long'", "whole number"]),
        ("--record_dir=/proc/none", ["record_dir='/proc/none'", "cannot be"]),
        ("--mask_seen=maybe", ["mask_seen='maybe'", "True, False, recbole"]),
        ("--timestamp_order=file", ["timestamp_order='file'", "exact, recbole"]),
        ("--tie_order=random", ["tie_order='random'", "file, shuffled"]),
        ("--tie_interval=-1", ["tie_interval=-1", "at least 0"]),
        ("--tie_seed=now", ["tie_seed='now'", "whole number"]),
        ("--beam_size=9", ["beam_size=9", "topk, 10"]),
        ("--beam_size=wide", ["beam_size='wide'", "whole number"]),
        ("--codebook_size=0", ["codebook_size=0", "at least 1"]),
        ("--codebook_size=5000", ["codebook_size=5000", "number of items"]),
        ("--dropout=1.5", ["dropout=1.5"]),
        ("--torch_compile=perhaps", ["torch_compile='perhaps'", "True or False"]),
        ("--separator=True", ["separator=True", "history_position=code"]),
        ("--augmentation=sliding", ["augmentation='sliding'", "prefix, window, none"]),
        ("--architecture=prefix_lm", ["architecture='prefix_lm'", "needs loss_positions=last"]),
        ("--decoding=free", ["beam_certify=True", "decoding=constrained"]),
        ("--metrics=['Recall','NDCG','GAUC']", ["metrics='GAUC'", "uni100"]),
        ("--resume=saved/none.pth", ["resume='saved/none.last.pth'", "no such training state"]),
        ("--sid_file=none.json", ["sid_file='none.json'", "no such file"]),
        ("--sid_file=none.csv", ["sid_file='none.csv'", ".json", ".npz"]),
        ("--item_vector_file=none.npy", ["item_vector_file='none.npy'"]),
        ("--TIME_FIELD=when", ["small.inter", "'when'", "TIME_FIELD", "user_id, item_id, timestamp"]),
    ],
)
def test_values_that_cannot_work(command, setting, words):
    assert_one_line(command(*TIGER, setting), *words)


def test_the_file_that_set_a_value_is_named(command):
    with open("tiny.yaml") as file:
        settings = json.load(file)
    with open("tiny.yaml", "w") as file:
        json.dump({**settings, "beam_size": 3}, file)
    assert_one_line(command(*TIGER), "beam_size=3", "in tiny.yaml")


def test_unknown_model(command):
    assert_one_line(command("--model=TIGGER", "--dataset=small"), "model='TIGGER'", "no such model", "TIGER")
    assert_one_line(command("--model=sasrec", "--dataset=small"), "model='sasrec'", "SASRec")


def test_dataset_folder_missing(command):
    assert_one_line(command("--model=TIGER", "--dataset=smaller"), "dataset='smaller'", "no folder", "data_path")


def test_dataset_folder_without_its_file(command, small_part):
    os.makedirs(os.path.join(small_part[1], "empty"))
    assert_one_line(command("--model=Pop", "--dataset=empty"), "dataset='empty'", "no file empty.inter")


def test_text_column_missing(command):
    words = ["small.item", "'movie'", "movie_title, release_year, class"]
    assert_one_line(command(*TIGER, "--item_vector_file=None", "--text_template={movie}"), *words)


def test_encoder_not_on_disk(command, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    outcome = command(*TIGER, "--item_vector_file=None", "--text_encoder=no-such-group/no-such-encoder")
    assert_one_line(outcome, "text_encoder='no-such-group/no-such-encoder'", "all-MiniLM-L6-v2")
    outcome = command(*TIGER, "--item_vector_file=None", "--text_encoder=./no/such/folder")
    assert_one_line(outcome, "text_encoder='./no/such/folder'")


def test_codes_that_do_not_cover_the_catalogue(command, small_part):
    with open(os.path.join(small_part[1], "small", "small.item")) as file:
        tokens = [line.split("\t")[0] for line in file.read().splitlines()[1:]]
    with open("codes.json", "w") as file:
        json.dump({token: [1, 2] for token in tokens[2:]}, file)
    words = ["sid_file='codes.json'", f"2 of {len(tokens)} items", tokens[0]]
    assert_one_line(command(*TIGER, "--sid_file=codes.json"), *words)


def test_arguments_that_recbole_would_ignore(command):
    for argument in ("epochs=3", "--epochs", "-e"):
        assert_one_line(command(*TIGER, argument), repr(argument), "--key=value")
    assert_one_line(command(*TIGER, "--epochs=3", "--epochs", "4"), "'--epochs'", "epochs is given twice")


def test_a_missing_config_file(command):
    os.remove("tiny.yaml")
    assert_one_line(command(*TIGER), "config_files='tiny.yaml'", "no such file")


def test_an_unknown_key_stops_the_run(command):
    words = ["beam_sise=3", "is not a setting of any model or dataset", "did you mean beam_size?", "on the command line"]
    assert_one_line(command(*TIGER, "--beam_sise=3"), *words)


def test_all_faults_are_said_together_one_line_each(command):
    status, stderr = command(*TIGER, "--beam_sise=3", "--tokenizer=kmeans", "--dropout=2", "--tie_interval=-1")
    lines = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert status == 2 and "Traceback" not in stderr
    assert sorted(line.split(":")[1].split("=")[0].strip() for line in lines) == [
        "beam_sise",
        "dropout",
        "tie_interval",
        "tokenizer",
    ]


def test_a_damaged_cache_is_made_anew_with_a_warning(small_part, tiny_settings, caplog):
    first = run("TIGER", "small", config_dict=tiny_settings)
    (entry,) = os.listdir(tiny_settings["cache_dir"])
    path = os.path.join(tiny_settings["cache_dir"], entry)
    with open(path, "r+b") as file:
        file.truncate(os.path.getsize(path) // 2)
    caplog.clear()
    again = run("TIGER", "small", config_dict=tiny_settings)
    assert any(record.levelname == "WARNING" and path in record.getMessage() for record in caplog.records)
    assert again["test_result"] == first["test_result"]


def test_a_training_state_of_another_dataset(small_part, tiny_settings, capsys):
    run("TIGER", "small", config_dict=tiny_settings)
    state = next(os.path.join("saved", name) for name in os.listdir("saved") if name.endswith(".last.pth"))
    folder = os.path.join(small_part[1], "other")
    os.makedirs(folder)
    for kind in ("inter", "item"):
        with open(os.path.join(small_part[1], "small", f"small.{kind}")) as file:
            text = file.read()
        with open(os.path.join(folder, f"other.{kind}"), "w") as file:
            file.write(text)
    with open("tiny.yaml", "w") as file:
        json.dump(tiny_settings, file)
    capsys.readouterr()
    status = cli.main(["run", "--model=TIGER", "--dataset=other", "--config_files=tiny.yaml", f"--resume={state}"])
    stderr = capsys.readouterr().err
    assert status == 2
    assert "was trained with dataset small, this run has other" in stderr and "on the command line" in stderr


def test_a_checkpoint_of_another_catalogue(small_part, tiny_settings):
    import torch
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation

    from recbole_gr.models.tiger.model import TIGER as Model
    from recbole_gr.utils.errors import DataError

    run("TIGER", "small", config_dict=tiny_settings)
    path = next(os.path.join("saved", n) for n in os.listdir("saved") if n.endswith(".pth") and "last" not in n)
    state = torch.load(path, weights_only=False)["state_dict"]
    settings = {**tiny_settings, "item_inter_num_interval": "[2,inf)"}
    config = Config("TIGER", "small", config_dict=settings)
    model = Model(config, data_preparation(config, create_dataset(config))[0]._dataset)
    model.load_state_dict(state)  # by the tokens of the items that are left
    del state._metadata["recbole_gr_tokens"]  # as in checkpoints from before they kept any
    with pytest.raises(
        DataError, match=f"catalogue of {len(state['item_codes']) - 1} items, this one has {model.n_items - 1}"
    ):
        model.load_state_dict(state)


def test_a_training_state_of_other_settings(small_part, tiny_settings):
    from recbole_gr.utils.errors import SettingError

    run("TIGER", "small", config_dict=tiny_settings)
    state = next(os.path.join("saved", name) for name in os.listdir("saved") if name.endswith(".last.pth"))
    for key, value in (("learning_rate", 0.5), ("d_model", 32), ("learner", "sgd"), ("MAX_ITEM_LIST_LENGTH", 5)):
        with pytest.raises(SettingError, match=f"was trained with {key}="):
            run("TIGER", "small", config_dict={**tiny_settings, key: value, "resume": state})


def test_not_a_training_state(small_part, tiny_settings):
    with open("x.last.pth", "w") as file:
        file.write("no")
    from recbole_gr.utils.errors import SettingError

    with pytest.raises(SettingError, match="not a training state"):
        run("TIGER", "small", config_dict={**tiny_settings, "resume": "x.last.pth"})
