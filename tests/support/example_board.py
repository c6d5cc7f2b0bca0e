"""A made-up summary of a board, seeded: everything that a page can show, and a hostile one."""

import json
import re

import numpy as np

from recbole_gr.leaderboard.render.html import write_page
from recbole_gr.leaderboard.summary import Summary

ACCURACY = [f"{kind}@{k}" for kind in ("recall", "ndcg", "mrr", "hit") for k in (5, 10)]
LISTS = ["itemcoverage@10", "giniindex@10", "averagepopularity@10", "tailpercentage@10"]
ID_LEVEL = "recall@10 (ID-level)"
HOSTILE = '<img src=x onerror="window.broken=1">'


def example_summary():
    """Six rows: two protocols side by side, one row failed, one with a seed missing, one with ID-level hits and a search."""
    random = np.random.default_rng(2020)
    file, shuffled = {"tie_order": "file"}, {"tie_order": "shuffled"}
    pop = example_row(random, "Pop", "Pop", file, 0.035, [2020, 2021, 2022], (1, 0.4, 9120.5, 310.0))
    sasrec = example_row(random, "SASRec (CE)", "SASRec", file, 0.062, [2020, 2021, 2022], (177344, 96.25, 5230.4, 402.6))
    gru = example_row(random, "GRU4Rec", "GRU4Rec", file, 0, [], (0, 0, 0, 0))
    gru.update(state="failed", measures={}, cost={}, learning_curves=[], slices={}, records=[], configuration={})
    gru["errors"] = [f"seed {seed}: RuntimeError: CUDA out of memory <tried 2.0 GiB>" for seed in (2020, 2021, 2022)]
    tiger = example_row(
        random, "TIGER (RK-Means)", "TIGER", file, 0.066, [2020, 2021, 2022], (304256, 329.9, 1082.7, 1180.2)
    )
    tiger["settings"] = {"tokenizer": "rkmeans", "codebook_num": 3, "codebook_size": 64, "learning_rate": 0.003}
    tiger["search"] = {"learning_rate": [0.001, 0.003, 0.01], "dropout": [0.1, 0.2]}
    tiger["chosen"] = {"learning_rate": 0.003, "dropout": 0.2}
    tiger["measures"][ID_LEVEL] = measured(random, 0.131, 3)
    shuffled_sasrec = example_row(
        random, "SASRec (CE)", "SASRec", shuffled, 0.055, [2020, 2021, 2022], (177344, 95.5, 5190.0, 402.6)
    )
    shuffled_tiger = example_row(
        random, "TIGER (RK-Means)", "TIGER", shuffled, 0.054, [2020], (304256, 331.0, 1079.9, 1180.2)
    )
    shuffled_tiger.update(state="incomplete", errors=["seed 2021: killed by signal 9"], seeds_done=[2020])
    shuffled_tiger["measures"][ID_LEVEL] = measured(random, 0.118, 1)
    rows = [pop, sasrec, gru, tiger, shuffled_sasrec, shuffled_tiger]
    for row in rows:
        row["baseline"] = row["model"] != "TIGER"
    for row, baseline in ((pop, sasrec), (tiger, sasrec), (shuffled_tiger, shuffled_sasrec)):
        row["significance"] = {metric: example_test(row, baseline, metric) for metric in ACCURACY}
    for best, second in ((tiger, sasrec), (shuffled_sasrec, shuffled_tiger)):
        best["best"], second["second"] = list(ACCURACY), list(ACCURACY)
    return {
        "name": "ml-100k",
        "dataset": "ml-100k",
        "description": "Generative recommenders and RecBole's baselines on MovieLens 100K, one protocol for all.",
        "command": "recbole-gr leaderboard properties/leaderboard/ml-100k.yaml",
        "protocol": {
            "split": "leave one out: the last item of each user for the test, the one before for validation",
            "history length": 20,
            "seen items": "masked",
            "tie order": "file and shuffled, side by side",
        },
        "statistics": {"users": 943, "items": 1682, "interactions": 100000, "mean_length": 106.04, "sparsity": 0.936953},
        "environment": {
            "recbole_gr": "0.4.0",
            "recbole": "1.2.1",
            "torch": "2.7.1",
            "device": ["NVIDIA H100 80GB HBM3"],
            "git_revision": ["ae4ffdd"],
            "created": ["2026-11-24T20:11:05", "2026-11-25T02:40:59"],
        },
        "metrics": [*ACCURACY, ID_LEVEL],
        "main_metric": "ndcg@10",
        "smaller_is_better": ["giniindex@10", "averagepopularity@10"],
        "list_metrics": list(LISTS),
        "significance_note": "Paired by user: bootstrap, Wilcoxon's signed-rank test, Holm's correction over rows.",
        "rows": rows,
        "published": [
            {
                "source": "Rajput et al. 2023 (TIGER), Table 1",
                "differences": "seen items not masked; all of the history up to 20; seeds not given",
                "rows": [
                    {"name": "TIGER", "recall@5": 0.0454, "ndcg@5": 0.0321, "recall@10": 0.0648, "ndcg@10": 0.0384},
                    {"name": "SASRec", "recall@5": 0.0387, "ndcg@5": 0.0249, "recall@10": 0.0605, "ndcg@10": None},
                ],
            }
        ],
    }


