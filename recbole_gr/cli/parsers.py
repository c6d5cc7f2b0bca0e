"""The commands as argparse has them: their helps, and what a shell completes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from recbole_gr.utils.errors import RecBoleGRError
from recbole_gr.version import __version__

#: What ``recbole-gr list`` lists.
KINDS = {
    "recipes": "settings of papers, for --config_files=NAME",
    "boards": "leaderboards, for recbole-gr leaderboard NAME",
    "studies": "boards with axes, for recbole-gr study NAME",
    "models": "for --model=NAME",
    "tokenizers": "what makes semantic IDs, for --tokenizer=NAME",
    "settings": "of a model: recbole-gr list settings SASRec; TIGER's by default",
    "datasets": "for --dataset=NAME",
}

#: Settings that ``recbole-gr run --help`` shows with their defaults.
COMMON = (
    *("epochs", "train_batch_size", "learning_rate", "stopping_step", "MAX_ITEM_LIST_LENGTH", "topk", "valid_metric"),
    *("tokenizer", "codebook_num", "codebook_size", "collision", "text_encoder", "model_size", "beam_size"),
    *("mask_seen", "data_path", "seed", "record_dir", "resume"),
)

VERBOSE = "print all settings, not only those that differ from the defaults"
STYLE = "Options are written --key=value or --key value; - and _ are alike."


class Parser(argparse.ArgumentParser):
    """Errors are one line, as those of settings are."""

    #: Text at the end of the help that takes a while to make.
    more: Callable[[], str] | None = None

    def error(self, message: str) -> NoReturn:
        raise RecBoleGRError(message)

    def format_help(self) -> str:
        return super().format_help() + (self.more() if self.more else "")


def make_parser() -> tuple[Parser, dict[str, Parser]]:
    """The parser of ``recbole-gr``, and that of each command by its name."""
    parser = Parser(
        prog="recbole-gr",
        description="Generative recommenders under RecBole's own splits, trainers and metrics.",
        epilog="recbole-gr COMMAND --help shows the options of a command. docs/command_line.md tells the rest.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"recbole_gr {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    parsers = {}
    for name, (sentence, fill, examples, page) in _COMMANDS.items():
        epilog = "\n".join(["examples:", *(f"  {line}" for line in examples), "", f"{STYLE} See {page}."])
        parsers[name] = commands.add_parser(
            name,
            help=sentence,
            description=f"{sentence[0].upper()}{sentence[1:]}.",
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        fill(parsers[name])
    parsers["run"].more = common_settings
    return parser, parsers


def common_settings() -> str:
    """The settings of :data:`COMMON` with defaults, as text."""
    from recbole_gr.cli.listing import setting_lines, settings_by_concern

    fields = {row.key: row for _, rows in settings_by_concern("TIGER") for row in rows if row.key in COMMON}
    lines = setting_lines([fields[key] for key in COMMON])
    last = "All settings, for each model: recbole-gr list settings [MODEL]"
    return "\n".join(["\ncommon settings, with the defaults of TIGER:", *lines, "", last, ""])


def _option(parser: argparse.ArgumentParser, key: str, sentence: str, completer: Any = None, **options: Any) -> None:
    action = parser.add_argument(f"--{key}", help=sentence, **options)
    if completer is not None:
        action.completer = completer  # type: ignore[attr-defined]  # where argcomplete looks for it


def _names(kind: str) -> Callable[..., Iterable[str]]:
    def complete(**_: Any) -> Iterable[str]:
        from recbole_gr.cli.listing import names_of

        return names_of(kind)

    return complete


def _recipes_and_files(prefix: str, **_: Any) -> Iterable[str]:
    from argcomplete.completers import FilesCompleter

    from recbole_gr.cli.listing import names_of

    return [*names_of("recipes"), *FilesCompleter(("yaml", "yml"))(prefix)]


def _data(parser: Parser) -> None:
    _option(
        parser,
        "dataset",
        "a folder NAME with NAME.inter and NAME.item under --data_path (ml-100k, bundled)",
        _names("datasets"),
    )
    _option(
        parser, "config_files", 'names of recipes or yaml files, several in quotes: "grid mine.yaml"', _recipes_and_files
    )


def _fill_run(parser: Parser) -> None:
    _option(parser, "model", "TIGER, any model of RecBole, or package.module:Class (TIGER)", _names("models"))
    _data(parser)
    parser.add_argument("--verbose", action="store_true", help=VERBOSE)
    for key, sentence in (
        ("nproc", "processes on this machine, one per GPU or all on the CPU (1)"),
        ("ip", "address of the first machine, of several (localhost)"),
        ("port", "port on it (a free one, if there is one machine)"),
        ("world_size", "processes on all machines (--nproc)"),
        ("group_offset", "processes on the machines before this one (0)"),
    ):
        _option(parser, key, sentence)


def _fill_tokenize(parser: Parser) -> None:
    from recbole_gr.experiment.tokenize_options import TokenizeOptions

    _data(parser)
    _option(
        parser,
        "tokenizer",
        "rkmeans, rvq, rqvae, letter, opq, pq, random, lsh, or another package's (rkmeans)",
        _names("tokenizers"),
    )
    _option(parser, "sid_file", "look at semantic IDs made elsewhere")
    for key, info in TokenizeOptions.model_fields.items():
        _option(parser, key, info.description or "")
    parser.add_argument("--verbose", action="store_true", help=VERBOSE)


def _fill_recommend(parser: Parser) -> None:
    from recbole_gr.recommend.options import RecommendOptions

    parser.add_argument("checkpoint", metavar="CHECKPOINT", nargs="?", help="what a run saved, saved/MODEL-....pth")
    for key, info in RecommendOptions.model_fields.items():
        _option(parser, key, info.description or "")
    parser.add_argument("--verbose", action="store_true", help="print the settings of the run, too")


def _fill_prepare(parser: Parser) -> None:
    from recbole_gr.prepare.options import SOURCE_NAMES, PrepareOptions
    from recbole_gr.prepare.table_options import TABLE, TableOptions

    names = (*SOURCE_NAMES, TABLE)
    parser.add_argument("source", metavar="SOURCE", nargs="?", help=", ".join(names), choices=names)
    parser.add_argument("file", metavar="FILE", nargs="?", help=TableOptions.model_fields["file"].description)
    for key, info in PrepareOptions.model_fields.items():
        if key != "source":
            _option(parser, key, info.description or "")
    of_tables = parser.add_argument_group("options of prepare csv FILE")
    for key, info in TableOptions.model_fields.items():
        if key not in ("file", *PrepareOptions.model_fields):
            of_tables.add_argument(f"--{key}", help=info.description)


def _fill_leaderboard(parser: Parser) -> None:
    _fill_board(parser, "boards")


def _fill_study(parser: Parser) -> None:
    _fill_board(parser, "studies")


def _fill_board(parser: Parser, kind: str) -> None:
    from recbole_gr.leaderboard.command import add_options

    add_options(parser)
    parser.add_argument("--key=value", dest="key", help="a setting of every cell, for example --data_path=DIR")
    for action in parser._actions:
        if action.dest == "board":
            action.completer = _names(kind)  # type: ignore[attr-defined]


def _fill_list(parser: Parser) -> None:
    kinds = ", ".join(f"{kind} ({sentence})" for kind, sentence in KINDS.items())
    parser.add_argument("kind", metavar="KIND", choices=tuple(KINDS), nargs="?", help=kinds)
    model = parser.add_argument("model", metavar="MODEL", nargs="?", help="the model whose settings are listed (TIGER)")
    model.completer = _names("models")  # type: ignore[attr-defined]
    _option(parser, "data_path", "where datasets are looked for (dataset)")


_COMMANDS: dict[str, tuple[str, Callable[[Parser], None], tuple[str, ...], str]] = {
    "run": (
        "train a model, measure it, and write a record of the run",
        _fill_run,
        (
            "recbole-gr run                                      # TIGER on the bundled ml-100k",
            "recbole-gr run --model=SASRec --epochs=30",
            "recbole-gr run --dataset=amazon-beauty-2014 --data_path=dataset --config_files=tiger_paper",
            "recbole-gr run --resume=saved/TIGER-....pth         # go on with an interrupted run",
        ),
        "docs/command_line.md, docs/settings.md",
    ),
    "tokenize": (
        "make semantic IDs without training a recommender, and a report on them",
        _fill_tokenize,
        (
            "recbole-gr tokenize --tokenizer=rqvae",
            "recbole-gr tokenize --config_files=tokenizer_tiger --dataset=amazon-beauty-2014 --data_path=dataset",
            "recbole-gr tokenize --sid_file=codes.json --compare_vectors=False",
            "recbole-gr tokenize --extend=semantic_ids.npz --load_items=all --sid_format=npz   # codes for new items",
        ),
        "docs/semantic_ids.md",
    ),
    "recommend": (
        "write what a trained model recommends, of ours or of RecBole's",
        _fill_recommend,
        (
            "recbole-gr recommend saved/TIGER-....pth                          # all users, 20 items each, as parquet",
            "recbole-gr recommend saved/BPR-....pth --k=10 --users=users.txt --output=lists.csv",
            "recbole-gr recommend saved/TIGER-....pth --history=valid --format=html    # a page, the test's hits marked",
            "recbole-gr recommend saved/TIGER-....pth --data_path=elsewhere --load_items=all   # settings of the run, changed",
        ),
        "docs/recommend.md",
    ),
    "prepare": (
        "make RecBole's atomic files, with text, from the raw files that a dataset is published in, or from a csv or parquet file",
        _fill_prepare,
        (
            "recbole-gr prepare amazon-2014 --category=Beauty",
            "recbole-gr prepare movielens-1m --download=False",
            "recbole-gr prepare yelp --raw_dir=downloads --text_columns=title,categories",
            "recbole-gr prepare csv sales.csv --user=customer --item=sku --time=date --items=products.csv",
        ),
        "docs/prepare_data.md",
    ),
    "leaderboard": (
        "run the cells of a board that have no record yet, and write its table and page",
        _fill_leaderboard,
        (
            "recbole-gr leaderboard ml-100k --jobs 2",
            "recbole-gr leaderboard ml-100k --dry-run",
            "recbole-gr leaderboard mine.yaml --data_path=dataset --format latex",
        ),
        "docs/leaderboards.md",
    ),
    "study": (
        "run a board whose rows are points of axes, and fit the scaling law to them",
        _fill_study,
        (
            "recbole-gr study scaling-ml-100k",
            "recbole-gr study llm-size-and-lora --dry-run         # with an estimate of the CPU hours",
            "recbole-gr study mine.yaml --data_path=dataset --format csv",
        ),
        "docs/scaling.md",
    ),
    "list": (
        "list what can be named on the command line, a line each",
        _fill_list,
        ("recbole-gr list recipes", "recbole-gr list models", "recbole-gr list settings SASRec"),
        "docs/command_line.md",
    ),
}
