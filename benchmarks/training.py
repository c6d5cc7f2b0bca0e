"""Targets per CPU-second of training: our architectures against the T5 of transformers, at equal width and layers.

One thread, one process, the contenders taking turns; the ratio is the median over the rounds. The rival is trained as
RecBole3.0 trains its TIGER: one sample per training interaction, one position per code, random batches, padded to the
longest history. Ours with ``loss_positions: last`` has the same samples, grouped by length; with ``all``, windows with a
target at every position. Batches grouped by length differ in what they cost, so the timed ones are spread evenly over the
lengths of an epoch. Timed are training steps: loss, gradient, AdamW. Dropout is on. What is timed in bfloat16 runs under
``torch.autocast``.

Histories are as long as those of Amazon Beauty: of a user's n interactions, P(n >= 5 + k) = (1 + k / 5.2) ** -2.2 (within
.01 of the data), all but the last two are trained on. IDs are random, three levels of 256 codes and a digit.

``in GEMMs`` is the share of the operators' time that goes into matrix products, those of attention included where it has
operators of its own; ``GFLOPS`` is the rate within them; the machine's for a large product stands above.
"""

import argparse
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from statistics import median
from time import process_time

import numpy as np
import torch
import transformers
from machine import describe_machine, print_json
from torch.profiler import ProfilerActivity, profile
from transformers import T5Config, T5ForConditionalGeneration

from recbole_gr.models.tiger.encoder_decoder import EncoderDecoder
from recbole_gr.models.tiger.history import History
from recbole_gr.models.tiger.network import NetworkOptions
from recbole_gr.models.tiger.settings import ModelSize
from recbole_gr.models.tiger.temporal_depth import TemporalDepth
from recbole_gr.utils.memory import keep_freed_memory

CODEBOOK_SIZES = (256, 256, 256, 8)
LONGEST_HISTORY = 20
DROPOUT = 0.1
PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::_addmm_activation", "aten::mkldnn_linear"}


class Users:
    """Training sequences of random items, as long as those of Beauty."""

    def __init__(self, n_users, rng):
        interactions = 5 + (5.2 * (rng.random(n_users) ** (-1 / 2.2) - 1)).astype(int)
        self.lengths = interactions - 2
        self.codes = [np.stack([rng.integers(0, size, n) for size in CODEBOOK_SIZES], axis=1) for n in self.lengths]
        self.rng = rng

    def prefixes(self):
        """User, where the history starts and where it ends; the target is what follows."""
        return [(user, max(0, end - LONGEST_HISTORY), end) for user, n in enumerate(self.lengths) for end in range(1, n)]

    def windows(self):
        """The same for windows that end where the next one starts."""
        return [
            (user, start, min(start + LONGEST_HISTORY, n - 1))
            for user, n in enumerate(self.lengths)
            for start in range(0, n - 1, LONGEST_HISTORY)
        ]

    def batches(self, samples, targets, *, grouped, every, n_batches):
        """Some batches of about so many targets, which stand for an epoch: ``[(history, codes that follow each item)]``."""
        of_each = np.array([end - start if every else 1 for _, start, end in samples])
        length = np.array([end - start for _, start, end in samples])
        order = self.rng.permutation(len(samples))
        if grouped:
            order = order[np.argsort(length[order], kind="stable")]
        batch_of = of_each[order].cumsum() // targets
        parts = np.split(order, np.flatnonzero(np.diff(batch_of)) + 1)
        chosen = ((np.arange(n_batches) + 0.5) * len(parts) / n_batches).astype(int)
        return [self._batch([samples[i] for i in parts[j]]) for j in chosen]

    def _batch(self, samples):
        lengths = torch.tensor([end - start for _, start, end in samples])
        codes = torch.zeros(2, len(samples), int(lengths.max()), len(CODEBOOK_SIZES), dtype=torch.long)
        for row, (user, start, end) in enumerate(samples):
            codes[0, row, : end - start] = torch.as_tensor(self.codes[user][start:end])
            codes[1, row, : end - start] = torch.as_tensor(self.codes[user][start + 1 : end + 1])
        return History(codes[0], lengths), codes[1]


class Contender:
    """A model in training, and the batches that stand for its epoch.

    Args:
        loss: a function of a batch.
        model: whose parameters are trained.
        batches: of :meth:`Users.batches`.
        every: whether each position of a batch is a target.
        bfloat16: train under autocast.
    """

    def __init__(self, loss, model, batches, *, every, bfloat16):
        self.loss, self.batches, self.every, self.bfloat16 = loss, batches, every, bfloat16
        self.optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-4, fused=True)

    def step(self, batch):
        """Train on a batch; returns its number of targets."""
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16) if self.bfloat16 else nullcontext():
            loss = self.loss(*batch)
        loss.backward()
        self.optimizer.step()
        lengths = batch[0].lengths
        return int(lengths.sum()) if self.every else len(lengths)

    def targets_per_second(self):
        """Of the CPU time of this process, over all batches."""
        start = process_time()
        targets = sum(self.step(batch) for batch in self.batches)
        return targets / (process_time() - start)

    def in_products(self):
        """Share of the operators' time in matrix products, and floating-point operations in them per target."""
        with profile(activities=[ProfilerActivity.CPU], with_flops=True) as profiler:
            targets = sum(self.step(batch) for batch in self.batches)
        events = profiler.key_averages()
        products = [event for event in events if event.key in PRODUCTS]
        share = sum(event.self_cpu_time_total for event in products) / sum(event.self_cpu_time_total for event in events)
        return share, sum(event.flops for event in products) / targets


