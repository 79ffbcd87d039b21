"""The door to bioimage-cpp: the one module that calls its distances, graphs and solvers.

bioimage-cpp is strict about dtypes and young. Everything that it is given is checked here, and
everything that it gives back is numbered anew, so that a later version, or another library, needs
changes in this file only.
"""

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import InputError

__all__ = ["distances", "multicut"]


def distances(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return how far every pixel of a mask is from the nearest one outside it.

    Parameters
    ----------
    mask
        (Y, X).

    Returns
    -------
    NDArray[np.float32]
        Equal shape, in pixels, 0 outside; what lies beyond the section counts as inside, so a mask
        that fills all of it is infinitely far from anything else.
    """
    from bioimage_cpp.distance import distance_transform

    if mask.all():
        return np.full(mask.shape, np.inf, np.float32)
    return np.asarray(distance_transform(np.ascontiguousarray(mask, np.uint8)), np.float32)


def multicut(
    count: int, edges: NDArray[np.integer], costs: NDArray[np.floating]
) -> NDArray[np.int64]:
    """Part the nodes of a graph so that the costs of the edges between parts are least.

    Greedy contraction gives a first partition, which moves of nodes between its parts and joins of
    parts then improve as long as any of them does: a local optimum, and the same one every time.

    Parameters
    ----------
    count
        How many nodes there are, at least 0.
    edges
        Shape (m, 2), two different nodes each, from 0 to ``count - 1``. The costs of edges that
        are given twice, either way round, add up.
    costs
        Shape (m,), what it costs to have the two nodes in different parts: above 0 for two that
        belong together, below 0 for two that do not.

    Returns
    -------
    NDArray[np.int64]
        Shape (count,), the part of each node, from 0 on in the order of their first nodes. A node
        without edges is a part.

    Raises
    ------
    InputError
        If `count` is below 0, the shapes do not fit, an edge names a node that is not there or
        joins a node to itself, or a cost is NaN or infinite.

    References
    ----------
    Keuper et al. 2015, ICCV, 1751 (both steps); Chopra and Rao 1993, Math. Program. 59:87.

    Examples
    --------
    >>> multicut(4, np.array([[0, 1], [1, 2], [2, 3]]), np.array([1.0, -2.0, 0.5]))
    array([0, 0, 1, 1])
    """
    edges, costs = _checked(count, edges, costs)
    if not len(edges):
        return np.arange(count)
    pairs, which = _merged(edges)
    parts = _solve(count, pairs, np.bincount(which, costs).astype(np.float64))
    return _by_first_node(parts)


def _checked(
    count: int, edges: NDArray[np.integer], costs: NDArray[np.floating]
) -> tuple[NDArray[np.integer], NDArray[np.float64]]:
    """Return edges and costs, or say what is wrong with them."""
    edges, exact = np.asarray(edges), np.asarray(costs, np.float64)
    if count < 0:
        raise InputError(f"a graph has at least 0 nodes, not {count}; count them anew")
    if edges.size == 0 and exact.size == 0:
        return np.empty((0, 2), np.int64), exact
    if edges.ndim != 2 or edges.shape[1] != 2 or exact.shape != edges.shape[:1]:
        raise InputError(
            f"edges of shape {edges.shape} and costs of shape {exact.shape} do not fit; "
            "give (m, 2) nodes and (m,) costs"
        )
    if edges.dtype.kind not in "iu":
        raise InputError(f"edges are pairs of node numbers, not {edges.dtype}; give integers")
    if edges.min() < 0 or edges.max() >= count:
        raise InputError(
            f"an edge names node {edges.min() if edges.min() < 0 else edges.max()} but there are "
            f"{count}, numbered from 0; correct the edges or the count"
        )
    if not np.isfinite(exact).all():
        where = int(np.flatnonzero(~np.isfinite(exact))[0])
        raise InputError(
            f"the cost of edge {where} is {exact[where]}; replace it by an ordinary number"
        )
    if (edges[:, 0] == edges[:, 1]).any():
        where = int(np.flatnonzero(edges[:, 0] == edges[:, 1])[0])
        raise InputError(f"edge {where} joins node {edges[where, 0]} to itself; leave it out")
    return edges, exact


def _merged(edges: NDArray[np.integer]) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
    """Return every pair of nodes once, the lower one first, and which pair each edge is."""
    low, high = edges.min(axis=1).astype(np.uint64), edges.max(axis=1).astype(np.uint64)
    base = high.max() + np.uint64(1)
    keys, which = np.unique(low * base + high, return_inverse=True)
    return np.stack((keys // base, keys % base), axis=1), which.ravel()


def _solve(count: int, pairs: NDArray[np.uint64], costs: NDArray[np.float64]) -> NDArray[np.uint64]:
    from bioimage_cpp import graph
    from bioimage_cpp.graph.multicut import (
        GreedyAdditiveMulticut,
        KernighanLinMulticut,
        MulticutObjective,
    )

    objective = MulticutObjective(graph.UndirectedGraph.from_edges(count, pairs), costs)
    GreedyAdditiveMulticut().optimize(objective)
    return np.asarray(KernighanLinMulticut().optimize(objective), np.uint64)


def _by_first_node(parts: NDArray[np.uint64]) -> NDArray[np.int64]:
    _, first, which = np.unique(parts, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[which]
