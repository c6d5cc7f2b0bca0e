"""Vectors -> semantic IDs. Imports nothing of RecBole.

The names below are imported when they are first used: to read the settings of the tokenizers, torch is not needed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recbole_gr.tokenizers.collision import COLLISION_RULES, append_digit, resolve_collisions
    from recbole_gr.tokenizers.pipeline import check_codebooks, check_vectors, tokenize
    from recbole_gr.tokenizers.registry import (
        add_tokenizer,
        all_settings,
        check_tokenizer_settings,
        find_tokenizer,
        fingerprint,
        is_ours,
        setting_fields,
        settings_of,
        tokenizer_names,
    )
    from recbole_gr.tokenizers.semantic_ids import Quantised, SemanticIDs
    from recbole_gr.tokenizers.sid_file_writer import write_sid_file
    from recbole_gr.tokenizers.sid_files import read_sid_file

__all__ = [
    "COLLISION_RULES",
    "Quantised",
    "SemanticIDs",
    "add_tokenizer",
    "all_settings",
    "append_digit",
    "check_codebooks",
    "check_tokenizer_settings",
    "check_vectors",
    "find_tokenizer",
    "fingerprint",
    "is_ours",
    "read_sid_file",
    "resolve_collisions",
    "setting_fields",
    "settings_of",
    "tokenize",
    "tokenizer_names",
    "write_sid_file",
]

_MODULES = {
    "collision": ("COLLISION_RULES", "append_digit", "resolve_collisions"),
    "semantic_ids": ("Quantised", "SemanticIDs"),
    "sid_file_writer": ("write_sid_file",),
    "sid_files": ("read_sid_file",),
    "pipeline": ("check_codebooks", "check_vectors", "tokenize"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF.get(name, 'registry')}"), name)
