"""What an adapter has of parameters and trains, counted and compared by hand."""

import json

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PhiConfig, PhiForCausalLM

from recbole_gr.language_model import add_lora, parameter_counts, rank_for_share
from recbole_gr.utils.errors import SettingError

IDS = torch.tensor([[1, 2, 3, 4, 5, 6, 7]])
NEW = [3, 5]


def new_llama(tied=True):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    return LlamaForCausalLM(LlamaConfig(vocab_size=12, tie_word_embeddings=tied, **sizes))


def new_gpt2(tied=True):
    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16}
    return GPT2LMHeadModel(GPT2Config(vocab_size=12, tie_word_embeddings=tied, bos_token_id=0, eos_token_id=0, **sizes))


def train(model, steps):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01, weight_decay=0)
    for _ in range(steps):
        optimizer.zero_grad()
        model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()


def changed_rows(before, after):
    return torch.nonzero((before != after).any(dim=1)).flatten().tolist()


@pytest.mark.parametrize("new_model", [new_llama, new_gpt2])
@pytest.mark.parametrize("tied", [True, False])
def test_what_training_changes(new_model, tied):
    base = new_model(tied)
    embedding, output = base.get_input_embeddings().weight, base.get_output_embeddings().weight
    assert (embedding is output) == tied
    embedding, output = embedding.detach().clone(), output.detach().clone()
    model = add_lora(base, 2, alpha=4, dropout=0.0, targets="all-linear", trained_tokens=NEW)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all("lora_" in name or "trainable_tokens_delta" in name for name in trained)

    def changed():
        return {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}

    train(model, 1)
    assert changed() == {name for name in trained if "lora_A" not in name}  # B is zero at first, and so A's gradient
    assert changed_rows(embedding, model.get_input_embeddings().weight) == NEW
    assert changed_rows(output, model.get_output_embeddings().weight) == NEW
    train(model, 1)
    assert changed() == trained
    merged = model.merge_and_unload()
    assert changed_rows(embedding, merged.get_input_embeddings().weight) == NEW
    assert changed_rows(output, merged.get_output_embeddings().weight) == NEW
    assert torch.equal(merged.get_input_embeddings().weight, merged.get_output_embeddings().weight) == tied


def test_matrices_that_differ_under_a_config_that_ties_them(tmp_path):
    """transformers loads such a checkpoint with both matrices and leaves the config."""
    new_llama(tied=False).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    base = LlamaForCausalLM.from_pretrained(tmp_path)
    embedding, output = base.model.embed_tokens.weight.detach().clone(), base.lm_head.weight.detach().clone()
    model = add_lora(base, 2, alpha=4, dropout=0.0, targets=["q_proj"], trained_tokens=NEW)
    train(model, 1)
    assert changed_rows(embedding, model.get_input_embeddings().weight) == NEW
    assert changed_rows(output, model.get_output_embeddings().weight) == NEW
    delta = model.get_output_embeddings().weight - output
    assert (delta[NEW].abs() < 0.011).all()  # a step from its own rows, not from those of the embedding


def test_untrained_adapter_changes_nothing():
    base = new_llama().eval()
    with torch.no_grad():
        expected = base(IDS).logits
        model = add_lora(base, 2, alpha=4, dropout=0.5, targets=["q_proj", "down_proj"], trained_tokens=NEW).eval()
        torch.testing.assert_close(model(IDS).logits, expected)


def test_only_the_targets_get_an_adapter():
    model = add_lora(new_llama(), 2, alpha=4, dropout=0.25, targets=["q_proj", "down_proj"])
    layers = {name.split(".")[-4] for name, _ in model.named_parameters() if "lora_A" in name}
    assert layers == {"q_proj", "down_proj"}
    config = model.peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout, config.task_type) == (2, 4, 0.25, "CAUSAL_LM")
    assert config.trainable_token_indices is None


