"""Two processes train what one trains; they go on with any number, and an error of one ends all."""

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist
from recbole.model.sequential_recommender.gru4rec import GRU4Rec
from recbole.quick_start import load_data_and_model, run_recbole
from support.groups import Group, read, run_together
from support.processes import REPOSITORY
from support.trained_cases import CASES, settings_of

from recbole_gr.cli import main
from recbole_gr.experiment.launch import spawn_runs
from recbole_gr.experiment.run import run
from recbole_gr.integration.processes import SharedBatches, share_of
from recbole_gr.integration.resume import _draw_batches_as, _random_states
from recbole_gr.settings.field import RunValues
from recbole_gr.settings.recbole_keys import on_several_processes
from recbole_gr.utils.errors import DataError, RecBoleGRError
from recbole_gr.utils.process_group import ENVIRONMENT, GroupEndedError, join, own_place, without_place

#: Without chance in training, in float32: what is left are sums in another order.
EXACT = {
    **{"dropout": 0.0, "lora_dropout": 0.0, "hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0},
    **{"train_precision": "float32", "precision": "float32"},
}
SASREC = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0, "hidden_size": 16, "inner_size": 16, "n_layers": 1}
#: By name: the model, and its settings. Batches of 41 leave few samples, and once a single one, in the last batch.
MODELS = {
    "TIGER, last": {"loss_positions": "last", "schedule": "cosine", "weight_ema_decay": 0.9},
    "IDGenRec": {},
    "LLMasRS": {"gradient_accumulation": 3, "train_batch_size": 21},
    "HSTU": {},
    "SASRec": {**SASREC, "metrics": ["Recall", "NDCG", "GAUC", "GiniIndex", "ItemCoverage"]},
}
#: What a record says of processes, of the time, and of where things lie; FLOPs are counted in one process only.
MAY_DIFFER = {
    "processes",
    "nproc",
    "world_size",
    "offset",
    "single_spec",
    "created",
    "stages",
    "peak_memory_mb",
    "training_flops",
}


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """The path of a file of item vectors."""
    path = tmp_path_factory.mktemp("vectors") / "vectors.npz"
    items = pd.read_csv(CASES / "plain" / "plain.item", sep="\t", dtype=str)["item_id:token"]
    values = np.random.default_rng(0).normal(size=(len(items), 12)).astype(np.float32)
    np.savez(path, item_id=items.to_numpy(dtype=str), vectors=values)
    return str(path)


def settings_for(name, vectors, **more):
    """Settings with which a model trains on 40 items in a second, and writes into the current folder."""
    model = name.split(",")[0]
    quick = settings_of(model)
    known = {*quick.pop("known"), "train_batch_size"}
    places = {"data_path": str(CASES), "cache_dir": "cache", "item_vector_file": vectors}
    given = {"train_batch_size": 41, **quick, **EXACT, **places}
    kept = {key: value for key, value in given.items() if key in known}
    return {**kept, **MODELS[name], "record_dir": "records", "record_name": "record", **more}


def trained(name, settings):
    """What a run left: its result, its record, and the ranks of the test's targets."""
    sys.argv = ["recbole-gr", "run"]
    result = run(name.split(",")[0], "plain", config_dict=settings)
    if "record" not in result:
        return None
    with open(result["record"], encoding="utf-8") as file:
        record = json.load(file)
    return result, record, pd.read_parquet(result["record"].replace(".json", ".parquet"))


def without(record, keys):
    """A record without some keys, wherever they are."""
    if isinstance(record, list):
        return [without(part, keys) for part in record]
    if not isinstance(record, dict):
        return record
    return {key: without(value, keys) for key, value in record.items() if key not in keys and "per_second" not in key}


