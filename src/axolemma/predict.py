"""A stack through a network: normalised, tiled, averaged. Numpy in, numpy out."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from axolemma.errors import AxolemmaError, InputError, SettingsError
from axolemma.geometry import Box, grid
from axolemma.models import POSES, fused, turned, turned_back
from axolemma.padding import padded
from axolemma.pixel_size import LOOKED_AT, likely_enlargement
from axolemma.quality import (
    FARTHEST,
    Contrast,
    Polarity,
    contrast_of,
    looked_at,
    normalise,
    polarity_of,
)
from axolemma.sampling import mirrored, resampled, samples
from axolemma.settings import Average
from axolemma.tiles import tiles

_log = logging.getLogger(__name__)

__all__ = [
    "HALO",
    "POSES",
    "Average",
    "Polarity",
    "Precision",
    "choose_device",
    "choose_polarity",
    "choose_precision",
    "cudnn_set",
    "enlargement",
    "enlargement_by_look",
    "glance",
    "glimpses",
    "levels_of",
    "magnified_shape",
    "membrane_map",
    "neighbours",
    "pixel_text",
    "place",
    "predict_part",
    "predict_section",
    "ready",
]

#: Gives a part (Y, X) of a section and its neighbours, (C, Y, X), any real dtype.
Read = Callable[[Box], NDArray[Any]]
#: Gives a part (Z, Y, X) of a stack, any real dtype.
ReadStack = Callable[[Box], NDArray[Any]]
#: By what each section of a part is normalised.
Levels = Sequence[Contrast]
Precision = Literal["auto", "fp32", "bf16", "int8"]

#: Largest side of a tile in pixels, so that a block of 2048² passes with what is around it; what
#: its inner edges count nothing, and over how many pixels more it hands over to the next. What
#: lies beyond the margin changes a trained network's map by less than 1e-3, at 96 px still by .05.
TILE = 2560
MARGIN, RAMP = 160, 32

#: Pixels beyond a part of a section that the network sees too, so that it predicts there what it
#: predicts in the whole.
HALO = MARGIN + RAMP

#: Pixels around a part that tell what in it is padding.
_AROUND = 32

#: Pixels that pass a network at once, on a GPU in several poses where a tile is smaller. More of
#: them would only take memory. A processor takes one pose after the other.
_AT_ONCE = {"cuda": 2048**2, "cpu": 0}

#: What so many pixels at once proved too much for: networks, and half of what they were given.
_MOST: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()

#: Smallest side in pixels of a tile that is tried for want of memory.
_SMALLEST_TILE = 512

#: What libraries say that are not torch, or torch where it has no exception for it.
_NO_MEMORY = ("can't allocate memory", "bad_alloc", "ALLOC_FAILED")

#: The dtypes that torch converts on any device; others are converted before they get there.
_TRAVELLING = [np.dtype(name) for name in "bBhHilfd"]

#: Pixels are brought to the model's size where theirs differs by more than this factor, and are
#: taken for a mistake beyond the other one.
_SAME_SIZE, _MISTAKEN_SIZE = 1.05, 4.0


def choose_device(wish: str = "auto") -> torch.device:
    """Return the device to compute on.

    Parameters
    ----------
    wish
        ``"auto"`` takes a GPU where there is one; ``"cpu"`` and ``"cuda"`` insist.

    Raises
    ------
    SettingsError
        If the device is unknown or not there.
    """
    if wish == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wish.split(":")[0] not in ("cpu", "cuda"):
        raise SettingsError(f"unknown device '{wish}'; known: auto, cpu, cuda")
    if wish != "cpu" and not torch.cuda.is_available():
        raise SettingsError(f"device '{wish}' is not available here; take cpu or auto")
    device = torch.device(wish)
    if ":" in wish and device.type == "cuda" and device.index >= torch.cuda.device_count():
        raise SettingsError(
            f"there is no device '{wish}' for this process, which sees {torch.cuda.device_count()};"
            " take cuda; workers see one GPU each, CUDA_VISIBLE_DEVICES says which there are"
        )
    return device


def choose_precision(wish: Precision, device: torch.device) -> Literal["fp32", "bf16"]:
    """Return the precision to compute in.

    bfloat16 pays only where the processor multiplies it in hardware: on others it is emulated and
    several times slower than float32.

    Parameters
    ----------
    wish
        ``"auto"`` takes bf16 where it is native, else fp32.
    device
        From `choose_device`.

    Raises
    ------
    SettingsError
        For int8, which is calibrated on the very image: `segment` alone does that.
    """
    if wish == "int8":
        raise SettingsError(
            "precision int8 is for `segment` of an image in memory, on which it is calibrated;"
            " take auto, bf16 or fp32"
        )
    if wish != "auto":
        return wish
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported()
    else:
        able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        native = bool(able.get("amx_bf16") or able.get("avx512_bf16"))
    return "bf16" if native else "fp32"


def autocast(
    precision: Literal["fp32", "bf16"], device: torch.device
) -> AbstractContextManager[object]:
    """Return the context in which a network computes in `precision`."""
    if precision == "fp32":
        # Else a GPU would round what it multiplies to 10 bits, and call it float32.
        return cudnn_set(allow_tf32=False) if device.type == "cuda" else nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


@contextmanager
def cudnn_set(**flags: bool) -> Iterator[None]:
    """Set flags of `torch.backends.cudnn` for a while; they count for all threads."""
    before = {name: getattr(torch.backends.cudnn, name) for name in flags}
    for name, value in flags.items():
        setattr(torch.backends.cudnn, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(torch.backends.cudnn, name, value)


def place(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to a device, its weights laid out channels last, which convolves faster."""
    return network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def ready(
    network: nn.Module, device: torch.device, precision: Literal["fp32", "bf16"] = "fp32"
) -> nn.Module:
    """Return a network for prediction: on the device, its normalisations folded in.

    With ``"bf16"`` its weights are rounded once, as `autocast` would round them at every call. A
    copy where there is anything to change, so that the weights of `network` stay as they are.
    """
    folds = any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    rounds = precision == "bf16" and _kind(network) == torch.float32
    network = place(fused(network) if folds or rounds else network, device).eval()
    return network.to(torch.bfloat16) if rounds else network


