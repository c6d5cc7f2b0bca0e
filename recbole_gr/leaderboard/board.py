"""What a board asks for: a dataset, a protocol that holds for all, and rows of models with their settings and seeds."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from recbole_gr.leaderboard.arguments import as_arguments, publishable, publishable_path
from recbole_gr.models.registry import runtime_keys
from recbole_gr.utils.errors import SettingError

#: What the pages, and the command before it runs anything, say of a board without a baseline.
NO_BASELINE = (
    "Nothing is tested: no row is a baseline, for all are generative models. Give the row that the others shall be tested against "
    "baseline: True in the board's file; records stay."
)


#: Characters of the readable part of a cell's name; a name of a file may have 255 bytes, endings included.
LONGEST = 150


class Search(BaseModel):
    """The effort of every row that has a search space: the key ``search`` of a board."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    trials: int = Field(default=10, ge=1)
    algorithm: Literal["random", "bayes", "exhaustive"] = "random"
    seed: int = Field(default=2020, ge=0)

    @model_validator(mode="after")
    def _exhaustive_tries_all(self) -> Search:
        if self.algorithm == "exhaustive":
            for key in {"trials", "seed"} & self.model_fields_set:
                raise SettingError(
                    key, getattr(self, key), "has no use with algorithm=exhaustive, which tries every combination"
                )
        return self


class LawKeys(BaseModel):
    """How the scaling law is fitted to the points of a study: the key ``law``."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    metric: str | None = None
    resamples: int = Field(default=300, ge=20)
    seed: int = Field(default=2020, ge=0)


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Args:
        name: as printed.
        model: as in ``--model``.
        settings: what differs from the model's defaults, config files included, keys of the board left out.
        seeds: one cell each.
        baseline: whether it is one of those that the others are tested against.
        search: the search space, as RecBole's HyperTuning takes it; None: settings as they are.
        variant: what the board varies side by side, for example ``{"tie_order": "shuffled"}``.
        sweep: the name of the sweep that the row is a point of; None: it is none.
        axes: the values of the axes there; they are among the settings.
    """

    name: str
    model: str
    settings: dict[str, Any]
    seeds: tuple[int, ...]
    baseline: bool
    search: dict[str, dict[str, Any]] | None = None
    variant: dict[str, Any] | None = None
    sweep: str | None = None
    axes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Board:
    """A leaderboard as its yaml file describes it; see ``docs/leaderboards.md`` for the keys.

    Args:
        file: the yaml file or the short name, as the user wrote it.
        given: settings of the command line, for every cell.
        effort: that of every row that has a search space.
        options: of the command besides, where they are not the default.
        law: how the scaling law is fitted to the rows of a study.
    """

    name: str
    dataset: str
    description: str
    protocol: dict[str, Any]
    metrics: tuple[str, ...]
    topk: tuple[int, ...]
    main_metric: str
    rows: tuple[Row, ...]
    published: tuple[str, ...]
    id_level: bool
    effort: Search
    file: str
    given: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    law: LawKeys = field(default_factory=LawKeys)

    @property
    def is_study(self) -> bool:
        """Whether rows of it are points of axes."""
        return any(row.sweep is not None for row in self.rows)

    @property
    def command(self) -> str:
        """The command that writes the pages again, as pages print it: without places of this machine."""
        options = {key: publishable_path(value) for key, value in self.options.items()}
        arguments = as_arguments({**publishable(self.given), **options})
        return shlex.join(
            ["recbole-gr", "study" if self.is_study else "leaderboard", publishable_path(self.file), *arguments]
        )

    def cells(self) -> list[Cell]:
        """All cells, row by row."""
        return [Cell(self, row, seed) for row in self.rows for seed in row.seeds]


@dataclass(frozen=True)
class Cell:
    """A row with a seed: one run.

    Args:
        board: the board.
        row: the row.
        seed: the seed.
        found: settings that a search found or tries.
    """

    board: Board
    row: Row
    seed: int
    found: dict[str, Any] | None = None

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All that differs from the defaults: protocol, row, variant, what a search found, the seed."""
        return {**self._asked, **(self.found or {})}

    @property
    def _asked(self) -> dict[str, Any]:
        row = {**self.board.protocol, **self.row.settings, **(self.row.variant or {}), **self.board.given}
        protocol = {
            "metrics": list(self.board.metrics),
            "topk": list(self.board.topk),
            "valid_metric": self.board.main_metric,
        }
        return {**row, **protocol, "seed": self.seed}

    @cached_property
    def key(self) -> str:
        """The name of its files: readable, with a digest of everything that shapes the result."""
        # what a search finds follows from its space and effort, and is not known before
        settings = self._asked if self.row.search else self.settings
        runtime = runtime_keys()
        shaping = {key: value for key, value in settings.items() if key not in runtime}
        searched = [self.row.search, self.board.effort.model_dump(), self.row.seeds[0]] if self.row.search else []
        what = json.dumps([self.board.dataset, self.row.model, shaping, *searched], sort_keys=True)
        digest = hashlib.sha256(what.encode()).hexdigest()[:10]
        words = [self.row.name, *map(str, (self.row.variant or {}).values())]
        readable = re.sub("[^A-Za-z0-9]+", "-", " ".join(words)).strip("-")[:LONGEST]
        return f"{readable}-seed{self.seed}-{digest}"

    @property
    def first(self) -> Cell:
        """The first cell of its row, whose search all seeds share."""
        return replace(self, seed=self.row.seeds[0])

    @property
    def trials(self) -> int:
        """How many settings the search of its row tries; 0 without one."""
        if self.row.search and self.board.effort.algorithm == "exhaustive":
            return prod(len(values) for values in self.row.search.get("choice", {}).values())
        return self.board.effort.trials if self.row.search else 0

    @property
    def command(self) -> str:
        """The command that repeats the run, as pages print it: without places of this machine."""
        return self._command(publishable(self.settings))

    @property
    def command_here(self) -> str:
        """The command that repeats the run on this machine."""
        return self._command(self.settings)

    def _command(self, settings: dict[str, Any]) -> str:
        what = [f"--model={self.row.model}", f"--dataset={self.board.dataset}"]
        return shlex.join(["recbole-gr", "run", *what, *as_arguments(settings)])
