"""Compilation of functions, with a bounded cache of programs in memory."""

import collections
import contextlib
import threading
from collections.abc import Callable, Collection, Generator, Mapping
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer

from .._check import no_type_check
from .._parts import closes_over_tracer, under_trace
from ._errors import readable_errors
from ._options import Options, as_text, readable_refusals
from ._values import check_hashable, have_hashes, same, static_types, typed


# The number of programs to keep. A trainer has up to five: two for its initial state,
# one for its step, one for whole runs and one for observed runs. A task that is called
# by itself has one for each structure of policies.
PROGRAMS = 64


def compiled(
    function: Callable[..., Any],
    options: Mapping[str, Any],
    wait: bool = True,
    reused: Callable[..., Any] | None = None,
    inline: bool = False,
) -> "Compiled":
    """Compile a function like `eqx.filter_jit`, with a bounded number of programs kept.

    Arrays among the arguments are traced. Other leaves are compiled into the program
    and compared by type and value, so that equal arguments compile nothing. The 64
    programs used last are kept with the values in their closures. An unbounded cache
    would keep each task of a script that defines a new one for each call.

    **Arguments:**

    - `function`: the function to compile. It takes positional arguments.
    - `options`: options of XLA by name. jax accepts them only for an outermost program:
        pass none for a function that is called while another is traced.
    - `wait`: whether a call waits until its results are computed. Otherwise make the
        call and use its results inside `readable_errors`.
    - `reused`: a function of the arguments that returns those arrays among them whose
        memory the results may take, and which no one uses after the call. None by
        default.
    - `inline`: whether a call inside another program leaves no trace in it. It is for
        a function that several programs contain, and that is then traced only once.

    **Returns:** The compiled function. It raises `TypeError` for a leaf of an argument
    that is neither an array nor hashable. Keep it for calls in a loop, which differ in
    their arrays alone: it looks up the program of equal arguments only once.
    """
    return Compiled(function, as_text(options), wait, reused, inline=inline)


def call_compiled(
    function: Callable[..., Any], options: Mapping[str, Any], *arguments: Any
) -> Any:
    """Call a function as a compiled program, unless a trace is in progress.

    For what users call both by itself, perhaps in a loop, and inside programs of their
    own. Functions, and objects that are not pytrees, are compared by `==`, which mostly
    is identity: what they hold, or read from outside, is fixed when they are compiled.
    A call with arguments that cannot be hashed, also in a static field, is compiled
    anew.

    **Arguments:**

    - `function`, `options`: as for `compiled`.
    - `arguments`: those of the function.
    """
    if under_trace():
        with readable_errors():
            return function(*arguments)
    return Compiled(function, as_text(options), strict=False)(*arguments)


# They take the place of an array among the leaves that are compiled into a program.
_ARRAY, _REUSED = object(), object()

_programs: collections.OrderedDict[Any, Any] = collections.OrderedDict()
_lock = threading.Lock()


# Each step of a stream calls this class and the functions below, so they are not
# checked.
@final
class Compiled:
    """A compiled function, see `compiled`."""

    def __init__(
        self,
        function: Callable[..., Any],
        options: Options,
        wait: bool = True,
        reused: Callable[..., Any] | None = None,
        strict: bool = True,
        inline: bool = False,
    ):
        self._function = function
        self._options = options
        self._wait = wait
        self._reused = reused
        self._strict = strict
        self._inline = inline
        self._is_new = False  # whether no other call had the program of the last one
        # The structure and the other leaves of the last call, and its program.
        self._last: tuple[Any, tuple[Any, ...], Any] | None = None

    @no_type_check
    def __call__(self, *arguments: Any) -> Any:
        program, arrays, spare = self._found(arguments)
        with readable_errors(), readable_refusals(self._options):
            done, *results = program(arrays, spare)
            if self._wait and not isinstance(done, Tracer):
                done.block_until_ready()
        return _whole(*results)

    def new_shapes(self, *arguments: Any) -> Any:
        """Return the result of a call with shapes in place of arrays.

        The call then finds the function traced. `None` if another call had the program
        before, or a trace is in progress.
        """
        program, arrays, spare = self._found(arguments)
        if not self._is_new or under_trace() or jax.config.jax_disable_jit:
            return None
        with readable_errors():
            return _whole(*program.trace(arrays, spare).out_info[1:])

    def lowered(self, *arguments: Any) -> Any:
        """Trace and lower the program of a call, which then finds it lowered.

        **Arguments:**

        - `arguments`: those of the call, perhaps with shapes in place of arrays that
            are not committed to a device.

        **Returns:** What jax lowered; `None` after an error, which is left to the call.
        """
        with contextlib.suppress(Exception):
            program, arrays, spare = self._found(arguments, _stands_for_array)
            return program.trace(arrays, spare).lower()
        return None

    @contextlib.contextmanager
    def ahead(self, *arguments: Any) -> Generator[None]:
        """Compile, in a thread, while the body of the context does other work.

        An error, such as that of a wrong option of XLA, is left to the call.

        **Arguments:**

        - `arguments`: as for `lowered`.
        """
        lowered = self.lowered(*arguments)
        if lowered is None:
            yield
            return

        def compile() -> None:
            with contextlib.suppress(Exception):
                lowered.compile()

        thread = threading.Thread(target=compile, name="realax compiles")
        thread.start()
        yield
        # An error in the body is raised at once; Python waits for the thread at exit,
        # where XLA could not be stopped without a crash.
        thread.join()

    @no_type_check
    def _found(
        self, arguments: Any, is_array: Callable[[Any], bool] = eqx.is_array
    ) -> tuple[Any, list[Any], list[Any]]:
        """Return the program of some arguments, and its own: arrays, of two kinds."""
        leaves, treedef = jax.tree.flatten(arguments)
        reused = self._reused
        spare = () if reused is None else jax.tree.leaves(reused(*arguments))
        arrays, spare, rest = _split(leaves, {id(array) for array in spare}, is_array)
        return self._program(treedef, rest, arguments), arrays, spare

    @no_type_check
    def _program(self, treedef: Any, rest: tuple[Any, ...], arguments: Any) -> Any:
        last = self._last
        if last is not None and same(rest, last[1]) and treedef == last[0]:
            return last[2]
        function, how = self._function, (self._options, self._inline)
        if not self._strict and not have_hashes(treedef, rest):
            return _build(function, *how, treedef, rest)
        types = tuple(map(typed, rest)), static_types(treedef)
        key = function, *how, treedef, *types
        try:
            program = _look_up(key)
        except TypeError:
            check_hashable(function, arguments)
            raise
        self._is_new = program is None
        if program is None:
            program = _build(function, *how, treedef, rest)
            # A traced array is invalid after its trace, so such a program is not kept.
            if closes_over_tracer(jax.tree.unflatten(treedef, rest)):
                return program
            program = _store(key, program)
        self._last = treedef, rest, program
        return program


