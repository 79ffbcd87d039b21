import numpy as np
import pytest

from axolemma import demo
from axolemma.errors import InputError
from axolemma.evaluation import evaluate_stacks, read_cells, read_proposal
from axolemma.images import read, read_truth
from axolemma.settings import TrainSettings, check


@pytest.fixture(autouse=True)
def little(monkeypatch):
    monkeypatch.setattr(demo, "TRAINING", 3)
    monkeypatch.setattr(demo, "UNSEEN", 1)


def test_by_the_weights_that_ship(tmp_path):
    said = []
    found = demo.run_demo(tmp_path / "demo", say=said.append)
    assert [line.split()[0] for line in said] == ["growing", "segmenting"]
    assert found.scores.at(0.5, "v_rand").score > 0.95
    assert (tmp_path / "demo" / "segmented" / "preview.png").stat().st_size > 10_000
    assert not (tmp_path / "demo" / "run").exists()
    # The commands of the README on what lies there now say the same.
    image = read(tmp_path / "demo" / "image.tif")
    assert (image.array.shape, image.array.dtype) == ((1, 512, 512), np.uint8)
    assert image.voxel_size == (50, 4, 4)
    segmented = tmp_path / "demo" / "segmented"
    again = evaluate_stacks(
        read_proposal(segmented),
        read_truth(tmp_path / "demo" / "truth.tif"),
        cells=read_cells(segmented),
    )
    assert again.as_dict() == found.as_dict()


def test_somebody_elses_folder(tmp_path):
    (tmp_path / "image.tif").write_bytes(b"mine")
    with pytest.raises(InputError, match="holds other files; choose a new one"):
        demo.run_demo(tmp_path)
    assert (tmp_path / "image.tif").read_bytes() == b"mine"


def test_the_whole_job_on_little_tissue(tmp_path):
    settings = check(TrainSettings, {"data": "phantom", "steps": 2, "width": 4, "depth": 2})
    said = []
    found = demo.run_demo(tmp_path / "demo", settings, say=said.append)
    assert [line.split()[0] for line in said] == ["growing", "resunet", "segmenting"]
    assert found.scores.values["v_rand"].shape == (11, 1, 3)
    assert read(tmp_path / "demo" / "segmented" / "membrane.tif").array.shape == (1, 512, 512)
    again = demo.run_demo(tmp_path / "demo", settings)
    assert again.as_dict() == found.as_dict()
