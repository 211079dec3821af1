from typing import Any

class MapElitesRepertoire:
    def __init__(
        self,
        *,
        genotypes: Any,
        fitnesses: Any,
        descriptors: Any,
        centroids: Any,
        extra_scores: Any,
        keys_extra_scores: tuple[str, ...],
    ) -> None: ...