def test_counts_by_hand():
    embedding, width, inner = 12 * 16, 16, 24
    layer = 4 * width * width + 3 * width * inner + 2 * width
    for tied in (True, False):
        base = new_llama(tied)
        whole = embedding * (1 if tied else 2) + 2 * layer + width
        assert parameter_counts(base) == {"N_LLM": whole, "N_LoRA": 0, "N_trained": whole}
        model = add_lora(base, 3, alpha=6, dropout=0.0, targets="all-linear", trained_tokens=NEW)
        adapter = 3 * 2 * (4 * (width + width) + 3 * (width + inner))
        rows = len(NEW) * width * (1 if tied else 2)
        assert parameter_counts(model) == {"N_LLM": whole, "N_LoRA": adapter, "N_trained": adapter + rows}


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"]])
@pytest.mark.parametrize("share", [0.01, 0.2, 0.9])
def test_rank_is_the_nearest(targets, share):
    base = new_llama()
    whole = parameter_counts(base)["N_LLM"]

    def distance(rank):
        return abs(
            parameter_counts(add_lora(new_llama(), rank, alpha=1, dropout=0.0, targets=targets))["N_LoRA"] - share * whole
        )

    state = torch.get_rng_state()
    rank = rank_for_share(base, targets, share)
    assert torch.equal(torch.get_rng_state(), state) and all(p.requires_grad for p in base.parameters())
    assert rank == min(range(1, rank + 3), key=distance)
    assert add_lora(base, None, alpha=1, dropout=0.0, targets=targets, share=share).peft_config["default"].r == rank


def test_rank_of_a_transposed_layer():
    base = new_gpt2()
    per_rank = 2 * (16 + 48 + 16 + 16 + 16 + 64 + 64 + 16)  # in and out of c_attn, c_proj, c_fc and c_proj, two blocks
    assert rank_for_share(base, "all-linear", 5 * per_rank / parameter_counts(base)["N_LLM"]) == 5


@pytest.mark.parametrize("targets", [["q_proj", "typo"], ["typo"]])
def test_unknown_targets(targets):
    with pytest.raises(SettingError, match="^lora_targets=.*there is no typo; there are q_proj, .*down_proj, lm_head"):
        add_lora(new_llama(), 2, alpha=4, dropout=0.0, targets=targets)
    with pytest.raises(SettingError, match="there are c_attn, c_proj, c_fc, lm_head"):
        rank_for_share(new_gpt2(), targets, 0.1)


@pytest.mark.parametrize("targets", ["q_proj", [], None, [1]])
def test_targets_that_are_no_list_of_names(targets):
    with pytest.raises(SettingError, match="^lora_targets=.*must be all-linear or a list of q_proj, "):
        add_lora(new_llama(), 2, alpha=4, dropout=0.0, targets=targets)


def test_settings_that_cannot_work():
    for rank, share in ((None, None), (2, 0.1)):
        with pytest.raises(SettingError, match="^lora_rank="):
            add_lora(new_llama(), rank, alpha=4, dropout=0.0, targets="all-linear", share=share)
    for share in (0, 1.5):
        with pytest.raises(SettingError, match="^lora_share="):
            add_lora(new_llama(), None, alpha=4, dropout=0.0, targets="all-linear", share=share)
    with pytest.raises(SettingError, match="^lora_targets=.*rows of lm_head are trained in full"):
        add_lora(new_llama(tied=False), 2, alpha=4, dropout=0.0, targets=["q_proj", "lm_head"], trained_tokens=NEW)


def test_output_layer_with_a_bias():
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    phi = PhiForCausalLM(PhiConfig(vocab_size=12, **sizes))
    with pytest.raises(SettingError, match="^llm='PhiForCausalLM': its output layer has a bias"):
        add_lora(phi, 2, alpha=4, dropout=0.0, targets="all-linear", trained_tokens=NEW)
    assert parameter_counts(add_lora(phi, 2, alpha=4, dropout=0.0, targets="all-linear"))["N_LoRA"] > 0
