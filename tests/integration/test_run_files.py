"""A run's files are its own: pairs in one second, checkpoints that somebody changed, kills between two files, full disks."""

import glob
import json
import logging
import os
import resource
import shlex
from datetime import datetime

import pandas as pd
import pytest
import recbole.trainer.trainer
import recbole.utils.logger
import torch
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_trainer, init_logger, init_seed
from support.groups import wait_for_copies

from recbole_gr import cli
from recbole_gr.experiment import run as run_module
from recbole_gr.experiment.run import run
from recbole_gr.integration import run_files
from recbole_gr.integration.config import make_config
from recbole_gr.integration.resume import read_training_state
from recbole_gr.integration.run_files import check_space, file_digest, make_run_name, save_checkpoint
from recbole_gr.integration.run_log import RunLog, WatchedWriter
from recbole_gr.utils.errors import DataError, DiskError, SettingError

SETTINGS = {"embedding_size": 8, "epochs": 4, "stopping_step": 100, "train_batch_size": 256, "show_progress": False}


@pytest.fixture
def settings(smaller_part):
    return {**SETTINGS, "data_path": smaller_part[1]}


@pytest.fixture
def ever_better(monkeypatch):
    """Each epoch counts as better than the one before, so that each saves a checkpoint."""
    monkeypatch.setattr(recbole.trainer.trainer, "early_stopping", lambda value, *_, **__: (value, 0, False, True))


@pytest.fixture
def frozen(monkeypatch):
    """The clock that files are named by stands still."""

    class Frozen(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 11, 28, 12, 0, 0)

    monkeypatch.setattr(run_files, "datetime", Frozen)
    for module in (recbole.trainer.trainer, recbole.utils.logger):
        monkeypatch.setattr(module, "get_local_time", lambda: "Nov-28-2026_12-00-00")


def prepared(settings, **more):
    """A trainer, and its loaders."""
    config = make_config("BPR", "small", config_dict={**settings, **more})
    init_seed(config["seed"], config["reproducibility"])
    loaders = data_preparation(config, create_dataset(config))
    model = config.model_class(config, loaders[0]._dataset).to(config["device"])
    return get_trainer(config["MODEL_TYPE"], "BPR")(config, model), loaders


def read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def in_copies(*calls):
    """Call functions in copies of this process, all at once; all must come back."""
    pids = []
    for call in calls:
        pid = os.fork()
        if not pid:
            status = 1
            try:
                call()
                status = 0
            finally:
                os._exit(status)
        pids.append(pid)
    assert wait_for_copies(pids) == [0] * len(pids)


def test_two_runs_in_one_second_have_their_own_results(settings, frozen):
    def one(seed, folder):
        return lambda: run(
            "BPR", "small", config_dict={**settings, "seed": seed, "record_dir": folder, "record_name": f"seed{seed}"}
        )

    in_copies(one(1, "pair"), one(2, "pair"))
    assert len(glob.glob("saved/BPR-small-Nov-28-2026_12-00-00-*[0-9].pth")) == 2
    assert len(glob.glob("log_tensorboard/*")) == len(glob.glob("log/BPR/*.log")) == 2
    tests = []
    for seed in (1, 2):
        one(seed, "alone")()
        pair, alone = read(f"pair/seed{seed}.json"), read(f"alone/seed{seed}.json")
        assert [pair[key] for key in ("test", "valid", "learning_curve")] == [
            alone[key] for key in ("test", "valid", "learning_curve")
        ]
        pd.testing.assert_frame_equal(
            pd.read_parquet(f"pair/seed{seed}.parquet"), pd.read_parquet(f"alone/seed{seed}.parquet")
        )
        tests.append(pair["learning_curve"])
    assert tests[0] != tests[1]


def test_two_trainers_of_one_config_are_two_runs(settings, frozen):
    """Also for who uses RecBole without our commands; the first has the name of the log."""
    config = make_config("BPR", "small", config_dict=settings)
    init_logger(config)
    loaders = data_preparation(config, create_dataset(config))
    files = []
    for _ in range(2):
        model = config.model_class(config, loaders[0]._dataset)
        files.append(get_trainer(config["MODEL_TYPE"], "BPR")(config, model).saved_model_file)
    (log,) = glob.glob("log/BPR/*.log")
    assert len({*files}) == 2 and os.path.basename(files[0])[:-4] == os.path.basename(log)[:-4]
    folders = [os.path.basename(path)[:-4] for path in files]
    assert sorted(os.listdir("log_tensorboard")) == sorted(folders)
    digests = {make_run_name(make_config("BPR", "small", config_dict={**settings, "seed": seed}))[:-13] for seed in (3, 4)}
    assert len(digests) == 2  # one time, other settings


