"""Slow and obvious versions of what the package computes fast."""

from collections import Counter, deque
from math import log

import numpy as np


def components(interior):
    """4-connected components by flood fill, numbered in scan order."""
    labels = np.zeros(interior.shape, int)
    height, width = interior.shape
    count = 0
    for start in zip(*np.nonzero(interior), strict=True):
        if labels[start]:
            continue
        count += 1
        labels[start] = count
        todo = [start]
        while todo:
            y, x = todo.pop()
            for v, u in ((y, x - 1), (y - 1, x), (y, x + 1), (y + 1, x)):
                if 0 <= v < height and 0 <= u < width and interior[v, u] and not labels[v, u]:
                    labels[v, u] = count
                    todo.append((v, u))
    return labels


def thin(labels):
    """The flood of the reference implementation, written as its description reads."""
    if not labels.any():
        return np.ones_like(labels)
    out = labels.copy()
    height, width = labels.shape

    def neighbours(y, x):
        for v, u in ((y, x - 1), (y - 1, x), (y, x + 1), (y + 1, x)):
            if 0 <= v < height and 0 <= u < width:
                yield v, u

    membrane = [(y, x) for x in range(width) for y in range(height) if not labels[y, x]]
    queue = deque(p for p in membrane if any(labels[q] for q in neighbours(*p)))
    seen = set(queue)
    while queue:
        p = queue.popleft()
        around = {out[q] for q in neighbours(*p)} - {0}
        if len(around) == 1:
            out[p] = around.pop()
        for q in neighbours(*p):
            if not labels[q] and q not in seen:
                seen.add(q)
                queue.append(q)
    return out


def v_rand_v_info(proposal, truth):
    """Both scores from their formulas, pixel by pixel; zeros of the proposal stand alone."""
    pairs = []
    for i, (s, t) in enumerate(zip(proposal.ravel().tolist(), truth.ravel().tolist(), strict=True)):
        if t:
            pairs.append((("alone", i) if s == 0 else s, t))
    n = len(pairs)
    if n == 0:
        return 1.0, 1.0
    joint, mine, theirs = Counter(pairs), Counter(s for s, _ in pairs), Counter(t for _, t in pairs)

    def squares(counts):
        return sum(c * c for c in counts.values())

    def entropy(counts):
        return -sum(c / n * log(c / n) for c in counts.values())

    v_rand = 2 * squares(joint) / (squares(mine) + squares(theirs))
    if len(mine) == 1 or len(theirs) == 1:
        return v_rand, 0.0
    shared = entropy(mine) + entropy(theirs) - entropy(joint)
    return v_rand, 2 * shared / (entropy(mine) + entropy(theirs))
