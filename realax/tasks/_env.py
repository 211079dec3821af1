"""Tasks whose value is the return of an episode."""

import abc
import functools
import os
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, SupportsIndex, cast

import equinox as eqx
import jax
from jaxtyping import Array, Float, Key
from typing_extensions import TypeVar

from .._arguments import arguments, one_key, path as path_
from .._compile import call_compiled, readable_errors
from .._errors import check_key
from .._frozen import Frozen, freeze
from .._trees import with_fields
from .._types import EXECUTION, PRNGKeyArray, Scalar, Tree
from ..policies import BasePolicy, ObsStats, no_obs
from ._base import AbstractTask, checked_result, map_jobs
from ._checks import policy_from
from ._derivatives import guarded, outline, stops_gradients
from ._descriptor import AbstractDescriptor, aux_of
from ._experience import Stream, advance_streams, begin_streams
from ._lanes import play_in_lanes
from ._observing import AbstractObservingTask, Evaluation
from ._options import EnvOptions
from ._render import Artist, draw_episode
from ._render_gymnax import DRAWN
from ._rollout import Collect, Episode, Experience, Rollout, Trajectory, row_of
from ._spaces import EnvSpace, Layout, Layouts


if TYPE_CHECKING:
    from envelope import Environment
else:
    Environment = Any  # `import realax` does not import envelope, which is slow


# For `class GymnaxTask[P = Any]`, which Python 3.12 cannot express. The type of the
# parameters is seldom known at the line that makes a task.
Params = TypeVar("Params", default=Any, infer_variance=True)


