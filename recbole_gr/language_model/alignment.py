"""Tasks that teach a language model what semantic IDs stand for, beside that of generating the next one (arXiv 2311.09049)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from recbole_gr.language_model.alignment_tasks import TASKS
from recbole_gr.language_model.item_tokens import ItemTokens
from recbole_gr.language_model.prompt import PromptLayout, template_tokens


@dataclass(frozen=True)
class LaidTask:
    """A task ready to be laid out.

    Args:
        name: of :data:`~recbole_gr.language_model.alignment_tasks.TASKS`.
        weight: its samples for each sample of the next-item task.
        layout: lays out its prompts and what follows them.
    """

    name: str
    weight: float
    layout: PromptLayout


def lay_out_tasks(
    weights: Mapping[str, float],
    templates: Mapping[str, str],
    separator: str,
    max_tokens: int,
    *,
    llm_tokenizer: Any,
    titles: ItemTokens,
    ids: ItemTokens,
) -> list[LaidTask]:
    """The tasks of a run.

    Args:
        weights: by task.
        templates: by task, its prompt.
        separator: text between two items of a history.
        max_tokens: the longest prompt; of longer histories the oldest items are left out.
        llm_tokenizer (transformers.PreTrainedTokenizerFast): of the language model.
        titles: of all items, each with its eos.
        ids: of all items.
    """
    laid = []
    tokens, endings = {"title": titles, "id": ids}, {"title": 1, "id": 0}
    for name, weight in weights.items():
        task = TASKS[name]
        pieces = template_tokens(llm_tokenizer, templates[name], separator, task.slot)
        layout = PromptLayout(tokens[task.reads], *pieces, max_tokens, endings[task.reads], targets=tokens[task.generates])
        laid.append(LaidTask(name, weight, layout))
    return laid


#: Prompts to be laid out: of what layout, int64 ``[b, t]`` histories, ``[b]`` their lengths, ``[b]`` targets.
Samples = tuple[PromptLayout, torch.Tensor, torch.Tensor, torch.Tensor]


class Alignment:
    """Draws the samples of the tasks, from torch's own generator, whose state a resumed run restores.

    Args:
        tasks: from :func:`lay_out_tasks`.
        n_items: with the padding item.

    Attributes:
        drawn: samples so far by task, for the run record.
    """

    def __init__(self, tasks: Sequence[LaidTask], n_items: int) -> None:
        self.tasks, self.n_items = tasks, n_items
        self.drawn = {task.name: 0 for task in tasks}

    def samples(self, history: torch.Tensor, lengths: torch.Tensor, target: torch.Tensor) -> list[Samples]:
        """What each task has beside a batch of the next-item task: its weight times as many samples, rounded at random.

        Tasks of histories take some of the batch, each at most once where the weight is at most 1; tasks of items draw from the
        whole catalogue.

        Args:
            history: int64 ``[b, t]``, item ids, oldest first, on the CPU.
            lengths: int64 ``[b]``.
            target: int64 ``[b]``.
        """
        found: list[Samples] = []
        for task in self.tasks:
            count = int(task.weight * len(target) + torch.rand(()))
            self.drawn[task.name] += count
            if not count:
                continue
            if TASKS[task.name].of_history:
                rows = torch.cat([torch.randperm(len(target)) for _ in range(-(-count // len(target)))])[:count]
                found.append((task.layout, history[rows], lengths[rows], target[rows]))
            else:
                items = torch.randint(1, self.n_items, (count,))
                found.append((task.layout, items.unsqueeze(1), torch.ones_like(items), items))
        return found
