"""Vectors -> semantic IDs. Knows nothing of RecBole."""

from recbole_gr.tokenizers.collision import COLLISION_RULES, append_digit, resolve_collisions
from recbole_gr.tokenizers.quantised import Quantised
from recbole_gr.tokenizers.registry import (
    add_tokenizer,
    all_settings,
    find_tokenizer,
    fingerprint,
    is_ours,
    settings_of,
    tokenizer_names,
)
from recbole_gr.tokenizers.semantic_ids import SemanticIDs
from recbole_gr.tokenizers.setting_checks import check_tokenizer_settings
from recbole_gr.tokenizers.sid_export import write_sid_file
from recbole_gr.tokenizers.sid_file import read_sid_file
from recbole_gr.tokenizers.tokenize import check_codebooks, tokenize

__all__ = [
    "COLLISION_RULES",
    "Quantised",
    "SemanticIDs",
    "add_tokenizer",
    "all_settings",
    "append_digit",
    "check_codebooks",
    "check_tokenizer_settings",
    "find_tokenizer",
    "fingerprint",
    "is_ours",
    "read_sid_file",
    "resolve_collisions",
    "settings_of",
    "tokenize",
    "tokenizer_names",
    "write_sid_file",
]
