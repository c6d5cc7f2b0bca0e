"""Draws docs/architecture.md from the imports of the code: ``python docs/draw_architecture.py``.

A graph of the folders of recbole_gr, and a table of what each imports. ``tests/test_architecture.py`` draws them again and finds
no difference, and holds the order of :data:`FOLDERS`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "recbole_gr"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- drawn by docs/draw_architecture.py -->\n", "<!-- end of what is drawn -->\n"

#: Every folder may import those behind it.
FOLDERS = {
    "cli": "the commands, their helps and completion",
    "leaderboard": "board file, runner, measures, significance, summary, columns; `render/` holds the outputs",
    "experiment": "one run: run, record, monitor, target ranks; semantic IDs without a run",
    "recommend": "what a trained model recommends: for users or histories, as a table, files and a page",
    "prepare": "raw public files to atomic files",
    "integration": "RecBole's insides: registration, patches, config, resume, worker processes",
    "models": "base classes, trainer, registry, and one folder per model",
    "language_model": "loading, scratch models, LoRA, prompts, branch attention, cache of prompts",
    "data": "dataset, dataloader, time order, seen items, item text, where vectors and semantic IDs come from",
    "decoding": "tries, beam search, title search, tie breaking, and the protocols between them",
    "tokenizers": "rkmeans, rvq, rqvae, product codes, baselines; collision rules, measures, files, report",
    "vectors": "text encoders, vector files, PCA and whitening, access to the model hub",
    "scaling": "the scaling law: fits, intervals, comparison, what it says in words; plain numpy and scipy",
    "settings": "what can be set: fields, values, checks, RecBole's own keys",
    "utils": "cache, atomic files, arrays, errors",
}


@dataclass(frozen=True)
class Import:
    """An import statement: the module that has it, what it imports, and whether it stands in a function."""

    module: str
    imported: str
    late: bool

    @property
    def folders(self) -> tuple[str, str]:
        """Of the module, and of what is imported where that is ours."""
        parts = (*self.module.split("."), ""), (*self.imported.split("."), "")
        return parts[0][1], parts[1][1] if parts[1][0] == PACKAGE.name else parts[1][0]


def imports() -> list[Import]:
    """All imports of the package, but those for the type checker only."""
    paths = {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
    found = []
    for module, path in paths.items():
        for statement, late in _statements(ast.parse(path.read_text(encoding="utf-8"))):
            names = [name.name for name in statement.names]
            if isinstance(statement, ast.ImportFrom):
                base = statement.module or ""
                names = [f"{base}.{name}" if f"{base}.{name}" in paths else base for name in names]
            found += [Import(module, name, late) for name in names]
    return found


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _statements(node: ast.AST, late: bool = False) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, late
        yield from _statements(child, late or isinstance(child, ast.FunctionDef | ast.Lambda))


def drawn() -> str:
    """What stands between the markers of the page."""
    arrows: dict[str, set[str]] = {folder: set() for folder in FOLDERS}
    recbole = set()
    for one in imports():
        above, below = one.folders
        if above in FOLDERS and below in FOLDERS and above != below:
            arrows[above].add(below)
        if below == "recbole":
            recbole.add(above)
    lines = ["```mermaid", "flowchart TD"]
    for above, direct in arrows.items():
        further = {last for below in direct for last in _reached(below, arrows)}
        lines += [f"  {above} --> {below}" for below in FOLDERS if below in direct - further]
    lines += [f"  {folder}:::recbole" for folder in FOLDERS if folder in recbole]
    lines += ["  classDef recbole stroke-width:3px", "```", "", "| folder | what it holds | imports |", "|---|---|---|"]
    for folder, purpose in FOLDERS.items():
        below = [
            *(["**recbole**"] if folder in recbole else []),
            *(f"`{name}`" for name in FOLDERS if name in arrows[folder]),
        ]
        lines.append(f"| `{folder}/` | {purpose} | {', '.join(below) or '-'} |")
    return "\n".join(lines) + "\n"


def _reached(folder: str, arrows: dict[str, set[str]]) -> set[str]:
    return arrows[folder] | {last for below in arrows[folder] for last in _reached(below, arrows)}


def page() -> str:
    """The page, drawn anew."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + drawn() + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
