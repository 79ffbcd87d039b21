"""Stacks at the border: files become ZYX arrays here, once, and arrays become files.

========================  ====================================================================
`read`                    TIFF, PNG, JPEG, HDF5, MRC, DM, Zarr, N5 or a folder of sections, as it is
`read_image`              the same, and checked: finite, no constant section
`read_truth`              the same, and turned into 1 = membrane
`read_labels`             the same, and checked: the numbers of cells or neurons
`write_tiff`              a stack that Fiji opens and `read` gives back bit for bit
`write_png`               one picture
`open_volume`             the same files, read box by box
`create_zarr`             an OME-Zarr volume to write block by block
`create_precomputed`      one of neuroglancer's, the same way
`hdf5_datasets`           what an HDF5 file says of its arrays, without reading them
`parse_slices`            ``"0-24"`` as a range of sections
========================  ====================================================================

Nothing is guessed in silence. What cannot be used is refused in one sentence that starts with the
path; what had to be converted is said in `Stack.notes`, which the caller prints or logs.
"""

from axolemma.images.hdf5 import HDF5, Dataset, hdf5_datasets, split_inside
from axolemma.images.numbers import numbered, read_labels
from axolemma.images.pyramid import Kind, halved
from axolemma.images.read import read, read_image, section_files
from axolemma.images.stack import (
    Stack,
    blank_sections,
    check_finite,
    check_image,
    check_pair,
    parse_slices,
)
from axolemma.images.stores import is_remote
from axolemma.images.tensors import (
    PRECOMPUTED,
    TensorVolume,
    create_precomputed,
    is_precomputed,
    remove_precomputed,
)
from axolemma.images.truth import TruthIs, check_truth_is, read_truth, to_membrane, to_truth
from axolemma.images.volume import Boxes, StackVolume, Volume, open_volume, traces
from axolemma.images.write import (
    appearing,
    check_places,
    refuse_input,
    replacing,
    write_png,
    write_tiff,
    write_tiff_sections,
)
from axolemma.images.zarrs import (
    ZarrVolume,
    create_zarr,
    enlist_labels,
    is_listed,
    is_zarr,
    open_zarr,
    refuse_in_the_way,
    remove_zarr,
)

__all__ = [
    "HDF5",
    "PRECOMPUTED",
    "Boxes",
    "Dataset",
    "Kind",
    "Stack",
    "StackVolume",
    "TensorVolume",
    "TruthIs",
    "Volume",
    "ZarrVolume",
    "appearing",
    "blank_sections",
    "check_finite",
    "check_image",
    "check_pair",
    "check_places",
    "check_truth_is",
    "create_precomputed",
    "create_zarr",
    "enlist_labels",
    "halved",
    "hdf5_datasets",
    "is_listed",
    "is_precomputed",
    "is_remote",
    "is_zarr",
    "numbered",
    "open_volume",
    "open_zarr",
    "parse_slices",
    "read",
    "read_image",
    "read_labels",
    "read_truth",
    "refuse_in_the_way",
    "refuse_input",
    "remove_precomputed",
    "remove_zarr",
    "replacing",
    "section_files",
    "split_inside",
    "to_membrane",
    "to_truth",
    "traces",
    "write_png",
    "write_tiff",
    "write_tiff_sections",
]
