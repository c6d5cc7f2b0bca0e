"""Reading titles behind prompts: a prompt's keys and values are computed once per user and shared by all beams.

The beams of a user are branches of one tree behind the prompt. They stand side by side in one sequence, and an attention
mask lets each token see the prompt, the tokens before it on its own branch and itself. So any causal language model of
transformers that takes such a mask reads all branches at once, and no key or value is copied per beam.
"""

from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import DynamicCache


@dataclass
class Following:
    """What a language model holds likely to follow each token that it read.

    Args:
        logits (torch.Tensor): ``[rows, vocabulary]``, one row per token.
    """

    logits: torch.Tensor

    def __post_init__(self):
        self.rows = len(self.logits)
        self.normaliser = self.logits.float().logsumexp(dim=-1)

    def log_prob(self, row, token):
        """Exact log-probabilities over the whole vocabulary: float32, shaped as ``row`` and ``token`` (int64)."""
        return self.logits[row, token].float() - self.normaliser[row]


class PromptReader:
    """Titles read token by token behind the prompts of users.

    Args:
        llm (transformers.PreTrainedModel): a causal language model, or a peft model of one.
        tokens (torch.Tensor): int64 ``[users, positions]``, prompts; anything beyond ``lengths``.
        lengths (torch.Tensor): int64 ``[users]``.
        embedded (torch.Tensor): ``[users, positions, d]``, read instead of the embeddings of ``tokens`` if given.
        counter (list): one int, to which the tokens are added that the language model reads.
    """

    def __init__(self, llm, tokens, lengths, embedded=None, counter=None):
        self.llm, self.lengths, self.counter = llm, lengths, [0] if counter is None else counter
        self.counter[0] += int(lengths.sum())
        given = {"input_ids": tokens} if embedded is None else {"inputs_embeds": embedded}
        cache = DynamicCache()
        rows = torch.arange(len(lengths), device=lengths.device)
        with logits_only_at(llm, rows, lengths - 1):
            self.logits = llm(**given, past_key_values=cache, use_cache=True).logits
        self.prompt = [(layer.keys, layer.values) for layer in cache.layers]

    def select(self, users):
        """The same for some of the users (int64 indices), before anything behind their prompts was read."""
        part = object.__new__(PromptReader)
        part.llm, part.lengths, part.logits = self.llm, self.lengths[users], self.logits[users]
        part.counter = self.counter
        part.prompt = [(keys[users], values[users]) for keys, values in self.prompt]
        return part

    def start(self):
        """Forget what was read behind the prompts; what follows these, one row per user."""
        self.behind = [(keys[:, :, :0], values[:, :, :0]) for keys, values in self.prompt]
        self.visible = torch.empty(len(self.lengths), 1, 0, dtype=torch.bool, device=self.lengths.device)
        return Following(self.logits)

    def follow(self, parent):
        """Beams go on from the beams ``parent``, int64 ``[users, beams]``."""
        self.visible = self.visible.gather(1, parent.unsqueeze(-1).expand(-1, -1, self.visible.shape[-1]))

    def read(self, beam, tokens, begin, count):
        """Read on for some beams.

        Args:
            beam (torch.Tensor): int64 ``[users, r]``, which beams.
            tokens (torch.Tensor): int64 ``[users, r, s]``, what they write next.
            begin (torch.Tensor): int64 ``[users, r]``, how many tokens behind the prompt they have written before.
            count (torch.Tensor): int64 ``[users, r]``, how many of ``tokens`` count; at least one does.

        Returns:
            Following: one row for each token that counts, in the order of user, ``r``, ``s``.
        """
        user, r, nth = torch.nonzero(
            torch.arange(tokens.shape[-1], device=count.device) < count.unsqueeze(-1), as_tuple=True
        )
        of_user = count.sum(dim=1)
        column = torch.arange(len(user), device=count.device) - (of_user.cumsum(0) - of_user)[user]
        shape = (len(count), int(of_user.max()))
        line, place, token, position = (torch.zeros(shape, dtype=torch.long, device=count.device) for _ in range(4))
        line.fill_(-1)  # what pads the shorter users belongs to no beam
        for matrix, values in ((line, r), (place, nth), (token, tokens[user, r, nth])):
            matrix[user, column] = values
        position[user, column] = self.lengths[user] + begin[user, r] + nth

        self.counter[0] += len(user)
        self._drop_what_no_beam_sees()
        columns, seen = self._columns_behind(beam, count, line)
        cache = DynamicCache()
        for layer, ((keys, values), (keys_behind, values_behind)) in enumerate(zip(self.prompt, self.behind)):
            keys = torch.cat([keys, _at_columns(keys_behind, columns)], dim=2)
            cache.update(keys, torch.cat([values, _at_columns(values_behind, columns)], dim=2), layer)
        prompt = torch.arange(self.prompt[0][0].shape[2], device=count.device) < self.lengths[:, None, None]
        own = (line.unsqueeze(2) == line.unsqueeze(1)) & (place.unsqueeze(1) <= place.unsqueeze(2))
        mask = torch.cat([prompt.expand(-1, shape[1], -1), seen, own], dim=2).unsqueeze(1)
        with logits_only_at(self.llm, user, column):
            logits = self.llm(
                input_ids=token,
                attention_mask=_as_taken_by(self.llm, mask),
                position_ids=position,
                past_key_values=cache,
                use_cache=True,
            ).logits
        self._keep(cache, shape[1], user, beam[user, r], column)
        return Following(logits)

    def _drop_what_no_beam_sees(self):
        columns = _true_columns(self.visible.any(dim=1))
        if columns.shape[1] < self.visible.shape[2]:
            self.visible = self.visible.gather(2, columns.unsqueeze(1).expand(-1, self.visible.shape[1], -1))
            self.behind = [(_at_columns(keys, columns), _at_columns(values, columns)) for keys, values in self.behind]

    def _columns_behind(self, beam, count, line):
        """Columns behind the prompt that the read beams see, ``[users, m]``, and which of them each token sees."""
        visible = self.visible.gather(1, beam.unsqueeze(-1).expand(-1, -1, self.visible.shape[-1]))
        columns = _true_columns((visible & (count > 0).unsqueeze(-1)).any(dim=1))
        at_columns = visible.gather(2, columns.unsqueeze(1).expand(-1, visible.shape[1], -1))
        seen = at_columns.gather(1, line.clamp(min=0).unsqueeze(-1).expand(-1, -1, columns.shape[1]))
        return columns, seen & (line >= 0).unsqueeze(-1)

    def _keep(self, cache, width, user, beam, column):
        """Keep keys and values of the ``width`` columns that were just read, and who sees them."""
        self.behind = [
            (torch.cat([keys, layer.keys[:, :, -width:]], dim=2), torch.cat([values, layer.values[:, :, -width:]], dim=2))
            for (keys, values), layer in zip(self.behind, cache.layers)
        ]
        new = torch.zeros(*self.visible.shape[:2], width, dtype=torch.bool, device=self.visible.device)
        new[user, beam, column] = True
        self.visible = torch.cat([self.visible, new], dim=2)


