"""How long the cells that are still to run will take, by what like cells took."""

from statistics import mean


class TimeLeft:
    """Looks at the records there are.

    Args:
        runner (Runner): where records are.
        cells (list of Cell): all of the board.
    """

    def __init__(self, runner, cells):
        self.runner, self.cells = runner, cells

    def measured(self):
        """Seconds of the cells that have a record: a dict by cell key."""
        records = {cell.key: self.runner.record(cell.key) for cell in self.cells}
        return {key: record["stages"]["whole"]["seconds"] for key, record in records.items() if record}

    def expected(self, cell, measured):
        """Mean seconds of the cells of its row that have a record, else of those of its model; None if there are none."""
        for is_like in (lambda other: other.row.name == cell.row.name, lambda other: other.row.model == cell.row.model):
            like = [measured[other.key] for other in self.cells if other.key in measured and is_like(other)]
            if like:
                return mean(like)
        return None

    def _with_search(self, cell, measured):
        """Seconds of a cell, and of the trials of its row's search if it comes first."""
        seconds = self.expected(cell, measured)
        searches = cell.row.search and cell.seed == cell.row.seeds[0] and not self.runner.searched(cell)
        return seconds * (1 + cell.board.effort["trials"]) if seconds is not None and searches else seconds

    def words(self, jobs):
        """The time left with so many processes, in words."""
        measured = self.measured()
        expected = [self._with_search(cell, measured) for cell in self.cells if cell.key not in measured]
        unknown = expected.count(None)
        known = duration(sum(seconds for seconds in expected if seconds is not None) / jobs)
        if not unknown:
            return known
        untimed = f"{unknown} cell{'s' * (unknown > 1)} of a kind not timed yet"
        return untimed if unknown == len(expected) else f"{known} and {untimed}"


def duration(seconds):
    """Seconds as ``2 h 05 min``, ``5 min`` or ``40 s``."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
