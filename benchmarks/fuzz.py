"""Mutated files: interactions, items, settings, boards and semantic IDs, until the time is over.

Valid files are changed at random places by hypothesis: bytes, cells, lines, words. What reads them must take them or refuse them with an
error of ours; anything else is a traceback to who brought the file: it is printed, and the input is kept.

    python benchmarks/fuzz.py --minutes 10
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import io
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from recbole_gr.data.item_text import read_item_file_tokens
from recbole_gr.experiment.check_only import check_only
from recbole_gr.integration.check_run import check_run
from recbole_gr.integration.refusals import as_refusal
from recbole_gr.leaderboard.board_file import read_board
from recbole_gr.leaderboard.row_check import check_rows
from recbole_gr.tokenizers.semantic_ids import SemanticIDs
from recbole_gr.tokenizers.sid_file_writer import write_sid_file
from recbole_gr.tokenizers.sid_files import read_sid_file
from recbole_gr.utils.errors import RecBoleGRError

#: Seconds that one input may take.
LIMIT = 60
ITEMS = [f"i{number}" for number in range(12)]

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + "".join(
    f"u{user}\ti{(user * 5 + place * 7) % 12}\t{1 + place % 5}\t{8.8e8 + 60 * place:.0f}\n"
    for user in range(6)
    for place in range(6)
)
ITEM = "item_id:token\ttitle:token_seq\tprice:float\n" + "".join(
    f"{item}\tThe {item} of all things\t{number}.5\n" for number, item in enumerate(ITEMS)
)
SETTINGS = """\
epochs: 3
learning_rate: 1e-3
topk: [1, 3]
metrics: [Recall, NDCG]
valid_metric: NDCG@3
eval_args: {split: {RS: [0.8, 0.1, 0.1]}, group_by: user, order: TO, mode: full}
clip_grad_norm: {max_norm: 1.0}
train_neg_sample_args: {distribution: uniform, sample_num: 1}
load_col: {inter: [user_id, item_id, rating, timestamp]}
user_inter_num_interval: "[2,inf)"
val_interval: {rating: "[1,5]"}
embedding_size: 8
"""
BOARD = """\
name: fuzzed
dataset: fuzz
description: A board.
protocol: {topk_of: ~}
metrics: [Recall, NDCG]
topk: [1, 3]
main_metric: NDCG@3
seeds: [1, 2]
rows:
  - model: Pop
    baseline: True
  - {name: pairs, model: BPR, settings: {embedding_size: 8, epochs: 2}, search: {choice: {learning_rate: [0.1, 0.01]}}}
