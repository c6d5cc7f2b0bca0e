"""Our beam search over the trie against ``generate`` of transformers, and how our cost grows with the catalogue.

Both generate semantic IDs with the same weights: a random encoder-decoder and the T5ForConditionalGeneration that holds its
weights, made by the function that the test of our logits uses. Random IDs, three levels of 256 codes and a digit; full
histories; one position per code, so that both read the same tokens. ``per item`` is another model of ours of the same
size, with one position per item, which the T5 cannot have. Timed are encoder and search, from tokens to beams, in one
process, one after the other in each round, in CPU time; the ratio is the median over the rounds. The rival is what others
use for constrained decoding: ``num_beams`` and ``prefix_allowed_tokens_fn``, here one look-up of the prefix in a dict. It
searches for ``rival_users`` at once, as many as we do and fewer, because more make it slower: each number has a row. It is
timed without a constraint as well: what remains if walking a trie in Python cost nothing.

What differs: T5 has one head, so ``generate`` takes its log-probabilities over the codes of all levels; ours are over
the codes of the level. It masks *after* the log-softmax, so neither renormalises over the valid children. The check
runs it once more, untimed, with a processor that takes the log-softmax over the level first: then both must find the
same IDs with the same scores.

The second table is our search alone, for 10k, 100k and 1M items, taking turns. ``children`` is the trie's part of a
decode step, ``decode step`` all of it (decoder, trie, choice of the best), each the mean over the levels; ``masked``
are users per second when the items of the history must not be found, as with ``mask_seen``. The matrix
``[users, items]`` of scores that RecBole's metrics ask for is in neither table.
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import numpy as np
import torch
import transformers
from machine import describe_machine, print_json
from timing import alternating
from transformers.generation.logits_process import LogitsProcessor, PrefixConstrainedLogitsProcessor

from recbole_gr.decoding.beam_search import beam_search
from recbole_gr.decoding.trie import Trie
from recbole_gr.models.tiger.encoder_decoder import EncoderDecoder
from recbole_gr.models.tiger.history import History
from recbole_gr.models.tiger.network import NetworkOptions
from recbole_gr.models.tiger.settings import MODEL_SIZES
from recbole_gr.tokenizers.collision import append_digit
from recbole_gr.utils.memory import keep_freed_memory

FEED_FORWARD = "relu"
#: Fresh heads are near uniform; wider ones set scores as far apart as training does, so that there are no ties.
HEAD_WIDENING = 20
#: What two implementations of the same arithmetic may differ by, in log-probability.
ROUNDING = 1e-4


def random_semantic_ids(n_items):
    """Codes ``[1 + n_items, 4]`` with a padding row, and the codebook sizes."""
    codes, digits = append_digit(np.random.default_rng(0).integers(0, 256, (n_items, 3)))
    return np.vstack([np.full((1, 4), -1), codes]), (256, 256, 256, digits)


def random_model(codebook_sizes, size, history_position="code"):
    torch.manual_seed(0)
    options = NetworkOptions(MODEL_SIZES[size], FEED_FORWARD, history_position=history_position)
    model = EncoderDecoder(codebook_sizes, options).eval()
    with torch.no_grad():
        for head in model.heads:
            head.weight.mul_(HEAD_WIDENING)
    return model


def random_histories(n_items, users, length):
    """Item ids ``[users, length]``, none of them padding."""
    return torch.randint(1, n_items + 1, (users, length), generator=torch.Generator().manual_seed(0))


def our_search(model, trie, codes, beams, excluded=None):
    lengths = torch.full((len(codes),), codes.shape[1])
    decoder = model.start_decoding(model.encode(History(codes, lengths)))
    return beam_search(decoder, trie, beams, excluded=excluded)


class Rival:
    """transformers' ``generate`` for the same model.

    Args:
        model (EncoderDecoder): the weights.
        codes (np.ndarray): the catalogue's IDs, with a padding row.
    """

    def __init__(self, model, codes):
        sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
        from models.test_tiger_network import t5_with_weights_of

        self.n_levels = model.n_levels
        self.offset = model.level_offset
        self.bounds = [*model.level_offset.tolist(), model.separator_token]
        self.t5 = t5_with_weights_of(model, model.options.size, FEED_FORWARD)
        self.t5.config.eos_token_id = self.t5.generation_config.eos_token_id = None  # else code 0 ends an ID
        self.next_tokens = self._next_tokens(self.tokens(torch.as_tensor(codes[1:])).tolist())

    def tokens(self, codes):
        return codes + self.offset

    def _next_tokens(self, ids):
        """For every valid prefix, the begin token included, what may follow."""
        follow = {}
        for tokens in ids:
            for level, token in enumerate(tokens):
                follow.setdefault((0, *tokens[:level]), {})[token] = None
        return {prefix: list(tokens) for prefix, tokens in follow.items()}

    def allowed(self, user, prefix):
        return self.next_tokens[tuple(prefix.tolist())]

    def search_in_batches(self, codes, beams, users, **options):
        for some in codes.split(users):
            self.search(some, beams, **options)

    def search(self, codes, beams, **options):
        """Sequences ``[users * beams, 1 + L]``, or what ``options`` ask ``generate`` for."""
        tokens = self.tokens(codes).flatten(1)
        return self.t5.generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            num_beams=beams,
            num_return_sequences=beams,
            max_new_tokens=self.n_levels,
            length_penalty=0.0,
            do_sample=False,
            **options,
        )

    def scored_over_the_level(self, codes, beams):
        """Token IDs ``[users, beams, L]`` and their scores ``[users, beams]``."""
        processors = [LevelScores(self.bounds), PrefixConstrainedLogitsProcessor(self.allowed, beams)]
        found = self.search(codes, beams, logits_processor=processors, return_dict_in_generate=True, output_scores=True)
        return found.sequences[:, 1:].view(len(codes), beams, -1), found.sequences_scores.view(len(codes), beams)


class LevelScores(LogitsProcessor):
    """Turns log-probabilities over all codes into those over the codes of the level, as ours are."""

    def __init__(self, bounds):
        self.bounds = bounds

    def __call__(self, input_ids, scores):
        level = input_ids.shape[1] - 1
        inside = slice(self.bounds[level], self.bounds[level + 1])
        of_level = torch.full_like(scores, -torch.inf)
        of_level[:, inside] = scores[:, inside].log_softmax(-1)
        return of_level


def compare(args):
    """Our search against transformers."""
    codes, sizes = random_semantic_ids(args.items)
    model, trie = random_model(sizes, args.model_size), Trie(codes, sizes)
    per_item = random_model(sizes, args.model_size, "item")
    rival = Rival(model, codes)
    history = torch.as_tensor(codes)[random_histories(args.items, args.users, args.length)]
    print(
        f"\n{args.items:,} items, histories of {args.length} items, {args.rounds} rounds, {args.model_size}: {model.options.size}"
    )
    print(f"ours: {args.users} users at once")
    print("       users per CPU-second")
    print("beams  transformers, at once  without constraint   ours  ratio  (lowest - highest)  per item  ratio")
    figures = {}
    for beams in args.beams:
        contenders = {
            "ours": partial(our_search, model, trie, history, beams),
            "ours_per_item": partial(our_search, per_item, trie, history, beams),
        }
        for at_once in args.rival_users:
            theirs = partial(rival.search_in_batches, history, beams, at_once)
            contenders |= {
                f"transformers_{at_once}": partial(theirs, prefix_allowed_tokens_fn=rival.allowed),
                f"unconstrained_{at_once}": theirs,
            }
        alternating(contenders, 1)  # the first does not count
        times = alternating(contenders, args.rounds, process_time)
        rates = {name: args.users / median(of_name) for name, of_name in times.items()}
        for at_once in args.rival_users:
            theirs = f"transformers_{at_once}"
            ratios, per_item_ratios = (
                [slow / fast for slow, fast in zip(times[theirs], times[name])] for name in ("ours", "ours_per_item")
            )
            spread = f"({min(ratios):.1f} - {max(ratios):.1f})"
            print(
                f"{beams:5} {rates[theirs]:13.1f} {at_once:8} {rates[f'unconstrained_{at_once}']:19.1f} {rates['ours']:6.1f} "
                f"{median(ratios):6.1f}  {spread:18}  {rates['ours_per_item']:8.1f} {median(per_item_ratios):6.1f}"
            )
            rates |= {f"ratio_{at_once}": median(ratios), f"ratio_per_item_{at_once}": median(per_item_ratios)}
        figures[f"{beams} beams"] = rates
    for beams in args.beams:
        check(model, trie, rival, history, torch.as_tensor(codes), beams)
    return figures


def check(model, trie, rival, history, codes, beams):
    """Print whether both find the same."""
    found = our_search(model, trie, history, beams)
    items = trie.items[trie.first_item[found.leaves]]
    our_ids = rival.tokens(codes[items])
    their_ids, their_scores = rival.scored_over_the_level(history, beams)
    gap = torch.nn.functional.pad(found.scores[:, :-1] - found.scores[:, 1:], (1, 1))
    gap[:, 0] = torch.inf
    apart = torch.minimum(gap[:, :-1], gap[:, 1:]) > 2 * ROUNDING
    same = (our_ids == their_ids).all(-1)
    difference = (found.scores - their_scores).abs().max()
    print(
        f"{beams} beams, scores over the level: they differ by {difference:.0e} at most, "
        f"the same ID at {int(same[apart].sum()):,} of {int(apart.sum()):,} ranks without a tie"
    )


class TimedTrie(Trie):
    """A trie that adds up the seconds of ``children``."""

    seconds = 0.0

    def children(self, level, nodes):
        start = perf_counter()
        found = super().children(level, nodes)
        self.seconds += perf_counter() - start
        return found


class Catalogue:
    """Our search in a catalogue of ``n_items``, in the parts that are timed."""

    def __init__(self, n_items, args):
        codes, sizes = random_semantic_ids(n_items)
        start = perf_counter()
        self.trie = TimedTrie(codes, sizes)
        self.build_seconds = perf_counter() - start
        self.model, self.beams = random_model(sizes, args.grow_model_size), args.grow_beams
        items = random_histories(n_items, args.users, args.length)
        self.history = torch.as_tensor(codes)[items]
        self.seen = (torch.arange(args.users).repeat_interleave(args.length), items.flatten())
        lengths = torch.full((args.users,), args.length)
        self.decoder = self.model.start_decoding(self.model.encode(History(self.history, lengths)))
        self.children_seconds = []

    def whole(self):
        our_search(self.model, self.trie, self.history, self.beams)

    def masked(self):
        excluded = self.trie.exclusion(len(self.history), self.seen)
        our_search(self.model, self.trie, self.history, self.beams, excluded)

    def decode(self):
        self.trie.seconds = 0.0
        beam_search(self.decoder, self.trie, self.beams)
        self.children_seconds.append(self.trie.seconds)


def grow(args):
    """What our search costs for catalogues of several sizes, which take turns."""
    catalogues = {n_items: Catalogue(n_items, args) for n_items in args.grow}
    contenders = {
        (n_items, part): getattr(catalogue, part)
        for n_items, catalogue in catalogues.items()
        for part in ("whole", "masked", "decode")
    }
    alternating(contenders, 1)
    taken = {name: median(times) for name, times in alternating(contenders, args.rounds).items()}
    setting = f"histories of {args.length} items, {args.users} users at once, {args.rounds} rounds"
    print(f"\n{args.grow_model_size}, {args.grow_beams} beams, {setting}")
    print("    items  build s  trie MB  children ms  decode step ms  users/s  masked")
    figures = {}
    for n_items, catalogue in catalogues.items():
        trie = catalogue.trie
        in_children = 1000 * median(catalogue.children_seconds[1:]) / trie.n_levels
        step = 1000 * taken[n_items, "decode"] / trie.n_levels
        rates = f"{args.users / taken[n_items, 'whole']:8.1f} {args.users / taken[n_items, 'masked']:7.1f}"
        size = f"{catalogue.build_seconds:8.2f} {trie.nbytes() / 1e6:8.1f}"
        print(f"{n_items:9,} {size} {in_children:12.2f} {step:15.2f} {rates}")
        figures[f"{n_items} items"] = {
            "users_per_second": args.users / taken[n_items, "whole"],
            "users_per_second_masked": args.users / taken[n_items, "masked"],
            "trie_mb": trie.nbytes() / 1e6,
        }
    return figures


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model_size", choices=MODEL_SIZES, default="13M", help="of the comparison with transformers")
    parser.add_argument("--items", type=int, default=12_000)
    parser.add_argument("--length", type=int, default=20, help="items per history")
    parser.add_argument("--users", type=int, default=64, help="users at once")
    parser.add_argument("--rival_users", type=int, nargs="+", default=[64, 4], help="users at once for transformers")
    parser.add_argument("--beams", type=int, nargs="+", default=[10, 50])
    parser.add_argument("--grow", type=int, nargs="*", default=[10_000, 100_000, 1_000_000], help="catalogue sizes")
    parser.add_argument("--grow_model_size", choices=MODEL_SIZES, default="336K")
    parser.add_argument("--grow_beams", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


@torch.inference_mode()
def main():
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    keep_freed_memory()  # for all of them alike, as in our runs
    transformers.logging.set_verbosity_error()
    print(f"{describe_machine()}, transformers {transformers.__version__}")
    print_json("decoding", vars(args), compare(args) | grow(args))


if __name__ == "__main__":
    main()
