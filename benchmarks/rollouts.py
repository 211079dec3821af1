"""Compare evaluations of policies: lanes, the masked scan and evosax's problems.

All have the same random policies, population, repetitions and horizon. Lanes are the
default of `task.evaluate`; the masked scan is `lanes=0`. evosax's normalisation of
observations is off, and the compiler drops the trajectories that it stacks. Useful
steps are those of live episodes. Their number is taken to be the same for all, although
evosax draws other starts from the same distribution. The limit is a bare `vmap` of
policy and `step` in a scan, in which no episode ends or begins; the share is the
fraction of its speed that lanes reach.

Runs alternate in one process; medians are printed. `python benchmarks/rollouts.py
Acrobot-v1` runs one case; hopper takes minutes. Two large cases, `hopper 4096` and
`ant 4096`, are left out on a CPU unless they are named.
"""

import contextlib
import dataclasses
import functools
import io
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, override

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from envelope import Continuous, Environment, InfoContainer, Space

import realax as rx


WIDTH, DEPTH, BARE_STEPS = 32, 2, 500


@dataclasses.dataclass(frozen=True)
class Case:
    """A population on an environment, and the number of timed rounds."""

    make: Callable[..., Any]
    popsize: int
    reps: int
    lanes: int  # what the bare scan plays side by side
    problem: str | None = None
    rounds: int = 9
    slow_rounds: int = 9  # of evosax and the masked scan


class HalfAndHalf(Environment):
    """Half of the episodes end at their first step, and the others never end."""

    @override
    def init(self, key: Any) -> tuple[Any, InfoContainer]:
        short = jr.bernoulli(key)
        state = {"x": jnp.ones(4), "short": short}
        return state, InfoContainer(obs=state["x"], reward=0.0, terminated=False)

    @override
    def step(self, state: Any, action: Any) -> tuple[Any, InfoContainer]:
        x = jnp.cos(state["x"] + action)
        state = {"x": x, "short": state["short"]}
        return state, InfoContainer(obs=x, reward=x[0], terminated=state["short"])

    @functools.cached_property
    @override
    def observation_space(self) -> Space:
        return Continuous(low=-jnp.ones(4), high=jnp.ones(4))

    @functools.cached_property
    @override
    def action_space(self) -> Space:
        return Continuous(low=-jnp.ones(4), high=jnp.ones(4))


CASES = {
    "CartPole-v1": Case(
        functools.partial(rx.GymnaxTask, "CartPole-v1", 500), 256, 4, 64, "gymnax"
    ),
    "Acrobot-v1": Case(
        functools.partial(rx.GymnaxTask, "Acrobot-v1", 500), 128, 4, 64, "gymnax"
    ),
    "Pendulum-v1": Case(
        functools.partial(rx.GymnaxTask, "Pendulum-v1", 200), 256, 4, 64, "gymnax"
    ),
    "half and half": Case(
        functools.partial(rx.EnvelopeTask, HalfAndHalf(), 500), 256, 1, 64
    ),
    "hopper": Case(
        functools.partial(rx.BraxTask, "hopper", 1000, backend="spring"),
        *(128, 4, 32, "brax", 5, 2),
    ),
}
LARGE = {
    f"{name} 4096": Case(
        functools.partial(rx.BraxTask, name, 1000, backend="spring"),
        *(4096, 1, 2048, "brax", 5, 2),
    )
    for name in ("hopper", "ant")
}


class Network:
    """The population's networks in the form of a policy of evosax."""

    def __init__(self, task: Any, policy: Any):
        self.task = task
        self.static = eqx.partition(policy, eqx.is_array)[1]
        self.arrays = eqx.filter(policy, eqx.is_array)

    def init(self, *_: Any) -> Any:
        return self.arrays

    def apply(self, arrays: Any, obs: Any, key: Any) -> Any:
        output, _ = eqx.combine(arrays, self.static)(obs, None, key)
        space = self.task.environment().action_space
        return self.task.action_layout.to_action(output, space)


def evosax_run(case: Case, task: Any, population: Any) -> Callable[[Any], Any]:
    """Build evosax's evaluation of the same policies."""
    from evosax.problems import BraxProblem, GymnaxProblem

    one = jax.tree.map(lambda x: x[0] if eqx.is_array(x) else x, population)
    problem_class = BraxProblem if case.problem == "brax" else GymnaxProblem
    problem = problem_class(
        task.env,
        Network(task, one),
        episode_length=task.max_steps,
        num_rollouts=case.reps,
        use_normalize_obs=False,
    )
    state = problem.init(jr.key(0))
    arrays = eqx.filter(population, eqx.is_array)
    run = jax.jit(lambda key, arrays: problem.eval(key, arrays, state)[0])
    return lambda key: run(key, arrays)


