"""Evolve what an evolution starts with: the initial step size of CMA-ES.

Shows `rx.TrainerTask`: a whole evolution is the fitness of another one. The outer one
finds the step size with which thirty generations of the inner one come closest to the
deepest minimum of the rastrigin function, which has many others around it.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

import realax as rx


def rastrigin(x, key, data=None):
    return jnp.sum(x**2 - 10 * jnp.cos(2 * jnp.pi * x) + 10), None


def with_step_size(trainer, log_size):
    return eqx.tree_at(lambda t: t.es_params.std_init, trainer, jnp.exp(log_size))


def main() -> None:
    start = jnp.full(2, 3.0)
    inner = rx.EvosaxTrainer(30, "CMA_ES", rastrigin, start, popsize=20)
    task = rx.TrainerTask(inner, with_step_size)
    log_size, _, data = rx.evolve(
        jnp.log(0.1),
        task,
        jr.key(0),
        strategy="CMA_ES",
        popsize=16,
        steps=25,
        eval_reps=8,
        progress_bar=True,
    )
    mean = data["metrics"]["mean_fitness"]
    print(f"mean result of the inner runs: {mean[0]:.2f} at first, {mean[-1]:.2f} last")

    keys = jr.split(jr.key(1), 200)
    test = jax.jit(jax.vmap(task, in_axes=(None, 0)))
    for name, size in ("first", jnp.log(0.1)), ("evolved", log_size):
        values, _ = test(size, keys)
        print(
            f"{name} step size {jnp.exp(size):.2f}: median of 200 new runs "
            f"{jnp.median(values):.2f}, {jnp.mean(values < 0.1):.0%} found the minimum"
        )


if __name__ == "__main__":
    main()
