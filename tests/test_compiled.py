import pickle
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn

from axolemma import compiled as module
from axolemma import models
from axolemma.compiled import Compiled, compiled, parity
from axolemma.errors import SettingsError
from axolemma.models import POSES
from axolemma.predict import membrane_map

SMALL = {
    "resunet": {"width": 8, "depth": 2},
    "unet": {"width": 4, "depth": 3},
    "unetplusplus": {"width": 4, "depth": 3},
}


@pytest.fixture(scope="module")
def crops():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(1, 64, 64)).astype(np.float32) for _ in range(4)]


def settled(name, **arguments):
    torch.manual_seed(0)
    network = models.build(name, **SMALL.get(name, {"width": 8}), **arguments)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None
    with torch.no_grad():
        network(torch.randn(4, arguments.get("in_channels", 1), 96, 96))
    return network.eval()


@pytest.mark.parametrize("name", SMALL)
def test_the_same_at_any_size(name):
    pytest.importorskip("openvino")
    network = settled(name, in_channels=3)
    fast = compiled(network, channels=3, precision="fp32", threads=1)
    for shape in ((1, 3, 96, 64), (1, 3, 37, 50), (2, 3, 128, 32)):
        x = torch.randn(shape)
        with torch.no_grad():
            expected = network(x)
        assert fast(x).shape == expected.shape
        torch.testing.assert_close(fast(x), expected, atol=1e-4, rtol=1e-3)


def test_results_are_not_overwritten():
    pytest.importorskip("openvino")
    fast = compiled(settled("resunet"), threads=1)
    first = fast(torch.zeros(1, 1, 32, 32))
    kept = first.clone()
    fast(torch.ones(1, 1, 32, 32))
    assert torch.equal(first, kept)


@pytest.mark.parametrize("average", POSES)
@pytest.mark.parametrize("name", SMALL)
def test_it_averages_as_prediction_does(name, average):
    pytest.importorskip("openvino")
    network = settled(name, **({} if name == "resunet" else {"unshuffle": 2}))
    fast = compiled(network, precision="fp32", threads=2, average=average)
    assert fast.average == average
    stack = np.random.default_rng(0).normal(size=(2, 100, 144)).astype(np.float32)
    options = {"average": average, "precision": "fp32", "device": "cpu"}
    for found, expected in zip(
        membrane_map(fast, stack, **options), membrane_map(network, stack, **options), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_what_cannot_be_posed_is_shown_turned_pixels(monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setattr(module, "posed", lambda *_, **__: None)
    network = settled("resunet")
    fast = compiled(network, precision="fp32", threads=2, average="flips")
    assert fast.average == "none"
    stack = np.random.default_rng(0).normal(size=(1, 64, 96)).astype(np.float32)
    options = {"average": "flips", "precision": "fp32", "device": "cpu"}
    maps = [next(membrane_map(one, stack, **options)) for one in (fast, network)]
    np.testing.assert_allclose(*maps, atol=1e-4)


@pytest.mark.parametrize("average", [None, "half-turn"])
def test_eight_bits_stay_near(crops, average):
    pytest.importorskip("nncf")
    network = settled("resunet")
    fast = compiled(network, precision="int8", crops=crops, threads=1, average=average)
    found = parity(fast, network, crops)
    assert found.pixels == 4 * 64**2
    assert 0 < found.mean < 0.02
    assert "megapixels of this image" in str(found)
    assert "of the pixels change sides" in str(found)


@pytest.mark.parametrize("average", POSES)
def test_parity_turns_what_prediction_turns(average):
    pytest.importorskip("openvino")
    network = settled("resunet")
    crops = [np.random.default_rng(0).normal(size=(1, 50, 43)).astype(np.float32)]
    fast = compiled(network, precision="fp32", threads=1, average=average)
    assert parity(fast, network, crops).largest < 1e-4


def test_it_travels(crops):
    pytest.importorskip("openvino")
    fast = compiled(settled("resunet"), precision="fp32", threads=1, average="half-turn")
    x = torch.from_numpy(crops[0][None])
    again = pickle.loads(pickle.dumps(fast))
    assert isinstance(again, Compiled)
    assert torch.equal(again(x), fast(x))
    assert (again.stride, again.average) == (fast.stride, fast.average)


def test_an_interrupt_is_no_crash():
    pytest.importorskip("openvino")
    code = """
import signal
from axolemma import models
from axolemma.compiled import compiled

network = models.build("resunet", width=8, depth=2).eval()
first, second = (compiled(network, precision="fp32", threads=1) for _ in range(2))
del first, second
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (told.returncode, told.stdout) == (0, "interrupted\n")


def test_nobody_is_told():
    if find_spec("nncf") is None:
        pytest.skip("OpenVINO is not here")
    code = (
        "import sys; from axolemma.compiled import _package; _package('openvino');"
        " _package('nncf'); sys.exit(sys.modules['openvino_telemetry'] is not None)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_parity_counts_what_changes_sides(crops):
    network = settled("resunet")
    same = parity(network, network, crops)
    assert same == (4 * 64**2, 0, 0, 0)
    assert same.good
    other = parity(lambda x: -network(x), network, crops)
    assert other.changed > 0.5
    assert not other.good


def test_a_network_that_is_lost_on_the_way():
    pytest.importorskip("openvino")
    with pytest.raises(SettingsError, match="at one size of tiles alone; take precision bf16"):
        compiled(settled("cenet"))

    class Lost(nn.Module):
        stride = 8

        def forward(self, x):
            return x * float(x.shape[-2] - 30)  # a trace keeps the number

    with pytest.raises(SettingsError, match="at one size of tiles alone; take precision bf16"):
        compiled(Lost())


def test_what_is_missing(monkeypatch, crops):
    with pytest.raises(SettingsError, match=r"calibrated on parts of the image .* take bf16"):
        compiled(settled("resunet"), precision="int8")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(SettingsError, match=r"pip install 'axolemma\[openvino\]'"):
        compiled(settled("resunet"))
