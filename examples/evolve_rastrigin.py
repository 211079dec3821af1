"""Find the minimum of Rastrigin's function with CMA-ES, from several starts at once.

Shows an `EvosaxTrainer`, its metrics, and `jax.vmap` over whole runs. Takes about ten
seconds.
"""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

import realax as rx


def rastrigin(
    x: Float[Array, " dims"], key: PRNGKeyArray, data: None = None
) -> tuple[Float[Array, ""], None]:
    """Rastrigin's function: many local minima in a bowl. The deepest is 0, at 0."""
    del key, data
    return jnp.sum(x**2 - 10 * jnp.cos(2 * jnp.pi * x) + 10), None


def main() -> None:
    trainer = rx.EvosaxTrainer(
        train_steps=200,
        strategy="CMA_ES",
        task=rastrigin,
        params_like=jnp.full((5,), 3.0),
        popsize=256,
        es_params={"std_init": 2.0},
    )
    state, data = trainer.init_and_train(jr.key(1))
    for step in (0, 9, 49, 199):
        print(f"step {step + 1:3d}  best {data['metrics']['best_fitness'][step]:.6f}")
    print("found", jnp.round(state.best_params, 3))

    states = jax.vmap(trainer.init_and_train_)(jr.split(jr.key(2), 16))
    solved = jnp.sum(states.best_fitness < 1e-3)
    print(f"{solved} of 16 runs, compiled as one program, found the deepest minimum")


if __name__ == "__main__":
    main()
