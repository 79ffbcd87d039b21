"""Networks compiled for the processor by OpenVINO, in float32, bfloat16 or 8-bit integers.

What is compiled is called as the network was; whether it still says the same is measured on the
user's own image, by `parity`, before it is relied on.
"""

import io
import logging
import math
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from axolemma.errors import SettingsError
from axolemma.models import fused
from axolemma.models.blocks import pad_to_multiple

__all__ = ["Compiled", "Parity", "compiled", "parity", "side_by_side"]

#: Share of an image's pixels that a compiled network may see on the other side of the threshold.
#: Where 8-bit integers changed a thousandth of
#: them in sections that were scored, V_rand and V_info moved by less than .002.
MOST_CHANGED = 0.005

#: Sections of more pixels than this are computed one after the other: each layer is then work
#: enough for all threads, and one section less passes the caches.
_LARGE = 1024**2

_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "bf16"}


class Compiled(nn.Module):
    """A compiled network: sections (N, C, Y, X) in, logits (N, 1, Y, X) out, of any size.

    It goes wherever a network in evaluation mode goes, on the CPU, and into other processes. One
    call at a time, which computes as many sections of its batch `at_once`.

    Parameters
    ----------
    description, weights
        OpenVINO's two parts of a model.
    stride
        That of the network; sides are padded to a multiple of it.
    precision
        Of its arithmetic; int8 computes in bf16 what is not worth quantizing.
    threads
        Number of them; torch's where None.
    at_once
        Sections of a batch that are computed side by side, each by its share of the threads: in
        small numbers threads wait less for each other so. No more than there are threads.
    """

    def __init__(
        self,
        description: bytes,
        weights: bytes,
        *,
        stride: int,
        precision: Literal["fp32", "bf16", "int8"],
        threads: int | None = None,
        at_once: int = 1,
    ) -> None:
        super().__init__()
        self.stride, self.precision = stride, precision
        self._parts, self._threads = (description, weights), threads
        threads = threads or torch.get_num_threads()
        self.at_once = max(1, min(at_once, threads))
        core = _package("openvino").Core()
        settings = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": self.at_once,
            # Pinned threads of several workers would all sit on the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        model = core.read_model(model=description, weights=weights)
        ready = core.compile_model(model, "CPU", settings)
        self._requests = [ready.create_infer_request() for _ in range(self.at_once)]

    def forward(self, x: Tensor) -> Tensor:
        """Map sections (N, C, Y, X) to logits (N, 1, Y, X)."""
        height, width = x.shape[-2:]
        given = pad_to_multiple(x.float(), self.stride).contiguous().numpy()
        logits = torch.empty(len(x), 1, height, width)
        for first in range(0, len(x), self.at_once):
            running = list(zip(self._requests, range(first, len(x)), strict=False))
            for request, n in running:
                request.start_async({0: given[n : n + 1]}, share_inputs=True)
            for request, n in running:
                request.wait()
                # A copy: the next call writes where this one's result lies.
                found = torch.from_numpy(request.get_output_tensor(0).data)
                logits[n] = found[0, :, :height, :width]
        return logits

    def __reduce__(self) -> tuple[Callable[..., "Compiled"], tuple[Any, ...]]:
        built = partial(
            Compiled,
            stride=self.stride,
            precision=self.precision,
            threads=self._threads,
            at_once=self.at_once,
        )
        return built, self._parts