@pytest.mark.parametrize("name", MODELS)
def test_two_processes_train_what_one_does(name, vectors, tmp_path, monkeypatch):
    settings = settings_for(name, vectors)
    (tmp_path / "one").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    _, one, ranks = trained(name, settings)
    result, two, ranks_of_two = run_together(2, lambda: trained(name, settings), tmp_path / "two")

    losses = [[epoch.pop("train_loss") for epoch in record["learning_curve"]] for record in (one, two)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    assert without(two, MAY_DIFFER) == without(one, MAY_DIFFER)
    pd.testing.assert_frame_equal(ranks_of_two, ranks)
    assert len(ranks) == one["dataset_statistics"]["users"]
    assert set(two["stages"]) == set(one["stages"]) and {"ip", "port"}.isdisjoint(two["config"])

    assert [process["device"] for process in two["processes"]] == ["cpu", "cpu"] and "processes" not in one
    assert all(process["peak_memory_mb"] > 100 and process["seconds"] > 0 for process in two["processes"])
    for folder in ("saved", "records", "log"):  # one process writes for all
        count = [sum(len(files) for _, _, files in os.walk(tmp_path / where / folder)) for where in ("one", "two")]
        assert count[0] == count[1] > 0
    check_that_one_process_opens(tmp_path / "two" / result["checkpoint"], tmp_path / "two", monkeypatch)


def check_that_one_process_opens(checkpoint, folder, monkeypatch):
    monkeypatch.chdir(folder)
    config, _, _, _, _, test_data = load_data_and_model(str(checkpoint))
    assert config["single_spec"] is True and config["nproc"] is None
    assert len(list(test_data)) == 1


def test_resumed_by_two_it_goes_on_bit_by_bit_and_by_one_with_the_same_batches(vectors, tmp_path, monkeypatch):
    """Killed after the first epoch it validated: with dropout two processes go on as if nothing had been; one without dropout."""
    chance = settings_for("TIGER, last", vectors, epochs=4, dropout=0.2)
    _, whole, ranks = run_together(2, lambda: trained("TIGER", chance), tmp_path / "whole")
    resumed = killed(chance, tmp_path / "killed")
    _, record, ranks_of_resumed = run_together(2, lambda: trained("TIGER", resumed), tmp_path / "killed")
    more = record["learning_curve"]
    assert more == whole["learning_curve"][-len(more) :] and record["test"] == whole["test"]
    pd.testing.assert_frame_equal(ranks_of_resumed, ranks)

    exact = settings_for("TIGER, last", vectors, epochs=4)
    (tmp_path / "one").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    _, one, _ = trained("TIGER", exact)
    resumed = killed(exact, tmp_path / "to one")
    monkeypatch.chdir(tmp_path / "to one")
    _, record, _ = trained("TIGER", resumed)
    more = [epoch["train_loss"] for epoch in record["learning_curve"]]
    np.testing.assert_allclose(more, [epoch["train_loss"] for epoch in one["learning_curve"]][-len(more) :], rtol=1e-5)
    assert record["test"] == one["test"]


def killed(settings, folder):
    """Settings that resume a run of two processes, which is killed when it has a state."""
    group = Group(2, lambda: trained("TIGER", {**settings, "record_name": "never"}), folder)
    end = time.monotonic() + 100
    while not (found := [name for name in saved_in(folder) if name.endswith(".last.pth")]):
        assert time.monotonic() < end, [read(folder, f"{rank}.err")[-3000:] for rank in (0, 1)]
        time.sleep(0.005)
    group.kill()
    assert not os.path.exists(folder / "records" / "never.json")
    return {**settings, "resume": os.path.join("saved", found[0])}


def saved_in(folder):
    return os.listdir(folder / "saved") if (folder / "saved").is_dir() else []


def test_recbole_alone_trains_on_two_processes_too(tmp_path, monkeypatch):
    """RecBole's own functions, which know nothing of a record or of errors of others."""
    settings = {
        **{
            "data_path": str(CASES),
            "epochs": 2,
            "train_batch_size": 41,
            "show_progress": False,
            "metrics": ["NDCG", "GiniIndex"],
        },
        **{
            "embedding_size": 8,
            "hidden_size": 8,
            "dropout_prob": 0.0,
            "train_neg_sample_args": None,
            "valid_metric": "NDCG@10",
        },
    }

    def recbole():
        group = own_place().settings() if own_place() else {}
        return run_recbole("GRU4Rec", "plain", config_dict={**settings, **group})

    (tmp_path / "one").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    one = recbole()
    two = run_together(2, recbole, tmp_path / "two")
    assert one["test_result"] == two["test_result"] and one["best_valid_result"] == two["best_valid_result"]


def test_a_group_that_gloo_still_uses_can_go_with_its_model(tmp_path):
    """The thread of gloo waits for Python's lock meanwhile, to let go of what it sent; see join."""
    # here, for a model whose making imports these does not go before its process
    for module in ("torch._dynamo", "torch.nn.parallel.distributed"):
        importlib.import_module(module)

    def work():
        join(own_place(), "gloo")
        model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(8, 8))
        if dist.get_rank() == 1:
            time.sleep(0.3)  # the other one has let go of its tensors when they have been sent
        sys.setswitchinterval(60)  # who has the lock keeps it
        dist.all_gather([torch.zeros(3), torch.zeros(3)], torch.ones(3), async_op=True)
        sent = time.monotonic() + 0.6
        while time.monotonic() < sent:
            pass
        dist.destroy_process_group()
        del model

    for number in range(3):
        assert Group(2, work, tmp_path / str(number)).wait() == [0, 0]


