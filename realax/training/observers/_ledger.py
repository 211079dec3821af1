"""What a checkpointer knows of its run, and how it tells one run from another."""

import hashlib
import json
import pathlib
import re
from typing import Any

from ..._errors import warn_user
from ..._storage._files import Stored
from ..._storage._fingerprint import configuration, differences, environment, execution
from ..._trees import with_fields
from ..._types import PRNGKeyArray
from ._calls import Calls
from ._lock import Claim
from ._run import Run


# Of what else differs in two runs, most follows from these.
_TELLING: tuple[str, ...] = (
    "class",
    "strategy",
    "optimizer",
    "task",
    "loss_fn",
    "popsize",
    "params_like",
    "data",
    "key",
)


_NOT_COMPARED = ("train_steps", "callbacks")


class Ledger:
    """What a checkpointer knows of its run while it lasts.

    **Arguments:**

    - `run`: the run.
    - `objective`: the metric that says what is best, and which way is better.
    - `state`: the state with which the run was called.
    """

    claim: Claim | None = None
    value: float | None = None  # of the objective, at the last step
    since: int | None = None  # the step at which it had begun, of a restored run
    saved: int | None = None  # the step of the newest file of this run
    complete: bool = False  # whether that file says that the call ends there
    failed: bool = False
    refused: int = 0  # runs that began meanwhile, and are yet to be ended

    def __init__(self, run: Run, objective: list[str], state: Any):
        self.objective = objective
        self.key, self.begun, self.end = run.key, run.begin, run.end
        self.data = run.data_digest
        trainer = run.trainer
        self.configuration = configuration(trainer, _NOT_COMPARED)
        self.environment = environment() | execution(trainer, _NOT_COMPARED)
        if options := trainer.xla_options:
            text = ", ".join(f"{name}={value}" for name, value in options.items())
            self.environment["compiler options"] = text
        self.values: dict[int, float] = {}  # of the objective, for each file
        self.calls = Calls()
        self.digest = digest_of(state)

    def take_up(self, stored: Stored) -> None:
        """Know what the run before this one knew."""
        if stored.meta.get("objective") == self.objective:
            self.values = {int(k): v for k, v in stored.meta["values"].items()}
        self.calls = Calls(stored.meta)


def check_same_run(folder: pathlib.Path, stored: Stored, ledger: Ledger) -> None:
    """Refuse another key, configuration, data or state to begin with."""
    wrong = differences(stored.meta["configuration"], ledger.configuration)
    kind = str(ledger.key.dtype)
    if (before := stored.leaves["key"]["dtype"]) != kind:
        wrong.append(f"key: {before} then, {kind} now")
    else:
        key = {"key": _text(ledger.key)}
        wrong += differences({"key": _text(stored.fill("key", ledger.key))}, key)
    before, now = stored.meta.get("data"), ledger.data
    if before is not None and now is not None and before != now:
        wrong.append(f"data: {before} then, {now} now")
    before = Calls(stored.meta).states.get(ledger.begun, ledger.digest)
    if not wrong and before != ledger.digest:
        step = ledger.begun
        wrong.append(f"the state at step {step}: {before} then, {ledger.digest} now")
    if wrong:
        raise ValueError(
            f"{folder} holds another run. What differs: {_in_words(wrong)}. Choose "
            "another folder for this run, or make it the same again to go on with that "
            "one."
        )


def check_environment(folder: pathlib.Path, stored: Stored, ledger: Ledger) -> None:
    """Warn of another environment."""
    changed = differences(stored.meta["environment"], ledger.environment)
    if changed:
        warn_user(
            f"the run in {folder} goes on in another environment, and may differ in "
            f"its last bits from one that was not interrupted: {'; '.join(changed)}."
        )


def digest_of(state: Any) -> str:
    """A digest of a state, without early stopping's counters: rules may change."""
    state = with_fields(state, stopping=())
    return hashlib.sha256(json.dumps(configuration(state)).encode()).hexdigest()[:12]


def counted(state: Any) -> list[str]:
    """Return what each of the counters of stopping rules in a state counts."""
    return [one.label for one in state.stopping]


def filled(stored: Stored, state: Any) -> Any:
    """`state` with what is in a file.

    Counters of early stopping that are not in the file begin anew; those of the file
    that count something else are left out.
    """
    bare = stored.fill("state", with_fields(state, stopping=()))
    left: list[str | None] = [*stored.meta["stopping"]]
    stopping = list[Any]()
    for text, one in zip(counted(state), state.stopping, strict=True):
        if text in left:
            place = left.index(text)
            left[place] = None
            one = stored.fill(f"state.stopping[{place}]", one)
        stopping.append(one)
    return with_fields(bare, stopping=tuple(stopping))


def _text(key: PRNGKeyArray) -> str:
    return configuration(key)["."]


def _in_words(differences: list[str]) -> str:
    """What differs between two runs: the most telling first, and not all of it."""

    def rank(text: str) -> tuple[int, int]:
        name = re.split(r"[.#\[:]", text, maxsplit=1)[0]
        telling = _TELLING.index(name) if name in _TELLING else len(_TELLING)
        path = text.split(": ", 1)[0]
        return telling, path.count(".") + path.count("[")

    shown = list[str]()
    for difference in sorted(differences, key=rank):
        if len(difference) > 300:
            difference = f"{difference[:170]} ... {difference[-120:]}"
        if len(shown) == 5 or (shown and len("; ".join((*shown, difference))) > 350):
            break
        shown.append(difference)
    more = len(differences) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")
