"""Networks compiled for the processor by OpenVINO, in float32, bfloat16 or 8-bit integers.

What is compiled is called as the network was; whether it still says the same is measured on the
user's own image, by `parity`, before it is relied on.
"""

import io
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from axolemma.errors import SettingsError
from axolemma.models import POSES, fused, posed, turned, turned_back
from axolemma.models.blocks import pad_to_multiple
from axolemma.settings import Average

__all__ = ["Compiled", "Parity", "compiled", "parity"]

#: Share of an image's pixels that a compiled network may see on the other side of the threshold.
#: Where 8-bit integers changed a thousandth of
#: them in sections that were scored, V_rand and V_info moved by less than .002.
MOST_CHANGED = 0.005

_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "bf16"}

_ONE_SIZE = "OpenVINO runs this network at one size of tiles alone; take precision bf16 or fp32"


class Compiled(nn.Module):
    """A compiled network: sections (N, C, Y, X) in, logits (N, 1, Y, X) out, of any size.

    Or membrane maps instead of logits, where it averages. It goes wherever a network in evaluation
    mode goes, on the CPU, and into other processes. One call at a time.

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
    average
        Over which poses its maps are averaged already; None where it gives logits.
    """

    def __init__(
        self,
        description: bytes,
        weights: bytes,
        *,
        stride: int,
        precision: Literal["fp32", "bf16", "int8"],
        threads: int | None = None,
        average: Average | None = None,
    ) -> None:
        super().__init__()
        self.stride, self.precision, self.average = stride, precision, average
        self._parts, self._threads = (description, weights), threads
        core = _core()
        settings = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": threads or torch.get_num_threads(),
            "NUM_STREAMS": 1,
            # Pinned threads of several workers would all sit on the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        model = core.read_model(model=description, weights=weights)
        self._request = core.compile_model(model, "CPU", settings).create_infer_request()
        self._tensor = _package("openvino").Tensor
        self._lent: tuple[NDArray[np.float32], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map sections (N, C, Y, X) to logits or maps (N, 1, Y, X)."""
        height, width = x.shape[-2:]
        given = pad_to_multiple(x.float(), self.stride).contiguous().numpy()
        found = torch.empty(len(x), 1, *given.shape[-2:])
        for n in range(len(x)):
            # Computed where it lies in the end: else it would be copied, or be overwritten.
            place = self._tensor(found[n : n + 1].numpy(), shared_memory=True)
            self._request.set_output_tensor(place)
            self._request.infer({0: given[n : n + 1]}, share_inputs=True)
        self._lent = given, found  # until others are: the request does not forget where they lie
        return found[..., :height, :width]

    def __reduce__(self) -> tuple[Callable[..., "Compiled"], tuple[Any, ...]]:
        built = partial(
            Compiled,
            stride=self.stride,
            precision=self.precision,
            threads=self._threads,
            average=self.average,
        )
        return built, self._parts


class _Maps(nn.Module):
    """The mean of the membrane maps of networks that look at the same section."""

    def __init__(self, *networks: nn.Module) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.networks[0](x).sigmoid()
        # One by one: all together they would be written down before they are averaged.
        for network in list(self.networks)[1:]:
            total = total + network(x).sigmoid()
        return total * (1 / len(self.networks)) if len(self.networks) > 1 else total


def compiled(
    network: nn.Module,
    *,
    channels: int = 1,
    precision: Literal["fp32", "bf16", "int8"] = "bf16",
    crops: Sequence[NDArray[np.float32]] = (),
    threads: int | None = None,
    average: Average | None = None,
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
    threads
        See `Compiled`.
    average
        Let it give membrane maps instead of logits, averaged over these poses. No pixel is turned
        for that, see `models.posed`; a network that cannot be posed gives maps of one pose.

    Returns
    -------
    Compiled
        Called as the network is. Its `average` tells what it averages.

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
    if not getattr(network, "traceable", True):
        raise SettingsError(_ONE_SIZE)
    stride = int(network.stride)  # type: ignore[arg-type]
    wanted = alone = fused(network)
    if average is not None:
        all_posed = [posed(alone, *pose, channels=channels) for pose in POSES[average]]
        networks = [one for one in all_posed if one is not None]
        if len(networks) < len(all_posed):
            average, networks = "none", [alone]
        wanted = _Maps(*networks)
    example = torch.zeros(1, channels, 4 * stride, 4 * stride)
    # Traced at sides that need no padding: `forward` pads, since a trace takes one way only.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = openvino.convert_model(
            wanted.to(memory_format=torch.contiguous_format),  # type: ignore[call-overload]
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
        average=average,
    )
    if not _kept(fast, alone, channels, crops):
        raise SettingsError(_ONE_SIZE)
    return fast


@torch.inference_mode()
def _kept(
    fast: Compiled, network: nn.Module, channels: int, crops: Sequence[NDArray[np.float32]]
) -> bool:
    """Tell whether what a network computes from its input's size was not lost on the way."""
    chance, stride = torch.Generator().manual_seed(0), fast.stride
    x = torch.randn(1, channels, 3 * stride, 4 * stride, generator=chance)
    for crop in crops[:1]:  # integers are for such images alone
        rows, columns = (slice(min(a, b)) for a, b in zip(x.shape[2:], crop.shape[1:], strict=True))
        x[0, :, rows, columns] = torch.from_numpy(crop[:, rows, columns])
    expected = _map(network, x, fast.average or "none")
    try:
        found = fast(x)[0, 0] if fast.average else fast(x)[0, 0].sigmoid()
    except RuntimeError:
        return False
    # Rounding is far below the differences among pixels, another network's far above.
    return bool((found - expected).abs().mean() <= 0.5 * expected.std())


def _quantized(model: Any, crops: Sequence[NDArray[np.float32]], stride: int) -> Any:
    nncf = _package("nncf")
    # By its own function the level of handlers would change too, and they may be anybody's.
    logging.getLogger("nncf").setLevel(logging.ERROR)
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
        Sections (1, C, Y, X) to logits (1, 1, Y, X), the network in evaluation mode; what averages
        is compared with the network's average of the same poses.
    crops
        Parts (C, Y, X) of the image to predict, normalised; others than it was calibrated on.
    threshold
        A pixel is interior where ``1 - membrane map > threshold``.
    """
    average: Average | None = getattr(fast, "average", None)
    pixels, changed, total, largest = 0, 0, 0.0, 0.0
    with torch.inference_mode():
        for crop in crops:
            # Padded before it is turned, as prediction does.
            x = torch.from_numpy(np.ascontiguousarray(crop)[None])
            x = pad_to_multiple(x, getattr(fast, "stride", 1))
            one = 1 - (fast(x) if average else fast(x).float().sigmoid())[0, 0]
            other = 1 - _map(network, x, average or "none")
            off = (one - other).abs()
            pixels += off.numel()
            total += float(off.sum())
            largest = max(largest, float(off.max()))
            changed += int(((one > threshold) != (other > threshold)).sum())
    return Parity(pixels, largest, total / pixels, changed / pixels)


def _map(network: Callable[[Tensor], Tensor], x: Tensor, average: Average) -> Tensor:
    """Return the membrane map (Y, X) of a section (1, C, Y, X), its pixels turned."""
    maps = [
        turned_back(network(turned(x, *pose)).float().sigmoid(), *pose) for pose in POSES[average]
    ]
    return torch.stack(maps).mean(0)[0, 0]


@cache
def _core() -> Any:
    """Return OpenVINO's core, one for all and never given up.

    On processors with AMX every core gives the thread a stack for signals, and puts back what it
    found when it goes: of two, what the other one has freed. The next Ctrl-C is a crash then.
    """
    return _package("openvino").Core()


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
