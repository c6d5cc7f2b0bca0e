"""Language models from each source are causal, whole and can end a title; what cannot work is one line."""

import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple

import pytest
import torch
from transformers import (
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    BloomConfig,
    BloomForCausalLM,
    CTRLConfig,
    CTRLLMHeadModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from recbole_gr.language_model import (
    SCRATCH,
    SCRATCH_SIZES,
    base_digest,
    check_language_model,
    load_model,
    load_tokenizer,
    scratch_model,
    train_title_tokenizer,
)
from recbole_gr.utils.errors import SettingError

TITLES = ["Toy Story", "Toy Story 2", "The Toy Soldiers", "The Story of Us", "Story of a Toy"] * 3
ODD_TITLES = ["Amélie", "千と千尋の神隠し", "M*A*S*H", "Dr . Strange , 2", "a  b", "tab\tand\nline", "😀", "", "<bos"]


Loaded = namedtuple("Loaded", ["model", "tokenizer"])


def load(name, dtype=torch.float32, seed=0, size="tiny"):
    tokenizer = load_tokenizer(str(name), None, TITLES, 300)
    return Loaded(load_model(str(name), None, tokenizer, scratch_size=size, seed=seed, dtype=dtype), tokenizer)


def new_llama(**options):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    return LlamaForCausalLM(LlamaConfig(**{"vocab_size": 300, **sizes, **options}))


def new_gpt2():
    return GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=16, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2))


def new_ctrl():
    return CTRLLMHeadModel(CTRLConfig(vocab_size=300, n_embd=16, n_layer=1, n_head=2, dff=16))


def new_bloom():
    return BloomForCausalLM(BloomConfig(vocab_size=300, hidden_size=16, n_layer=1, n_head=2))


def new_mamba():
    return MambaForCausalLM(MambaConfig(vocab_size=300, hidden_size=16, num_hidden_layers=1))


def new_bert():
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return BertForMaskedLM(BertConfig(vocab_size=300, **sizes))


def new_bart():
    sizes = {f"{side}_{size}": 2 for side in ("encoder", "decoder") for size in ("layers", "attention_heads", "ffn_dim")}
    return BartForConditionalGeneration(BartConfig(vocab_size=300, d_model=16, max_position_embeddings=64, **sizes))


def new_t5():
    return T5ForConditionalGeneration(T5Config(vocab_size=300, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2))


def save(model, folder, tokenizer=None, **options):
    model.save_pretrained(folder, **options)
    (tokenizer or train_title_tokenizer(TITLES, 300)).save_pretrained(folder)
    return str(folder)


def error_of(function, *arguments):
    with pytest.raises(SettingError) as raised:
        function(*arguments)
    assert "\n" not in str(raised.value) and str(raised.value).startswith("llm=")
    return str(raised.value)


# The tokenizer of titles


def test_any_text_comes_back():
    tokenizer = train_title_tokenizer(TITLES, 300)
    for text in TITLES + ODD_TITLES:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.decode(tokenizer(" Toy")["input_ids"]) == "Toy"  # the one blank that does not come back


def test_tokens_of_titles():
    tokenizer = train_title_tokenizer(TITLES, 300)
    assert 259 < len(tokenizer) <= 300 and tokenizer.is_fast
    assert tokenizer.convert_tokens_to_ids(["<pad>", "<bos>", "<eos>"]) == [0, 1, 2]
    assert (tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token) == ("<pad>", "<bos>", "<eos>")
    first, second, third = (tokenizer.tokenize(text) for text in ("Toy Story", "Story", "<bos>Toy Story<eos>"))
    assert first == ["ĠToy", "ĠStory"] and second == ["ĠStory"] and third == ["<bos>", *first, "<eos>"]
    padded = tokenizer(["Toy Story", "Toy"], padding=True)
    assert padded["input_ids"][1][-1] == 0 and padded["attention_mask"] == [[1, 1], [1, 0]]


def test_few_texts_yield_the_bytes_alone():
    assert len(train_title_tokenizer([], 300)) == 259
    with pytest.raises(SettingError, match="^scratch_vocabulary=258: must be a whole number of at least 259"):
        train_title_tokenizer(TITLES, 258)