side_by_side: [{mask_seen: True}, {mask_seen: False}]
""".replace("protocol: {topk_of: ~}\n", "protocol: {load_col: {inter: [user_id, item_id, timestamp]}}\n")

#: What is put into files besides random text.
WORDS = [
    *("nan", "inf", "-inf", "1e400", "-1", "0", "", "None", "null", "~", "true", "[]", "{}", "[1,2", "&a", "*a", "<<: *a"),
    *(
        "!!python/name:os.system",
        "'",
        '"',
        "\t",
        "\n",
        "\r",
        "\r\n",
        "\0",
        "\ufeff",
        "\u2028",
        ":float",
        ":token_seq",
        ":",
        ",",
    ),
    *(
        "é",
        "99999999999999999999",
        "2020-01-01",
        "0x10",
        "1:2:3",
        "- ",
        "? ",
        "|",
        ">",
        "#",
        "%",
        "@",
        "i0",
        "u0",
        "user_id",
    ),
    *(
        "full",
        "uni100",
        "LS",
        "TS",
        "test_only",
        "[5,1]",
        "(0,1];[3,4)",
        "AUC",
        "labeled",
        "popularity",
        "SASRec",
        "LR",
        "\\",
        "/",
        "..",
    ),
]
BAD_BYTES = [b"\xff", b"\xfe\xff", b"\x80", b"\xc3", b"\xed\xa0\x80", b"\0\0"]


@st.composite
def mutated(draw: Callable[[Any], Any], original: bytes) -> bytes:
    """A file with one to five changes."""
    content = original
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 2, 3, 5]))):
        kind = draw(st.sampled_from(["insert", "replace", "delete", "double", "cut", "swap", "line", "bytes"]))
        begin = draw(st.integers(0, len(content)))
        end = min(len(content), begin + draw(st.integers(0, 40)))
        if kind == "insert":
            content = content[:begin] + _word(draw) + content[begin:]
        elif kind == "replace":
            content = content[:begin] + _word(draw) + content[end:]
        elif kind == "delete":
            content = content[:begin] + content[end:]
        elif kind == "double":
            content = content[:end] + content[begin:end] * draw(st.integers(1, 3)) + content[end:]
        elif kind == "cut":
            content = content[:begin]
        elif kind == "bytes":
            content = content[:begin] + draw(st.sampled_from(BAD_BYTES) | st.binary(max_size=4)) + content[end:]
        else:
            content = _lines_changed(draw, content, kind)
    return content


def _word(draw: Callable[[Any], Any]) -> bytes:
    word: str = draw(st.sampled_from(WORDS) | st.text(max_size=6))
    return word.encode("utf-8", "surrogatepass")


def _lines_changed(draw: Callable[[Any], Any], content: bytes, kind: str) -> bytes:
    """Two lines in the place of each other, or one cell or value made another."""
    lines = content.split(b"\n")
    one, other = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    if kind == "swap":
        lines[one], lines[other] = lines[other], lines[one]
        return b"\n".join(lines)
    mark = b"\t" if b"\t" in lines[one] else b": "
    cells = lines[one].split(mark)
    cells[draw(st.integers(0, len(cells) - 1))] = _word(draw)
    lines[one] = mark.join(cells)
    return b"\n".join(lines)


class Fuzzing:
    """Inputs, and what became of them.

    Args:
        folder: of the files that are read.
        kept: where inputs that ended with a traceback go.
    """

    def __init__(self, folder: str, kept: Path) -> None:
        self.folder, self.kept = folder, kept
        self.outcomes: dict[str, Counter[str]] = {}
        self.found: Counter[str] = Counter()
        self.longest: Counter[str] = Counter()

    def attempt(self, kind: str, path: str, content: bytes, read: Callable[[], Any]) -> None:
        """Write one file, read it, and count what happened."""
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        begin = time.perf_counter()
        outcome = self._outcome(kind, path, content, read)
        self.outcomes.setdefault(kind, Counter())[outcome] += 1
        self.longest[kind] = max(self.longest[kind], round(1000 * (time.perf_counter() - begin)))

    def _outcome(self, kind: str, path: str, content: bytes, read: Callable[[], Any]) -> str:
        signal.alarm(LIMIT)
        try:
            with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
                read()
        except RecBoleGRError as error:
            return "refused" if str(error) else self._keep(kind, path, content, error)
        except Exception as error:
            return "refused" if as_refusal(error) is not None else self._keep(kind, path, content, error)
        finally:
            signal.alarm(0)
        return "taken"

    def _keep(self, kind: str, path: str, content: bytes, error: Exception) -> str:
        """Print a traceback, and keep its input, once for each place that it comes from."""
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{type(error).__name__} in {frame.filename}:{frame.lineno}"
        self.found[place] += 1
        if self.found[place] == 1:
            self.kept.mkdir(parents=True, exist_ok=True)
            name = self.kept / f"{kind}-{len(self.found)}{os.path.splitext(path)[1]}"
            name.write_bytes(content)
            print(f"--- {name}\n{''.join(traceback.format_exception(error))}", file=sys.stderr, flush=True)
        return "traceback"


def _too_long(*_: Any) -> None:
    raise TimeoutError(f"an input took more than {LIMIT} seconds")


def sid_files(folder: str) -> dict[str, bytes]:
    """Semantic IDs of all items in each format, by the ending of the name."""
    codes = np.concatenate([np.full((1, 3), -1), np.array([[n % 4, n // 4, n % 3] for n in range(len(ITEMS))])])
    ids, tokens = SemanticIDs(codes, (4, 4, 4), "none", {}), np.array(["[PAD]", *ITEMS])
    found = {}
    for ending in (".json", ".parquet", ".pt", ".npz"):
        path = os.path.join(folder, f"codes{ending}")
        write_sid_file(ids, path, tokens)
        found[ending] = Path(path).read_bytes()
        if ending == ".json":  # with few marks in it
            found[ending] = json.dumps(json.loads(found[ending])).encode()
    return found


def targets(fuzzing: Fuzzing, folder: str) -> dict[str, tuple[bytes, Callable[[bytes], None]]]:
    """By kind: a valid file, and what is done with a changed one."""
    data = f"{folder}/data/fuzz"
    run = {"data_path": f"{folder}/data", "topk": [1], "metrics": ["NDCG"], "valid_metric": "NDCG@1", "show_progress": False}
    tokens = np.array(["[PAD]", *ITEMS])

    def of_data(path: str, content: bytes, model: str, more: dict[str, Any]) -> None:
        """The other file is as it should be."""
        Path(data).mkdir(parents=True, exist_ok=True)
        Path(f"{data}/fuzz.inter").write_text(INTER)
        Path(f"{data}/fuzz.item").write_text(ITEM)
        kind = os.path.splitext(path)[1][1:]
        fuzzing.attempt(kind, path, content, lambda: check_only(model, "fuzz", {**run, **more}))

    def inter(content: bytes) -> None:
        columns = {"load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]}}
        of_data(f"{data}/fuzz.inter", content, "SASRec" if len(content) % 2 else "Pop", columns)

    def item(content: bytes) -> None:
        text = {"text_template": "{title}", "d_model": 8, "n_heads": 2, "d_kv": 4, "d_ff": 8, "codebook_size": 4}
        columns = {"load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "title", "price"]}}
        of_data(f"{data}/fuzz.item", content, *(("TIGER", text) if len(content) % 2 else ("BPR", columns)))
        fuzzing.attempt("item", f"{data}/fuzz.item", content, lambda: read_item_file_tokens(f"{data}/fuzz.item"))

    def settings_file(content: bytes) -> None:
        path = f"{folder}/settings.yaml"

        def read() -> None:
            checked = check_run("BPR", "fuzz", [path], {"data_path": f"{folder}/data"}, arguments=[])
            wanted = {key: value for key, value in checked.given.values.items() if key not in ("dataset", "model")}
            if wanted.get("embedding_size", 8) != 8 and wanted["embedding_size"] > 10_000:
                wanted["embedding_size"] = 8  # filling memory is no test of reading
            check_only("BPR", "fuzz", wanted)

        of_valid_data()
        fuzzing.attempt("settings", path, content, read)

    def board(content: bytes) -> None:
        of_valid_data()
        path = f"{folder}/board.yaml"
        fuzzing.attempt("board", path, content, lambda: check_rows(read_board(path, {"data_path": f"{folder}/data"})))

    def of_valid_data() -> None:
        Path(data).mkdir(parents=True, exist_ok=True)
        Path(f"{data}/fuzz.inter").write_text(INTER)

    def codes(ending: str) -> Callable[[bytes], None]:
        path = f"{folder}/sid/codes{ending}"
        return lambda content: fuzzing.attempt(
            f"sid{ending}", path, content, lambda: read_sid_file(path, tokens, np.array(ITEMS))
        )

    found: dict[str, tuple[bytes, Callable[[bytes], None]]] = {
        "inter": (INTER.encode(), inter),
        "item": (ITEM.encode(), item),
        "settings": (SETTINGS.encode(), settings_file),
        "board": (BOARD.encode(), board),
    }
    return found | {f"sid{ending}": (valid, codes(ending)) for ending, valid in sid_files(folder).items()}


def fuzz(folder: str, minutes: float, kept: Path, first_seed: int, batch: int = 100) -> Fuzzing:
    """Change and read files of all kinds in turn.

    Args:
        folder: of the files that are read.
        minutes: how long.
        kept: where inputs that ended with a traceback go.
        first_seed: of the first batch; each batch has one of its own.
        batch: inputs of one kind in turn.
    """
    os.chdir(folder)
    fuzzing = Fuzzing(folder, kept)
    kinds = targets(fuzzing, folder)
    end, number = time.monotonic() + 60 * minutes, first_seed
    for valid, attempt in kinds.values():
        attempt(valid)
    if any(set(outcomes) != {"taken"} for outcomes in fuzzing.outcomes.values()):
        raise RuntimeError(f"a valid file is not taken: {fuzzing.outcomes}")
    while time.monotonic() < end:
        for valid, attempt in kinds.values():
            _one_batch(valid, attempt, number, batch, end)
            number += 1
    return fuzzing


def _one_batch(valid: bytes, attempt: Callable[[bytes], None], number: int, batch: int, end: float) -> None:
    @seed(number)
    @settings(
        max_examples=batch, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(mutated(valid))
    def one(content: bytes) -> None:
        if time.monotonic() < end:
            attempt(content)

    one()


def main() -> None:
    """Fuzz, and print what was counted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--keep", type=Path, default=Path("fuzz_findings"), help="folder of inputs that end with a traceback"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="recbole_gr-fuzz-") as folder:
        sys.exit(_watched(folder, options))


