"""Compare `rx.DQN`, `PQN`, `TD3` and `SAC` with files by hand, and with rejax.

DQN and PQN play CartPole-v1, TD3 and SAC Pendulum-v1, all with hidden layers of 64 and
64. The numbers are those of `_dqn_by_hand.py` and of the others. Two contestants never
compute at the same time: whole trainings of processes alternate, and after them, in one
process, runs of the trainer and of the file by hand from a state after the random
steps. Compilation is the first training of a fresh process, the median of three, less
the median of later ones, and includes tracing.

    python benchmarks/off_policy_speed.py --rejax rejax-env/bin/python

where `rejax-env` was made by

    python3.12 -m venv rejax-env
    rejax-env/bin/pip install rejax==0.1.3 gymnax==0.0.9 jax==0.11.2 jaxlib==0.11.2

with the jax that realax runs on. Without `--rejax` it is left out. In what its updates
differ is said in `off_policy_rejax.py`.

Where a machine has other work, the processor's time of one core says more than the
clock: `taskset -c 0 python benchmarks/off_policy_speed.py`.

Times are of an update with its steps of environments. In the table, they contain the
start of a training and the random steps before learning.
"""

import argparse
import functools
import pathlib
import sys
from collections.abc import Callable
from importlib.metadata import version
from types import ModuleType
from typing import Any

import _dqn_by_hand as dqn
import _pqn_by_hand as pqn
import _sac_by_hand as sac
import _td3_by_hand as td3
import equinox as eqx
import jax
import jax.random as jr
from _contest import contest, serve
from _timing import alternate

import realax as rx


HERE = pathlib.Path(__file__).parent
BY_HAND: dict[str, Any] = {"DQN": dqn, "PQN": pqn, "TD3": td3, "SAC": sac}
# Updates of a run, which then takes about a second on one core.
UPDATES = {"DQN": 10_000, "PQN": 200, "TD3": 2_000, "SAC": 1_500}
CONTESTANTS = "realax", "by hand"


def mlp(inputs: int, outputs: Any) -> Callable[[Any], Any]:
    return lambda key: eqx.nn.MLP(inputs, outputs, 64, 2, key=key)


def replay(h: ModuleType, updates: int) -> dict[str, Any]:
    """The keywords of every trainer with a buffer, from the numbers of a file."""
    return {
        "num_envs": h.ENVS,
        "buffer_size": h.BUFFER,
        "batch_size": h.BATCH,
        "learning_starts": h.LEARNING_STARTS,
        "learning_rate": h.LEARNING_RATE,
        "gamma": h.GAMMA,
        "train_steps": updates,
    }


def epsilon(h: ModuleType) -> dict[str, Any]:
    return {
        "epsilon_start": h.EPSILON_START,
        "epsilon_end": h.EPSILON_END,
        "epsilon_steps": h.EPSILON_STEPS,
    }


def actor_critic(h: ModuleType, outputs: int) -> dict[str, Any]:
    """The networks of TD3 and SAC, and what both have besides."""
    critic = mlp(h.OBS + h.ACTIONS, "scalar")
    return {
        "actor": mlp(h.OBS, outputs),
        "critic": lambda key: rx.ActionValue(critic(key)),
        "num_critics": h.CRITICS,
        "tau": h.TAU,
    }


def our_trainer(name: str, updates: int) -> Any:
    if name == "DQN":
        return rx.DQN(
            "CartPole-v1",
            network=mlp(dqn.OBS, dqn.ACTIONS),
            num_steps=1,
            target_every=dqn.TARGET_EVERY,
            tau=1.0,
            max_grad_norm=dqn.MAX_NORM,
            **epsilon(dqn),
            **replay(dqn, updates),
        )
    if name == "PQN":
        return rx.PQN(  # whose default network has the normalisation
            "CartPole-v1",
            num_envs=pqn.ENVS,
            num_steps=pqn.STEPS,
            update_epochs=pqn.EPOCHS,
            num_minibatches=pqn.MINIBATCHES,
            td_lambda=pqn.TD_LAMBDA,
            learning_rate=pqn.LEARNING_RATE,
            max_grad_norm=pqn.MAX_NORM,
            gamma=pqn.GAMMA,
            train_steps=updates,
            **epsilon(pqn),
        )
    if name == "TD3":
        return rx.TD3(
            "Pendulum-v1",
            policy_delay=td3.POLICY_DELAY,
            exploration_noise=td3.EXPLORATION_NOISE,
            target_noise=td3.TARGET_NOISE,
            noise_clip=td3.NOISE_CLIP,
            **actor_critic(td3, td3.ACTIONS),
            **replay(td3, updates),
        )
    return rx.SAC(
        "Pendulum-v1",
        temperature=sac.TEMPERATURE,
        target_entropy=sac.TARGET_ENTROPY,
        **actor_critic(sac, 2 * sac.ACTIONS),
        **replay(sac, updates),
    )


