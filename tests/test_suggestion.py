import csv

import numpy as np
import pytest
import torch
from torch import nn

import axolemma
from axolemma.datasets import phantom_pairs
from axolemma.errors import InputError, SettingsError
from axolemma.modelfile import Model, ModelInfo
from axolemma.predict import posed_maps
from axolemma.suggestion import suggest, windows_picture, write_windows

SMALL = {"width": 4, "depth": 2, "crop": 64, "batch": 2, "precision": "fp32", "device": "cpu"}


@pytest.fixture(scope="module")
def pairs():
    return phantom_pairs((3, 96, 112))


@pytest.fixture(scope="module")
def model(pairs, tmp_path_factory):
    run = tmp_path_factory.mktemp("model") / "run"
    return axolemma.train((pairs.images, pairs.truth), run=run, steps=5, **SMALL)


class Slope(nn.Module):
    """Sees membrane where the grey value rises to the right: each pose says something else."""

    stride = 1

    def forward(self, x):
        return 8 * (x - torch.roll(x, 1, -1))


def test_a_model_that_contradicts_itself_somewhere_is_asked_there():
    rng = np.random.default_rng(0)
    stack = rng.normal(100, 0.5, (2, 128, 128)).astype(np.float32)
    stack[:, :64] += 60
    # Stripes of which the slope depends on the pose, in one corner of one section.
    stack[1, 64:96, 32:64] += 60 * (np.arange(32) % 2)
    info = ModelInfo(architecture="resunet", arguments={}, threshold=0.5)
    found = suggest(stack, model=Model(Slope(), info, "made"), size=32, count=3, polarity="dark")
    assert (found.windows[0].section, found.windows[0].y, found.windows[0].x) == (1, 64, 32)
    assert found.uncertainty[1, 70:90, 40:60].mean() > 10 * found.uncertainty[0].mean()


def test_the_mean_of_the_poses_is_the_averaged_map(pairs, model):
    maps = np.stack(list(posed_maps(model.network, pairs.images, precision="fp32")))
    assert maps.shape == (3, 8, 96, 112)
    options = {"precision": "fp32", "objects": "none", "average": "dihedral"}
    averaged = axolemma.segment(pairs.images, model=model, **options)
    np.testing.assert_allclose(maps.mean(axis=1), averaged.membrane, atol=1e-5)
    assert np.ptp(maps, axis=1).max() > 0


def test_the_poses_know_a_frame_too(pairs, model):
    framed = np.pad(pairs.images, ((0, 0), (40, 40), (40, 40)))
    maps = np.stack(list(posed_maps(model.network, framed, precision="fp32")))
    options = {"precision": "fp32", "objects": "none", "average": "dihedral"}
    averaged = axolemma.segment(framed, model=model, voxel_size=(50, 4, 4), **options)
    np.testing.assert_allclose(maps.mean(axis=1), averaged.membrane, atol=1e-5)
    assert (maps[:, :, :40] == 1).all()


def test_suggestions_are_the_same_every_time(pairs, model):
    one, other = (suggest(pairs.images, model=model, size=32, count=5) for _ in range(2))
    assert one.windows == other.windows
    assert len(one.windows) == 5
    assert 0 <= one.uncertainty.min() <= one.uncertainty.max() <= np.log(2)
    bright = suggest(255 - pairs.images, model=model, size=32, count=5, polarity="bright")
    assert bright.windows == one.windows


def test_table_and_picture(pairs, model, tmp_path):
    found = suggest(pairs.images, model=model, size=24, count=4)
    write_windows(tmp_path / "w.csv", found.windows, first=10)
    rows = list(csv.DictReader((tmp_path / "w.csv").read_text(encoding="utf-8").splitlines()))
    assert [int(row["section"]) - 10 for row in rows] == [w.section for w in found.windows]
    assert list(rows[0]) == ["section", "y", "x", "size", "score"]
    picture = windows_picture(pairs.images, found.uncertainty, found.windows)
    assert picture.shape == (4 * 24 + 3 * 8, 2 * 24 + 8, 3)
    with pytest.raises(InputError, match="nowhere"):
        write_windows(tmp_path / "nowhere" / "w.csv", found.windows)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"size": 100}, "hold no window of 100"),
        ({"polarity": "inverted"}, "'polarity'"),
        ({"model": "neurits"}, "did you mean 'neurites'"),
        ({"voxel_size": (50, 4)}, "three lengths Z,Y,X"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
    ],
)
def test_suggestions_that_cannot_be(pairs, model, options, match):
    given = {"model": model, "size": 32, **options}
    with pytest.raises((InputError, SettingsError), match=match):
        suggest(pairs.images, **given)


def test_a_section_is_no_stack(pairs, model):
    with pytest.raises(InputError, match=r"a stack has axes \(Z, Y, X\)"):
        suggest(pairs.images[0], model=model)
