"""Compare `rx.PPO` with a single file written by hand, and with rejax, on CartPole-v1.

All train with 16 environments, 128 steps, 4 epochs of 4 minibatches and 64x64 tanh
nets. Two contestants never compute at the same time: the file by hand alternates with
`rx.PPO` in one process, and rejax, which needs an older gymnax, in a process of its
own that trains on request. Compilation is the first training of a fresh process, the
median of five, less the median of later ones, and includes tracing.

    python benchmarks/ppo_speed.py --rejax rejax-env/bin/python

where `rejax-env` was made by

    python3.12 -m venv rejax-env
    rejax-env/bin/pip install rejax==0.1.3 gymnax==0.0.9 jax==0.11.2 jaxlib==0.11.2

with the jax that realax runs on. Measured with distrax 0.1.9, flax 0.12.12 and
tfp-nightly 0.26.0.dev20261027, which this brings. Without `--rejax` it is left out.

Where a machine has other work, the processor's time of one core says more than the
clock: `taskset -c 0 python benchmarks/ppo_speed.py`.

The second table splits an update. Its limits are of the parts written by hand and
alone: environments under a rule that balances, networks on fixed observations, and
epochs of minibatches on fixed experience. Playing is environments and a trained actor
together, and so not one more part.
"""

import argparse
import functools
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import _ppo_by_hand as by_hand
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from _contest import contest, serve
from _ppo_numbers import EPOCHS, NUMBERS
from _timing import alternate

import realax as rx


UPDATE = NUMBERS["num_envs"] * NUMBERS["num_steps"]
HERE = pathlib.Path(__file__).parent
PART_UPDATES = 50  # of a run in which a part of an update is timed


class Balancing(rx.BasePolicy[None]):
    """A rule without a network, under which episodes are long."""

    def initialize(self, key: Any) -> None:
        return None

    def __call__(self, obs: Any, state: None, key: Any) -> tuple[Any, None]:
        return jnp.stack([0.0 * obs[2], obs[2] + obs[3]]), None


def our_training(updates: int, epochs: int = EPOCHS) -> Callable[[Any], Any]:
    trainer = rx.PPO(
        "CartPole-v1",
        total_timesteps=updates * UPDATE,
        update_epochs=epochs,
        **NUMBERS,
    )
    return trainer.init_and_train_


def training_by_hand(updates: int) -> Callable[[Any], Any]:
    return functools.partial(by_hand.train, updates=updates)


TRAININGS: dict[str, Callable[[int], Callable[[Any], Any]]] = {
    "realax": our_training,
    "by hand": training_by_hand,
}


def command(name: str, updates: int, rejax: str | None) -> list[Any]:
    """Return the command of a process that serves trainings of a contestant."""
    if name == "rejax":
        return [rejax, HERE / "ppo_rejax.py", "serve", updates * UPDATE]
    return [sys.executable, __file__, "--serve", name, "--updates", updates]


def speeds(options: Any, names: list[str]) -> None:
    """Print compilation, steps per second and ratios."""
    updates = options.updates
    commands = {name: command(name, updates, options.rejax) for name in names}
    measured = contest(commands, options.rounds, options.starts)
    print(
        "| | compile, s | ms an update | of the processor | steps/s "
        f"| {names[0]} is faster by |\n| --- | --- | --- | --- | --- | --- |"
    )
    for name, one in measured.items():
        print(
            f"| {name} | {one.compiling:.1f} | {one.usual / updates * 1e3:.2f} "
            f"| {one.processor / updates * 1e3:.2f} "
            f"| {updates * UPDATE / one.usual:.0f} | {one.ratio:.3f} |",
            flush=True,
        )
    if {"realax", "by hand"} <= set(names):
        runs = training_by_hand(updates), our_training(updates)
        hand, ours, ratio = alternate(runs, options.rounds, updates)
        print(
            f"\nIn one process, ms an update: by hand {hand * 1e3:.2f}, realax "
            f"{ours * 1e3:.2f}, realax / by hand {ratio:.3f}\n",
            flush=True,
        )


def repeated(part: Callable[[Any, Any], Any], carry: Any) -> Callable[[Any], Any]:
    """Build a run of many times a part of an update, each with what the last gave."""

    @jax.jit
    def run(key: Any) -> Any:
        body = lambda carry, key: (part(carry, key), None)
        return jax.lax.scan(body, carry, jr.split(key, PART_UPDATES))[0]

    return run


