"""What a job will take, before it starts: seconds, memory, disk; and whether that is there.

Pure functions of sizes and of one tile that passed the network. `bench/scale.py` holds them against
what was measured.
"""

import math
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from axolemma.errors import InputError
from axolemma.models import heads
from axolemma.predict import POSES, autocast, choose_device, choose_precision, place, ready
from axolemma.settings import SegmentSettings, TrainSettings

__all__ = [
    "Estimate",
    "Tile",
    "free_disk",
    "free_memory",
    "of_segmenting",
    "of_training",
    "refuse_what_cannot_fit",
    "tile_of",
]

#: Interpreter, torch and the other packages with a small network, in bytes; and what finds objects.
BASE, FINDING = 310e6, 140e6

#: Bytes per pixel of a tile beside the network's maps, and more where poses are averaged; and how
#: many of the largest map's bytes are in use at once, for prediction and for learning.
TILE, POSED, LIVE, KEPT = 12.0, 20.0, 3.0, 1.3

#: Bytes per pixel while the cells of a section are found, and per voxel while they are linked.
CELLS, NEURONS = 30.0, 56.0

#: Seconds per pixel with one thread: cells of a section, links to the next, files.
CELLS_SECONDS, NEURONS_SECONDS, FILES_SECONDS = 3e-7, 1e-6, 5e-8

#: Bytes per voxel of compressed files: the membrane map of 32 and 8 bits, cells or neurons; and per
#: pixel of the preview.
MAP_FILE, LABELS_FILE, PREVIEW_FILE = {32: 3.8, 8: 0.7}, 0.1, 5.0

#: Validations of a training, and what the end takes, in predictions of the judged sections.
PREDICTIONS = 7 * 4 + 13

