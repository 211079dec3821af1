"""A run in a process of its own, for tests that interrupt it.

`python -m tests.worker FOLDER STEPS [more]`: an evolution with a checkpointer and a log
in FOLDER; its final state goes to FOLDER/final. `more` are Python keywords.
"""

import pathlib
import signal
import sys
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr

import realax as rx


def task(x: Any, key: Any, data: Any = None) -> Any:
    """A bumpy bowl with noise, so that keys matter."""
    noise = 0.1 * jr.normal(key)
    return jnp.sum(x**2 - 10 * jnp.cos(2 * jnp.pi * x) + 10) + noise, None


def run(folder: pathlib.Path, steps: int, every: int = 500, **kws: Any) -> Any:
    """The trainer's final state."""
    if limit := kws.pop("file_size", None):
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    logger = rx.Logger(log_file=folder / "log.jsonl", **kws)
    if logger.wandb_log:
        logger.init(project="tests", mode="offline", dir=str(folder))
    checkpointer = rx.Checkpointer(folder / "checkpoints", every=every)
    trainer = rx.EvosaxTrainer(
        steps,
        "CMA_ES",
        task,
        jnp.ones(8),
        popsize=32,
        # In this order, to see that the checkpointer acts last all the same.
        callbacks=(checkpointer, logger, rx.EarlyStopping(target=-1e9)),
    )
    state = trainer.init_and_train_(jr.key(0))
    logger.finish()
    return state


def main() -> None:
    # A shell that starts tests in the background has it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    jax.config.update("jax_num_cpu_devices", 1)
    folder, steps = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    kws = eval(f"dict({sys.argv[3] if len(sys.argv) > 3 else ''})")
    state = run(folder, steps, **kws)
    rx.save_params(folder / "final", state)
    print("done at", int(state.step))


if __name__ == "__main__":
    main()
