"""realax: train any JAX model by evolution, and whatever else, in a few lines."""

from jaxtyping import install_import_hook as _install_import_hook

from . import _check as _check  # before the hook, which uses it


with _install_import_hook("realax", "realax._check.lazily"):
    from . import policies as policies, tasks as tasks, training as training
    from .policies import (
        BasePolicy as BasePolicy,
        MLPPolicy as MLPPolicy,
        RNNPolicy as RNNPolicy,
    )
    from .tasks import (
        ENV_SPACES as ENV_SPACES,
        AbstractTask as AbstractTask,
        BraxTask as BraxTask,
        EnvelopeTask as EnvelopeTask,
        EnvSpace as EnvSpace,
        EnvTask as EnvTask,
        GymnaxTask as GymnaxTask,
        Minibatch as Minibatch,
        Trajectory as Trajectory,
        make as make,
    )
    from .training import (
        AbstractObserver as AbstractObserver,
        AbstractState as AbstractState,
        AbstractTrainer as AbstractTrainer,
        ESMetrics as ESMetrics,
        ESState as ESState,
        EvosaxTrainer as EvosaxTrainer,
        FitnessShaper as FitnessShaper,
        GradMetrics as GradMetrics,
        GradState as GradState,
        Handle as Handle,
        OptaxTrainer as OptaxTrainer,
        ProgressBar as ProgressBar,
        Record as Record,
        evolve as evolve,
        optimize as optimize,
    )


__version__ = "0.1.0"
