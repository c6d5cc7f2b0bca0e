"""Options of RecBole that crashed late: a run has the right numbers with them, or one line says before it why not."""

import os

import numpy as np
import pytest
from recbole.config import Config
from recbole.quick_start import run_recbole
from support.atomic import read_atomic

from recbole_gr.experiment.run import run
from recbole_gr.integration.check_run import check_run
from recbole_gr.utils.errors import SettingError

QUICK = {"epochs": 2, "train_batch_size": 64, "show_progress": False, "record_dir": None, "MAX_ITEM_LIST_LENGTH": 5}
TINY = {"d_model": 8, "n_heads": 1, "d_kv": 8, "d_ff": 8, "n_layers": 1, "codebook_size": 8, "codebook_num": 2}
MODELS = {
    "BPR": {"embedding_size": 8},
    "SASRec": {"hidden_size": 8, "inner_size": 8, "n_layers": 1},
    "TIGER": {**TINY, "tokenizer": "random"},
}


@pytest.fixture(scope="module")
def settings(smaller_part, tmp_path_factory):
    """By model, settings with which it trains on 16 users in a moment; seeded vectors stand in for an encoder's."""
    name, data_path = smaller_part
    items = read_atomic(os.path.join(data_path, name, f"{name}.item"))["item_id:token"]
    vectors = str(tmp_path_factory.mktemp("vectors") / "vectors.npz")
    np.savez(vectors, item_id=items.to_numpy(dtype=str), vectors=np.random.default_rng(0).normal(size=(len(items), 8)))
    shared = {**QUICK, "data_path": data_path}
    return {model: {**shared, **sizes} for model, sizes in MODELS.items()} | {
        "TIGER": {**shared, **MODELS["TIGER"], "item_vector_file": vectors}
    }


