"""The names of evosax's algorithms."""

from ..._errors import closest


# Names that scripts written for evosax 0.1 still use.
_OLDER_NAMES = {
    "OpenES": "Open_ES",
    "SimAnneal": "SimulatedAnnealing",
    "Full_iAMaLGaM": "iAMaLGaM_Full",
    "Indep_iAMaLGaM": "iAMaLGaM_Univariate",
    "RmES": "Rm_ES",
    "GLD": "GradientlessDescent",
    "HillClimber": "HillClimbing",
    "DE": "DifferentialEvolution",
    "LGA": "LearnedGA",
}


def algorithm_names() -> list[str]:
    """Return every name that `resolve` knows."""
    return sorted(_known())


def resolve(name: str) -> str:
    """Return evosax's own key for an algorithm's name, class name or older name.

    **Raises:** `ValueError` with the closest matches for an unknown name.
    """
    known = _known()
    if name not in known:
        raise ValueError(f"`strategy`: evosax has no {name!r}. {closest(name, known)}")
    return known[name]


def _known() -> dict[str, str]:
    from evosax.algorithms import algorithms

    classes = {cls.__name__: key for key, cls in algorithms.items()}
    known = {key: key for key in algorithms} | classes
    return known | {older: known[newer] for older, newer in _OLDER_NAMES.items()}
