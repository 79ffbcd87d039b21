from axolemma import demo
from axolemma.images import read
from axolemma.settings import TrainSettings, check


def test_the_whole_job_on_little_tissue(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "TRAINING", 3)
    monkeypatch.setattr(demo, "UNSEEN", 1)
    settings = check(TrainSettings, {"data": "phantom", "steps": 2, "width": 4, "depth": 2})
    said = []
    found = demo.run_demo(tmp_path / "demo", settings, say=said.append)
    assert [line.split()[0] for line in said] == ["growing", "resunet", "segmenting"]
    assert found.scores.values["v_rand"].shape == (11, 1, 3)
    assert read(tmp_path / "demo" / "segmented" / "membrane.tif").array.shape == (1, 512, 512)
    assert (tmp_path / "demo" / "segmented" / "preview.png").stat().st_size > 10_000
    again = demo.run_demo(tmp_path / "demo", settings)
    assert again.as_dict() == found.as_dict()
