r"""
IDGenRec
################################################

Reference:
    Juntao Tan et al. "IDGenRec: LLM-RecSys Alignment with Textual ID Learning." in SIGIR 2024 (arXiv 2403.19021).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from recbole.config import Config
from recbole.data.interaction import Interaction
from torch.nn import functional as F

from recbole_gr.data.catalogue_match import matched_state, matching, some_of, with_value
from recbole_gr.data.windows import target_list_field
from recbole_gr.decoding.beam_search import Beams
from recbole_gr.decoding.exclusion import Exclusion
from recbole_gr.decoding.protocols import TitleDecoder
from recbole_gr.decoding.title_search import title_beam_search
from recbole_gr.decoding.title_trie import TitleTrie
from recbole_gr.language_model.item_tokens import ItemTokens, with_counters
from recbole_gr.language_model.t5 import PretrainedT5, load_t5
from recbole_gr.models.base import BeamSearchRecommender
from recbole_gr.models.idgenrec.history import item_positions, word_positions
from recbole_gr.models.idgenrec.id_generator import IDGenerator, soft_words
from recbole_gr.models.idgenrec.network import Encoded, IDNetwork, NetworkShape, network_of_t5
from recbole_gr.models.idgenrec.reader import IDReader
from recbole_gr.models.idgenrec.settings import KEYPHRASES, SCRATCH
from recbole_gr.models.idgenrec.textual_ids import (
    TokenizerVocabulary,
    Vocabulary,
    WordVocabulary,
    as_item_tokens,
    as_table,
    with_ends,
)
from recbole_gr.utils.cache import Artifact, cached, digest
from recbole_gr.utils.devices import PerDevice
from recbole_gr.utils.errors import DataError, SettingError
from recbole_gr.utils.stopwatch import Stages

#: IDs whose words are scored at a time, of all users together.
IDS_AT_ONCE = PerDevice(cpu=4096, cuda=65536)
#: Items whose IDs a log line and the record show.
EXAMPLES = 3


class IDGenRec(BeamSearchRecommender):
    r"""IDGenRec reads the textual IDs of a history and generates that of the next item, word by word.

    The ranking comes from a beam search over the trie of all IDs. These are part of the state, so that a checkpoint brings
    its own.
    """

    beams_at_once = PerDevice(cpu=4096, cuda=65536)
    widest_search = PerDevice(cpu=16384, cuda=131072)

    item_rows = ("id_tokens", "id_lengths", "leaf_ranks")

    trie: TitleTrie
    network: IDNetwork
    generator: IDGenerator | None
    id_tokens: torch.Tensor
    id_lengths: torch.Tensor
    vocabulary_digest: torch.Tensor
    template: torch.Tensor

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)

        # load parameters info
        self.TARGET_LIST = target_list_field(config)
        self.at_every_item = config["loss_positions"] == "all"
        self.per_item = config["history_position"] == "item"
        self.rounds = config["rounds"]
        self.search = self.title_search
        self.train_generator = False

        # define layers and loss
        written_by = (
            None if config["id_generator"] == KEYPHRASES else load_t5("id_generator", config["id_generator"], KEYPHRASES)
        )
        read_by = None if config["recommender"] == SCRATCH else load_t5("recommender", config["recommender"], SCRATCH)
        self.generator = None if written_by is None else self._make_generator(config, dataset, written_by)
        self.vocabulary = self._make_vocabulary(config, dataset, written_by, read_by)
        self.network = network_of_t5(read_by, config["dropout"]) if read_by else self._from_scratch(config)
        self._use_template(config, read_by)
        self._use_ids(self._first_ids(config, dataset))
        self.rank_items_that_share(self.trie.leaf_of_item.cpu().numpy()[:, None], config, dataset)
        if self.generator is not None:
            self.generator.requires_grad_(self.rounds > 1)
        self.logger.info(self.in_one_line())

    def _from_scratch(self, config: Config) -> IDNetwork:
        sizes = {key: config[key] for key in ("n_layers", "d_model", "n_heads", "d_kv", "d_ff", "feed_forward", "dropout")}
        shape = NetworkShape(**sizes, causal=self.at_every_item)
        return IDNetwork(self.vocabulary.size, self.vocabulary.begin, shape)

    def _make_generator(self, config: Config, dataset: Any, t5: PretrainedT5) -> IDGenerator:
        return IDGenerator(
            t5,
            dataset.item_texts,
            text_max_tokens=config["text_max_tokens"],
            id_max_tokens=config["id_max_tokens"],
            groups=config["id_groups"],
            diversity=config["id_diversity"],
            attempts=config["id_attempts"],
        )

    def _make_vocabulary(
        self, config: Config, dataset: Any, written_by: PretrainedT5 | None, read_by: PretrainedT5 | None
    ) -> Vocabulary:
        of = read_by or written_by
        if of is None:
            words = WordVocabulary(dataset.keyphrases)
            self._register_digest(words.words)
            return words
        known = of.tokenizer.get_vocab()
        if written_by is not None and (written_by.tokenizer.get_vocab(), written_by.config.vocab_size) != (
            known,
            of.config.vocab_size,
        ):
            allowed = f"must have the vocabulary of id_generator={config['id_generator']}, whose words it is to read"
            raise SettingError("recommender", config["recommender"], allowed)
        self._register_digest(sorted(known.items()))
        return TokenizerVocabulary(of.tokenizer, of.config.vocab_size, of.config.decoder_start_token_id or 0)

    def _register_digest(self, words: Sequence[Any]) -> None:
        self.register_buffer("vocabulary_digest", torch.tensor(list(bytes.fromhex(digest(words))), dtype=torch.uint8))

    def _use_template(self, config: Config, read_by: PretrainedT5 | None) -> None:
        """Tokens before the history, between its items, and behind it; each ID's own end, where there is no text."""
        pieces: list[list[int]] = [[], [self.vocabulary.end], [self.vocabulary.end]]
        if read_by is not None:
            before, behind = config["prompt_template"].split("{history}")
            texts = (before, config["history_separator"], behind)
            pieces = [read_by.tokenizer(text, add_special_tokens=False)["input_ids"] if text else [] for text in texts]
            pieces[2] = [*pieces[2], self.vocabulary.end]  # as T5's tokenizer ends every text
        self.template_sizes = [len(piece) for piece in pieces]
        self.register_buffer("template", torch.tensor(sum(pieces, []), dtype=torch.long), persistent=False)

    def _first_ids(self, config: Config, dataset: Any) -> ItemTokens:
        """The IDs that training begins with."""
        vocabulary = self.vocabulary
        if isinstance(vocabulary, WordVocabulary):
            return with_ends(vocabulary.tokens(dataset.keyphrases), vocabulary.end)
        if self.generator is None:
            assert isinstance(vocabulary, TokenizerVocabulary)  # a T5 reads what keyphrases wrote
            tokenizer, most = vocabulary.llm_tokenizer, config["id_max_tokens"]
            texts = [" ".join(words) for words in dataset.keyphrases[1:]]
            made = [tuple(one[:most]) for one in tokenizer(texts, add_special_tokens=False)["input_ids"]]
            return with_ends([(), *with_counters(made, tokenizer)], vocabulary.end)
        generator = self.generator.to(self.device)

        def compute() -> Artifact:
            ids = with_ends(generator.make(), vocabulary.end)
            return {"tokens": ids.tokens, "first": ids.first}, {}

        keys = ("text_max_tokens", "id_max_tokens", "id_groups", "id_diversity", "id_attempts")
        weights = {name: weight.cpu().numpy() for name, weight in generator.state_dict().items()}
        shaped_by = (dataset.item_texts, weights, {key: config[key] for key in keys}, self.device.type)
        arrays, _ = cached(config["cache_dir"], "textual_ids", digest("textual IDs", *shaped_by), compute)
        return ItemTokens(arrays["tokens"], arrays["first"])

    def _use_ids(self, ids: ItemTokens) -> None:
        """Make ``id_tokens``, ``id_lengths`` (their ends included) and the trie."""
        self.register_buffer("id_tokens", as_table(ids).to(self.device))
        self.register_buffer("id_lengths", torch.from_numpy(ids.lengths).to(self.device))
        self.id_lengths_on_cpu = torch.from_numpy(ids.lengths)
        self.trie = TitleTrie(ids.tokens, ids.first, self.device)

    def make_ids_anew(self) -> int:
        """Let the ID generator write all IDs once more; returns how many are other ones than before."""
        assert self.generator is not None  # a setting sees to it
        made, before = self.generator.make(), self.id_tokens.tolist()
        self._use_ids(with_ends(made, self.vocabulary.end))
        return sum(
            tuple(row[: len(one)]) != one or row[len(one)] != self.vocabulary.end
            for row, one in zip(before[1:], made[1:], strict=True)
        )

    def texts_of_ids(self) -> list[str]:
        """The textual ID of every item; entry 0, the padding, is ""."""
        rows, lengths = self.id_tokens.tolist(), self.id_lengths_on_cpu.tolist()
        return [self.vocabulary.text(row[: max(0, length - 1)]) for row, length in zip(rows, lengths, strict=True)]

    def train_part(self, generator: bool) -> None:
        """Freeze the recommender and train the ID generator, or the other way round."""
        self.train_generator = generator
        self.network.requires_grad_(not generator)
        if self.generator is not None:
            self.generator.requires_grad_(generator)

    def in_one_line(self) -> str:
        """What the IDs are, and what is trained."""
        lengths = self.id_lengths_on_cpu[1:].float()
        words = "words" if isinstance(self.vocabulary, WordVocabulary) else "tokens"
        shown = ", ".join(f'"{text}"' for text in self.texts_of_ids()[1 : 1 + EXAMPLES])
        line = (
            f"IDGenRec: {len(lengths):,} textual IDs of {lengths.mean():.2f} {words} on average, their ends included, "
            f"{int(lengths.max())} at most, of a vocabulary of {self.vocabulary.size:,}: {shown}, ..."
        )
        if self.generator is None:
            return f"{line} The ID generator, keyphrases, has nothing to train"
        return f"{line} The ID generator is {'trained in turns' if self.rounds > 1 else 'frozen'}"

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load a checkpoint together with the IDs it was trained on.

        Raises:
            DataError: it was trained on another catalogue, or on IDs of other words.
        """
        found = matching(self, state_dict)
        if found is not None and len(found[0].unknown):
            new = found[0].unknown
            raise DataError(f"the checkpoint has no textual IDs for {len(new):,} items of the catalogue ({some_of(new)})")
        state_dict = matched_state(self, state_dict)
        if found is not None and not found[0].same:  # the longest ID may be of an item that is not here
            longest_here = as_table(as_item_tokens(state_dict["id_tokens"], state_dict["id_lengths"]))
            state_dict = with_value(state_dict, "id_tokens", longest_here)
        if len(state_dict["id_lengths"]) != self.n_items:
            raise DataError(
                f"the checkpoint was trained on a catalogue of {len(state_dict['id_lengths']) - 1} items, "
                f"this one has {self.n_items - 1}"
            )
        if not torch.equal(state_dict["vocabulary_digest"].cpu(), self.vocabulary_digest.cpu()):
            raise DataError("the checkpoint was trained on textual IDs of other words than the catalogue has now")
        if not torch.equal(state_dict["id_tokens"].cpu(), self.id_tokens.cpu()):
            self._use_ids(as_item_tokens(state_dict["id_tokens"], state_dict["id_lengths"]))
        return super().load_state_dict(state_dict, *args, **kwargs)

    def loss_terms(self, interaction: Interaction) -> int:
        """The words of the next items' IDs and their ends."""
        key = self.TARGET_LIST if self.at_every_item else self.POS_ITEM_ID
        return int(self.id_lengths_on_cpu[getattr(interaction, "on_cpu", interaction)[key].cpu()].sum())

    def calculate_loss(self, interaction: Interaction) -> torch.Tensor:
        """Mean cross-entropy over the words of the next items' IDs and their ends."""
        key = self.TARGET_LIST if self.at_every_item else self.POS_ITEM_ID
        targets, on_cpu = interaction[key], getattr(interaction, "on_cpu", interaction)[key].cpu()
        if not self.at_every_item:
            targets, on_cpu = targets.unsqueeze(1), on_cpu.unsqueeze(1)
        # where the words of the targets are, is looked up on the CPU: a GPU would wait to tell how many
        lengths = self.id_lengths_on_cpu[on_cpu]
        longest = int(lengths.max())
        where = torch.nonzero(torch.arange(longest) < lengths.unsqueeze(-1), as_tuple=True)
        user, row, nth = (index.to(targets.device, non_blocking=True) for index in where)
        with self.training_autocast():
            encoded = self._encode(interaction)
            tokens = self.id_tokens[targets, :longest]
            states = self.network.states(encoded, tokens, at_every_position=self.at_every_item)
            logits = self.network.logits(states[user, row, nth])
        return F.cross_entropy(logits, tokens[user, row, nth])

    def _encode(self, interaction: Interaction, rows: torch.Tensor | slice = slice(None)) -> Encoded:
        items, lengths = self.trimmed_history(interaction, rows)
        place = torch.arange(items.shape[1], device=items.device)
        items = items.masked_fill(place >= lengths.unsqueeze(1), 0)
        word = torch.arange(self.id_tokens.shape[1], device=items.device)
        present = word < (self.id_lengths[items] - 1).unsqueeze(-1)  # without the tokens that end IDs
        words = self._soft_words(items) if self.train_generator else self.network.embedding(self.id_tokens[items])
        if self.per_item:
            return self.network.encode(*item_positions(words, present))
        before, between, behind = self.network.embedding(self.template).split(self.template_sizes)
        return self.network.encode(*word_positions(words, present, before=before, between=between, behind=behind))

    def _soft_words(self, history: torch.Tensor) -> torch.Tensor:
        """What the recommender reads of the histories' IDs while the ID generator learns: ``[b, t, w, d]``.

        In place of a word's embedding stands the mean of all embeddings, weighed by how probable each word was.
        """
        assert self.generator is not None  # a setting sees to it
        items, place = torch.unique(history, return_inverse=True)
        probabilities = self.generator.word_probabilities(items, self.id_tokens[items])
        return soft_words(probabilities, self.network.embedding.weight)[place]

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

    def start_decoding(self, interaction: Interaction, rows: torch.Tensor) -> IDReader:
        return IDReader(self.network, self._encode(interaction, rows))

    def log_likelihood(self, interaction: Interaction, rows: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        encoded = self._encode(interaction, rows)
        at_once = max(1, IDS_AT_ONCE[self.device.type] // len(items))
        return torch.cat([self._scores(encoded, part) for part in items.split(at_once, dim=1)], dim=1)

    def _scores(self, encoded: Encoded, items: torch.Tensor) -> torch.Tensor:
        """Log-probabilities of the IDs of items, float32 ``[b, r]``."""
        lengths = self.id_lengths[items]
        tokens = self.id_tokens[items, : int(lengths.max())]
        states = self.network.states(encoded, tokens)
        inside = torch.arange(tokens.shape[-1], device=items.device) < lengths.unsqueeze(-1)
        of_words = torch.zeros(tokens.shape, device=items.device)
        of_words[inside] = -F.cross_entropy(self.network.logits(states[inside]), tokens[inside], reduction="none")
        return of_words.sum(dim=-1)

    def describe(self, dataset: Any, stages: Stages) -> dict[str, Any]:
        """What the run record says of the textual IDs."""
        lengths, texts = self.id_lengths_on_cpu[1:].float(), self.texts_of_ids()
        item_tokens = dataset.field2id_token[dataset.iid_field]
        of_generator = [] if self.generator is None else [parameter.numel() for parameter in self.generator.parameters()]
        return {
            "vocabulary": self.vocabulary.size,
            "mean_id_tokens": round(float(lengths.mean()), 2),
            "longest_id_tokens": int(lengths.max()),
            "distinct_ids": self.trie.n_nodes(-1),
            "N_recommender": sum(parameter.numel() for parameter in self.network.parameters()),
            "N_generator": sum(of_generator),
            "rounds": self.rounds,
            "examples": {str(item_tokens[item]): texts[item] for item in range(1, min(len(texts), 1 + EXAMPLES))},
        }
