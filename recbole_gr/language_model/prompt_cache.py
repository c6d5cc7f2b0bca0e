"""Keys and values of prompts and of what is read behind them, as transformers' models ask for them."""

import contextlib

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

#: Prompt tokens of one pass: more of them leave the processor's cache.
PROMPT_TOKENS_AT_ONCE = {"cpu": 4096, "cuda": 65536}


class _PromptIsRead(Exception):
    """Raised where the last layer knows the keys and values of a prompt: what would follow is not used."""


class _LastLayer(DynamicLayer):
    """Keeps keys and values, and stops the pass."""

    def update(self, key_states, value_states, *args, **kwargs):
        self.keys, self.values = key_states, value_states
        raise _PromptIsRead


def keys_and_values_of(llm, given):
    """Keys and values of prompts.

    The last layer stops once it has them: its attention and feed-forward network, of use to the last token only, are most
    of its cost.

    Args:
        llm (transformers.PreTrainedModel): a causal language model.
        given (dict): ``input_ids``, int64 ``[users, positions]``, or ``inputs_embeds`` ``[users, positions, d_model]``.

    Returns:
        list: per layer a pair ``[users, heads, positions, d]``.
    """
    users, positions = next(iter(given.values())).shape[:2]
    at_once = max(1, PROMPT_TOKENS_AT_ONCE[llm.device.type] // positions)
    n_layers, parts = llm.config.get_text_config().num_hidden_layers, []
    for part in torch.arange(users).split(at_once):
        cache = cache_of([*(DynamicLayer() for _ in range(n_layers - 1)), _LastLayer()])
        with contextlib.suppress(_PromptIsRead):
            llm(**{name: value[part] for name, value in given.items()}, past_key_values=cache, use_cache=True)
        parts.append([(layer.keys, layer.values) for layer in cache.layers])
    if len(parts) == 1:
        return parts[0]
    layers = []
    while parts[0]:  # layer by layer, so that only one is there twice
        layers.append(tuple(map(torch.cat, zip(*(part.pop(0) for part in parts)))))
    return layers


def cache_of(layers):
    """A cache of transformers with these layers."""
    cache = DynamicCache()
    cache.layers = list(layers)
    return cache


class Prompts(DynamicLayer):
    """A layer's keys and values of whole prompts, to which their last tokens, read once more, add nothing."""

    def __init__(self, keys, values):
        super().__init__()
        self.keys, self.values = keys, values

    def update(self, key_states, value_states, *args, **kwargs):
        return self.keys, self.values


class Branches(DynamicLayer):
    """A layer's keys and values while branches are read: of the prompts, of what was read before, and the new ones.

    Those before are put together only when the layer asks for them, so that there is a copy of one layer at a time.
    """

    def __init__(self, prompt, behind, users, longest, columns):
        super().__init__()
        self.before = list(zip(prompt, behind))
        self.users, self.longest, self.columns = users, longest, columns

    def update(self, key_states, value_states, *args, **kwargs):
        # autocast does not always compute in the precision that it computed in before
        new = [states.to(prompt.dtype) for (prompt, _), states in zip(self.before, (key_states, value_states))]
        self.keys, self.values = new
        return tuple(
            torch.cat(
                [
                    prompt.index_select(0, self.users)[:, :, : self.longest],
                    at_columns(behind, self.columns, self.users),
                    states,
                ],
                dim=2,
            )
            for (prompt, behind), states in zip(self.before, new)
        )


def at_columns(states, columns, users):
    """``[users, heads, m, d]`` of ``[all users, heads, n, d]``; ``columns`` are ``[users, m]``, or ``[m]`` the first m."""
    if columns.dim() == 1:
        return states.index_select(0, users)[:, :, : len(columns)]
    return states.index_select(0, users).gather(
        2, columns[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[3])
    )


def widened(states, columns):
    """``[users, heads, columns, d]``, beyond those there are of zeros: what is masked must be a number."""
    wide = states.new_empty(*states.shape[:2], columns, states.shape[3])
    wide[:, :, : states.shape[2]] = states
    wide[:, :, states.shape[2] :] = 0
    return wide
