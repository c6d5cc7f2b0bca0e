"""What is known of a source: its files, and what their lines mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: What ``begin`` of a :class:`RawFile` returns: how a line is parsed, and whether the first line is a header.
Begun = tuple[Callable[[str], Any], bool]


@dataclass(frozen=True)
class RawFile:
    """A file as its publisher ships it; ``{category}`` in its names stands for the category.

    Args:
        name: of the file; with ``archive``, of the member inside it.
        begin: takes the first line (str) and returns ``(parse, is_header)``; ``parse`` takes a line and
            returns an interaction ``(user, item, value, seconds)`` or an item ``(item, {column: cell})``, all of them
            text, or None for an item that is not wanted, and raises for a broken line. It raises a DataError where
            the first line shows that this is another kind of file. For metadata it also takes the wanted items.
        encoding: of the text.
        archive: the zip that the file comes in.
    """

    name: str
    begin: Callable[..., Begun]
    encoding: str = "utf-8"
    archive: str | None = None

    def named(self, category: str | None) -> RawFile:
        """The same with the category in its names."""
        archive = self.archive and self.archive.format(category=category)
        return RawFile(self.name.format(category=category), self.begin, self.encoding, archive)

    @property
    def shipped_as(self) -> str:
        """What to download: the archive, or the file itself."""
        return self.archive or self.name


@dataclass(frozen=True)
class Source:
    """A source of interactions and item text.

    Args:
        name: what the user calls it.
        page: in words, the page of its publishers where the files can be found.
        variants: by name, the files that interactions are read from, one after another.
        metadata: of the items.
        columns: type of each column of the ``.item`` file by its name, in their order.
        template: how the columns make a text where no property file says so; its fields are columns.
        value: the column of the ``.inter`` file beside user, item and time, of type float.
        core: the k-core that papers use.
        categories: there is a set of files per category.
    """

    name: str
    page: str
    variants: Mapping[str, tuple[RawFile, ...]] = field(hash=False)
    metadata: RawFile
    columns: Mapping[str, str] = field(hash=False)
    template: str
    value: str = "rating"
    core: int = 0
    categories: bool = False
