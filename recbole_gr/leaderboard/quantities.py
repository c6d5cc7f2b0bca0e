"""The sizes and costs that a study puts a row's accuracy against, read from its run records.

``N_RS`` is the sequence model, ``N_LLM`` the text encoder or language model, ``N_QT`` the quantiser, ``N_LoRA`` the adapter, in
the words of arXiv 2509.25522. Its effective sizes, ``N_SI`` for semantic information and ``N_CF`` for collaborative filtering,
depend on coefficients that a fit finds; :func:`recbole_gr.leaderboard.study.effective_sizes` adds them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from recbole_gr.leaderboard.columns import Column, register

#: Of a row of a study, what the fits' coefficients make of the other sizes.
N_SI, N_CF = "N_SI", "N_CF"


def n_rs(record: Mapping[str, Any]) -> float | None:
    """Trained weights of a model that is no language model."""
    return None if "language_model" in record else record.get("parameters")


def n_llm(record: Mapping[str, Any]) -> float | None:
    """Weights of the language model, or of the text encoder behind semantic IDs."""
    if "language_model" in record:
        return record["language_model"]["N_LLM"]
    return record.get("semantic_ids", {}).get("text_encoder_parameters")


def n_lora(record: Mapping[str, Any]) -> float | None:
    """Weights of the low-rank matrices; 0 with ``tuning: full``."""
    return record.get("language_model", {}).get("N_LoRA")


def n_trained(record: Mapping[str, Any]) -> float | None:
    """Weights of a language model that training changes, what is added for CF vectors left out: those of the adapter, or all."""
    facts = record.get("language_model")
    return facts["N_trained"] - facts["N_adapter"] if facts else None


def n_qt(record: Mapping[str, Any]) -> float | None:
    """Numbers that the tokenizer fitted: codebooks, a rotation, an autoencoder; None for tokenizers that we do not know."""
    source = record.get("semantic_ids", {}).get("source", {})
    if "tokenizer" not in source or "dimension" not in source:
        return None
    levels, codes = source["codebook_num"], source["codebook_size"]
    width = source["pca_dimension"] or source["dimension"]
    layers = [width, *source.get("rqvae_hidden", ()), source.get("rqvae_latent", 0)]
    autoencoder = 2 * sum(a * b for a, b in pairwise(layers)) + sum(layers[1:]) + sum(layers[:-1])
    return {
        "rkmeans": levels * codes * width,
        "rvq": levels * codes * width,
        "rqvae": levels * codes * layers[-1] + autoencoder,
        "letter": levels * codes * layers[-1] + autoencoder,
        "pq": codes * width,
        "opq": codes * width + width * width,
        "lsh": 0,
        "random": 0,
    }.get(source["tokenizer"])


def _ms_per_user(record: Mapping[str, Any]) -> float | None:
    speed = record.get("stages", {}).get("test", {}).get("users_per_second")
    return 1000 / speed if speed else None


def _mean(values: Sequence[float]) -> int:
    return round(sum(values) / len(values))


for _key, _read in (("N_RS", n_rs), ("N_LLM", n_llm), ("N_LoRA", n_lora), ("N_trained", n_trained), ("N_QT", n_qt)):
    register(Column(_key, _key, "scaling", _read, over_seeds=_mean, only_where_recorded=True, of_studies=True))
for _key in (N_SI, N_CF):
    register(Column(_key, _key, "scaling", lambda record: None, only_where_recorded=True, of_studies=True))
register(
    Column(
        "training_flops",
        "training FLOPs",
        "scaling",
        lambda record: record.get("training_flops"),
        only_where_recorded=True,
        of_studies=True,
    )
)
register(
    Column("inference_ms", "inference (ms per user)", "scaling", _ms_per_user, 2, only_where_recorded=True, of_studies=True)
)
