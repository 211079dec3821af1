"""Measure the fingerprint of environments, by name and by instance.

Calls `realax._storage._fingerprint.configuration` on the tasks of each suite that is
installed: the first call, and the fastest of five more. No step is compiled, but
building brax's environments takes minutes. `python benchmarks/fingerprint.py gymnax`
measures one suite. The last rows are digests of data.
"""

import contextlib
import io
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from envelope import registered_environments

import realax as rx
from realax._storage._fingerprint import configuration, content_digest


SUITES = ("gymnax", "brax", "jumanji", "craftax", "kinetix", "navix")
# Their data are downloaded.
LEFT_OUT = ("MNISTBandit-bsuite", "Sokoban-v0")


def seconds(function: Callable[[], Any]) -> tuple[float, float]:
    """Return the processor time of the first call, and the least of five more."""
    taken = list[float]()
    for _ in range(6):
        start = time.process_time()
        function()
        taken.append(time.process_time() - start)
    return taken[0], min(taken[1:])


def tasks(suite: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the name of each task of a suite, and a function that builds it."""
    for full in registered_environments(suite):
        name = full.split("::")[1]
        if name in LEFT_OUT:
            continue
        if suite == "gymnax":
            import gymnax

            yield name, lambda name=name: rx.GymnaxTask(name)
            yield f"{name}, instance", lambda n=name: rx.GymnaxTask(gymnax.make(n)[0])
        elif suite == "brax":
            from brax import envs

            yield name, lambda n=name: rx.BraxTask(n, backend="generalized")
            for backend in ("generalized", "mjx"):
                yield (
                    f"{name}, {backend}, instance",
                    lambda n=name, b=backend: rx.BraxTask(
                        envs.get_environment(n, backend=b)
                    ),
                )
        else:
            yield name, lambda full=full: rx.make(full, max_steps=20)


def quietly(make: Callable[[], Any]) -> Any:
    """Call `make` without the output and the warnings of suites."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return make()


def main() -> None:
    print(
        "| environment | first, ms | again, ms | entries |\n| --- | --- | --- | --- |"
    )
    for suite in sys.argv[1:] or SUITES:
        slowest = (0.0, "")
        count = 0
        for name, make in tasks(suite):
            try:
                task = quietly(make)
            except Exception as error:  # whatever a suite raises
                first = (str(error).strip() or "no message").splitlines()[0]
                print(f"| {suite}: {name} | {type(error).__name__}: {first[:80]} | | |")
                continue
            first, again = seconds(lambda task=task: configuration(task))
            size = len(configuration(task))
            slowest, count = max(slowest, (first, name)), count + 1
            row = f"{1e3 * first:.1f} | {1e3 * again:.1f} | {size}"
            print(f"| {suite}: {name} | {row} |", flush=True)
        worst = f"{slowest[1]} | {1e3 * slowest[0]:.1f}"
        print(f"| {suite}: {count} tasks, the slowest {worst} | | |")
    data = np.ones(2**28, np.float32)
    first, again = seconds(lambda: content_digest(data))
    print(f"| data: float32, 1 GiB | {1e3 * first:.0f} | {1e3 * again:.0f} | |")


if __name__ == "__main__":
    main()
