"""Users at a time, where the scores of all items of more of them would not fit into memory."""

import pytest
import torch

from recbole_gr.experiment.run import run
from recbole_gr.integration import eval_batches
from recbole_gr.integration.config import make_config
from recbole_gr.utils import memory


def test_as_many_users_as_memory_holds_and_one_at_least(tiny_settings, monkeypatch):
    config = make_config("SASRecCausal", "small", config_dict={**given(tiny_settings), "eval_memory": 160})
    assert eval_batches.most_users(config, 1_000_000) == 10 and eval_batches.most_users(config, 10**9) == 1
    config["metrics"] = ["Recall", "GAUC"]
    assert eval_batches.most_users(config, 1_000_000) == 2
    config["metrics"], config["eval_memory"] = ["Recall"], None
    monkeypatch.setattr(eval_batches, "available_memory", lambda device: 32e6)
    assert eval_batches.most_users(config, 1000) == 500


def given(tiny_settings):
    keys = ("data_path", "epochs", "topk", "valid_metric", "checkpoint_dir", "record_dir", "seed", "use_gpu")
    return {key: tiny_settings[key] for key in keys if key in tiny_settings}


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("SASRecCausal", {"hidden_size": 8, "n_layers": 1, "n_heads": 1}),
        ("BPR", {"embedding_size": 8}),
        (
            "SASRec",
            {
                "hidden_size": 8,
                "inner_size": 8,
                "n_layers": 1,
                "n_heads": 1,
                "loss_type": "CE",
                "train_neg_sample_args": None,
            },
        ),
        ("TIGER", {}),
    ],
)
def test_figures_are_those_of_larger_batches(tiny_settings, monkeypatch, caplog, model, more):
    caplog.set_level("INFO")
    settings = {**(tiny_settings if model == "TIGER" else given(tiny_settings)), **more, "eval_memory": 1}
    together = run(model, "small", config_dict=settings)
    assert "at a time, whose scores" not in caplog.text
    monkeypatch.setattr(eval_batches, "BYTES_PER_SCORE", 1000)
    apart = run(model, "small", config_dict=settings)
    # ours keep lists
    assert ("at a time, whose scores" in caplog.text) == (model not in ("TIGER", "SASRecCausal"))
    for key in ("best_valid_result", "test_result"):
        assert apart[key] == together[key]


def test_sampled_rankings_are_divided_too(tiny_settings, monkeypatch, caplog):
    caplog.set_level("INFO")
    mode = {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "uni20"}, "eval_memory": 1}
    together = run("TIGER", "small", config_dict={**tiny_settings, **mode})
    monkeypatch.setattr(eval_batches, "BYTES_PER_SCORE", 1000)
    apart = run("TIGER", "small", config_dict={**tiny_settings, **mode})
    assert "at a time, whose scores" in caplog.text and apart["test_result"] == together["test_result"]


def test_a_container_has_what_it_may_take(tmp_path, monkeypatch):
    machine = memory.available_memory(torch.device("cpu"))
    paths = tmp_path / "memory.max", tmp_path / "memory.current"
    monkeypatch.setattr(memory, "_CGROUP", tuple(map(str, paths)))
    for most, taken, expected in (("5000", "2000", 3000), ("2000", "5000", 0), ("max", "5000", None)):
        paths[0].write_text(most + "\n")
        paths[1].write_text(taken + "\n")
        found = memory.available_memory(torch.device("cpu"))
        assert found == expected or (expected is None and found > machine / 4)
