"""Compare `import realax` with `import equinox, optax, evosax`.

Then with a task on CartPole, for which gymnax is imported. Fresh processes alternate; a
first round, which is not counted, caches the bytecode. Prints the median and fastest
of each, and their ratios. Takes about a minute.
"""

import statistics
import subprocess
import sys


ROUNDS = 15
STATEMENTS = {
    "dependencies": "import equinox, optax, evosax",
    "realax": "import realax",
    "realax, and a task on CartPole": "import realax; realax.make('CartPole-v1')",
}


def seconds(statement: str) -> float:
    """Return the seconds that a statement takes in a process of its own."""
    code = (
        f"import time; start = time.perf_counter(); {statement}; "
        "print(time.perf_counter() - start)"
    )
    command = [sys.executable, "-c", code]
    return float(subprocess.run(command, capture_output=True, check=True).stdout)


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for round in range(ROUNDS + 1):
        for name, statement in STATEMENTS.items():
            took = seconds(statement)
            if round > 0:
                times[name].append(took)
    print("| import | median, s | fastest, s |\n| --- | --- | --- |")
    for name, values in times.items():
        print(f"| {name} | {statistics.median(values):.3f} | {min(values):.3f} |")
    median, fastest = (
        f(times["realax"]) / f(times["dependencies"]) for f in (statistics.median, min)
    )
    print(f"| ratio | {median:.3f} | {fastest:.3f} |")


if __name__ == "__main__":
    main()
