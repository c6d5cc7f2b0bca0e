"""A T5 that writes the textual IDs of items from their texts, and learns from the recommender's loss."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from recbole_gr.language_model.item_tokens import with_counters
from recbole_gr.language_model.t5 import PretrainedT5
from recbole_gr.models.idgenrec.network import Encoded, network_of_t5

#: Items whose texts are read at a time.
ITEMS_AT_ONCE = 256


class IDGenerator(nn.Module):
    """From the texts of items to textual IDs, no two of them the same.

    Diverse beams (Vijayakumar et al., AAAI 2018) in groups of one: a group takes the most probable token at each step, less
    ``diversity`` for every group before it that took that token at that step. An item gets the first of its groups' IDs that
    no item before it has; where there is none, twice as many groups with twice the diversity try again; and where there is
    none even then, a number makes it unique.

    Args:
        t5: the model and its tokenizer.
        texts: one per item id; entry 0, the padding, is not used.
        text_max_tokens: longer texts are truncated.
        id_max_tokens: tokens of an ID at most.
        groups: of the first attempt.
        diversity: of the first attempt.
        attempts: how often.
    """

    def __init__(
        self,
        t5: PretrainedT5,
        texts: Sequence[str],
        *,
        text_max_tokens: int,
        id_max_tokens: int,
        groups: int,
        diversity: float,
        attempts: int,
    ) -> None:
        super().__init__()
        self.network = network_of_t5(t5, dropout=0.0)
        self.tokenizer = t5.tokenizer
        self.end = t5.tokenizer.eos_token_id
        self.id_max_tokens, self.groups, self.diversity, self.attempts = id_max_tokens, groups, diversity, attempts
        read = t5.tokenizer(list(texts), truncation=True, max_length=text_max_tokens)["input_ids"]
        read[0] = [self.end]
        self.text_lengths = torch.tensor([len(tokens) for tokens in read])
        self.text_tokens = nn.utils.rnn.pad_sequence([torch.tensor(tokens) for tokens in read], batch_first=True)
        special = [token for token in t5.tokenizer.all_special_ids if token != self.end]
        beyond = range(len(t5.tokenizer), t5.config.vocab_size)  # rows of the model that no token has
        self.register_buffer("never", torch.tensor([*special, *beyond], dtype=torch.long), persistent=False)

    never: torch.Tensor

    def read_texts(self, items: torch.Tensor) -> Encoded:
        """The texts of some items, int64 ``[b]``."""
        device = self.never.device
        lengths = self.text_lengths[items.cpu()]
        tokens = self.text_tokens[items.cpu(), : int(lengths.max())].to(device)
        present = torch.arange(tokens.shape[1], device=device) < lengths.to(device).unsqueeze(1)
        return self.network.encode(self.network.embedding(tokens), present)

    @torch.no_grad()
    def make(self) -> list[tuple[int, ...]]:
        """The tokens of each item's ID, without the one that ends it; entry 0 is empty."""
        was_training = self.training
        self.eval()
        made: list[tuple[int, ...]] = [()] * len(self.text_lengths)
        taken: set[tuple[int, ...]] = {()}
        left = list(range(1, len(made)))
        first: dict[int, tuple[int, ...]] = {}
        for attempt in range(self.attempts):
            candidates = self.candidates(torch.tensor(left), self.groups << attempt, self.diversity * 2**attempt)
            for item, of_item in zip(left, candidates, strict=True):
                first.setdefault(item, of_item[0])
                made[item] = next((one for one in of_item if one not in taken), ())
                taken.add(made[item])
            left = [item for item in left if not made[item]]
            if not left:
                break
        self.train(was_training)
        for item in left:
            made[item] = first[item]
        return [(), *with_counters(made[1:], self.tokenizer)]

    def candidates(self, items: torch.Tensor, groups: int, diversity: float) -> list[list[tuple[int, ...]]]:
        """For each item, int64 ``[b]``, the IDs of its groups, without the token that ends them."""
        found = []
        for part in items.split(ITEMS_AT_ONCE):
            for rows in self._diverse_beams(self.read_texts(part), groups, diversity).tolist():
                found.append([tuple(row[: row.index(self.end)] if self.end in row else row) for row in rows])
        return found

    def _diverse_beams(self, encoded: Encoded, groups: int, diversity: float) -> torch.Tensor:
        """Tokens int64 ``[b, groups, id_max_tokens]``; an ID ends before the first ``end``."""
        network, items = self.network, len(encoded.hidden)
        histories = network.decoder.history_keys_values(encoded.hidden)
        token = torch.full((items, groups), network.begin, device=encoded.hidden.device)
        done = torch.zeros_like(token, dtype=torch.bool)
        past: Any = None
        steps = []
        for step in range(self.id_max_tokens):
            states, past = network.decoder.generate(network.embedding(token), past, histories, encoded.bias)
            scores = network.logits(states).log_softmax(dim=-1)
            scores[..., self.never] = -torch.inf
            if step == 0:
                scores[..., self.end] = -torch.inf
            token = _one_group_after_the_other(scores, done, diversity).masked_fill(done, self.end)
            done = done | (token == self.end)
            steps.append(token)
        return torch.stack(steps, dim=2)

    def word_probabilities(self, items: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """How probable each token of the vocabulary is at every place of given IDs, with a gradient.

        Args:
            items: int64 ``[b]``.
            tokens: int64 ``[b, l]``, their IDs, each token seeing those before it.

        Returns:
            float32 ``[b, l, vocabulary]``.
        """
        states = self.network.states(self.read_texts(items), tokens.unsqueeze(1))
        return self.network.logits(states[:, 0]).softmax(dim=-1)


def _one_group_after_the_other(scores: torch.Tensor, done: torch.Tensor, diversity: float) -> torch.Tensor:
    """The token that each group takes: int64 ``[b, g]``, for ``scores`` ``[b, g, vocabulary]``, and which groups have ended."""
    taken_before = torch.zeros_like(scores[:, 0])
    chosen = []
    for group in range(scores.shape[1]):
        token = (scores[:, group] - diversity * taken_before).argmax(dim=-1)
        going_on = (~done[:, group]).to(scores.dtype)
        taken_before.scatter_add_(1, token.unsqueeze(1), going_on.unsqueeze(1))
        chosen.append(token)
    return torch.stack(chosen, dim=1)


def soft_words(probabilities: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
    """What a recommender reads of words that are only probable: ``[b, l, vocabulary]`` and ``[vocabulary, d]`` -> ``[b, l, d]``."""
    return F.linear(probabilities, embedding.T)
