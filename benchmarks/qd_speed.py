"""Quality diversity beside qdax: paired runs of the same configuration.

    pip install "realax[qdax]"
    python benchmarks/qd_speed.py [--rounds N] [--case NAME]

Prints the milliseconds of a step of qdax (`MAPElites.scan_update`) and of `QDTrainer`,
and the median ratio of alternating runs, without compilation. Both compute the QD
score, the coverage and the best fitness in each step.
"""

import argparse
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from _qd_tasks import sphere
from _timing import alternate
from qdax.core.containers.mapelites_repertoire import (
    compute_cvt_centroids,
    compute_euclidean_centroids,
)
from qdax.core.containers.unstructured_repertoire import UnstructuredRepertoire
from qdax.core.emitters.cma_improvement_emitter import CMAImprovementEmitter
from qdax.core.emitters.cma_pool_emitter import CMAPoolEmitter
from qdax.core.emitters.mutation_operators import isoline_variation
from qdax.core.emitters.standard_emitters import MixingEmitter
from qdax.core.map_elites import MAPElites
from qdax.tasks.arm import arm
from qdax.utils.metrics import default_qd_metrics

import realax as rx


Run = Callable[[Any], Any]


def theirs(
    score: Any, emitter: Any, centroids: Any, first: Any, offset: float, steps: int
) -> Run:
    """Return a compiled run of qdax as a function of a key."""
    metrics = functools.partial(default_qd_metrics, qd_offset=offset)
    algorithm = MAPElites(score, emitter, metrics)

    @jax.jit
    def run(key: Any, centroids: Any) -> Any:
        init_key, run_key = jr.split(key)
        repertoire, state, _ = algorithm.init(first(init_key), centroids, init_key)
        # Its Python numbers would change their types in the first step.
        state = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), state)
        carry = (repertoire, state, run_key)
        return jax.lax.scan(algorithm.scan_update, carry, (), length=steps)

    return lambda key: run(key, centroids)


def ours(trainer: Any) -> Run:
    """Return a run of realax as a function of a key."""
    return trainer.init_and_train


def arm_task(x: Any, key: Any, data: Any = None) -> Any:
    fitness, descriptor = arm(x)
    return fitness, {"descriptor": descriptor}


arm_task.maximize = True  # pyright: ignore[reportFunctionMemberAccess]


def arm_scores(genotypes: Any, key: Any) -> Any:
    fitness, descriptors = jax.vmap(arm)(genotypes)
    return fitness, descriptors, {}


def arm_emitter(batch: int) -> Any:
    variation = functools.partial(
        isoline_variation, iso_sigma=0.05, line_sigma=0.1, minval=0, maxval=1
    )
    return MixingEmitter(None, variation, 1.0, batch)


def arm_of_qdax(dims: int, centroids: Any, batch: int, steps: int) -> Run:
    emitter = arm_emitter(batch)
    first = lambda key: jr.uniform(key, (batch, dims))
    return theirs(arm_scores, emitter, centroids, first, 1.0, steps)


def arm_trainer(dims: int, archive: Any, batch: int, steps: int) -> Any:
    return rx.QDTrainer(
        steps,
        arm_task,
        initializer=lambda key: jr.uniform(key, (dims,)),
        archive=archive,
        emitter=rx.IsoLineEmitter(0.05, 0.1, lower=0.0, upper=1.0),
        popsize=batch,
        qd_offset=1.0,
    )


def arms(dims: int, archive: Any, centroids: Any, batch: int, steps: int) -> Any:
    trainer = arm_trainer(dims, archive, batch, steps)
    return arm_of_qdax(dims, centroids, batch, steps), ours(trainer)


def readme_arm(steps: int) -> Any:
    centroids = compute_euclidean_centroids((100, 100), 0.0, 1.0)
    return arms(100, rx.GridArchive((100, 100), 0.0, 1.0), centroids, 1024, steps)


def cvt_arm(steps: int) -> Any:
    archive = rx.CVTArchive(1024, 0.0, 1.0)
    return arms(12, archive, archive.centroids, 150, steps)


def qdax_own_cvt(steps: int) -> Any:
    """With the centroids that qdax itself computes."""
    centroids = compute_cvt_centroids(2, 10_000, 1024, 0.0, 1.0, jr.key(0))
    archive = rx.CVTArchive(1024, 0.0, 1.0, centroids=jnp.clip(centroids, 0, 1))
    return arms(12, archive, centroids, 150, steps)


