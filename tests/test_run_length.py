"""Expected run length: arithmetic by hand, an edge-by-edge oracle, and the traced lines."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from axolemma.errors import InputError
from axolemma.metrics.run_length import (
    RunLength,
    Skeletons,
    expected_run_length,
    score_skeletons,
    skeletons,
)

EM = (50.0, 4.0, 4.0)


@pytest.fixture
def truth():
    """A neuron of 11 voxels across the sections (500 nm), one of 26 within a section (100 nm)."""
    labels = np.zeros((11, 5, 30), np.uint32)
    labels[:, 1, 1] = 1
    labels[4, 3, 2:28] = 2
    return labels


@st.composite
def stacks(draw):
    """Rough neurons and a proposal with some of their labels changed."""
    shape = [draw(st.integers(1, 6)) for _ in range(3)]
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    smooth = ndimage.gaussian_filter(rng.random(shape), 1)
    truth = np.digitize(smooth, np.quantile(smooth, [0.3, 0.6, 0.8]))
    proposal = np.where(
        rng.random(shape) < draw(st.floats(0, 0.5)), rng.integers(0, 4, shape), truth
    )
    return proposal, truth


def has_length(truth):
    """Whether two voxels of one label touch."""
    voxels = [(tuple(p), truth[tuple(p)]) for p in np.argwhere(truth).tolist()]
    return any(
        label == other and p != q and max(abs(a - b) for a, b in zip(p, q, strict=True)) == 1
        for (p, label), (q, other) in product(voxels, voxels)
    )


def by_edges(proposal, lines, merge_nodes):
    """The mean over the truth's length of the run that each edge lies in."""
    segment = [int(proposal[tuple(node)]) for node in lines.nodes]
    nodes = Counter(zip(segment, lines.labels.tolist(), strict=True))
    guests = Counter(s for (s, _), count in nodes.items() if count >= merge_nodes)

    def run_of(a, b):
        s = segment[a]
        right = s == segment[b] and s != 0 and guests[s] < 2
        return (s, lines.labels[a]) if right else None

    runs = [run_of(a, b) for a, b in lines.edges.tolist()]
    total = Counter()
    for run, length in zip(runs, lines.lengths.tolist(), strict=True):
        total[run] += length
    total[None] = 0
    weighted = sum(
        length * total[run] for run, length in zip(runs, lines.lengths.tolist(), strict=True)
    )
    return weighted / lines.lengths.sum()


# Scores ------------------------------------------------------------------------------------------


def test_perfect_is_the_weighted_mean_length(truth):
    longest = (500**2 + 100**2) / (500 + 100)
    expected = RunLength(longest, longest, 1.0, 2, 0.0, 0.0)
    assert expected_run_length(truth, truth, voxel_size=EM) == expected
    one = np.where(truth == 1, truth, 0)
    assert expected_run_length(one, one, voxel_size=EM) == RunLength(500, 500, 1, 1, 0, 0)


def test_a_cut(truth):
    # Six voxels above the cut and five below: runs of 250 and 200 nm, and 50 nm in the cut edge.
    proposal = truth.copy()
    proposal[6:, 1, 1] = 7
    found = expected_run_length(proposal, truth, voxel_size=EM)
    assert found.expected == pytest.approx((250**2 + 200**2 + 100**2) / 600)
    assert found.split == pytest.approx(50 / 600)
    assert found.merged == 0
    # A hole of one voxel costs the two edges beside it. The runs on both sides of it are one as
    # long as they have one number.
    proposal = truth.copy()
    proposal[5, 1, 1] = 0
    found = expected_run_length(proposal, truth, voxel_size=EM)
    assert found.expected == pytest.approx((400**2 + 100**2) / 600)
    assert found.split == pytest.approx(100 / 600)
    proposal[6:, 1, 1] = 7
    found = expected_run_length(proposal, truth, voxel_size=EM)
    assert found.expected == pytest.approx((200**2 + 200**2 + 100**2) / 600)


def test_a_merger(truth):
    merged = expected_run_length((truth > 0).astype(int), truth, voxel_size=EM)
    assert (merged.expected, merged.share, merged.merged, merged.split) == (0, 0, 1, 0)
    # Merged in the lower half only: what lies above is right.
    proposal = truth.copy()
    proposal[6:, 1, 1] = 2
    found = expected_run_length(proposal, truth, voxel_size=EM)
    assert found.expected == pytest.approx(250**2 / 600)
    assert found.merged == pytest.approx((200 + 100) / 600)
    assert found.split == pytest.approx(50 / 600)
    # A segment that takes in the background has one neuron in it all the same.
    one = np.where(truth == 1, 1, 0)
    assert expected_run_length(np.ones_like(truth), one, voxel_size=EM).share == 1


