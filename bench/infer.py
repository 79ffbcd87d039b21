r"""Membrane maps per second: our default network against those that people use for the same task.

    peers/bin/python bench/infer.py               (see bench/requirements-peers.txt)
    python bench/infer.py --only ours --side 512 2048 8192
    peers/bin/python bench/infer.py --side 8192 --repeats 2 --into infer_large --only \
        "axolemma bf16, half-turn" "axolemma openvino int8, half-turn" "smp U-Net resnet34"

Every network predicts one section, normalised, in memory, to probabilities: ours by what `segment`
uses, the others in one piece up to 2048² and in tiles of that size beyond. "As shipped" is what
their readme does: float32, channels first, `torch.no_grad`. "With our tricks" gives them bfloat16
autocast, channels last and inference mode. nnU-Net's prediction is its own: windows of 512² half a
window apart, weighted by a Gaussian, each in its four mirrorings. Weights are untrained but for
ours: they change no time. Each line is a process of its own, one after the other; the fastest of
its repeats counts, which go on for two seconds and end after a minute. Writes
``docs/results/infer.json``, or where `--into` says.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from axolemma import compiled, models
from axolemma.modelfile import load_model
from axolemma.predict import POSES, autocast, choose_precision, place, predict_section, ready
from measuring import keep, machine, peak, seconds, table

CPU = torch.device("cpu")
WHOLE = 2048  # largest side that a peer predicts in one piece
WINDOW = 512  # of nnU-Net

OURS = {
    f"axolemma {precision}, {average}": (precision, average)
    for average in POSES
    for precision in ("fp32", "bf16", "openvino bf16", "openvino int8")
}
PEERS = ("smp U-Net resnet34", "smp U-Net++ resnet34", "U-Net 64…1024", "MONAI U-Net", "nnU-Net")
WAYS = ("as shipped", "with our tricks")


def peer(name: str) -> nn.Module:
    """Build a network as its readme does for one grey channel, with what it starts from."""
    if name.startswith("smp"):
        import segmentation_models_pytorch as smp

        kind = smp.UnetPlusPlus if "++" in name else smp.Unet
        return kind("resnet34", encoder_weights=None, in_channels=1, classes=1)
    if name == "MONAI U-Net":
        from monai.networks.nets import UNet

        # The channels of its own tutorials in two dimensions.
        return UNet(
            spatial_dims=2,
            in_channels=1,
            out_channels=1,
            channels=(16, 32, 64, 128, 256),
            strides=(2, 2, 2, 2),
            num_res_units=2,
        )
    if name == "nnU-Net":
        from dynamic_network_architectures.architectures.unet import PlainConvUNet

        # What its planner makes of sections of 512²: eight levels, down to 4 × 4.
        return PlainConvUNet(
            input_channels=1,
            n_stages=8,
            features_per_stage=(32, 64, 128, 256, 512, 512, 512, 512),
            conv_op=nn.Conv2d,
            kernel_sizes=3,
            strides=(1, 2, 2, 2, 2, 2, 2, 2),
            n_conv_per_stage=2,
            num_classes=2,
            n_conv_per_stage_decoder=2,
            conv_bias=True,
            norm_op=nn.InstanceNorm2d,
            norm_op_kwargs={"eps": 1e-5, "affine": True},
            nonlin=nn.LeakyReLU,
            nonlin_kwargs={"inplace": True},
        )
    return models.build("unet")


def in_pieces(network: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Predict a section tile by tile, without what tiles should overlap by: to a peer's favour."""
    result = torch.empty(x.shape[-2:])
    for top in range(0, x.shape[-2], WHOLE):
        for left in range(0, x.shape[-1], WHOLE):
            part = (slice(top, top + WHOLE), slice(left, left + WHOLE))
            result[part] = network(x[..., *part])[0, -1].float().sigmoid()
    return result


