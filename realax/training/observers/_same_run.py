"""Comparison of a run with the one that wrote a checkpoint."""

import pathlib
import re

from ..._errors import warn_user
from ..._storage._files import Stored
from ..._storage._fingerprint import configuration, differences
from ..._types import PRNGKeyArray
from ._calls import Calls
from ._ledger import Ledger


# Most other differences between two runs follow from these, which are shown first.
_MAIN_CAUSES = ("class", "data", "key")


def check_same_run(folder: pathlib.Path, stored: Stored, ledger: Ledger) -> None:
    """Refuse a run with another key, configuration, data or initial state.

    **Raises:** `ValueError` that lists the differences.
    """
    wrong = differences(stored.meta["configuration"], ledger.configuration)
    kind = str(ledger.key.dtype)
    if (before := stored.leaves["key"]["dtype"]) != kind:
        wrong.append(f"key: {before} then, {kind} now")
    else:
        key = {"key": _key_text(ledger.key)}
        wrong += differences({"key": _key_text(stored.fill("key", ledger.key))}, key)
    before, now = stored.meta.get("data"), ledger.data
    if before is not None and now is not None and before != now:
        wrong.append(f"data: {before} then, {now} now")
    before = Calls(stored.meta).states.get(ledger.start, ledger.digest)
    # In another environment, a state that is computed may differ in its last bits.
    same_place = not differences(stored.meta["environment"], ledger.environment)
    if not wrong and same_place and before != ledger.digest:
        step = ledger.start
        wrong.append(f"the state at step {step}: {before} then, {ledger.digest} now")
    if wrong:
        raise ValueError(
            f"{folder} holds another run. What differs: {_summary(wrong)}. Choose "
            "another folder for this run, or undo the changes to continue the other."
        )


def check_environment(folder: pathlib.Path, stored: Stored, ledger: Ledger) -> None:
    """Warn if the environment has changed."""
    changed = differences(stored.meta["environment"], ledger.environment)
    if changed:
        warn_user(
            f"the run in {folder} continues in another environment, and its results "
            "may differ in the last bits from those of an uninterrupted run: "
            f"{'; '.join(changed)}."
        )


def _key_text(key: PRNGKeyArray) -> str:
    return configuration(key)["."]


def _summary(differences: list[str]) -> str:
    """Return the first few differences in order of importance, and count the rest.

    Those of whole fields come before those inside of them, in the order of the fields.
    """

    def importance(text: str) -> tuple[int, int]:
        name = re.split(r"[.#\[:]", text, maxsplit=1)[0]
        cause = _MAIN_CAUSES.index(name) if name in _MAIN_CAUSES else len(_MAIN_CAUSES)
        path = text.split(": ", 1)[0]
        return cause, path.count(".") + path.count("[")

    shown = list[str]()
    for difference in sorted(differences, key=importance):
        if len(difference) > 300:
            difference = f"{difference[:170]} ... {difference[-120:]}"
        if len(shown) == 5 or (shown and len("; ".join((*shown, difference))) > 350):
            break
        shown.append(difference)
    more = len(differences) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")