def example_row(random, name, model, variant, level, seeds, cost):
    scale = {
        "recall@5": 0.9,
        "ndcg@5": 0.6,
        "mrr@5": 0.5,
        "hit@5": 0.9,
        "recall@10": 1.6,
        "ndcg@10": 1,
        "mrr@10": 0.7,
        "hit@10": 1.6,
    }
    measures = {metric: measured(random, level * scale[metric], len(seeds)) for metric in ACCURACY}
    measures |= {metric: measured(random, value, len(seeds)) for metric, value in zip(LISTS, (0.4, 0.8, 168.5, 0.02))}
    groups = {
        "item popularity": ["never seen in training", "1 to 9", "10 to 49", "50 or more"],
        "history length": ["up to 20", "21 to 100", "more than 100"],
    }
    return {
        **{"name": name, "model": model, "variant": variant, "baseline": True, "state": "complete", "errors": []},
        **{"seeds": [2020, 2021, 2022], "seeds_done": list(seeds), "measures": measures, "best": [], "second": []},
        "significance": {},
        "slices": {kind: [example_slice(random, label, level) for label in labels] for kind, labels in groups.items()},
        "cost": dict(zip(("parameters", "training_seconds", "users_per_second", "peak_memory_mb"), cost)),
        "learning_curves": [example_curve(random, seed, level) for seed in seeds],
        **{"settings": {"train_batch_size": 2048}, "chosen": {}, "search": None},
        "configuration": {"epochs": 8, "eval_args": {"order": "TO"}, "nproc": None, "train_batch_size": 2048},
        "reproduce": f"recbole-gr run --model={model} --dataset=ml-100k --seed=2020 --tie_order={variant['tie_order']}",
        "records": [f"cells/{model}-{variant['tie_order']}-seed{seed}.json" for seed in seeds],
    }


def measured(random, level, n_seeds):
    values = np.round(level * random.normal(1, 0.03, n_seeds), 4)
    if n_seeds == 0:
        return {"mean": None, "std": None, "values": []}
    return {
        "mean": float(values.mean()),
        "std": float(values.std(ddof=1)) if n_seeds > 1 else None,
        "values": values.tolist(),
    }


def example_slice(random, label, level):
    recall, ndcg = np.round(level * random.uniform(0.2, 2, 2), 4).tolist()
    return {"label": label, "users": 40 + 13 * len(label), "recall@10": recall, "ndcg@10": ndcg}


def example_curve(random, seed, level):
    epochs = list(range(1 if level < 0.04 else int(random.integers(12, 20))))
    scores = np.round(level * 1.2 * (1 - np.exp(-np.asarray(epochs) / 4)) + random.normal(0, 0.001, len(epochs)) + 0.01, 4)
    return {"seed": seed, "epochs": epochs, "valid_score": scores.tolist(), "train_loss": (100 - scores).tolist()}


def example_test(row, baseline, metric):
    difference = row["measures"][metric]["mean"] - baseline["measures"][metric]["mean"]
    p = 0.003 if abs(difference) > 0.004 else 0.2
    interval = {"low": difference - 0.004, "high": difference + 0.005}
    return {"against": baseline["name"], "difference": difference, **interval, "p": p, "p_holm": 2 * p, "users": 943}


def hostile_summary():
    """Names and settings that a careless page would run or swallow."""
    summary = example_summary()
    summary["name"] = HOSTILE
    summary["description"] = f"</script><script>window.broken=1</script> & {HOSTILE}"
    summary["command"] = HOSTILE
    summary["protocol"][HOSTILE] = HOSTILE
    summary["significance_note"] = HOSTILE
    tiger = summary["rows"][3]
    tiger["name"] = f"</script><b>A</b> &amp; {HOSTILE}"  # plotly knows <b> and &amp;
    tiger["variant"] = {"tie_order": HOSTILE}
    tiger["settings"] = {"note": "</script><script>window.broken=1</script>"}
    tiger["reproduce"] = f"recbole-gr run --note='{HOSTILE}'"
    tiger["significance"]["ndcg@10"]["against"] = HOSTILE
    tiger["slices"]["history length"][0]["label"] = HOSTILE
    summary["rows"][2]["errors"] = [HOSTILE]
    summary["published"][0].update(source=HOSTILE, differences=HOSTILE)
    summary["published"][0]["rows"][0]["name"] = HOSTILE
    return summary


def written(summary, folder):
    write_page(str(folder / "board.html"), Summary.from_json(summary))
    return folder / "board.html"


def data_of(html):
    return json.loads(re.search(r'<script type="application/json" id="board">(.*?)</script>', html, re.DOTALL).group(1))
