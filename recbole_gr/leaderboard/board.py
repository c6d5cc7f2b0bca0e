"""What a board asks for: a dataset, a protocol that holds for all, and rows of models with their settings and seeds."""

import hashlib
import json
import re
import shlex
from dataclasses import dataclass, replace
from functools import cached_property

from recbole_gr.leaderboard.arguments import as_argument
from recbole_gr.models.registry import runtime_keys


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Args:
        name (str): as printed.
        model (str): as in ``--model``.
        settings (dict): what differs from the model's defaults, config files read, without what keys of the board say.
        seeds (tuple of int): one cell each.
        baseline (bool): whether it is one of those that the others are tested against.
        search (dict): the space of RecBole's HyperTuning; None: settings as they are.
        variant (dict): what the board varies side by side, for example ``{"tie_order": "shuffled"}``.
    """

    name: str
    model: str
    settings: dict
    seeds: tuple
    baseline: bool
    search: dict = None
    variant: dict = None


@dataclass(frozen=True)
class Board:
    """A leaderboard as its yaml file describes it; see ``docs/leaderboards.md`` for the keys."""

    name: str
    dataset: str
    description: str
    protocol: dict
    metrics: tuple
    topk: tuple
    main_metric: str
    rows: tuple
    published: tuple
    id_level: bool
    effort: dict
    file: str
    given: dict

    @property
    def command(self):
        """What makes the page anew."""
        given = [f"--{key}={as_argument(value)}" for key, value in self.given.items() if key not in runtime_keys()]
        return shlex.join(["recbole-gr", "leaderboard", self.file, *given])

    def cells(self):
        """All cells, row by row."""
        return [Cell(self, row, seed) for row in self.rows for seed in row.seeds]


@dataclass(frozen=True)
class Cell:
    """One run: a row with a seed.

    Args:
        board (Board): whose it is.
        row (Row): its row.
        seed (int): its seed.
        found (dict): settings that a search found or tries.
    """

    board: Board
    row: Row
    seed: int
    found: dict = None

    @cached_property
    def settings(self):
        """All that differs from the defaults: protocol, row, variant, what a search found, the seed."""
        return {**self._asked, **(self.found or {})}

    @property
    def _asked(self):
        row = {**self.board.protocol, **self.row.settings, **(self.row.variant or {}), **self.board.given}
        protocol = {
            "metrics": list(self.board.metrics),
            "topk": list(self.board.topk),
            "valid_metric": self.board.main_metric,
        }
        return {**row, **protocol, "seed": self.seed}

    @property
    def key(self):
        """The name of its files: readable, and with a digest of all that shapes the result."""
        # what a search finds follows from its space and effort, and is not known before
        settings = self._asked if self.row.search else self.settings
        shaping = {key: value for key, value in settings.items() if key not in runtime_keys()}
        searched = [self.row.search, self.board.effort, self.row.seeds[0]] if self.row.search else []
        what = json.dumps([self.board.dataset, self.row.model, shaping, *searched], sort_keys=True)
        digest = hashlib.sha256(what.encode()).hexdigest()[:10]
        words = [self.row.name, *map(str, (self.row.variant or {}).values())]
        return f"{re.sub('[^A-Za-z0-9]+', '-', ' '.join(words)).strip('-')}-seed{self.seed}-{digest}"

    @property
    def first(self):
        """The first cell of its row, whose search all seeds share."""
        return replace(self, seed=self.row.seeds[0])

    @property
    def command(self):
        """The command that repeats the run."""
        written = [f"--{key}={as_argument(value)}" for key, value in self.settings.items() if key not in runtime_keys()]
        what = [f"--model={self.row.model}", f"--dataset={self.board.dataset}"]
        return shlex.join(["recbole-gr", "run", *what, *written])
