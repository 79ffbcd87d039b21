"""The weights that come with the package do what is said of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage
from typer.testing import CliRunner

import axolemma
from axolemma.cli import app
from axolemma.datasets import load, phantom_pairs
from axolemma.errors import ModelFileError
from axolemma.modelfile import bundled, load_model, state_hash

ROOT = Path(__file__).parent.parent
CARD = (ROOT / "docs" / "weights.md").read_text(encoding="utf-8")
FOUND = json.loads((ROOT / "docs" / "results" / "shipped_weights.json").read_text())


@pytest.fixture(scope="module")
def tissue():
    return phantom_pairs((2, 320, 320))


def v_rand(result, truth):
    return axolemma.evaluate(result.membrane, truth).v_rand(result.threshold)


def test_they_are_few_and_small():
    assert list(bundled()) == list(FOUND) == ["neurites", "neurites-seed"]
    assert sum(file.stat().st_size for file in bundled().values()) < 16e6


@pytest.mark.parametrize("name", FOUND)
def test_each_says_where_it_comes_from(name):
    model = load_model(name)
    assert state_hash(model.network) == FOUND[name]["weights_sha256"]
    assert model.info.voxel_size == (50, 4, 4)
    assert "non-commercial" in model.info.licence
    assert model.info.training["data"] == "isbi2012 train"
    assert model.info.training["slices"] == ("0-24" if name == "neurites-seed" else "0-29")
    assert f"## `{name}`" in CARD
    chosen = model.info.training["settings"]
    recipe = f"--preset {chosen['preset']} --steps {chosen['steps']} --seed {chosen['seed']}"
    assert recipe in CARD.split(f"## `{name}`")[1].split("\n## ")[0]
    cells = (ROOT / "docs" / "cells.md").read_text(encoding="utf-8")
    assert f"({model.info.boundary:g} in the weights that ship)" in cells


def test_a_misspelt_name_is_helped():
    with pytest.raises(ModelFileError, match="did you mean 'neurites-seed'"):
        load_model("neurite-seed")


def test_the_card_tells_the_scores_of_the_bench():
    for name, found in FOUND.items():
        for data in found.keys() & {"isbi2012", "isbi2012 whole", "phantom"}:
            for average, row in found[data].items():
                start = f"| `{name}` | {data} | `{average}` |"
                (line,) = (line for line in CARD.splitlines() if line.startswith(start))
                for key in ("v_rand", "v_info", "best_v_rand", "best_v_info"):
                    assert f"{row[key]:.4f}" in line, (name, data, average, key)
                assert f"| {row['threshold']:.1f} |" in line
                assert line.endswith(f"{row['cells_v_rand']:.4f} / {row['cells_v_info']:.4f} |")


def test_the_scores_come_out_again(isbi2012_folder):
    images = tifffile.imread(isbi2012_folder / "train-volume.tif")[25:30]
    truth = load(str(isbi2012_folder)).truth[25:30]
    row = FOUND["neurites-seed"]["isbi2012"]["none"]
    result = axolemma.segment(images, model="neurites-seed", average="none", precision="fp32")
    assert result.threshold == row["threshold"]
    assert v_rand(result, truth) == pytest.approx(row["v_rand"], abs=1e-3)


def test_tissue_that_it_has_never_seen(tissue):
    result = axolemma.segment(tissue.images, voxel_size=tissue.voxel_size, average="none")
    assert axolemma.evaluate(result.membrane, tissue.truth).best().score > 0.93


def test_polarity_dtype_and_contrast_do_not_matter(tissue):
    plain = axolemma.segment(tissue.images, average="none", precision="fp32")
    strange = (60000 - 100 * tissue.images.astype(np.int64)).astype(np.uint16)
    found = axolemma.segment(strange, average="none", precision="fp32")
    assert found.polarity == "bright"
    np.testing.assert_allclose(found.membrane, plain.membrane, atol=1e-3)


def test_other_pixel_sizes(tissue):
    finer = ndimage.zoom(tissue.images.astype(np.float32), (1, 1.6, 1.6), order=1)
    truth = ndimage.zoom(tissue.truth, (1, 1.6, 1.6), order=0)
    found, own = (
        axolemma.evaluate(
            axolemma.segment(images, voxel_size=size, average="none", precision="fp32").membrane,
            drawn,
        )
        for images, drawn, size in (
            (finer, truth, (50, 2.5, 2.5)),
            (tissue.images, tissue.truth, tissue.voxel_size),
        )
    )
    assert found.best().score > 0.93
    assert found.best().score == pytest.approx(own.best().score, abs=0.01)


def test_no_word_but_the_image(tissue, tmp_path):
    tifffile.imwrite(tmp_path / "image.tif", tissue.images)
    done = CliRunner().invoke(
        app, ["segment", str(tmp_path / "image.tif"), "-o", str(tmp_path / "out")]
    )
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["model"]["weights_sha256"] == FOUND["neurites"]["weights_sha256"]
    assert "the pixel size is not known" in " ".join(record["input"]["notes"])
    assert record["cells"] > 10
