"""From the channels of a picture to one grey value a pixel, or a refusal."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import ImageError

__all__ = ["opaque_grey"]


def opaque_grey(pixels: NDArray[Any], source: str) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Drop channels that say nothing.

    Parameters
    ----------
    pixels
        Shape (..., channels): grey, grey + alpha, RGB or RGBA.
    source
        The path, for messages.

    Returns
    -------
    tuple
        The grey values, shape (...), and a sentence for each thing that was dropped.

    Raises
    ------
    ImageError
        If the channels differ (genuine colour) or a pixel is transparent.
    """
    notes: list[str] = []
    channels = pixels.shape[-1]
    if channels in (2, 4):
        opaque = np.iinfo(pixels.dtype).max if pixels.dtype.kind in "ui" else 1
        if not bool((pixels[..., -1] == opaque).all()):
            raise ImageError(
                f"{source}: the picture has transparent pixels or a fourth colour channel; flatten"
                " it and save it as grey; if these are sections that tifffile wrote as colour"
                " planes, write them with photometric='minisblack'"
            )
        notes.append("an alpha channel, opaque everywhere, was dropped")
        pixels, channels = pixels[..., :-1], channels - 1
    if channels == 3:
        notes.append("RGB with three equal channels was read as grey")
    if channels not in (1, 3) or not bool((pixels == pixels[..., :1]).all()):
        raise ImageError(
            f"{source}: the picture is in colour ({channels} different channels); convert it to"
            " grey first, in Fiji with Image > Type > 8-bit; if these are sections that tifffile"
            " wrote as colour planes, write them with photometric='minisblack'"
        )
    return pixels[..., 0], tuple(notes)
