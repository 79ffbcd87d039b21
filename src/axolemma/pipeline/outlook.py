"""What a run over a volume would take, before it begins."""

import math
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from axolemma.images import Volume
from axolemma.pipeline.job import BLOCK, Job
from axolemma.predict import HALO, choose_device, predict_section, ready
from axolemma.segmentation import likely_size
from axolemma.settings import SegmentSettings

__all__ = ["Outlook", "outlook"]


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a run over a volume would take.

    Parameters
    ----------
    shape, block
        ZYX, of what would be segmented and of a block.
    blocks
        How many there are; every pass goes over all of them.
    read, written
        Bytes before compression: of the input, and of the results and what lies between them.
    hours
        Of one worker, for the network alone, as one tile on this machine took.
    """

    shape: tuple[int, int, int]
    block: tuple[int, int, int]
    blocks: int
    read: int
    written: int
    hours: float


def outlook(
    source: Volume,
    out: str,
    settings: SegmentSettings,
    *,
    block: tuple[int, int, int] = BLOCK,
    ledger: str | Path | None = None,
    mask: Volume | None = None,
) -> Outlook:
    """Tell what `segment_volume` would do with these arguments; nothing is written."""
    job = Job.of(source, out.rstrip("/"), settings, block, ledger, mask)
    voxels = math.prod(job.shape)
    bytes_each = job.bits // 8 * (1 + settings.calibrated + settings.uncertainty)
    if settings.objects != "none":
        bytes_each += 8 + 4 * (1 + (settings.objects == "neurons"))
    device = choose_device(settings.device)
    precision = job.precision(device)
    model = replace(job.model, network=ready(job.model.network, device, precision))
    likely = likely_size(
        source.read,
        source.shape,
        job.model,
        told=job.voxel_size,
        polarity=settings.polarity,
        device=settings.device,
    )
    side = min(settings.tile, *job.shape[1:])
    channels = 2 * model.info.context + 1
    noise = np.random.default_rng(0).normal(size=(channels, side, side)).astype(np.float32)
    predict = partial(
        predict_section,
        model.network,
        noise,
        magnification=likely or 1.0,
        precision=precision,
        device=device,
        tile=settings.tile,
        average=settings.average,
    )
    predict()  # The first one is slower.
    started = time.monotonic()
    predict()
    seconds = time.monotonic() - started
    # What lies around a block is predicted too.
    inner = [min(side, whole) for side, whole in zip(job.block[1:], job.shape[1:], strict=True)]
    around = math.prod(
        side + 2 * HALO * (side < whole) for side, whole in zip(inner, job.shape[1:], strict=True)
    )
    hours = seconds / side**2 * voxels * around / math.prod(inner) / 3600
    return Outlook(
        job.shape,
        job.block,
        len(job.plan()),
        voxels * source.dtype.itemsize,
        voxels * bytes_each,
        hours,
    )