def compiled(
    network: nn.Module,
    *,
    channels: int = 1,
    precision: Literal["fp32", "bf16", "int8"] = "bf16",
    crops: Sequence[NDArray[np.float32]] = (),
    threads: int | None = None,
    at_once: int = 1,
) -> Compiled:
    """Compile a network for this machine's processor.

    Parameters
    ----------
    network
        From `models.build`, with its weights, on the CPU. It is not changed.
    channels
        Sections that it looks at.
    precision
        Of the arithmetic. ``int8`` quantizes convolutions, each channel of their weights by its
        own range and what they are given by the range that it has on `crops`.
    crops
        For ``int8``: a dozen parts (C, Y, X) of the very image that is to be predicted, normalised
        as the network sees it, of 256 × 256 px or so.
    threads, at_once
        See `Compiled`; `side_by_side` says how many at once are fastest.

    Returns
    -------
    Compiled
        Called as the network is.

    Raises
    ------
    SettingsError
        If OpenVINO is not installed or cannot run the network, or there are no crops for int8.
    """
    if precision == "int8" and not crops:
        raise SettingsError(
            "int8 is calibrated on parts of the image to predict, and none were given; take bf16"
        )
    openvino = _package("openvino")
    stride = int(network.stride)  # type: ignore[arg-type]
    example = torch.zeros(1, channels, 4 * stride, 4 * stride)
    # Traced at sides that need no padding: `forward` pads, since a trace takes one way only.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = openvino.convert_model(
            fused(network).to(memory_format=torch.contiguous_format),  # type: ignore[call-overload]
            example_input=example,
            input=[-1, channels, -1, -1],
        )
    if precision == "int8":
        model = _quantized(model, crops, stride)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.xml"
        openvino.save_model(model, file, compress_to_fp16=False)
        description, weights = file.read_bytes(), file.with_suffix(".bin").read_bytes()
    fast = Compiled(
        description,
        weights,
        stride=stride,
        precision=precision,
        threads=threads,
        at_once=at_once,
    )
    # What a network computes from its input's size can be lost on the way.
    try:
        kept = fast(example[:, :, stride:]).shape == (1, 1, 3 * stride, 4 * stride)
    except RuntimeError:
        kept = False
    if not kept:
        raise SettingsError(
            "OpenVINO runs this network at one size of tiles alone; take precision bf16 or fp32"
        )
    return fast


def side_by_side(poses: int, shape: tuple[int, ...]) -> int:
    """Return how many poses of a section (Y, X) are best computed `at_once`."""
    return poses if math.prod(shape) <= _LARGE else 1


def _quantized(model: Any, crops: Sequence[NDArray[np.float32]], stride: int) -> Any:
    nncf = _package("nncf")
    nncf.set_log_level(logging.ERROR)
    shown = [
        pad_to_multiple(torch.from_numpy(np.ascontiguousarray(crop)[None]), stride).numpy()
        for crop in crops
    ]
    with redirect_stdout(io.StringIO()):  # bars of its progress
        return nncf.quantize(
            model,
            nncf.Dataset(shown),
            subset_size=len(shown),
            # Ranges not centred on zero: V_rand moves by .0004, by .003 with the other preset.
            preset=nncf.QuantizationPreset.MIXED,
        )


class Parity(NamedTuple):
    """How far what a compiled network says is from what the network says.

    Parameters
    ----------
    pixels
        Compared.
    largest, mean
        Difference of the membrane maps, in [0, 1].
    changed
        Share of the pixels on the other side of the threshold.
    """

    pixels: int
    largest: float
    mean: float
    changed: float

    @property
    def good(self) -> bool:
        """Whether the compiled network may stand for the network."""
        return self.changed <= MOST_CHANGED

    def __str__(self) -> str:
        return (
            f"on {self.pixels / 1e6:.2g} megapixels of this image the membrane map differs from"
            f" fp32 by {self.mean:.5f} on average and {self.largest:.3f} at most;"
            f" {self.changed:.3%} of the pixels change sides"
        )


def parity(
    fast: Callable[[Tensor], Tensor],
    network: Callable[[Tensor], Tensor],
    crops: Sequence[NDArray[np.float32]],
    *,
    threshold: float = 0.5,
) -> Parity:
    """Compare a compiled network with the network in float32.

    Parameters
    ----------
    fast, network
        Sections (1, C, Y, X) to logits (1, 1, Y, X); the network in evaluation mode.
    crops
        Parts (C, Y, X) of the image to predict, normalised; others than it was calibrated on.
    threshold
        A pixel is interior where ``1 - membrane map > threshold``.
    """
    pixels, changed, total, largest = 0, 0, 0.0, 0.0
    with torch.inference_mode():
        for crop in crops:
            x = torch.from_numpy(np.ascontiguousarray(crop)[None])
            one, other = (1 - call(x)[0, 0].float().sigmoid() for call in (fast, network))
            off = (one - other).abs()
            pixels += off.numel()
            total += float(off.sum())
            largest = max(largest, float(off.max()))
            changed += int(((one > threshold) != (other > threshold)).sum())
    return Parity(pixels, largest, total / pixels, changed / pixels)


def _package(name: str) -> ModuleType:
    """Import OpenVINO or its quantizer.

    Raises
    ------
    SettingsError
        If it is not installed.
    """
    # Both tell their maker of every use, unasked, where the package that does so can be imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return __import__(name)
    except ImportError as error:
        raise SettingsError(
            f"compiled networks need the package {name}; pip install 'axolemma[openvino]'"
        ) from error
