"""What of a language model is trained: an adapter, all of it, or nothing."""

from recbole_gr.language_model.lora import add_lora
from recbole_gr.language_model.source import SCRATCH

TUNINGS = ("lora", "full", "frozen")


def tuning_of(config):
    """The setting ``tuning``; where it is not set, ``full`` for a model from scratch and ``lora`` for others."""
    return config["tuning"] or ("full" if config["llm"] == SCRATCH else "lora")


def tuned(llm, config, new_tokens):
    """Prepare a language model for training as the settings say.

    Args:
        llm (transformers.PreTrainedModel): a causal language model; it is changed in place.
        config (recbole.config.Config): the merged settings.
        new_tokens (list of int): words that the vocabulary grows by, e.g. the codes of semantic IDs; may be empty.

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
        llm, rank, config["lora_alpha"], config["lora_dropout"], config["lora_targets"], share, trained_tokens=new_tokens
    )
