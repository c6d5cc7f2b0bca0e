"""What a command says where: the log goes to stderr and a file, results go to stdout; bars and colours need a terminal."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator
from logging import ERROR, getLogger
from typing import Any

from recbole.config import Config
from recbole.utils import init_logger

from recbole_gr.integration.check_run import CheckedRun
from recbole_gr.integration.config import checked_run
from recbole_gr.integration.resume import state_file
from recbole_gr.utils.errors import DiskError, RecBoleGRError, as_disk_error, disk_fault
from recbole_gr.utils.processes import rank


def start_log(config: Config) -> None:
    """Begin the log of a command, as RecBole does, on stderr and in ``log/``, with what is run.

    A progress bar redraws itself for every batch, which in a file is a line for every batch: where stderr is no terminal,
    ``show_progress`` is False by default, and the log has RecBole's lines for every epoch. Colours are RecBole's, which
    leaves them out where stderr is no terminal.
    """
    checked = checked_run(config)
    assert checked is not None  # our commands make their Config by make_config
    given = checked.given
    if "show_progress" not in given.where:
        config["show_progress"] = bool(config["show_progress"]) and sys.stderr.isatty()
    if rank() != 0:  # the first process logs for all
        getLogger().setLevel(ERROR)
        return
    init_logger(config)
    logger = getLogger()
    logger.info(shlex.join(sys.argv))
    logger.info(config if given.values.get("verbose") is True else other_than_default(config, checked))
    for notice in checked.notices:
        logger.warning(notice)


def other_than_default(config: Config, checked: CheckedRun) -> str:
    """The settings that the user set to something else than their defaults, a line for each, and where they were set."""
    given, defaults = checked.given, config.internal_config_dict
    own = {"model", "dataset", "config_files", "verbose"}
    changed = [key for key in given.values if key not in own and (key not in defaults or config[key] != defaults[key])]
    lines = [f"  {key} = {config[key]!r} ({given.where[key]})" for key in changed]
    what = f"{config['model']} on {config['dataset']}, seed {config['seed']}"
    if not lines:
        return f"{what}, all settings by default (--verbose prints them)"
    return "\n".join([f"{what}; settings that differ from the defaults (--verbose prints all):", *lines])


@contextlib.contextmanager
def attach_checkpoint(trainer: Any) -> Iterator[None]:
    """A KeyboardInterrupt or DiskError from inside has an attribute ``checkpoint``: what a run can be resumed from, None if nothing.

    Raises:
        DiskError: in place of an OSError of a full or read-only disk.
    """
    try:
        yield
    except (KeyboardInterrupt, Exception) as error:
        path = getattr(trainer, "saved_model_file", "")
        checkpoint = path if os.path.isfile(state_file(path)) else None
        if isinstance(error, KeyboardInterrupt):
            vars(error)["checkpoint"] = checkpoint
            raise
        if (fault := disk_fault(error)) is None or isinstance(error, RecBoleGRError) and not isinstance(error, DiskError):
            raise
        told = as_disk_error(fault)
        told.checkpoint = checkpoint
        raise told from error