def test_a_model_that_takes_no_gradients_is_refused(tmp_path):
    group = Group(2, lambda: run("Pop", "plain", config_dict={"data_path": str(CASES), "show_progress": False}), tmp_path)
    assert group.wait() == [1, 1]
    lines = [line for rank in (0, 1) for line in read(tmp_path, f"{rank}.err").splitlines() if line.startswith("recbole_gr")]
    assert lines == [
        "recbole_gr.utils.errors.SettingError: nproc=2: Pop is not trained by gradients, which runs in one process only"
    ]


class Faulty(GRU4Rec):
    """Of two processes the first is busy for long, and the second fails."""

    def calculate_loss(self, interaction):
        if os.environ["RANK"] == "0":
            if os.path.exists("stop"):
                os.kill(os.getpid(), signal.SIGSTOP)  # it hears nothing but SIGKILL
            time.sleep(100)
        with open("failed", "w"):
            pass
        if os.path.exists("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        raise DataError("the file of rank 1 is missing")


def fault(**settings):
    return {"data_path": str(CASES), "show_progress": False, "embedding_size": 8, "hidden_size": 8, **settings}


def test_the_error_of_one_process_ends_all_within_seconds(tmp_path):
    group = Group(2, lambda: run(Faulty, "plain", config_dict=fault()), tmp_path)
    assert group.wait() == [1, 1]
    assert time.time() - os.path.getmtime(tmp_path / "failed") < 30  # of 100, on a busy machine too
    first, second = (read(tmp_path, f"{rank}.err") for rank in (0, 1))
    assert "DataError: the file of rank 1 is missing" in second and "Error" not in first


@pytest.mark.parametrize("other", ["hears of it", "has to be killed"])
def test_a_killed_process_ends_all_within_seconds(tmp_path, other):
    """And it is the one that is told, not the other one, which may have to be killed for it."""
    (tmp_path / "kill").touch()
    if other == "has to be killed":
        (tmp_path / "stop").touch()
    with pytest.raises(GroupEndedError, match=r"^rank 1 was killed by signal 9 \(9: perhaps for its memory\)$"):
        spawn_runs(Faulty, "plain", config_dict=fault(), nproc=2)
    assert time.time() - os.path.getmtime(tmp_path / "failed") < 30


def test_an_error_longer_than_a_pipe_holds_is_told():
    with pytest.raises(RecBoleGRError, match=r"^model='Tx{200000}"):
        spawn_runs("T" + "x" * 200_000, "plain", config_dict=fault(), nproc=2)


def test_two_hosts_under_torchrun(vectors, tmp_path):
    """Two agents meet; the processes of both train together, and the first one writes and prints for all."""
    port = free_port()
    given = [f"--{key}={value}" for key, value in settings_for("TIGER, last", vectors).items()]
    environment = {**without_place(os.environ), "PYTHONPATH": REPOSITORY, "OMP_NUM_THREADS": "1"}
    hosts = []
    for host in ("first", "second"):
        (tmp_path / host).mkdir()
        agent = ["--nnodes=2", "--nproc_per_node=1", "--rdzv_backend=c10d", f"--rdzv_endpoint=localhost:{port}"]
        torchrun = [sys.executable, "-m", "torch.distributed.run", *agent, "--rdzv_id=test", "-m", "recbole_gr"]
        with open(tmp_path / host / "stdout", "w") as out:
            command = [*torchrun, "run", "--model=TIGER", "--dataset=plain", *given]
            hosts.append(subprocess.Popen(command, cwd=tmp_path / host, env=environment, stdout=out))
    assert [host.wait(200) for host in hosts] == [0, 0]
    wrote = [host for host in ("first", "second") if (tmp_path / host / "records" / "record.json").exists()]
    assert len(wrote) == 1
    with open(tmp_path / wrote[0] / "records" / "record.json", encoding="utf-8") as file:
        record = json.load(file)
    assert record["config"]["world_size"] == 2 and len(record["processes"]) == 2
    printed = [read(tmp_path / host, "stdout") for host in ("first", "second")]
    assert sorted(map(bool, printed)) == [False, True] and "record      records/record.json" in "".join(printed)


def free_port():
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["--nproc=0"], "nproc=0: must be from 1 to 65536 (set on the command line)"),
        (["--nproc=4097"], "nproc=4097: must be from 1 to "),
        (["--nproc=1", "--world_size=2"], "port=0: must be set where there are several hosts, the same on all"),
        (["--nproc=1", "--world_size=1", "--group_offset=1"], "world_size=1: must be at least nproc + group_offset, here 2"),
    ],
)
def test_numbers_that_cannot_be(arguments, line, capsys):
    assert main(["run", "--model=SASRec", "--dataset=plain", f"--data_path={CASES}", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"error: {line}")


def test_torchrun_alone_says_how_many(monkeypatch, capsys):
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "1")
    assert main(["run", "--model=SASRec", "--dataset=plain", f"--data_path={CASES}", "--nproc=2"]) == 2
    assert capsys.readouterr().err == (
        "error: nproc='2': belongs to torchrun (--nproc_per_node, --nnodes), which started this process\n"
    )


