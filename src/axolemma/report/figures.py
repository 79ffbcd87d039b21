"""Pictures of sections as data URIs: the layers of a viewer, and crops of what is wrong."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from axolemma.metrics import ErrorKind, Section
from axolemma.pictures import ERROR_COLOURS, colours

__all__ = ["OUTLINE", "Layers", "crop", "layers", "photograph"]

#: Longer sides are shown reduced.
_LARGEST = 1024

#: What lies on top where pixels of several kinds share one: what costs V_rand.
_ORDER = (ErrorKind.NONE, ErrorKind.FALSE, ErrorKind.MISSING, ErrorKind.SPLIT, ErrorKind.MERGE)

#: Of the truth in crops.
OUTLINE = (0, 235, 150)
_WINDOW, _SCALE, _RADIUS = 64, 3, 10


@dataclass(frozen=True, slots=True)
class Layers:
    """Four pictures of one section, as data URIs; all but the first have see-through parts."""

    image: str
    truth: str
    proposal: str
    errors: str
    reduced: int


def layers(image: NDArray[np.uint8], section: Section, kinds: NDArray[np.uint8]) -> Layers:
    """Make the pictures of a section's viewer.

    Parameters
    ----------
    image
        (Y, X), grey.
    section
        Proposal and truth. A segment of the proposal has the colour of the cell it covers most
        of; further segments of that cell have colours of their own.
    kinds
        (Y, X), from `metrics.error_map`.
    """
    step = -(-max(image.shape) // _LARGEST)
    truth, proposal = (labels[::step, ::step] for labels in (section.true_cells, _matched(section)))
    return Layers(
        photograph(image, step=step),
        _cells(truth),
        _cells(proposal),
        _errors(section.true_membrane, kinds, step),
        step,
    )


def crop(
    image: NDArray[np.uint8],
    true_membrane: NDArray[np.bool_],
    kinds: NDArray[np.uint8],
    position: tuple[int, int],
) -> str:
    """Show a place and 32 pixels around it, three times as large.

    Parameters
    ----------
    image, true_membrane, kinds
        (Y, X) of the whole section.
    position
        (Y, X) of the middle; moved inwards where the section ends.

    Returns
    -------
    str
        A PNG as data URI: the image, the truth's membrane outlined, errors in their
        colours and a ring around the place.
    """
    window = tuple(
        slice(start, start + _WINDOW)
        for start in (
            max(0, min(at - _WINDOW // 2, side - _WINDOW))
            for at, side in zip(position, image.shape, strict=True)
        )
    )
    base, drawn, wrong = (
        array[window].repeat(_SCALE, axis=0).repeat(_SCALE, axis=1)
        for array in (image, true_membrane, kinds)
    )
    picture = np.repeat(base[..., None], 3, axis=2).astype(np.float64)
    picture[drawn & ~ndimage.binary_erosion(drawn, border_value=1)] = OUTLINE
    for kind, colour in ERROR_COLOURS.items():
        weight = 0.9 if kind in (ErrorKind.SPLIT, ErrorKind.MERGE) else 0.5
        picture[wrong == kind] *= 1 - weight
        picture[wrong == kind] += weight * np.array(colour)
    # A gap may be one pixel wide: the ring says where it is.
    middle = (
        _SCALE * (at - side.start) + _SCALE // 2 for at, side in zip(position, window, strict=True)
    )
    rows, columns = (
        axis - at for axis, at in zip(np.ogrid[: len(base), : base.shape[1]], middle, strict=True)
    )
    ring = np.abs(np.hypot(rows, columns) - _SCALE * _RADIUS) < 1
    picture[ring] = ERROR_COLOURS.get(int(kinds[position]), OUTLINE)
    return _uri(Image.fromarray(np.rint(picture).astype(np.uint8)), "png", optimize=True)


def photograph(image: NDArray[np.uint8], *, step: int = 1) -> str:
    """Return a grey picture (Y, X) as JPEG, its sides divided by `step`."""
    picture = Image.fromarray(np.ascontiguousarray(image))
    return _uri(picture.reduce(step) if step > 1 else picture, "jpeg", quality=85)


def _matched(section: Section) -> NDArray[np.int64]:
    """Return the proposal's cells numbered by those of the truth that they show."""
    table = section.table
    inside = np.flatnonzero((table.truth_ids != 0) & (table.proposal_ids != 0))
    inside = inside[np.argsort(table.counts[inside], kind="stable")]  # the largest is written last
    cells, segments = table.truth_ids[inside], table.proposal_ids[inside]
    highest = int(section.true_cells.max(initial=0))
    number = np.arange(int(section.cells.max(initial=0)) + 1) + highest
    number[0] = 0
    main = np.zeros(highest + 1, np.int64)
    main[cells] = segments
    shown = np.zeros(len(number), np.int64)
    shown[segments] = cells
    first = main[shown] == np.arange(len(number))
    return np.asarray(np.where(first & (shown > 0), shown, number)[section.cells])


def _cells(labels: NDArray[np.integer]) -> str:
    """Return labels (Y, X) as PNG, 0 see-through. Colours come again after 255 labels."""
    indices = np.where(labels == 0, 0, (labels.astype(np.int64) - 1) % 255 + 1)
    palette = (0.8 * colours(np.arange(256)) + 51).astype(
        np.uint8
    )  # softer: they cover whole cells
    return _indexed(indices.astype(np.uint8), palette, [0] + [255] * 255)


def _errors(true_membrane: NDArray[np.bool_], kinds: NDArray[np.uint8], step: int) -> str:
    """Return an error map (Y, X) as PNG over a pale line of the truth, see-through elsewhere."""
    rank = np.argsort(_ORDER).astype(np.uint8)[kinds]
    costly = np.where(rank >= 3, rank, 0)
    rank = np.maximum(rank, ndimage.maximum_filter(costly, size=3))
    if step > 1:  # a line of one pixel must not fall between those that are shown
        rank = ndimage.maximum_filter(rank, size=step)
    shown = np.where(rank > 0, rank + 1, true_membrane)[::step, ::step]
    palette = np.zeros((6, 3), np.uint8)
    palette[1] = 120
    for place, kind in enumerate(_ORDER[1:], start=2):
        palette[place] = ERROR_COLOURS[kind]
    return _indexed(shown.astype(np.uint8), palette, [0, 70, 255, 255, 255, 255])


def _indexed(indices: NDArray[np.uint8], palette: NDArray[np.uint8], opacity: list[int]) -> str:
    height, width = indices.shape
    picture = Image.frombytes("P", (width, height), np.ascontiguousarray(indices).tobytes())
    picture.putpalette(palette.tobytes())
    return _uri(picture, "png", optimize=True, transparency=bytes(opacity))


def _uri(picture: Image.Image, form: str, **options: object) -> str:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return f"data:image/{form};base64,{base64.b64encode(file.getvalue()).decode()}"