def unstructured_arm(steps: int) -> Any:
    """Without bounds. qdax has no `MAPElites` for it: its parts in a scan."""
    cells, spacing, dims, batch = 1024, 0.03, 12, 150
    emitter = arm_emitter(batch)

    def step(repertoire: Any, key: Any) -> Any:
        genotypes, _ = emitter.emit(repertoire, None, key)
        fitness, descriptors, _ = arm_scores(genotypes, key)
        repertoire = repertoire.add(genotypes, descriptors, fitness)
        return repertoire, default_qd_metrics(repertoire, 1.0)

    @jax.jit
    def run(key: Any) -> Any:
        genotypes = jr.uniform(key, (batch, dims))
        fitness, descriptors, _ = arm_scores(genotypes, key)
        start = UnstructuredRepertoire.init(
            genotypes, fitness, descriptors, spacing, cells
        )
        return jax.lax.scan(step, start, jr.split(key, steps))

    archive = rx.UnstructuredArchive(cells, spacing)
    return run, ours(arm_trainer(dims, archive, batch, steps))


def cma_me(steps: int) -> Any:
    dims, batch, pool = 20, 36, 3
    bound = 5.12 * dims / 2
    task = sphere(dims)

    def score(genotypes: Any, key: Any) -> Any:
        fitness, aux = jax.vmap(lambda x: task(x, None))(genotypes)
        return fitness, aux["descriptor"], {}

    centroids = compute_euclidean_centroids((50, 50), -bound, bound)
    one = CMAImprovementEmitter(batch, dims, centroids, sigma_g=0.5, min_count=1)
    first = lambda key: 0.5 * jr.normal(key, (batch, dims))
    trainer = rx.QDTrainer(
        steps,
        task,
        jnp.zeros(dims),
        archive=rx.GridArchive((50, 50), -bound, bound),
        emitter=rx.CMAEmitter(emitters=pool),
        popsize=batch,
    )
    emitter = CMAPoolEmitter(pool, one)
    return theirs(score, emitter, centroids, first, 0.0, steps), ours(trainer)


class FlaxPolicy(rx.BasePolicy[None]):
    """The policies that qdax's scoring plays: flax's parameters, and the network."""

    weights: Any
    network: Any = eqx.field(static=True)

    def initialize(self, key: Any) -> None:
        return None

    def __call__(self, obs: Any, state: None, key: Any) -> Any:
        return self.network.apply(self.weights, obs), state


def foot_contact(env_state: Any, info: Any) -> Any:
    contact = env_state.pipeline_state.contact
    return jnp.any((contact.link_idx[1] == 3) & (contact.dist <= 0))


def hopper(steps: int) -> Any:
    """Evaluations of the same 128 policies, each on an episode of up to 1000 steps."""
    import qdax.tasks.brax.v2 as environments
    from qdax.core.neuroevolution.networks.networks import MLP
    from qdax.tasks.brax.descriptor_extractors import get_feet_contact_proportion
    from qdax.tasks.brax.v2.env_creators import create_brax_scoring_fn

    pop, horizon = 128, 1000
    env = environments.create("hopper_uni", episode_length=horizon, backend="spring")
    network = MLP((32, 32, 3), final_activation=jnp.tanh)
    make = lambda key: network.init(key, jnp.zeros(env.observation_size))
    weights = jax.vmap(make)(jr.split(jr.key(0), pop))
    score = create_brax_scoring_fn(
        env,
        network,
        get_feet_contact_proportion,
        jr.key(0),
        episode_length=horizon,
        deterministic=False,
    )
    task = rx.BraxTask(
        "hopper",
        max_steps=horizon,
        backend="spring",
        env_kwargs={"debug": True},
        descriptor=rx.MeanOf(foot_contact),
    )
    policies = FlaxPolicy(weights, network)
    options = {name: str(value) for name, value in task.compiler_options.items()}
    evaluate = jax.jit(lambda keys: task.evaluate(policies, keys))
    keys = jr.split(jr.key(0), (pop, 1))
    compiled = evaluate.lower(keys).compile(compiler_options=options)
    assert steps == 1
    return (lambda key: score(weights, key)[:2]), (
        lambda key: compiled(jr.split(key, (pop, 1)))
    )


# How both are made, and the steps of a run.
CASES: dict[str, tuple[Callable[[int], Any], int]] = {
    "arm of 100, grid 100x100, 1024": (readme_arm, 50),
    "arm of 12, CVT 1024, 150": (cvt_arm, 1000),
    "arm of 12, qdax's centroids": (qdax_own_cvt, 1000),
    "arm of 12, unstructured 1024, 150": (unstructured_arm, 100),
    "CMA-ME, sphere of 20, 36": (cma_me, 2000),
    "hopper, feet contact, 128 episodes": (hopper, 1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--case", default="")
    given = parser.parse_args()
    print(f"jax {jax.__version__}, {jax.devices()}\n")
    print("| case | qdax, ms a step | realax | ratio |\n| --- | --- | --- | --- |")
    for name, (make, steps) in CASES.items():
        if given.case in name:
            their, our = make(steps)
            # Ratios of the second run to the first.
            mine, other, ratio = alternate((our, their), given.rounds, steps)
            print(
                f"| {name} | {other * 1e3:.2f} | {mine * 1e3:.3f} | {ratio:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
