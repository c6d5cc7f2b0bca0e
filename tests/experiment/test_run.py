"""Runs from end to end by our command, on a small real part of ml-100k."""

import json
import os

import numpy as np
import pytest
import torch
from recbole.quick_start import run_recbole

from recbole_gr.experiment.run import run


def record_of(result):
    with open(result["record"]) as file:
        return json.load(file)


def training_losses(checkpoint):
    return torch.load(checkpoint.replace(".pth", ".last.pth"), weights_only=True)["train_loss"]


def checkpoints():
    names = [name for name in os.listdir("saved") if name.endswith(".pth") and not name.endswith(".last.pth")]
    return sorted((os.path.join("saved", name) for name in names), key=os.path.getmtime)


def test_the_run_record_has_all(small_part, tiny_settings):
    result = run("TIGER", "small", config_dict=tiny_settings)
    record = record_of(result)
    assert record["test"] == result["test_result"] and record["valid"] == result["best_valid_result"]
    assert set(record["test"]) == {"recall@5", "recall@10", "ndcg@5", "ndcg@10"}
    assert record["config"]["codebook_size"] == 16 and record["seed"] == 2020
    raw = np.loadtxt(os.path.join(small_part[1], "small", "small.inter"), dtype=str, skiprows=1, delimiter="\t")
    statistics = record["dataset_statistics"]
    assert statistics["users"] == len(set(raw[:, 0])) and statistics["items"] == len(set(raw[:, 1]))
    assert statistics["interactions"] == len(raw)
    assert statistics["samples"] == {
        "train": len(raw) - 3 * statistics["users"],
        "valid": statistics["users"],
        "test": statistics["users"],
    }
    assert record["semantic_ids"]["items"] == statistics["items"]
    assert record["semantic_ids"]["unique_share"] == 1.0
    checkpoint = torch.load(checkpoints()[-1], weights_only=False)
    weights = sum(w.numel() for name, w in checkpoint["state_dict"].items() if name.startswith("network."))
    assert record["parameters"] == weights
    assert record["test_rankings"]["users"] == record["test_rankings"]["certified"] == statistics["users"]
    for stage in ("vectors", "semantic_ids", "training", "validation", "test"):
        assert record["stages"][stage]["seconds"] >= 0 and record["stages"][stage]["cpu_seconds"] >= 0
    parts = sum(record["stages"][stage]["cpu_seconds"] for stage in ("data", "training", "validation", "test"))
    assert 0 < parts <= record["stages"]["whole"]["cpu_seconds"] + 0.01  # each is rounded
    assert record["stages"]["training"]["times"] == 2
    assert record["versions"]["recbole"] == "1.2.1"


def test_the_same_seed_gives_the_same_run_and_another_seed_another(small_part, tiny_settings):
    first, second = (run("TIGER", "small", config_dict=tiny_settings) for _ in range(2))
    other = run("TIGER", "small", config_dict={**tiny_settings, "seed": 1})
    files = checkpoints()
    assert training_losses(files[0]) == training_losses(files[-2]) != training_losses(files[-1])
    assert first["test_result"] == second["test_result"] and first["best_valid_score"] == second["best_valid_score"]
    assert record_of(other)["semantic_ids"]["digest"] != record_of(first)["semantic_ids"]["digest"]


class Interrupted(Exception):
    """Stands for the power cut."""


@pytest.mark.parametrize("model", ["TIGER", "BPR"])
def test_resuming_goes_on_as_if_never_interrupted(small_part, tiny_settings, monkeypatch, model):
    settings = {**tiny_settings, "epochs": 5, "stopping_step": 10}
    uninterrupted = run(model, "small", config_dict=settings)
    uninterrupted_losses = training_losses(checkpoints()[-1])

    from recbole.trainer import Trainer

    train_epoch = Trainer._train_epoch

    def stop_in_the_third_epoch(self, train_data, epoch_idx, *args, **kwargs):
        if epoch_idx == 2:
            raise Interrupted
        return train_epoch(self, train_data, epoch_idx, *args, **kwargs)

    with monkeypatch.context() as power_cut:
        power_cut.setattr(Trainer, "_train_epoch", stop_in_the_third_epoch)
        for checkpoint in checkpoints():
            os.remove(checkpoint)
        with pytest.raises(Interrupted):
            run(model, "small", config_dict=settings)
    resumed = run(model, "small", config_dict={**settings, "resume": checkpoints()[-1]})
    assert training_losses(checkpoints()[-1]) == uninterrupted_losses
    assert resumed["best_valid_result"] == uninterrupted["best_valid_result"]
    assert resumed["test_result"] == uninterrupted["test_result"]


