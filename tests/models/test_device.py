"""Every model of ours on a GPU, as far as that can be seen without one: :mod:`pretend_device` stands in for it."""

import contextlib
import json
import logging
import os

import numpy as np
import pandas as pd
import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.quick_start import load_data_and_model
from recbole.utils import get_model, get_trainer, init_seed
from recbole.utils.case_study import full_sort_scores, full_sort_topk
from support.atomic import read_atomic
from support.llm_reference import filled, first_batch, outcome
from support.pretend_device import DEVICE, Pretended, _on_device, pretend_device

from recbole_gr.experiment.run import run

LEAVE_ONE_OUT = {"split": {"LS": "valid_and_test"}, "order": "TO"}
SAMPLED = {"eval_args": {**LEAVE_ONE_OUT, "mode": "uni20"}, "metrics": ["Recall", "NDCG", "GAUC"]}
#: What goes through torch in every way that TIGER and its evaluation have.
TIGERS = {
    "TIGER": {},
    "TIGER, per code": {"history_position": "code", "separator": True, "user_buckets": 5, "feed_forward": "gated"},
    "TIGER, last": {"loss_positions": "last"},
    "TIGER, decoder-only": {"architecture": "decoder_only", "user_buckets": 5},
    "TIGER, prefix-LM": {"architecture": "prefix_lm", "loss_positions": "last"},
    "TIGER, temporal and depth": {"architecture": "temporal_depth", "depth_layers": 2},
    "TIGER, free": {"decoding": "free", "beam_certify": False},
    "TIGER, unmasked": {"mask_seen": False},
    "TIGER, RecBole's mask": {"mask_seen": "recbole", "beam_certify": False},
    "TIGER, ties": {"collision": "none", "codebook_size": 4, "codebook_num": 2},
    "TIGER, sampled": SAMPLED,
    "TIGER, ranks of all": {"metrics": ["Recall", "NDCG", "ItemCoverage", "GiniIndex"]},
}
LIGERS = {"LIGER": {}, "LIGER, ties": {"collision": "none", "codebook_size": 4, "codebook_num": 2}}
LLMS = {
    "LLMasRS, LoRA": {},
    "LLMasRS, scratch": {"llm": "scratch"},
    "LLMasRS, frozen": {"tuning": "frozen"},
    "LLMasRS, unmasked, not certified": {"mask_seen": False, "beam_certify": False},
    "LLMasRS, ties": {"llm": "scratch", "title_max_tokens": 1, "duplicate_titles": "tied"},
    "LLMasRS, in parts": {"gradient_accumulation": 3, "prompt_max_tokens": 60},
    "LLMasRS, sampled": SAMPLED,
    "LLMasRS, semantic IDs": {"item_as": "sid", "codebook_size": 8, "codebook_num": 2},
    "LLMasRS, alignment": {
        **{"item_as": "sid", "codebook_size": 8, "codebook_num": 2},
        "alignment_tasks": {"title_to_id": 0.5, "id_to_title": 0.5, "titles_to_id": 0.5, "ids_to_title": 0.5},
    },
    "LLMasRS, CF concat": {"cf_injection": "concat"},
    "LLMasRS, CF add": {"cf_injection": "add"},
}
SASRECS = {"SASRecBCE": {}}
ITEM_MODELS = {
    "HSTU": {},
    "HSTU, sampled": {"softmax": "sampled", "n_negatives": 20, "similarity": "cosine", "time_bias": False},
    "HSTU, last": {"loss_positions": "last"},
    "SASRecCausal": {"attn_dropout_prob": 0.0, "inner_size": 16},
}
RPGS = {
    "RPG": {},
    "RPG, last, digit": {"loss_positions": "last", "collision": "digit"},
    "RPG, graph": {"ranking": "graph", "graph_starts": 20, "graph_neighbours": 5},
    "RPG, sampled": SAMPLED,
}
IDGENRECS = {
    "IDGenRec": {},
    "IDGenRec, per word": {"loss_positions": "last", "history_position": "word"},
}
ALL = [*TIGERS, *LLMS, *SASRECS, *ITEM_MODELS, *LIGERS, *RPGS, *IDGENRECS]