def training(name: str, contestant: str, updates: int) -> Callable[[Any], Any]:
    """Build a whole training as a function of a key."""
    if contestant == "realax":
        return our_trainer(name, updates).init_and_train
    return functools.partial(BY_HAND[name].train, steps=updates)


def runs(name: str, updates: int) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Build a run by hand and one of ours, from states that are ready to learn."""
    trainer, h = our_trainer(name, updates), BY_HAND[name]
    state, start = trainer.initialize(jr.key(0)), h.init(jr.key(0))
    return (
        lambda key: h.run(start, key, updates),
        lambda key: trainer.train(state, key),
    )


def command(name: str, contestant: str, updates: int, rejax: str | None) -> list[Any]:
    """Return the command of a process that serves trainings of a contestant."""
    if contestant == "rejax":
        return [rejax, HERE / "off_policy_rejax.py", "serve", name, updates]
    script = [sys.executable, __file__, "--algorithms", name]
    return [*script, "--serve", contestant, "--updates", updates]


def by_processes(name: str, contestants: list[str], updates: int, options: Any) -> None:
    """Print compilation, the time of an update and the steps per second of each."""
    commands = {x: command(name, x, updates, options.rejax) for x in contestants}
    steps = updates * BY_HAND[name].ENVS * getattr(BY_HAND[name], "STEPS", 1)
    for x, one in contest(commands, options.rounds, options.starts).items():
        print(
            f"| {name}, {x} | {one.compiling:.1f} | {one.usual / updates * 1e6:.0f} "
            f"| {one.processor / updates * 1e6:.0f} | {steps / one.usual:.0f} "
            f"| {one.ratio:.3f} |",
            flush=True,
        )


def in_one_process(name: str, updates: int, rounds: int) -> None:
    """Print the ratio of our runs to those by hand."""
    hand, ours, ratio = alternate(runs(name, updates), rounds, updates)
    print(
        f"| {name} | {hand * 1e6:.0f} | {ours * 1e6:.0f} | {ours / hand:.3f} "
        f"| {ratio:.3f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rejax", metavar="PYTHON", help="of rejax's environment")
    parser.add_argument("--only", nargs="*", help="realax, `by hand` or rejax")
    parser.add_argument("--algorithms", nargs="*", choices=UPDATES, default=[*UPDATES])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--starts", type=int, default=3, help="processes of each")
    parser.add_argument("--updates", type=int, help="by default, those of a second")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    updates = {x: options.updates or UPDATES[x] for x in options.algorithms}
    if options.serve is not None:
        (name,) = options.algorithms
        return serve(training(name, options.serve, updates[name]))
    contestants = [*CONTESTANTS, *(["rejax"] if options.rejax else [])]
    contestants = [x for x in contestants if not options.only or x in options.only]
    packages = " ".join(f"{p} {version(p)}," for p in ("gymnax", "optax"))
    print(f"jax {jax.__version__}, {packages} {jax.devices()[0]}\n")
    print(
        "| | compile, s | us an update | of the processor | steps/s "
        f"| {contestants[0]} is faster by |\n| --- | --- | --- | --- | --- | --- |"
    )
    for name in options.algorithms:
        by_processes(name, contestants, updates[name], options)
    if set(CONTESTANTS) <= set(contestants):
        print(
            "\n| in one process | by hand, us | realax, us | ratio of medians "
            "| median of ratios |\n| --- | --- | --- | --- | --- |"
        )
        for name in options.algorithms:
            in_one_process(name, updates[name], options.rounds)


if __name__ == "__main__":
    main()
