"""Keys and values of prompts and of what is read behind them, as transformers' models ask for them."""

import contextlib
from collections.abc import Iterable
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from recbole_gr.language_model.branch_attention import Group
from recbole_gr.utils.devices import PerDevice

#: Keys and values of one layer.
KeysValues = tuple[torch.Tensor, torch.Tensor]

#: Prompt tokens of one pass: what more of them need leaves the processor's cache, and memory is fetched anew for it.
PROMPT_TOKENS_AT_ONCE = PerDevice(cpu=1024, cuda=65536)


class _PromptIsRead(Exception):
    """Raised where the last layer knows the keys and values of a prompt: what would follow is not used."""


class _LastLayer(DynamicLayer):
    """Keeps keys and values, and stops the pass."""

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> KeysValues:
        self.keys, self.values = key_states, value_states
        raise _PromptIsRead


def keys_and_values_of(llm: Any, given: dict[str, torch.Tensor]) -> list[KeysValues]:
    """Keys and values of prompts.

    The last layer stops once it has them: its attention and feed-forward network, of use to the last token only, are most
    of its cost.

    Args:
        llm (transformers.PreTrainedModel): a causal language model.
        given: ``input_ids``, int64 ``[users, positions]``, or ``inputs_embeds`` ``[users, positions, d_model]``.

    Returns:
        list: per layer a pair ``[users, heads, positions, d]``, contiguous.
    """
    users, positions = next(iter(given.values())).shape[:2]
    at_once = max(1, PROMPT_TOKENS_AT_ONCE[llm.device.type] // positions)
    n_layers = llm.config.get_text_config().num_hidden_layers
    known: list[KeysValues] = []
    for start in range(0, users, at_once):
        part = slice(start, start + at_once)
        cache = cache_of([*(DynamicLayer() for _ in range(n_layers - 1)), _LastLayer()])
        with contextlib.suppress(_PromptIsRead):
            llm(**{name: value[part] for name, value in given.items()}, past_key_values=cache, use_cache=True)
        layers: list[KeysValues] = [(layer.keys, layer.values) for layer in cache.layers]  # type: ignore[union-attr,misc]
        if not known:
            known = [(k.new_empty(users, *k.shape[1:]), v.new_empty(users, *v.shape[1:])) for k, v in layers]
        for layer, of_part in zip(known, layers, strict=True):
            for states, new in zip(layer, of_part, strict=True):
                states[part] = new
    return known


def cache_of(layers: Iterable[Any]) -> DynamicCache:
    """A cache of transformers with these layers."""
    cache = DynamicCache()
    cache.layers = list(layers)
    return cache


class Prompts(DynamicLayer):
    """A layer's keys and values of complete prompts, to which their last tokens, read once more, add nothing."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.of_prompts = self.keys, self.values = keys, values

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> KeysValues:
        return self.of_prompts


class Known:
    """A layer's keys and values: those of the prompts, and those of the tokens behind them, a row each.

    Args:
        prompt: keys and values ``[users, heads, positions, d]``.
    """

    def __init__(self, prompt: KeysValues) -> None:
        self.prompt = prompt
        self.behind: list[torch.Tensor] = [states.new_empty(0, states.shape[1], states.shape[3]) for states in prompt]

    def make_room(self, rows: int) -> None:
        """Room for so many rows; more than is needed, for further ones."""
        if rows > len(self.behind[0]):
            self.behind = [
                torch.cat([states, states.new_empty(2 * rows - len(states), *states.shape[1:])]) for states in self.behind
            ]

    def keep(self, rows: torch.Tensor) -> None:
        """Keep these rows only, in this order."""
        self.behind = [states[rows] for states in self.behind]

    def write(self, rows: torch.Tensor, new: KeysValues) -> None:
        """Put keys and values ``[n, heads, m, d]`` into ``rows``, int64 ``[n, m]``."""
        for behind, states in zip(self.behind, new, strict=True):
            # autocast does not always compute in the precision that it computed in before
            behind[rows] = states.transpose(1, 2).to(behind.dtype)

    def of(self, group: Group) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Keys and values that the tokens of a :class:`Group` may see, those of the prompts and those behind them.

        Returns:
            tuple: a pair ``[users, heads, longest, d]`` and a pair ``[users, heads, n, d]``.
        """
        prompt, rows = list(self.prompt), group.rows
        if len(group.users) < len(prompt[0]):  # else they are all there, in order
            prompt = [states.index_select(0, group.users) for states in prompt]
        behind = [states.index_select(0, rows.flatten()).unflatten(0, rows.shape).transpose(1, 2) for states in self.behind]
        return [states[:, :, : group.longest] for states in prompt], behind


class Branches(DynamicLayer):
    """A layer's keys and values while branches are read: the new ones are put to those known.

    Args:
        known: the layer's keys and values.
        rows: int64 ``[n, m]``, where those of the pass's tokens belong.
        group: whose tokens they are. Then the layer is given all that these see, in copies made as it asks for
            them, so that there is one layer's copy at a time. None: it is given what it brought.
    """

    def __init__(self, known: Known, rows: torch.Tensor, group: Group | None = None) -> None:
        super().__init__()
        self.known, self.rows, self.group = known, rows, group

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> KeysValues:
        self.known.write(self.rows, (key_states, value_states))
        if self.group is None:
            return key_states, value_states
        keys, values = (torch.cat(parts, dim=2) for parts in zip(*self.known.of(self.group), strict=True))
        return keys, values
