"""What only a GPU does: these tests run where there is one."""

import numpy as np
import pytest
import torch

from axolemma import losses, models
from axolemma.datasets import phantom_pairs
from axolemma.modelfile import state_hash
from axolemma.predict import membrane_map
from axolemma.replay import Replayed
from axolemma.settings import TrainSettings, check
from axolemma.training import fit

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

GPU = torch.device("cuda")


def learned(name, loss, *, recorded, steps=8, **arguments):
    """Return the losses and the weights of some steps, and what did them."""
    torch.manual_seed(0)
    network = models.build(name, width=8, depth=3, **arguments).to(GPU).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)

    def learn(x, truth):
        found = loss(network(x), truth)
        optimizer.zero_grad(set_to_none=True)
        found.backward()
        return found.detach()

    work = Replayed(learn) if recorded else learn
    told = []
    for step in range(steps):
        torch.manual_seed(step)
        x = torch.randn(2, 1, 64, 64).to(GPU)
        truth = (torch.rand(2, 1, 64, 64) < 0.3).float().to(GPU)
        told.append(work(x, truth).clone())
        optimizer.step()
    return torch.stack(told).cpu(), state_hash(network.cpu()), work


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_what_is_recorded_learns_the_same(dropout):
    plain, _, _ = learned("unet", losses.bce_dice, recorded=False, dropout=dropout)
    found, _, work = learned("unet", losses.bce_dice, recorded=True, dropout=dropout)
    assert work._graph is not None
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", ["resunet", "unet"])
@pytest.mark.parametrize("loss", sorted(losses.LOSSES))
def test_a_training_with_every_loss(loss, model, tmp_path):
    pairs = phantom_pairs((6, 128, 128))
    sizes = {"steps": 8, "crop": 64, "width": 8, "depth": 3}
    values = {"data": "made", "loss": loss, "model": model, "device": "cuda", **sizes}
    found = fit(pairs, check(TrainSettings, values), tmp_path / "run")
    assert found.info.training["steps"] == 8


@pytest.mark.parametrize("dtype", [">u2", "u1", "i4", "f4", "f8"])
@pytest.mark.parametrize(
    "options", [{}, {"magnification": 1.3}, {"average": "dihedral"}, {"tile": 512}]
)
def test_a_gpu_predicts_what_a_processor_does(dtype, options):
    network = models.build("resunet", width=8, depth=2).eval()
    stack = np.random.default_rng(0).integers(0, 250, (2, 700, 500)).astype(dtype)
    maps = [
        np.stack([*membrane_map(network, stack, precision="fp32", device=device, **options)])
        for device in ("cpu", "cuda")
    ]
    np.testing.assert_allclose(*maps, atol=2e-3)


def test_a_gpu_with_too_little_memory_takes_less_at_once(caplog):
    network = models.build("resunet", width=64).eval()
    stack = np.random.default_rng(0).integers(0, 250, (1, 2000, 1800)).astype(np.uint8)
    options = {"average": "dihedral", "precision": "fp32", "device": "cuda"}
    (expected,) = membrane_map(network, stack, **options)
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(GPU).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 250e6) / whole)
    try:
        (found,) = membrane_map(network, stack, **options)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "too little memory for" in caplog.text
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_training_learns_as_much_as_on_a_processor(tmp_path):
    pairs = phantom_pairs((6, 256, 256))
    scores = []
    for device in ("cpu", "cuda"):
        values = {"data": "made", "steps": 60, "crop": 64, "width": 8, "depth": 3, "device": device}
        model = fit(pairs, check(TrainSettings, values), tmp_path / device)
        scores.append(model.info.training["validation"]["dihedral"]["v_info"])
    assert scores[1] == pytest.approx(scores[0], abs=0.05)
