"""The command line: ``recbole-gr run --model=TIGER --dataset=ml-100k --key=value ...``."""

import sys

from recbole_gr.errors import RecBoleGRError

USAGE = """usage: recbole-gr run [--model=NAME] [--dataset=NAME] [--config_files="A.yaml B.yaml"] [--key=value ...]

  --model         TIGER (the default) or any model of RecBole, for example SASRec, BPR, Pop, LightGCN
  --dataset       ml-100k (the default, bundled) or a folder NAME with NAME.inter and NAME.item under --data_path
  --config_files  yaml files with settings
  --nproc, --ip, --port, --world_size, --group_offset   as RecBole's run_recbole.py: processes, one per GPU
  --key=value     any setting of RecBole or of properties/model/NAME.yaml; --resume=CHECKPOINT goes on with a run
"""
COMMANDS = ("run",)


def main(arguments=None):
    """Entry point of the command ``recbole-gr``; returns the exit status: 0, or 2 for an error of the user's."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    command = arguments.pop(0) if arguments and not arguments[0].startswith("-") else None
    if command not in COMMANDS:
        print(USAGE, end="", file=sys.stdout if command is None else sys.stderr)
        return 0 if command is None and arguments[:1] in ([], ["-h"], ["--help"]) else 2
    return run_command(arguments)


def run_command(arguments):
    """``recbole-gr run``, and ``run_recbole_gr.py``; prints one line for an error of the user's."""
    if any(argument in ("-h", "--help") for argument in arguments):
        print(USAGE, end="")
        return 0
    try:
        launch = parse(arguments)
        sys.argv = [sys.argv[0], *arguments]  # RecBole's Config reads the settings from here
        launch_run(**launch)
    except RecBoleGRError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def parse(arguments):
    """Split ``--key=value`` arguments into what launches the run; the rest is left to RecBole's Config.

    Raises:
        RecBoleGRError: an argument that RecBole's Config would ignore.
    """
    given = {}
    for argument in arguments:
        key, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not equals or "=" in value:
            raise RecBoleGRError(f"argument {argument!r}: settings are written --key=value, without a further '='")
        if key in given:
            raise RecBoleGRError(f"argument {argument!r}: {key} is given twice")
        given[key] = value
    launch = {
        "model": given.get("model", "TIGER"),
        "dataset": given.get("dataset", "ml-100k"),
        "config_file_list": given.get("config_files", "").split(),
    }
    for key, default in (("nproc", 1), ("world_size", -1), ("group_offset", 0)):
        if not given.get(key, str(default)).lstrip("-").isdigit():
            raise RecBoleGRError(f"{key}={given[key]!r}: must be a whole number")
        launch[key] = int(given.get(key, default))
    launch["ip"], launch["port"] = given.get("ip", "localhost"), given.get("port", "5678")
    return launch


def launch_run(model, dataset, config_file_list, nproc, world_size, ip, port, group_offset):
    """Run in this process, or in ``nproc`` spawned ones that form one ``torch.distributed`` group, as RecBole does."""
    from recbole_gr.quick_start import run
    from recbole_gr.workers import spawn_runs

    if nproc == 1 and world_size <= 0:
        return run(model, dataset, config_file_list)
    group = {"nproc": nproc, "world_size": nproc if world_size == -1 else world_size, "ip": ip, "port": port}
    return spawn_runs(model, dataset, config_file_list, {**group, "offset": group_offset})