def test_decision_trees_have_their_own_files_too(settings, frozen):
    trainer, _ = prepared(settings)

    class Trees(recbole.trainer.trainer.DecisionTreeTrainer):
        pass

    config = trainer.config
    config["convert_token_to_onehot"] = False
    first, second = (Trees(config, trainer.model) for _ in range(2))
    for name in ("saved_model_file", "temp_file", "temp_best_file"):
        assert getattr(first, name) != getattr(second, name)
    assert first.temp_best_file == first.saved_model_file.replace(".pth", "-temp-best.pth")


def test_a_checkpoint_that_somebody_changed_is_not_tested(settings):
    trainer, (train, valid, test) = prepared(settings)
    trainer.fit(train, valid, show_progress=False)
    path = trainer.saved_model_file
    expected = trainer.evaluate(test, show_progress=False)
    other = torch.load(path, weights_only=False)
    torch.save(other, path + "x")
    os.replace(path + "x", path)
    with pytest.raises(DataError) as raised:
        trainer.evaluate(test, show_progress=False)
    assert str(raised.value) == f"[{path}] is not the checkpoint that this run saved: someone else has changed it"
    assert trainer.evaluate(test, model_file=path, show_progress=False) == expected  # who names it, means it
    os.remove(path)
    with pytest.raises(DataError, match="was removed by someone else"):
        trainer.evaluate(test, show_progress=False)


class PowerCut(BaseException):
    """Stands for a kill."""


def stopped(settings, monkeypatch, when):
    """A run that ends at the state of an epoch, behind it or before it; returns the path of the state before."""
    save = run_module.save_training_state

    def save_and_stop(trainer, train_data, epoch):
        if (epoch, "before") == when:
            raise PowerCut
        save(trainer, train_data, epoch)
        if (epoch, "behind") == when:
            raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "save_training_state", save_and_stop)
        with pytest.raises(PowerCut):
            run("BPR", "small", config_dict=settings)
    (state,) = glob.glob(os.path.join(settings["checkpoint_dir"], "*.last.pth"))
    return state


@pytest.mark.parametrize("when", [(1, "before"), (1, "behind")])
def test_a_run_that_is_killed_between_two_files_goes_on_and_records_all(settings, monkeypatch, ever_better, when):
    """The checkpoint of epoch 1 is saved, its state is not: the one of epoch 0 comes back."""
    whole = read(run("BPR", "small", config_dict={**settings, "checkpoint_dir": "whole"})["record"])
    state = stopped({**settings, "checkpoint_dir": "cut"}, monkeypatch, when)
    previous = glob.glob("cut/*.previous.pth")
    assert len(previous) == (when == (1, "before"))
    resumed = run("BPR", "small", config_dict={**settings, "checkpoint_dir": "cut", "resume": state})
    record = read(resumed["record"])
    for key in ("test", "valid", "learning_curve"):
        assert record[key] == whole[key]
    for stage in ("training", "validation"):
        assert record["stages"][stage]["times"] == whole["stages"][stage]["times"] == 4
    assert record["stages"]["whole"]["times"] == 2 and record["stages"]["data"]["times"] == 2
    assert record["stages"]["whole"]["seconds"] > record["stages"]["training"]["seconds"]
    assert record["resumed_after"] == [0 if when == (1, "before") else 1] and "resumed_after" not in whole
    assert sorted(name.split(".", 1)[1] for name in os.listdir("cut")) == ["last.pth", "pth"]
    weights = [torch.load(glob.glob(f"{folder}/*[0-9].pth")[0], weights_only=False) for folder in ("whole", "cut")]
    for name, value in weights[0]["state_dict"].items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, weights[1]["state_dict"][name]), name


def test_a_state_is_refused_with_another_checkpoint_or_other_data(settings, monkeypatch, smaller_part, tmp_path):
    settings = {**settings, "checkpoint_dir": "cut"}
    state = stopped(settings, monkeypatch, (1, "behind"))
    checkpoint = state.replace(".last.pth", ".pth")

    folder = tmp_path / "changed" / "small"
    folder.mkdir(parents=True)
    with open(os.path.join(smaller_part[1], "small", "small.inter")) as file:
        head, *lines = file.read().splitlines()
    first, second = lines[0].split("\t"), lines[1].split("\t")
    first[2], second[2] = second[2], first[2]  # the same users, items and numbers of samples
    (folder / "small.inter").write_text("\n".join([head, "\t".join(first), "\t".join(second), *lines[2:]]) + "\n")
    changed = {**settings, "data_path": str(tmp_path / "changed"), "resume": state}
    with pytest.raises(SettingError, match=r"^resume=.*: its data have changed since \(digest \w{16}, now \w{16}\)"):
        run("BPR", "small", config_dict=changed)

    digest = file_digest(checkpoint)
    with open(checkpoint, "ab") as file:
        file.write(b"x")
    with pytest.raises(SettingError, match=r"its best checkpoint \[.*\] is not the one that was saved with it"):
        read_training_state(state)
    with open(checkpoint, "r+b") as file:
        file.truncate(os.path.getsize(checkpoint) - 1)
    assert file_digest(checkpoint) == digest and read_training_state(state)["checkpoint"] == checkpoint


