"""What the tests share: a folder of their own, a small real part of ml-100k, small encoders and language models."""

import logging
import os
import shutil
import sys

import numpy as np
import pytest
import torch
from support.atomic import read_atomic

import recbole_gr  # noqa: F401  patches RecBole before any test imports it

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start; two tests run at once


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """RecBole writes into the current folder, reads settings from the command line, and adds log handlers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pytest"])
    torch.set_num_threads(1)  # tiny models; more threads only wait for each other
    before = logging.getLogger().handlers[:]
    yield
    for handler in set(logging.getLogger().handlers) - set(before):
        logging.getLogger().removeHandler(handler)
        handler.close()


@pytest.fixture(scope="session")
def ml100k_folder():
    """The folder of ml-100k inside the installed RecBole."""
    import recbole

    return os.path.join(os.path.dirname(recbole.__file__), "dataset_example", "ml-100k")


@pytest.fixture
def small_part(tmp_path, ml100k_folder):
    """The last 30 interactions of the first 60 users of ml-100k, and their items, as the dataset ``small``.

    Returns:
        tuple: its name; the ``data_path`` that it lies in.
    """
    return write_small_part(tmp_path / "data", ml100k_folder)


@pytest.fixture(scope="session")
def smaller_part(tmp_path_factory, ml100k_folder):
    """As ``small_part``, with 16 users and 12 interactions of each; for the whole session, not to be changed."""
    return write_small_part(tmp_path_factory.mktemp("data"), ml100k_folder, users=16, interactions=12)


def write_small_part(data_path, ml100k_folder, users=60, interactions=30):
    inter = read_atomic(os.path.join(ml100k_folder, "ml-100k.inter"))
    inter = inter[inter["user_id:token"].astype(int) <= users]
    time = inter["timestamp:float"].astype(float)
    inter = inter.iloc[time.argsort(kind="stable")].groupby("user_id:token").tail(interactions).sort_index()
    items = read_atomic(os.path.join(ml100k_folder, "ml-100k.item"))
    items = items[items["item_id:token"].isin(inter["item_id:token"])]
    folder = data_path / "small"
    folder.mkdir(parents=True)
    columns = ["user_id:token", "item_id:token", "timestamp:float"]
    inter.to_csv(folder / "small.inter", sep="\t", index=False, columns=columns)
    items.to_csv(folder / "small.item", sep="\t", index=False)
    return "small", str(data_path)


@pytest.fixture
def tiny_settings(small_part, tmp_path):
    """Settings with which TIGER trains on the small part in seconds; seeded vectors stand in for an encoder's."""
    name, data_path = small_part
    items = read_atomic(os.path.join(data_path, name, f"{name}.item"))["item_id:token"]
    vectors = np.random.default_rng(0).normal(size=(len(items), 12)).astype(np.float32)
    np.savez(tmp_path / "vectors.npz", item_id=items.to_numpy(dtype=str), vectors=vectors)
    return {
        "data_path": data_path,
        "item_vector_file": str(tmp_path / "vectors.npz"),
        "cache_dir": str(tmp_path / "cache"),
        "codebook_size": 16,
        "n_layers": 1,
        "d_model": 16,
        "n_heads": 2,
        "d_kv": 8,
        "d_ff": 32,
        "MAX_ITEM_LIST_LENGTH": 8,
        "epochs": 2,
        "train_batch_size": 128,
        "warmup_steps": 2,
        "beam_size": 20,
        "show_progress": False,
    }


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory, smaller_part):
    """The folder of a small Llama of random weights, whose tokenizer knows the titles of the smaller part.

    Its matrices of tokens going in and out differ, and have 8 rows more than the tokenizer has tokens.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    from recbole_gr.language_model import train_title_tokenizer

    name, data_path = smaller_part
    titles = read_atomic(os.path.join(data_path, name, f"{name}.item"))["movie_title:token_seq"]
    tokenizer = train_title_tokenizer(titles, 400)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "max_position_embeddings": 600}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.1}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tokenizer) + 8, tie_word_embeddings=False, **sizes, **heads, **special)
    folder = str(tmp_path_factory.mktemp("llm") / "llama")
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def llm_settings(llama_folder, smaller_part, tmp_path_factory):
    """Settings with which LLMasRS trains on the smaller part in seconds."""
    return {
        "data_path": smaller_part[1],
        "cache_dir": str(tmp_path_factory.mktemp("cache")),
        "llm": llama_folder,
        "lora_rank": 4,
        "lora_dropout": 0.0,
        "scratch_size": "tiny",
        "scratch_vocabulary": 400,
        "MAX_ITEM_LIST_LENGTH": 5,
        "epochs": 2,
        "epoch_samples": 128,
        "train_batch_size": 32,
        "warmup_steps": 2,
        "learning_rate": 0.005,
        "beam_size": 10,
        "show_progress": False,
    }


@pytest.fixture(scope="session")
def bert(tmp_path_factory):
    """The folder of a small BERT of random weights; for the whole session, not to be changed."""
    from support.encoders import new_bert, save_with_tokenizer

    return save_with_tokenizer(new_bert(), tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def t5(tmp_path_factory):
    """As ``bert``, of a T5 with its decoder."""
    from support.encoders import new_t5, save_with_tokenizer

    return save_with_tokenizer(new_t5(), tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="session")
def kept(tmp_path_factory):
    """Runs a model in a folder of its own, which stays for the whole session."""
    from support.llm_reference import outcome

    from recbole_gr.experiment.run import run

    def run_in(name, settings, model="LLMasRS"):
        folder = tmp_path_factory.mktemp(name)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setattr("sys.argv", ["pytest"])
            result = run(model, "small", config_dict=settings)
        return outcome(result, folder)

    return run_in


@pytest.fixture(scope="session")
def lora_run(kept, llm_settings):
    """What a run of LLMasRS with an adapter left behind, trained once for all tests that look at it."""
    return kept("lora", {**llm_settings, "epoch_samples": None})


@pytest.fixture(scope="session")
def summary():
    """What a page of a board is made from, everything in it; not to be changed."""
    from support.example_board import example_summary

    return example_summary()


@pytest.fixture(scope="session")
def hostile():
    """As ``summary``, with names and settings that a careless page would run or swallow."""
    from support.example_board import hostile_summary

    return hostile_summary()


@pytest.fixture(scope="session")
def board_page(summary, tmp_path_factory):
    """The path of the page of ``summary``."""
    from support.example_board import written

    return written(summary, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """One headless Chromium for the module, which tells what it logs and what it asks of a network."""
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    missing = [name for name, path in programs.items() if path is None]
    if missing:
        lacking = f"no {' and no '.join(missing)}: apt-get install chromium chromium-driver"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(lacking)
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    switches = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
    for switch in [*switches.split(), "disable-component-update", "disable-sync", "window-size=1200,900"]:
        options.add_argument(f"--{switch}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs["chromedriver"]))
    yield driver
    driver.quit()
