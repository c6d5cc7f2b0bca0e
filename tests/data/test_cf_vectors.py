"""CF vectors that the run makes itself: from the training part alone, the same from the cache, and what they cost."""

import csv
import json
import logging
import os
import random
import re
import sys
import time

import numpy as np
import psutil
import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset
from recbole.data.utils import create_samplers, get_dataloader
from recbole.utils import get_trainer, init_seed
from support.atomic import read_atomic

from recbole_gr import cli
from recbole_gr.data.cf_vectors import make_cf_vectors
from recbole_gr.data.dataset import HistoryDataset
from recbole_gr.data.settings import SemanticIDSettings
from recbole_gr.data.trained_model import choose_item_embedding
from recbole_gr.data.training_part import training_part
from recbole_gr.experiment.run import run
from recbole_gr.experiment.tokenize_dataset import tokenize_dataset
from recbole_gr.integration.config import make_config
from recbole_gr.settings.check import idle_settings
from recbole_gr.settings.field import RunValues
from recbole_gr.utils.cache import digest
from recbole_gr.utils.errors import SettingError
from recbole_gr.vectors.cooccurrence import cooccurrence_vectors
from recbole_gr.vectors.preparation import centred, join_vectors

SASREC = {"epochs": 1, "hidden_size": 8, "inner_size": 8, "n_layers": 1, "n_heads": 1, "MAX_ITEM_LIST_LENGTH": 5}
BPR = {"epochs": 2, "embedding_size": 6, "train_batch_size": 512}
CF_SETTINGS = {"SASRec": SASREC, "SASRecCausal": SASREC, "BPR": BPR}


def made(small_part, model="svd", **settings):
    """Vectors by item token, the provenance, the stages, and the training part."""
    given = {"data_path": small_part[1], "item_vectors": "cf", "cf_model": model, "cf_dimension": 8, "cache_dir": None}
    given.update(show_progress=False, cf_settings=CF_SETTINGS.get(model, {}), **settings)
    config = make_config("TIGER", small_part[0], config_dict=given)
    dataset, stages = HistoryDataset(config), {}
    tokens = dataset.field2id_token["item_id"].astype(str)
    part = training_part(dataset)
    vectors, provenance = make_cf_vectors(config, tokens, part, stages)
    assert vectors.dtype == np.float32 and len(vectors) == len(tokens) and not vectors[0].any()
    return dict(zip(tokens[1:], vectors[1:])), provenance, stages, part


def state_of_the_process():
    """What RecBole's training sets for a whole process."""
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    return *states, logging.getLogger().handlers[:], torch.get_num_threads(), sys.argv[:]


def replace_last_items(small_part, seed=0):
    """Put other items in the place of each user's last two, those of validation and test."""
    path = os.path.join(small_part[1], "small", "small.inter")
    table = read_atomic(path)
    time = table["timestamp:float"].astype(float)
    last = table.iloc[time.argsort(kind="stable")].groupby("user_id:token").tail(2).index
    before = table.loc[last, "item_id:token"].to_numpy()
    table.loc[last, "item_id:token"] = np.random.default_rng(seed).permutation(before)
    assert (table.loc[last, "item_id:token"] != before).mean() > 0.9
    table.to_csv(path, sep="\t", index=False, quoting=csv.QUOTE_NONE)


@pytest.mark.parametrize("model", ["svd", "SASRec", "SASRecCausal"])
def test_items_of_validation_and_test_have_no_influence_and_the_process_stays_as_it_is(small_part, model):
    init_seed(5, True)
    state = state_of_the_process()
    before, provenance, _, part = made(small_part, model, numbering="file")
    assert state_of_the_process() == state and set(os.listdir()) <= {"data", "saved", "results"}
    replace_last_items(small_part)
    after, same, _, _ = made(small_part, model, numbering="file")
    assert before.keys() == after.keys() and list(before) != list(after)  # RecBole numbers the items anew
    assert all((before[item] == after[item]).all() for item in before)
    assert provenance["cf_interactions"] == same["cf_interactions"] == len(part.items)


def test_an_item_outside_of_the_training_part_has_zeros_and_is_counted(small_part, caplog):
    vectors, provenance, _, part = made(small_part)
    without = vectors.keys() - set(part.item_tokens)
    assert without == {item for item, vector in vectors.items() if not vector.any()}
    assert provenance["cf_items_without_training"] == len(without) > 0
    assert f"{len(without)} of {len(vectors)} items do not occur in the training part" in caplog.text


def test_svd_is_that_of_the_training_part(small_part):
    vectors, provenance, _, part = made(small_part, cf_window=3, cf_shift=1.2, seed=7)
    expected = cooccurrence_vectors(part.items, part.first, len(part.item_tokens), dimension=8, window=3, shift=1.2, seed=7)
    assert all((vectors[item] == vector).all() for item, vector in zip(part.item_tokens, expected))
    said = {"cf_model": "svd", "cf_dimension": 8, "cf_window": 3, "cf_shift": 1.2, "cf_seed": 7}
    assert said.items() <= provenance.items()


