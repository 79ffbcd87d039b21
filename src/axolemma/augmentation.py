"""Augmented pairs in a folder, for those who want to look at them or train elsewhere.

::

    images/0000.png …    what was made of a section, 8-bit grey
    truths/0000.png …    its truth, 255 = interior as in the ISBI 2012 challenge, 0 = membrane,
                         128 = not annotated
    manifest.json        the settings, and for every pair its section and all that was drawn
    contact.png          24 of the pairs, evenly spread: the image, and the truth laid over it

Such a folder is a dataset: see `datasets.folder`. The variants of one section stand together, so
that a block of pairs held out to validate holds sections that the others do not show. The same
seed gives the same bytes on any number of processes.
"""

import inspect
import json
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from axolemma import augment, augment_keras
from axolemma._version import __version__
from axolemma.augment_keras import README_SETTINGS, REPORT_SETTINGS, Fill
from axolemma.datasets import Pairs, data_hash
from axolemma.errors import AxolemmaError, InputError, nearest
from axolemma.images import Stack, appearing, check_image, read
from axolemma.labels import IGNORED
from axolemma.pictures import membrane_over, side_by_side

__all__ = ["SETTINGS", "Manifest", "augment_pairs"]

_RANGES = {
    name: option.default
    for name, option in inspect.signature(augment.draw).parameters.items()
    if option.kind is option.KEYWORD_ONLY
}

#: By name, the ranges to draw from, for `augment.draw` and for `augment_keras.draw`.
SETTINGS: dict[str, dict[str, Any]] = {
    **{name: _RANGES | others for name, others in augment.PRESETS.items()},
    "keras": dict(README_SETTINGS),
    "keras-report": dict(REPORT_SETTINGS),
}

PARTS = ("images", "truths")
FILES = {*PARTS, "manifest.json", "contact.png"}
SMALLEST = 16  # pixels; a smaller crop shows no membrane to learn from
CONTACTS, ACROSS, THUMBNAIL = 24, 4, 192  # pairs on the contact sheet, in a row, their side

UNKNOWN = 128  # in a truth that is written, what nobody annotated

# Run lengths of Paeth's differences, measured on the challenge: a third of the time of the codec's
# defaults, and smaller.
PNG = {"level": 1, "strategy": 3, "filter": 128}

BLACK = (
    "what lies beyond the border is black and counts as membrane, as in the earlier project;"
    " networks over-draw the border by it, which fill mirror avoids",
)

_TRIES = 100  # for a crop that shows annotated pixels

PER_WORKER = 64  # pairs that take as long as it takes to start a process


@dataclass(frozen=True, slots=True)
class Manifest:
    """What ``manifest.json`` holds, by the same names.

    Parameters
    ----------
    axolemma
        Version that wrote the folder.
    source, sha256, terms, voxel_size
        The annotated sections: name, hash of images and truth, and what their `Pairs` say.
    preset, settings, fill, seed
        What was asked for.
    size
        Sides (Y, X) of every picture.
    truth_is, ignore_value
        What is white in the truths, and the value of what nobody annotated or None where all is,
        for `datasets.load`.
    notes
        Sentences that the user should read.
    pairs
        For every pair its file ``name``, its ``section``, the number of the ``variant`` of that
        section, and the ``parameters`` that were drawn.
    """

    axolemma: str
    source: str
    sha256: str
    terms: str
    voxel_size: tuple[float, float, float] | None
    preset: str
    settings: dict[str, Any]
    fill: Fill
    seed: int
    size: tuple[int, int]
    truth_is: str
    ignore_value: int | None
    notes: tuple[str, ...]
    pairs: tuple[dict[str, Any], ...]

    def as_json(self) -> str:
        """Return it as JSON, one line a pair."""
        head = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "pairs"}
        lines = ",\n".join(f"    {json.dumps(pair)}" for pair in self.pairs)
        return f'{json.dumps(head, indent=2)[:-2]},\n  "pairs": [\n{lines}\n  ]\n}}\n'


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """What every process needs to know."""

    images: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    folder: Path
    preset: str
    fill: Fill
    seed: int
    size: tuple[int, int]


