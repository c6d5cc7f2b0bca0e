"""The options of ``recbole-gr tokenize`` that are no settings of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from recbole_gr.settings.check import raise_faults
from recbole_gr.settings.field import Settings, field_faults, setting

#: Formats by name: the ending of the file, and how it writes a code.
SID_FORMATS = {
    "json": (".json", "numbers"),
    "tokens": (".json", "tokens"),
    "pt": (".pt", "numbers"),
    "parquet": (".parquet", "numbers"),
    "npz": (".npz", "numbers"),
}


class TokenizeOptions(Settings):
    """What is made of semantic IDs."""

    title: ClassVar[str] = "tokenize"

    output_dir: str | None = setting(
        None, "where codes, measures and report go (results/tokenizers/DATASET-TOKENIZER)", "runtime", path=True
    )
    sid_format: Literal["json", "tokens", "pt", "parquet", "npz"] = setting(
        "json", 'format of the codes; tokens: json of "<a_183>" (json)', "runtime"
    )
    extend: str | None = setting(
        None,
        "semantic IDs of --sid_format=npz: they stay, and items that have none get theirs by the same quantiser",
        "runtime",
        path=True,
    )
    compare_vectors: bool = setting(
        True, "False: with sid_file, make no vectors to compare the codes with (True)", "runtime"
    )


def check_tokenize_options(options: Mapping[str, Any]) -> None:
    """Check options by key.

    Raises:
        SettingError, SettingErrors: a line for each that cannot work.
    """
    raise_faults(field_faults(TokenizeOptions, options))
