"""Every model of ours on a GPU, checked and timed: what no test can do on a machine without one.

    python benchmarks/gpu.py                     # on a machine with a GPU, about five minutes, all of ml-100k
    python benchmarks/gpu.py --device=cpu        # the same script in tiny sizes, to see that it runs

No network: ml-100k comes with RecBole, the language model is a small Llama of random weights in a folder, and item vectors
are made from the words of the titles, or read from a file (``--vectors FILE``, as ``item_vector_file`` takes it).

Each check prints one line of json when it is done, and a table at the end shows them all; the exit status is 1 if one failed.

- ``run``: a model trains for an epoch, is validated and tested.
- ``same on the CPU``: the CPU measures the same from the checkpoint of the device, in float32, to the fourth digit; with a
  certificate, so that both rank as scoring every item would.
- ``resume``: two epochs and one more lose what three epochs lose.
- ``no waiting``: a training step runs while CUDA forbids the CPU to wait for it (``torch.cuda.set_sync_debug_mode``).
- ``case study``: RecBole's ``full_sort_topk`` ranks as the model's scores do, without what a user had before.
- ``level``: with ``--data_path`` and ``--dataset`` of Amazon Beauty in RecBole's format, the recipe ``tiger_laptop`` in seconds and
  its recall; its vectors come from ``--item_vectors FILE`` (as ``recbole-gr tokenize`` leaves them in its cache), or from the encoder.
- ``T5``: training steps and decoding against transformers' T5 of the same size, one position per code for both, in one
  process, in turns; the ratio is the median over rounds.
"""

import argparse
import json
import logging
import os
import sys
import tempfile
import traceback
import zlib
from statistics import median
from time import perf_counter

import numpy as np
import pandas as pd
import recbole
import torch
from machine import describe_machine, print_json

LEAVE_ONE_OUT = {"split": {"LS": "valid_and_test"}, "order": "TO"}
#: Settings of a case on top of its model's; "llm", "cf" and "vectors" stand for files that this script makes.
CASES = {
    "TIGER": ("TIGER", {}),
    "TIGER, per code": ("TIGER", {"history_position": "code", "separator": True, "user_buckets": 100}),
    "TIGER, free": ("TIGER", {"decoding": "free", "beam_certify": False}),
    "TIGER, unmasked": ("TIGER", {"mask_seen": False}),
    "TIGER, ties": ("TIGER", {"collision": "none"}),
    "TIGER, RQ-VAE": ("TIGER", {"tokenizer": "rqvae", "tokenizer_steps": 200}),
    "TIGER, uni20": ("TIGER", {"eval_args": {**LEAVE_ONE_OUT, "mode": "uni20"}}),
    "TIGER, bfloat16": ("TIGER", {"precision": "bfloat16"}),
    "TIGER, temporal depth": ("TIGER", {"architecture": "temporal_depth", "loss_positions": "all"}),
    "TIGER, decoder only": ("TIGER", {"architecture": "decoder_only", "loss_positions": "all", "separator": False}),
    "TIGER, prefix LM": ("TIGER", {"architecture": "prefix_lm", "loss_positions": "last", "separator": False}),
    "TIGER, text in the input": ("TIGER", {"inject": "text"}),
    "TIGER, dense loss, re-ranked": ("TIGER", {"dense_weight": 1.0, "rerank_weight": 1.0}),
    "RPG": ("RPG", {"codebook_num": 8, "temperature": 0.1}),
    "LIGER": ("LIGER", {"liger_candidates": 20}),
    "IDGenRec": ("IDGenRec", {}),
    "HSTU": ("HSTU", {}),
    "SASRecCausal": ("SASRecCausal", {}),
    "SASRecBCE": ("SASRecBCE", {}),
    "LLMasRS, scratch": ("LLMasRS", {"llm": "scratch"}),
    "LLMasRS, LoRA": ("LLMasRS", {"llm": "llm", "duplicate_titles": "tied"}),
    "LLMasRS, semantic IDs": ("LLMasRS", {"llm": "scratch", "item_as": "sid", "item_vector_file": "vectors"}),
    "LLMasRS, CF": ("LLMasRS", {"llm": "scratch", "cf_injection": "concat", "cf_checkpoint": "cf"}),
}
#: Rounding, or what RecBole samples, moves the first two too far for a comparison to the fourth digit; the others differ from
#: TIGER in nothing that the device could change, and their comparison costs a minute of the CPU.
NOT_COMPARED = ("TIGER, uni20", "TIGER, bfloat16", "TIGER, unmasked", "TIGER, RQ-VAE")


