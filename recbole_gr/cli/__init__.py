# PYTHON_ARGCOMPLETE_OK
"""The command line: ``recbole-gr run --model=TIGER --key=value ...``, ``tokenize``, ``recommend``, ``prepare``, ``leaderboard``,
``study``, ``list``.

What a command launches is imported after its arguments have been checked: helps and errors need neither torch nor RecBole.
"""

from __future__ import annotations

import difflib
import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from recbole_gr.cli.arguments import Arguments, read_arguments
from recbole_gr.cli.parsers import KINDS, make_parser
from recbole_gr.utils.errors import DiskError, RecBoleGRError, SettingError, SettingErrors, as_disk_error, disk_fault
from recbole_gr.utils.process_group import own_place
from recbole_gr.utils.signals import ending, signals_stop

__all__ = ["main", "run_command"]

#: What is said after the traceback of an error that nobody expected.
BUG = (
    "bug: this is no fault of your settings or files, or it should have been told in one line. Please report it with the lines "
    "above, the command and the versions (recbole-gr --version)."
)

#: Options of a command that the others do not have.
OF_RUN = ("model", "nproc", "world_size", "group_offset", "ip", "port")
OF_TOKENIZE = ("output_dir", "sid_format", "compare_vectors", "extend")
OF_RECOMMEND = ("verbose", "k", "users", "history", "exclude_seen", "candidates", "format", "output", "tree_user")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the command ``recbole-gr``.

    Returns:
        The exit status: 0, 1 for a bug, after its traceback, 2 for an error of the user's or of a disk, 130 for Ctrl-C, 143 for SIGTERM.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "_ARGCOMPLETE" in os.environ:
        from recbole_gr.cli.completion import complete

        complete()
    if not given or given[0] in ("-h", "--help"):
        make_parser()[0].print_help(sys.stdout if given else sys.stderr)
        return 0 if given else 2
    if given[0] == "--version":
        from recbole_gr.version import __version__

        print(f"recbole_gr {__version__}")
        return 0
    if given[0] not in COMMANDS:
        near = difflib.get_close_matches(given[0], COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(COMMANDS)}"
        print(f"error: recbole-gr has no command {given[0]!r}; {hint}", file=sys.stderr)
        return 2
    return _launch(given[0], given[1:], [given[0]])


def run_command(arguments: Sequence[str]) -> int:
    """``recbole-gr run`` without its first word, as ``run_recbole_gr.py`` is; returns the exit status."""
    return _launch("run", arguments, [])


def parse(arguments: Sequence[str]) -> dict[str, str]:
    """Values by key, all of them text; raises a RecBoleGRError for an argument that is no setting."""
    return read_arguments(arguments).given


def _launch(command: str, arguments: Sequence[str], words: list[str]) -> int:
    if any(argument in ("-h", "--help") for argument in arguments):
        _print(make_parser()[1][command].format_help().rstrip("\n"))
        return 0
    launch, flags, most = COMMANDS[command]
    try:
        with signals_stop():
            read = read_arguments(arguments, flags, most)
            # the record of a run tells its command from here, and spawned processes read the settings from here
            sys.argv = [sys.argv[0], *words, *read.normalised()]
            launch(read)
    except Exception as error:
        return _failed(error, command)
    except KeyboardInterrupt as interrupt:
        word, status = ending(interrupt)
        print(f"\n{word}", file=sys.stderr)
        checkpoint = getattr(interrupt, "checkpoint", None)
        if checkpoint is not None:
            print(f"to go on after the last validated epoch:\n  {resuming_command(checkpoint)}", file=sys.stderr)
        return status
    return 0


def _failed(error: Exception, command: str) -> int:
    """Print an error, in one line where it is of the user's or of a disk; returns the exit status."""
    told = error if isinstance(error, RecBoleGRError) or (isinstance(error, OSError) and disk_fault(error)) else None
    if told is None:
        from recbole_gr.integration.refusals import as_refusal

        told = as_refusal(error)
    if told is None:
        traceback.print_exception(error)
        print(BUG, file=sys.stderr)
        return 1
    for line in _lines_of(told, command):
        print(f"error: {line}", file=sys.stderr)
    return 2


