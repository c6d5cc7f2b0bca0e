"""Reading titles behind prompts: a prompt's keys and values are computed once per user and shared by all beams.

The beams of a user are branches of one tree behind the prompt. They stand side by side in one sequence, and an attention
mask lets each token see the prompt, the tokens before it on its own branch and itself. So any causal language model of
transformers that takes such a mask reads all branches at once, and no key or value is copied per beam. Where attention
may be replaced (:mod:`recbole_gr.language_model.branch_attention`), one pass reads those of all users without padding; any
other model reads users with about as many tokens in a pass of their own.
"""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch

from recbole_gr.language_model.branch_attention import Group, attention_over_branches, takes_one_row
from recbole_gr.language_model.prompt import TokenCounter
from recbole_gr.language_model.prompt_cache import Branches, Known, Prompts, cache_of, keys_and_values_of
from recbole_gr.utils.devices import PerDevice

#: What one pass costs besides its tokens, in tokens: less padding than that is not worth another pass.
PASS_COST = 64
#: The same where only attention is padded: a copy of prompts' keys and values costs that much attention.
COPY_COST = 1024
#: So many rows behind the prompts are kept whether a beam sees them or not.
FEW_ROWS = 4096
#: Rows of logits that are worked on at a time: few enough to stay in the processor's cache, many enough for a GPU.
ROWS_AT_ONCE = PerDevice(cpu=32, cuda=256)


