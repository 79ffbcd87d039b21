import csv

import numpy as np
import pytest
from torch import nn

import axolemma
from axolemma.datasets import phantom_pairs
from axolemma.errors import InputError, SettingsError
from axolemma.modelfile import Model, ModelInfo
from axolemma.suggestion import suggest, windows_picture, write_windows

SMALL = {"width": 4, "depth": 2, "crop": 64, "batch": 2, "precision": "fp32", "device": "cpu"}


@pytest.fixture(scope="module")
def pairs():
    return phantom_pairs((3, 96, 112))


@pytest.fixture(scope="module")
def model(pairs, tmp_path_factory):
    run = tmp_path_factory.mktemp("model") / "run"
    return axolemma.train((pairs.images, pairs.truth), run=run, steps=5, **SMALL)


class Grey(nn.Module):
    """Takes what is bright for membrane, what is dark for interior, and is undecided between."""

    stride = 1

    def forward(self, x):
        return 8 * x


def test_a_model_is_asked_where_it_is_undecided():
    rng = np.random.default_rng(0)
    stack = rng.normal(40, 0.5, (2, 128, 128)).astype(np.float32)
    stack[:, :64] += 120
    stack[1, 64:96, 32:64] += 60
    info = ModelInfo(architecture="resunet", arguments={}, threshold=0.5)
    found = suggest(stack, model=Model(Grey(), info, "made"), size=32, count=3, polarity="dark")
    assert (found.windows[0].section, found.windows[0].y, found.windows[0].x) == (1, 64, 32)
    assert found.uncertainty[1, 70:90, 40:60].mean() > 10 * found.uncertainty[0].mean()


def test_a_frame_is_nothing_to_annotate(pairs, model):
    framed = np.pad(pairs.images, ((0, 0), (40, 40), (40, 40)))
    found = suggest(framed, model=model, size=32, count=3, voxel_size=(50, 4, 4))
    assert found.uncertainty[:, :36].max() < 1e-3
    assert found.uncertainty[:, 40:-40, 40:-40].mean() > 0.1
    assert all(w.y + w.size >= 40 and w.y < 136 for w in found.windows)


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
