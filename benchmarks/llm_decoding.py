"""Our search over the title trie against ``generate`` of transformers, and how our cost grows with the catalogue.

Both let one language model of random weights generate the titles of the bundled ml-100k, behind prompts of exactly
``--prompt`` tokens of random titles; the tokenizer is trained on the titles, and equal titles are made distinct by " (2)".
Timed is all from the prompts' tokens to the ranking, prompts read included, in one process, one after the other in each
round; the ratio is the median over the rounds. The rival is what others use: ``num_beams`` and
``prefix_allowed_tokens_fn``, here one look-up of the prefix in a dict, with a cache and no length penalty. It gets
the same users in batches of the size that is quickest for it, found before the rounds. It is timed without a constraint as
well, for as many tokens: what remains if walking a trie in Python cost nothing. ``certified`` is ours with a certificate
for every user, for few users: where the weights are random, beams prove nothing, and it has to read most of the catalogue.

With as many beams as titles are asked for (k), both do the same work. With more, ours gives up what cannot be among the
k best any more, where ``generate`` follows it.

The check runs both once more, untimed. ``generate`` keeps a title that ends only if it is among the step's best
``num_beams`` candidates, ours keeps it apart from the prefixes that go on. So ours may find better titles.

The second table is our search alone in catalogues of 10k, 100k and 1M made-up titles of 3 to 20 words that follow Zipf's
law, each word a token, taking turns. ``step`` is the mean time per token of the titles, prompts not counted; ``walk`` is
all of it but the language model: trie, log-probabilities looked up, choice of the best. ``masked`` are users per second
when the items of a history must not be found, as with ``mask_seen``.
"""

import argparse
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import recbole
import torch
import transformers
from machine import describe_machine, print_json
from timing import alternating, seconds
from transformers import LlamaConfig, LlamaForCausalLM

from recbole_gr.data.item_text import read_item_file_tokens, read_item_text
from recbole_gr.decoding.beam_search import SearchLimits, certified_beam_search
from recbole_gr.decoding.title_search import title_beam_search
from recbole_gr.decoding.title_trie import TitleTrie
from recbole_gr.language_model.item_tokens import ItemTokens, tokenise_titles
from recbole_gr.language_model.prompt_reader import PromptReader
from recbole_gr.language_model.scratch import SCRATCH_SIZES, scratch_model, train_title_tokenizer

RATES = {"users_per_second": "whole", "users_per_second_masked": "masked"}
VOCABULARY, GROWN_VOCABULARY = 4096, 32768
SMOLLM2 = "SmolLM2-135M"
#: Fresh logits are near uniform; wider ones set scores as far apart as training does, so that there are no ties.
LOGIT_SPREAD = 3.0
#: What two implementations of the same arithmetic may differ by, in log-probability of a title.
ROUNDING = 1e-3
#: First id that is no special token.
FIRST_WORD, EOS = 3, 2


def movie_titles():
    """The tokens of the titles of ml-100k (ItemTokens), and how many tokens there are."""
    file = str(Path(recbole.__file__).parent / "dataset_example" / "ml-100k" / "ml-100k.item")
    titles = read_item_text(file, np.append("", read_item_file_tokens(file)), "{movie_title}")
    tokenizer = train_title_tokenizer(titles[1:], VOCABULARY)
    return tokenise_titles(titles, tokenizer, 64, "counter"), len(tokenizer)


def made_up_titles(n_items):
    """Titles of 3 to 20 words that follow Zipf's law, all distinct (ItemTokens)."""
    rng = np.random.default_rng(0)
    drawn, words = n_items + n_items // 4 + 1000, GROWN_VOCABULARY - FIRST_WORD
    lengths = rng.integers(3, 21, drawn)
    shares = np.cumsum(1 / np.arange(1, words + 1))
    tokens = FIRST_WORD + rng.permutation(words)[np.searchsorted(shares, rng.random((drawn, 20)) * shares[-1])]
    tokens[np.arange(20) >= lengths[:, None]] = EOS
    fingerprints = (tokens.astype(np.uint64) * rng.integers(1, 1 << 63, 20, dtype=np.uint64)).sum(axis=1, dtype=np.uint64)
    kept = np.sort(np.unique(fingerprints, return_index=True)[1])[:n_items]  # equal titles have equal fingerprints
    assert len(kept) == n_items
    tokens = np.pad(tokens[kept], ((0, 0), (0, 1)), constant_values=EOS)
    inside = np.arange(21) <= lengths[kept, None]
    return ItemTokens(tokens[inside], np.concatenate([[0, 0], np.cumsum(lengths[kept] + 1)]))