class Checks:
    """Runs checks and keeps what they reported."""

    def __init__(self):
        self.lines = []

    def run(self, check, case, function):
        """Call ``function() -> dict``; a check fails if it raises, or says ``ok: False``."""
        start = perf_counter()
        try:
            found = {"ok": True, **function()}
        except Exception as error:  # whatever it is, the other checks are still wanted
            traceback.print_exc()
            found = {"ok": False, "error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        line = {"check": check, "case": case, "seconds": round(perf_counter() - start, 1), **found}
        self.lines.append(line)
        print(json.dumps(line), flush=True)
        return found["ok"]

    def table(self):
        rows = [("check", "case", "ok", "seconds", "what it found")]
        for line in self.lines:
            found = {key: value for key, value in line.items() if key not in ("check", "case", "ok", "seconds")}
            text = ", ".join(f"{key} {value}" for key, value in found.items())
            rows.append((line["check"], line["case"], "yes" if line["ok"] else "NO", f"{line['seconds']:.1f}", text))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0])).rstrip() for row in rows)


class Bench:
    """The data, files and sizes of one call of the script."""

    def __init__(self, device, folder, vectors):
        self.device, self.folder = torch.device(device), folder
        self.on_gpu = self.device.type != "cpu"
        self.users = None if self.on_gpu else 60
        self.write_data()
        self.files = {"vectors": vectors or self.write_vectors(), "llm": self.write_llama(), "cf": None}
        self.checkpoints = {}

    def write_data(self):
        """ml-100k as it is, or the part of it with the first users only."""
        source = os.path.join(os.path.dirname(recbole.__file__), "dataset_example", "ml-100k", "ml-100k")
        target = os.path.join(self.folder, "ml", "ml.")
        os.makedirs(os.path.dirname(target))
        for ending in ("inter", "item"):
            table = pd.read_csv(f"{source}.{ending}", sep="\t", dtype=str, keep_default_na=False, quoting=3)
            if ending == "inter" and self.users is not None:
                table = table[table["user_id:token"].astype(int) <= self.users].groupby("user_id:token").tail(30)
                items = set(table["item_id:token"])
            if ending == "item":
                table = table if self.users is None else table[table["item_id:token"].isin(items)]
                self.items = table
            table.to_csv(target + ending, sep="\t", index=False, quoting=3)

    def write_vectors(self):
        """Which words a title and its genres have, folded into 64 dimensions by a seeded projection."""
        words = [set(" ".join(row).lower().split()) for row in self.items.iloc[:, 1:].to_numpy(dtype=str)]
        vectors = np.zeros((len(words), 64), dtype=np.float32)
        for row, of_item in enumerate(words):
            for word in sorted(of_item):
                vectors[row] += np.random.default_rng(zlib.crc32(word.encode())).normal(size=64)
        path = os.path.join(self.folder, "vectors.npz")
        np.savez(path, item_id=self.items["item_id:token"].to_numpy(dtype=str), vectors=vectors)
        return path

    def write_llama(self):
        """A Llama of random weights whose tokenizer knows the titles."""
        from recbole_gr.language_model import scratch_model, train_title_tokenizer

        tokenizer = train_title_tokenizer(self.items["movie_title:token_seq"], 2048 if self.on_gpu else 400)
        folder = os.path.join(self.folder, "llama")
        scratch_model("medium" if self.on_gpu else "tiny", len(tokenizer), seed=0).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    def settings(self, case, **more):
        from recbole_gr.models.registry import model_settings

        model, own = CASES[case]
        common = {
            **{"data_path": self.folder, "cache_dir": os.path.join(self.folder, "cache"), "record_dir": "records"},
            **{"show_progress": False, "use_gpu": self.on_gpu, "epochs": 1},
        }
        common |= {"log_wandb": False, "state": "WARNING"}
        # one search of many beams, for hardly trained models need them to be sure of their ranking
        ours = {"beam_size": 50 if self.on_gpu else 20, "beam_certify": True, "epoch_samples": 20000 if self.on_gpu else 512}
        ours |= {"codebook_size": 64 if self.on_gpu else 16, "item_vector_file": self.files["vectors"]}
        ours |= {"precision": "float32", "mask_seen": True}
        known = model_settings(model).defaults()
        common |= {key: value for key, value in ours.items() if key in known}
        if model == "LLMasRS":
            common.pop("item_vector_file")  # of semantic IDs, which one case has
            # a certificate for every user of a language model of nearly random weights takes a search of the whole trie
            common |= {"beam_certify": not self.on_gpu, "scratch_size": "small" if self.on_gpu else "tiny"}
            common |= {"scratch_vocabulary": 2048 if self.on_gpu else 400, "train_batch_size": 128}
        own = {key: self.files.get(value, value) if isinstance(value, str) else value for key, value in own.items()}
        return model, {**common, **own, **more}

    # The checks

    def run(self, case):
        from recbole_gr.experiment.run import run

        model, settings = self.settings(case)
        before = set(os.listdir("saved")) if os.path.isdir("saved") else set()
        result = run(model, "ml", config_dict=settings)
        made = [name for name in set(os.listdir("saved")) - before if not name.endswith(".last.pth")]
        self.checkpoints[case] = os.path.join("saved", made[0])
        if case == "SASRecBCE":
            self.files["cf"] = os.path.abspath(self.checkpoints[case])
        with open(result["record"]) as file:
            record = json.load(file)
        stages, rankings = record["stages"], record.get("test_rankings", {})
        found = {
            "device": record["machine"]["device"],
            "train_loss": round(record["learning_curve"][0]["train_loss"], 3),
            **{key: float(value) for key, value in result["test_result"].items() if key.endswith("@10")},
            "samples_per_second": stages["training"]["samples_per_second"],
            "users_per_second": stages["test"]["users_per_second"],
            "peak_gpu_mb": record.get("peak_gpu_memory_mb"),
        }
        if rankings.get("users"):
            found["certified"] = f"{rankings['certified']} of {rankings['users']}"
        on_gpu = record["machine"]["device"] != "cpu"
        found["ok"] = on_gpu == self.on_gpu and np.isfinite(found["train_loss"]).item()
        self.results = {**getattr(self, "results", {}), case: result["test_result"]}
        return found

    def loaded(self, case, device):
        """As RecBole's ``load_data_and_model``, on a device of choice."""
        from recbole.data import create_dataset, data_preparation
        from recbole.utils import get_model, get_trainer, init_seed

        checkpoint = torch.load(self.checkpoints[case], map_location="cpu", weights_only=False)
        config = checkpoint["config"]
        config["device"] = torch.device(device)
        init_seed(config["seed"], config["reproducibility"])
        train, _, test = data_preparation(config, create_dataset(config))
        model = get_model(config["model"])(config, train._dataset).to(config["device"])
        model.load_state_dict(checkpoint["state_dict"])
        return config, model, train, test, get_trainer(config["MODEL_TYPE"], config["model"])(config, model)

    def same_on_the_cpu(self, case):
        """The metrics of the test, and the scores of the first users' ten best items."""
        best = {}
        for device in (self.device, torch.device("cpu")):
            _, model, _, test, trainer = self.loaded(case, device)
            model.eval()
            with torch.no_grad():
                scores = model.full_sort_predict(test.dataset[torch.arange(20)].to(device))
            best[device] = scores[:, 1:].topk(10).values.cpu()
        here, there = trainer.evaluate(test, load_best_model=False), self.results[case]
        difference = max(abs(float(here[key]) - float(there[key])) for key in there)
        one, other = (values.clamp(min=-1e4) for values in (best[self.device], best[torch.device("cpu")]))
        of_scores = (one - other).abs().max().item()
        ok = difference < 5e-5 and of_scores < 1e-3
        return {"ok": ok, "metrics_differ_by": round(difference, 6), "scores_differ_by": float(f"{of_scores:.1e}")}

    def resume(self):
        from recbole_gr.experiment.run import run

        def losses(**more):
            _, settings = self.settings("TIGER", schedule="constant", dropout=0.0, record_dir=None, **more)
            before = set(os.listdir("saved"))
            run("TIGER", "ml", config_dict=settings)
            made = [name for name in set(os.listdir("saved")) - before if name.endswith(".last.pth")]
            path = more.get("resume") or os.path.join("saved", made[0])
            return path, torch.load(path, weights_only=True, map_location="cpu")["train_loss"]

        path, _ = losses(epochs=2)
        interrupted = losses(epochs=3, resume=path)[1]
        whole = losses(epochs=3)[1]
        difference = max(abs(interrupted[epoch] / whole[epoch] - 1) for epoch in whole)
        return {"ok": len(interrupted) == 3 and difference < 0.01, "largest_relative_difference": round(difference, 6)}

    def no_waiting(self, case):
        config, model, train, _, trainer = self.loaded(case, self.device)
        model.train()
        batch = next(iter(train))
        for step in range(3):
            if step == 2 and self.device.type == "cuda":
                torch.cuda.set_sync_debug_mode("error")
            try:
                trainer.optimizer.zero_grad()
                model.calculate_loss(batch.to(self.device)).backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                trainer.optimizer.step()
            finally:
                if self.device.type == "cuda":
                    torch.cuda.set_sync_debug_mode("default")
        return {"fused": bool(trainer.optimizer.param_groups[0].get("fused")), "watched": self.device.type == "cuda"}

    def case_study(self, case):
        from recbole.utils.case_study import full_sort_topk

        _, model, _, test, _ = self.loaded(case, self.device)
        users = test.dataset.inter_feat[test.dataset.uid_field][:5]
        scores, items = full_sort_topk(users.tolist(), model, test, 10, device=self.device)
        interaction = test.dataset[torch.arange(5)].to(self.device)
        seen = tuple(part.to(self.device) for part in test.dataset.seen_items.of(users.numpy()))
        expected = model.rank(interaction, seen).topk(10).values
        difference = (scores - expected).abs().max().item()
        return {"ok": difference < 1e-3 and items.device.type == self.device.type, "largest_difference": difference}

    def level(self, data_path, dataset, vectors):
        """The laptop's recipe on data of choice: what it reaches, and in how many seconds of training."""
        from recbole_gr.experiment.run import run

        settings = {"data_path": data_path, "cache_dir": "cache", "record_dir": "records", "use_gpu": self.on_gpu}
        settings |= {"show_progress": False, "item_vector_file": vectors, "log_wandb": False, "state": "WARNING"}
        result = run("TIGER", dataset, config_file_list=["tiger_laptop"], config_dict=settings)
        with open(result["record"]) as file:
            record = json.load(file)
        seconds = {name: stage["seconds"] for name, stage in record["stages"].items()}
        values = {key: float(value) for key, value in result["test_result"].items()}
        return {**values, "seconds": seconds, "peak_gpu_mb": record.get("peak_gpu_memory_mb")}