def test_resuming_a_finished_run_only_tests(small_part, tiny_settings):
    uninterrupted = run("TIGER", "small", config_dict=tiny_settings)
    saved = {name: os.path.getmtime(os.path.join("saved", name)) for name in os.listdir("saved") if name.endswith(".pth")}
    again = run("TIGER", "small", config_dict={**tiny_settings, "resume": checkpoints()[-1]})
    assert (
        again["test_result"] == uninterrupted["test_result"]
        and again["best_valid_result"] == uninterrupted["best_valid_result"]
    )
    assert saved == {
        name: os.path.getmtime(os.path.join("saved", name)) for name in os.listdir("saved") if name.endswith(".pth")
    }


def test_ones_own_folder_needs_no_property_file(tmp_path, tiny_settings):
    """Only user_id, item_id and timestamp, and two text columns; the true encoder reads all of them."""
    folder = tmp_path / "mine" / "shop"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = [f"u{u}\ti{rng.integers(40)}\t{1e9 + 1000 * t}" for u in range(30) for t in range(6)]
    (folder / "shop.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n" + "\n".join(rows) + "\n")
    items = [f"i{i}\tThing number {i}\tShop {i % 3}" for i in range(40)]
    (folder / "shop.item").write_text("item_id:token\tname:token_seq\tmaker:token\n" + "\n".join(items) + "\n")
    settings = {**tiny_settings, "data_path": str(tmp_path / "mine"), "item_vector_file": None}
    record = record_of(run("TIGER", "shop", config_dict=settings))
    assert record["dataset_statistics"]["interactions"] == 180
    assert record["semantic_ids"]["source"]["text_encoder"] == "all-MiniLM-L6-v2"
    assert record["semantic_ids"]["source"]["dimension"] == 384


@pytest.mark.parametrize("model", ["Pop", "BPR", "LightGCN", "SASRec"])
def test_baselines_give_recboles_numbers(small_part, model):
    """Under one protocol, our command is RecBole's run_recbole."""
    settings = {"data_path": small_part[1], "epochs": 1, "show_progress": False, "mask_seen": "recbole"}
    ours = run(model, "small", config_dict={**settings, "timestamp_order": "recbole", "numbering": "file"})
    protocol = {
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO", "mode": "full"},
        "metrics": ["Recall", "NDCG"],
        "topk": [5, 10],
        "valid_metric": "NDCG@10",
        "timestamp_order": "recbole",
    }
    if model == "SASRec":
        protocol["train_neg_sample_args"] = None
    theirs = run_recbole(model, "small", config_dict={**settings, **protocol})
    assert ours["test_result"] == theirs["test_result"]
    assert record_of(ours)["model"] == model and record_of(ours)["test"] == ours["test_result"]


