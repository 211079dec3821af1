from typing import Any

from jax import Array

def centered_rank_fitness_shaping_fn(
    population: Array, fitness: Array, state: Any, params: Any
) -> Array: ...
def standardize_fitness_shaping_fn(
    population: Array, fitness: Array, state: Any, params: Any
) -> Array: ...
def normalize_fitness_shaping_fn(
    population: Array, fitness: Array, state: Any, params: Any
) -> Array: ...