def _kind(network: nn.Module) -> torch.dtype | None:
    """Return the type of a network's weights; None where it holds none that torch knows of."""
    return next((weights.dtype for weights in network.parameters()), None)


def magnified_shape(shape: tuple[int, ...], magnification: float) -> tuple[int, int]:
    """Return the sides (Y, X) at which a network sees a section so magnified."""
    height, width = (max(1, round(side * magnification)) for side in shape[-2:])
    return height, width


def enlargement(
    voxel_size: tuple[float, float, float] | None, learned: tuple[float, float, float] | None
) -> float:
    """Return the factor that brings pixels to the size that a model learned at.

    Parameters
    ----------
    voxel_size, learned
        (Z, Y, X) in nm of the sections and of what the model learned from, None where not known.

    Returns
    -------
    float
        1 where either is not known, or they hardly differ.

    Raises
    ------
    InputError
        If they are too far apart to be true.
    """
    if voxel_size is None or learned is None:
        return 1.0
    factor = math.sqrt(voxel_size[1] * voxel_size[2] / (learned[1] * learned[2]))
    if not 1 / _MISTAKEN_SIZE <= factor <= _MISTAKEN_SIZE:
        raise InputError(
            f"the image has pixels of {pixel_text(voxel_size)} and the model learned at "
            f"{pixel_text(learned)}, too far apart to be true; give the right voxel_size, Z,Y,X in"
            " nm"
        )
    return 1.0 if 1 / _SAME_SIZE <= factor <= _SAME_SIZE else factor


def pixel_text(voxel_size: tuple[float, float, float]) -> str:
    """Return the size of pixels in words, along Y and X where they are not square."""
    _, y, x = voxel_size
    return f"{x:g} nm" if x == y else f"{y:g} × {x:g} nm (Y × X)"