def test_sampled_ranking_equals_full_scores_of_the_sampled_items(small_part, tiny_settings):
    """uni100: the target's rank among its negatives, by predict, must be that by scoring every item."""
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation

    settings = {**tiny_settings, "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "uni20"}}
    config = Config("TIGER", "small", config_dict=settings)
    _, _, test_data = data_preparation(config, create_dataset(config))
    model = run_model(config, test_data)
    model.beam_size, model.beam_certify = model.n_items, False
    for interaction, *_ in test_data:
        sampled = model.predict(interaction)
        every_item = model.full_sort_predict(interaction)
        expected = every_item.gather(1, interaction["item_id"].unsqueeze(1)).squeeze(1)
        torch.testing.assert_close(sampled, expected, atol=2e-5, rtol=1e-5)
    result = run("TIGER", "small", config_dict=settings)
    assert result["test_result"]["recall@10"] > result["test_result"]["recall@5"] > 0


def run_model(config, data):
    from recbole_gr.models.tiger.model import TIGER

    torch.manual_seed(0)
    return TIGER(config, data._dataset).eval()


@pytest.mark.parametrize("mask_seen", [True, False])
def test_beam_metrics_equal_those_of_scoring_every_item(small_part, tiny_settings, mask_seen):
    narrow = run("TIGER", "small", config_dict={**tiny_settings, "mask_seen": mask_seen, "beam_size": 10})
    wide = {"beam_size": 2000, "beam_certify": False, "mask_seen": mask_seen}
    every_item = run("TIGER", "small", config_dict={**tiny_settings, **wide})
    assert narrow["test_result"] == every_item["test_result"]
    assert (
        record_of(every_item)["test_rankings"]["certified_by_first_search"]
        == record_of(every_item)["test_rankings"]["users"]
    )


def test_free_form_decoding_counts_no_hit_that_was_not_generated(small_part, tiny_settings):
    """An untrained free-form search generates hardly any item's ID; RecBole's top k must not fill up with hits."""
    settings = {**tiny_settings, "decoding": "free", "beam_certify": False, "beam_size": 10, "epochs": 1}
    result = run("TIGER", "small", config_dict={**settings, "learning_rate": 0.0, "codebook_size": 64})
    assert result["test_result"]["recall@10"] <= 0.05


@pytest.mark.parametrize(
    "options",
    [
        {"history_position": "code", "separator": True},
        {"user_buckets": 50, "feed_forward": "gated"},
        {"schedule": "inverse_sqrt"},
        {"schedule": "constant", "collision": "none"},
        {"precision": "bfloat16"},
        {"architecture": "decoder_only", "loss_positions": "last", "precision": "bfloat16"},
        {"normalise_residual": False, "epoch_samples": 100},
    ],
)
def test_every_option_trains(small_part, tiny_settings, options):
    result = run("TIGER", "small", config_dict={**tiny_settings, **options, "epochs": 3})
    losses = training_losses(checkpoints()[-1])
    assert losses[2] < losses[0]
    assert record_of(result)["test_rankings"]["certified"] > 0


@pytest.mark.parametrize("collision", ["digit", "none", "nearest", "sinkhorn"])
@pytest.mark.parametrize("tokenizer", ["rkmeans", "rvq", "rqvae", "letter", "opq", "pq", "random", "lsh"])
def test_every_tokenizer_and_collision_rule_trains_and_evaluates(small_part, tiny_settings, tokenizer, collision):
    ids = {"tokenizer": tokenizer, "collision": collision, "codebook_size": 64, "tokenizer_steps": 30}
    record = record_of(run("TIGER", "small", config_dict={**tiny_settings, **ids}))
    losses = training_losses(checkpoints()[-1])
    assert losses[1] < losses[0]
    users = record["dataset_statistics"]["users"]
    assert record["test_rankings"]["users"] == record["test_rankings"]["certified"] == users
    hits = [record["test"][metric] * users for metric in ("recall@5", "recall@10")]
    assert hits == pytest.approx(np.round(hits), abs=0.01) and hits[0] <= hits[1]
    made = record["semantic_ids"]
    assert made["source"]["tokenizer"] == tokenizer and made["collision"] == collision
    assert made["unique_share"] == (made["unique_share_quantised"] if collision == "none" else 1.0)
    assert len(made["codebook_sizes"]) == 3 + (collision == "digit")


def test_a_kept_dataset_is_not_used_for_other_semantic_ids(small_part, tiny_settings):
    first = run("TIGER", "small", config_dict={**tiny_settings, "save_dataset": True})
    same = run("TIGER", "small", config_dict=tiny_settings)
    other = run("TIGER", "small", config_dict={**tiny_settings, "codebook_size": 8})
    sizes = [record_of(result)["semantic_ids"]["codebook_sizes"][:3] for result in (first, same, other)]
    assert sizes == [[16, 16, 16], [16, 16, 16], [8, 8, 8]]
    assert same["test_result"] == first["test_result"]