def test_same_texts_give_the_same_tokenizer():
    words = [a + b for a in ("Star", "Moon", "Sun", "Mars") for b in (" War", " Trek", "light", " Story")]
    code = """
import json, sys
from recbole_gr.language_model import train_title_tokenizer
print(json.dumps(train_title_tokenizer(json.loads(sys.argv[1]), 320).backend_tokenizer.to_str()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(words)],
        env={**os.environ, "PYTHONHASHSEED": "1"},  # this process has another one
        stdout=subprocess.PIPE,
        check=True,
    )
    for _ in range(2):
        assert train_title_tokenizer(words, 320).backend_tokenizer.to_str() == json.loads(done.stdout)


# The model from scratch


@pytest.mark.parametrize("size", SCRATCH_SIZES)
def test_sizes(size):
    shape, vocabulary = SCRATCH_SIZES[size], 261
    model = scratch_model(size, vocabulary, 0)
    layer = 4 * shape.d_model**2 + 3 * shape.d_model * shape.d_ff + 2 * shape.d_model
    expected = vocabulary * shape.d_model + shape.n_layers * layer + shape.d_model
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    config = model.config
    assert (config.num_attention_heads, config.max_position_embeddings) == (shape.n_heads, 4096)
    assert model.lm_head.weight is model.model.embed_tokens.weight and not model.training


def test_seed_of_the_weights():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, again, other = (scratch_model("tiny", 300, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["lm_head.weight"], other["lm_head.weight"])
    with pytest.raises(SettingError, match="^scratch_size='huge': must be one of micro, tiny, small, medium, large"):
        scratch_model("huge", 300, 0)


def test_scratch_by_name():
    check_language_model(SCRATCH)
    loaded = load(SCRATCH, torch.bfloat16, seed=3)
    assert not loaded.model.training
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.bfloat16}
    assert loaded.model.model.rotary_emb.inv_freq.dtype == torch.float32
    assert loaded.model.config.vocab_size == len(loaded.tokenizer) and loaded.model.config._attn_implementation == "sdpa"
    expected = scratch_model("tiny", len(loaded.tokenizer), 3).lm_head.weight
    assert torch.equal(loaded.model.lm_head.weight, expected.bfloat16())


def test_tokenizer_without_the_model(tmp_path):
    for name in (SCRATCH, save(new_llama(), tmp_path)):
        alone = load_tokenizer(name, None, TITLES, 300)
        assert alone.backend_tokenizer.to_str() == load(name).tokenizer.backend_tokenizer.to_str()
        assert (alone.eos_token_id, alone.pad_token_id, alone.padding_side) == (2, 0, "right")


# Folders


@pytest.mark.parametrize("torch_file", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_folder(tmp_path, capfd, dtype, torch_file):
    llama = new_llama()
    folder = save(llama, tmp_path / "llama")
    if torch_file:
        os.remove(os.path.join(folder, "model.safetensors"))
        torch.save(llama.state_dict(), os.path.join(folder, "pytorch_model.bin"))
    check_language_model(folder)
    capfd.readouterr()
    loaded = load(folder, dtype)
    assert capfd.readouterr() == ("", "")
    assert not loaded.model.training
    weights = loaded.model.state_dict()
    assert weights.keys() == llama.state_dict().keys()
    assert all(torch.equal(weights[name], weight.to(dtype)) for name, weight in llama.state_dict().items())
    assert loaded.model.model.rotary_emb.inv_freq.dtype == torch.float32
    assert loaded.model.config.use_cache and loaded.model.config._attn_implementation == "sdpa"
    assert loaded.tokenizer("Toy Story")["input_ids"] == train_title_tokenizer(TITLES, 300)("Toy Story")["input_ids"]


def test_pickle_that_runs_code_is_refused(tmp_path):
    class Harm:
        def __reduce__(self):
            return open, (str(tmp_path / "harmed"), "w")

    folder = save(new_llama(), tmp_path / "llama")
    os.remove(os.path.join(folder, "model.safetensors"))
    torch.save({"lm_head.weight": Harm()}, os.path.join(folder, "pytorch_model.bin"))
    assert "no causal language model can be loaded" in error_of(load, folder)
    assert not (tmp_path / "harmed").exists()


def test_code_of_a_model_is_never_run(tmp_path):
    folder = save(new_llama(), tmp_path / "llama")
    path = tmp_path / "llama" / "config.json"
    config = {**json.loads(path.read_text()), "model_type": "strange", "auto_map": {"AutoConfig": "code.Config"}}
    path.write_text(json.dumps(config))
    (tmp_path / "llama" / "code.py").write_text("raise SystemExit('the code was run')")
    error_of(load, folder)


@pytest.mark.parametrize(
    "new_model, attention",
    [
        (new_gpt2, "sdpa"),
        (new_ctrl, "sdpa"),
        (new_bloom, "eager"),
        (new_mamba, None),  # no attention
    ],
)
def test_other_architectures(tmp_path, new_model, attention):
    model = load(save(new_model(), tmp_path)).model
    assert attention in (None, model.config._attn_implementation)


def test_tokenizers_own_tokens(tmp_path):
    tokenizer = train_title_tokenizer(TITLES, 300)
    tokenizer.pad_token, tokenizer.padding_side = None, "left"
    loaded = load(save(new_llama(), tmp_path / "no pad", tokenizer)).tokenizer
    assert (loaded.pad_token, loaded.pad_token_id, loaded.padding_side) == ("<eos>", 2, "right")
    tokenizer.eos_token = None
    folder = save(new_llama(), tmp_path / "no eos", tokenizer)
    assert error_of(load, folder) == f"llm={folder!r}: its tokenizer has no eos token, which ends a title"


@pytest.mark.parametrize(
    "new_model, said",
    [
        (new_bert, "an encoder, whose tokens see those after them"),
        (new_bart, "an encoder-decoder; must be a causal language model"),
        (new_t5, "no causal language model can be loaded"),
    ],
)
def test_models_that_are_no_causal_language_model(tmp_path, new_model, said):
    folder = save(new_model(), tmp_path)
    check_language_model(folder)
    assert said in error_of(load, folder)


def test_damaged_folders(tmp_path):
    whole = save(new_llama(), tmp_path / "whole")

    def broken(name, **changes):
        folder = shutil.copytree(whole, tmp_path / name)
        for file, content in changes.items():
            path = folder / file.replace("__", ".")
            path.unlink() if content is None else path.write_bytes(content)
        return folder

    assert "no causal language model can be loaded" in error_of(load, broken("no weights", model__safetensors=None))
    assert "no causal language model can be loaded" in error_of(load, broken("cut", model__safetensors=b"abc"))
    assert "tokenizer" in error_of(load, broken("no words", tokenizer__json=None, tokenizer_config__json=None))
    assert "can be loaded" in error_of(load, broken("not json", config__json=b"{"))
    folder = broken("no config", config__json=None)
    assert error_of(check_language_model, str(folder)).endswith("the folder holds no language model (no config.json)")
    new_llama().model.save_pretrained(folder)  # without the output layer
    assert "lack parts of the model, which would be random (lm_head.weight, ...)" in error_of(load, folder)
    save(new_llama(vocab_size=260), folder)
    length = len(AutoTokenizer.from_pretrained(folder))
    assert f"its tokenizer has {length} tokens, its model only 260" in error_of(load, folder)


# Names


@pytest.mark.parametrize("name", ["/no/such/folder", "./none", "~/none", "models/llama/none"])
def test_missing_folders(name):
    assert error_of(check_language_model, name).endswith("there is no such folder")


@pytest.mark.parametrize("name", ["no name at all", None, "", 3])
def test_what_is_no_name(name):
    assert "SmolLM2-135M" in error_of(check_language_model, name)


@pytest.fixture
def offline_hub(tmp_path, monkeypatch):
    """An empty hub cache without a network; huggingface_hub reads its environment only when it is imported."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.mark.parametrize("name", ["org/absent", "absent"])