def enlargement_by_look(
    network: nn.Module,
    read: ReadStack,
    shape: tuple[int, ...],
    *,
    polarity: Literal["auto"] | Polarity = "auto",
    context: int = 0,
    precision: Precision = "auto",
    device: str = "auto",
) -> float | None:
    """Return the factor that likely brings a stack's pixels to the size that a network learned at.

    For sections that do not tell their pixel size, and to see whether they tell the right one.

    Parameters
    ----------
    network
        As in `membrane_map`.
    read
        Gives a part of the stack, (Z, Y, X). The middles of three sections are looked at.
    shape
        Of the stack, (Z, Y, X).
    polarity, context, precision, device
        As in `membrane_map`.

    Returns
    -------
    float or None
        The median of what `pixel_size.likely_enlargement` says of the sections.
    """
    seen = (glance(read, shape, z, LOOKED_AT)[0] for z in looked_at(shape[0]))
    sections = [section for part in seen if (section := _without_padding(part)) is not None]
    if not sections:
        return None
    polarity = choose_polarity(polarity, read, shape)
    where = choose_device(device)
    network = ready(network, where, choose_precision(precision, where))

    def map_of(section: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            return next(
                membrane_map(
                    network,
                    section[None],
                    polarity=polarity,
                    context=context,
                    precision=precision,
                    device=device,
                )
            )
        except InputError:  # Nothing is to be seen in this part of the section.
            return np.zeros(section.shape, np.float32)

    found = [likely_enlargement(section, map_of) for section in sections]
    known = [factor for factor in found if factor is not None]
    return float(np.median(known)) if known else None


def _without_padding(section: NDArray[Any]) -> NDArray[np.float32] | None:
    """Normalise a section, with NaN for padding; None where nothing is to be seen."""
    try:
        by = contrast_of(section)
    except InputError:
        return None
    found, outside = normalise(section, by), padded(section, by.padding)
    if outside is not None:
        found[outside] = np.nan
    return found


def neighbours(z: int, context: int, count: int) -> NDArray[np.int64]:
    """Return the numbers of section `z` and its `context` neighbours on either side.

    Beyond the first and the last of `count` sections that section is repeated.
    """
    return np.clip(np.arange(z - context, z + context + 1), 0, count - 1)


def _checked(stack: NDArray[Any], z: int, context: int) -> list[Contrast]:
    """Return by what section `z` and its neighbours are normalised."""
    try:
        return [contrast_of(stack[n]) for n in neighbours(z, context, len(stack))]
    except InputError as error:
        raise InputError(f"section {z}: {error}") from None


def glance(read: ReadStack, shape: tuple[int, ...], z: int, side: int) -> NDArray[Any]:
    """Return the middle of section `z` of a volume, (1, Y, X)."""
    sides = [(max(0, (whole - side) // 2), (whole + side) // 2) for whole in shape[1:]]
    box = Box((z, *(a for a, _ in sides)), (z + 1, *(b for _, b in sides)))
    return read(box.clip(Box.of(shape)))


def choose_polarity(
    wish: Literal["auto"] | Polarity,
    read: ReadStack,
    shape: tuple[int, ...],
    *,
    magnification: float = 1.0,
) -> Polarity:
    """Return the polarity that was wished for, or that of `polarity_of` for ``"auto"``."""
    return polarity_of(read, shape, magnification=magnification) if wish == "auto" else wish


def membrane_map(
    network: nn.Module,
    stack: NDArray[Any],
    *,
    polarity: Polarity = "dark",
    context: int = 0,
    magnification: float = 1.0,
    average: Average = "none",
    precision: Precision = "auto",
    device: str = "auto",
    tile: int = TILE,
    out: NDArray[np.float32] | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Iterator[NDArray[np.float32]]:
    """Predict the membrane of a stack, section by section.

    Parameters
    ----------
    network
        From `models.build`, or what computes the same; its weights stay as they are.
    stack
        Sections (Z, Y, X), any real dtype. May be a memory map.
    polarity
        Whether its membranes are dark or bright; bright ones are inverted for the network.
    context
        Neighbouring sections on either side that the network looks at.
    magnification
        Factor by which sections are enlarged before the network sees them; the map has their own
        size again.
    average
        Average over the section and what it is after a half turn (2 poses), over flips (4 poses) or
        over the whole dihedral group (8 poses).
    precision, device
        See `choose_precision` and `choose_device`.
    tile
        Largest side in pixels of what passes the network at once; bounds the network's memory.
    out
        Where to put the maps, of the shape of `stack`; a new array for each where None.
    advance
        Called with the number of section pixels that were finished.

    Yields
    ------
    NDArray[np.float32]
        The membrane map (Y, X) in [0, 1] of one section after the other.

    Raises
    ------
    InputError
        If a section is constant or not finite, or the stack is not three-dimensional.
    """
    if stack.ndim != 3:
        raise InputError(f"a stack has axes (Z, Y, X), this array has shape {stack.shape}")
    where = choose_device(device)
    how = choose_precision(precision, where)
    network = ready(network, where, how)
    whole = Box.of(stack.shape[1:])
    for z in range(len(stack)):
        read, levels = _reader(stack, z, context, polarity)
        yield predict_part(
            network,
            read,
            whole.shape,
            whole,
            levels=levels,
            magnification=magnification,
            average=average,
            precision=how,
            device=where,
            tile=tile,
            out=None if out is None else out[z],
            advance=advance,
        )


def _reader(stack: NDArray[Any], z: int, context: int, polarity: Polarity) -> tuple[Read, Levels]:
    """Return what reads a part of section `z` and its neighbours, and how to normalise them."""
    levels = levels_of(_checked(stack, z, context), polarity)
    if context == 0:
        return lambda box: stack[z][box.slices][None], levels
    near = neighbours(z, context, len(stack))
    return lambda box: np.stack([stack[n][box.slices] for n in near]), levels


def levels_of(contrasts: Levels, polarity: Polarity) -> Levels:
    """Return by what to normalise sections of such means and deviations, so that lines are dark."""
    sign = 1 if polarity == "dark" else -1
    return [found._replace(deviation=sign * found.deviation) for found in contrasts]


def glimpses(
    stack: NDArray[Any],
    count: int,
    *,
    polarity: Polarity = "dark",
    context: int = 0,
    magnification: float = 1.0,
    side: int = 256,
) -> list[NDArray[np.float32]]:
    """Return parts of a stack as a network sees them, (C, Y, X), from all over it.

    Parameters
    ----------
    stack, polarity, context, magnification
        As in `membrane_map`.
    count
        How many at most. No two overlap, and the same stack gives the same ones.
    side
        Of each in pixels, smaller where a section is.
    """
    whole = stack.shape[1:]
    seen = magnified_shape(whole, magnification)
    boxes = [(z, box) for z in range(len(stack)) for box in grid(seen, (min(side, min(seen)),) * 2)]
    full = [place for place in boxes if min(place[1].shape) == min(side, min(seen))]
    chosen = np.random.default_rng(0).permutation(len(full))[:count]
    readers = {z: _reader(stack, z, context, polarity) for z in {full[n][0] for n in chosen}}
    cpu = torch.device("cpu")
    return [
        _seen(read, levels, box, whole, seen, cpu)[0].numpy()
        for z, box in (full[n] for n in chosen)
        for read, levels in [readers[z]]
    ]


def predict_section(
    network: nn.Module,
    section: NDArray[np.float32],
    *,
    magnification: float = 1.0,
    average: Average = "none",
    precision: Literal["fp32", "bf16"] = "fp32",
    device: torch.device,
    tile: int = TILE,
    advance: Callable[[int], None] = lambda _: None,
) -> NDArray[np.float32]:
    """Predict the membrane of one normalised section with its neighbours, (C, Y, X) to (Y, X).

    Arguments as in `membrane_map`; the network is on the device and in evaluation mode already.
    """
    whole = Box.of(section.shape[1:])
    return predict_part(
        network,
        lambda box: section[:, *box.slices],
        whole.shape,
        whole,
        magnification=magnification,
        average=average,
        precision=precision,
        device=device,
        tile=tile,
        advance=advance,
    )


def predict_part(
    network: nn.Module,
    read: Read,
    whole: tuple[int, ...],
    part: Box,
    *,
    levels: Levels | None = None,
    magnification: float = 1.0,
    average: Average = "none",
    precision: Literal["fp32", "bf16"] = "fp32",
    device: torch.device,
    tile: int = TILE,
    out: NDArray[np.float32] | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> NDArray[np.float32]:
    """Predict the membrane of a part of a section, as it is predicted in the whole.

    Parameters
    ----------
    network
        On the device and in evaluation mode.
    read
        Gives any part (Y, X) of the section with its neighbours, (C, Y, X). It is asked for what a
        tile needs, tile by tile, and for some `HALO` pixels beyond `part`.
    whole
        Sides (Y, X) of the section.
    part
        What to predict.
    levels
        From `levels_of`, one for each of the sections; None where they are normalised already.
    magnification, average, precision, device, tile, advance
        As in `membrane_map`.
    out
        Where to put the map, of the shape of `part`.

    Returns
    -------
    NDArray[np.float32]
        The membrane map of the part in [0, 1], within 1e-3 of the same part of the whole's.

    Raises
    ------
    AxolemmaError
        If there is too little memory even for a small tile. A larger one that is too large is
        halved, which the log tells.
    """
    stride = int(network.stride)  # type: ignore[arg-type]
    seen = magnified_shape(whole, magnification)
    # What of the network's map the part is sampled from.
    back = [
        samples(start, stop, size, side)
        for start, stop, size, side in zip(part.start, part.stop, seen, whole, strict=True)
    ]
    wanted = Box(tuple(axis.span[0] for axis in back), tuple(axis.span[1] for axis in back))
    # Mirrored only as far as strides ask for, and whole, so that every tile of every part, in every
    # pose, meets the same strides and the same mirror image as the section in one piece.
    looked = Box(
        tuple((start - HALO) // stride * stride for start in wanted.start),
        tuple(-(-(stop + HALO) // stride) * stride for stop in wanted.stop),
    ).clip(Box.of(tuple(side - side % -stride for side in seen)))
    same = seen == tuple(whole)
    place = out if same else None
    shape = (looked.shape[0], looked.shape[1])
    pieces = [*tiles(shape, size=tile, margin=MARGIN, ramp=RAMP, multiple=stride)]
    alone, canvas = len(pieces) == 1, torch.empty(0)
    before: torch.cuda.Event | None = None
    with torch.inference_mode(), autocast(precision, device), _cores_left_to(network):
        if not alone:
            canvas = _canvas(wanted.shape, place, device)
        for piece in pieces:
            box = piece.box.moved(looked.start)
            kept = box.clip(wanted)
            rows, columns = kept.within(box).slices
            counts = piece.rows[rows], piece.columns[columns]
            crop = _seen(read, levels, box, whole, seen, device)
            found = _averaged(network, crop, average)[rows, columns]
            if alone:
                canvas = found
            else:
                canvas[kept.within(wanted).slices] += _weighted(found.to(canvas.device), *counts)
            if device.type == "cuda":
                # A GPU computes while the next tile is read; two that wait would only pile up.
                if before is not None:
                    before.synchronize()
                before = torch.cuda.current_stream(device).record_event()
            share = math.prod(float(along.sum(dtype=np.float64)) for along in counts)
            advance(round(share / math.prod(wanted.shape) * math.prod(part.shape)))
        if not alone:  # The weights of tiles add up to 1 but for rounding.
            canvas.clamp_(0, 1)
        map_ = _collected(canvas, place)
    if not same:
        # The weights of pixels add up to 1 but for rounding too.
        map_ = resampled(map_[None], *back)[0]
        map_ = np.clip(map_, 0, 1, out=map_ if out is None else out)
    # Membrane everywhere, so that no cell is seen in a frame and none goes on along it.
    by = levels[len(levels) // 2] if levels else None
    if by is not None and by.padding:
        near = part.grow((_AROUND, _AROUND)).clip(Box.of(tuple(whole)))
        section = read(near)[len(levels or ()) // 2]
        outside = padded(section, by.padding, frame=by.frame, box=near)
        if outside is not None:
            map_[outside[part.within(near).slices]] = 1
    return map_


@contextmanager
def _cores_left_to(network: nn.Module) -> Iterator[None]:
    """Keep torch to one thread beside a network that has threads of its own.

    Torch's would wait busily for their next task, on the cores that the network computes on.
    """
    if not hasattr(network, "average"):
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _seen(
    read: Read,
    levels: Levels | None,
    box: Box,
    whole: tuple[int, ...],
    seen: tuple[int, int],
    device: torch.device,
) -> Tensor:
    """Return what a network sees in a box, (1, C, Y, X), which may reach beyond the section."""
    if seen == tuple(whole) and box == box.clip(Box.of(seen)):
        sections = read(box)
        return _normalised(sections, levels, device, _outside(sections, levels, box))[None]
    places = [mirrored(a, b, size) for a, b, size in zip(box.start, box.stop, seen, strict=True)]
    inner = [(int(axis.min()), int(axis.max()) + 1) for axis in places]
    axes = [
        samples(a, b, size, side) for (a, b), size, side in zip(inner, whole, seen, strict=True)
    ]
    here = Box(tuple(axis.span[0] for axis in axes), tuple(axis.span[1] for axis in axes))
    sections = read(here)
    outside = _outside(sections, levels, here)
    rows, columns = (axis - first for axis, (first, _) in zip(places, inner, strict=True))
    if seen != tuple(whole):
        # Normalised before they are mixed, where large values have lost nothing to rounding yet.
        sections = _normalised(sections, levels, torch.device("cpu"), outside).numpy()
        sections, levels, outside = resampled(sections, *axes), None, None
    mirrored_too = np.s_[:, rows[:, None], columns]
    outside = None if outside is None else outside[mirrored_too]
    return _normalised(sections[mirrored_too], levels, device, outside)[None]


def _outside(sections: NDArray[Any], levels: Levels | None, box: Box) -> NDArray[np.bool_] | None:
    """Tell which pixels of a box of sections, (C, Y, X), are padding; None where there is none."""
    if not any(found.padding for found in levels or ()):
        return None
    outside = np.zeros(sections.shape, bool)
    for part, section, found in zip(outside, sections, levels or (), strict=True):
        there = padded(section, found.padding, frame=found.frame, box=box)
        if there is not None:
            part[...] = there
    return outside


def _normalised(
    sections: NDArray[Any],
    levels: Levels | None,
    device: torch.device,
    outside: NDArray[np.bool_] | None = None,
) -> Tensor:
    """Return sections (C, Y, X) on a device, float32, each less its mean and over its deviation.

    What is outside is 0. They travel in their own dtype, which is a quarter of float32 where they
    are of 8 bits.
    """
    if sections.dtype.newbyteorder("=") not in _TRAVELLING:
        sections = sections.astype(np.float64)
    found = _sent(sections, device)
    if levels is None:
        return found.float()
    # Of a large value float32 would lose what is left when the mean is taken away.
    exact = np.float32 if sections.itemsize == 1 else np.float64
    by = _sent(np.array([each[:2] for each in levels], exact), device)
    shift, scale = by.T[:, :, None, None]
    found = found.to(by.dtype, copy=True).sub_(shift).div_(scale).float()
    found.clamp_(-FARTHEST, FARTHEST)
    return found if outside is None else found.masked_fill_(_sent(outside, device), 0)


def _weighted(found: Tensor, rows: NDArray[np.float32], columns: NDArray[np.float32]) -> Tensor:
    """Multiply a tile's map (Y, X) by its weights, in place; most of it counts fully."""
    for map_, weights in ((found, rows), (found.T, columns)):
        full = np.flatnonzero(weights == 1)
        first, last = (full[0], full[-1] + 1) if full.size else (len(weights),) * 2
        for part in (slice(0, first), slice(last, len(weights))):
            if part.start < part.stop:
                map_[part].mul_(_sent(weights[part], found.device)[:, None])
    return found


def _canvas(
    shape: tuple[int, ...], place: NDArray[np.float32] | None, device: torch.device
) -> Tensor:
    """Return where the tiles of a map are added up, all 0: a GPU's where it has room, or its place.

    A quarter of its free memory at most, for most of it is the network's.
    """
    size = torch.float32.itemsize * math.prod(shape)
    if device.type == "cuda" and 4 * size <= torch.cuda.mem_get_info(device)[0]:
        return torch.zeros(shape, device=device)
    return torch.zeros(shape) if place is None else torch.from_numpy(place).zero_()


def _collected(canvas: Tensor, place: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Return a map as an array, in its place where it has one."""
    if place is None:
        return np.ascontiguousarray(canvas.cpu().numpy())
    there = torch.from_numpy(place)
    if there.data_ptr() != canvas.data_ptr():
        there.copy_(canvas)
    return place


def _sent(array: NDArray[Any], device: torch.device) -> Tensor:
    """Return an array as a tensor on a device; to a GPU it may still be on its way."""
    native = array.dtype.newbyteorder("=")
    if device.type != "cuda":
        # What torch may write to, even if it never does.
        return torch.from_numpy(np.require(array, native, ["C", "W"]))
    kind = torch.from_numpy(np.empty(0, native)).dtype
    waiting = torch.empty(array.shape, dtype=kind, pin_memory=True)
    waiting.numpy()[...] = array
    return waiting.to(device, non_blocking=True)


def _averaged(network: nn.Module, crop: Tensor, average: Average) -> Tensor:
    """Average the probabilities of one crop (1, C, Y, X) over its poses, (Y, X).

    In passes as large as memory allows: where it is too small for one it is tried with half the
    poses, and below one with smaller tiles, from then on.
    """
    height, width = crop.shape[-2:]
    pixels, poses = height * width, len(_poses(network, average))
    while pixels <= (most := _MOST.get(network, math.inf)):
        many = min(poses, max(1, int(min(most, _AT_ONCE[crop.device.type]) // pixels)))
        try:
            return _passed(network, crop, average, many)
        except RuntimeError as error:
            if not _is_want_of_memory(error):
                raise
            _log.warning(
                "too little memory for %d × %d × %d pixels at once (%s); going on with half of it",
                *(many, height, width, str(error).partition("\n")[0]),
            )
        # Out here, where the exception no longer holds on to what the pass had allocated.
        _MOST[network] = many * pixels // 2
        if crop.device.type == "cuda":
            torch.cuda.empty_cache()
    side = math.isqrt(_MOST[network])
    if side < _SMALLEST_TILE:
        raise AxolemmaError(
            f"there is too little memory for this network even on {height} × {width} pixels; free"
            " some, or take another device or a smaller network"
        )
    total = torch.zeros(height, width, device=crop.device)
    stride = int(network.stride)  # type: ignore[arg-type]
    for piece in tiles((height, width), size=side, margin=MARGIN, ramp=RAMP, multiple=stride):
        rows, columns = piece.box.slices
        found = _averaged(network, crop[..., rows, columns], average)
        total[rows, columns] += _weighted(found, piece.rows, piece.columns)
    return total.clamp_(0, 1)


def _is_want_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(
        words in str(error) for words in _NO_MEMORY
    )


def _poses(network: nn.Module, average: Average) -> tuple[tuple[bool, int], ...]:
    """Return the poses that a network is to be shown: none but its own where it averages itself."""
    own = getattr(network, "average", None) or "none"
    assert own in ("none", average), f"compiled for {own}, not {average}"
    return POSES[average if own == "none" else "none"]


def _passed(network: nn.Module, crop: Tensor, average: Average, many: int) -> Tensor:
    """Average the probabilities of one crop over its poses, so `many` of them in every pass."""
    poses, total = _poses(network, average), None
    crop = crop.to(_kind(network) or crop.dtype)
    # What is turned by a quarter is as high as the other is wide, and can be no part of its batch.
    upright = many == 1 or crop.shape[-2] == crop.shape[-1]
    alike = [poses] if upright else [[p for p in poses if p[1] % 2 == odd] for odd in (0, 1)]
    for group in (same[n : n + many] for same in alike for n in range(0, len(same), many)):
        seen = [turned(crop, *pose) for pose in group]
        batch = torch.cat(seen) if len(seen) > 1 else seen[0]
        maps = network(batch.contiguous(memory_format=torch.channels_last))[:, 0].float()
        if getattr(network, "average", None) is None:  # else they are maps already
            maps = maps.sigmoid_()
        for map_, pose in zip(maps, group, strict=True):
            map_ = turned_back(map_, *pose)
            total = map_ if total is None else total.add_(map_)
    assert total is not None
    return total / len(poses) if len(poses) > 1 else total