def test_a_checkpoint_stays_where_the_next_cannot_be_written(tmp_path):
    path, before = str(tmp_path / "x.pth"), resource.getrlimit(resource.RLIMIT_FSIZE)
    save_checkpoint({"epoch": 0}, path)
    (tmp_path / "x.last.pth").touch()
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(DiskError, match=r"x.pth\] cannot be written \(File too large\)"):
            save_checkpoint({"epoch": 1, "weights": torch.rand(50_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert torch.load(path) == {"epoch": 0} and sorted(os.listdir(tmp_path)) == ["x.last.pth", "x.pth"]


@pytest.mark.parametrize("file", ["save_checkpoint", "save_training_state", "write_record"])
def test_a_disk_that_fills_up_prints_the_command_that_goes_on(file, settings, monkeypatch, ever_better, capsys):
    """At the checkpoint and the state of an epoch behind the first, and at the record."""
    given = [f"--{key}={value}" for key, value in settings.items()]
    arguments = ["run", "--model=BPR", "--dataset=small", *given]
    monkeypatch.setattr("sys.argv", ["recbole-gr"])
    assert cli.main([*arguments, "--record_dir=whole", "--checkpoint_dir=whole"]) == 0
    whole = read(glob.glob("whole/*.json")[0])
    capsys.readouterr()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    owner = run_files if file == "save_checkpoint" else run_module
    original = getattr(owner, file)

    def on_a_full_disk(*args):
        if file == "write_record" or glob.glob("saved/*.last.pth"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        return original(*args)

    with monkeypatch.context() as patch:
        options = {"save_checkpoint": lambda state, path, **_: on_a_full_disk(state, path)}
        patch.setattr(owner, file, options.get(file, on_a_full_disk))
        try:
            assert cli.main(arguments) == 2
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    said, command = line.split("; to go on after the last validated epoch: ")
    assert said.endswith("] cannot be written (File too large)")
    words = shlex.split(command)
    assert words[0] == "recbole-gr" and words[-1].startswith("--resume=saved/BPR-")
    assert cli.main(words[1:]) == 0
    (record,) = glob.glob("results/runs/*.json")
    assert {key: read(record)[key] for key in ("test", "learning_curve")} == {
        key: whole[key] for key in ("test", "learning_curve")
    }
    assert glob.glob("**/*.tmp", recursive=True) == []


def test_a_log_that_cannot_be_written_is_told_once(capsys):
    """Nor tensorboard's files; the training goes on, whose checkpoint matters more."""
    logger, told = logging.getLogger(), logging.StreamHandler()
    log = RunLog("/dev/full")
    before = logger.handlers[:], logger.level
    logger.handlers[:] = [told, log]
    logger.setLevel(logging.INFO)
    try:
        for _ in range(3):
            logger.info("a line")
        full = WatchedWriter(lambda folder: logging.FileHandler("/dev/full").stream, "log_tensorboard/x")
        for _ in range(3):
            full.write("x" * 100_000)
    finally:
        logger.handlers[:] = before[0]
        logger.setLevel(before[1])
    lines = capsys.readouterr().err.splitlines()
    reason = "cannot be written (No space left on device); the run goes on without."
    assert lines == [
        "a line",
        f"The log [/dev/full] {reason}",
        "a line",
        "a line",
        f"Tensorboard's folder [log_tensorboard/x] {reason}",
    ]


def test_what_can_be_known_is_said_before_any_work(settings, monkeypatch):
    open("log", "w").close()
    with pytest.raises(DataError, match=r"log\] cannot be written \(Not a directory\); RecBole writes log/BPR"):
        make_config("BPR", "small", config_dict=settings)
    os.remove("log")
    unwritable = "/proc/self" if os.geteuid() == 0 else "read_only"
    os.makedirs("read_only", mode=0o500)
    for key in ("checkpoint_dir", "record_dir"):
        with pytest.raises(SettingError, match=f"^{key}=.*the folder cannot be written"):
            make_config("BPR", "small", config_dict={**settings, key: unwritable})
    trainer, _ = prepared(settings)
    check_space(trainer)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(SettingError, match="^checkpoint_dir='saved': has room for 0.0 MB; the best checkpoint and"):
        check_space(trainer)