def _watched(folder: str, options: argparse.Namespace) -> int:
    """Fuzz in a copy of this process, which an input may end without a word; then it is kept, too. Returns the exit status."""
    child = os.fork()
    if not child:
        status = 1
        try:
            faulthandler.enable()
            status = _fuzz_and_print(folder, options)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    ended = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(ended):
        last = max((path for path in Path(folder).rglob("*") if path.is_file()), key=lambda path: path.stat().st_mtime_ns)
        options.keep.mkdir(parents=True, exist_ok=True)
        kept = shutil.copy(last, options.keep / f"crash{last.suffix}")
        print(f"signal {os.WTERMSIG(ended)} ended the process while it read {kept}")
        return 1
    return os.waitstatus_to_exitcode(ended)


def _fuzz_and_print(folder: str, options: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGALRM, _too_long)
    sys.argv = sys.argv[:1]  # RecBole's Config reads the command line
    fuzzing = fuzz(folder, options.minutes, options.keep.absolute(), options.seed)
    print(f"{options.minutes:g} minutes, seed {options.seed}")
    print(f"{'':14}{'inputs':>8}{'taken':>8}{'refused':>9}{'traceback':>11}{'slowest':>11}")
    for kind, outcomes in fuzzing.outcomes.items():
        counts = f"{outcomes['taken']:8,}{outcomes['refused']:9,}{outcomes['traceback']:11,}"
        print(f"{kind:14}{outcomes.total():8,}{counts}{fuzzing.longest[kind]:8,} ms")
    total: Counter[str] = sum(fuzzing.outcomes.values(), Counter())
    print(f"{'all':14}{total.total():8,}{total['taken']:8,}{total['refused']:9,}{total['traceback']:11,}")
    for place, count in fuzzing.found.most_common():
        print(f"{count:6,} times {place}")
    return 1 if fuzzing.found else 0


if __name__ == "__main__":
    main()
