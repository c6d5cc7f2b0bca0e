"""Reading titles behind prompts: a prompt's keys and values are computed once per user and shared by all beams.

The beams of a user are branches of one tree behind the prompt. They stand side by side in one sequence, and an attention
mask lets each token see the prompt, the tokens before it on its own branch and itself. So any causal language model of
transformers that takes such a mask reads all branches at once, and no key or value is copied per beam.
"""

import contextlib

import torch

from recbole_gr.language_model.prompt_cache import Branches, Prompts, at_columns, cache_of, keys_and_values_of, widened
from recbole_gr.ragged import nth_of

#: What one pass costs besides its tokens, in tokens: less padding than that is not worth another pass.
PASS_COST = 64
#: So many columns behind the prompt are kept whether a beam sees them or not.
FEW_COLUMNS = 128
#: Rows of logits that are worked on at a time.
ROWS_AT_ONCE = 256


class Following:
    """What a language model holds likely to follow each token that it read.

    Args:
        parts (list of torch.Tensor): logits ``[rows of the part, vocabulary]``, one row per token.
        part (torch.Tensor): int64 ``[rows]``, in which part the row of a token stands.
        place (torch.Tensor): int64 ``[rows]``, and at what place there.
    """

    def __init__(self, parts, part, place):
        self.parts, self.normalisers = parts, [_normaliser(logits) for logits in parts]
        self.part, self.place, self.rows = part, place, len(place)

    def log_prob(self, row, token):
        """Exact log-probabilities over the whole vocabulary: float32, shaped as ``row`` and ``token`` (int64)."""
        part, place = self.part[row], self.place[row]
        result = torch.empty(row.shape, device=row.device)
        for number, (logits, normaliser) in enumerate(zip(self.parts, self.normalisers)):
            here = part == number
            result[here] = logits[place[here], token[here]].float() - normaliser[place[here]]
        return result


