"""Pauses of Python's garbage collector."""

import gc
import threading
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

import realax as rx
from realax._compile import no_collections


def test_collections_go_on_after_the_last_pause() -> None:
    with no_collections():
        assert not gc.isenabled()
        with no_collections():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(KeyError), no_collections():
        raise KeyError
    assert gc.isenabled()


def test_a_user_without_collections_keeps_none() -> None:
    gc.disable()
    try:
        with no_collections():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_pauses_of_several_threads() -> None:
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with no_collections():
            entered.set()
            leave.wait()

    thread = threading.Thread(target=other)
    thread.start()
    entered.wait()
    with no_collections():
        pass
    assert not gc.isenabled(), "the other thread still pauses them"
    leave.set()
    thread.join()
    assert gc.isenabled()


def test_a_trace_is_not_interrupted_and_a_run_is() -> None:
    enabled = dict[str, bool]()

    def task(x: Any, key: Any, data: Any = None) -> Any:
        enabled["trace"] = gc.isenabled()
        jax.debug.callback(lambda: enabled.update(run=gc.isenabled()))
        return jnp.sum(x**2), None

    rx.OptaxTrainer(2, "adam", lambda key: jnp.ones(2), task).init_and_train_(jr.key(0))
    assert enabled == {"trace": False, "run": True}
