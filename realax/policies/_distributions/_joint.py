"""Independent distributions as one."""

import functools
import operator
from collections.abc import Sequence
from typing import Any

import jax

from ..._errors import check_key, describe
from ..._keys import split
from ..._types import PRNGKeyArray, Scalar, Tree
from ._base import AbstractDistribution


class Joint(AbstractDistribution[Tree]):
    """Independent distributions, for actions of several parts.

    **Arguments:**

    - `parts`: a tree of distributions, such as a dictionary or a tuple.

    **Raises:** `TypeError` for a leaf that is no distribution, `ValueError` for a tree
    without any.

    An action is a tree of the same structure with the actions of the parts.
    """

    parts: Tree

    def __check_init__(self) -> None:
        for path, part in jax.tree_util.tree_leaves_with_path(self.parts, _is_part):
            if not _is_part(part):
                raise TypeError(
                    "`parts` of `Joint` must be a tree of distributions, but got "
                    f"{describe(part)} at `{jax.tree_util.keystr(path) or '(root)'}`. "
                    "For example: `{'turn': rx.Normal(mean, log_std)}`."
                )
        if not self._flat[0]:
            raise ValueError(
                "`parts` of `Joint` must hold at least one distribution, but got "
                f"{describe(self.parts)}."
            )

    def sample(self, key: PRNGKeyArray) -> Tree:
        """A tree of random actions, each part's by a key of its own."""
        return self.sample_by(self.noise(key))

    def noise(self, key: PRNGKeyArray) -> list[Tree]:
        """The random numbers of each part, by a key of its own."""
        return [part.noise(one) for part, one in self._with_keys(key)]

    def sample_by(self, noise: list[Tree]) -> Tree:
        """A tree of actions by the random numbers of each part."""
        parts, treedef = self._flat
        drawn = [part.sample_by(one) for part, one in zip(parts, noise, strict=True)]
        return jax.tree.unflatten(treedef, drawn)

    def sample_and_log_prob(self, key: PRNGKeyArray) -> tuple[Tree, Scalar]:
        """A tree of random actions, and the sum of their log-probabilities.

        **Arguments:**

        - `key`: as for `sample`.
        """
        drawn = [part.sample_and_log_prob(one) for part, one in self._with_keys(key)]
        actions, log_probs = zip(*drawn, strict=True)
        return jax.tree.unflatten(self._flat[1], actions), _total(log_probs)

    def log_prob(self, action: Tree) -> Scalar:
        """The sum of the log-probabilities of the parts.

        **Arguments:**

        - `action`: a tree with the structure of `parts`.

        **Raises:** `ValueError` for a tree of another structure.
        """
        parts, treedef = self._flat
        try:
            actions = treedef.flatten_up_to(action)
        except ValueError as error:
            raise ValueError(
                "`action` of a `Joint` must have the structure of its parts, "
                f"{treedef}, but got {jax.tree.structure(action)}. Build it as "
                "`sample` does."
            ) from error
        return _total([p.log_prob(one) for p, one in zip(parts, actions, strict=True)])

    def entropy(self) -> Scalar:
        """The sum of the entropies of the parts, in nats."""
        return _total([part.entropy() for part in self._flat[0]])

    def mode(self) -> Tree:
        """A tree of the modes of the parts."""
        parts, treedef = self._flat
        return jax.tree.unflatten(treedef, [part.mode() for part in parts])

    @property
    def _flat(self) -> tuple[list[AbstractDistribution[Any]], Any]:
        return jax.tree.flatten(self.parts, is_leaf=_is_part)

    def _with_keys(self, key: PRNGKeyArray) -> Any:
        check_key(key)
        parts = self._flat[0]
        return zip(parts, split(key, len(parts)), strict=True)


def _total(parts: Sequence[Scalar]) -> Scalar:
    return functools.reduce(operator.add, parts)


def _is_part(node: Any) -> bool:
    return isinstance(node, AbstractDistribution)