@pytest.fixture
def gpu(monkeypatch):
    """Within, RecBole finds one GPU and takes it."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # which RecBole writes
    return pretend_device


@pytest.fixture(scope="module")
def sasrec(kept, llm_settings):
    sizes = {"hidden_size": 8, "inner_size": 8, "n_layers": 1, "n_heads": 1, "epochs": 1}
    return kept("sasrec", {"data_path": llm_settings["data_path"], "show_progress": False, **sizes}, "SASRec").checkpoint


@pytest.fixture(scope="module")
def settings_of(llm_settings, sasrec, tmp_path_factory):
    """The settings of a case by its name, small.

    Without dropout, whose numbers a GPU draws in its own way, and in float32, for the pretended GPU has no bfloat16.
    """
    items = read_atomic(os.path.join(llm_settings["data_path"], "small", "small.item"))["item_id:token"]
    path = str(tmp_path_factory.mktemp("vectors") / "vectors.npz")
    vectors = np.random.default_rng(0).normal(size=(len(items), 12)).astype(np.float32)
    np.savez(path, item_id=items.to_numpy(dtype=str), vectors=vectors)
    common = {"data_path": llm_settings["data_path"], "epochs": 1, "show_progress": False, "train_batch_size": 32}
    sizes = {"n_layers": 1, "d_model": 16, "n_heads": 2, "d_kv": 8, "d_ff": 32, "dropout": 0.0, "codebook_size": 16}
    # few users: the metrics are 0 unless the ranking is long, or with the weights of other numbers
    common |= {"topk": [10, 50], "numbering": "file"}
    short = {
        "train_precision": "float32",
        "MAX_ITEM_LIST_LENGTH": 5,
        "beam_size": 50,
        "warmup_steps": 2,
        "item_vector_file": path,
    }
    sasrecs = {"hidden_size": 16, "MAX_ITEM_LIST_LENGTH": 5, "hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0}

    def settings(name, **more):
        if name in TIGERS:
            return "TIGER", {**common, **sizes, **short, "cache_dir": llm_settings["cache_dir"], **TIGERS[name], **more}
        if name in RPGS:
            codes = {"codebook_num": 4, "cache_dir": llm_settings["cache_dir"]}
            return "RPG", {**common, **sizes, **short, **codes, **RPGS[name], **more}
        if name in LIGERS:
            return "LIGER", {**common, **sizes, **short, "cache_dir": llm_settings["cache_dir"], **LIGERS[name], **more}
        if name in IDGENRECS:
            own = {key: value for key, value in short.items() if key != "item_vector_file"}
            shape = {key: value for key, value in sizes.items() if key != "codebook_size"}
            return "IDGenRec", {**common, **shape, **own, "cache_dir": llm_settings["cache_dir"], **IDGENRECS[name], **more}
        if name in SASRECS:
            return "SASRecBCE", {**common, **sasrecs, "mask_seen": True, **more}
        if name in ITEM_MODELS:
            sizes_of_it = {"hidden_size": 16, "hidden_dropout_prob": 0.0, "train_precision": "float32"}
            own = {"MAX_ITEM_LIST_LENGTH": 5, "warmup_steps": 2, **sizes_of_it, **ITEM_MODELS[name]}
            return name.split(",")[0], {**common, **own, **more}
        vector_file = path if LLMS[name].get("item_as") == "sid" else None
        checkpoint = sasrec if "cf_injection" in LLMS[name] else None
        files = {"item_vector_file": vector_file, "cf_checkpoint": checkpoint}
        return "LLMasRS", {
            **llm_settings,
            "numbering": "file",
            "epochs": 1,
            "epoch_samples": 64,
            **files,
            **LLMS[name],
            **more,
        }

    return settings


def prepared(model_name, settings):
    """A model with its data where RecBole's Config puts it, ready to be asked."""
    by_time = {"eval_args": LEAVE_ONE_OUT} if model_name == "SASRecBCE" else {}
    config = Config(model_name, "small", config_dict={**by_time, **settings})
    init_seed(config["seed"], config["reproducibility"])
    train, valid, test = data_preparation(config, create_dataset(config))
    model = filled(get_model(model_name)(config, train._dataset).eval(), std=0.1).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], model_name)(config, model)
    return config, model, train, test, trainer


