"""Volumes that are read and written box by box: OME-Zarr, and every other format section-wise."""

import json
import multiprocessing
import pickle

import numpy as np
import pytest
import tifffile

from axolemma.errors import ImageError, InputError
from axolemma.geometry import Box, grid
from axolemma.images import (
    create_zarr,
    halved,
    is_zarr,
    open_volume,
    open_zarr,
    read,
    read_image,
    write_png,
    write_tiff,
)

zarr = pytest.importorskip("zarr")

RNG = np.random.default_rng(3)
VOXELS = RNG.integers(0, 255, (5, 40, 61), dtype=np.uint8)
SIZE = (50.0, 4.0, 4.0)


def filled(address, voxels=VOXELS, *, block=(2, 16, 32), **options):
    volume, *_ = create_zarr(address, voxels.shape, voxels.dtype, block=block, **options)
    for box in grid(voxels.shape, block):
        volume.write(box, voxels[box.slices])
    return volume


@pytest.mark.parametrize("version", ["0.5", "0.4"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32", "uint64"])
def test_what_is_written_is_read(tmp_path, version, dtype):
    voxels = VOXELS.astype(dtype)
    address = tmp_path / "a.zarr"
    filled(address, voxels, voxel_size=SIZE, version=version, holds="image", info={"a": [1]})
    volume = open_volume(address)
    assert (volume.shape, volume.block, volume.dtype) == (voxels.shape, (2, 16, 32), voxels.dtype)
    assert volume.voxel_size == SIZE
    assert (volume.holds, volume.info) == ("image", {"a": [1]})
    box = Box((1, 3, 30), (4, 39, 61))
    np.testing.assert_array_equal(volume.read(box), voxels[box.slices])
    stack = read(address, sections=[3, 1])
    np.testing.assert_array_equal(stack.array, voxels[[3, 1]])
    assert stack.voxel_size == SIZE
    np.testing.assert_array_equal(read_image(address).array, voxels)


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_metadata_is_valid(tmp_path, version):
    models = pytest.importorskip(f"ome_zarr_models.v{version.replace('.', '')}")
    voxels = np.zeros((3, 600, 1100), np.uint16)
    filled(tmp_path / "a.zarr", voxels, block=(3, 512, 512), voxel_size=SIZE, version=version)
    filled(
        tmp_path / "a.zarr" / "labels" / "cells",
        voxels,
        block=(3, 512, 512),
        voxel_size=SIZE,
        kind="labels",
        version=version,
    )
    image = models.Image.from_zarr(zarr.open_group(tmp_path / "a.zarr", mode="r"))
    scales = (image.ome_attributes if version == "0.5" else image.attributes).multiscales[0]
    assert [axis.unit for axis in scales.axes] == ["nanometer"] * 3
    assert [d.coordinateTransformations[0].scale for d in scales.datasets] == [
        [50, 4, 4],
        [50, 8, 8],
        [50, 16, 16],
    ]
    assert image.labels is not None
    labels = models.ImageLabel.from_zarr(zarr.open_group(tmp_path / "a.zarr/labels/cells"))
    assert labels is not None
    again = create_zarr(
        tmp_path / "a.zarr" / "labels" / "neurons",
        voxels.shape,
        "uint32",
        kind="labels",
        version=version,
    )
    assert again[1].shape == (3, 300, 550)
    told = dict(zarr.open_group(tmp_path / "a.zarr/labels", mode="r").attrs)
    assert told.get("ome", told)["labels"] == ["cells", "neurons"]


def test_levels_halve_within_sections_until_voxels_are_as_long_as_deep(tmp_path):
    levels = create_zarr(tmp_path / "a.zarr", (64, 4096, 1024), "uint8", voxel_size=(16, 4, 4))
    assert [level.factors for level in levels] == [(1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2)]
    assert levels[-1].shape == (32, 512, 128)
    assert levels[-1].voxel_size == (32, 32, 32)
    assert open_volume(tmp_path / "a.zarr", level=2).shape == (64, 1024, 256)
    without = create_zarr(tmp_path / "b.zarr", (1, 600, 10), "uint8")
    assert (without[1].voxel_size, without[1].shape) == (None, (1, 300, 5))


def test_halved():
    image = np.array([[[0, 1, 7], [1, 1, 8]]], np.uint8)
    assert halved(image, (1, 2, 2), "image").tolist() == [[[1, 8]]]
    assert halved(image.astype(np.float32), (1, 2, 2), "image").tolist() == [[[0.75, 7.5]]]
    labels = np.array([[[5, 2**40], [2**40, 5]], [[7, 2**40], [0, 0]]], np.uint64)
    assert halved(labels, (1, 2, 2), "labels").tolist() == [[[5]], [[0]]]
    assert halved(labels, (2, 2, 2), "labels").tolist() == [[[2**40]]]


@pytest.mark.parametrize(
    ("box", "shape"),
    [
        (Box((0, 1, 0), (2, 17, 32)), (2, 16, 32)),
        (Box((0, 0, 0), (2, 8, 32)), (2, 8, 32)),
        (Box((4, 32, 32), (6, 48, 64)), (2, 16, 32)),
        (Box((0, 0, 0), (2, 16, 32)), (2, 16, 31)),
    ],
)
def test_only_whole_blocks_are_written(tmp_path, box, shape):
    volume = filled(tmp_path / "a.zarr")
    with pytest.raises(InputError, match="not whole blocks of"):
        volume.write(box, np.ones(shape, np.uint8))
    np.testing.assert_array_equal(volume.read(Box.of(volume.shape)), VOXELS)


def _sum(volume):
    return int(volume.read(Box.of(volume.shape)).sum())


def test_other_processes_read_what_is_sent_to_them(tmp_path):
    write_tiff(tmp_path / "a.tif", VOXELS)
    volumes = [filled(tmp_path / "a.zarr"), open_volume(tmp_path / "a.tif")]
    assert pickle.loads(pickle.dumps(volumes[0])) == volumes[0]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(_sum, volumes) == [int(VOXELS.sum())] * 2


def _hdf5(path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file["volumes/raw"] = VOXELS
    return path


def _mrc(path):
    mrcfile = pytest.importorskip("mrcfile")
    with mrcfile.new(path) as file:
        file.set_data(VOXELS.astype(np.uint16))
    return path


def _folder(path):
    path.mkdir()
    for z, section in enumerate(VOXELS):
        write_png(path / f"section{z}.png", section)
    return path


def _bare(path):
    zarr.create_array(path, data=VOXELS, chunks=(2, 16, 16))
    return path


def _padded(path):
    group = zarr.open_group(path, mode="w")
    group.create_array("raw", data=VOXELS[None, None], chunks=(1, 1, 2, 16, 16))
    axes = [{"name": n} for n in ("t", "c")] + [
        {"name": n, "unit": "micrometer"} for n in ("z", "y", "x")
    ]
    scale = [{"type": "scale", "scale": [1, 1, 0.05, 0.004, 0.004]}]
    datasets = [{"path": "raw", "coordinateTransformations": scale}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    return path


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.tif", lambda path: write_tiff(path, VOXELS) or path),
        ("b.tif", lambda path: tifffile.imwrite(path, VOXELS, metadata={"axes": "ZYX"}) or path),
        ("a.h5", _hdf5),
        ("a.mrc", _mrc),
        ("folder", _folder),
        ("bare.zarr", _bare),
        ("padded.zarr", _padded),
    ],
)
def test_every_format_is_read_box_by_box(tmp_path, name, make):
    address = make(tmp_path / name)
    volume = open_volume(address)
    assert volume.shape == VOXELS.shape
    assert len(volume.block) == 3
    for box in (Box((1, 0, 7), (3, 40, 8)), Box.of(VOXELS.shape), Box((4, 1, 1), (4, 1, 1))):
        np.testing.assert_array_equal(volume.read(box), VOXELS[box.slices])
    np.testing.assert_array_equal(read(address).array, VOXELS)


def test_a_single_section(tmp_path):
    write_png(tmp_path / "a.png", VOXELS[0])
    assert open_volume(tmp_path / "a.png").shape == (1, 40, 61)
    zarr.create_array(tmp_path / "a.zarr", data=VOXELS[0], chunks=(16, 16))
    assert open_volume(tmp_path / "a.zarr").read(Box.of((1, 40, 61))).shape == (1, 40, 61)


def test_axes_of_length_1_and_units(tmp_path):
    volume = open_volume(_padded(tmp_path / "a.zarr"))
    assert volume.voxel_size == pytest.approx((50, 4, 4))
    assert any("2 leading axes" in note for note in volume.notes)


@pytest.mark.parametrize("axes", ["yx", "xy"])
def test_an_image_of_two_axes_is_a_section(tmp_path, axes):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("0", data=VOXELS[0], chunks=(16, 16))
    scale = [{"type": "scale", "scale": [4, 4]}]
    told = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in axes]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": told, "datasets": datasets}]}
    if axes == "xy":
        with pytest.raises(ImageError, match=r"axes of the image are x, y, where z, y, x"):
            open_volume(tmp_path / "a.zarr")
        return
    found = read(tmp_path / "a.zarr")
    np.testing.assert_array_equal(found.array, VOXELS[:1])
    assert found.voxel_size is None  # nobody told how thick it is


def _group(path, **ome):
    group = zarr.open_group(path, mode="w")
    group.create_array("0", data=np.zeros((2, 3, 4, 5, 6), np.uint8))
    group.attrs["ome"] = ome
    return path


SCALES = [{"datasets": [{"path": "0"}]}]


@pytest.mark.parametrize(
    ("make", "level", "match"),
    [
        (lambda p: p / "no.zarr", 0, "no.zarr: does not exist"),
        (lambda p: p.joinpath("a.zarr").mkdir() or p / "a.zarr", 0, "is no Zarr group or array"),
        (lambda p: _group(p / "a.zarr"), 0, r"no multiscales.*\(it holds: 0\)"),
        (lambda p: _group(p / "a.zarr", multiscales=SCALES), 0, r"shape \(2, 3, 4, 5, 6\), where"),
        (lambda p: filled(p / "a.zarr") and p / "a.zarr", 4, "level 4 does not exist; .* 0-0"),
        (lambda p: _bare(p / "a.zarr"), 1, "an array has no levels"),
    ],
)
def test_what_cannot_be_opened(tmp_path, make, level, match):
    with pytest.raises(ImageError, match=match):
        open_volume(make(tmp_path), level=level)


def test_axes_in_another_order_are_refused(tmp_path):
    filled(tmp_path / "a.zarr")
    file = tmp_path / "a.zarr/zarr.json"
    told = json.loads(file.read_text())
    told["attributes"]["ome"]["multiscales"][0]["axes"].reverse()
    file.write_text(json.dumps(told))
    with pytest.raises(ImageError, match=r"axes of a.zarr are x, y, z, where z, y, x"):
        open_volume(tmp_path / "a.zarr")


def test_damaged_metadata_gets_a_sentence(tmp_path):
    filled(tmp_path / "a.zarr")
    (tmp_path / "a.zarr/zarr.json").write_text("{")
    with pytest.raises(ImageError, match=r"a.zarr: cannot be opened or is damaged"):
        open_volume(tmp_path / "a.zarr")


def test_labels_are_integers(tmp_path):
    with pytest.raises(InputError, match="labels are integers, not float32"):
        create_zarr(tmp_path / "a.zarr", (1, 2, 3), "float32", kind="labels")


def test_addresses():
    assert is_zarr("s3://bucket/a")
    assert is_zarr("x.ZARR")
    assert not is_zarr("x.tif")


def test_labels_know_that_they_are(tmp_path):
    filled(tmp_path / "a.zarr")
    filled(tmp_path / "a.zarr/labels/cells", kind="labels", holds="cells")
    assert open_zarr(tmp_path / "a.zarr/labels/cells").kind == "labels"
    assert open_zarr(tmp_path / "a.zarr").kind == "image"
    assert read(tmp_path / "a.zarr/labels/cells").holds == "cells"
