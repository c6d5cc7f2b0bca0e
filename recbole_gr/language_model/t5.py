"""A T5 as transformers publishes it, from a local folder or the hub: its sizes, weights and tokenizer.

``torch`` and ``transformers`` are imported inside the functions, so that :func:`check_t5` is quick.
"""

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recbole_gr.utils.errors import SettingError
from recbole_gr.vectors.hub import NotOnHub, download_from_hub, find_on_hub, in_short, is_hub_name, quiet_loading

if TYPE_CHECKING:
    import torch

#: What our layers have, and what a T5 must have, by the name of its config.
EXPECTED = {
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
}
FEED_FORWARD = {"relu": "relu", "gated-gelu": "gated"}


@dataclass(frozen=True)
class PretrainedT5:
    """A T5 that was read.

    Args:
        config: a ``transformers.T5Config``.
        feed_forward: ``relu`` (T5 1.0) or ``gated`` (T5 1.1).
        scaled: whether the decoder's output is scaled by ``d_model ** -0.5`` before the output layer.
        weights: by the names of transformers; ``lm_head.weight`` among them.
        tokenizer: a ``transformers.PreTrainedTokenizerFast`` with an eos token.
    """

    config: Any
    feed_forward: str
    scaled: bool
    weights: "dict[str, torch.Tensor]"
    tokenizer: Any


def check_t5(key: str, name: str, instead: str) -> None:
    """A T5 must be there or to be had; known within seconds, before any long work.

    Args:
        key: the setting that names it, for the error.
        name: a local folder, or the name of a model of the Hugging Face hub.
        instead: the value of the setting that needs none.

    Raises:
        SettingError: it is neither, or no T5.
    """
    folder = _find(key, name, instead)
    if os.path.isdir(folder):
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            kind = json.load(file).get("model_type")
        if kind not in ("t5", "mt5"):
            raise SettingError(key, name, f"a {kind}; must be {instead}, or a folder or hub name of a T5")


def load_t5(key: str, name: str, instead: str) -> PretrainedT5:
    """Read a T5.

    Args:
        key, name, instead: as :func:`check_t5` has them.

    Raises:
        SettingError: it cannot be found or loaded, or is not built as our layers are.
    """
    from transformers import AutoTokenizer, T5ForConditionalGeneration

    folder = _find(key, name, instead)
    if not os.path.isdir(folder):
        try:
            folder = download_from_hub(folder)
        except NotOnHub as error:
            raise SettingError(key, name, f"the Hugging Face hub does not give it ({error})") from error
    try:
        with quiet_loading():
            model: Any = T5ForConditionalGeneration.from_pretrained(folder, local_files_only=True)
            tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a damaged or foreign folder raises nearly anything
        raise SettingError(key, name, f"no T5 can be loaded from [{folder}] ({in_short(error)})") from error
    config = model.config
    for part, expected in EXPECTED.items():
        if getattr(config, part) != expected:
            raise SettingError(key, name, f"has {part}={getattr(config, part)}; must be {expected}")
    if config.feed_forward_proj not in FEED_FORWARD:
        allowed = f"has feed_forward_proj={config.feed_forward_proj}; must be one of {', '.join(FEED_FORWARD)}"
        raise SettingError(key, name, allowed)
    if tokenizer.eos_token_id is None or len(tokenizer) > config.vocab_size:
        raise SettingError(key, name, "its tokenizer has no eos token, or more tokens than its model")
    scaled = getattr(config, "scale_decoder_outputs", config.tie_word_embeddings)  # transformers 4 has the latter alone
    weights = {part: weight.detach() for part, weight in model.state_dict().items()}
    return PretrainedT5(config, FEED_FORWARD[config.feed_forward_proj], bool(scaled), weights, tokenizer)


def _find(key: str, name: str, instead: str) -> str:
    """A local folder, or the name of a model that the hub has and that is to be downloaded."""
    folder = os.path.expanduser(name)
    if os.path.isdir(folder):
        if not os.path.isfile(os.path.join(folder, "config.json")):
            raise SettingError(key, name, "the folder holds no T5 (no config.json)")
        return folder
    offline = f"a local folder or {instead} work offline"
    if not is_hub_name(name):
        raise SettingError(key, name, f"neither {instead}, a folder nor a name on the Hugging Face hub; {offline}")
    try:
        return find_on_hub([name])
    except NotOnHub as error:
        raise SettingError(
            key, name, f"not on disk, and the Hugging Face hub does not give it ({error}); {offline}"
        ) from error