def _lines_of(error: RecBoleGRError | OSError, command: str) -> list[str]:
    """An error as it is printed; that of a disk with the command that goes on once there is room."""
    if isinstance(error, OSError):
        error = as_disk_error(error)
    if isinstance(error, DiskError) and error.checkpoint is not None:
        return [f"{error}; to go on after the last validated epoch: {resuming_command(error.checkpoint)}"]
    if isinstance(error, DiskError) and command in ("leaderboard", "study"):
        return [f"{error}; the same command goes on with what the {command.replace('leader', '')} lacks"]
    return str(error).splitlines()


def resuming_command(checkpoint: str) -> str:
    """The command of this process, with ``--resume``."""
    program = sys.argv[0]
    start = ["python", program] if program.endswith(".py") else [os.path.basename(program)]
    settings = [argument for argument in sys.argv[1:] if not argument.startswith("--resume=")]
    return shlex.join([*start, *settings, f"--resume={checkpoint}"])


def _print(text: str) -> None:
    """Print what may be long; a reader that has seen enough, as ``head`` has, is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end


def launch_run(arguments: Arguments) -> None:
    """Run in this process, which torchrun may have made one of several, or in ``nproc`` that are started here."""
    given = arguments.given
    _refuse(given, OF_TOKENIZE, "run")
    place, group = own_place(), _group_options(given)
    what = given.get("model", "TIGER"), given.get("dataset", "ml-100k"), given.get("config_files", "").split()
    if place is not None:
        for key in group.keys() & given.keys():
            raise SettingError(
                key, given[key], "belongs to torchrun (--nproc_per_node, --nnodes), which started this process"
            )
    else:
        _check(*what, arguments)  # of several processes each would say what it found; the run itself lets one speak

    if place is not None or (group["nproc"] == 1 and "world_size" not in group):
        from recbole_gr.experiment.run import run

        result: dict[str, Any] | None = run(*what)
        first = place is None or place.rank == 0
    else:
        from recbole_gr.experiment.launch import spawn_runs

        result = spawn_runs(*what, **group)
        first = result is not None  # on the machine of the first process
    if first and result is not None:
        print("\n".join(result_lines(result)))


def _group_options(given: dict[str, str]) -> dict[str, Any]:
    """What the command line says of several processes, for :func:`~recbole_gr.experiment.launch.spawn_runs`."""
    group: dict[str, Any] = {"nproc": 1}
    for key, least, most in (("nproc", 1, 65536), ("world_size", 1, 65536), ("group_offset", 0, 65535), ("port", 1, 65535)):
        if key not in given:
            continue
        if not given[key].lstrip("-").isdigit():
            raise SettingError(key, given[key], "must be a whole number (set on the command line)")
        if key == "world_size" and given[key] == "-1":  # RecBole's default
            continue
        if not least <= int(given[key]) <= most:
            raise SettingError(key, int(given[key]), f"must be from {least} to {most} (set on the command line)")
        group[key] = int(given[key])
    if "ip" in given:
        group["ip"] = given["ip"]
    return group


def result_lines(result: dict[str, Any]) -> list[str]:
    """What a run ends with on stdout: each line a name, and what it has of values and paths."""
    lines = []
    for name, key in (("valid", "best_valid_result"), ("test", "test_result")):
        if result[key]:
            lines.append(f"{name:12}" + "  ".join(f"{metric}={value:.4f}" for metric, value in result[key].items()))
    return lines + [f"{key:12}{result[key]}" for key in ("record", "checkpoint") if result.get(key)]


def launch_tokenize(arguments: Arguments) -> None:
    """Make semantic IDs and a report on them."""
    from recbole_gr.experiment.tokenize_options import check_tokenize_options
    from recbole_gr.settings.values import parse_text

    given = arguments.given
    _refuse(given, OF_RUN, "tokenize")
    what = given.get("dataset", "ml-100k"), given.get("config_files", "").split()
    options: dict[str, Any] = {key: parse_text(given[key]) for key in OF_TOKENIZE if key in given}
    check_tokenize_options(options)
    _check("TIGER", *what, arguments)
    from recbole_gr.experiment.tokenize_dataset import tokenize_dataset

    result = tokenize_dataset(*what, **options)
    for name, key in (("codes", "semantic_ids"), ("measures", "measures_file"), ("report", "report")):
        print(f"{name:12}{result[key]}")


def launch_recommend(arguments: Arguments) -> None:
    """Write what a trained model recommends."""
    from recbole_gr.integration.check_run import known_keys
    from recbole_gr.recommend.options import check_recommend_options
    from recbole_gr.settings.check import unknown_keys
    from recbole_gr.settings.values import parse_text

    given = arguments.given
    as_text = ("users", "candidates", "output", "tree_user")  # a user may be called 12
    options: dict[str, Any] = {key: text if key in as_text else parse_text(text) for key, text in given.items()}
    verbose = options.pop("verbose", False) is True
    changed = {key: options.pop(key) for key in options.keys() - {*OF_RECOMMEND}}
    unknown = unknown_keys(changed, known_keys(changed) | {*OF_RECOMMEND})
    if unknown:
        raise SettingErrors(
            [SettingError(key, changed[key], f"is no option of recommend, nor a setting{near}") for key, near in unknown]
        )
    checkpoint = arguments.positional[0] if arguments.positional else None
    check_recommend_options(checkpoint, options)
    from recbole_gr.recommend.export import recommend_to_file

    done = recommend_to_file(str(checkpoint), verbose=verbose, config_dict=changed, **options)
    print(f"{'users':12}{done['users']:,}, {done['rows']:,} items; lists proven: {done['certified']:,}")
    print(f"{'speed':12}{done['users_per_second']:,.1f} users per second, {done['seconds']:.1f} seconds")
    print(f"{'output':12}{done['output']}")


def launch_prepare(arguments: Arguments) -> None:
    """Make atomic files from a source's raw files, or from a table."""
    from recbole_gr.prepare.command import prepare

    prepare({**arguments.given, **dict(zip(("source", "file"), arguments.positional))})