def windows_of_nnunet(
    network: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor
) -> torch.Tensor:
    """Predict as nnU-Net does by default: its own windows, weights and mirrorings around it."""
    from nnunetv2.inference.sliding_window_prediction import (
        compute_gaussian,
        compute_steps_for_sliding_window,
    )

    size = (WINDOW, WINDOW)
    weight = compute_gaussian(size, sigma_scale=1 / 8, value_scaling_factor=10, device=CPU)
    weight = weight.float()
    total, counted = torch.zeros((2, *x.shape[-2:])), torch.zeros(x.shape[-2:])
    rows, columns = compute_steps_for_sliding_window(tuple(x.shape[-2:]), size, 0.5)
    for top in rows:
        for left in columns:
            part = (slice(top, top + WINDOW), slice(left, left + WINDOW))
            crop = x[..., *part]
            found = network(crop)
            for axes in ((-2,), (-1,), (-2, -1)):
                found = found + network(crop.flip(axes)).flip(axes)
            total[:, *part] += found[0].float() / 4 * weight
            counted[part] += weight
    return (total / counted).softmax(0)[1]


def work_of(name: str, way: str, side: int) -> Callable[[], object]:
    """Return what predicts one section of that side, numpy to numpy."""
    section = np.random.default_rng(0).normal(size=(1, side, side)).astype(np.float32)
    if name in OURS:
        precision, average = OURS[name]
        network = load_model("neurites").network
        if precision.startswith("openvino"):
            kind = precision.split()[1]
            crops = [section[:, :256, 256 * n : 256 * (n + 1)] for n in range(side // 256)][:8]
            network = compiled.compiled(network, precision=kind, crops=crops, average=average)
        how = "bf16" if precision == "bf16" else "fp32"
        network = ready(network, CPU, how)
        return lambda: predict_section(network, section, average=average, precision=how, device=CPU)
    network = peer(name).eval()
    around = windows_of_nnunet if name == "nnU-Net" else in_pieces
    if way == "as shipped":

        def shipped() -> np.ndarray:
            with torch.no_grad():
                return around(network, torch.from_numpy(section[None])).numpy()

        return shipped
    place(network, CPU)

    def improved() -> np.ndarray:
        x = torch.from_numpy(section[None]).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), autocast(choose_precision("auto", CPU), CPU):
            return around(network, x).numpy()

    return improved


def measured(name: str, way: str, side: int, repeats: int) -> dict[str, object]:
    """Time one line; for a process of its own."""
    work = work_of(name, way, side)
    before = peak()
    fastest, median = seconds(work, repeats=repeats, least=2, most=60)
    return {
        "network": name,
        "way": way,
        "side": side,
        "fastest Mpx/s": round(side**2 / fastest / 1e6, 4),
        "median Mpx/s": round(side**2 / median / 1e6, 4),
        "peak MB": round(peak() / 1e6),
        "of it before MB": round(before / 1e6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", help="names of networks, 'ours' or 'peers'; else all")
    parser.add_argument("--into", help="name of the results; else those of all are kept, in infer")
    parser.add_argument("--line", nargs=2, help="name and way of one to time, in this process")
    options = parser.parse_args()
    if options.line:
        torch.set_num_threads(options.threads)
        print(json.dumps(measured(*options.line, options.side[0], options.repeats)))
        return
    groups = {
        "ours": [(name, "ours") for name in OURS],
        "peers": [(name, way) for name in PEERS for way in WAYS],
    }
    only = set(options.only or groups)
    lines = [line for name, group in groups.items() for line in group if only & {name, line[0]}]
    rows, missing = [], []
    for side in options.side:
        for name, way in lines:
            command = [sys.executable, __file__, "--line", name, way, "--side", str(side)]
            command += ["--threads", str(options.threads), "--repeats", str(options.repeats)]
            found = subprocess.run(command, capture_output=True, text=True, check=False)
            if found.returncode:
                reason = (found.stderr.strip().splitlines() or ["no reason"])[-1]
                missing.append({"network": name, "way": way, "side": side, "why": reason})
                print(f"{name}, {way}, {side}²: {reason}", file=sys.stderr, flush=True)
                continue
            rows.append(json.loads(found.stdout.splitlines()[-1]))
            print(rows[-1], file=sys.stderr, flush=True)
    default = f"axolemma {choose_precision('auto', CPU)}, half-turn"
    for row in rows:
        ours = [r for r in rows if r["network"] == default and r["side"] == row["side"]]
        if ours:
            speed = ours[0]["fastest Mpx/s"] / row["fastest Mpx/s"]
            row["default segment is faster by"] = round(speed, 2)
    packages = ("segmentation-models-pytorch", "monai", "nnunetv2", "openvino")
    if into := options.into or ("" if options.only else "infer"):
        about = machine(*packages) | {"threads": options.threads}
        keep(into, machine=about, rows=rows, missing=missing)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