def augment_pairs(
    pairs: Pairs,
    out: str | Path,
    *,
    count: int = 1000,
    preset: str = "keras",
    fill: Fill | None = None,
    seed: int = 0,
    size: int | None = None,
    first: int = 0,
    workers: int | None = None,
    overwrite: bool = False,
    report: Callable[[int], None] = lambda _: None,
) -> Manifest:
    """Write augmented pairs of image and truth to a folder.

    Parameters
    ----------
    pairs
        Annotated sections; for ``"axolemma"`` and ``"robust"`` parts of them do. 8-bit grey values
        are taken as they are; others are stretched, the same for all sections, from their 0.1 and
        99.9 percentiles to 0 … 255, and a note says so.
    out
        The folder to make. It appears whole, at the end, or not at all.
    count
        How many pairs. Every section of which anything is annotated is used equally often; what is
        left over goes to the first.
    preset
        ``"keras"`` and ``"keras-report"`` augment as an earlier project did by its README and by
        its report; see `augment_keras`. ``"axolemma"`` and ``"robust"`` augment as `train` does,
        see `augment`; their grey values, of mean 0 and deviation 1, get the section's own mean and
        deviation back and are clipped to 0 … 255, so that changes of contrast and brightness show.
    fill
        What lies beyond the border: ``"black"``, where the truth shows membrane, or ``"mirror"``.
        By default black for Keras' presets, as the earlier project had it, and always mirrored for
        ``"axolemma"`` and ``"robust"``.
    seed
        The same seed gives the same files. A section's n-th variant depends on nothing else, so a
        larger count adds to a smaller one.
    size
        Side of the crops of ``"axolemma"`` and ``"robust"``; by default the section's own sides.
    first
        The number of the first section, for the record.
    workers
        Processes; by default one a core, fewer for few pairs. 1 stays in this process. With more,
        a script must guard its start by ``if __name__ == "__main__"``.
    overwrite
        Replace `out` where it holds earlier augmented pairs; never anything else.
    report
        Called with the number of pairs that were finished since the last call.

    Returns
    -------
    Manifest
        What ``manifest.json`` holds.

    Raises
    ------
    InputError
        If an option or a section is unusable, or `out` is there already or cannot be written.
    AxolemmaError
        If the disk is full, or a process was killed.
    """
    processes = _cores(count) if workers is None else workers
    _check_numbers(count=(count, 1), seed=(seed, 0), workers=(processes, 1))
    fill = _fill(preset, fill)
    sides = _sides(pairs, preset, size)
    if pairs.truth.max(initial=0) > IGNORED:
        raise InputError(
            f"{pairs.name}: a truth is 1 = membrane and 0 = interior here, and 2 where nobody"
            " annotated"
        )
    annotated = np.flatnonzero((pairs.truth != IGNORED).any(axis=(1, 2))).tolist()
    if not annotated:
        raise InputError(f"{pairs.name}: nothing is annotated; annotate a part of a section")
    partly = bool((pairs.truth == IGNORED).any())
    if partly and preset not in augment.PRESETS:
        raise InputError(
            f"{pairs.name}: not all is annotated, which preset {preset} cannot leave out; take"
            " preset axolemma or robust, or sections that are annotated whole"
        )
    check_image(Stack(pairs.images, (0, 0), None, pairs.name), first=first)
    images, notes = _eight_bits(pairs)
    if fill == "black":
        notes += BLACK
    if left_out := len(pairs) - len(annotated):
        notes += (f"nothing is annotated in {left_out} of {len(pairs)} sections, left out",)
    tasks = _tasks(count, annotated)
    done: list[dict[str, Any]] = []
    with appearing(out, record="manifest.json", files=FILES, overwrite=overwrite) as folder:
        for part in PARTS:
            (folder / part).mkdir()
        job = _Job(images, pairs.truth, folder, preset, fill, seed, sides)
        with closing(_results(job, tasks, processes)) as results:
            for (name, section, variant), parameters in zip(tasks, results, strict=True):
                entry = {"name": name, "section": first + section, "variant": variant}
                done.append(entry | {"parameters": parameters})
                report(1)
        manifest = Manifest(
            axolemma=__version__,
            source=pairs.name,
            sha256=data_hash(pairs.images, pairs.truth),
            terms=pairs.terms,
            voxel_size=pairs.voxel_size,
            preset=preset,
            settings=SETTINGS[preset],
            fill=fill,
            seed=seed,
            size=sides,
            truth_is="interior",
            ignore_value=UNKNOWN if partly else None,
            notes=notes,
            pairs=tuple(done),
        )
        (folder / "manifest.json").write_text(manifest.as_json(), encoding="utf-8")
        chosen = np.unique(np.linspace(0, count - 1, CONTACTS).round().astype(int))
        _write_png(folder / "contact.png", _contact_sheet(folder, [tasks[i][0] for i in chosen]))
    return manifest