def launch_leaderboard(arguments: Arguments) -> None:
    """Run what a board lacks, and write its pages."""
    from recbole_gr.leaderboard import command

    command.launch_leaderboard(arguments.normalised(bare_flags=True))


def launch_study(arguments: Arguments) -> None:
    """Run what a study lacks, fit the scaling law to it, and write its pages."""
    from recbole_gr.leaderboard import command

    command.launch_leaderboard(arguments.normalised(bare_flags=True), "study")


def launch_list(arguments: Arguments) -> None:
    """Print what can be named."""
    kind, *named = arguments.positional or [""]
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"must be one of {', '.join(KINDS)}"
        raise SettingError("kind", kind, hint)
    _refuse(arguments.given, sorted(arguments.given.keys() - {"data_path", "model"}), "list")
    model = named[0] if named else arguments.given.get("model", "TIGER")
    if kind != "settings" and (named or "model" in arguments.given):
        raise RecBoleGRError(f"argument {model!r}: only recbole-gr list settings takes a model")
    from recbole_gr.cli.listing import lines_of

    _print("\n".join(lines_of(kind, model, arguments.given.get("data_path", "dataset"))))


def _check(model: str, dataset: str, config_files: list[str], arguments: Arguments) -> None:
    """Say what is wrong before RecBole and torch are imported, which takes seconds."""
    from recbole_gr.integration.check_run import check_run

    check_run(model, dataset, config_files, arguments=arguments.normalised())


def _refuse(given: dict[str, str], keys: Sequence[str], command: str) -> None:
    for key in keys:
        if key in given:
            raise RecBoleGRError(f"argument '--{key}={given[key]}': recbole-gr {command} has no such option")


#: By name: what is launched, the flags it has, and how many arguments without a key.
COMMANDS = {
    "run": (launch_run, ("verbose",), 0),
    "tokenize": (launch_tokenize, ("verbose",), 0),
    "recommend": (launch_recommend, ("verbose",), 1),
    "prepare": (launch_prepare, (), 2),
    "leaderboard": (launch_leaderboard, ("dry_run",), 1),
    "study": (launch_study, ("dry_run",), 1),
    "list": (launch_list, (), 2),
}
