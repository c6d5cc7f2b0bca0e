"""The command line: ``recbole-gr run --model=TIGER --key=value ...``, ``tokenize``, ``prepare``, ``leaderboard``."""

import sys

from recbole_gr.utils.errors import RecBoleGRError

USAGE = """usage: recbole-gr run [--model=NAME] [--dataset=NAME] [--config_files="A.yaml B.yaml"] [--key=value ...]
       recbole-gr tokenize [--dataset=NAME] [--tokenizer=NAME] [--config_files="A.yaml B.yaml"] [--key=value ...]
       recbole-gr prepare SOURCE [--category=NAME] [--raw_dir=DIR] [--output_dir=DIR] [--core=K] [--key=value ...]
       recbole-gr leaderboard BOARD.yaml [--jobs N] [--dry-run] [--format csv|latex] [--results_dir DIR] [--key=value ...]

run trains a model, measures it and writes a record:
  --model         TIGER (the default) or any model of RecBole, for example SASRec, BPR, Pop, LightGCN
  --dataset       ml-100k (the default, bundled) or a folder NAME with NAME.inter and NAME.item under --data_path
  --config_files  yaml files with settings
  --nproc, --ip, --port, --world_size, --group_offset   as RecBole's run_recbole.py: processes, one per GPU
  --key=value     any setting of RecBole or of properties/model/NAME.yaml; --resume=CHECKPOINT goes on with a run

tokenize makes semantic IDs without training a recommender, and a report on them:
  --tokenizer     rkmeans, rvq, rqvae, opq, pq, random, lsh, or one that another package brings
  --sid_file      look at semantic IDs made elsewhere; with --compare_vectors=False no vectors are made for it
  --output_dir    results/tokenizers/DATASET-TOKENIZER by default
  --sid_format    json (the default), tokens (json of "<a_183>"), pt, parquet or npz

prepare makes RecBole's atomic files, with text, from the raw files that a data set is published in:
  SOURCE          amazon-2014, amazon-2018, amazon-2023, movielens-100k, movielens-1m, movielens-20m, movielens-32m, yelp, steam
  --category      of Amazon, as in the names of its files: Beauty, Sports_and_Outdoors, ...
  --raw_dir       where the raw files lie or are downloaded to; raw/SOURCE by default
  --output_dir    where NAME/NAME.inter and NAME/NAME.item go; dataset by default, where RecBole looks
  --core          users and items with fewer interactions are left out, again and again; 0 keeps all.
                  5 by default, and 0 for MovieLens, whose published sizes are those of the whole
  --text_columns  of title,brand,categories,description,price or what the source has; all by default, none: no NAME.item
  --variant       5core or all (Amazon 2014, 2018); reviews, ratings or splits (2023); by default the one that is there
  --name          of the data set; amazon-beauty-2014 and the like by default
  --download      True (the default) or False: use only what lies in raw_dir

leaderboard runs the cells of a board that have no record yet, and writes its table and page:
  --jobs N        cells that run at once, spread over the GPUs there are
  --dry-run       only list what would run, and how long like cells took
  --format        csv or latex, besides results/BOARD.md and results/BOARD.html
  --results_dir   results by default; the records lie in results/BOARD/cells
  --key=value     a setting of every cell, for example --data_path=DIR
"""


def main(arguments=None):
    """Entry point of the command ``recbole-gr``; returns the exit status: 0, 2 for an error of the user's, 130 for Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    command = arguments.pop(0) if arguments and not arguments[0].startswith("-") else None
    if command not in COMMANDS:
        print(USAGE, end="", file=sys.stdout if command is None else sys.stderr)
        return 0 if command is None and arguments[:1] in ([], ["-h"], ["--help"]) else 2
    return run_command(arguments, COMMANDS[command])


def run_command(arguments, launch=None):
    """``recbole-gr run``, and ``run_recbole_gr.py``; prints one line for an error of the user's.

    Args:
        arguments (list of str): what stands after the command.
        launch (callable): takes the arguments; None: the launch of a run.
    """
    if any(argument in ("-h", "--help") for argument in arguments):
        print(USAGE, end="")
        return 0
    try:
        (launch or launch_run)(arguments)
    except RecBoleGRError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def parse_settings(arguments):
    """As :func:`parse`, and leave the arguments where RecBole's Config reads the settings from."""
    given = parse(arguments)
    sys.argv = [sys.argv[0], *arguments]
    return given


def parse(arguments):
    """Split ``--key=value`` arguments.

    Returns:
        dict: values by key, all of them text; what does not concern the launch is read by RecBole's Config.

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
    return given


def launch_run(arguments):
    """Run in this process, or in ``nproc`` spawned ones that form one ``torch.distributed`` group, as RecBole does."""
    from recbole_gr.experiment.processes import spawn_runs
    from recbole_gr.experiment.run import run

    given = parse_settings(arguments)
    _refuse(given, ("output_dir", "sid_format", "compare_vectors"), "run")
    numbers = {"nproc": 1, "world_size": -1, "group_offset": 0}
    for key in numbers.keys() & given.keys():
        if not given[key].lstrip("-").isdigit():
            raise RecBoleGRError(f"{key}={given[key]!r}: must be a whole number")
        numbers[key] = int(given[key])
    nproc, world_size, offset = numbers.values()
    what = given.get("model", "TIGER"), given.get("dataset", "ml-100k"), given.get("config_files", "").split()
    if nproc == 1 and world_size <= 0:
        return run(*what)
    group = {"nproc": nproc, "world_size": nproc if world_size == -1 else world_size, "offset": offset}
    return spawn_runs(*what, {**group, "ip": given.get("ip", "localhost"), "port": given.get("port", "5678")})


def launch_tokenize(arguments):
    """Make semantic IDs and a report on them."""
    from recbole_gr.experiment.tokenize_dataset import tokenize_dataset

    given = parse_settings(arguments)
    _refuse(given, ("model", "nproc", "world_size", "group_offset", "ip", "port"), "tokenize")
    compare_vectors = {"True": True, "False": False}.get(given.get("compare_vectors", "True"), given.get("compare_vectors"))
    return tokenize_dataset(
        given.get("dataset", "ml-100k"),
        given.get("config_files", "").split(),
        output_dir=given.get("output_dir"),
        sid_format=given.get("sid_format", "json"),
        compare_vectors=compare_vectors,
    )


def launch_prepare(arguments):
    """Make atomic files from a source's raw files."""
    from recbole_gr.prepare.command import prepare

    named = bool(arguments) and not arguments[0].startswith("-")
    source = {"source": arguments[0]} if named else {}
    prepare({**parse(arguments[named:]), **source})


def launch_leaderboard(arguments):
    """Run what a board lacks, and write its pages."""
    from recbole_gr.leaderboard import command

    command.launch_leaderboard(arguments)


def _refuse(given, keys, command):
    for key in keys:
        if key in given:
            raise RecBoleGRError(f"argument '--{key}={given[key]}': recbole-gr {command} has no such option")


COMMANDS = {"run": launch_run, "tokenize": launch_tokenize, "prepare": launch_prepare, "leaderboard": launch_leaderboard}