@pytest.mark.parametrize("n", [2, 7, 16])
@pytest.mark.parametrize("shares", [1, 2, 3, 5])
def test_every_user_is_in_one_share(n, shares):
    parts = [share_of(n, number, shares) for number in range(shares)]
    assert [user for part in parts for user in part] == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_batch_too_small_to_be_shared_is_everybodys():
    batches = [[0, 1, 2, 3, 4], [5, 6]]
    shares = [list(SharedBatches(batches, number, 3)) for number in range(3)]
    assert shares == [[[0, 3], [5, 6]], [[1, 4], [5, 6]], [[2], [5, 6]]]


def test_a_state_has_the_random_numbers_of_both_loaders_of_a_knowledge_graph():
    general, graph = (SimpleNamespace(generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    loader = SimpleNamespace(general_dataloader=general, kg_dataloader=graph)
    states = _random_states(loader)["loader"]
    drawn = [torch.rand(3, generator=part.generator) for part in (general, graph)]
    _draw_batches_as(states, loader)
    assert all(torch.equal(torch.rand(3, generator=part.generator), one) for part, one in zip((general, graph), drawn))


@pytest.mark.parametrize(
    "numbers, several", [({}, False), ({"nproc": 2}, True), ({"world_size": 2}, True), ({"nproc": 1}, False)]
)
def test_before_a_config_is_made_the_numbers_tell_whether_there_are_several(numbers, several):
    assert on_several_processes(RunValues({"single_spec": None, "nproc": 1, "world_size": -1, **numbers}, {})) is several