def _check_numbers(**numbers: tuple[int, int]) -> None:
    for name, (value, least) in numbers.items():
        if value < least:
            raise InputError(f"{name} must be at least {least}, not {value}")


def _fill(preset: str, fill: Fill | None) -> Fill:
    """Return how a preset fills what lies beyond the border, or refuse it."""
    if preset not in SETTINGS:
        raise InputError(f"unknown preset '{preset}'{nearest(preset, SETTINGS)}")
    if fill is None:
        return "mirror" if preset in augment.PRESETS else "black"
    if fill not in get_args(Fill):
        raise InputError(f"unknown fill '{fill}'{nearest(fill, get_args(Fill))}")
    if preset in augment.PRESETS and fill != "mirror":
        raise InputError(f"preset {preset} mirrors at the border; it has no fill '{fill}'")
    return fill


def _tasks(count: int, sections: Sequence[int]) -> list[tuple[str, int, int]]:
    """Return the file's name, the section and the number of its variant for every pair."""
    share, rest = divmod(count, len(sections))
    digits = max(4, len(str(count - 1)))
    chosen = [(z, v) for n, z in enumerate(sections) for v in range(share + (n < rest))]
    return [(f"{i:0{digits}}.png", *task) for i, task in enumerate(chosen)]


def _sides(pairs: Pairs, preset: str, size: int | None) -> tuple[int, int]:
    """Return the sides of the pictures, or refuse them."""
    height, width = pairs.images.shape[1:]
    if not len(pairs) or min(height, width) < SMALLEST:
        raise InputError(
            f"{pairs.name}: there is nothing to augment in {len(pairs)} sections of"
            f" {height} × {width} pixels; sides must be at least {SMALLEST}"
        )
    if size is None:
        return height, width
    if preset not in augment.PRESETS and (size, size) != (height, width):
        raise InputError(
            f"preset {preset} keeps the sections' size, {height} × {width}; leave size out, or"
            " take preset axolemma or robust, which crop"
        )
    if size < SMALLEST:
        raise InputError(f"size must be at least {SMALLEST} pixels, not {size}")
    return size, size


