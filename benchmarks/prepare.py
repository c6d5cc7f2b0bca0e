"""Making atomic files of raw reviews: time and memory as the file grows, against pandas.

Writes review files in the format of Amazon 2014 (gzip, one json record a line, about 600 bytes each) with made-up users and
items, whose activity follows a power law, and their metadata. Then, each in a process of its own:

1. ``recbole-gr prepare``: read, 5-core, write ``.inter`` and ``.item``.
2. pandas, in parts: ``read_json(lines=True, chunksize=100_000)``, four columns of each part kept; 5-core; ``to_csv``.
3. pandas, whole: ``read_json(lines=True)`` of the file, then the same.

The rivals make the ``.inter`` file only. All must find the same number of users, items and interactions. Peak memory is that of
the process; what it takes to import the libraries is printed beside it.
"""

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
from machine import describe_machine, print_json

REVIEWS_OF_A_USER, REVIEWS_OF_AN_ITEM = 6, 20
WORDS = ("great", "product", "the", "colour", "and", "smell", "was", "not", "what", "I", "expected", "but", "works")

OURS = """
from recbole_gr.prepare.command import prepare_dataset
{measure}
begin()
result = prepare_dataset("amazon-2014", "Beauty", raw_dir={folder!r}, output_dir={folder!r}, name="ours", download=False)
end([result["users"], result["items"], result["interactions"]])
"""

PANDAS = """
import pandas as pd
{measure}
begin()
columns = ["reviewerID", "asin", "overall", "unixReviewTime"]
read = dict(lines=True, dtype={{"reviewerID": str, "asin": str}}, convert_dates=False)
path = {folder!r} + "/reviews_Beauty_5.json.gz"
if {chunksize}:
    rows = pd.concat([part[columns] for part in pd.read_json(path, chunksize={chunksize}, **read)], ignore_index=True)
else:
    rows = pd.read_json(path, **read)[columns]
while True:
    few = [rows.groupby(key)[key].transform("size") < 5 for key in ("reviewerID", "asin")]
    if not (few[0] | few[1]).any():
        break
    rows = rows[~(few[0] | few[1])]
rows.to_csv({folder!r} + "/pandas.inter", sep="\\t", index=False)
end([rows["reviewerID"].nunique(), rows["asin"].nunique(), len(rows)])
"""

MEASURE = """
import json, time
def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))
def begin():
    global start, cpu, imports
    start, cpu, imports = time.perf_counter(), time.process_time(), peak()
def end(sizes):
    taken = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    print(json.dumps({**taken, "imports": imports, "peak": peak(), "sizes": [int(size) for size in sizes]}))
"""


def write_raw(folder, n_lines):
    """Review and metadata files; returns the bytes of the reviews before compression."""
    random = np.random.default_rng(n_lines)
    n_users, n_items = n_lines // REVIEWS_OF_A_USER, n_lines // REVIEWS_OF_AN_ITEM
    texts = [" ".join(random.choice(WORDS, 75)) for _ in range(2000)]
    size = 0
    with gzip.open(os.path.join(folder, "reviews_Beauty_5.json.gz"), "wb", compresslevel=1) as file:
        for start in range(0, n_lines, 100_000):
            n = min(100_000, n_lines - start)
            users, items = (powers(random, n, bound).tolist() for bound in (n_users, n_items))
            text = random.integers(len(texts), size=n).tolist()
            lines = "".join(
                f'{{"reviewerID": "A{user:013}", "asin": "B{item:09}", "reviewerName": "N{user}", "helpful": [0, 1], '
                f'"reviewText": "{texts[which]}", "overall": {1 + which % 5}.0, "summary": "{texts[which][:30]}", '
                f'"unixReviewTime": {1_300_000_000 + 86_400 * (which % 1000)}, "reviewTime": "01 30, 2014"}}\n'
                for user, item, which in zip(users, items, text)
            ).encode()
            size += len(lines)
            file.write(lines)
    with gzip.open(os.path.join(folder, "meta_Beauty.json.gz"), "wt", compresslevel=1) as file:
        for item in range(n_items):
            record = {"asin": f"B{item:09}", "title": texts[item % 2000][:60], "categories": [["Beauty"]], "price": 9.99}
            file.write(repr({**record, "description": texts[item % 2000]}) + "\n")
    return size


def powers(random, n, bound):
    """Numbers below the bound, the small ones more often: int64 ``[n]``."""
    return np.minimum((bound * random.random(n) ** 2).astype(np.int64), bound - 1)


def run_alone(code):
    """What the code prints at its end, or None where it ran out of memory or time."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"  (status {done.returncode}: {(done.stderr.strip().splitlines() or ['killed'])[-1]})")
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, nargs="+", default=[300_000, 1_000_000, 3_000_000])
    parser.add_argument("--rival_lines", type=int, default=1_000_000, help="pandas takes no more than these")
    parser.add_argument("--folder", help="where the files are made for a while; by default the system's for such files")
    arguments = parser.parse_args()
    print(describe_machine())
    print(f"\n{'':28} {'lines':>11} {'GB':>6} {'seconds':>8} {'CPU s':>7} {'lines/s':>9} {'peak MB':>8} {'imports MB':>10}")
    figures = {}
    for n_lines in arguments.lines:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            size = write_raw(folder, n_lines)
            contenders = {"recbole-gr prepare": OURS.format(measure=MEASURE, folder=folder)}
            if n_lines <= arguments.rival_lines:
                for name, chunksize in {"pandas, in parts": 100_000, "pandas, whole": 0}.items():
                    contenders[name] = PANDAS.format(measure=MEASURE, folder=folder, chunksize=chunksize)
            sizes = set()
            for name, code in contenders.items():
                found = run_alone(code)
                if found is None:
                    continue
                sizes.add(tuple(found["sizes"]))
                speed = n_lines / found["seconds"]
                figures.setdefault(f"{n_lines} lines", {})[name] = found
                print(
                    f"{name:28} {n_lines:11,} {size / 1e9:6.2f} {found['seconds']:8.1f} {found['cpu']:7.1f} {speed:9,.0f} "
                    f"{found['peak']:8,.0f} {found['imports']:10,.0f}",
                    flush=True,
                )
            if len(sizes) > 1:
                sys.exit(f"they found different sizes: {sorted(sizes)}")
            print(f"  users, items, interactions left: {', '.join(f'{n:,}' for n in next(iter(sizes), ()))}", flush=True)
    print_json("prepare", vars(arguments), figures)


if __name__ == "__main__":
    main()
