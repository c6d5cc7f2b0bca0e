"""What is known of a source: its files, and what their lines mean."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RawFile:
    """A file as its publisher ships it; ``{category}`` in its names stands for the category.

    Args:
        name (str): of the file; with ``archive``, of the member inside it.
        begin (callable): takes the first line (str) and returns ``(parse, is_header)``; ``parse`` takes a line and
            returns an interaction ``(user, item, value, seconds)`` or an item ``(item, {column: cell})``, all of them
            text, or None for an item that is not wanted, and raises for a broken line. It raises a DataError where
            the first line shows that this is another kind of file. For metadata it also takes the wanted items.
        encoding (str): of the text.
        archive (str): the zip that the file comes in.
    """

    name: str
    begin: Callable
    encoding: str = "utf-8"
    archive: str | None = None

    def named(self, category):
        """The same with the category in its names."""
        archive = self.archive and self.archive.format(category=category)
        return RawFile(self.name.format(category=category), self.begin, self.encoding, archive)

    @property
    def shipped_as(self):
        """What to download: the archive, or the file itself."""
        return self.archive or self.name


@dataclass(frozen=True)
class Source:
    """A source of interactions and item text.

    Args:
        name (str): what the user calls it.
        page (str): in words, the page of its publishers where the files can be found.
        variants (dict): by name, the files that interactions are read from, one after another.
        metadata (RawFile): of the items.
        columns (dict): type of each column of the ``.item`` file by its name, in their order.
        template (str): how the columns make a text where no property file says so; its fields are columns.
        value (str): the column of the ``.inter`` file beside user, item and time, of type float.
        core (int): the k-core that papers use.
        categories (bool): there is a set of files per category.
    """

    name: str
    page: str
    variants: dict = field(hash=False)
    metadata: RawFile
    columns: dict = field(hash=False)
    template: str
    value: str = "rating"
    core: int = 0
    categories: bool = False