def limits() -> dict[str, Callable[[Any], Any]]:
    """Build runs of the parts of an update by hand, each alone."""
    h = by_hand
    start = jax.jit(h.init)(jr.key(0))
    _, _, rows = jax.jit(h.rollout)(start.params["actor"], start.envs, jr.key(1))
    make_table = jax.jit(h.table_of)
    table = make_table(start.params["critic"], rows, start.envs.obs)

    def stepping(carry: Any, key: Any) -> Any:
        def body(carry: Any, t: Any) -> Any:
            actions = (carry[0][:, 2] + carry[0][:, 3] > 0).astype(jnp.int32)
            *carry, given = h.step_envs(*carry, actions, jr.fold_in(key, t))
            return tuple(carry), given

        carry, given = jax.lax.scan(body, carry[:2], jnp.arange(h.STEPS))
        # Sums, so that the compiler leaves none of it out.
        return *carry, sum(jnp.sum(x, dtype=jnp.float32) for x in given)

    def acting(carry: Any, key: Any) -> Any:
        def body(last: Any, inputs: Any) -> Any:
            # Depends on the last step as in a rollout, if only by a number.
            actions, logits = h.act(start.params["actor"], inputs[0] + last, inputs[1])
            return 0.0 * jnp.sum(logits), (actions, logits)

        inputs = rows.obs, jr.uniform(key, (h.STEPS, h.ENVS))
        carry, (actions, logits) = jax.lax.scan(body, carry[0], inputs)
        new = rows._replace(obs=rows.obs + carry, actions=actions, logits=logits)
        return 0.0 * jnp.sum(h.table_of(start.params["critic"], new, rows.obs[0])), 0.0

    trained = jax.jit(h.train, static_argnames="updates")(jr.key(0), PART_UPDATES)[0]

    def playing(carry: Any, key: Any) -> Any:
        envs, _ = carry
        obs, state, played = h.rollout(trained.params["actor"], envs, key)
        total = sum(jnp.sum(x, dtype=jnp.float32) for x in played)
        return h.Envs(obs, state, envs.returns), total

    def learning(carry: Any, key: Any) -> Any:
        return h.learn(*carry, table, key)

    envs = start.envs.obs, start.envs.state, jnp.zeros(())
    return {
        "stepping": repeated(stepping, envs),
        "playing": repeated(playing, (trained.envs, jnp.zeros(()))),
        "acting": repeated(acting, (jnp.zeros(()), 0.0)),
        "learning": repeated(learning, (start.params, start.opt_state)),
    }


def our_stepping() -> Callable[[Any], Any]:
    """Build a run of the trainer's streams of steps under a rule."""
    task, policy = rx.make("CartPole-v1"), Balancing()
    begin = eqx.filter_jit(task.begin_streams)
    streams = begin(policy, jr.split(jr.key(0), NUMBERS["num_envs"]))

    def part(carry: Any, key: Any) -> Any:
        del key  # streams have their own
        streams, rows = task.advance_streams(policy, carry[0], NUMBERS["num_steps"])
        used = rows.obs, rows.reward, rows.terminated, rows.truncated, rows.next_obs
        return streams, sum(jnp.sum(x, dtype=jnp.float32) for x in used)

    return repeated(part, (streams, jnp.zeros(())))


def our_playing() -> Callable[[Any], Any]:
    """Build a run of what the trainer plays for an update, again and again."""
    trainer = rx.PPO("CartPole-v1", total_timesteps=PART_UPDATES * UPDATE, **NUMBERS)
    start = trainer.init_and_train_(jr.key(0))

    def part(carry: Any, key: Any) -> Any:
        del key  # streams have their own
        state, _ = carry
        streams, rows = trainer.collect(state)
        used = rows.obs, rows.output, rows.reward, rows.over, rows.next_obs
        total = sum(jnp.sum(x, dtype=jnp.float32) for x in used)
        return eqx.tree_at(lambda s: s.streams, state, streams), total

    return repeated(part, (start, jnp.zeros(())))


def medians(runs: dict[str, Callable[[Any], Any]], rounds: int) -> dict[str, float]:
    """Return the seconds of an update of each, by alternation."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for round in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            jax.block_until_ready(run(jr.key(round)))
            if round > 0:  # the first one compiles
                times[name].append((time.perf_counter() - start) / PART_UPDATES)
    return {name: statistics.median(values) for name, values in times.items()}


def split(options: Any, names: list[str]) -> None:
    """Print what an update is made of, and the limit of each part alone.

    Learning is what the trainer takes longer with twice the epochs. Acting, to which
    advantages and all else is counted, is what remains.
    """
    runs = {f"limit of {name}": run for name, run in limits().items()}
    if "realax" in names:
        runs |= {
            "stepping": our_stepping(),
            "playing": our_playing(),
            "once": our_training(PART_UPDATES),
            "twice": our_training(PART_UPDATES, 2 * EPOCHS),
        }
    times = {name: 1e3 * value for name, value in medians(runs, options.rounds).items()}
    if "realax" in names:
        times["learning"] = times["twice"] - times["once"]
        times["acting"] = times["once"] - times["learning"] - times["stepping"]
    print("| part of an update | realax, ms | its limit, ms |\n| --- | --- | --- |")
    for part in ("stepping", "playing", "acting", "learning"):
        ours = f"{times[part]:.2f}" if part in times else "-"
        print(f"| {part} | {ours} | {times[f'limit of {part}']:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rejax", metavar="PYTHON", help="of rejax's environment")
    parser.add_argument("--only", nargs="*", help="realax, `by hand` or rejax")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--starts", type=int, default=5, help="processes of each")
    parser.add_argument("--updates", type=int, default=245)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        return serve(TRAININGS[options.serve](options.updates))
    names = [*TRAININGS, *(["rejax"] if options.rejax else [])]
    names = [name for name in names if not options.only or name in options.only]
    packages = " ".join(f"{p} {version(p)}," for p in ("gymnax", "optax"))
    print(f"jax {jax.__version__}, {packages} {jax.devices()[0]}\n")
    speeds(options, names)
    split(options, names)


if __name__ == "__main__":
    main()