def _eight_bits(pairs: Pairs) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Return the images as uint8, and a note where they were something else."""
    images = pairs.images
    if images.dtype == np.uint8:
        return images, ()
    low, high = (float(p) for p in np.percentile(images, (0.1, 99.9)))
    if low == high:
        low, high = float(images.min()), float(images.max())
    scaled = np.stack([np.clip((section - low) / (high - low), 0, 1) for section in images])
    note = f"{images.dtype} grey values were stretched from {low:g} … {high:g} to 8 bits"
    return np.rint(scaled * 255).astype(np.uint8), (note,)


def _pair(
    job: _Job, section: int, variant: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], dict[str, Any]]:
    """Make one pair: image, truth (1 = membrane), and what was drawn."""
    rng = np.random.default_rng((job.seed, section, variant))
    image, truth = job.images[section], job.truth[section]
    settings = SETTINGS[job.preset]
    if job.preset not in augment.PRESETS:
        drawn = augment_keras.draw(rng, (image.shape[0], image.shape[1]), **settings)
        return *augment_keras.apply(image, truth, drawn, fill=job.fill), _plain(drawn)
    mean, deviation = image.mean(dtype=np.float64), image.std(dtype=np.float64)
    normal = np.asarray((image - mean) / deviation, np.float32)[None]
    # What is aimed at may still lie outside, of a whole section that is turned for instance.
    for _ in range(_TRIES):
        free = augment.draw_annotated(rng, truth, job.size, **settings)
        crop, drawn_truth = augment.apply(normal, truth, free)
        if (drawn_truth != IGNORED).any():
            break
    grey = np.clip(np.rint(crop[0] * deviation + mean), 0, 255).astype(np.uint8)
    return grey, drawn_truth, _plain(free)


def _plain(parameters: augment.Parameters | augment_keras.Parameters) -> dict[str, Any]:
    values = {f.name: getattr(parameters, f.name) for f in fields(parameters)}
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}


def _write(job: _Job, task: tuple[str, int, int]) -> dict[str, Any]:
    """Write one pair, and return what was drawn."""
    name, section, variant = task
    image, truth, drawn = _pair(job, section, variant)
    shown = np.array([255, 0, UNKNOWN], np.uint8)[truth]
    for part, picture in zip(PARTS, (image, shown), strict=True):
        _write_png(job.folder / part / name, picture)
    return drawn


def _write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    import imagecodecs

    path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(picture), **PNG))


_job: _Job | None = None  # of a process of the pool, which gets the sections once


def _start(job: _Job) -> None:
    global _job
    _job = job
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process hears it and ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A pool whose first process is killed would wait for work for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _write_in_pool(task: tuple[str, int, int]) -> dict[str, Any]:
    assert _job is not None
    return _write(_job, task)


def _results(
    job: _Job, tasks: Sequence[tuple[str, int, int]], workers: int
) -> Generator[dict[str, Any]]:
    """Write all pairs and yield what was drawn for each, in order."""
    if workers == 1:
        for task in tasks:
            yield _write(job, task)
        return
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_start, initargs=(job,))
    try:
        yield from pool.map(_write_in_pool, tasks, chunksize=4)
    except BrokenProcessPool as error:
        raise AxolemmaError(
            "a process that augments ended unexpectedly, perhaps for want of memory; take fewer"
            " workers, or 1 to stay in one process"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _cores(count: int) -> int:
    """Return how many processes pay for `count` pairs."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(here or 1, count // PER_WORKER))


def _contact_sheet(folder: Path, names: Sequence[str]) -> NDArray[np.uint8]:
    """Return small pictures (Y, X, 3) of pairs, in rows."""
    cells = []
    for name in names:
        image, truth = (read(folder / part / name).array[0] for part in PARTS)
        image, membrane = _small(image), _small(truth == 0)
        over = membrane_over(image, membrane)
        cells.append(side_by_side(image.astype(np.uint8), over, gap=2))
    across = min(ACROSS, len(cells))
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % across)
    rows = [side_by_side(*cells[i : i + across]) for i in range(0, len(cells), across)]
    return side_by_side(*(row.transpose(1, 0, 2) for row in rows)).transpose(1, 0, 2)


def _small(picture: NDArray[np.uint8] | NDArray[np.bool_]) -> NDArray[np.float64]:
    """Shrink a picture (Y, X) by means over whole squares."""
    height, width = picture.shape
    step = min(math.ceil(max(height, width) / THUMBNAIL), height, width)
    y, x = height // step, width // step
    squares = picture[: y * step, : x * step].reshape(y, step, x, step)
    return np.asarray(squares.mean(axis=(1, 3)))
