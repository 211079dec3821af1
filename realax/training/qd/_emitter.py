"""The contract of emitters."""

import abc
from typing import ClassVar, final

import equinox as eqx
from jaxtyping import Array, Float

from ..._types import PRNGKeyArray, Tree
from ._elites import Elites, Told
from ._slopes import SlopesAt


class AbstractEmitter(eqx.Module):
    """Makes generations of individuals from the elites of an archive.

    A subclass defines `ask`, and `init` and `tell` if it has a state: a tree of arrays
    that keeps its types. Individuals are flat, and quality has the sign such that
    larger is better.

    - `differentiates`: whether it asks for derivatives of the task.
    """

    differentiates: ClassVar[bool] = False

    def init(self, key: PRNGKeyArray, told: Told, elites: Elites) -> Tree:
        """Return the state after the first population; by default there is none.

        **Arguments:**

        - `key`: the key.
        - `told`: what became of the first population. It has as many individuals as
            each generation.
        - `elites`: the archive with it.
        """
        del key, told, elites
        return None

    @abc.abstractmethod
    def ask(
        self,
        key: PRNGKeyArray,
        state: Tree,
        elites: Elites,
        popsize: int,
        slopes: SlopesAt | None = None,
    ) -> tuple[Float[Array, "pop dims"], Tree]:
        """Return a generation, one flat individual in each row, and the state with it.

        **Arguments:**

        - `key`: the key.
        - `state`: the state so far.
        - `elites`: the archive so far.
        - `popsize`: the number of individuals.
        - `slopes`: a function of points, one in each row, that returns the derivatives
            of the task there; passed if the class sets `differentiates`.
        """

    @final
    def asked(
        self,
        key: PRNGKeyArray,
        state: Tree,
        elites: Elites,
        popsize: int,
        slopes: SlopesAt | None,
    ) -> tuple[Float[Array, "pop dims"], Tree]:
        """Return the result of `ask`, which gets `slopes` only if it asks for them.

        **Arguments:**

        - `key`, `state`, `elites`, `popsize`, `slopes`: as for `ask`.
        """
        if self.differentiates:
            return self.ask(key, state, elites, popsize, slopes)
        return self.ask(key, state, elites, popsize)

    def tell(self, key: PRNGKeyArray, state: Tree, told: Told, elites: Elites) -> Tree:
        """Return the state after a generation; by default, as it was.

        It is not called for a generation without any usable individual, and an update
        that makes a number NaN or infinite is refused.

        **Arguments:**

        - `key`: the key.
        - `state`: the state from `ask`.
        - `told`: what became of the generation.
        - `elites`: the archive with the generation inserted.
        """
        del key, told, elites
        return state

    def check(self, popsize: int) -> None:
        """Refuse a population size that the emitter cannot make; by default, accept it.

        **Arguments:**

        - `popsize`: the number of individuals in a generation.

        **Raises:** `ValueError` that says which ones would do.
        """
        del popsize
