"""One run on two processes: the same bits, and together until the end."""

import json
import pathlib
import shutil
import signal
import time
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import pytest

import realax as rx

from . import hosts_run
from .helpers import same
from .hosts import Pair


pytestmark = pytest.mark.usefixtures("optimized")
# The seconds in which all processes are gone after one of them is. `hosts_faults.py` in
# `benchmarks/` measures 15 at most; here other tests may run beside.
GONE = 90
LOST = "cannot reach another process of this run"

LAWS = [
    "unwatched",
    "first_population",
    "continued",
    "observed",
    "longer",
    "apart",
    "stopped",
    "slow",
    "idle_devices",
]
KINDS = [
    "lanes",
    "gradient_lanes",
    "diversity",
]
TASKS = [
    "normalized",
    "learner",
    "with_data",
    "messages",
    "global_data",
]
# What differs between the processes, by case.
DIFFERENT = {
    "other_class": "`class` ('EvosaxTrainer' on process 0, 'OptaxTrainer'",
    "other_key": "`key`",
    "other_params": "`params_like`",
    "other_popsize": "`popsize` (8 on process 0, 10 on process 1)",
    "other_task": "`task.function.scale`",
    "other_steps": "`train_steps` (5 on process 0, 6 on process 1)",
    "other_data": "`data`",
    "other_version": "`optax`",
    "other_callbacks": "`callbacks[0].every` (3 on process 0, 4 on process 1)",
}
REFUSED = {
    "no_devices": "`OptaxTrainer` has no `n_devices`",
    "stream": "`batches` cannot be streamed to the 2 processes",
    "on_host": "runs on the host and cannot be evaluated by the 2 processes",
}


@pytest.fixture(scope="module", autouse=True)
def nothing_compiled() -> None:
    """What other files compiled has fewer optimisations, and so other last bits."""
    jax.clear_caches()


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The results of runs on two processes, one after another."""
    folder = tmp_path_factory.mktemp("together")
    with Pair(folder, *LAWS, *KINDS, *TASKS) as pair:
        assert pair.codes(600) == [0, 0], pair.output(0) + pair.output(1)
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder of runs on this process, with two devices."""
    return tmp_path_factory.mktemp("alone")


_found: dict[tuple[str, pathlib.Path], Any] = {}


def result(case: str, folder: pathlib.Path) -> Any:
    """Return the arrays of a case on this process, which makes each run once."""
    if (case, folder) not in _found:
        found = getattr(hosts_run, case)(folder)
        _found[case, folder] = eqx.filter(found, eqx.is_array)
    return _found[case, folder]


@pytest.mark.slow
@pytest.mark.parametrize("case", [*LAWS, *KINDS, *TASKS])
def test_two_processes_compute_the_bits_of_one(
    case: str, together: pathlib.Path, alone: pathlib.Path
) -> None:
    """Each of them has the whole state, metrics and record."""
    expected = result(case, alone)
    for number in (0, 1):
        assert same(rx.load_params(together / f"{case}.{number}", expected), expected)