def random_model(name, vocabulary):
    """A Llama of random weights, its logits spread."""
    if name == SMOLLM2:
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=49152,
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=30,
            num_attention_heads=9,
            num_key_value_heads=3,
            tie_word_embeddings=True,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=EOS,
        )
        llm = LlamaForCausalLM(config).eval()
    else:
        llm = scratch_model(name, vocabulary, seed=0)
    with torch.no_grad():
        llm.model.norm.weight.mul_(LOGIT_SPREAD / (llm.config.initializer_range * llm.config.hidden_size**0.5))
    return llm


def describe_model(llm):
    config, size = llm.config, sum(weight.numel() for weight in llm.parameters()) / 1e6
    return (
        f"{config.num_hidden_layers} layers, d {config.hidden_size}, vocabulary {config.vocab_size:,}, {size:.1f}M weights"
    )


def random_prompts(titles, users, length):
    """Random titles one behind the other, cut to the last ``length`` tokens: int64 ``[users, length]``."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(users):
        row = []
        while len(row) < length:
            item = rng.integers(1, len(titles.lengths))
            row += titles.tokens[titles.first[item] : titles.first[item + 1] - 1].tolist()
        rows.append(row[-length:])
    return torch.tensor(rows)


def our_search(llm, trie, prompts, beams, k, certify=False, excluded=None):
    """The scores of all items, as RecBole takes them, and who is certified."""
    reader = PromptReader(llm, prompts, torch.full((len(prompts),), prompts.shape[1]))
    search = partial(title_beam_search, k=k)
    limits = SearchLimits(beams, k, certify=certify)
    found = certified_beam_search(reader, trie, limits, excluded=excluded, search=search)
    return found.lists.dense(), found.certified


class Rival:
    """transformers' ``generate`` for the same model.

    Args:
        llm (LlamaForCausalLM): the model.
        titles (ItemTokens): the catalogue.
        prompts (torch.Tensor): int64 ``[users, positions]``.
    """

    def __init__(self, llm, titles, prompts):
        self.llm, self.prompts, self.prompt_length = llm, prompts, prompts.shape[1]
        self.longest = int(titles.lengths.max())
        self.item_of, follow = {}, {}
        for item, (start, end) in enumerate(zip(titles.first[1:], titles.first[2:]), start=1):
            tokens = tuple(titles.tokens[start:end].tolist())
            self.item_of[tokens] = item
            for place, token in enumerate(tokens):
                follow.setdefault(tokens[:place], {})[token] = None
        self.next_tokens = {prefix: list(tokens) for prefix, tokens in follow.items()}

    def allowed(self, user, tokens):
        self.most_tokens = max(self.most_tokens, len(tokens) + 1 - self.prompt_length)
        return self.next_tokens.get(
            tuple(tokens[self.prompt_length :].tolist()), [EOS]
        )  # beams of score -inf are no prefixes

    def _generate(self, prompts, beams, **options):
        return self.llm.generate(
            input_ids=prompts,
            attention_mask=torch.ones_like(prompts),
            num_beams=beams,
            length_penalty=0.0,
            do_sample=False,
            use_cache=True,
            **options,
        )

    def search(self, beams, k, batch, **options):
        """What ``generate`` returns, per batch; keeps how many tokens were generated in each."""
        found, self.written = [], []
        for prompts in self.prompts.split(batch):
            self.most_tokens = 0
            found.append(
                self._generate(
                    prompts,
                    beams,
                    num_return_sequences=k,
                    max_new_tokens=self.longest,
                    prefix_allowed_tokens_fn=self.allowed,
                    **options,
                )
            )
            self.written.append(self.most_tokens)
        return found

    def search_freely(self, beams, k, batch):
        """Without constraint, as many tokens as the last search wrote."""
        for prompts, tokens in zip(self.prompts.split(batch), self.written):
            self._generate(prompts, beams, num_return_sequences=k, max_new_tokens=tokens, min_new_tokens=tokens)

    def quickest_batch(self, beams, k, sizes):
        """The size of batches that takes the least time for all users."""
        taken = {size: seconds(partial(self.search, beams, k, size)) for size in sizes if size <= len(self.prompts)}
        rates = ", ".join(f"{size}: {len(self.prompts) / time:.2f}" for size, time in taken.items())
        print(f"{beams} beams, transformers, users/s in batches of {rates}", flush=True)
        return min(taken, key=taken.get)

    def found(self, beams, k, batch):
        """Items ``[users, k]``, 0 where none was found, and their scores."""
        items, scores = [], []
        for part in self.search(beams, k, batch, return_dict_in_generate=True, output_scores=True):
            for tokens, score in zip(part.sequences[:, self.prompt_length :].tolist(), part.sequences_scores.tolist()):
                title = tuple(tokens[: tokens.index(EOS) + 1]) if EOS in tokens else ()
                items.append(self.item_of.get(title, 0))
                scores.append(score if items[-1] else -torch.inf)
        return torch.tensor(items).view(-1, k), torch.tensor(scores).view(-1, k)


def compare(args):
    """Our search against transformers."""
    titles, vocabulary = movie_titles()
    llm, trie = random_model(args.model, vocabulary), TitleTrie(titles.tokens, titles.first)
    print(f"\n{args.model}: {describe_model(llm)}")
    print(f"{trie.n_items - 1:,} titles, mean {titles.lengths[1:].mean():.1f} tokens, longest {titles.lengths.max()}")
    print(f"prompts of {args.prompt} tokens, {args.rows} beams of all users at once, {args.rounds} rounds")
    results, checks, figures = [], [], {}
    for beams in args.beams:
        prompts = random_prompts(titles, max(1, args.rows // beams), args.prompt)
        rival = Rival(llm, titles, prompts)
        batch = rival.quickest_batch(beams, min(args.k, beams), args.batches)
        results += race(args, llm, trie, rival, beams, batch, figures)
        checks += [partial(check, llm, trie, rival, beams, k, batch) for k in {min(args.k, beams), beams}]
    print("\nbeams   k  users  users/s: ours  transformers  without constraint  certified  ratio  (lowest - highest)")
    print("\n".join(results))
    for run_check in checks:
        run_check()
    return figures


def race(args, llm, trie, rival, beams, batch, figures):
    """One row of the table per length of the ranking; its numbers go into ``figures`` too."""
    prompts, lengths = rival.prompts, sorted({min(args.k, beams), beams})
    certified = prompts[: args.certify_users]
    contenders = {k: partial(our_search, llm, trie, prompts, beams, k) for k in lengths}
    for ours in contenders.values():
        ours()  # theirs has run for its batch
    contenders["theirs"] = lambda: rival.search(beams, lengths[0], batch)
    contenders["free"] = lambda: rival.search_freely(beams, lengths[0], batch)
    times = alternating(contenders, args.rounds)
    theirs, free = (len(prompts) / median(times[name]) for name in ("theirs", "free"))
    rows = []
    for k in lengths:
        sure = "-"
        if args.certify_users and k == args.k:
            taken = alternating({"certified": partial(our_search, llm, trie, certified, beams, k, certify=True)}, 2)
            sure = f"{len(certified) / median(taken['certified']):.2f}"
        ratios = [slow / fast for slow, fast in zip(times["theirs"], times[k])]
        rates = {"users_per_second": len(prompts) / median(times[k]), "transformers": theirs, "unconstrained": free}
        figures[f"{beams} beams, k {k}"] = {**rates, "ratio": median(ratios)}
        rows.append(
            f"{beams:5} {k:3} {len(prompts):6} {len(prompts) / median(times[k]):14.2f} {theirs:13.2f} {free:19.2f} {sure:>10}"
            f" {median(ratios):6.1f}  ({min(ratios):.1f} - {max(ratios):.1f})"
        )
    return rows


def check(llm, trie, rival, beams, k, batch):
    """Print whether both find the same."""
    scores, sure = our_search(llm, trie, rival.prompts, beams, k)
    our_scores, our_items = scores.topk(k, dim=1)
    items, their_scores = rival.found(beams, k, batch)
    both = (items > 0) & (scores.gather(1, items) > -torch.inf)
    difference = (scores.gather(1, items) - their_scores)[both].abs().max()
    worse = their_scores - our_scores > ROUNDING
    better = our_scores - their_scores > ROUNDING
    print(
        f"{beams} beams, k {k}: titles that both found differ by {difference:.0e} at most; same title at "
        f"{int((our_items == items).sum()):,} of {items.numel():,} ranks, ours scores more at {int(better.sum()):,}, "
        f"less at {int(worse.sum()):,}; {int(sure.sum())} of {len(sure)} users certified"
    )


class TimedReader:
    """A PromptReader that adds up its seconds; ``steps`` counts the tokens that were added to all beams."""

    def __init__(self, reader):
        self.reader, self.seconds, self.steps = reader, 0.0, 0

    def _timed(self, function, *inputs):
        start = perf_counter()
        result = function(*inputs)
        self.seconds += perf_counter() - start
        return result

    def start(self):
        return self._timed(self.reader.start)

    def follow(self, parent):
        self.steps += 1
        return self._timed(self.reader.follow, parent)

    def read(self, *inputs):
        return self._timed(self.reader.read, *inputs)


class Catalogue:
    """Our search in a catalogue of ``n_items``, in the parts that are timed."""

    def __init__(self, llm, n_items, args):
        titles = made_up_titles(n_items)
        start = perf_counter()
        self.trie = TitleTrie(titles.tokens, titles.first)
        self.build_seconds = perf_counter() - start
        self.beams, self.k, self.llm = args.grow_beams, args.k, llm
        users = args.rows // args.grow_beams
        self.prompts = random_prompts(titles, users, args.prompt)
        items = torch.randint(1, n_items + 1, (users, 20), generator=torch.Generator().manual_seed(0))
        self.seen = (torch.arange(users).repeat_interleave(20), items.flatten())
        self.reader = PromptReader(llm, self.prompts, torch.full((users,), args.prompt))
        self.step_seconds, self.walk_seconds = [], []

    def whole(self):
        self._search(None)

    def masked(self):
        self._search(self.trie.exclusion(len(self.prompts), self.seen))

    def _search(self, excluded):
        reader = PromptReader(self.llm, self.prompts, torch.full((len(self.prompts),), self.prompts.shape[1]))
        title_beam_search(reader, self.trie, self.beams, self.k, excluded=excluded)

    def decode(self):
        reader = TimedReader(self.reader)
        taken = seconds(lambda: title_beam_search(reader, self.trie, self.beams, self.k))
        self.step_seconds.append(taken / reader.steps)
        self.walk_seconds.append((taken - reader.seconds) / reader.steps)


def grow(args):
    """What our search costs for catalogues of several sizes, which take turns."""
    llm = random_model("medium", GROWN_VOCABULARY)
    catalogues = {n_items: Catalogue(llm, n_items, args) for n_items in args.grow}
    contenders = {
        (n_items, part): getattr(catalogue, part)
        for n_items, catalogue in catalogues.items()
        for part in ("whole", "masked", "decode")
    }
    alternating(contenders, 1)
    taken = {name: median(times) for name, times in alternating(contenders, args.rounds).items()}
    users = args.rows // args.grow_beams
    print(f"\nmedium: {describe_model(llm)}")
    print(
        f"{args.grow_beams} beams, k {args.k}, {users} users at once, prompts of {args.prompt} tokens, {args.rounds} rounds"
    )
    print("    items  build s  trie MB  walk ms  step ms  users/s  masked")
    figures = {}
    for n_items, catalogue in catalogues.items():
        size = f"{catalogue.build_seconds:8.2f} {catalogue.trie.nbytes() / 1e6:8.1f}"
        step = f"{1000 * median(catalogue.walk_seconds[1:]):8.2f} {1000 * median(catalogue.step_seconds[1:]):8.2f}"
        rates = f"{users / taken[n_items, 'whole']:8.1f} {users / taken[n_items, 'masked']:7.1f}"
        print(f"{n_items:9,} {size} {step} {rates}")
        figures[f"{n_items} items"] = {name: users / taken[n_items, part] for name, part in RATES.items()}
    return figures


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", default="medium", choices=[*SCRATCH_SIZES, SMOLLM2], help="shape of the language model")
    parser.add_argument("--prompt", type=int, default=100, help="tokens per prompt")
    parser.add_argument("--rows", type=int, default=640, help="beams of all users at once: with 10 beams 64 users")
    parser.add_argument("--beams", type=int, nargs="*", default=[10, 50])
    parser.add_argument("--k", type=int, default=10, help="length of the ranking")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16], help="users at once for transformers, tried")
    parser.add_argument("--certify_users", type=int, default=2)
    parser.add_argument("--grow", type=int, nargs="*", default=[10_000, 100_000, 1_000_000], help="catalogue sizes")
    parser.add_argument("--grow_beams", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


@torch.inference_mode()
def main():
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    print(f"{describe_machine()}, transformers {transformers.__version__}")
    figures = compare(args) if args.beams else {}
    if args.grow:
        figures |= grow(args)
    print_json("llm_decoding", vars(args), figures)


if __name__ == "__main__":
    main()
