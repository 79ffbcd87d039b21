"""Whether bfloat16 pays on this processor: a training step and a prediction in both precisions.

    python bench/precision.py

`axolemma train` and `segment` take bf16 by themselves where this machine has it in hardware.
"""

import statistics
import time

import torch

from axolemma import models
from axolemma.losses import bce_dice
from axolemma.predict import autocast, choose_precision, place

CPU = torch.device("cpu")


def seconds(work, repeats: int = 5) -> float:
    work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    torch.manual_seed(0)
    crops = torch.randn(4, 1, 256, 256).to(memory_format=torch.channels_last)
    truth = (torch.rand_like(crops) > 0.8).float()
    section = torch.randn(1, 1, 512, 512).to(memory_format=torch.channels_last)
    found = {}
    for precision in ("fp32", "bf16"):
        network = place(models.build(models.DEFAULT), CPU)

        def step(network=network, precision=precision) -> None:
            network.train()
            with autocast(precision, CPU):
                logits = network(crops)
            bce_dice(logits.float(), truth).backward()

        def predict(network=network, precision=precision) -> None:
            network.eval()
            with torch.inference_mode(), autocast(precision, CPU):
                network(section)

        found[precision] = seconds(step), seconds(predict)
    print(f"{models.DEFAULT}, {torch.get_num_threads()} threads; auto takes "
          f"{choose_precision('auto', CPU)}")  # fmt: skip
    for name, index in (("training step, 4 × 256²", 0), ("prediction, 512²", 1)):
        fp32, bf16 = found["fp32"][index], found["bf16"][index]
        print(f"{name}: fp32 {fp32:.3f} s, bf16 {bf16:.3f} s, bf16/fp32 {bf16 / fp32:.2f}")


if __name__ == "__main__":
    main()