def rows(path: pathlib.Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_files_are_written_once(together: pathlib.Path, alone: pathlib.Path) -> None:
    for case in ("observed", "lanes", "idle_devices"):
        result(case, alone)
    for name in "log.jsonl", "idle.jsonl", "lanes.jsonl":
        assert rows(together / name) == rows(alone / name)
    assert [row["step"] for row in rows(together / "log.jsonl")] == [*range(1, 21)]
    assert sum("eval_return" in row for row in rows(together / "log.jsonl")) == 4
    like = hosts_run.evolution(1).params_like
    best = [rx.load_params(folder / "best", like) for folder in (together, alone)]
    assert same(*best)


@pytest.mark.slow
def test_files_need_not_be_shared(together: pathlib.Path) -> None:
    """The second run went on from a checkpoint that process 0 alone could read."""
    names = {path.name for path in (together / "own.0").iterdir()}
    assert {"run", "log.jsonl"} <= names  # and the lock of the log
    assert not [*(together / "own.1").iterdir()]


@pytest.mark.slow
def test_the_first_process_decides_the_chunks(together: pathlib.Path) -> None:
    first, second = [(together / f"lengths.{i}").read_text() for i in (0, 1)]
    assert first == second
    # By the clock of the slow process, a chunk would be one step.
    assert max(json.loads(first)) > 1


@pytest.mark.slow
def test_one_process_continues_what_two_began(
    together: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    shutil.copytree(together / "checkpoints", tmp_path / "run")
    callbacks = rx.Checkpointer(tmp_path / "run", every=7)
    found = hosts_run.evolution(40, callbacks=callbacks).init_and_train_(jr.key(0))
    assert same(found, hosts_run.evolution(40).init_and_train_(jr.key(0)))


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The messages of runs that are refused, or that an observer ends."""
    folder = tmp_path_factory.mktemp("refused")
    more = "raises", "observed", "other_run_in_folder", "unwatched"
    cases = *DIFFERENT, *REFUSED, *more
    with Pair(folder, *cases) as pair:
        assert pair.codes(240) == [0, 0], pair.output(0) + pair.output(1)
    return folder


@pytest.mark.parametrize("case", [*DIFFERENT, *REFUSED])
def test_a_run_that_is_refused(case: str, refused: pathlib.Path) -> None:
    for number in (0, 1):
        message = (refused / f"{case}.{number}.txt").read_text().splitlines()[-1]
        assert message.startswith("ValueError: ")
        assert (DIFFERENT | REFUSED)[case] in message
        if case in DIFFERENT:
            # The weights of CMA-ES depend on the size of the population.
            several = case in ("other_class", "other_popsize")
            assert message.count("on process 0") == (5 if several else 1)


@pytest.mark.slow
def test_all_devices_of_each_process(tmp_path: pathlib.Path) -> None:
    with Pair(tmp_path, "unwatched", "four", more="devices=2") as pair:
        assert pair.codes(240) == [0, 0], pair.output(0) + pair.output(1)
    expected = hosts_run.unwatched(tmp_path)
    for number in (0, 1):
        assert same(rx.load_params(tmp_path / f"four.{number}", expected), expected)
        message = (tmp_path / f"unwatched.{number}.txt").read_text().splitlines()[-1]
        assert "must be 4, all devices of the 2 processes, but got 2." in message


def test_an_observer_that_raises_ends_the_run_on_all(refused: pathlib.Path) -> None:
    first, second = [(refused / f"raises.{i}.txt").read_text() for i in (0, 1)]
    assert first.endswith("OSError: the disk is full")
    told = "PeerError: process 0 ended this run on all processes, by OSError: "
    assert told in second
    # The last step that all observers had seen.
    like = hosts_run.evolution(1).initialize(jr.key(0))
    saved = rx.load_checkpoint(refused / "raises", like)
    assert 0 < int(saved.step) < 5
    trainer = hosts_run.evolution(int(saved.step))
    assert same(saved, trainer.init_and_train_(jr.key(0)))


def test_a_folder_of_another_run_is_refused_on_all(refused: pathlib.Path) -> None:
    first, second = [
        (refused / f"other_run_in_folder.{i}.txt").read_text().splitlines()[-1]
        for i in (0, 1)
    ]
    assert first.startswith("ValueError: ") and "holds another run" in first
    assert second.startswith("PeerError: ") and "holds another run" in second


def restarted(
    case: str, folder: pathlib.Path, alone: pathlib.Path, more: str = ""
) -> None:
    """Start a run again, on two processes and on one, and compare the results."""
    shutil.copytree(folder / "long", folder / "one" / "long")
    shutil.copy(folder / "long.jsonl", folder / "one" / "long.jsonl")
    with Pair(folder, case, more=more) as pair:
        assert pair.codes(240) == [0, 0], pair.output(0) + pair.output(1)
    expected = result(case, alone)
    for number in (0, 1):
        assert same(rx.load_params(folder / f"{case}.{number}", expected), expected)
    assert same(result(case, folder / "one"), expected)
    for log in (folder / "long.jsonl", folder / "one" / "long.jsonl"):
        assert rows(log) == rows(alone / "long.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_a_process_that_is_killed(
    number: int, tmp_path: pathlib.Path, alone: pathlib.Path
) -> None:
    with Pair(tmp_path, "long") as pair:
        pair.wait_for("long/*.ckpt", 3)
        pair.signal(number, signal.SIGKILL)
        pair.codes(GONE)
        other = pair.output(1 - number)
    # jax ends a process at once if process 0 is gone, which coordinates the others.
    assert LOST in other or (number == 0 and "detected fatal errors" in other)
    restarted("long", tmp_path, alone)


@pytest.mark.slow
def test_a_process_that_is_killed_inside_a_save(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts_run, "LONG", 600)
    unfinished = lambda: any((tmp_path / "long").glob(".step_*.tmp"))
    for _ in range(5):  # a save may end between the look and the kill
        with Pair(tmp_path, "heavy", more="steps=100_000") as pair:
            pair.wait_for("long/*.ckpt")
            while not unfinished():
                assert pair.processes[0].poll() is None, pair.output(0)
            pair.signal(0, signal.SIGKILL)
            pair.codes(GONE)
        if unfinished():
            break
    assert unfinished()
    (tmp_path / "whole").mkdir()
    restarted("heavy", tmp_path, tmp_path / "whole", more="steps=600")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "what"), [(1, signal.SIGTERM), (0, signal.SIGINT)], ids=["term", "int"]
)
def test_a_signal_ends_both_after_the_chunk(
    number: int, what: signal.Signals, tmp_path: pathlib.Path, alone: pathlib.Path
) -> None:
    with Pair(tmp_path, "long") as pair:
        pair.wait_for("long/*.ckpt", 3)
        pair.signal(number, what)
        codes = pair.codes(GONE)
    expected = 143 if what == signal.SIGTERM else -signal.SIGINT
    assert codes == [expected, expected]
    name = "SIGTERM" if what == signal.SIGTERM else "Ctrl-C"
    told = f"process {number} received {name}: the run ends here too."
    assert told in pair.output(1 - number)
    assert told not in pair.output(number)
    # All steps that were logged were saved.
    last = rows(tmp_path / "long.jsonl")[-1]["step"]
    assert (tmp_path / "long" / f"step_{last:010}.ckpt").exists()


@pytest.mark.slow
def test_a_process_that_stands_still(tmp_path: pathlib.Path) -> None:
    with Pair(tmp_path, "sleeps", more="stall=6") as pair:
        codes = pair.codes(GONE)
    assert 0 not in codes
    assert "no agreement between the processes for 6 seconds" in (
        pair.output(0) + pair.output(1)
    )
    # The stack of the one that sleeps.
    assert "in on_chunk" in pair.output(0)


@pytest.mark.slow
def test_sigterm_while_the_other_stands_still(tmp_path: pathlib.Path) -> None:
    """Process 0 saves what it has, and ends without it."""
    with Pair(tmp_path, "stands_still") as pair:
        pair.wait_for("asleep")
        pair.signal(0, signal.SIGTERM)
        pair.processes[0].wait(GONE)
        assert "another process does not answer: this one ends" in pair.output(0)
    like = hosts_run.evolution(1).initialize(jr.key(0))
    assert int(rx.load_checkpoint(tmp_path / "run", like).step) > 0


@pytest.mark.slow
def test_sigterm_to_both_while_an_observer_is_slow(tmp_path: pathlib.Path) -> None:
    """As clusters send it: what process 0 was about to save is saved."""
    with Pair(tmp_path, "slow_observer") as pair:
        pair.wait_for("asleep")
        for number in (0, 1):
            pair.signal(number, signal.SIGTERM)
        assert pair.codes(GONE) == [143, 143], pair.output(0) + pair.output(1)
    like = hosts_run.evolution(1).initialize(jr.key(0))
    assert int(rx.load_checkpoint(tmp_path / "run", like).step) == 4


@pytest.mark.slow
def test_a_process_of_an_unwatched_run_is_killed(tmp_path: pathlib.Path) -> None:
    with Pair(tmp_path, "bare") as pair:
        pair.wait_for("begun.*", 2)
        time.sleep(3)  # both are in the midst of one program
        pair.signal(1, signal.SIGKILL)
        pair.processes[0].wait(GONE)
        assert LOST in pair.output(0)


@pytest.mark.slow
def test_a_process_that_never_comes(tmp_path: pathlib.Path) -> None:
    more = "initialization_timeout=5"
    with Pair(tmp_path, "unwatched", more=more, numbers=(0,)) as pair:
        assert pair.codes(5 + GONE) != [0]
        assert "unwatched" not in pair.output(0)
        assert "Terminating process" in pair.output(0)


def test_a_trainer_alone_has_no_peers() -> None:
    """In one process, nothing is exchanged and every array stays where it is."""
    assert jax.process_count() == 1
    state = hosts_run.evolution(3).init_and_train_(jr.key(0))
    assert len(state.best_flat.devices()) == 2