class EnvTask[P](AbstractObservingTask[P]):
    """The return of a policy's episode on an environment, to be maximised.

    `task(params, key)` is `(return, aux)`; aux is `{"length": steps played}`, with a
    `"descriptor"` if the task has one, or the result of `data_fn` for the `Trajectory`.
    Nothing after an episode's end is counted.

    A call outside of `jit`, `vmap` and `grad` compiles an episode, and its program is
    among the 64 kept: later calls with policies of equal shapes and the same functions
    use it. As under `eqx.filter_jit`, what such a function reads from outside, and what
    an object holds that is not a pytree, is fixed then.

    Keys: the episode's `key` is split into three, for the environment, for
    `policy.initialize`, and for the policy's steps; step `t` gets `fold_in(key, t)` of
    the third. An episode depends on its own key alone.

    This class is abstract. `GymnaxTask`, `BraxTask` and `EnvelopeTask` are its
    subclasses, and `make` finds the right one. Each takes an environment, its own
    arguments, and these.

    **Arguments:**

    - `max_steps`: the longest episode, in steps.
    - `model_factory`: makes a `BasePolicy` from the parameters; by default the
        parameters are the policy.
    - `data_fn`: makes the aux from an episode's `Trajectory`; only its result is kept.
    - `env_kwargs`, `lanes`, `chunk`, `normalize_obs`, `flatten_obs`, `descriptor`:
        keywords, which `EnvOptions` describes.
    """

    max_steps: int = eqx.field(static=True)
    model_factory: Callable[[Any], Any]
    data_fn: Callable[[Trajectory], Tree] | None
    env_kwargs: Frozen = eqx.field(static=True)
    lanes: int | None = eqx.field(static=True, metadata=EXECUTION)
    chunk: int | None = eqx.field(static=True, metadata=EXECUTION)
    normalize_obs: bool = eqx.field(static=True)
    flatten_obs: bool = eqx.field(static=True)
    descriptor: AbstractDescriptor | None
    obs_layout: Layout = eqx.field(static=True, init=False)
    action_layout: Layout = eqx.field(static=True, init=False)

    def __init__(
        self,
        layouts: Layouts,
        max_steps: SupportsIndex,
        model_factory: Callable[[Any], Any],
        data_fn: Callable[[Trajectory], Tree] | None,
        options: EnvOptions,
    ):
        """Set the fields of all subclasses, from arguments that were checked before.

        **Raises:** `ValueError` for options that exclude each other.
        """
        self.max_steps = int(max_steps)
        self.model_factory = model_factory
        self.data_fn = data_fn
        self.env_kwargs = freeze(options.get("env_kwargs"))
        self.lanes = cast(int | None, options.get("lanes"))
        self.chunk = cast(int | None, options.get("chunk"))
        self.normalize_obs = options.get("normalize_obs", False)
        self.flatten_obs = options.get("flatten_obs", True)
        self.descriptor = options.get("descriptor")
        self.obs_layout, self.action_layout = layouts
        if self.descriptor is not None and data_fn is not None:
            raise ValueError(
                "`descriptor` and `data_fn` cannot both be given, because both make "
                "the aux. Leave one of them out: `data_fn` can return a dictionary "
                'with an entry "descriptor" itself.'
            )
        if self.normalize_obs and not self.flatten_obs:
            raise ValueError(
                "`normalize_obs` needs flat observations, but got `flatten_obs=False`. "
                "Normalise inside the policy instead."
            )

    @abc.abstractmethod
    def environment(self) -> Environment:
        """Return the environment in `jax-envelope`'s form."""

    @property
    def maximize(self) -> bool:
        """True, because a larger return is better."""
        return True

    @property
    def stochastic(self) -> bool:
        """True, because episodes begin at random."""
        return True

    @property
    def differentiable(self) -> bool:
        """True if derivatives of the return are correct and useful for training.

        False if actions are discrete choices, whose derivative is 0, and if the
        environment stops gradients, as most of gymnax's do: the derivative through an
        episode would be wrong, and taking it is an error.
        """
        return self.obstacle is None

    @property
    def obstacle(self) -> str | None:
        """The reason why the return is not differentiable, as a sentence, or `None`."""
        if self.action_layout.chooses:
            return "its actions are discrete choices, of which the derivative is 0."
        return self._stopped(self.environment())

    def _stopped(self, environment: Any) -> str | None:
        """Return a sentence that the environment stops gradients, or `None`."""
        if not stops_gradients(environment, self.action_layout):
            return None
        return "the environment stops gradients in its step."

    @property
    def space(self) -> EnvSpace:
        """The sizes that a policy needs."""
        action = self.action_layout
        return EnvSpace(self.obs_layout.size, action.size, action.discrete)

    @property
    def obs_shape(self) -> Tree:
        """The shape and dtype of the observations that policies get.

        A `jax.ShapeDtypeStruct`, or with `flatten_obs=False` a tree of them with the
        structure of the environment's observation.
        """
        rules = self.rules()
        return jax.eval_shape(
            lambda: rules.shown(rules.environment.init(jax.random.key(0))[1].obs)
        )

    @property
    def obs_stats(self) -> ObsStats | None:
        """The statistics of no observation; `None` without `normalize_obs`."""
        return no_obs(self.obs_layout.size) if self.normalize_obs else None

    def __call__(
        self, params: P, key: PRNGKeyArray, data: Tree = None
    ) -> tuple[Scalar, Tree]:
        """Play one episode, and return its return and its aux.

        **Arguments:**

        - `params`: the policy, or the input of the `model_factory`.
        - `key`: the episode's key.
        - `data`: not used.

        **Raises:** `TypeError` if it is differentiated although the environment stops
        gradients.
        """
        del data
        if self.data_fn is None:
            return call_compiled(_played, self.compiler_options, self, params, key)
        total, trajectory = self._rolled_out(params, key)
        return total, self.data_fn(trajectory)

    def evaluate(
        self, population: P, keys: Key[Array, "pop reps"], data: Tree = None
    ) -> tuple[Float[Array, "pop reps"], Tree]:
        """Play the episodes of a population, and return their returns and their aux.

        Episodes are played in parallel lanes: when an episode ends, its lane takes the
        next one, so that short episodes do not wait for long ones, and memory grows
        with the lanes and not with the population. Each episode is the one that
        `task(params, key)` plays. With `data_fn`, or `lanes=0`, all episodes are played
        at once.
        """
        options = self.compiler_options
        return call_compiled(_evaluated, options, self, population, keys, data)

    def evaluate_and_observe(
        self, population: Any, keys: Key[Array, "pop reps"], data: Tree = None
    ) -> Evaluation:
        """Evaluate a population as `evaluate`, and sum up the observations.

        **Arguments:**

        - `population`, `keys`, `data`: as for `evaluate`.
        """
        del data
        if self._plays_in_lanes(keys):
            played = play_in_lanes(self, population, keys, count=True)
            aux = aux_of(played.length, played.descriptor)
            return Evaluation(played.total, aux, played.moments)

        def job(params: Any, key: PRNGKeyArray) -> Any:
            episode, aux = self._scored(params, key, count=True)
            result = checked_result((episode.total, aux), self.display_name)
            return *result, episode.moments

        return Evaluation(*map_jobs(job, population, keys))

    def rollout(self, params: P, key: PRNGKeyArray) -> Trajectory:
        """Play the same episode as `task(params, key)`, and return all of its steps."""
        return self._rolled_out(params, key)[1]

    def _rolled_out(self, params: Any, key: Any) -> tuple[Scalar, Trajectory]:
        return call_compiled(_rolled_out, self.compiler_options, self, params, key)

    @arguments(key=one_key, path=path_)
    def render(
        self, params: P, key: PRNGKeyArray, path: str | os.PathLike[str]
    ) -> pathlib.Path:
        """Draw one episode into a file: the one that `task(params, key)` scores.

        **Arguments:**

        - `params`, `key`: as for a call of the task.
        - `path`: the file. It ends in `.html` for brax, which gives one page that holds
            brax's own viewer and needs no network; and in `.gif` for gymnax, whose
            visualiser draws fifteen of its environments. A missing folder is made.

        **Returns:** The path of the file.

        **Raises:** `ValueError` for an environment that cannot be drawn, and for
        another ending; `ImportError` that names the extra to install; `OSError` if the
        file cannot be written; `RuntimeError` under `jit`, `vmap` and `grad`.
        """
        return draw_episode(self, params, key, pathlib.Path(path))

    def artist(self) -> Artist:
        """Return the drawer of the environment.

        **Raises:** `ValueError` for an environment that cannot be drawn.
        """
        raise ValueError(
            "`render` draws the environments of brax, and of gymnax "
            f"{', '.join(DRAWN)}, but not those of {self.display_name}. Of these two "
            "suites, `rx.make` makes tasks that it draws."
        )

    def begin_streams(self, params: P, keys: Key[Array, " streams"]) -> Stream:
        """Return endless streams of episodes for learners, before their first step.

        **Arguments:**

        - `params`: as for a call of the task.
        - `keys`: a key for each stream. Episode `n` of its stream is the one that
            `task(params, fold_in(key, n))` plays.
        """
        return begin_streams(self._stream_rules, self.policy_of(params), keys)

    def advance_streams(
        self, params: P, streams: Stream, steps: int
    ) -> tuple[Stream, Experience]:
        """Advance streams by some steps, and return the experience of these steps.

        When an episode ends, the next one begins. The `next_obs` of an episode's last
        step is its own last observation.

        **Arguments:**

        - `params`: as for a call of the task. A learner may change them between calls.
        - `streams`: returned by `begin_streams` or by the previous call.
        - `steps`: the number of steps of each stream.

        **Returns:** The streams, and the `Experience` with leading axes
        `(steps, streams)`.
        """
        with readable_errors():
            policy = self.policy_of(params)
            return advance_streams(self._stream_rules, policy, streams, steps)

    def rules(self) -> Rollout:
        """Return the rules of all episodes of this task."""
        environment = self.environment()
        environment = guarded(environment, self._reason(environment))
        return Rollout(
            environment,
            environment.action_space,
            self.obs_layout,
            self.action_layout,
            self.max_steps,
            self.flatten_obs,
            self.descriptor,
        )

    @property
    def _stream_rules(self) -> Rollout:
        """The rules without the descriptor, which learners do not need."""
        return with_fields(self.rules(), descriptor=None)

    def policy_of(self, params: Any) -> BasePolicy[Any]:
        """Return the policy that `model_factory` makes from parameters.

        **Raises:** `TypeError` if it makes anything else.
        """
        policy = policy_from(params, self.model_factory)
        return guarded(policy, self._reason(self.environment()))

    def _reason(self, environment: Any) -> Callable[[], str | None]:
        """Return `_stopped` as a function that holds no traced array."""
        return functools.partial(outline(self)._stopped, outline(environment))

    def _plays_in_lanes(self, keys: Key[Array, "pop reps"]) -> bool:
        return self.data_fn is None and self.lanes != 0 and 0 not in keys.shape

    def _scored(
        self, params: Any, key: PRNGKeyArray, *, count: bool
    ) -> tuple[Episode, Tree]:
        """Play an episode, and return its last state and its aux."""
        if self.data_fn is None:
            episode, _ = self._play(params, key, count=count)
            found = self.rules().descriptor_of(episode)
            return episode, aux_of(episode.length, found)
        episode, trajectory = self._play(params, key, collect=row_of, count=count)
        return episode, self.data_fn(cast(Trajectory, trajectory))

    def _play(
        self,
        params: Any,
        key: PRNGKeyArray,
        *,
        collect: Collect | None = None,
        count: bool = False,
    ) -> tuple[Episode, Tree]:
        check_key(key)
        policy = self.policy_of(params)
        return self.rules().scan(policy, key, collect=collect, count=count)


def _played(task: Any, params: Any, key: PRNGKeyArray) -> tuple[Scalar, Tree]:
    episode, aux = task._scored(params, key, count=False)
    return episode.total, aux


def _rolled_out(task: Any, params: Any, key: Any) -> tuple[Scalar, Trajectory]:
    episode, trajectory = task._play(params, key, collect=row_of)
    return episode.total, trajectory


def _evaluated(task: Any, population: Any, keys: Any, data: Tree) -> tuple[Array, Tree]:
    if not task._plays_in_lanes(keys):
        return AbstractTask.evaluate(task, population, keys, data)
    played = play_in_lanes(task, population, keys, count=False)
    return played.total, aux_of(played.length, played.descriptor)
