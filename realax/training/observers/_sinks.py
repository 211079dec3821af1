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

    def start(self, step: int, since: int | None) -> None:
        """Begin, or continue after `step` and drop the rows of later steps.

        It is called once, before the first `write`.

        **Arguments:**

        - `step`: the step of the run's first state.
        - `since`: the step at which a restored run began; `None` for a new run.
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