def test_hub_names_offline(offline_hub, name):
    for function in (check_language_model, load):
        message = error_of(function, name)
        assert message.startswith(f"llm={name!r}: not on disk, and the Hugging Face hub does not give it (")
        assert "offline mode" in message.lower()
        assert message.endswith("a local folder, SmolLM2-135M or scratch work offline")


@pytest.mark.parametrize("name", ["org/model", "model"])
def test_hub_names_in_the_cache(offline_hub, name):
    folder = offline_hub / f"models--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("c" * 40)
    llama = new_llama()
    save(llama, folder / "snapshots" / ("c" * 40))
    check_language_model(name)
    assert torch.equal(load(name).model.lm_head.weight, llama.lm_head.weight)


# The identity of a base model


def test_digest_is_the_same_for_the_same_model(tmp_path):
    first = load(SCRATCH)
    digest = base_digest(first.model, first.tokenizer)
    assert len(digest) == 16 and int(digest, 16) >= 0
    again = load(SCRATCH)
    assert base_digest(again.model, again.tokenizer) == digest
    saved = load(save(first.model, tmp_path, first.tokenizer))
    assert base_digest(saved.model, saved.tokenizer) == digest


def test_digest_of_another_model_differs():
    base = load(SCRATCH)
    other_heads = scratch_model("tiny", len(base.tokenizer), 0)
    other_heads.config.num_attention_heads = 4
    other_weight = scratch_model("tiny", len(base.tokenizer), 0)
    with torch.no_grad():
        other_weight.model.layers[1].mlp.up_proj.weight[0, 0] += 1
    pairs = [
        (base.model, base.tokenizer),
        (other_heads, base.tokenizer),
        (other_weight, base.tokenizer),
        (base.model, train_title_tokenizer(TITLES, 260)),
        (load(SCRATCH, seed=1).model, base.tokenizer),
        (load(SCRATCH, size="small").model, base.tokenizer),
    ]
    assert len({base_digest(model, tokenizer) for model, tokenizer in pairs}) == len(pairs)


@pytest.mark.parametrize("published", [torch.bfloat16, torch.float32])
def test_digest_and_precision(tmp_path, published):
    """What a GPU loads in bfloat16 and another machine in float32 is the same base model."""
    folder = save(new_llama().to(published), tmp_path / "model")
    loads = [load(folder, dtype) for dtype in (torch.bfloat16, torch.float32)]
    assert len({base_digest(*loaded) for loaded in loads}) == 1
