"""realax: train any JAX model by evolution or gradients in a few lines."""

from jaxtyping import install_import_hook as _install_import_hook

from . import _check as _check  # before the hook, which uses it
from ._storage import _fingerprint as _fingerprint  # before the hook: checks are slow


with _install_import_hook("realax", "realax._check.lazily"):
    from . import (
        meta as meta,
        plot as plot,
        policies as policies,
        tasks as tasks,
        training as training,
    )
    from ._compile import enable_compilation_cache as enable_compilation_cache
    from ._hosts import (
        PeerError as PeerError,
        initialize_hosts as initialize_hosts,
    )
    from ._storage._files import (
        CorruptFileError as CorruptFileError,
        MisfitError as MisfitError,
    )
    from .meta import (
        Best as Best,
        LanesState as LanesState,
        PopulationBased as PopulationBased,
        PopulationState as PopulationState,
        Replicated as Replicated,
        Restarting as Restarting,
        RestartingState as RestartingState,
        Table as Table,
        TrainerTask as TrainerTask,
        sweep as sweep,
    )
    from .policies import (
        AbstractDistribution as AbstractDistribution,
        AbstractHead as AbstractHead,
        AbstractStochasticPolicy as AbstractStochasticPolicy,
        ActorCritic as ActorCritic,
        BasePolicy as BasePolicy,
        BoundedPolicy as BoundedPolicy,
        Bounds as Bounds,
        Categorical as Categorical,
        CategoricalHead as CategoricalHead,
        GreedyPolicy as GreedyPolicy,
        Joint as Joint,
        JointHead as JointHead,
        MLPPolicy as MLPPolicy,
        Normal as Normal,
        NormalHead as NormalHead,
        NormalizedPolicy as NormalizedPolicy,
        ObsStats as ObsStats,
        RNNPolicy as RNNPolicy,
        StochasticPolicy as StochasticPolicy,
        TanhNormal as TanhNormal,
        TanhNormalHead as TanhNormalHead,
    )
    from .tasks import (
        ENV_SPACES as ENV_SPACES,
        AbstractDescriptor as AbstractDescriptor,
        AbstractHostTask as AbstractHostTask,
        AbstractTask as AbstractTask,
        BraxTask as BraxTask,
        EnvelopeTask as EnvelopeTask,
        EnvSpace as EnvSpace,
        EnvTask as EnvTask,
        Evaluation as Evaluation,
        GymnasiumTask as GymnasiumTask,
        GymnaxTask as GymnaxTask,
        HostTask as HostTask,
        KheperaxTask as KheperaxTask,
        LastOf as LastOf,
        MeanOf as MeanOf,
        Minibatch as Minibatch,
        MultiTask as MultiTask,
        MultiTaskAggregator as MultiTaskAggregator,
        Trajectory as Trajectory,
        make as make,
    )
    from .training import (
        DDPG as DDPG,
        DQN as DQN,
        PPO as PPO,
        PQN as PQN,
        SAC as SAC,
        TD3 as TD3,
        AbstractArchive as AbstractArchive,
        AbstractCounters as AbstractCounters,
        AbstractEmitter as AbstractEmitter,
        AbstractObserver as AbstractObserver,
        AbstractState as AbstractState,
        AbstractStopping as AbstractStopping,
        AbstractTrainer as AbstractTrainer,
        ActionValue as ActionValue,
        Callbacks as Callbacks,
        Checkpointer as Checkpointer,
        CMAEmitter as CMAEmitter,
        CMAMAEEmitter as CMAMAEEmitter,
        CVTArchive as CVTArchive,
        DQNMetrics as DQNMetrics,
        EarlyStopping as EarlyStopping,
        Elites as Elites,
        ESMetrics as ESMetrics,
        ESState as ESState,
        Evaluator as Evaluator,
        EvosaxTrainer as EvosaxTrainer,
        FitnessShaper as FitnessShaper,
        GaussianEmitter as GaussianEmitter,
        GradMetrics as GradMetrics,
        GradState as GradState,
        GridArchive as GridArchive,
        Handle as Handle,
        IsoLineEmitter as IsoLineEmitter,
        Logger as Logger,
        MultiEmitter as MultiEmitter,
        OffPolicyState as OffPolicyState,
        OptaxTrainer as OptaxTrainer,
        PPOMetrics as PPOMetrics,
        PPOState as PPOState,
        PQNState as PQNState,
        ProgressBar as ProgressBar,
        QDaxEmitter as QDaxEmitter,
        QDMetrics as QDMetrics,
        QDState as QDState,
        QDTrainer as QDTrainer,
        Record as Record,
        ReplayBuffer as ReplayBuffer,
        Run as Run,
        SACMetrics as SACMetrics,
        TD3Metrics as TD3Metrics,
        Told as Told,
        evolve as evolve,
        load_checkpoint as load_checkpoint,
        load_params as load_params,
        optimize as optimize,
        save_params as save_params,
    )
    from .training.log import (
        default_es_metrics as default_es_metrics,
        default_grad_metrics as default_grad_metrics,
        default_metrics as default_metrics,
    )


__version__ = "0.1.0"
