"""docs/models.md says what the networks are."""

import importlib.util
import inspect
import re
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from axolemma import models
from axolemma.modelfile import ModelInfo, load_model, save_model

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")


def section(title):
    (found,) = (part for part in re.split(r"^## ", PAGE, flags=re.MULTILINE) if title in part[:60])
    return found


def code(title):
    (block,) = re.findall(r"```python\n(.*?)```", section(title), re.DOTALL)
    return compile(block, title, "exec")


@pytest.fixture(scope="module")
def drawing():
    spec = importlib.util.spec_from_file_location("draw_models", ROOT / "bench" / "draw_models.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pictures_and_tables_are_those_of_the_code(drawing):
    assert set(drawing.DRAWN) == set(models.MODELS)
    assert drawing.stale() == [], "run python bench/draw_models.py"


@pytest.mark.parametrize("name", models.MODELS)
def test_pictures_stand_alone(name):
    picture = ROOT / "docs" / "images" / f"model-{name}.svg"
    assert f"](images/{picture.name})" in section(f"`{name}`")
    root = ElementTree.fromstring(picture.read_text(encoding="utf-8"))
    width, height = float(root.get("width")), float(root.get("height"))
    for part in root.iter():
        assert not any("href" in key or "url(" in value for key, value in part.items())
        if part.tag.endswith("text"):
            assert 0 < float(part.get("x")) < width
            assert 0 < float(part.get("y")) < height


@pytest.mark.parametrize("name", models.MODELS)
def test_arguments_are_those_of_the_code(name):
    known = inspect.signature(models.MODELS[name]).parameters
    told = dict(re.findall(r"^\| `(\w+)` \| ([\w.]+) \|", section(f"`{name}`: "), re.MULTILINE))
    assert told == {key: str(known[key].default).lower() for key in told}
    assert set(told) == set(known)


def test_pruning_as_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "plus").mkdir(parents=True)
    network = models.build("unetplusplus", width=2).eval()
    info = ModelInfo(
        architecture="unetplusplus",
        arguments=models.all_arguments("unetplusplus", width=2),
        threshold=0.5,
    )
    save_model("runs/plus/model.safetensors", network, info)
    exec(code("Deep supervision"), {})
    x = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        small = load_model("plus-L3.safetensors").network(x)
        assert torch.equal(small, network.heads(x)[2])


def test_weights_from_imagenet_as_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(models, "build", partial(models.build, width=2))
    weights = models.build("cenet", in_channels=3).encoder.state_dict()
    torch.save(weights | {"fc.weight": torch.zeros(10, 16)}, "resnet34.pth")
    names = {}
    exec(code("ImageNet weights"), names)
    loaded = names["network"].encoder.layer4[2].conv2.weight
    assert torch.equal(loaded, weights["layer4.2.conv2.weight"])


def test_a_network_of_ones_own_as_told(monkeypatch, capsys):
    monkeypatch.setattr(models, "MODELS", dict(models.MODELS))
    exec(code("A network of your own"), {})
    assert float(capsys.readouterr().out) > 0
    assert models.all_arguments("hourglass", in_channels=3)["width"] == 16
    network = models.build("hourglass", width=2, in_channels=3)
    assert network(torch.randn(1, 3, 9, 12)).shape == (1, 1, 9, 12)