def _normaliser(logits):
    """The logarithm of the summed exponentials of each row: float32 ``[rows]``; in pieces, to need little memory."""
    return torch.cat([piece.float().logsumexp(dim=-1) for piece in logits.split(ROWS_AT_ONCE)])


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
        self.prompt = keys_and_values_of(llm, given)
        self.logits = self._after_last(next(iter(given)), *given.values())

    def _after_last(self, name, given):
        """Logits behind the prompts ``[users, vocabulary]``: their last tokens are read once more, to the end."""
        users = torch.arange(len(self.lengths), device=self.lengths.device)
        last = self.lengths - 1
        cache = cache_of(Prompts(*layer) for layer in self.prompt)
        seen = torch.arange(given.shape[1], device=last.device) <= last[:, None, None, None]
        with logits_only_at(self.llm, users, torch.zeros_like(users)):
            return self._pass({name: given[users, last].unsqueeze(1)}, seen, last.unsqueeze(1), cache)

    def _pass(self, tokens, mask, position, cache):
        """Logits of one pass of the language model that sees what the mask says."""
        return self.llm(
            **tokens,
            attention_mask=_as_taken_by(self.llm, mask),
            position_ids=position,
            past_key_values=cache,
            use_cache=True,
        ).logits

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
        rows = torch.arange(len(self.logits), device=self.lengths.device)
        return Following([self.logits], torch.zeros_like(rows), rows)

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
        inside = torch.arange(tokens.shape[-1], device=count.device) < count.unsqueeze(-1)
        user, r, nth = torch.nonzero(inside, as_tuple=True)
        of_user = count.sum(dim=1)
        column = nth_of(user, of_user)
        shape = (len(count), int(of_user.max()))
        line, place, token, position = (torch.zeros(shape, dtype=torch.long, device=count.device) for _ in range(4))
        line.fill_(-1)  # what pads the shorter users belongs to no beam
        for matrix, values in ((line, r), (place, nth), (token, tokens[user, r, nth])):
            matrix[user, column] = values
        position[user, column] = self.lengths[user] + begin[user, r] + nth

        self.counter[0] += len(user)
        self._drop_what_no_beam_sees()
        known = self.visible.shape[2]
        self._make_room(known + shape[1])
        parts, part, place_in_part = [], torch.empty_like(user), torch.empty_like(user)
        for users in _with_about_as_many(of_user):
            width = int(of_user[users[0]])
            written = [matrix[users, :width] for matrix in (line, place, token, position)]
            here, row = _rows_of(users, user)
            logits, cache = self._read_users(users, beam[users], count[users], *written, row, column[here])
            part[here], place_in_part[here] = len(parts), torch.arange(len(row), device=row.device)
            parts.append(logits)
            for layer, (keys, values) in zip(cache.layers, self.behind):
                keys[users, :, known : known + width], values[users, :, known : known + width] = layer.keys, layer.values
        seen = torch.zeros(*self.visible.shape[:2], shape[1], dtype=torch.bool, device=self.visible.device)
        seen[user, beam[user, r], column] = True
        self.visible = torch.cat([self.visible, seen], dim=2)
        return Following(parts, part, place_in_part)

    def _read_users(self, users, beam, count, line, place, token, position, row, column):
        """One pass of the language model for some users: logits at the given places, and the keys and values it computed."""
        columns, seen = self._columns_behind(users, beam, count, line)
        longest = int(self.lengths[users].max())
        layers = zip(self.prompt, self.behind)
        cache = cache_of(Branches(prompt, behind, users, longest, columns) for prompt, behind in layers)
        prompt = torch.arange(longest, device=count.device) < self.lengths[users, None, None]
        own = (line.unsqueeze(2) == line.unsqueeze(1)) & (place.unsqueeze(1) <= place.unsqueeze(2))
        mask = torch.cat([prompt.expand(-1, line.shape[1], -1), seen, own], dim=2).unsqueeze(1)
        with logits_only_at(self.llm, row, column):
            return self._pass({"input_ids": token}, mask, position, cache), cache

    def _drop_what_no_beam_sees(self):
        """Of beams given up, keys and values are dropped when they are most of what is kept."""
        seen = self.visible.any(dim=1)
        if seen.shape[1] > FEW_COLUMNS and 2 * int(seen.sum(dim=1).max()) < seen.shape[1]:
            columns = _true_columns(seen)
            self.visible = self.visible.gather(2, columns.unsqueeze(1).expand(-1, self.visible.shape[1], -1))
            users = torch.arange(len(columns), device=columns.device)
            self.behind = [tuple(at_columns(states, columns, users) for states in layer) for layer in self.behind]

    def _columns_behind(self, users, beam, count, line):
        """Columns behind the prompt that hold what the read beams see, ``[users, m]`` or ``[m]``; what each token sees."""
        visible = self.visible[users].gather(1, beam.unsqueeze(-1).expand(-1, -1, self.visible.shape[-1]))
        needed = (visible & (count > 0).unsqueeze(-1)).any(dim=1)
        columns = torch.arange(needed.shape[1], device=needed.device)
        if 2 * int(needed.sum(dim=1).max()) < needed.shape[1]:
            columns = _true_columns(needed)
            visible = visible.gather(2, columns.unsqueeze(1).expand(-1, visible.shape[1], -1))
        seen = visible.gather(1, line.clamp(min=0).unsqueeze(-1).expand(-1, -1, visible.shape[2]))
        return columns, seen & (line >= 0).unsqueeze(-1)

    def _make_room(self, columns):
        """Room for keys and values behind the prompt; more than is needed, for further columns."""
        if columns > self.behind[0][0].shape[2]:
            self.behind = [tuple(widened(states, 2 * columns) for states in layer) for layer in self.behind]


def _with_about_as_many(count):
    """Groups of rows with like counts, the largest of each first, those with none left out; int64 indices."""
    order = count.argsort(descending=True, stable=True)
    ordered = [number for number in count[order].tolist() if number]
    starts, padding = [0], 0
    for here, number in enumerate(ordered):
        padding += ordered[starts[-1]] - number
        if padding > PASS_COST:
            starts.append(here)
            padding = 0
    return [order[start:end] for start, end in zip(starts, [*starts[1:], len(ordered)])]


def _rows_of(users, user):
    """Which entries of ``user`` are among ``users`` (bool), and at what place each of those is."""
    place = torch.full((int(user.max()) + 1,), -1, dtype=torch.long, device=user.device)
    known = users[users < len(place)]
    place[known] = torch.arange(len(users), device=user.device)[users < len(place)]
    here = place[user] >= 0
    return here, place[user[here]]


def _true_columns(chosen):
    """Where rows are true, ``[users, most]``, filled up with places where they are not."""
    most = int(chosen.sum(dim=1).max())
    return (~chosen).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]


def _as_taken_by(llm, mask):
    """A mask of what is seen, as the attention of the language model takes it: bool for sdpa, else to be added."""
    if llm.config._attn_implementation == "sdpa":
        return mask
    added = torch.zeros(mask.shape, dtype=llm.dtype, device=mask.device)
    return added.masked_fill(~mask, torch.finfo(llm.dtype).min)


@contextlib.contextmanager
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
