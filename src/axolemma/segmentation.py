"""An image through a model to membranes, cells and neurons, in memory or from file to folder."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from axolemma._version import __version__
from axolemma.calibration import Calibration
from axolemma.errors import InputError, SettingsError
from axolemma.geometry import Box
from axolemma.images import (
    Stack,
    appearing,
    blank_sections,
    check_image,
    parse_slices,
    write_png,
    write_tiff,
)
from axolemma.modelfile import Model, load_model, state_hash
from axolemma.padding import padded
from axolemma.pictures import preview
from axolemma.predict import (
    TILE,
    Average,
    Polarity,
    Precision,
    choose_device,
    choose_polarity,
    choose_precision,
    enlargement,
    enlargement_by_look,
    glimpses,
    membrane_map,
    pixel_text,
)
from axolemma.quality import SectionReport, as_dict, check_stack, contrast_of, summary
from axolemma.settings import SegmentSettings, check
from axolemma.uncertainty import uncertainty_map

if TYPE_CHECKING:
    from axolemma.objects import Method

__all__ = [
    "BLUR",
    "SMALLEST",
    "SMOOTHING",
    "Segmentation",
    "boundary_of",
    "calibration_of",
    "likely_size",
    "likely_size_of",
    "notes_on",
    "segment",
    "segment_stack",
    "told_size",
    "write_segmentation",
]

#: A pixel size that is so much off the one that membranes look like is worth a note: some tissue
#: may have other membranes, but hardly twice as thick.
_DOUBTFUL = 1.7

#: Sides of a pixel that differ by more are worth a note too.
_SQUARE = 1.1

#: Crops of an image that 8-bit integers are calibrated on, and others on which they are compared.
_CALIBRATING, _COMPARING = 12, 6

#: What a folder of results holds.
FILES = {
    *("membrane.tif", "uncertainty.tif", "cells.tif", "neurons.tif", "preview.png", "run.json"),
}

#: Lengths of `objects.segment_cells` in the model's pixels: 2 px are 8 nm at the challenge's 4 nm.
SMOOTHING, SMALLEST = 2.0, 25.0

#: The smoothing of the uncertainty map, in the model's pixels; docs/weights.md tells how it was
#: chosen.
BLUR = 1.0


@dataclass(frozen=True, slots=True)
class Segmentation:
    """What a model saw in a stack.

    Parameters
    ----------
    membrane
        float32 in [0, 1], 1 = membrane; the shape of the input.
    cells
        uint32, 0 = membrane, one number per cell and section; None where none were asked for.
    neurons
        uint32, 0 = membrane, one number per neuron through the stack; None where none were asked
        for.
    boundary
        How far the membrane map must rise between two cells to part them.
    threshold
        A pixel is cell interior where ``1 - membrane > threshold``.
    polarity
        Whether the input's membranes are ``"dark"`` or ``"bright"``.
    precision
        Of the arithmetic that was used.
    parity
        For 8-bit integers, how near they came to float32 on this image; else empty.
    masked
        Sections that show nothing and were taken for membrane everywhere.
    calibration
        What would turn the membrane map into probabilities that come true; None where it is
        calibrated already, or the model does not know.
    uncertainty
        float32 in [0, log 2], where the membrane map is likely to be wrong, see
        `uncertainty.uncertainty_map`; None where it was not asked for.
    enlargement
        Factor by which its pixels were brought to the size that the model learned at.
    """

    membrane: NDArray[np.float32]
    cells: NDArray[np.uint32] | None
    neurons: NDArray[np.uint32] | None
    boundary: float
    threshold: float
    polarity: Polarity
    precision: str = "fp32"
    parity: str = ""
    masked: tuple[int, ...] = ()
    calibration: Calibration | None = None
    uncertainty: NDArray[np.float32] | None = None
    enlargement: float = 1.0


def segment(
    array: NDArray[Any],
    *,
    model: str | Path | Model = "neurites",
    polarity: str = "auto",
    voxel_size: tuple[float, float, float] | None = None,
    threshold: float | None = None,
    average: Average = "half-turn",
    objects: str = "cells",
    method: "Method" = "mean",
    boundary: float | None = None,
    filled: bool = False,
    bad_sections: str = "refuse",
    calibrated: bool = False,
    uncertainty: bool = False,
    precision: Precision | Literal["int8"] = "auto",
    device: str = "auto",
    tile: int = TILE,
    advance: Callable[[int], None] = lambda _: None,
) -> Segmentation:
    """Segment sections: numpy in, numpy out.

    Parameters
    ----------
    array
        One section (Y, X) or a stack (Z, Y, X), any real dtype.
    model
        A model file, a run folder, the name of a bundled model, or a loaded model.
    voxel_size
        (Z, Y, X) in nm. Where its pixels are not of the size that the model learned at, sections
        are enlarged or shrunk for the network, and the results have the input's pixels again. Where
        it is not known that goes by the look of the membranes.
    polarity, threshold, average, objects, method, boundary, filled, bad_sections, calibrated,
    uncertainty, precision, device, tile
        See `SegmentSettings`. A `threshold` is one of the map as it is, not calibrated.
    advance
        Called with the number of section pixels that were finished.

    Returns
    -------
    Segmentation
        Membrane map, cells and neurons in the shape of the input.

    Raises
    ------
    InputError
        If the array is no section or stack, is constant or not finite, the model is unusable, it
        learned at pixels of an altogether different size, or int8 says too much else than float32.

    Examples
    --------
    >>> result = segment(stack, model="runs/a")  # doctest: +SKIP
    >>> result.cells.max()  # doctest: +SKIP
    9125
    """
    chosen = check(
        SegmentSettings,
        {
            "model": "given",
            "voxel_size": voxel_size,
            "polarity": polarity,
            "threshold": threshold,
            "average": average,
            "objects": objects,
            "method": method,
            "boundary": boundary,
            "filled": filled,
            "bad_sections": bad_sections,
            "calibrated": calibrated,
            "uncertainty": uncertainty,
            "precision": precision,
            "device": device,
            "tile": tile,
        },
    )
    array = np.asarray(array)
    if array.dtype.kind not in "buif" or array.size == 0:
        raise InputError(f"sections hold real numbers, not {array.dtype} of shape {array.shape}")
    if array.ndim not in (2, 3):
        raise InputError(f"a section has axes (Y, X), a stack (Z, Y, X), not shape {array.shape}")
    loaded = model if isinstance(model, Model) else load_model(model)
    found = _segmented(array.reshape(-1, *array.shape[-2:]), loaded, chosen, advance=advance)
    if array.ndim == 2:
        several = ("membrane", "cells", "neurons", "uncertainty")
        one: dict[str, Any] = {
            name: part[0] for name in several if (part := getattr(found, name)) is not None
        }
        return replace(found, **one)
    return found


def _segmented(
    stack: NDArray[Any],
    model: Model,
    settings: SegmentSettings,
    *,
    enlargement: float | None = None,
    advance: Callable[[int], None],
) -> Segmentation:
    """Segment a stack (Z, Y, X); it is looked at for its `enlargement` where that is None."""
    cut = model.info.threshold if settings.threshold is None else settings.threshold
    calibration = calibration_of(model) if settings.calibrated else model.info.calibration
    masked = blank_sections(stack) if settings.bad_sections == "mask" else []
    usable = np.setdiff1d(np.arange(len(stack)), masked)
    if not usable.size:
        raise InputError("every section is blank or holds NaN; there is nothing to segment")
    seen = stack[usable] if masked else stack
    if enlargement is None:
        enlargement = likely_size_of(seen, model, settings)
    pixel = enlargement or 1.0
    found = choose_polarity(
        settings.polarity, lambda box: seen[box.slices], seen.shape, magnification=pixel
    )
    where = choose_device(settings.device)
    sight: dict[str, Any] = {
        "polarity": found,
        "context": model.info.context,
        "magnification": pixel,
    }
    average, how = settings.average, settings.precision
    network, parity = model.network, ""
    if how == "int8":
        network, how, parity = _in_integers(model, seen, sight, cut, where, average=average)
    used = choose_precision("auto" if how == "int8" else how, where)
    membrane = np.ones(stack.shape, np.float32)
    sections = membrane_map(
        network,
        seen,
        **sight,
        average=average,
        precision="fp32" if how == "int8" else used,
        device=str(where),
        tile=settings.tile,
        out=None if masked else membrane,
        advance=advance,
    )
    for z, section in zip(usable, sections, strict=True):
        if masked:
            membrane[z] = section
    between = boundary_of(model, settings)
    cells = neurons = None
    if settings.objects != "none":
        # A membrane map does not wait for what finds cells, nor for its compiler.
        from axolemma.objects import GAP, GROWTH, link_cells, segment_cells

        cells = segment_cells(
            membrane,
            boundary=between,
            method=settings.method,
            threshold=cut,
            smoothing=SMOOTHING / pixel,
            smallest=SMALLEST / pixel**2,
            filled=settings.filled,
        )
        if settings.objects == "neurons":
            neurons = link_cells(cells, membrane=membrane, growth=GROWTH / pixel, gap=GAP / pixel)
    unsure = None
    if settings.uncertainty:
        unsure = np.zeros(stack.shape, np.float32)
        for z in usable:
            unsure[z] = uncertainty_map(membrane[z], smoothing=BLUR / pixel)
    if settings.calibrated and calibration is not None:
        cut = calibration.threshold(cut)
        for z in usable:
            membrane[z] = calibration(membrane[z])
    return Segmentation(
        membrane,
        cells,
        neurons,
        between,
        cut,
        found,
        "int8" if how == "int8" else used,
        parity,
        tuple(masked),
        None if settings.calibrated else calibration,
        unsure,
        pixel,
    )


def told_size(settings: SegmentSettings, stack: Stack) -> tuple[float, float, float] | None:
    """Return the ZYX size in nm that somebody told; Z is that of Y where that is of pixels alone.

    So it says by how much to enlarge sections and nothing of how thick they are.
    """
    if settings.voxel_size is None and stack.voxel_size is None and stack.pixel_size is not None:
        return (stack.pixel_size[0], *stack.pixel_size)
    return settings.voxel_size or stack.voxel_size


def likely_size(
    read: Callable[[Box], NDArray[Any]],
    shape: tuple[int, ...],
    model: Model,
    *,
    told: tuple[float, float, float] | None = None,
    polarity: Literal["auto"] | Polarity = "auto",
    device: str = "auto",
) -> float | None:
    """Return by which factor a stack has to be enlarged for a model, or looks as if it had to be.

    By the voxel size that is `told`, else see `predict.enlargement_by_look`, None where that cannot
    judge; 1 where the model does not tell the pixel size it learned at.
    """
    if told is not None or model.info.voxel_size is None:
        return enlargement(told, model.info.voxel_size)
    return enlargement_by_look(
        model.network,
        read,
        shape,
        polarity=polarity,
        context=model.info.context,
        device=device,
    )


def likely_size_of(stack: NDArray[Any], model: Model, settings: SegmentSettings) -> float | None:
    """Return `likely_size` of a stack (Z, Y, X) in memory."""
    return likely_size(
        lambda box: stack[box.slices],
        stack.shape,
        model,
        told=settings.voxel_size,
        polarity=settings.polarity,
        device=settings.device,
    )


def boundary_of(model: Model, settings: SegmentSettings) -> float:
    """Return how far the membrane map must rise between two cells to part them.

    A model's own was chosen for the method ``"mean"``.
    """
    if settings.boundary is not None:
        return settings.boundary
    if settings.method == "multicut":
        from axolemma.objects import MULTICUT_BOUNDARY

        return MULTICUT_BOUNDARY
    return model.info.boundary


def calibration_of(model: Model) -> Calibration:
    """Return what calibrates a model's maps.

    Raises
    ------
    SettingsError
        If the model does not know.
    """
    found = model.info.calibration
    if found is None:
        raise SettingsError(
            f"{model.source}: this model holds no calibration, as files of older trainings;"
            " leave calibrated out, or train anew"
        )
    return found


def _in_integers(
    model: Model,
    stack: NDArray[Any],
    sight: dict[str, Any],
    threshold: float,
    device: torch.device,
    *,
    average: Average,
) -> tuple[torch.nn.Module, Literal["int8", "auto"], str]:
    """Compile a network with 8-bit integers for a stack, if it then says the same as before."""
    from axolemma.compiled import compiled, parity

    if device.type != "cpu":
        raise SettingsError("precision int8 is for the CPU; take bf16, or --device cpu")
    crops = glimpses(stack, _CALIBRATING + _COMPARING, **sight)
    # Of a single crop there is nothing else to compare on.
    compared = crops[:_COMPARING] if len(crops) > 1 else crops
    fast = compiled(
        model.network,
        channels=len(crops[0]),
        precision="int8",
        crops=crops[len(compared) :] or crops,
        average=average,
    )
    same = parity(fast, model.network.eval(), compared, threshold=threshold)
    if same.good:
        return fast, "int8", f"in 8-bit integers, {same}"
    return model.network, "auto", f"not in 8-bit integers, since {same}"


def segment_stack(
    stack: Stack,
    settings: SegmentSettings,
    out: str | Path,
    *,
    model: Model | None = None,
    enlargement: float | None = None,
    overwrite: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> tuple[Segmentation, dict[str, Any]]:
    """Segment a stack that was read from a file and write a folder of results.

    Parameters
    ----------
    stack
        From `images.read_image`, or a dataset's; `settings.slices` picks from it.
    settings
        See `SegmentSettings`.
    out
        The folder to make. It appears whole, at the end, or not at all.
    model
        That of the settings, where it is loaded already.
    enlargement
        From `likely_size`, where the stack was looked at already.
    overwrite
        Replace `out` where it holds an earlier segmentation; never anything else.
    advance
        Called with the number of section pixels that were finished.

    Returns
    -------
    Segmentation, dict
        What was written, and what ``run.json`` holds.

    Raises
    ------
    InputError
        If the folder is there already or cannot be made, or stack and model do not fit.
    """
    out = Path(out)
    out = out.resolve() if out.is_symlink() else out
    started = time.monotonic()
    model = model or load_model(settings.model)
    device = choose_device(settings.device)
    count = len(stack.array)
    chosen = parse_slices(settings.slices, count) if settings.slices else range(count)
    array = stack.array[chosen.start : chosen.stop]
    if settings.bad_sections == "refuse":
        part = replace(stack, array=array)
        check_image(part, first=chosen.start, instead=", or say --bad-sections mask")
    voxel_size = settings.voxel_size or stack.voxel_size
    told = told_size(settings, stack)
    settled = settings.model_copy(update={"voxel_size": told})
    suspect = [found for found in check_stack(array, first=chosen.start) if found.findings]
    with appearing(out, record="run.json", files=FILES, overwrite=overwrite) as partial:
        result = _segmented(array, model, settled, enlargement=enlargement, advance=advance)
        likely: float | None = result.enlargement
        usable = np.setdiff1d(np.arange(len(array)), result.masked)
        if told is not None:
            seen = array[usable] if result.masked else array
            doubting = {"voxel_size": None, "polarity": result.polarity}
            likely = likely_size_of(seen, model, settings.model_copy(update=doubting))
        record = {
            "axolemma": __version__,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "input": {
                "source": stack.source,
                "sha256": _sha256(array),
                "sections": [chosen.start, chosen.stop - 1],
                "shape": list(array.shape),
                "dtype": str(array.dtype),
                "notes": [
                    *stack.notes,
                    *notes_on(
                        told,
                        model,
                        likely=likely,
                        polarity=(settings.polarity, result.polarity),
                        masked=[chosen.start + z for z in result.masked],
                        suspect=suspect,
                        framed=[chosen.start + z for z in usable.tolist() if _framed(array[z])],
                    ),
                    *([result.parity] if result.parity else []),
                ],
            },
            "findings": [as_dict(found, voxel_size) for found in suspect],
            "model": {"source": model.source, "weights_sha256": state_hash(model.network)},
            "settings": settings.model_dump(mode="json"),
            "magnification": result.enlargement,
            "voxel_size": None if voxel_size is None else list(voxel_size),
            "polarity": result.polarity,
            "threshold": result.threshold,
            "boundary": result.boundary,
            "cells": None if result.cells is None else int(result.cells.max()),
            "neurons": None if result.neurons is None else int(result.neurons.max()),
            "device": str(device),
            "precision": result.precision,
            "torch": torch.__version__,
            "seconds": round(time.monotonic() - started, 3),
        }
        write_segmentation(
            partial, array, result, record, voxel_size=voxel_size, bits=settings.bits
        )
    return result, record


def write_segmentation(
    folder: Path,
    array: NDArray[Any],
    result: Segmentation,
    record: dict[str, Any],
    *,
    voxel_size: tuple[float, float, float] | None = None,
    bits: int = 32,
) -> None:
    """Write membrane map, labels, preview and ``run.json`` of a stack into a folder.

    Parameters
    ----------
    folder
        Must exist.
    array
        The stack (Z, Y, X) that was segmented.
    result
        What came of it, equal shape.
    record
        The content of ``run.json``.
    voxel_size
        (Z, Y, X) in nm, for the files' metadata.
    bits
        32 writes the membrane map as float, 8 as unsigned integers, 255 = membrane.
    """
    about = {"threshold": result.threshold, "sections": record["input"]["sections"]}
    # With it `evaluate` tells what calibrating would do.
    scale = {} if result.calibration is None else {"calibration": list(result.calibration)}
    membrane: NDArray[Any] = result.membrane if bits == 32 else _in_bytes(result.membrane)
    write_tiff(
        folder / "membrane.tif",
        membrane,
        voxel_size=voxel_size,
        holds="membrane map",
        info=about | scale,
    )
    if result.uncertainty is not None:
        write_tiff(
            folder / "uncertainty.tif",
            result.uncertainty,
            voxel_size=voxel_size,
            holds="uncertainty",
            info=about,
        )
    for holds, labels in (("cells", result.cells), ("neurons", result.neurons)):
        if labels is not None:
            # 16 bits wherever they suffice: that is what Fiji reads as a plain stack.
            kind = np.uint16 if labels.max() < 2**16 else np.uint32
            write_tiff(
                folder / f"{holds}.tif",
                labels.astype(kind, copy=False),
                voxel_size=voxel_size,
                holds=holds,
                info=about,
            )
    usable = np.setdiff1d(np.arange(len(array)), result.masked)
    middle = int(usable[len(usable) // 2])
    shown = result.cells if result.neurons is None else result.neurons
    objects = None if shown is None else shown[middle]
    write_png(folder / "preview.png", preview(array[middle], result.membrane[middle], objects))
    (folder / "run.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _sha256(stack: NDArray[Any]) -> str:
    """Hash the bytes of a stack, section by section: a copy of one is enough."""
    digest = hashlib.sha256()
    for section in stack:
        digest.update(np.ascontiguousarray(section).data)
    return digest.hexdigest()


def _in_bytes(membrane: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Scale a membrane map to 0 … 255, row by row: no copy of it in floating point."""
    result = np.empty(membrane.shape, np.uint8)
    for z, section in enumerate(membrane):
        for y, row in enumerate(section):
            result[z, y] = np.rint(row * 255)
    return result