def loss_of_ours(model, every, history, following):
    if every:
        return model(history, following, history.items(), at_every_item=True)[0]
    last = (history.lengths - 1)[:, None, None].expand(-1, 1, len(CODEBOOK_SIZES))
    return model(history, following.gather(1, last), torch.ones(len(last), 1, dtype=torch.bool))[0]


def loss_of_t5(model, offset, history, following):
    tokens = (history.codes + offset).flatten(1)
    mask = history.items().repeat_interleave(len(offset), dim=1).long()
    labels = following[torch.arange(len(mask)), history.lengths - 1] + offset
    return model(input_ids=tokens * mask, attention_mask=mask, labels=labels).loss


def t5(size):
    vocabulary = 1 + sum(CODEBOOK_SIZES)
    return T5ForConditionalGeneration(
        T5Config(
            **{"vocab_size": vocabulary, "d_model": size.d_model, "d_kv": size.d_kv, "d_ff": size.d_ff},
            **{"num_layers": size.n_layers, "num_heads": size.n_heads, "dropout_rate": DROPOUT},
            **{"pad_token_id": 0, "decoder_start_token_id": 0, "use_cache": False},
        )
    )


def contenders(args):
    """``{name: Contender}``, the rival first."""
    size = ModelSize(args.layers, args.d_model, args.heads, args.d_ff)
    users = Users(args.users, np.random.default_rng(0))
    samples = {"last": users.prefixes(), "all": users.windows()}
    offset = torch.tensor((1, *CODEBOOK_SIZES)).cumsum(0)[:-1]
    options = NetworkOptions(size, dropout=DROPOUT)

    found = {}
    for bfloat16 in (False, True):
        precision = "bfloat16" if bfloat16 else "float32"
        rival = t5(size)
        batches = users.batches(samples["last"], args.batch_size, grouped=False, every=False, n_batches=1)
        found["T5 of transformers", precision] = Contender(
            partial(loss_of_t5, rival, offset), rival, batches, every=False, bfloat16=bfloat16
        )
        for name, architecture, loss_positions, changes in (
            ("encoder_decoder per code, last", EncoderDecoder, "last", {"history_position": "code"}),
            ("encoder_decoder per item, last", EncoderDecoder, "last", {}),
            ("encoder_decoder per code, all", EncoderDecoder, "all", {"history_position": "code", "causal": True}),
            ("encoder_decoder per item, all", EncoderDecoder, "all", {"causal": True}),
            *(
                (
                    f"temporal_depth {args.layers} + {depth}, all",
                    TemporalDepth,
                    "all",
                    {"causal": True, "depth_layers": depth},
                )
                for depth in args.depth_layers
            ),
        ):
            every = loss_positions == "all"
            model = architecture(CODEBOOK_SIZES, replace(options, **changes))
            targets = args.batch_targets if every else args.batch_size
            batches = users.batches(samples[loss_positions], targets, grouped=True, every=every, n_batches=args.batches)
            loss = partial(loss_of_ours, model, every)
            found[name, precision] = Contender(loss, model, batches, every=every, bfloat16=bfloat16)
    return {name: contender for name, contender in found.items() if args.only in " ".join(name)}


def machine_gflops(dtype):
    """The rate of a large matrix product."""
    left, right = torch.randn(1024, 1024, dtype=dtype), torch.randn(1024, 1024, dtype=dtype)
    rates = []
    for _ in range(20):
        start = process_time()
        left @ right
        rates.append(2 * 1024**3 / (process_time() - start) / 1e9)
    return max(rates)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=4000)
    parser.add_argument("--layers", type=int, default=4, help="of each side of an encoder-decoder, of a temporal stack")
    parser.add_argument("--depth_layers", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--d_model", type=int, default=128)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--d_ff", type=int, default=1024)
    parser.add_argument("--batch_size", type=int, default=256, help="samples of a batch with one target each")
    parser.add_argument("--batch_targets", type=int, default=1024, help="targets of a batch with one at every position")
    parser.add_argument("--batches", type=int, default=6, help="of a contender in each round; random ones are alike: one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="only the contenders with this in their name")
    return parser.parse_args()


def main():
    args = parse_arguments()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    keep_freed_memory()  # for all of them alike, as in our runs
    transformers.logging.set_verbosity_error()
    print(f"{describe_machine()}, transformers {transformers.__version__}")
    print(
        f"large products: {machine_gflops(torch.float32):.0f} GFLOPS float32, {machine_gflops(torch.bfloat16):.0f} bfloat16"
    )
    trained = contenders(args)
    for contender in trained.values():  # what the first step sets up is not timed
        contender.step(contender.batches[0])
    rates = {name: [] for name in trained}
    for _ in range(args.rounds):
        for name, contender in trained.items():
            rates[name].append(contender.targets_per_second())

    rival = rates[next(iter(trained))]
    print(f"\n{'':32} precision  targets/s   ratio  (lowest - highest)  in GEMMs  GFLOPS")
    figures = {}
    for (name, precision), contender in trained.items():
        own = rates[name, precision]
        ratios = [fast / slow for fast, slow in zip(own, rival)]
        share, per_target = contender.in_products()
        gflops = median(own) * per_target / share / 1e9
        spread = f"({min(ratios):.1f} - {max(ratios):.1f})"
        print(f"{name:32} {precision:9} {median(own):10.0f} {median(ratios):7.1f}  {spread:18}  {share:8.0%} {gflops:7.0f}")
        figures[f"{name}, {precision}"] = {
            "targets_per_second": median(own),
            "ratio": median(ratios),
            "in_products": share,
            "mflop_per_target": per_target / 1e6,
            "gflops": gflops,
        }
    print_json("training", vars(args), figures)


if __name__ == "__main__":
    main()