def on_cpu(value):
    return value.cpu() if isinstance(value, torch.Tensor) else value


# Whole runs


@pytest.mark.parametrize("name", ALL)
def test_a_run_trains_there_and_measures_what_the_cpu_measures(name, settings_of, gpu):
    """From the checkpoint of the device, a CPU gets the same metrics and the same place for each target."""
    model_name, settings = settings_of(name)
    with gpu():
        done = outcome(run(model_name, "small", config_dict=settings))
    assert done.record["machine"]["device"] == "Pretended GPU" and done.record["config"]["device"] == "cuda"
    assert done.record["peak_gpu_memory_mb"] == 12.3
    with gpu():
        there, device = measured_again(done.checkpoint)
    here, cpu = measured_again(done.checkpoint)
    assert (device.type, cpu.type) == ("cuda", "cpu")
    assert here == pytest.approx(there, abs=1e-4)
    assert any(here.values()) or name == "TIGER, free"  # which hits no item of so few users after one epoch
    if "sampled" not in name:  # what RecBole samples depends on all that was drawn before
        assert there == done.result["test_result"]


def measured_again(checkpoint):
    """The test's metrics from a checkpoint, and where they were computed."""
    config, model, _, train, _, test = load_data_and_model(checkpoint)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.eval_collector.data_collect(train)
    init_seed(1, True)
    return trainer.evaluate(test, load_best_model=False), config["device"]


@pytest.mark.parametrize("name", ALL)
def test_a_step_there_is_that_of_the_cpu(name, settings_of, gpu):
    model_name, settings = settings_of(name)
    if LLMS.get(name, {}).get("tuning") == "frozen":
        settings["cf_injection"] = "none"

    def step():
        config, model, train, _, _ = prepared(model_name, settings)
        model.train()
        loss = model.calculate_loss(first_batch(train).to(config["device"]))
        if loss.requires_grad:
            loss.backward()
        assert (loss.device.type == "cuda") == (config["device"].type == "cuda")
        return on_cpu(loss.detach()), {n: on_cpu(p.grad) for n, p in model.named_parameters() if p.grad is not None}

    expected = step()
    with gpu():
        found = step()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_scores_there_are_those_of_the_cpu(name, settings_of, gpu):
    """All items by beams, some items by predict, and RecBole's two functions for case studies."""
    model_name, settings = settings_of(name)
    settings.pop("metrics", None)
    settings["eval_args"] = {**LEAVE_ONE_OUT, "mode": "full"}

    def scores():
        config, model, _, test, _ = prepared(model_name, settings)
        device = config["device"]
        interaction = first_batch(test)[0].to(device)
        everything = model.full_sort_predict(interaction)
        some = model.predict(interaction)  # each user's own target
        of_two = full_sort_scores([3, 1], model, test, device)
        best = full_sort_topk([3, 1], model, test, 5, device)
        found = [everything, some, of_two, *best]
        assert all((tensor.device.type == "cuda") == (device.type == "cuda") for tensor in found)
        return [on_cpu(tensor.detach()) for tensor in found]

    expected = scores()
    with gpu():
        found = scores()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


# Going on somewhere else


@pytest.mark.parametrize("name", ["TIGER", "LLMasRS, LoRA"])
@pytest.mark.parametrize("before, after", [(1, 1), (1, 0), (0, 1), (2, 1), (1, 2)])
def test_a_run_goes_on_on_another_device(name, before, after, settings_of, gpu, caplog):
    """With any number of GPUs a state is read that was saved with another number."""
    model_name, settings = settings_of(name)

    def machine(count):
        return gpu(count) if count else torch.serialization.safe_globals([_on_device])

    with machine(before):
        first = outcome(run(model_name, "small", config_dict={**settings, "epochs": 2}))
    caplog.clear()
    state = first.checkpoint.replace(".pth", ".last.pth")
    with machine(after), caplog.at_level(logging.INFO):
        second = outcome(run(model_name, "small", config_dict={**settings, "epochs": 3, "resume": state}))
    assert list(second.losses) == [0, 1, 2] and [second.losses[epoch] for epoch in (0, 1)] == list(first.losses.values())
    said = [record.getMessage() for record in caplog.records if "random state" in record.getMessage()]
    assert len(said) == (before != after), caplog.text


