"""Models of the Hugging Face hub, in its local cache or to be downloaded; loading without noise on the terminal.

``huggingface_hub`` is imported inside the functions: runs with local models do not need it.
"""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

_HUB_TIMEOUT = 5  # seconds for a sign of life
_SAME_WEIGHTS_AGAIN = ["pytorch_model*"]  # where a model also has .safetensors
_OTHER_FORMATS = ["*.h5", "*.msgpack", "*.ot", "*.onnx", "onnx/*", "openvino/*", "*.gguf", "*.mlmodel"]
_OTHER_FORMATS += ["original/*", "consolidated*"]  # the makers' own, beside those of transformers


class NotOnHub(Exception):
    """The hub does not give a model; the message is the kind of the error and the first line of what it says."""


def is_hub_name(name: str) -> bool:
    """Whether the hub could have a model of this name.

    Args:
        name: e.g. ``"organisation/model"``.

    Returns:
        bool
    """
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def find_on_hub(names: Sequence[str]) -> str:
    """The first of these models that is wholly in the local hub cache, else the first that the hub has.

    Args:
        names: that :func:`is_hub_name` accepts.

    Returns:
        str: a local folder, or the hub name of a model that has to be downloaded and that the hub has.

    Raises:
        NotOnHub: if the hub has none of them or does not answer within seconds.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    for name in names:
        if (folder := _cached_snapshot(name)) is not None:
            return folder
    for name in names:
        try:
            HfApi().model_info(name, timeout=_HUB_TIMEOUT)
            return name
        except RepositoryNotFoundError as error:
            reason: Exception = error
        except Exception as error:  # the hub client's own, and those of whichever HTTP library it uses
            reason = error
            break
    raise NotOnHub(in_short(reason)) from reason


def download_from_hub(name: str) -> str:
    """Download a model without the copies of its weights in other formats.

    Args:
        name: of a model that the hub has.

    Returns:
        str: its folder in the local hub cache.

    Raises:
        NotOnHub: if the download fails.
    """
    from huggingface_hub import HfApi, snapshot_download

    try:
        files = [file.rfilename for file in HfApi().model_info(name, timeout=_HUB_TIMEOUT).siblings or []]
        has_safetensors = any(file.endswith(".safetensors") and "/" not in file for file in files)
        return snapshot_download(name, ignore_patterns=_OTHER_FORMATS + _SAME_WEIGHTS_AGAIN * has_safetensors)
    except Exception as error:  # the hub client's own, and those of whichever HTTP library it uses
        raise NotOnHub(in_short(error)) from error


def in_short(error: BaseException) -> str:
    """The kind of an error and the first line of what it says, as str."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _cached_snapshot(name: str) -> str | None:
    """The folder of a model in the hub cache; None where its weights are not or not wholly there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    for ignored in (_OTHER_FORMATS + _SAME_WEIGHTS_AGAIN, _OTHER_FORMATS):
        try:
            folder = snapshot_download(name, ignore_patterns=ignored, local_files_only=True)
        except LocalEntryNotFoundError:
            continue
        # Loading only the config or the tokenizer leaves a snapshot, too.
        if any(path.suffix in (".safetensors", ".bin") for path in Path(folder).rglob("*")):
            return folder
    return None


@contextlib.contextmanager
def quiet_loading() -> Iterator[list[str]]:
    """Keeps the progress bars and messages of loading off the terminal; yields the list of its messages."""
    from transformers.utils import logging as transformers_logging

    messages: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    loggers = {name: logging.getLogger(name) for name in ("transformers", "sentence_transformers")}
    before = {name: (logger.handlers, logger.propagate, logger.level) for name, logger in loggers.items()}
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        for logger in loggers.values():
            logger.handlers, logger.propagate = [Collect()], False
            logger.setLevel(logging.WARNING)
        yield messages
    finally:
        for name, logger in loggers.items():
            logger.handlers, logger.propagate, level = before[name]
            logger.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()
