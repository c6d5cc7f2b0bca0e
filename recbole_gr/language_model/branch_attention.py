"""Attention where the tokens of many users stand in one row, so that no layer reads padding.

All that a language model does besides attention, it does to each token alone. So the new tokens of all users go through it
in one row; only for its attention they are laid out by users, with keys and values of the prompts before them.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from transformers import AttentionInterface

if TYPE_CHECKING:
    from recbole_gr.language_model.prompt_cache import Known

NAME = "recbole_gr_branches"
#: What an attention function of transformers may be given that is not known here.
NOT_PLAIN = ("softcap", "s_aux", "position_bias")


@dataclass
class Group:
    """Tokens of some users, laid out for attention.

    Args:
        users: int64 ``[users]``.
        longest: positions of the longest prompt among them.
        token: int64 ``[users, m]``, which of the pass's tokens these are; others fill up users with fewer.
        inside: bool ``[users, m]``, whose tokens are their own.
        rows: int64 ``[users, n]``, the rows of keys and values behind the prompts, see
            :class:`recbole_gr.language_model.prompt_cache.Known`.
        mask: ``[users, 1, m, longest + n]``, what each token sees: bool, or to be added to its scores.
    """

    users: torch.Tensor
    longest: int
    token: torch.Tensor
    inside: torch.Tensor
    rows: torch.Tensor
    mask: torch.Tensor

    @cached_property
    def hidden(self) -> torch.Tensor:
        """What each token does not see, of a bool mask."""
        return ~self.mask


def takes_one_row(llm: Any) -> bool:
    """Whether a language model lets its attention be replaced: transformers says so, and it is plain (sdpa).

    Where it caps scores, for one, attention is the model's own affair.
    """
    return llm.config.get_text_config()._attn_implementation == "sdpa" and bool(llm._supports_attention_backend)


#: What the attention of the pass that is going on reads; not every model hands arguments on to its attention.
_branches: ContextVar[tuple[list["Known"], list[Group], torch.Tensor]] = ContextVar("branches")


@contextlib.contextmanager
def attention_over_branches(llm: Any, known: list["Known"], groups: list[Group], place: torch.Tensor) -> Iterator[None]:
    """Within, the tokens that the language model reads, all in one row, are those of branches.

    Args:
        llm (transformers.PreTrainedModel): a model of which :func:`takes_one_row` is true.
        known: the :class:`recbole_gr.language_model.prompt_cache.Known` of each layer.
        groups: the tokens by users.
        place: int64 ``[tokens]``, where in the groups' tokens laid end to end each token of the row stands.
    """
    config = llm.config.get_text_config()
    before = config._attn_implementation
    config._attn_implementation, token = NAME, _branches.set((known, groups, place))
    try:
        yield
    finally:
        _branches.reset(token)
        config._attn_implementation = before


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """As the attention functions of transformers: ``[1, heads, tokens, d]`` in, ``[1, tokens, heads, d]`` out."""
    beyond = [name for name in NOT_PLAIN if options.get(name) is not None]
    if beyond:
        raise ValueError(f"attention over branches has no {', '.join(beyond)}")
    known, groups, place = _branches.get()
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    by_token, found = (query[0] * scaling).transpose(0, 1), []
    for group in groups:
        (keys, values), (keys_behind, values_behind) = known[module.layer_idx].of(group)
        queries = by_token[group.token].transpose(1, 2)
        # query heads that share keys stand below each other, as further queries
        shared = queries.unflatten(1, (keys.shape[1], -1)).flatten(2, 3)
        scores = torch.cat([shared @ keys.transpose(2, 3), shared @ keys_behind.transpose(2, 3)], dim=-1)
        scores = scores.view(*queries.shape[:3], -1).masked_fill_(group.hidden, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-1, dtype=torch.float32).to(values.dtype).view(*shared.shape[:3], -1)
        weights = torch.nn.functional.dropout(weights, dropout, training=module.training)
        longest = keys.shape[2]
        mixed = weights[..., :longest] @ values + weights[..., longest:] @ values_behind
        found.append(mixed.view(*queries.shape[:3], -1).transpose(1, 2).flatten(0, 1))
    return torch.cat(found).index_select(0, place).unsqueeze(0), None


AttentionInterface.register(NAME, _attend)
