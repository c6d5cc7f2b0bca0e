"""Loading of models by transformers without its progress bars and messages on the terminal."""

import contextlib
import logging


@contextlib.contextmanager
def quiet_loading():
    """Keeps the progress bars and messages of loading off the terminal; yields the list of what transformers said."""
    from transformers.utils import logging as transformers_logging

    messages = []

    class Collect(logging.Handler):
        def emit(self, record):
            messages.append(record.getMessage())

    loggers = {name: logging.getLogger(name) for name in ("transformers", "sentence_transformers")}
    before = {name: (logger.handlers, logger.propagate, logger.level) for name, logger in loggers.items()}
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        for logger in loggers.values():
            logger.handlers, logger.propagate = [Collect()], False
            logger.setLevel(logging.WARNING)
        yield messages
    finally:
        for name, logger in loggers.items():
            logger.handlers, logger.propagate, level = before[name]
            logger.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()
