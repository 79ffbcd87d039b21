"""What is to be done with a volume, and where."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from axolemma._version import __version__
from axolemma.calibration import Calibration
from axolemma.errors import AxolemmaError, ImageError, InputError, SettingsError
from axolemma.images import (
    Volume,
    ZarrVolume,
    create_zarr,
    open_zarr,
    parse_slices,
    remove_zarr,
    traces,
)
from axolemma.modelfile import Model, load_model, state_hash
from axolemma.pipeline.mask import Mask
from axolemma.pipeline.works import FORM
from axolemma.predict import choose_device, choose_precision
from axolemma.segmentation import boundary_of, calibration_of
from axolemma.settings import SegmentSettings
from axolemma.volume import Plan, plan

__all__ = ["BLOCK", "Job"]


#: Sides of a block that is written, ZYX: a shard of the results.
BLOCK = (8, 2048, 2048)

#: What the files of a ledger are called that tell which volumes of the output were made.
_MADE = "made-"

#: What lies in the output only as long as passes need it.
PASSING = ("uncalibrated", "fragments")


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done, and where."""

    source: Volume
    first: int
    shape: tuple[int, int, int]
    out: str
    settings: SegmentSettings
    model: Model
    block: tuple[int, int, int]
    folder: Path
    voxel_size: tuple[float, float, float] | None
    mask: Mask | None
    calibration: Calibration | None

    @classmethod
    def of(
        cls,
        source: Volume,
        out: str,
        settings: SegmentSettings,
        block: tuple[int, int, int],
        ledger: str | Path | None,
        mask: Volume | None = None,
    ) -> "Job":
        """Take what `segment_volume` takes, or raise `InputError`."""
        depth, height, width = source.shape
        if not math.prod(source.shape):
            raise InputError(f"{source.source}: the volume is empty, its shape is {source.shape}")
        chosen = parse_slices(settings.slices, depth) if settings.slices else range(depth)
        shape = (len(chosen), height, width)
        # A shard no larger than the volume, in multiples of what networks and chunks go by.
        sides = [
            min(side, -(-whole // step) * step)
            for side, whole, step in zip(block, shape, (1, 128, 128), strict=True)
        ]
        if min(sides) < 1:
            raise InputError(f"a block needs sides of at least 1 voxel, got {block}")
        if sides[1] % 4 or sides[2] % 4:
            # Sections are compared at a quarter of their size, counted from the section's corner.
            near = ",".join(map(str, (block[0], *(-(-side // 4) * 4 for side in block[1:]))))
            raise InputError(f"a block's sides along Y and X are multiples of 4; take {near}")
        model = load_model(settings.model)
        folder = Path(ledger or f"{Path(out).name if '://' in out else out}.ledger")
        return cls(
            source,
            chosen.start,
            shape,
            out,
            settings,
            model,
            (sides[0], sides[1], sides[2]),
            folder,
            settings.voxel_size or source.voxel_size,
            None if mask is None else Mask.of(mask, source),
            calibration_of(model) if settings.calibrated else None,
        )

    @property
    def bits(self) -> int:
        """Return of how many bits the membrane map is."""
        return self.settings.bits if "bits" in self.settings.model_fields_set else 8

    @property
    def threshold(self) -> float:
        """Return the threshold of the membrane map as the network has it."""
        asked = self.settings.threshold
        return self.model.info.threshold if asked is None else asked

    @property
    def boundary(self) -> float:
        """Return how far the map rises between two cells."""
        return boundary_of(self.model, self.settings)

    def precision(self, device: torch.device) -> Literal["fp32", "bf16"]:
        """Return what the network computes in on a device, or raise `SettingsError`."""
        if self.settings.precision == "int8":
            raise SettingsError(
                "precision int8 is calibrated on an image in memory, not block by block; take bf16"
            )
        return choose_precision(self.settings.precision, device)

    @property
    def identity(self) -> dict[str, Any]:
        """What the results depend on: a ledger of another one is refused."""
        asked = self.settings.model_dump(mode="json", exclude={"device", "model"})
        mask = self.mask
        return {
            "axolemma": __version__,
            "form_of_tables": FORM,
            "input": {
                "source": self.source.source,
                "shape": list(self.source.shape),
                "dtype": str(self.source.dtype),
                **traces(self.source),
            },
            "mask": mask and {"source": mask.volume.source, **traces(mask.volume)},
            "output": self.out,
            "weights_sha256": state_hash(self.model.network),
            "calibration": None if self.calibration is None else list(self.calibration),
            # What "auto" stands for may be another on the next machine, what a model says of itself
            # in another file with the same weights.
            "settings": asked
            | {
                "bits": self.bits,
                "precision": self.precision(choose_device(self.settings.device)),
                "threshold": self.threshold,
                "boundary": self.boundary,
            },
            "block": list(self.block),
        }

    def plan(self, halo: Sequence[int] = (0, 0, 0)) -> Plan:
        """Return the blocks, each read with so many voxels around it, ZYX."""
        return plan(self.shape, self.block, tuple(halo))

    def create(
        self,
        name: str,
        dtype: Any,
        *,
        kind: Literal["image", "labels"] = "image",
        holds: str,
        info: Mapping[str, Any] | None = None,
    ) -> list[ZarrVolume]:
        """Make a volume of the results, or open it where an earlier run made it."""
        address = f"{self.out}/{name}".rstrip("/")
        made = self.folder / f"{_MADE}{holds.replace(' ', '-')}"
        if made.is_file():
            try:
                return _all_levels(address)
            except AxolemmaError:
                pass  # It was removed since; its blocks will be found to be wrong.
        levels = create_zarr(
            address,
            self.shape,
            dtype,
            voxel_size=self.voxel_size,
            block=self.block,
            kind=kind,
            holds=holds,
            info={
                "source": self.source.source,
                "sections": [self.first, self.last],
                **(info or {}),
            },
        )
        made.touch()
        return levels

    @property
    def last(self) -> int:
        """Return the last section of the input, counted there."""
        return self.first + self.shape[0] - 1

    def is_there(self) -> bool:
        """Tell whether anything is at the output's place."""
        try:
            open_zarr(self.out)
        except ImageError:
            return Path(self.out).exists()
        return True

    def began(self) -> bool:
        """Tell whether this or an earlier run has made anything of the output."""
        return any(self.folder.glob(f"{_MADE}*"))

    def clean(self) -> None:
        """Remove what only the passes needed, and what killed writers left behind."""
        for name in PASSING:
            remove_zarr(f"{self.out}/{name}")
        if "://" not in self.out:
            for left in Path(self.out).rglob("*.partial"):
                left.unlink(missing_ok=True)


def _all_levels(address: str) -> list[ZarrVolume]:
    first = open_zarr(address)
    return [first, *(open_zarr(address, level=n) for n in range(1, first.levels))]
