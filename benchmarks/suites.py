"""List the environments of each suite that can be played, and why others cannot.

For every suite that jax-envelope adapts and that is installed, `rx.make` builds each
environment, and a random policy plays one short episode in it. Prints a table. Takes
minutes where brax or MuJoCo are compiled. `python benchmarks/suites.py jumanji` tries
one suite; a second argument limits the number of its environments.
"""

import sys
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from envelope import registered_environments, registered_suites

import realax as rx


STEPS = 20


def play(name: str) -> str:
    """Play an episode of at most `STEPS` steps, and describe it."""
    kws: dict[str, Any] = {"max_steps": STEPS}
    if name == "brax::swimmer":
        kws["backend"] = "generalized"
    if name == "gymnax::DeepSea-bsuite":
        kws["max_steps"] = None  # its own horizon is 8
    task = rx.make(name, **kws)
    obs_dims, action_dims, discrete = task.space
    policy = rx.MLPPolicy(obs_dims, action_dims, 8, 1, key=jr.key(0))
    value, aux = eqx.filter_jit(task)(policy, jr.key(1))
    kind = "choices" if discrete else "numbers"
    note = "" if jnp.isfinite(value) else ", return not finite"
    return (
        f"plays: {obs_dims} in, {action_dims} {kind} out, {aux['length']} steps{note}"
    )


def main() -> None:
    wanted = sys.argv[1:2] or registered_suites()
    limit = int(sys.argv[2]) if len(sys.argv) > 2 else None
    print("| environment | |\n| --- | --- |")
    for suite in wanted:
        names = registered_environments(suite)[:limit]
        if not names:
            print(f"| {suite} | not installed, or its import fails |")
        for name in names:
            if name == "gymnax::MNISTBandit-bsuite":
                print(f"| {name} | not tried: it downloads data |")
                continue
            try:
                outcome = play(name)
            except Exception as error:  # whatever a suite raises is what is asked for
                first = (str(error).strip() or "no message").splitlines()[0]
                outcome = f"does not: {type(error).__name__}: {first[:150]}"
            print(f"| {name} | {outcome} |", flush=True)


if __name__ == "__main__":
    main()
