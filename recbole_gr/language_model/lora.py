"""What of a language model is trained: low-rank adapters (LoRA) and rows of new tokens by peft, all of it, or nothing.

``peft`` is imported inside the functions: it costs seconds.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from recbole_gr.language_model.source import SCRATCH
from recbole_gr.settings.field import check_value
from recbole_gr.utils.errors import SettingError

ALL_LINEAR = "all-linear"


def add_lora(
    model: Any,
    rank: int | None,
    *,
    alpha: float,
    dropout: float,
    targets: str | Sequence[str],
    share: float | None = None,
    trained_tokens: Sequence[int] | None = None,
) -> Any:
    """Freeze a language model and put an adapter on it.

    Args:
        model (transformers.PreTrainedModel): a causal language model; it is changed in place.
        rank: of the adapter; None where ``share`` gives it.
        alpha: the adapter's output is scaled by ``alpha / rank``.
        dropout: of what goes into the adapter, in training.
        targets: ``"all-linear"``: all linear layers but the output layer; else names of modules.
        share: instead of ``rank``, see :func:`rank_for_share`.
        trained_tokens: tokens whose embeddings are trained in full; where the output layer has weights of
            its own, their rows there too.

    Returns:
        peft.PeftModelForCausalLM: adapter and trained rows require gradients, nothing else does.

    Raises:
        SettingError: if both or none of rank and share are given, if there are no such targets, or if the output layer
            cannot be trained by rows.
    """
    from peft import get_peft_model

    if (rank is None) == (share is None):
        raise SettingError("lora_rank", rank, f"either this or lora_share (now {share!r}) must be set, and not both")
    check_targets(model, targets)
    if share is not None:
        rank = rank_for_share(model, targets, share)
    rows = _trained_rows(model, targets, trained_tokens) if trained_tokens else None
    options = {"lora_alpha": alpha, "lora_dropout": dropout, "trainable_token_indices": rows}
    return get_peft_model(model, _lora_config(rank, targets, **options))


def rank_for_share(model: Any, targets: str | Sequence[str], share: float) -> int:
    """The rank at which the adapter has nearest to a share of the language model's parameters.

    Args:
        model (transformers.PreTrainedModel): without an adapter; is not changed.
        targets: as in :func:`add_lora`.
        share: above 0, up to 1.

    Returns:
        int: at least 1.

    Raises:
        SettingError: if the share is none, or if there are no such targets.
    """
    import torch
    from peft import get_peft_model

    check_value("lora_share", share, float, gt=0, le=1)
    check_targets(model, targets)
    with torch.device("meta"):  # the shapes alone: no memory, no random numbers
        shapes = type(model)(copy.deepcopy(model.config))
        per_rank = parameter_counts(get_peft_model(shapes, _lora_config(1, targets)))["N_LoRA"]
    return max(1, round(share * parameter_counts(model)["N_LLM"] / per_rank))


def parameter_counts(model: Any) -> dict[str, int]:
    """Parameters of a language model and its adapter; a matrix that is used twice counts once.

    Args:
        model: with or without an adapter.

    Returns:
        dict: ``N_LLM``: of the model without what peft added; ``N_LoRA``: of the low-rank matrices; ``N_trained``: all
        that require gradients, trained rows of tokens among them.
    """
    counts = {"N_LLM": 0, "N_LoRA": 0, "N_trained": 0}
    for name, parameter in model.named_parameters():
        parts = name.split(".")
        if any(part.startswith("lora_") for part in parts):
            counts["N_LoRA"] += parameter.numel()
        elif "trainable_tokens_delta" not in parts:
            counts["N_LLM"] += parameter.numel()
        if parameter.requires_grad:
            counts["N_trained"] += parameter.numel()
    return counts


def check_targets(model: Any, targets: Any) -> None:
    """Each target must be there; peft would pass over all but one that it does not find.

    Raises:
        SettingError: names those that there are.
    """
    if targets == ALL_LINEAR:
        return
    names = _linear_names(model)
    if not isinstance(targets, (list, tuple)) or not targets or not all(type(target) is str for target in targets):
        raise SettingError("lora_targets", targets, f"must be {ALL_LINEAR} or a list of {', '.join(names)}")
    unknown = [target for target in targets if target not in names]
    if unknown:
        raise SettingError("lora_targets", targets, f"there is no {unknown[0]}; there are {', '.join(names)}")


def _linear_names(model: Any) -> list[str]:
    """The last parts of the names of the linear layers, in the order of the model."""
    import torch
    from transformers.pytorch_utils import Conv1D

    names = [name.split(".")[-1] for name, module in model.named_modules() if isinstance(module, (torch.nn.Linear, Conv1D))]
    return list(dict.fromkeys(names))


def _lora_config(rank: Any, targets: str | Sequence[str], **options: Any) -> Any:
    from peft import LoraConfig

    targets = targets if targets == ALL_LINEAR else list(targets)
    return LoraConfig(task_type="CAUSAL_LM", r=rank, target_modules=targets, **options)


def _trained_rows(model: Any, targets: str | Sequence[str], tokens: Sequence[int]) -> dict[str, list[int]]:
    """peft's ``trainable_token_indices``: token ids by name of module."""
    embedding, output = model.get_input_embeddings(), model.get_output_embeddings()
    names = {module: name for name, module in model.named_modules() if module in (embedding, output)}
    taken = [name for name in names.values() if targets != ALL_LINEAR and name.split(".")[-1] in targets]
    if taken:
        raise SettingError("lora_targets", targets, f"rows of {taken[0]} are trained in full, it takes no adapter besides")
    if getattr(output, "bias", None) is not None:
        raise SettingError("llm", type(model).__name__, "its output layer has a bias, which peft's trained tokens leave out")
    # peft goes by the config, which transformers leaves as it is where a checkpoint's two matrices differ.
    model.config.tie_word_embeddings = output.weight is embedding.weight
    if model.config.tie_word_embeddings:
        return {names[embedding]: list(tokens)}
    return {names[embedding]: list(tokens), names[output]: list(tokens)}


def tuning_of(config: Mapping[str, Any]) -> str:
    """The setting ``tuning``; where it is not set, ``full`` for a model from scratch and ``lora`` for others."""
    return config["tuning"] or ("full" if config["llm"] == SCRATCH else "lora")


def tuned(llm: Any, config: Mapping[str, Any], new_tokens: Sequence[int]) -> Any:
    """Prepare a language model for training as the settings say.

    Args:
        llm (transformers.PreTrainedModel): a causal language model; it is changed in place.
        config (recbole.config.Config): the merged settings.
        new_tokens: words that the vocabulary grows by, e.g. the codes of semantic IDs; may be empty.

    Returns:
        torch.nn.Module: the model, or a peft model of it; what is to be trained requires gradients.
    """
    embedding = llm.get_input_embeddings()
    if new_tokens and max(new_tokens) >= embedding.num_embeddings:
        llm.resize_token_embeddings(max(new_tokens) + 1)
    if config["gradient_checkpointing"]:
        llm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if tuning_of(config) == "full":
        return llm.requires_grad_(True)
    if tuning_of(config) == "frozen":
        return llm.requires_grad_(False)
    share = config["lora_share"]
    rank = None if share is not None else config["lora_rank"]
    return add_lora(
        llm,
        rank,
        alpha=config["lora_alpha"],
        dropout=config["lora_dropout"],
        targets=config["lora_targets"],
        share=share,
        trained_tokens=new_tokens,
    )