class Following:
    """Log-probabilities of what follows each token that a language model read.

    Args:
        parts: logits ``[rows of the part, vocabulary]``, one row per token.
        part: int64 ``[rows]``, in which part the row of a token stands.
        place: int64 ``[rows]``, and at what place there.
    """

    def __init__(self, parts: list[torch.Tensor], part: torch.Tensor, place: torch.Tensor) -> None:
        self.parts, self.normalisers = parts, [_normaliser(logits) for logits in parts]
        self.part, self.place, self.rows = part, place, len(place)

    def log_prob(self, row: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
        """Exact log-probabilities over the whole vocabulary: float32, shaped as ``row`` and ``token`` (int64)."""
        part, place = self.part[row], self.place[row]
        if len(self.parts) == 1:
            return self.parts[0][place, token].float() - self.normalisers[0][place]
        result = torch.empty(row.shape, device=row.device)
        for number, (logits, normaliser) in enumerate(zip(self.parts, self.normalisers, strict=True)):
            here = part == number
            result[here] = logits[place[here], token[here]].float() - normaliser[place[here]]
        return result


def _normaliser(logits: torch.Tensor) -> torch.Tensor:
    """The logarithm of the summed exponentials of each row: float32 ``[rows]``; in chunks, to need little memory.

    By the highest score before and after log_softmax, which on a CPU is twice as quick as logsumexp.
    """
    chunks = (chunk.float() for chunk in logits.split(ROWS_AT_ONCE[logits.device.type]))
    return torch.cat([chunk.amax(dim=-1) - chunk.log_softmax(dim=-1).amax(dim=-1) for chunk in chunks])


class PromptReader:
    """Titles read token by token behind the prompts of users.

    Args:
        llm (transformers.PreTrainedModel): a causal language model, or a peft model of one.
        tokens: int64 ``[users, positions]``, prompts; anything beyond ``lengths``.
        lengths: int64 ``[users]``.
        embedded: ``[users, positions, d]``, read instead of the embeddings of ``tokens`` if given.
        counter: counts the tokens that the language model reads; None: they are not counted.
    """

    def __init__(
        self,
        llm: Any,
        tokens: torch.Tensor,
        lengths: torch.Tensor,
        embedded: torch.Tensor | None = None,
        counter: TokenCounter | None = None,
    ) -> None:
        self.llm, self.lengths, self.counter = llm, lengths, counter or TokenCounter()
        self.counter.tokens += int(lengths.sum())
        given = {"input_ids": tokens} if embedded is None else {"inputs_embeds": embedded}
        self.prompt = keys_and_values_of(llm, given)
        self.logits = self._after_last(next(iter(given)), *given.values())

    def _after_last(self, name: str, given: torch.Tensor) -> torch.Tensor:
        """Logits behind the prompts ``[users, vocabulary]``: their last tokens are read once more, to the end."""
        users = torch.arange(len(self.lengths), device=self.lengths.device)
        last = self.lengths - 1
        cache = cache_of(Prompts(*layer) for layer in self.prompt)
        seen = torch.arange(given.shape[1], device=last.device) <= last[:, None, None, None]
        with logits_only_at(self.llm, users, torch.zeros_like(users)):
            mask = _as_taken_by(self.llm, seen)
            return self._pass({name: given[users, last].unsqueeze(1)}, mask, last.unsqueeze(1), cache)

    def _pass(
        self, tokens: dict[str, torch.Tensor], mask: torch.Tensor | None, position: torch.Tensor, cache: Any
    ) -> torch.Tensor:
        """Logits of one pass of the language model that sees what the mask says."""
        return self.llm(**tokens, attention_mask=mask, position_ids=position, past_key_values=cache, use_cache=True).logits

    def select(self, users: torch.Tensor) -> "PromptReader":
        """The same for some of the users (int64 indices), before anything behind their prompts was read."""
        part = copy.copy(self)
        part.lengths, part.logits = self.lengths[users], self.logits[users]
        part.prompt = [(keys[users], values[users]) for keys, values in self.prompt]
        return part

    def start(self) -> Following:
        """Restart behind the prompts; what follows these, one row per user."""
        users, device = len(self.lengths), self.lengths.device
        self.known, self.n_rows = [Known(layer) for layer in self.prompt], 0
        # the row of each token that a beam has read behind its prompt, in order; -1: not read
        self.path = torch.empty(users, 1, 0, dtype=torch.long, device=device)
        rows = torch.arange(users, device=device)
        return Following([self.logits], torch.zeros_like(rows), rows)

    def follow(self, parent: torch.Tensor) -> None:
        """Continue the beams ``parent``, int64 ``[users, beams]``."""
        self.path = self.path.gather(1, parent.unsqueeze(-1).expand(-1, -1, self.path.shape[-1]))
        self._drop_what_no_beam_sees()

    def read(self, beam: torch.Tensor, tokens: torch.Tensor, begin: torch.Tensor, count: torch.Tensor) -> Following:
        """Read on for some beams.

        Args:
            beam: int64 ``[users, r]``, which beams.
            tokens: int64 ``[users, r, s]``, their next tokens.
            begin: int64 ``[users, r]``, how many tokens behind the prompt they have had before.
            count: int64 ``[users, r]``, how many of ``tokens`` count; at least one does.

        Returns:
            Following: one row for each token that counts, in the order of user, ``r``, ``s``.
        """
        inside = torch.arange(tokens.shape[-1], device=count.device) < count.unsqueeze(-1)
        user, r, nth = torch.nonzero(inside, as_tuple=True)
        self.counter.tokens += len(user)
        for layer in self.known:
            layer.make_room(self.n_rows + len(user))
        of_user, of_token = count.sum(dim=1), beam[user, r]
        first = of_user.cumsum(0) - of_user
        position = self.lengths[user] + begin[user, r] + nth
        one_row = takes_one_row(self.llm)
        groups = [
            self._group(users, of_user, first, of_token=of_token, nth=nth)
            for users in (_for_attention if one_row else _with_about_as_many)(of_user)
        ]
        following = (self._read_one_row if one_row else self._read_groups)(groups, tokens[inside], position)

        longer = int((begin + count).max()) - self.path.shape[2]
        self.path = torch.nn.functional.pad(self.path, (0, max(0, longer)), value=-1)
        self.path[user, of_token, begin[user, r] + nth] = self.n_rows + torch.arange(len(user), device=count.device)
        self.n_rows += len(user)
        return following

    def _group(
        self, users: torch.Tensor, of_user: torch.Tensor, first: torch.Tensor, *, of_token: torch.Tensor, nth: torch.Tensor
    ) -> Group:
        """The tokens of some users laid out for attention."""
        column = torch.arange(int(of_user[users].max()), device=users.device)
        inside = column < of_user[users].unsqueeze(1)
        token = (first[users].unsqueeze(1) + column.where(inside, 0)).clamp(max=len(nth) - 1)  # a user may have none
        rows_behind, seen = _distinct(self.path[users.unsqueeze(1), of_token[token]])
        line, place = of_token[token], nth[token]
        own = (line.unsqueeze(2) == line.unsqueeze(1)) & (place.unsqueeze(1) <= place.unsqueeze(2)) & inside.unsqueeze(1)
        longest = int(self.lengths[users].max())
        prompt = torch.arange(longest, device=users.device) < self.lengths[users, None, None]
        mask = torch.cat([prompt.expand(-1, len(column), -1), seen, own], dim=2).unsqueeze(1)
        rows = torch.cat([rows_behind, self.n_rows + token], dim=1)
        return Group(users, longest, token, inside, rows, _as_taken_by(self.llm, mask))

    def _read_one_row(self, groups: list[Group], token: torch.Tensor, position: torch.Tensor) -> Following:
        """What follows each token, by one pass of the language model over all of them."""
        number = torch.arange(len(token), device=token.device)
        laid_out, inside = (
            torch.cat([part.flatten() for part in parts])
            for parts in zip(*((g.token, g.inside) for g in groups), strict=True)
        )
        place = torch.empty_like(number)
        place[laid_out[inside]] = torch.nonzero(inside).squeeze(1)
        cache = cache_of(Branches(layer, self.n_rows + number.unsqueeze(0)) for layer in self.known)
        with attention_over_branches(self.llm, self.known, groups, place):
            logits = self._pass({"input_ids": token[None]}, None, position[None], cache)
        return Following([logits[0]], torch.zeros_like(number), number)

    def _read_groups(self, groups: list[Group], token: torch.Tensor, position: torch.Tensor) -> Following:
        """The same by one pass for each group, whose shorter users are padded: for attention of any kind."""
        parts: list[torch.Tensor] = []
        part, place = torch.empty_like(token), torch.empty_like(token)
        for group in groups:
            cache = cache_of(Branches(layer, self.n_rows + group.token, group) for layer in self.known)
            logits = self._pass({"input_ids": token[group.token]}, group.mask, position[group.token], cache)
            part[group.token] = len(parts)
            place[group.token] = torch.arange(group.token.numel(), device=token.device).view_as(group.token)
            parts.append(logits.flatten(0, 1))
        return Following(parts, part, place)

    def _drop_what_no_beam_sees(self) -> None:
        """Of beams given up, keys and values are dropped when they are most of what is kept."""
        if self.n_rows <= FEW_ROWS:
            return
        seen = torch.zeros(self.n_rows + 1, dtype=torch.bool, device=self.path.device)
        seen[self.path] = True  # -1: behind the last row
        kept = torch.nonzero(seen[:-1]).squeeze(1)
        if 2 * len(kept) < self.n_rows:
            number = torch.full((len(seen),), -1, device=kept.device)
            number[kept] = torch.arange(len(kept), device=kept.device)
            self.path = number[self.path]
            for layer in self.known:
                layer.keep(kept)
            self.n_rows = len(kept)


def _for_attention(count: torch.Tensor) -> list[torch.Tensor]:
    """Groups of rows to be padded for attention; if most are in one, all are: then no prompt is copied."""
    groups = _with_about_as_many(count, COPY_COST)
    most = len(groups) == 1 and 2 * len(groups[0]) > len(count)
    return [torch.arange(len(count), device=count.device)] if most else groups


def _with_about_as_many(count: torch.Tensor, max_padding: int = PASS_COST) -> list[torch.Tensor]:
    """Groups of rows with similar counts, those with none left out; int64 indices, ascending."""
    order = count.argsort(descending=True, stable=True)
    ordered = [number for number in count[order].tolist() if number]
    starts, padding = [0], 0
    for here, number in enumerate(ordered):
        padding += ordered[starts[-1]] - number
        if padding > max_padding:
            starts.append(here)
            padding = 0
    return [order[start:end].sort().values for start, end in zip(starts, [*starts[1:], len(ordered)], strict=True)]


def _distinct(path: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What tokens of some users see behind the prompts.

    Args:
        path: int64 ``[users, m, positions]``, rows that each token sees; -1: none.

    Returns:
        tuple: the rows that any token of the user sees, ascending, int64 ``[users, n]``, filled up with row 0; bool
        ``[users, m, n]``, which of them each token sees.
    """
    ordered, order = path.flatten(1).sort(dim=1)
    new = ordered >= 0
    new[:, 1:] &= ordered[:, 1:] > ordered[:, :-1]
    column = new.cumsum(dim=1) - 1
    n = int(new.sum(dim=1).max()) if new.numel() else 0
    column = column.masked_fill(ordered < 0, n)  # a column for what is none, taken off again
    rows = torch.zeros(len(path), n + 1, dtype=torch.long, device=path.device).scatter_(1, column, ordered)
    of_position = torch.empty_like(column).scatter_(1, order, column).view_as(path)
    seen = torch.zeros(*path.shape[:2], n + 1, dtype=torch.bool, device=path.device).scatter_(2, of_position, value=True)
    return rows[:, :n], seen[..., :n]


def _as_taken_by(llm: Any, mask: torch.Tensor) -> torch.Tensor:
    """A mask of what is seen, as the attention of the language model takes it: bool for sdpa, else to be added."""
    if llm.config.get_text_config()._attn_implementation == "sdpa":
        return mask
    added = torch.zeros(mask.shape, dtype=llm.dtype, device=mask.device)
    return added.masked_fill(~mask, torch.finfo(llm.dtype).min)


@contextlib.contextmanager
def logits_only_at(llm: Any, row: torch.Tensor, column: torch.Tensor) -> Iterator[None]:
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
def reads_branches(llm: Any) -> bool:
    """Whether a language model reads branches side by side as it reads each of them alone.

    Some do not: those whose attention takes its positions from the mask (ALiBi), and those without attention. Rounding in
    bfloat16 moves single log-probabilities by more than one, so what is found must be near, on average, to what each
    branch gets alone, measured by what it would get if it saw the other one.
    """
    device = llm.get_input_embeddings().weight.device
    prompt, branches = torch.arange(8, device=device).unsqueeze(0), torch.tensor([[[9, 3, 5], [4, 8, 2]]], device=device)
    begin = torch.zeros(1, 2, dtype=torch.long, device=device)
    try:
        reader = PromptReader(llm, prompt, torch.tensor([8], device=device))
        reader.start()
        reader.follow(begin)
        beams = torch.arange(2, device=device).unsqueeze(0)
        found = _log_probs(reader.read(beams, branches, begin, begin + 3).parts[0])
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):  # there is no one way to refuse a mask
        return False
    alone = _log_probs(llm(input_ids=torch.cat([prompt.expand(2, -1), branches[0]], dim=1), use_cache=False).logits[:, 8:])
    joined = _log_probs(llm(input_ids=torch.cat([prompt, branches.flatten(1)], dim=1), use_cache=False).logits[:, 8:])
    difference = (found - alone).abs()
    if llm.dtype == torch.float32:
        return bool(difference.max() < 1e-3)
    return bool(difference.mean() < 0.25 * (joined - alone)[3:].abs().mean())


def _log_probs(logits: torch.Tensor) -> torch.Tensor:
    return logits.flatten(0, -2).float().log_softmax(dim=-1)