_SIDE = 512  # of the tile that is timed, in pixels
_TIMED, _LONG = 5, 0.5  # how often it is, unless that takes longer, in seconds


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job will take.

    Parameters
    ----------
    seconds
        On the clock.
    memory
        Bytes at the worst moment, the program itself included.
    disk
        Bytes of what is written.
    """

    seconds: float
    memory: float
    disk: float

    def __str__(self) -> str:
        return (
            f"about {_time(self.seconds)}, {_size(self.memory)} of memory,"
            f" {_size(self.disk)} on disk"
        )


@dataclass(frozen=True, slots=True)
class Tile:
    """What a network takes for one pixel.

    Parameters
    ----------
    seconds
        Of one prediction in one pose, or of one step of training.
    largest
        Bytes that its most demanding layer takes and gives.
    kept
        Bytes that all layers give.
    weights
        Bytes of the network, not per pixel.
    """

    seconds: float
    largest: float
    kept: float
    weights: float


def tile_of(
    network: nn.Module,
    *,
    channels: int = 1,
    precision: str = "auto",
    device: str = "auto",
    shape: tuple[int, int, int] = (1, _SIDE, _SIDE),
    learning: bool = False,
) -> Tile:
    """Let a network see one tile of noise, once to warm up and then on the clock.

    Parameters
    ----------
    network
        From `models.build`; its weights and its mode are as before afterwards.
    channels
        Sections that it looks at.
    precision, device
        As in `predict`.
    shape
        Tiles, Y, X.
    learning
        Whether the way back is timed too.
    """
    where = choose_device(device)
    how = choose_precision(precision, where)  # type: ignore[arg-type]
    mode, largest, kept = network.training, 0, 0
    network = place(network, where).eval() if learning else ready(network, where, how)

    def note(_: nn.Module, given: tuple[Any, ...], found: Any) -> None:
        nonlocal largest, kept
        into = sum(t.nbytes for t in given if isinstance(t, Tensor))
        out = found.nbytes if isinstance(found, Tensor) else 0
        largest, kept = max(largest, into + out), kept + out

    x = torch.randn((shape[0], channels, *shape[1:]), generator=torch.Generator().manual_seed(0))
    x = x.to(where, memory_format=torch.channels_last)

    def once() -> None:
        with torch.set_grad_enabled(learning), autocast(how, where):
            loss = torch.stack([head.float().mean() for head in heads(network, x)]).mean()
        if learning:
            torch.autograd.grad(loss, [p for p in network.parameters() if p.requires_grad])
        loss.item()  # waits for the device

    hooks = [m.register_forward_hook(note) for m in network.modules() if not [*m.children()]]
    try:
        once()
    finally:
        for hook in hooks:
            hook.remove()
    taken: list[float] = []
    # Other processes can make a single one last a hundred times as long.
    while len(taken) < _TIMED and sum(taken) < _LONG:
        started = time.perf_counter()
        once()
        taken.append(time.perf_counter() - started)
    network.train(mode)
    pixels = math.prod(shape)
    weights = sum(p.nbytes for p in network.parameters())
    return Tile(min(taken) / pixels, largest / pixels, kept / pixels, float(weights))


def of_segmenting(
    shape: tuple[int, int, int],
    settings: SegmentSettings,
    tile: Tile,
    *,
    itemsize: int = 1,
    channels: int = 1,
    magnification: float = 1.0,
) -> Estimate:
    """Estimate a segmentation in memory.

    Parameters
    ----------
    shape
        Of the sections to segment, (Z, Y, X).
    settings
        What is asked for.
    tile
        From `tile_of`.
    itemsize
        Bytes of a grey value.
    channels
        Sections that the network looks at.
    magnification
        Factor by which sections are enlarged for it.
    """
    voxels, area = math.prod(shape), math.prod(shape[1:])
    seen = [math.ceil(side * magnification) for side in shape[1:]]
    sides = [min(side, settings.tile) for side in seen]
    each = TILE + LIVE * tile.largest + 4 * channels + POSED * (settings.average != "none")
    # The image, the map, into which sections are written as they are made, and where the network
    # sees them at another size, one of that size and one of its own.
    held = voxels * (itemsize + 4) + 4 * (area + math.prod(seen)) * (magnification != 1)
    labels = {"none": 0, "cells": 1, "neurons": 2}[settings.objects]
    finding = {"none": 0.0, "cells": CELLS * area, "neurons": NEURONS * voxels}[settings.objects]
    memory = max(math.prod(sides) * each, finding) + held
    memory += 4 * voxels * (labels + settings.uncertainty) + FINDING * (labels > 0)
    seconds = tile.seconds * len(POSES[settings.average]) * math.prod(seen) * shape[0]
    seconds += voxels * (CELLS_SECONDS * (labels > 0) + NEURONS_SECONDS * (labels > 1))
    seconds += voxels * FILES_SECONDS
    maps = MAP_FILE[settings.bits] + settings.uncertainty * MAP_FILE[32]
    disk = voxels * (maps + labels * LABELS_FILE) + area * PREVIEW_FILE
    return Estimate(seconds, BASE + tile.weights + memory, disk)


def of_training(
    shape: tuple[int, int, int],
    settings: TrainSettings,
    step: Tile,
    *,
    minutes: float,
    enough: int,
    itemsize: int = 1,
) -> Estimate:
    """Estimate a training.

    Parameters
    ----------
    shape
        Of all sections, (Z, Y, X).
    settings
        What is asked for.
    step
        From `tile_of`, learning.
    minutes, enough
        What it takes at most where no number of steps is given, and after how many it ends.
    itemsize
        Bytes of a grey value.
    """
    pixels, voxels = settings.batch * settings.crop**2, math.prod(shape)
    judged = math.prod(shape[1:]) * max(1, shape[0] // 8)
    # A prediction is about a third of a step.
    seconds = step.seconds * (pixels * (settings.steps or enough) + judged * PREDICTIONS / 3)
    if settings.steps is None:
        seconds = min(seconds, 60 * minutes)
    # Grey values as they are and normalised, truth, thickened truth; maps of validation.
    held = voxels * (itemsize + 4 + 2) + judged * (12 + 2 * TILE)
    # The network, its gradient, two averages and the optimizer's two moments.
    memory = BASE + 6 * step.weights + pixels * (KEPT * step.kept + 16) + held
    # The state, beside the one that it replaces.
    disk = 11 * step.weights
    return Estimate(seconds, memory, disk)


def free_memory() -> float:
    """Return how many bytes this process may still take, itself included; inf where nobody tells.

    The least of what the machine has available, what its control group may have, and the limit of
    its address space.
    """
    mine = dict.fromkeys(("VmRSS", "VmSize"), 0.0) | _fields(Path("/proc/self/status"))
    limits = []
    if available := _fields(Path("/proc/meminfo")).get("MemAvailable"):
        limits.append(available + mine["VmRSS"])
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        limits.append(float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
    for most, used in _groups():
        limits.append(most - used + mine["VmRSS"])
    try:
        import resource
    except ImportError:  # Windows has no such limits.
        pass
    else:
        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        if soft != resource.RLIM_INFINITY:
            limits.append(soft - mine["VmSize"] + mine["VmRSS"])
    return min(limits, default=math.inf)


def free_disk(path: Path) -> float:
    """Return the free bytes of the disk that a file or folder, there or not, lies on."""
    there = path.absolute()
    while not there.exists():
        there = there.parent
    return float(shutil.disk_usage(there).free)


def refuse_what_cannot_fit(
    estimate: Estimate,
    *,
    memory: float,
    disk: float,
    where: Path,
    less_memory: Sequence[str],
    less_disk: Sequence[str],
) -> None:
    """Raise where a job needs more than there is.

    Parameters
    ----------
    estimate
        Of the job.
    memory, disk
        Free bytes.
    where
        Results go.
    less_memory, less_disk
        What would need less, in words.

    Raises
    ------
    InputError
        With what is lacking, and what to do.
    """
    if estimate.memory > memory:
        raise InputError(
            f"this needs about {_size(estimate.memory)} of memory and {_size(memory)} are free;"
            f" take {_either(less_memory)}"
        )
    if estimate.disk > disk:
        raise InputError(
            f"{where}: this writes about {_size(estimate.disk)} and {_size(disk)} are free there;"
            f" take {_either([*less_disk, 'another disk'])}"
        )


def _fields(file: Path) -> dict[str, float]:
    """Return the sizes that a file of the kernel's names, in bytes."""
    try:
        lines = [line.split() for line in file.read_text("utf-8").splitlines()]
    except OSError:
        return {}
    return {p[0].rstrip(":"): float(p[1]) * 1024 for p in lines if len(p) == 3 and p[2] == "kB"}