# Against transformers' T5


def t5_of(sizes, n_tokens):
    """transformers' encoder-decoder with as many layers, widths and heads."""
    from transformers import T5Config, T5ForConditionalGeneration

    shape = {"d_model": sizes.d_model, "d_kv": sizes.d_kv, "d_ff": sizes.d_ff, "num_heads": sizes.n_heads}
    special = {"pad_token_id": 0, "decoder_start_token_id": 0, "eos_token_id": None}
    config = T5Config(
        vocab_size=n_tokens,
        num_layers=sizes.n_layers,
        num_decoder_layers=sizes.n_layers,
        dropout_rate=0.1,
        **shape,
        **special,
    )
    return T5ForConditionalGeneration(config)


def waited(device):
    if device.type == "cuda":
        torch.cuda.synchronize()
    return perf_counter()


def in_turns(contenders, device, rounds):
    """Seconds of each contender, by rounds; the first round is not counted."""
    times = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, function in contenders.items():
            start = waited(device)
            function()
            times[name].append(waited(device) - start)
    return {name: seconds[1:] for name, seconds in times.items()}


def against_t5(device, small):
    """Two checks: seconds of a training step, and users per second of a beam search over the valid IDs."""
    from recbole_gr.decoding.beam_search import beam_search
    from recbole_gr.decoding.trie import Trie
    from recbole_gr.models.tiger.encoder_decoder import EncoderDecoder
    from recbole_gr.models.tiger.history import History
    from recbole_gr.models.tiger.network import NetworkOptions
    from recbole_gr.models.tiger.settings import MODEL_SIZES

    n_items, length, sizes, levels = (300 if small else 12000), 20, MODEL_SIZES["336K"], (32 if small else 256,) * 4
    batch, users, beams, rounds = (16, 4, 10, 2) if small else (256, 64, 50, 7)
    torch.manual_seed(0)
    codes = np.random.default_rng(0).integers(0, levels[0], (n_items + 1, 4))
    ours = EncoderDecoder(levels, NetworkOptions(sizes, dropout=0.1, history_position="code")).to(device)
    offset = ours.level_offset
    theirs = t5_of(sizes, 1 + sum(levels)).to(device)
    of_item = torch.as_tensor(codes, device=device)
    history = of_item[torch.randint(1, n_items + 1, (batch, length), device=device)]
    target = of_item[torch.randint(1, n_items + 1, (batch,), device=device)]
    lengths = torch.full((batch,), length, device=device)
    tokens, labels = (history + offset).flatten(1), target + offset
    every_target = torch.ones(batch, 1, dtype=torch.bool, device=device)

    def step_of(model, loss):
        fused = {"fused": True} if device.type == "cuda" else {}
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, **fused)

        def step():
            for _ in range(2 if small else 20):
                optimizer.zero_grad()
                loss().backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()

        return step

    def training():
        ours.train(), theirs.train()
        contenders = {
            "ours": step_of(ours, lambda: ours(History(history, lengths), target.unsqueeze(1), every_target)[0]),
            "t5": step_of(theirs, lambda: theirs(input_ids=tokens, labels=labels).loss),
        }
        times = in_turns(contenders, device, rounds)
        steps = 2 if small else 20
        ratio = median(other / own for own, other in zip(times["ours"], times["t5"]))
        return {
            "ours_ms_per_step": round(1000 * median(times["ours"]) / steps, 2),
            "t5_ms_per_step": round(1000 * median(times["t5"]) / steps, 2),
            "ratio": round(ratio, 2),
        }

    @torch.no_grad()
    def decoding():
        ours.eval(), theirs.eval()
        trie = Trie(codes, levels, device)
        follow = {}
        for item in (codes[1:] + offset.cpu().numpy()).tolist():
            for level, token in enumerate(item):
                follow.setdefault((0, *item[:level]), {})[token] = None
        follow = {prefix: list(following) for prefix, following in follow.items()}
        some = History(history[:users], lengths[:users])

        def search():
            return beam_search(ours.start_decoding(ours.encode(some)), trie, beams)

        def generate():
            return theirs.generate(
                input_ids=tokens[:users],
                attention_mask=torch.ones_like(tokens[:users]),
                num_beams=beams,
                num_return_sequences=beams,
                max_new_tokens=4,
                length_penalty=0.0,
                do_sample=False,
                prefix_allowed_tokens_fn=lambda _, prefix: follow[tuple(prefix.tolist())],
            )

        times = in_turns({"ours": search, "t5": generate}, device, rounds)
        valid = (search().leaves >= 0).all().item()
        ratio = median(other / own for own, other in zip(times["ours"], times["t5"]))
        return {
            "ok": valid,
            "ours_users_per_second": round(users / median(times["ours"]), 1),
            "t5_users_per_second": round(users / median(times["t5"]), 1),
            "ratio": round(ratio, 1),
        }

    return {"training": training, "decoding": decoding}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="cpu: tiny sizes, to see that it runs")
    parser.add_argument(
        "--vectors", help="item vectors of ml-100k as item_vector_file takes them; made from titles by default"
    )
    parser.add_argument("--data_path", help="folder of a data set for the check of the level, as RecBole has it")
    parser.add_argument("--dataset", default="amazon-beauty-2014", help="its name")
    parser.add_argument("--item_vectors", help="its item vectors, as item_vector_file takes them")
    arguments = parser.parse_args()
    data = [os.path.abspath(path) if path else None for path in (arguments.data_path, arguments.item_vectors)]
    sys.argv = sys.argv[:1]  # RecBole reads settings from there
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("device=cuda: there is no GPU that torch can use; --device=cpu runs the script in tiny sizes")
    vectors = os.path.abspath(arguments.vectors) if arguments.vectors else None
    print(describe_machine())
    checks = Checks()
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # RecBole writes logs and checkpoints into the current folder
        try:
            bench = Bench(arguments.device, folder, vectors)
            logging.getLogger().setLevel(logging.ERROR)
            for case in CASES:
                if checks.run("run", case, lambda case=case: bench.run(case)) and case not in NOT_COMPARED:
                    checks.run("same on the CPU", case, lambda case=case: bench.same_on_the_cpu(case))
            checks.run("resume", "TIGER", bench.resume)
            for case in ("TIGER", "TIGER, per code"):
                checks.run("no waiting", case, lambda case=case: bench.no_waiting(case))
            for case in ("TIGER", "LLMasRS, scratch"):
                checks.run("case study", case, lambda case=case: bench.case_study(case))
            if arguments.data_path:
                checks.run("level", arguments.dataset, lambda: bench.level(data[0], arguments.dataset, data[1]))
            for name, check in against_t5(bench.device, small=not bench.on_gpu).items():
                checks.run("T5", name, check)
        finally:
            os.chdir(before)
    print("\n" + checks.table())
    print_json("gpu", {"device": arguments.device}, checks.lines)
    return int(not all(line["ok"] for line in checks.lines))


if __name__ == "__main__":
    sys.exit(main())
