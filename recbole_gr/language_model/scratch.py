"""A small language model from random weights, with a tokenizer trained on the titles themselves.

It needs no download and knows nothing but the interactions: the yardstick for what pretraining is worth.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from recbole_gr.settings.field import check_value

SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>")  # ids 0, 1, 2
MAX_POSITIONS = 4096

#: The special tokens and all bytes.
MIN_VOCABULARY = len(SPECIAL_TOKENS) + 256


@dataclass(frozen=True)
class ScratchSize:
    """The shape of a language model from scratch."""

    n_layers: int
    d_model: int
    n_heads: int
    d_ff: int


SCRATCH_SIZES = {
    "micro": ScratchSize(1, 32, 1, 96),
    "tiny": ScratchSize(2, 64, 2, 192),
    "small": ScratchSize(2, 128, 4, 384),
    "medium": ScratchSize(4, 256, 8, 768),
    "large": ScratchSize(8, 512, 8, 1536),
}


def train_title_tokenizer(texts: Iterable[str], vocabulary: int) -> Any:
    """A byte-level BPE tokenizer of these texts, the same one for the same texts.

    All bytes are tokens, so that any text can be encoded. Before a text without a blank at its start comes one, so that
    a word is the same token at the start of a title as within; decoding takes one blank from the start away. A title
    thus comes back as it was unless it starts with a blank.

    Args:
        texts: what the merges are learned from.
        vocabulary: the most tokens there may be, special tokens and the 256 bytes among them; few or short texts
            yield fewer.

    Returns:
        transformers.PreTrainedTokenizerFast: with ``<pad>``, ``<bos>`` and ``<eos>`` as ids 0, 1 and 2, none of which
        it adds to a text by itself.

    Raises:
        SettingError: if the vocabulary is smaller than the special tokens and the bytes.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    check_value("scratch_vocabulary", vocabulary, int, ge=MIN_VOCABULARY)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(content=" ", left=1, right=0)])
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    pad, bos, eos = SPECIAL_TOKENS
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        bos_token=bos,
        eos_token=eos,
        padding_side="right",
        clean_up_tokenization_spaces=False,  # it would remove the blank in "Dr ."
    )


def scratch_model(size: str, vocabulary_size: int, seed: int) -> Any:
    """A Llama of random weights, with one matrix for the tokens going in and out.

    Args:
        size: one of ``SCRATCH_SIZES``.
        vocabulary_size: the number of tokens.
        seed: of the weights. The state of torch's own generators is as before.

    Returns:
        transformers.LlamaForCausalLM: float32, in evaluation mode.

    Raises:
        SettingError: for an unknown size.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    check_value("scratch_size", size, Literal[tuple(SCRATCH_SIZES)])
    shape = SCRATCH_SIZES[size]
    config = LlamaConfig(
        vocab_size=vocabulary_size,
        num_hidden_layers=shape.n_layers,
        hidden_size=shape.d_model,
        num_attention_heads=shape.n_heads,
        num_key_value_heads=shape.n_heads,
        intermediate_size=shape.d_ff,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs too, for good
        return LlamaForCausalLM(config).eval()
