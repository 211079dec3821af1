"""Centroids that divide the unit cube evenly, and a table that finds the nearest."""

import numpy as np

from ..._frozen import cached


_ITERATIONS = 50
# A fraction of the mean distance between centroids; they hardly move any more.
_STILL = 1e-3
# Boxes of the table for each centroid, by dimensions: more make fewer candidates.
_FINER = 4
# Boxes are enlarged by this much, more than a rounding of their borders in float32.
_MARGIN = 1e-5


@cached
def even_centroids(cells: int, dims: int, samples: int, seed: int) -> np.ndarray:
    """Return centroids whose Voronoi cells in the unit cube are of nearly equal size.

    They are found by Lloyd's algorithm on uniform samples.

    **Arguments:**

    - `cells`: the number of centroids.
    - `dims`: the number of dimensions.
    - `samples`: the number of points.
    - `seed`: decides which points.

    **Returns:** An array of shape `(cells, dims)`.

    Source: V. Vassiliades, K. Chatzilygeroudis, J.-B. Mouret, Using Centroidal Voronoi
    Tessellations to Scale Up MAP-Elites, arXiv:1610.05729.
    """
    from scipy.spatial import cKDTree  # late, because it takes a quarter of a second

    random = np.random.default_rng(seed)
    points = random.random((samples, dims))
    centroids = points[:cells].copy()
    for _ in range(_ITERATIONS):
        _, nearest = cKDTree(centroids).query(points, workers=-1)
        counts = np.bincount(nearest, minlength=cells)
        sums = np.stack(
            [np.bincount(nearest, points[:, i], cells) for i in range(dims)], axis=1
        )
        means = sums / np.maximum(counts, 1)[:, None]
        moved = np.where(counts[:, None] > 0, means, centroids)
        distance = np.abs(moved - centroids).max()
        centroids = moved
        if distance < _STILL * cells ** (-1 / dims):
            break
    return centroids


def candidates(centroids: np.ndarray) -> np.ndarray:
    """Return which centroids can be the nearest to points of each small box.

    The unit cube is divided into boxes, as many in each dimension. A centroid is a
    candidate unless another one is nearer to all points of the box.

    **Arguments:**

    - `centroids`: an array of shape `(cells, dims)`.

    **Returns:** An array of shape `(side, ..., side, most)` of the candidates' numbers,
    in rising order; the last is repeated.
    """
    from scipy.spatial import cKDTree

    cells, dims = centroids.shape
    side = max(1, int(np.ceil((_FINER * cells) ** (1 / dims))))
    axes = np.meshgrid(*[np.arange(side)] * dims, indexing="ij")
    middles = (np.stack(axes, axis=-1).reshape(-1, dims) + 0.5) / side
    half = 0.5 / side + _MARGIN
    tree = cKDTree(centroids)
    most = min(cells, 8)
    while True:
        distance, index = tree.query(middles, most, workers=-1)
        distance, index = distance.reshape(-1, most), index.reshape(-1, most)
        # The farthest that the nearest centroid of any point of the box can be.
        offsets = np.abs(centroids[index] - middles[:, None])
        farthest = np.linalg.norm(offsets + half, axis=-1).min(axis=1)
        nearest = np.linalg.norm(np.maximum(offsets - half, 0), axis=-1)
        # Those beyond the ones that were looked at are at least as far from the middle.
        unseen = distance[:, -1] - half * np.sqrt(dims)
        if most == cells or (unseen > farthest).all():
            break
        most = min(cells, 2 * most)
    possible = nearest <= farthest[:, None]
    kept = possible.sum(axis=1).max()
    ordered = np.sort(np.where(possible, index, cells), axis=1)[:, :kept]
    last = np.where(possible, index, -1).max(axis=1)
    table = np.where(ordered == cells, last[:, None], ordered)
    return table.reshape(*[side] * dims, kept).astype(np.int32)