def _true_columns(chosen):
    """Where rows are true, ``[users, most]``, filled up with places where they are not."""
    most = int(chosen.sum(dim=1).max())
    return (~chosen).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]


def _at_columns(states, columns):
    """``[users, heads, m, d]`` of ``[users, heads, n, d]``."""
    return states.gather(2, columns[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[3]))


def _as_taken_by(llm, mask):
    """A mask of what is seen, as the attention of the language model takes it: bool for sdpa, else to be added."""
    if llm.config._attn_implementation == "sdpa":
        return mask
    added = torch.zeros(mask.shape, dtype=llm.dtype, device=mask.device)
    return added.masked_fill(~mask, torch.finfo(llm.dtype).min)


@contextmanager
def logits_only_at(llm, row, column):
    """Within, the language model computes logits at some positions only and returns them as ``[positions, vocabulary]``.

    The output layer gets the hidden states at these positions; what a model does to its logits afterwards (scaling,
    capping) is its own and stays.
    """
    handle = llm.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: (inputs[0][row, column],))
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def reads_branches(llm):
    """Whether a language model reads branches side by side as it reads each of them alone.

    Some do not: those whose attention takes its positions from the mask (ALiBi), and those without attention.
    """
    device = llm.get_input_embeddings().weight.device
    prompt, branches = torch.arange(8, device=device).unsqueeze(0), torch.tensor([[[9, 3, 5], [4, 8, 2]]], device=device)
    begin = torch.zeros(1, 2, dtype=torch.long, device=device)
    try:
        reader = PromptReader(llm, prompt, torch.tensor([8], device=device))
        reader.start()
        reader.follow(begin)
        beams = torch.arange(2, device=device).unsqueeze(0)
        together = reader.read(beams, branches, begin, begin + 3).logits
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):  # there is no one way to refuse a mask
        return False
    alone = llm(input_ids=torch.cat([prompt.expand(2, -1), branches[0]], dim=1), use_cache=False).logits[:, 8:].flatten(0, 1)
    difference = (together.float().log_softmax(-1) - alone.float().log_softmax(-1)).abs().max()
    return bool(difference < (1e-3 if llm.dtype == torch.float32 else 0.2))