def our_run(case: Case, task: Any, population: Any) -> Callable[[Any], Any]:
    run = eqx.filter_jit(task.evaluate)
    return lambda key: run(population, jr.split(key, (case.popsize, case.reps)))


def bare_run(case: Case, task: Any, population: Any) -> Callable[[Any], Any]:
    """Build a scan of policies and steps, and nothing else."""
    environment = task.environment()
    space = environment.action_space
    arrays, static = eqx.partition(population, eqx.is_array)
    arrays = jax.tree.map(lambda x: x[: case.lanes], arrays)

    @jax.jit
    def run(arrays: Any, key: Any) -> Any:
        def step(carry: Any, key: Any) -> Any:
            state, obs = carry

            def one(arrays: Any, state: Any, obs: Any) -> Any:
                output, _ = eqx.combine(arrays, static)(obs, None, key)
                action = task.action_layout.to_action(output, space)
                state, info = environment.step(state, action)
                return (state, task.obs_layout.flatten(info.obs)), info.reward

            carry, rewards = jax.vmap(one)(arrays, state, obs)
            return carry, jnp.sum(rewards)

        def begin(key: Any) -> Any:
            state, info = environment.init(key)
            return state, task.obs_layout.flatten(info.obs)

        start = jax.vmap(begin)(jr.split(key, case.lanes))
        start = jax.tree.map(lambda x: jnp.asarray(x, jnp.asarray(x).dtype), start)
        carry, rewards = jax.lax.scan(step, start, jr.split(key, BARE_STEPS))
        return carry[1], jnp.sum(rewards)

    return lambda key: run(arrays, key)


def medians(
    runs: dict[str, Callable[[Any], Any]], rounds: dict[str, int]
) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in runs}
    for round in range(max(rounds.values()) + 1):
        for name, run in runs.items():
            if round > rounds[name]:
                continue
            start = time.perf_counter()
            jax.block_until_ready(run(jr.key(round)))
            if round > 0:  # the first one compiles
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def measure(name: str, case: Case) -> str:
    task, scan = case.make(), case.make(lanes=0)

    def policy(key: Any) -> Any:
        return rx.MLPPolicy(*task.space[:2], WIDTH, DEPTH, key=key)

    population = eqx.filter_vmap(policy)(jr.split(jr.key(0), case.popsize))
    runs = {
        "lanes": our_run(case, task, population),
        "scan": our_run(case, scan, population),
        "bare": bare_run(case, task, population),
    }
    rounds = {"lanes": case.rounds, "scan": case.slow_rounds, "bare": case.rounds}
    theirs = "-"
    if case.problem is not None:
        try:
            run = evosax_run(case, task, population)
            jax.block_until_ready(run(jr.key(0)))
            runs["evosax"], rounds["evosax"] = run, case.slow_rounds
        except Exception as error:  # it may not run on the installed suite
            theirs = f"does not run: {type(error).__name__}"
    seconds = medians(runs, rounds)
    # The mean of the rounds that were timed.
    lengths = [
        int(jnp.sum(runs["lanes"](jr.key(round))[1]["length"]))
        for round in range(1, case.rounds + 1)
    ]
    steps = statistics.mean(lengths)
    limit = case.lanes * BARE_STEPS / seconds["bare"]

    def cell(way: str) -> str:
        return f"{seconds[way] * 1e3:.1f} ms, {steps / seconds[way] / 1e3:.0f}"

    if "evosax" in seconds:
        theirs = cell("evosax")
        theirs += f" | {seconds['evosax'] / seconds['lanes']:.1f}"
    else:
        theirs += " | -"
    return (
        f"| {name}, {case.popsize}x{case.reps}, {task.max_steps} | {steps:.0f} | "
        f"{cell('lanes')} | {cell('scan')} | {seconds['scan'] / seconds['lanes']:.1f} "
        f"| {theirs} | {limit / 1e3:.0f} | {steps / seconds['lanes'] / limit:.2f} |"
    )


def main() -> None:
    packages = " ".join(f"{p} {version(p)}," for p in ("evosax", "gymnax", "brax"))
    print(f"jax {jax.__version__}, {packages} {jax.devices()[0]}")
    print("Time of an evaluation, and thousands of useful steps a second.\n")
    print(
        "| case, horizon | useful steps | lanes | masked scan | scan / lanes "
        "| evosax | evosax / lanes | limit, k/s | share |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    cases = CASES | LARGE
    for name in sys.argv[1:] or (CASES if jax.default_backend() == "cpu" else cases):
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # of brax and gymnax on import
            row = measure(name, cases[name])
        print(row, flush=True)


if __name__ == "__main__":
    main()