def test_how_much_a_merger_takes(truth):
    proposal = truth.copy()
    proposal[4, 3, 2:4] = 1  # two nodes of the second neuron
    found = {
        nodes: expected_run_length(proposal, truth, voxel_size=EM, merge_nodes=nodes).expected
        for nodes in (1, 2, 3)
    }
    # Twenty-four voxels stay right, and as a run of its own the edge between the two.
    assert found[1] == found[2] == pytest.approx(92**2 / 600)
    assert found[3] == pytest.approx((500**2 + 92**2 + 4**2) / 600)
    proposal[4, 3, 3] = 2  # one node alone
    assert expected_run_length(proposal, truth, voxel_size=EM).merged == 0


def test_nothing_proposed(truth):
    found = expected_run_length(np.zeros_like(truth), truth, voxel_size=EM)
    assert (found.expected, found.share, found.merged, found.split) == (0, 0, 0, 1)


@settings(max_examples=40)
@given(stacks(), st.integers(1, 4))
def test_equals_the_mean_over_edges(both, merge_nodes):
    proposal, truth = both
    if not has_length(truth):
        with pytest.raises(InputError, match="no neuron longer than one voxel"):
            skeletons(truth, voxel_size=EM)
        return
    lines = skeletons(truth, voxel_size=EM)
    found = score_skeletons(proposal, lines, merge_nodes=merge_nodes)
    assert found.expected == pytest.approx(by_edges(proposal, lines, merge_nodes))
    assert found == expected_run_length(proposal, truth, voxel_size=EM, merge_nodes=merge_nodes)
    assert score_skeletons(truth, lines).share == pytest.approx(1)
    assert found.longest == pytest.approx(by_edges(truth, lines, merge_nodes))
    assert 0 <= found.merged + found.split <= 1 + 1e-9
    # Names of segments mean nothing; large ones cost no memory.
    names = np.array([0, 2**32 - 1, 5, 2**63 - 1], np.uint64)
    renamed = score_skeletons(names[proposal], lines, merge_nodes=merge_nodes)
    assert renamed.expected == pytest.approx(found.expected)


# Lines -------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(stacks())
def test_lines_are_forests_inside_their_neurons(both):
    _, truth = both
    if not has_length(truth):
        return
    names = np.array([0, 2**32 - 1, 3, 2**32 - 2], np.uint32)
    lines = skeletons(names[truth], voxel_size=EM)
    np.testing.assert_array_equal(names[truth][tuple(lines.nodes.T)], lines.labels)
    assert len(np.unique(lines.nodes, axis=0)) == len(lines.nodes)
    steps = lines.nodes[lines.edges[:, 0]] - lines.nodes[lines.edges[:, 1]]
    assert (np.abs(steps).max(axis=1) == 1).all()
    np.testing.assert_allclose(lines.lengths, np.sqrt((steps**2 * np.square(EM)).sum(axis=1)))
    # As many trees as pieces with two voxels or more; a forest has nodes - trees edges.
    trees = 0
    for label in range(1, 4):
        pieces, _ = ndimage.label(truth == label, np.ones((3, 3, 3)))
        trees += np.count_nonzero(np.bincount(pieces.ravel())[1:] > 1)
    parent = list(range(len(lines.nodes)))

    def root(node):
        while parent[node] != node:
            node = parent[node]
        return node

    for a, b in lines.edges.tolist():
        assert root(a) != root(b)
        parent[root(a)] = root(b)
    assert len({root(node) for node in parent}) == trees


