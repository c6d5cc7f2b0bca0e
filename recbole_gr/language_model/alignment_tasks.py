"""The alignment tasks by name: what each reads, what it generates, and its prompt. Without torch, for the settings read them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """What an alignment task reads and generates.

    Args:
        reads: ``title`` or ``id``.
        generates: the other one.
        of_history: whether it reads a history and generates the next item, or reads an item and generates the same one.
        template: the default prompt, with :attr:`slot` in it once.
    """

    reads: str
    generates: str
    of_history: bool
    template: str

    @property
    def slot(self) -> str:
        """Where in a template stands what is read."""
        return "{history}" if self.of_history else "{item}"


TASKS = {
    "title_to_id": Task("title", "id", False, "The item called {item} is "),
    "id_to_title": Task("id", "title", False, "{item} is the item called "),
    "titles_to_id": Task("title", "id", True, "Items by their titles, oldest first: {history}; the next one is "),
    "ids_to_title": Task("id", "title", True, "Items, oldest first: {history}; the next one is called "),
}
