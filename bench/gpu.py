"""What a GPU makes of the default network: its own ceilings, the network, a section end to end.

    python bench/gpu.py

In one process: a matrix product and a copy; the network, folded, in bfloat16, on tiles of several
sizes, beside the time that its convolutions would take at those two ceilings, each reading its
input and writing its output once; then `predict.membrane_map` of a whole section, from an array in
memory to an array in memory, and what of it the network takes alone. What a teravoxel would take
follows from that. Trainings are timed by ``bench/time_to_accuracy.py --name
time_to_accuracy_gpu``. Writes ``docs/results/gpu.json``.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from axolemma.modelfile import load_model
from axolemma.predict import TILE, membrane_map, ready
from measuring import keep, machine, table

GPU = torch.device("cuda")
SIZES = ((1, 512), (2, 512), (1, 1024), (1, 2048), (1, TILE), (2, TILE), (1, 4096))


def seconds(work: Callable[[], object], repeats: int = 15) -> float:
    """Return the median time of some work on the GPU, after three times that do not count."""
    times = []
    for _ in range(repeats + 3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times[3:])


def ceilings() -> dict[str, float]:
    """Measure a product of random matrices in FLOP/s and a copy in B/s, read and written."""
    a, b = (torch.randn(8192, 8192, device=GPU, dtype=torch.bfloat16) for _ in range(2))
    product = 2 * 8192**3 / seconds(lambda: a @ b)
    big = torch.randint(256, (2**31,), device=GPU, dtype=torch.uint8)
    other = torch.empty_like(big)
    return {"product": product, "copy": 2 * big.nbytes / seconds(lambda: other.copy_(big))}


def floor(network: nn.Module, x: torch.Tensor, top: dict[str, float]) -> tuple[float, float, float]:
    """Return the arithmetic of a network, its bytes, and the time that both ceilings leave it."""
    moved: list[int] = []
    counted: list[float] = []

    def note(layer: nn.Module, given: tuple[torch.Tensor], found: torch.Tensor) -> None:
        weights = sum(p.numel() for p in layer.parameters())
        moved.append(2 * (given[0].numel() + found.numel() + weights))
        taps = layer.weight.numel()
        pixels = (given[0] if isinstance(layer, nn.ConvTranspose2d) else found)[0, 0].numel()
        counted.append(2.0 * taps * pixels * len(x))

    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    with FlopCounterMode(display=False) as counter:
        network(x)
    for hook in hooks:
        hook.remove()
    assert np.isclose(sum(counted), counter.get_total_flops(), rtol=1e-6)
    each = zip(counted, moved, strict=True)
    least = sum(max(flop / top["product"], size / top["copy"]) for flop, size in each)
    return sum(counted), float(sum(moved)), least


@torch.inference_mode()
def alone(top: dict[str, float]) -> list[dict[str, object]]:
    """Time the network on tiles that lie on the GPU."""
    network, rows = ready(load_model("neurites").network, GPU, "bf16"), []
    for many, side in SIZES:
        x = torch.randn(many, 1, side, side, device=GPU, dtype=torch.bfloat16)
        spent = seconds(lambda x=x: network(x))
        flop, size, least = floor(network, x, top)
        rows.append(
            {
                "tiles": many,
                "side": side,
                "Mpx/s": round(x.numel() / spent / 1e6),
                "TFLOP/s": round(flop / spent / 1e12, 1),
                "of the product": round(flop / spent / top["product"], 3),
                "GB/s": round(size / spent / 1e9),
                "of the copy": round(size / spent / top["copy"], 3),
                "of the roofline": round(least / spent, 3),
            }
        )
    return rows


def end_to_end(sides: list[int]) -> list[dict[str, object]]:
    """Time whole sections of 8 bits, from memory to memory."""
    noise = np.random.default_rng(0).normal(size=(1024, 1024))
    one = np.clip(140 + 300 * gaussian_filter(noise, 2, mode="wrap"), 0, 255).astype(np.uint8)
    network, rows = load_model("neurites").network, []
    for side in sides:
        section = np.tile(one, (-(-side // 1024),) * 2)[None, :side, :side]
        for average in ("none", "half-turn", "dihedral"):
            torch.cuda.reset_peak_memory_stats()
            out, times = np.zeros(section.shape, np.float32), []
            for _ in range(4):
                started = time.perf_counter()
                list(membrane_map(network, section, average=average, device="cuda", out=out))
                times.append(time.perf_counter() - started)
            spent = min(times[1:])
            rows.append(
                {
                    "side": side,
                    "average": average,
                    "seconds": round(spent, 3),
                    "Mpx/s": round(side**2 / spent / 1e6, 1),
                    "GPU MB": round(torch.cuda.max_memory_allocated() / 1e6),
                    "hours a teravoxel": round(1e12 / side**2 * spent / 3600, 2),
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, nargs="+", default=[2048, 8192, 16384])
    options = parser.parse_args()
    top = ceilings()
    network, whole = alone(top), end_to_end(options.side)
    about = machine() | {"gpu": torch.cuda.get_device_name(GPU)}
    shown = {
        "product of 8192² matrices, bf16, TFLOP/s": round(top["product"] / 1e12, 1),
        "copy of 2 GiB, read and written, GB/s": round(top["copy"] / 1e9),
    }
    keep("gpu", machine=about, ceilings=shown, network=network, end_to_end=whole)
    for rows in ([shown], network, whole):
        print("\n".join([*table(rows), ""]))


if __name__ == "__main__":
    main()
