"""How near the default network comes to what this processor can do, and where the rest goes.

    python bench/roofline.py

In one process: the network's prediction of one tile, in float32 and in bfloat16 as `segment` runs
it; beside it a matrix product, a convolution of the network's finest level and a copy, each as
large as to be worth it. Then every layer of the network by the time that it takes, and what lies
between layers. Counted are multiplications and additions of convolutions alone. Writes
``docs/results/roofline.json``.
"""

import argparse
import os
from collections import defaultdict

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from axolemma import models
from axolemma.modelfile import load_model
from axolemma.predict import autocast, place
from measuring import keep, machine, seconds, table

CPU = torch.device("cpu")
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def ceilings(precision: str, side: int, repeats: int) -> dict[str, float]:
    """Measure what the processor does: products, the main convolution, a copy."""
    kind = TYPES[precision]
    a, b = (torch.randn(2048, 2048).to(kind) for _ in "ab")
    product, _ = seconds(lambda: a @ b, repeats=repeats)
    found = {"matrix product GFLOP/s": 2 * 2048**3 / product / 1e9}
    for channels, scale in ((24, 4), (48, 8), (96, 16), (192, 32)):
        layer = nn.Conv2d(channels, channels, 3, padding=1).to(kind)
        layer = layer.to(memory_format=torch.channels_last)
        x = torch.randn(1, channels, side // scale, side // scale).to(kind)
        x = x.contiguous(memory_format=torch.channels_last)
        spent, _ = seconds(lambda layer=layer, x=x: layer(x), repeats=repeats)
        count = 2 * 9 * channels**2 * (side // scale) ** 2
        found[f"3×3 convolution of {channels} channels GFLOP/s"] = count / spent / 1e9
    big = torch.zeros(2**26, dtype=torch.uint8)
    other = torch.empty_like(big)
    spent, _ = seconds(lambda: other.copy_(big), repeats=repeats)
    found["copy GB/s, read and written"] = 2 * big.nbytes / spent / 1e9
    return found


def layers(network: nn.Module, x: torch.Tensor, repeats: int) -> list[dict[str, object]]:
    """Share the time out among kinds of operation, convolutions by channels and resolution."""
    network(x)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as seen:
        for _ in range(repeats):
            network(x)
    spent: dict[tuple[str, str], float] = defaultdict(float)
    for event in seen.key_averages(group_by_input_shape=True):
        name, at = event.key.removeprefix("aten::"), ""
        if "convolution" in name and event.input_shapes and len(event.input_shapes[0]) == 4:
            _, channels, _, width = event.input_shapes[0]
            at = f"{channels} channels at 1/{x.shape[-1] // width}"
        if name == "copy_":
            name = "copies and casts"
        spent[name, at] += event.self_cpu_time_total
    total = sum(spent.values())
    rows = [
        {
            "operation": name,
            "of": at,
            "ms": round(own / repeats / 1e3, 2),
            "share": round(own / total, 3),
        }
        for (name, at), own in sorted(spent.items(), key=lambda row: -row[1])
    ]
    return [row for row in rows if row["share"] >= 0.005]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    plain = place(load_model("neurites").network, CPU).eval()
    x = torch.randn(1, 1, options.side, options.side)
    x = x.contiguous(memory_format=torch.channels_last)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        plain(x)
    flop = counter.get_total_flops()
    rows, parts, tops = [], {}, {}
    for precision in TYPES:
        with torch.inference_mode(), autocast(precision, CPU):
            top = tops[precision] = ceilings(precision, options.side, options.repeats)
            for name, network in (
                ("as trained", plain),
                ("fused", place(models.fused(plain), CPU)),
            ):
                spent, _ = seconds(lambda network=network: network(x), repeats=options.repeats)
                rows.append(
                    {
                        "network": f"{precision}, {name}",
                        "Mpx/s": round(options.side**2 / spent / 1e6, 2),
                        "GFLOP/s": round(flop / spent / 1e9, 1),
                        "of the product": round(
                            flop / spent / 1e9 / top["matrix product GFLOP/s"], 3
                        ),
                        "of its convolution": round(
                            flop / spent / 1e9 / top["3×3 convolution of 24 channels GFLOP/s"], 3
                        ),
                    }
                )
                parts[f"{precision}, {name}"] = layers(network, x, options.repeats)
    tops = {kind: {name: round(value, 1) for name, value in t.items()} for kind, t in tops.items()}
    about = machine() | {"threads": options.threads, "side": options.side}
    keep("roofline", machine=about, ceilings=tops, networks=rows, layers=parts)
    print("\n".join(table([{"precision": kind, **top} for kind, top in tops.items()])))
    print("\n".join(["", *table(rows)]))
    for name, part in parts.items():
        print("\n".join(["", name, "", *table(part)]))


if __name__ == "__main__":
    main()