def notes_on(
    voxel_size: tuple[float, float, float] | None,
    model: Model,
    *,
    likely: float | None,
    polarity: tuple[str, Polarity],
    masked: list[int],
    suspect: Sequence[SectionReport],
    framed: Sequence[int] = (),
) -> list[str]:
    """Return a sentence for everything about an input that had to be decided.

    Parameters
    ----------
    voxel_size
        (Z, Y, X) in nm, None where it is not known.
    model
        That sees it.
    likely
        By which factor it looks as if it had to be enlarged for the model; None where that cannot
        be judged.
    polarity
        What was asked for, and what it is.
    masked
        Numbers of the sections that were left out.
    suspect
        What is known of the sections that something is wrong with.
    framed
        Numbers of the sections that may have a frame of padding.
    """
    bad = summary(suspect)
    return [
        *([f"sections that look bad: {bad}; run.json says more"] if bad else []),
        *_size_notes(voxel_size, model, likely),
        *_polarity_notes(*polarity),
        *_masked_notes(masked),
        *_frame_notes(framed),
    ]


def _size_notes(
    voxel_size: tuple[float, float, float] | None, model: Model, likely: float | None
) -> list[str]:
    learned = model.info.voxel_size
    factor = enlargement(voxel_size, learned)
    if learned is None:
        return (
            [] if voxel_size is None else ["the model does not tell the pixel size it learned at"]
        )
    looks = "" if likely is None else f"{learned[2] * likely:.2g} nm"
    otherwise = "say --voxel-size Z,Y,X in nm if it is another"
    if voxel_size is None:
        if likely is None or likely == 1:
            return [
                f"the pixel size is not known and taken for the model's, {pixel_text(learned)};"
                f" {otherwise}"
            ]
        return [
            f"the pixel size is not known; by the look of the membranes it is about {looks}, so the"
            f" sections were resized by {likely:.3g} for the model, which learned at"
            f" {pixel_text(learned)}; {otherwise}"
        ]
    notes = []
    if factor != 1:
        notes.append(
            f"the image has pixels of {pixel_text(voxel_size)} and the model learned at"
            f" {pixel_text(learned)}: the sections were resized by {factor:.3g} for it"
        )
    _, y, x = voxel_size
    if not 1 / _SQUARE <= y / x <= _SQUARE:
        notes.append(
            f"pixels are not square, {pixel_text(voxel_size)}, and sections are resized by one"
            " factor along both: what lies along the one is not seen as what lies along the other;"
            " resample the image, or say --voxel-size Z,Y,X in nm if they are"
        )
    if likely is not None and not 1 / _DOUBTFUL <= likely / factor <= _DOUBTFUL:
        notes.append(
            f"pixels of {pixel_text(voxel_size)} were said, but by the look of the membranes they"
            f" are about {looks}; {otherwise}"
        )
    return notes


def _polarity_notes(asked: str, found: Polarity) -> list[str]:
    if asked != "auto" or found == "dark":
        return []
    return [
        "the membranes look bright, so the grey values were inverted for the network; say "
        "--polarity dark if they are not"
    ]


def _framed(section: NDArray[Any]) -> bool:
    """Tell whether a section has a frame that was taken for padding."""
    # Its edges are looked at before all of it is summed up once more.
    around = padded(section, (section.min(), section.max())) is not None
    return around and bool(contrast_of(section).padding)


def _frame_notes(framed: Sequence[int]) -> list[str]:
    if not framed:
        return []
    return [
        f"many pixels have the lowest or the highest grey value in {_named(framed)}: they do not"
        " count for the contrast, and where they are a frame around the tissue there is membrane"
        " everywhere and no cell"
    ]


def _named(sections: Sequence[int]) -> str:
    return f"section{'s' * (len(sections) > 1)} {', '.join(map(str, sections))}"


def _masked_notes(masked: list[int]) -> list[str]:
    if not masked:
        return []
    return [
        f"blank, or with NaN, and masked: {_named(masked)}; there is membrane everywhere and no"
        " cell, and neurons are linked across"
    ]
