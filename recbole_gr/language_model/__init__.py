"""A causal language model as recommender: where it comes from, and what of it is trained."""

from recbole_gr.language_model.lora import add_lora, parameter_counts, rank_for_share
from recbole_gr.language_model.scratch import SCRATCH_SIZES, scratch_model, train_title_tokenizer
from recbole_gr.language_model.source import (
    BUNDLED,
    SCRATCH,
    base_digest,
    check_language_model,
    load_model,
    load_tokenizer,
)

__all__ = [
    "BUNDLED",
    "SCRATCH",
    "SCRATCH_SIZES",
    "add_lora",
    "base_digest",
    "check_language_model",
    "load_model",
    "load_tokenizer",
    "parameter_counts",
    "rank_for_share",
    "scratch_model",
    "train_title_tokenizer",
]
