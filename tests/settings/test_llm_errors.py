"""Bad input for LLMasRS: one line, before any long work, that names the key, the value and what is allowed."""

import json
import os
import shutil

import pytest
import torch
from recbole.config import Config
from support.atomic import read_atomic
from test_errors import assert_one_line
from transformers import AutoTokenizer, LlamaForCausalLM

from recbole_gr import cli
from recbole_gr.integration.config import check_plain_config
from recbole_gr.utils.errors import SettingError

LLM = ["--model=LLMasRS", "--dataset=small"]


@pytest.fixture
def command(llm_settings, tmp_path, capsys):
    """Runs the command line with settings in a yaml file; returns exit status and what stood on stderr."""
    shutil.copytree(os.path.join(llm_settings["data_path"], "small"), tmp_path / "data" / "small")
    with open("llm.yaml", "w") as file:
        json.dump({**llm_settings, "data_path": str(tmp_path / "data"), "cache_dir": "cache"}, file)  # json is yaml

    def run_with(*arguments):
        status = cli.main(["run", "--config_files=llm.yaml", *LLM, *arguments])
        return status, capsys.readouterr().err

    return run_with


def change_items(tmp_path, change):
    path = tmp_path / "data" / "small" / "small.item"
    changed = change(read_atomic(path))
    changed.to_csv(path, sep="\t", index=False)


@pytest.mark.parametrize(
    "setting, words",
    [
        ("--scratch_size=huge", ["scratch_size='huge'", "micro, tiny, small, medium, large"]),
        ("--tuning=adapter", ["tuning='adapter'", "lora, full, frozen", "on the command line"]),
        ("--item_as=text", ["item_as='text'", "title, sid"]),
        ("--cf_injection=mean", ["cf_injection='mean'", "none, concat, add"]),
        ("--leaf_order=file", ["leaf_order='file'", "popularity, random"]),
        ("--precision=float16", ["precision='float16'", "auto, float32, bfloat16"]),
        ("--schedule=linear", ["schedule='linear'", "cosine"]),
        ("--lora_rank=0", ["lora_rank=0", "at least 1"]),
        ("--lora_rank=2.5", ["lora_rank=2.5", "whole number"]),
        ("--lora_share=0", ["lora_share=0", "above 0"]),
        ("--lora_share=1.5", ["lora_share=1.5", "at most 1"]),
        ("--lora_alpha=0", ["lora_alpha=0", "above 0"]),
        ("--lora_dropout=1", ["lora_dropout=1", "below 1"]),
        ("--lora_targets=['q_proj','w_proj']", ["lora_targets=['q_proj', 'w_proj']", "no w_proj", "q_proj, k_proj"]),
        ("--lora_targets=everything", ["lora_targets='everything'", "all-linear or a list of names"]),
        ("--title_max_tokens=0", ["title_max_tokens=0", "at least 1"]),
        ("--prompt_max_tokens=0", ["prompt_max_tokens=0", "at least 1"]),
        ("--gradient_accumulation=0", ["gradient_accumulation=0", "at least 1"]),
        ("--gradient_checkpointing=perhaps", ["gradient_checkpointing='perhaps'", "True or False"]),
        ("--scratch_vocabulary=100", ["scratch_vocabulary=100", "at least 259"]),
        ("--epoch_samples=0", ["epoch_samples=0", "at least 1"]),
        ("--warmup_steps=-1", ["warmup_steps=-1", "at least 0"]),
        ("--MAX_ITEM_LIST_LENGTH=0", ["MAX_ITEM_LIST_LENGTH=0", "at least 1"]),
        ("--beam_size=9", ["beam_size=9", "topk, 10"]),
        ("--duplicate_titles=suffix", ["duplicate_titles='suffix'", "tied, counter, or columns in braces"]),
        ("--duplicate_titles={year}", ["'year'", "duplicate_titles", "movie_title, release_year, class"]),
        ("--title_template={movie}", ["'movie'", "title_template", "movie_title, release_year, class"]),
        ("--title_template=movie_title", ["title_template='movie_title'", "names no column in braces"]),
        ("--prompt_template=next:", ["prompt_template='next:'", "{history}", "once"]),
        ("--prompt_template={history}{history}", ["prompt_template='{history}{history}'", "once"]),
        ("--history_separator=1", ["history_separator=1", "must be text"]),
        ("--cf_injection=add", ["cf_checkpoint=None", "cf_injection=add needs"]),
        ("--llm=7", ["llm=7", "must be text"]),
        ("--llm=llama", ["llm='llama'", "scratch work offline"]),
        ("--llm=./no/such/folder", ["llm='./no/such/folder'", "no such folder", "on the command line"]),
        ("--llm=data", ["llm='data'", "no config.json"]),
    ],
)
def test_values_that_cannot_work(command, setting, words):
    assert_one_line(command(setting), *words)