@pytest.fixture(scope="module")
def plain(settings, tmp_path_factory):
    """Test results without any option, by model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("plain"))
        patch.setattr("sys.argv", ["pytest"])
        return {model: outcome(model, settings[model]) for model in MODELS}


def outcome(model, settings, **more):
    result = run(model, "small", config_dict={**settings, **more})
    return None if result["test_result"] is None else {key: float(value) for key, value in result["test_result"].items()}


@pytest.mark.parametrize("model", ["BPR", "TIGER"])
def test_loaders_that_are_kept_change_nothing(model, settings, plain, caplog):
    """The run that keeps them, the next one that takes them, and one that names their path; of other settings they are not."""
    kept = os.path.join("saved", f"small-for-{model}-dataloader.pth")
    own = settings[model]
    for more in ({"save_dataloaders": True}, {"save_dataloaders": True}, {"dataloaders_save_path": kept}):
        assert outcome(model, own, **more) == plain[model]
    assert "made anew" not in caplog.text
    outcome(model, own, dataloaders_save_path=kept, seed=3, epochs=0)
    assert "dataloaders_save_path=" in caplog.text and "it is made anew" in caplog.text


def test_a_dataset_that_is_kept_changes_nothing(settings, plain, caplog):
    own = settings["SASRec"]
    kept = os.path.join("saved", "small-SequentialDataset.pth")
    for more in ({"save_dataset": True}, {"save_dataset": True}, {"dataset_save_path": kept}):
        assert outcome("SASRec", own, **more) == plain["SASRec"]
    assert "made anew" not in caplog.text
    outcome("SASRec", own, dataset_save_path=kept, user_inter_num_interval="[2,inf)", epochs=0)
    assert "dataset_save_path=" in caplog.text and "it is made anew" in caplog.text


@pytest.mark.parametrize("model", MODELS)
def test_k_goes_as_far_as_the_catalogue(model, settings):
    """Down to the last item every target is found; one more is one line, before anything is trained or tokenized."""
    own = {**settings[model], "mask_seen": False, "epochs": 1}
    with pytest.raises(SettingError, match=r"^topk=\[5, 1000\]: must be at most \d+, the number of items of small") as error:
        outcome(model, own, topk=[5, 1000])
    items = int(str(error.value).split("at most ")[1].split(",")[0])
    assert not os.path.exists(os.path.join("saved", "cache"))  # no semantic IDs yet
    assert outcome(model, own, topk=[items])[f"recall@{items}"] == 1.0
    with pytest.raises(SettingError, match="topk"):
        outcome(model, own, topk=[items + 1])
    with pytest.raises(SettingError, match=f"must be at most {items}, the number of items of small"):
        run_recbole(model, "small", config_dict={**own, "topk": [items + 1], "valid_metric": f"NDCG@{items + 1}"})


def test_k_beyond_the_sampled_items(settings, caplog):
    """Every target is among 21 items, and lists of 30 there are none."""
    own = {**settings["BPR"], "eval_args": {"mode": "uni20"}, "epochs": 1}
    assert outcome("BPR", own, topk=[21])["recall@21"] == 1.0 and "ranks 21 items" not in caplog.text
    assert outcome("BPR", own, topk=[30])["recall@30"] == 1.0 and "ranks 21 items" in caplog.text
    with pytest.raises(SettingError, match=r"^topk=\[30\]: must be at most 21, .* for itemcoverage"):
        outcome("BPR", own, topk=[30], metrics=["Recall", "NDCG", "ItemCoverage"])


@pytest.mark.parametrize(
    "model, split", [("BPR", {"LS": "valid_only"}), ("SASRec", {"RS": [0.8, 0.2, 0.0]}), ("TIGER", {"LS": "valid_only"})]
)
def test_a_split_without_a_test(model, split, settings):
    assert outcome(model, settings[model], eval_args={"split": split}, epochs=1) is None


def test_random_order_is_for_models_without_histories(settings):
    own = {**settings["BPR"], "load_col": {"inter": ["user_id", "item_id"]}, "epochs": 1}
    assert 0 <= outcome("BPR", own, eval_args={"order": "RO"})["recall@10"] <= 1
    for model in ("SASRec", "TIGER", "SASRecBCE"):
        line = rf"^eval_args=.*: order must be TO, {model} reads histories in the order of time \(set in config_dict\)$"
        with pytest.raises(SettingError, match=line):
            run(model, "small", config_dict={**QUICK, "data_path": own["data_path"], "eval_args": {"order": "RO"}})
    with pytest.raises(SettingError, match="order must be TO, TIGER"):
        Config("TIGER", "small", config_dict={"data_path": own["data_path"], "eval_args": {"order": "RO"}})


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("load_col", {"inter": ["user_id", "item_id"]}, "leaves out timestamp of inter"),
        ("load_col", {"inter": ["timestamp"]}, "leaves out user_id, item_id of inter"),
        ("load_col", {"item": ["item_id"]}, "leaves out user_id, item_id, timestamp of inter"),
        ("load_col", ["user_id"], "must hold, by file, lists of columns"),
        (
            "load_col",
            {"inter": ["user_id", "item_id", "timestamp", "nix"]},
            "has no column nix; it has item_id, timestamp, user_id",
        ),
        (
            "load_col",
            {"inter": "*", "item": ["item_id", "brand"]},
            "small.item] has no column brand; it has class, item_id, ",
        ),
        ("unload_col", {"inter": ["timestamp"]}, "leaves out timestamp of inter"),
        ("unload_col", {"inter": ["item_id"]}, "leaves out item_id of inter"),
        ("eval_args", {"order": "XO"}, "order must be TO, by time, or RO, random"),
        ("eval_args", {"split": {"LS": "valid"}}, "split by LS must be one of valid_and_test, valid_only, test_only"),
        ("eval_args", {"split": {"XS": "valid"}}, "split must hold one of LS, RS and TS"),
        ("eval_args", {"split": {"RS": [0.8, 0.2]}}, "must be a list of three numbers"),
        ("eval_args", {"split": {"RS": [0, 0.5, 0.5]}}, "must be a list of three numbers"),
        ("eval_args", {"group_by": "item"}, "group_by must be user or none"),
        ("eval_args", {"mode": "all"}, "mode must be full, labeled, uniN or popN"),
        ("eval_args", {"mode": {"valid": "uni", "test": "full"}}, "mode must be full, labeled, uniN or popN"),
        ("eval_args", {"mode": "labeled"}, "mode labeled ranks no items, which ndcg, recall must"),
        ("eval_batch_size", 0, "must be a whole number of at least 1"),
        (
            "dataset_save_path",
            "nowhere.pth",
            "no such file; it is read from here, save_dataset writes it into checkpoint_dir",
        ),
        ("dataloaders_save_path", "nowhere.pth", "no such file; it is read from here, save_dataloaders writes it"),
    ],
)
@pytest.mark.parametrize("model", MODELS)
def test_one_line_before_any_work(model, key, value, words, smaller_part):
    with pytest.raises(SettingError) as error:
        check_run(model, "small", None, {"data_path": smaller_part[1], key: value}, arguments=[])
    assert str(error.value).startswith(f"{key}=") and words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "given",
    [
        {"load_col": None},
        {"load_col": {"inter": "*"}},
        {"unload_col": {"inter": ["rating"]}},
        {"eval_args": {"split": {"TS": [0.8, 0.1, 0.1]}}},
        {"eval_args": {"split": {"RS": [8, 1, 1]}, "group_by": None}},
        {"eval_args": {"mode": {"valid": "uni100", "test": "full"}}},
    ],
)
def test_what_can_work_passes(given, smaller_part):
    assert check_run("SASRec", "small", None, {"data_path": smaller_part[1], **given}, arguments=[]).notices == []


def test_columns_that_are_not_to_be_read(settings, plain):
    """Our default of load_col, which RecBole takes for the user's, does not stand against unload_col."""
    assert outcome("SASRec", settings["SASRec"], unload_col={"inter": ["rating"]}) == plain["SASRec"]


def test_grouping_that_a_split_does_not_ask_for(smaller_part):
    given = {"data_path": smaller_part[1], "eval_args": {"group_by": "none"}}
    (line,) = check_run("BPR", "small", None, given, arguments=[]).notices
    assert line == "eval_args: group_by='none' is not used: a split by LS goes through each user's interactions"
