"""Remember one bit: a recurrent policy can, and a feed-forward policy cannot.

gymnax's MemoryChain shows a bit at the first step and asks for it after the last one.
The right answer gives +1, the wrong one -1. Shows `RNNPolicy`, whose memory is empty at
the beginning of each episode. Takes about a quarter of a minute.
"""

import equinox as eqx
import jax.random as jr

import realax as rx
from realax.tasks.rl_policy import BasePolicy, MLPPolicy, RNNPolicy


def score(policy: BasePolicy) -> float:
    """Evolve a policy, and return its mean return over 1000 new episodes."""
    task = rx.GymnaxTask("MemoryChain-bsuite", max_steps=10)
    policy, _ = rx.evolve(
        policy,
        task,
        jr.key(1),
        strategy="SNES",
        popsize=64,
        eval_reps=16,
        steps=60,
        use_scan=False,
        es_params={"std_init": 0.5},
    )
    play = eqx.filter_jit(eqx.filter_vmap(task, in_axes=(None, 0)))
    returns, _ = play(policy, jr.split(jr.key(2), 1000))
    return float(returns.mean())


def main() -> None:
    obs_dims, action_dims, _ = rx.ENV_SPACES["MemoryChain-bsuite"]
    recurrent = RNNPolicy(obs_dims, action_dims, hidden=8, key=jr.key(0))
    forward = MLPPolicy(obs_dims, action_dims, width=16, depth=1, key=jr.key(0))
    print(f"recurrent policy: mean return {score(recurrent):.2f} of 1")
    print(f"feed-forward policy: mean return {score(forward):.2f} of 1")


if __name__ == "__main__":
    main()