@pytest.mark.parametrize(
    "settings, words",
    [
        (["--enable_scaler=True", "--gradient_accumulation=2"], ["enable_scaler=True", "gradient_accumulation"]),
        (["--llm=scratch", "--tuning=lora"], ["tuning='lora'", "llm=scratch", "tuning=full"]),
        (["--llm=scratch", "--tuning=frozen"], ["tuning='frozen'", "llm=scratch", "tuning=full"]),
        (["--tuning=frozen", "--item_as=sid"], ["tuning='frozen'", "item_as=sid"]),
        (["--cf_injection=concat", "--cf_checkpoint=none.pth"], ["cf_checkpoint='none.pth'", "no such file"]),
        (["--cf_injection=concat", "--cf_checkpoint=llm.yaml"], ["cf_checkpoint='llm.yaml'", "not a checkpoint of RecBole"]),
    ],
)
def test_values_that_cannot_work_together(command, settings, words):
    assert_one_line(command(*settings), *words)


def test_model_not_found_offline(command, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # it has read the environment already
    words = ["llm='no-such-group/no-such-model'", "not on disk", "offline", "SmolLM2-135M", "scratch"]
    assert_one_line(command("--llm=no-such-group/no-such-model"), *words)


def test_no_title_column(command, tmp_path):
    change_items(tmp_path, lambda items: items.rename(columns={"movie_title:token_seq": "film:token_seq"}))
    assert_one_line(command(), "small.item", "no title column", "title_template", "item_id, film, release_year, class")


def test_titles_all_empty(command, tmp_path):
    change_items(tmp_path, lambda items: items.assign(**{"movie_title:token_seq": ""}))
    assert_one_line(command(), "small.item", "no item has a text", "movie_title")


@pytest.mark.parametrize("setting", [[], ["--title_template={movie_title}"]])
def test_no_item_file(command, tmp_path, setting):
    """It must not advise what helps semantic IDs only."""
    os.remove(tmp_path / "data" / "small" / "small.item")
    status, stderr = command(*setting)
    assert_one_line((status, stderr), "no item file", "small.item", "title")
    assert "item_vector_file" not in stderr


def test_a_prompt_in_which_no_item_fits(command, llm_settings):
    titles = read_atomic(os.path.join(llm_settings["data_path"], "small", "small.item"))["movie_title:token_seq"]
    tokenizer = AutoTokenizer.from_pretrained(llm_settings["llm"])
    longest = max(len(tokenizer(title)["input_ids"][:32]) for title in titles)
    least = longest + len(tokenizer("\n")["input_ids"])
    words = [f"prompt_max_tokens={least - 1}", f"at least {least}", "title_max_tokens"]
    assert_one_line(command(f"--prompt_max_tokens={least - 1}"), *words)


def test_a_prompt_too_long_for_the_language_model(command, llm_settings):
    longest = 32 + 1  # a cut title and its eos
    assert LlamaForCausalLM.from_pretrained(llm_settings["llm"]).config.max_position_embeddings == 600
    words = [f"prompt_max_tokens={600 - longest + 1}", "reads 600 tokens (max_position_embeddings)", f"{longest} of which"]
    assert_one_line(command(f"--prompt_max_tokens={600 - longest + 1}"), *words)


@pytest.mark.parametrize("item_as", ["title", "sid"])
def test_a_tokenizer_without_eos(command, llm_settings, item_as):
    """Said before semantic IDs are made, which takes long."""
    shutil.copytree(llm_settings["llm"], "llama")
    with open("llama/tokenizer_config.json") as file:
        settings = json.load(file)
    del settings["eos_token"]
    with open("llama/tokenizer_config.json", "w") as file:
        json.dump(settings, file)
    if os.path.exists("llama/special_tokens_map.json"):  # transformers 4
        os.remove("llama/special_tokens_map.json")
    assert_one_line(command("--llm=llama", f"--item_as={item_as}"), "llm='llama'", "no eos token", "ends a title")
    assert not os.path.exists("cache")


@pytest.mark.parametrize(
    "in_training, words",
    [
        (True, ["train_batch_size=32", "training", "gradient_accumulation", "gradient_checkpointing=True", "lower"]),
        (False, ["eval_batch_size=", "decoding", "lower this", "prompt_max_tokens", "beam_certify=False"]),
    ],
)
def test_gpu_out_of_memory(command, in_training, words):
    """Stands for a GPU: the language model itself raises what torch raises there, for more than a trifle of tokens."""

    def out_of_memory(module, inputs, output):
        if isinstance(module, LlamaForCausalLM) and module.training == in_training and len(output.logits) >= 16:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nMore of it.")

    hook = torch.nn.modules.module.register_module_forward_hook(out_of_memory)
    try:
        assert_one_line(command("--epochs=1", "--epoch_samples=32"), *words)
    finally:
        hook.remove()


@pytest.mark.parametrize(
    "settings, reason",
    [
        ({"llm": "scratch", "lora_rank": 8}, "tuning=full has no adapter"),
        ({"llm": "scratch", "lora_targets": ["q_proj"]}, "tuning=full has no adapter"),
        ({"tuning": "frozen", "lora_alpha": 8}, "tuning=frozen has no adapter"),
        ({"scratch_size": "tiny"}, "is not from scratch"),
        ({"lora_share": 0.01, "lora_rank": 8}, "lora_share is set"),
        ({"leaf_order": "random"}, "with duplicate_titles=counter no items share a title"),
        ({"cf_parameter": "item_embedding.weight"}, "cf_injection=none"),
        ({"tokenizer": "rvq"}, "item_as=title makes no semantic IDs"),
        ({"sid_codebook_sizes": 8}, "item_as=title makes no semantic IDs"),
        ({"text_weight": 2.0}, "item_as=title makes no semantic IDs"),
        ({"tuning": "frozen", "learning_rate": 0.1}, "tuning=frozen trains nothing"),
        ({"item_as": "sid", "title_template": "{movie_title}"}, "item_as=sid generates no titles"),
        ({"item_as": "sid", "title_max_tokens": 8}, "item_as=sid generates no titles"),
        ({"item_as": "sid", "ema_decay": 0.5}, "tokenizer=rkmeans has no such setting"),
    ],
)
def test_settings_without_effect_are_named(llm_settings, caplog, settings, reason):
    needed = {key: llm_settings[key] for key in ("data_path", "llm")}
    key = list(settings)[-1]
    Config("LLMasRS", "small", config_dict={**needed, **settings})
    warnings = [one.getMessage() for one in caplog.records if "is not used" in one.getMessage()]
    assert len(warnings) == 1 and warnings[0].startswith(f"{key}={settings[key]!r} is not used: "), warnings
    assert warnings[0].endswith(reason)


def test_frozen_on_several_processes(llm_settings):
    """torch.distributed refuses a model that trains nothing, in words about gradients."""
    config = Config("LLMasRS", "small", config_dict={**llm_settings, "tuning": "frozen"})
    config["single_spec"] = False  # as RecBole sets it with nproc
    with pytest.raises(SettingError, match="^tuning='frozen': .*nproc=1"):
        check_plain_config(config)


def test_settings_with_effect_are_not_named(llm_settings, caplog):
    used = {"lora_rank": 8, "lora_alpha": 8, "duplicate_titles": "tied", "leaf_order": "random", "title_max_tokens": 8}
    needed = {key: llm_settings[key] for key in ("data_path", "llm")}
    Config("LLMasRS", "small", config_dict={**needed, **used})
    assert not any("is not used" in one.getMessage() for one in caplog.records)