def test_a_state_lies_on_the_cpu_when_read_and_where_the_model_is_when_restored(settings_of, gpu):
    from recbole_gr.integration.resume import read_training_state, restore_training_state

    model_name, settings = settings_of("TIGER")
    with gpu():
        first = outcome(run(model_name, "small", config_dict={**settings, "epochs": 2}))
        state = read_training_state(first.checkpoint.replace(".pth", ".last.pth"))
        assert not any(isinstance(weight, Pretended) for weight in state["model"].values())
        _, model, train, _, trainer = prepared(model_name, {**settings, "epochs": 3})
        restore_training_state(state, trainer, train)
        moments = [value for state in trainer.optimizer.state.values() for value in state.values() if value.dim()]
        assert moments and all(isinstance(value, Pretended) for value in [*moments, *model.state_dict().values()])


# What a GPU waits for


@pytest.mark.parametrize("name", [name for name in ALL if name != "LLMasRS, frozen"])
def test_the_cpu_does_not_wait_for_a_training_step(name, settings_of, gpu):
    """Neither in a step of the model nor in RecBole's loop around it: only once, at the end of an epoch, for its loss.

    Three libraries are as they are: in RecBole's own loop, which SASRecBCE is trained by, the CPU waits for the value of each
    loss, for whether it is nan and for every column; in a pass of transformers' Llama, for whether a row holds several texts;
    and in peft's layers of trained tokens, of which there are two, for their numbers.
    """
    model_name, settings = settings_of(name)
    with gpu() as traffic:
        config, model, train, _, trainer = prepared(model_name, settings)
        if hasattr(trainer, "start_schedule"):
            trainer.start_schedule(train)
        trainer._train_epoch(train, 0)
        traffic.clear()
        trainer._train_epoch(train, 1)
        waits, uploads = list(traffic.waits), list(traffic.uploads)
    steps = len(train)
    passes = steps * settings.get("gradient_accumulation", 1)
    passes *= 3 * (1 + len(settings.get("alignment_tasks", ()))) if settings.get("item_as") == "sid" else 1
    columns = len(first_batch(train).interaction)
    allowed = {
        "TIGER": 1,
        "LIGER": 1,
        "RPG": 1,
        "IDGenRec": 1,
        "HSTU": 1,
        "SASRecCausal": 1,
        "LLMasRS": 1 + passes,
        "SASRecBCE": (2 + columns) * steps,
    }[model_name]
    assert len(waits) <= allowed, {wait: waits.count(wait) for wait in waits}
    # the columns of a batch; a language model's prompts are laid out on the CPU, in parts
    parts = settings.get("gradient_accumulation", 1) * (1 + len(settings.get("alignment_tasks", ())))
    most = columns + (8 * parts if name in LLMS else 3 if name in IDGENRECS else 0)
    assert len(uploads) <= steps * most, (steps, most, uploads)


def test_a_loss_that_is_nan_ends_the_training(settings_of, gpu):
    model_name, settings = settings_of("TIGER")
    for machine in (contextlib.nullcontext(), gpu()):
        with machine:
            _, model, train, _, trainer = prepared(model_name, settings)
            trainer.start_schedule(train)
            with torch.no_grad():
                next(model.network.parameters()).fill_(torch.nan)
            with pytest.raises(ValueError, match="Training loss is nan"):
                trainer._train_epoch(train, 0)


# What runs before a model