def _groups(
    root: Path = Path("/sys/fs/cgroup"), mine: Path = Path("/proc/self/cgroup")
) -> list[tuple[float, float]]:
    """Return the limit and the use in bytes of every control group that this process is in."""
    found = []
    try:
        paths = [line.split(":", 2) for line in mine.read_text("utf-8").splitlines()]
    except OSError:
        return []
    for _, controllers, path in paths:
        v1 = "memory" in controllers.split(",")
        if controllers and not v1:
            continue
        base = root / "memory" if v1 else root
        names = ("limit_in_bytes", "usage_in_bytes") if v1 else ("max", "current")
        group = base / path.lstrip("/")
        # Limits hold for all below, and a container sees itself at the top.
        for folder in (group, *group.parents):
            if not folder.is_relative_to(base):
                break
            try:
                most, used = (float((folder / f"memory.{n}").read_text()) for n in names)
            except (OSError, ValueError):  # none, or "max"
                continue
            found.append((most, used))
    return found


def _either(ways: Sequence[str]) -> str:
    *others, last = ways
    return f"{', '.join(others)} or {last}" if others else last


def _size(count: float) -> str:
    if count < 9.5e8:
        return f"{max(1, count / 1e6):.0f} MB"
    return f"{count / 1e9:.1f} GB" if count < 9.95e9 else f"{count / 1e9:.0f} GB"


def _time(seconds: float) -> str:
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(1, seconds):.0f} s"