def _stands_for_array(leaf: Any) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)


@no_type_check
def _split(
    leaves: list[Any],
    reused: Collection[int],
    is_array: Callable[[Any], bool] = eqx.is_array,
) -> tuple[list[Any], list[Any], tuple[Any, ...]]:
    """Return the arrays, those of some identities, and all leaves with marks for both.

    An array that is there twice is not reused the second time.
    """
    arrays, spare, rest, left = list[Any](), list[Any](), list[Any](), {*reused}
    for leaf in leaves:
        if not is_array(leaf):
            rest.append(leaf)
        elif id(leaf) in left:
            left.remove(id(leaf))
            spare.append(leaf)
            rest.append(_REUSED)
        else:
            arrays.append(leaf)
            rest.append(_ARRAY)
    return arrays, spare, tuple(rest)


@no_type_check
def _look_up(key: Any) -> Any:
    with _lock:
        if (program := _programs.get(key)) is not None:
            _programs.move_to_end(key)
        return program


def _store(key: Any, program: Any) -> Any:
    with _lock:
        program = _programs.setdefault(key, program)  # another thread may be faster
        _programs.move_to_end(key)
        while len(_programs) > PROGRAMS:
            _programs.popitem(last=False)
        return program


@no_type_check
def _whole(arrays: Any, static: "_Static") -> Any:
    """Return the result of a function from its arrays and its other leaves."""
    found = iter(arrays)
    rest, treedef = static.value
    leaves = [next(found) if leaf is _ARRAY else leaf for leaf in rest]
    return jax.tree.unflatten(treedef, leaves)


@final
@jax.tree_util.register_static
class _Static:
    """The leaves of a result that are not arrays, compared by identity.

    They need not be hashable.
    """

    def __init__(self, value: Any):
        self.value = value


def _build(
    function: Callable[..., Any],
    options: Options,
    inline: bool,
    treedef: Any,
    rest: Any,
) -> Any:
    """Return `jax.jit` of `function` as a function of its array leaves alone.

    The other leaves are in its closure and freed together with it.
    """

    def run(arrays: list[Any], spare: list[Any]) -> Any:
        marks = {id(_ARRAY): iter(arrays), id(_REUSED): iter(spare)}
        leaves = [next(marks[id(leaf)]) if id(leaf) in marks else leaf for leaf in rest]
        leaves, structure = jax.tree.flatten(
            function(*jax.tree.unflatten(treedef, leaves))
        )
        traced, _, others = _split(leaves, ())
        # Other results may be arguments that are passed through. The first one is
        # always computed, so that waiting for it shows the end or the error of a run.
        return jnp.array(0), traced, _Static((others, structure))

    run.__name__ = getattr(function, "__name__", type(function).__name__)
    run.__qualname__ = run.__name__
    kws: dict[str, Any] = {"compiler_options": dict(options)} if options else {}
    return jax.jit(run, donate_argnums=(1,), inline=inline, **kws)