def test_a_trained_model_is_recboles_own_on_the_training_part_alone(small_part, tmp_path):
    vectors, provenance, stages, part = made(small_part, "SASRec", seed=3)
    folder = tmp_path / "alone" / "alone"
    folder.mkdir(parents=True)
    with open(folder / "alone.inter", "w") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for user, (begin, end) in enumerate(zip(part.first, part.first[1:])):
            file.writelines(f"{user}\t{part.item_tokens[part.items[row]]}\t{row - begin}\n" for row in range(begin, end))
    settings = {
        **provenance["cf_settings"],
        **{"data_path": str(tmp_path / "alone"), "seed": 3, "show_progress": False},
        **{"load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "eval_step": 0},
        "eval_args": {"split": {"RS": [1, 0, 0]}, "order": "TO", "group_by": None, "mode": "full"},
    }
    config = Config("SASRec", "alone", config_dict=settings)
    init_seed(3, True)
    dataset = create_dataset(config)
    built = dataset.build()
    sampler = create_samplers(config, dataset, built)[0]
    loader = get_dataloader(config, "train")(config, built[0], sampler, shuffle=True)
    init_seed(3, True)
    network = config.model_class(config, built[0])
    trainer = get_trainer(config["MODEL_TYPE"], "SASRec")(config, network)
    trainer.fit(loader, None, saved=False)
    embedding = network.item_embedding.weight.detach().numpy()
    assert embedding[1:].any(axis=1).all()
    for item in part.item_tokens:
        np.testing.assert_allclose(vectors[item], embedding[dataset.token2id("item_id", item)], rtol=1e-5, atol=1e-7)
    assert provenance["cf_parameter"] == "item_embedding.weight"
    assert not any(vectors[item].any() for item in vectors.keys() - set(part.item_tokens))
    assert provenance["cf_train_loss"] == pytest.approx(trainer.train_loss_dict[0], 1e-5) and provenance["cf_seed"] == 3
    assert stages["cf_model"]["seconds"] > 0 and stages["cf_model"]["cpu_seconds"] > 0


def test_a_run_is_the_same_whether_they_come_from_the_cache(tiny_settings):
    settings = {
        **tiny_settings,
        "item_vectors": "cf",
        "item_vector_file": None,
        "cf_model": "BPR",
        "cf_settings": BPR,
        "epochs": 1,
    }
    records = []
    for _ in range(2):
        result = run("TIGER", "small", config_dict=settings)
        with open(result["record"]) as file:
            records.append(json.load(file))
    first, second = records
    assert first["test"] == second["test"] and first["valid"] == second["valid"]
    assert first["semantic_ids"]["source"] == second["semantic_ids"]["source"]
    assert first["semantic_ids"]["source"]["cf_settings"]["epochs"] == 2
    made_now, kept = first["stages"]["cf_model"], second["stages"]["cf_model"]
    assert (made_now.pop("from_cache"), kept.pop("from_cache")) == (False, True)
    assert made_now == kept and kept["cpu_seconds"] > 0


def test_the_training_ends_with_a_run_that_is_killed(small_part, tmp_path):
    """Nobody waits for its vectors any more."""
    command = [sys.executable, "-m", "recbole_gr", "run", "--model=TIGER", f"--dataset={small_part[0]}", "--item_vectors=cf"]
    command += [f"--data_path={small_part[1]}", "--cf_model=BPR", "--cf_settings={'epochs': 1000000}"]
    process = psutil.Popen(command, cwd=tmp_path)
    try:
        end = time.monotonic() + 120
        while not (training := [child for child in process.children() if "recbole_gr.data.cf_process" in child.cmdline()]):
            assert process.is_running() and time.monotonic() < end
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    assert psutil.wait_procs(training, timeout=60) == (training, [])


def test_text_and_cf_stand_side_by_side(small_part, tiny_settings, tmp_path):
    cf = made(small_part)[0]
    settings = {**tiny_settings, "item_vectors": "text_cf", "cf_dimension": 8, "cf_weight": 0.5, "epochs": 0}
    result = run("TIGER", "small", config_dict=settings)
    with open(result["record"]) as file:
        source = json.load(file)["semantic_ids"]["source"]
    assert source["dimension"] == 8 + 12 and source["cf_model"] == "svd" and source["source"] == "file"
    dataset = HistoryDataset(make_config("TIGER", "small", config_dict=settings))
    tokens = dataset.field2id_token["item_id"].astype(str)
    with np.load(tmp_path / "vectors.npz") as file:
        text = dict(zip(file["item_id"], file["vectors"]))
    parts = [np.stack([vectors[item] for item in tokens[1:]]) for vectors in (cf, text)]
    joined = np.concatenate([np.zeros((1, 20), np.float32), join_vectors([centred(part) for part in parts], [0.5, 1.0])])
    assert source["vector_digest"] == digest(joined)


def test_tokenize_makes_the_ids_of_the_run(tiny_settings):
    settings = {**tiny_settings, "item_vectors": "cf", "item_vector_file": None, "cf_dimension": 8}
    paths = tokenize_dataset("small", config_dict=settings, output_dir="tokens")
    with open(paths["measures_file"]) as file:
        alone = json.load(file)
    with open(run("TIGER", "small", config_dict={**settings, "epochs": 0})["record"]) as file:
        assert json.load(file)["semantic_ids"]["digest"] == alone["digest"]
    compared = tokenize_dataset(
        "small", config_dict={**settings, "sid_file": paths["semantic_ids"], "tokenizer": "rkmeans"}, output_dir="compared"
    )
    assert "reconstruction_error" in compared["measures"]


def test_the_embedding_is_chosen_as_from_a_checkpoint():
    matrices = {"item_embedding.weight": torch.zeros(5, 2), "users": torch.zeros(5, 3), "bias": torch.zeros(5)}
    assert choose_item_embedding("BPR", matrices, 5, None) == "item_embedding.weight"
    assert choose_item_embedding("BPR", matrices, 5, "users") == "users"
    with pytest.raises(SettingError, match="^cf_parameter='bias': must be one of item_embedding.weight"):
        choose_item_embedding("BPR", matrices, 5, "bias")


def test_vectors_that_only_the_model_reads_are_checked_too(small_part):
    """Where semantic IDs are of text, or of a file, and CF vectors are injected."""
    wrong = {"data_path": small_part[1], "inject": "cf", "cf_model": "SASrec"}
    for ids in ({"item_vectors": "text"}, {"sid_file": "ids.json"}):
        with pytest.raises(SettingError, match="^cf_model='SASrec': must be svd, SASRecCausal or"):
            make_config("TIGER", "small", config_dict={**wrong, **ids})
    right = {"data_path": small_part[1], "inject": "cf", "cf_window": 3}
    run = RunValues(make_config("TIGER", "small", config_dict=right).final_config_dict, {"cf_window": "in config_dict"})
    assert not idle_settings([SemanticIDSettings], run)


def test_vectors_that_are_injected_and_quantised_are_made_once(tiny_settings):
    settings = {**tiny_settings, "item_vectors": "text_cf", "inject": "text_cf", "cf_dimension": 8, "epochs": 0}
    dataset = create_dataset(make_config("TIGER", "small", config_dict=settings))
    assert dataset.stages["cf_model"]["times"] == 1 and dataset.stages["cf_model"]["from_cache"] is False
    assert dataset.injected_vectors["cf"].shape == (dataset.item_num, 8)


@pytest.mark.parametrize(
    "given, key, reason",
    [
        ({"cf_window": 3}, "cf_window", "item_vectors=text"),
        ({"item_vectors": "cf", "cf_settings": {"epochs": 3}}, "cf_settings", "cf_model=svd"),
        ({"item_vectors": "cf", "cf_model": "BPR", "cf_dimension": 3}, "cf_dimension", "cf_model=BPR"),
        ({"item_vectors": "cf", "cf_checkpoint": "some.pth", "cf_model": "BPR"}, "cf_model", "cf_checkpoint is set"),
    ],
)
def test_what_has_no_use_is_pointed_out(given, key, reason):
    run = RunValues({**SemanticIDSettings.defaults(), **given}, dict.fromkeys(given, "in config_dict"))
    assert idle_settings([SemanticIDSettings], run)[key] == reason


@pytest.mark.parametrize(
    "settings, words",
    [
        (
            {"cf_model": "SASrec"},
            "cf_model='SASrec': must be svd, SASRecCausal or a general or sequential model .*; did you mean SASRec[?]",
        ),
        ({"cf_model": "DeepFM"}, "cf_model='DeepFM': must be svd, SASRecCausal or a general or sequential model"),
        ({"cf_model": "HSTU"}, "cf_model='HSTU': must be svd, SASRecCausal or"),
        (
            {"cf_model": "SASRecCausal", "cf_settings": {"hiden_size": 3}},
            "cf_settings={'hiden_size': 3}: SASRecCausal has no setting hiden_size; did you mean hidden_size[?]",
        ),
        ({"cf_model": "BPR", "cf_settings": {"hidden": 3}}, "cf_settings={'hidden': 3}: BPR has no setting hidden"),
        (
            {"cf_model": "BPR", "cf_settings": {"seed": 3}},
            "cf_settings={'seed': 3}: seed cannot be set, the run decides that",
        ),
        ({"cf_model": "BPR", "cf_settings": 3}, "cf_settings=3: must be settings by key"),
        ({"cf_dimension": 0}, "cf_dimension=0: must be a whole number of at least 1"),
        ({"cf_dimension": 5000}, "cf_dimension=5000: must be at most 683, the items of the training part"),
        ({"cf_shift": 0.5}, "cf_shift=0.5: must be a number at least 1"),
        ({"cf_model": "Pop"}, "cf_model='Pop': Pop has no embeddings"),
        ({"cf_model": "FDSA"}, "cf_model='FDSA': cannot be trained with these cf_settings"),
    ],
)
def test_what_cannot_be_made_is_one_line(small_part, capsys, settings, words):
    given = [f"--{key}={value}" for key, value in {"item_vectors": "cf", "data_path": small_part[1], **settings}.items()]
    status = cli.main(["run", "--model=TIGER", "--dataset=small", "--show_progress=False", *given])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert status == 2 and any(re.search(words, line) for line in lines)