def test_voxel_sizes_count():
    # A staircase across the sections: three steps of (1, 0, 1).
    truth = np.zeros((4, 1, 4), int)
    truth[range(4), 0, range(4)] = 1
    for size, step in ((EM, (50**2 + 4**2) ** 0.5), ((3, 1, 4), 5)):
        lines = skeletons(truth, voxel_size=size)
        assert lines.lengths == pytest.approx([step] * 3)
        # The axes are alike when their sizes are changed with them.
        turned = skeletons(truth.transpose(2, 0, 1), voxel_size=(size[2], size[0], size[1]))
        assert turned.lengths == pytest.approx([step] * 3)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_bar_of_any_width_has_one_line(width, axis):
    shape = [width] * 3
    shape[axis] = 40
    lines = skeletons(np.ones(shape, int), voxel_size=(1, 1, 1))
    # From end to end, in the middle but for the way into two corners.
    assert 39 <= lines.lengths.sum() <= 39 + 3**0.5 * width
    assert np.bincount(lines.edges.ravel()).max() <= 2
    inner = (lines.nodes[:, axis] >= width) & (lines.nodes[:, axis] < 40 - width)
    across = np.delete(lines.nodes[inner], axis, axis=1)
    assert (np.abs(across - (width - 1) / 2) <= 0.5).all()


def test_a_thick_neuron_is_followed_across_thin_sections():
    # 30 sections of 50 nm, each a disc of 49 pixels of 4 nm: longer than it is wide.
    y, x = np.ogrid[-30:31, -30:31]
    truth = np.broadcast_to(y**2 + x**2 <= 24**2, (30, 61, 61)).astype(int)
    lines = skeletons(truth, voxel_size=EM)
    assert set(lines.nodes[:, 0]) == set(range(30))
    assert 29 * 50 <= lines.lengths.sum() < 29 * 50 + 2 * 24 * 4 * 1.1


def test_branches_are_followed_and_bumps_are_not():
    truth = np.zeros((9, 60, 60), int)
    truth[3:6, 28:31, 5:55] = 1
    truth[3:6, 30:55, 28:31] = 1
    truth[5:8, 29, 15] = 1  # a bump of 2 voxels
    lines = skeletons(truth, voxel_size=(1, 1, 1))
    degree = np.bincount(lines.edges.ravel())
    assert (np.count_nonzero(degree == 1), np.count_nonzero(degree == 3)) == (3, 1)
    assert lines.lengths.sum() == pytest.approx(49 + 25, abs=6)


def test_a_loop_is_opened():
    truth = np.zeros((1, 41, 41), int)
    truth[0, [0, -1], :] = truth[0, :, [0, -1]] = 1
    # A ring of 160 voxels at single width, of which the corners can be cut short.
    lines = skeletons(truth, voxel_size=(1, 1, 1))
    assert len(lines.edges) == len(lines.nodes) - 1
    assert 150 <= lines.lengths.sum() < 160


def test_single_voxels_drop_out(truth):
    more = truth.copy()
    more[0, 4, 29] = 9
    lines, alone = skeletons(truth, voxel_size=EM), skeletons(more, voxel_size=EM)
    assert set(alone.labels) == {1, 2}
    np.testing.assert_array_equal(alone.nodes, lines.nodes)


def test_traced_lines_can_be_given():
    lines = Skeletons(
        shape=(3, 1, 9),
        nodes=np.array([(0, 0, 0), (0, 0, 4), (2, 0, 8)]),
        labels=np.array([5, 5, 5]),
        edges=np.array([(0, 1), (1, 2)]),
        lengths=np.array([40.0, 60.0]),
    )
    proposal = np.ones((3, 1, 9), int)
    assert score_skeletons(proposal, lines).expected == 100
    proposal[2] = 2
    assert score_skeletons(proposal, lines).expected == 40**2 / 100


def test_what_is_refused(truth):
    lines = skeletons(truth, voxel_size=EM)
    with pytest.raises(InputError, match=r"\(10, 5, 30\) and the truth \(11, 5, 30\)"):
        score_skeletons(truth[1:], lines)
    with pytest.raises(InputError, match="at least 1 node"):
        score_skeletons(truth, lines, merge_nodes=0)
    with pytest.raises(InputError, match=r"the truth has shape \(5, 30\); .* needs \(Z, Y, X\)"):
        skeletons(truth[0], voxel_size=EM)
    for wrong in (truth.astype(float), -truth.astype(int), truth > 0):
        with pytest.raises(InputError, match="the proposal holds no labels"):
            score_skeletons(wrong, lines)
    for size in ((50, 4), (50, 4, 0), (50, 4, float("nan"))):
        with pytest.raises(InputError, match="three sides in nm"):
            skeletons(truth, voxel_size=size)
    for empty in (np.zeros_like(truth), truth[:0], np.where(np.indices(truth.shape).sum(0), 0, 1)):
        with pytest.raises(InputError, match="no neuron longer than one voxel"):
            skeletons(empty, voxel_size=EM)
