"""The contract of the places to which a `Logger` writes."""

from typing import Protocol

from ._jsonl import Row


class Sink(Protocol):
    """A place that takes rows.

    A run that has no step to make opens and closes it, and leaves it unchanged.
    """

    def open(self) -> None:
        """Check that it can be written, and change nothing."""
        ...

    def start(self, step: int, since: int | None, lanes: tuple[str, ...] = ()) -> None:
        """Begin, or continue after `step` and drop the rows of later steps.

        It is called once, before the first `write`.

        **Arguments:**

        - `step`: the step of the run's first state.
        - `since`: the step at which a restored run began; `None` for a new run.
        - `lanes`: the names of runs side by side. Then each row is that of one of them,
            whose number is its entry `"lane"`.
        """
        ...

    def write(self, rows: list[tuple[int, int, Row]]) -> None:
        """Write the rows of a chunk.

        **Arguments:**

        - `rows`: for each step its number in the run, the number to log it under, and
            its row.
        """
        ...

    def close(self) -> None:
        """Release the open files."""
        ...


def split_lane(row: Row) -> tuple[int, Row]:
    """Return the number of the lane of a row, and the rest of the row."""
    rest = dict(row)
    return rest.pop("lane"), rest