@pytest.mark.parametrize("tokenizer", ["rqvae", "rvq", "letter", "rkmeans", "opq"])
@pytest.mark.parametrize("update", ["loss", "ema"])
def test_tokenizers_give_the_codes_of_the_cpu(tokenizer, update, gpu):
    from recbole_gr.tokenizers import find_tokenizer, settings_of

    function = find_tokenizer(tokenizer)
    vectors = np.random.default_rng(0).normal(size=(300, 12)).astype(np.float32)
    options = {"tokenizer_steps": 25, "tokenizer_batch_size": 64, "dead_code_steps": 10, "codebook_update": update}
    options |= {"rqvae_hidden": (16,), "rqvae_latent": 8, "quantiser_gradient": "rotation"}
    options = {key: value for key, value in options.items() if key in settings_of(function)}

    def quantised(device):
        place = {"device": device} if tokenizer in ("rqvae", "rvq", "letter") else {}
        if tokenizer == "letter":
            place["cf_vectors"] = vectors[:, :5]
        torch.manual_seed(0)
        return function(vectors, 3, 16, **place, **options)

    expected = quantised("cpu")
    with gpu(2):
        found = quantised("cuda")
    np.testing.assert_array_equal(found.codes, expected.codes)
    for one, other in zip(found.codebooks, expected.codebooks):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_text_encoder_gives_the_vectors_of_the_cpu(bert, gpu):
    from recbole_gr.vectors.text_encoder import encode_texts, encoder_precision

    texts = ["", "a small text", "another text, somewhat longer than the first", "a small text"]
    expected = encode_texts(texts, bert, show_progress=False)
    with gpu():
        found = encode_texts(texts, bert, device="cuda", show_progress=False)
        assert encoder_precision("cuda") == "float32"  # the pretended one has no bfloat16
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_run_learns_its_semantic_ids_there(settings_of, gpu):
    model_name, settings = settings_of("TIGER", tokenizer="rqvae", tokenizer_steps=20, rqvae_hidden=[8], rqvae_latent=4)
    with gpu() as traffic:
        done = outcome(run(model_name, "small", config_dict={**settings, "cache_dir": None}))
        assert done.record["semantic_ids"]["items"] > 100 and "aten.index_select.default" not in traffic.waits


# What a run says of the machine


def test_use_gpu_false_leaves_the_gpu_alone(settings_of, gpu):
    model_name, settings = settings_of("TIGER", use_gpu=False)
    with gpu() as traffic:
        done = outcome(run(model_name, "small", config_dict=settings))
    assert done.record["machine"]["device"] == "cpu" and not traffic.operations and not traffic.uploads


def test_ranks_of_targets_are_those_of_the_cpu(settings_of, gpu):
    """The file beside the record, which significance and slices are computed from."""
    model_name, settings = settings_of("TIGER, ties", dropout=0.0)

    def ranks():
        result = run(model_name, "small", config_dict=settings)
        with open(result["record"]) as file:
            record = json.load(file)
        return pd.read_parquet(result["record"].replace(".json", ".parquet")), record["learning_curve"]

    expected, curve = ranks()
    with gpu():
        found, found_curve = ranks()
    assert found_curve[0]["train_loss"] == pytest.approx(curve[0]["train_loss"], rel=1e-5)
    pd.testing.assert_frame_equal(found, expected)


def test_another_kind_of_device_is_an_accelerator_too():
    """No table of ours lacks a device: what is not the CPU is treated as a GPU is."""
    from recbole_gr.decoding import title_search
    from recbole_gr.language_model import prompt_cache, prompt_reader
    from recbole_gr.models.llmasrs.model import LLMasRS
    from recbole_gr.models.tiger.model import TIGER

    tables = [TIGER.beams_at_once, TIGER.widest_search, LLMasRS.beams_at_once, LLMasRS.widest_search]
    tables += [title_search.READ_AHEAD, title_search.TOKENS_AT_ONCE]
    tables += [prompt_cache.PROMPT_TOKENS_AT_ONCE, prompt_reader.ROWS_AT_ONCE]
    for table in tables:
        assert table["mps"] == table["xpu"] == table["cuda"] and table["cpu"] <= table["cuda"]


def test_the_device_is_where_the_trie_is(settings_of, gpu):
    model_name, settings = settings_of("TIGER")
    with gpu():
        _, model, _, _, _ = prepared(model_name, settings)
        assert model.trie.items.device == model.item_codes.device == model.leaf_ranks.device == DEVICE
