"""Conversion: every format to OME-Zarr and TIFF, in little memory, whole or not at all."""

import json

import numpy as np
import pytest
import tifffile

from axolemma import convert as room
from axolemma.convert import convert, parts
from axolemma.errors import AxolemmaError, InputError
from axolemma.geometry import Box
from axolemma.images import (
    TensorVolume,
    ZarrVolume,
    create_zarr,
    halved,
    open_volume,
    open_zarr,
    read,
    tensors,
    write_tiff,
)
from test_tensors import n5, precomputed
from test_volumes import _bare, _folder, _hdf5, _mrc

zarr = pytest.importorskip("zarr")

VOXELS = np.random.default_rng(3).integers(0, 255, (5, 40, 61), dtype=np.uint8)
SIZE = (50.0, 4.0, 4.0)


def _tiff(path):
    write_tiff(path, VOXELS)
    return path


@pytest.mark.parametrize("output", ["out.zarr", "out.tif", "precomputed"])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.tif", _tiff),
        ("a.h5", _hdf5),
        ("a.mrc", _mrc),
        ("folder", _folder),
        ("a.zarr", _bare),
        ("a.n5", n5),
        ("image", precomputed),
    ],
)
def test_every_format(tmp_path, name, make, output):
    source, target = make(tmp_path / name), tmp_path / output
    if output == "precomputed":
        convert(source, f"precomputed://{target}", voxel_size=SIZE)
    else:
        convert(source, target, voxel_size=SIZE, block=(2, 16, 32))
    stack = read(target)
    np.testing.assert_array_equal(stack.array, VOXELS)
    assert stack.voxel_size == pytest.approx(SIZE)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([name, output])


@pytest.mark.parametrize("version", ["0.5", "0.4"])
@pytest.mark.parametrize("kind", ["image", "labels"])
def test_pyramid_by_blocks_equals_the_whole(tmp_path, version, kind):
    models = pytest.importorskip(f"ome_zarr_models.v{version.replace('.', '')}")
    voxels = np.random.default_rng(0).integers(0, 6, (5, 1100, 650)).astype(np.uint16)
    write_tiff(tmp_path / "a.tif", voxels, voxel_size=(8, 4, 4), holds="cells", info={"a": 1})
    said = []
    convert(
        *(tmp_path / "a.tif", tmp_path / "a.zarr"), kind=kind, block=(2, 96, 128), version=version,
        advance=lambda done, total: said.append(done / total),
    )  # fmt: skip
    expected = voxels
    for level in range(3):
        volume = open_zarr(tmp_path / "a.zarr", level=level)
        if level:
            expected = halved(expected, volume.factors, kind)
        np.testing.assert_array_equal(volume.read(Box.of(volume.shape)), expected)
    assert (volume.levels, volume.factors, volume.holds, volume.info) == (
        3,
        (2, 2, 2),
        "cells",
        {"a": 1},
    )
    assert said == sorted(said)
    assert said[-1] == 1
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    (models.ImageLabel if kind == "labels" else models.Image).from_zarr(group)
    # Alone they belong to no image, and the folder around them is no group.
    assert not (tmp_path / "zarr.json").exists()


@pytest.mark.parametrize("kind", ["image", "labels"])
def test_precomputed_by_blocks_equals_the_whole(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(room, "BUDGET", 1)  # shard by shard
    monkeypatch.setattr(tensors, "CHUNK", (4, 32, 32))
    voxels = np.random.default_rng(0).integers(0, 6, (7, 530, 150)).astype(np.uint16)
    write_tiff(tmp_path / "a.tif", voxels, voxel_size=(4, 4, 4), holds="phantom", info={"a": 1})
    target, said = tmp_path / "a", []
    convert(
        tmp_path / "a.tif", f"precomputed://{target}", kind=kind,
        advance=lambda done, total: said.append(done / total),
    )  # fmt: skip
    expected = voxels
    for level in range(2):
        volume = open_volume(target, level=level)
        if level:
            expected = halved(expected, (2, 2, 2), kind)
        np.testing.assert_array_equal(volume.read(Box.of(volume.shape)), expected)
        assert volume.voxel_size == (4 * 2**level,) * 3
        assert (volume.holds, volume.info) == ("phantom", {"a": 1})
        assert volume.dtype == (np.uint64 if kind == "labels" else np.uint16)
    assert (said == sorted(said), said[-1]) == (True, 1)
    told = json.loads((target / "info").read_text())
    assert (told["@type"], told["type"], told["num_channels"]) == (
        "neuroglancer_multiscale_volume",
        "segmentation" if kind == "labels" else "image",
        1,
    )
    for scale, size in zip(told["scales"], ([150, 530, 7], [75, 265, 4]), strict=True):
        assert (scale["size"], scale["voxel_offset"]) == (size, [0, 0, 0])
        assert scale["chunk_sizes"] == [[32, 32, 4]]
        blocks = scale.get("compressed_segmentation_block_size")
        assert (scale["encoding"], blocks) == (
            ("compressed_segmentation", [8, 8, 8]) if kind == "labels" else ("raw", None)
        )
    assert [scale["key"] for scale in told["scales"]] == ["4_4_4", "8_8_8"]
    counts = [len(list((target / key).glob("*.shard"))) for key in ("4_4_4", "8_8_8")]
    assert (counts, len(list(target.rglob("*")))) == ([5, 1], 9)


def test_labels_are_known_by_what_the_file_says(tmp_path):
    cells = np.array([[[1, 1, 2**30]]], np.int32)
    write_tiff(tmp_path / "a.tif", cells, voxel_size=SIZE, holds="cells")
    convert(tmp_path / "a.tif", tmp_path / "a.zarr")
    assert open_zarr(tmp_path / "a.zarr").kind == "labels"
    convert(tmp_path / "a.zarr", f"precomputed://{tmp_path / 'a'}")
    assert (read(tmp_path / "a").holds, read(tmp_path / "a").array.dtype) == ("cells", np.uint64)
    np.testing.assert_array_equal(read(tmp_path / "a").array, cells)
    write_tiff(tmp_path / "b.tif", -cells, voxel_size=SIZE, holds="cells")
    with pytest.raises(InputError, match=r"b.tif: holds numbers from -1073741824 to -1, more than"):
        convert(tmp_path / "b.tif", f"precomputed://{tmp_path / 'b'}")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "a.tif", "a.zarr", "b.tif"]


def test_precomputed_that_cannot_be_made(tmp_path):
    source, target, said = _tiff(tmp_path / "a.tif"), f"precomputed://{tmp_path / 'a'}", []
    with pytest.raises(InputError, match=r"a.tif: the voxel size is not known, and precomputed"):
        convert(source, target)
    with pytest.raises(InputError, match="shards of precomputed follow from its size; no --block"):
        convert(source, target, voxel_size=SIZE, block=(1, 8, 8))
    (tmp_path / "a").mkdir()
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"a: this is there already; .*, or remove it"):
            convert(source, target, voxel_size=SIZE, overwrite=overwrite)
    zarr.create_array(tmp_path / "b.zarr", data=VOXELS.astype(np.int64))
    with pytest.raises(InputError, match="precomputed image of int64 do not exist; there are uint"):
        convert(tmp_path / "b.zarr", f"precomputed://{tmp_path / 'b'}", voxel_size=SIZE)
    write_tiff(tmp_path / "b.tif", VOXELS / 7, voxel_size=SIZE)
    convert(tmp_path / "b.tif", f"precomputed://{tmp_path / 'b'}", say=said.append)
    assert said == ["precomputed knows no float64; float32 is written"]
    np.testing.assert_array_equal(read(tmp_path / "b").array, (VOXELS / 7).astype(np.float32))
    with pytest.raises(InputError, match="is the input itself"):
        convert(tmp_path / "b", f"precomputed://{tmp_path / 'b'}", overwrite=True)


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_labels_of_an_image(tmp_path, version):
    _tiff(tmp_path / "a.tif")
    target = tmp_path / "a.zarr/labels/cells"
    with pytest.raises(InputError, match=r"labels belong to an image, and .*a.zarr is none"):
        convert(tmp_path / "a.tif", target, kind="labels")
    convert(tmp_path / "a.tif", tmp_path / "a.zarr", version=version)
    convert(tmp_path / "a.tif", target, kind="labels", version=version)
    told = dict(zarr.open_group(tmp_path / "a.zarr/labels", mode="r").attrs)
    assert (told["ome"] if version == "0.5" else told)["labels"] == ["cells"]
    assert open_zarr(target).kind == "labels"
    assert [f.name for f in (tmp_path / "a.zarr/labels").iterdir() if f.is_dir()] == ["cells"]


def test_tiff_of_large_numbers(tmp_path):
    labels = VOXELS.astype(np.uint64)
    volume, *_ = create_zarr(tmp_path / "a.zarr", labels.shape, labels.dtype, block=(5, 40, 61))
    volume.write(Box.of(labels.shape), labels)
    convert(tmp_path / "a.zarr", tmp_path / "a.tif", kind="labels")
    stack = read(tmp_path / "a.tif")
    assert stack.array.dtype == np.uint32
    np.testing.assert_array_equal(stack.array, VOXELS)
    labels[3, 2, 1] = 2**40
    volume.write(Box.of(labels.shape), labels)
    with pytest.raises(InputError, match=r"numbers from 0 to 1099511627776, more than the uint32"):
        convert(tmp_path / "a.zarr", tmp_path / "b.tif", kind="labels")
    assert not list(tmp_path.glob("*b.tif*"))


@pytest.mark.parametrize("dtype", ["i8", "u8"])
@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_labels_of_64_bits(tmp_path, dtype, version):
    tifffile.imwrite(tmp_path / "a.tif", VOXELS.astype(dtype), photometric="minisblack")
    convert(tmp_path / "a.tif", tmp_path / "a.zarr", kind="labels", version=version)
    volume = open_zarr(tmp_path / "a.zarr")
    assert volume.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(volume.read(Box.of(VOXELS.shape)), VOXELS)


@pytest.mark.parametrize("output", ["out.zarr", "out.tif", "precomputed"])
def test_whole_or_not_at_all(tmp_path, monkeypatch, output):
    source, path = _tiff(tmp_path / "a.tif"), tmp_path / output
    target = f"precomputed://{path}" if output == "precomputed" else path
    convert(source, target, voxel_size=SIZE)

    def broken(self, box, *rest):
        raise AxolemmaError("the disk is gone")

    write_tiff(tmp_path / "b.tif", VOXELS // 2)
    with pytest.raises(InputError, match=r"this is there already; choose a new name, or say --ov"):
        convert(tmp_path / "b.tif", target, voxel_size=SIZE)
    with monkeypatch.context() as patched:
        patched.setattr(ZarrVolume, "write", broken)
        patched.setattr(TensorVolume, "write", broken)
        patched.setattr("axolemma.images.volume.StackVolume.read", broken)
        with pytest.raises(AxolemmaError, match="the disk is gone"):
            convert(tmp_path / "b.tif", target, voxel_size=SIZE, overwrite=True)
    np.testing.assert_array_equal(read(path).array, VOXELS)
    convert(tmp_path / "b.tif", target, voxel_size=SIZE, overwrite=True)
    np.testing.assert_array_equal(read(path).array, VOXELS // 2)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["a.tif", "b.tif", output]


def test_to_a_store(bucket, tmp_path, monkeypatch):
    target = f"{bucket}/converted.zarr"
    convert(_tiff(tmp_path / "a.tif"), target)
    np.testing.assert_array_equal(read(target).array, VOXELS)
    with pytest.raises(InputError, match="this is there already"):
        convert(tmp_path / "a.tif", target)
    convert(tmp_path / "a.tif", f"{target}/labels/cells", kind="labels")
    assert open_volume(f"{target}/labels/cells").kind == "labels"
    convert(target, tmp_path / "b.tif")
    np.testing.assert_array_equal(read(tmp_path / "b.tif").array, VOXELS)

    def broken(self, box, voxels):
        raise AxolemmaError("the network is gone")

    monkeypatch.setattr(ZarrVolume, "write", broken)
    with pytest.raises(AxolemmaError, match="the network is gone"):
        convert(tmp_path / "a.tif", f"{bucket}/half.zarr")
    with pytest.raises(InputError, match="nothing is there"):
        open_volume(f"{bucket}/half.zarr")


def test_precomputed_to_a_store(bucket, tmp_path, monkeypatch):
    target = f"precomputed://{bucket}/image"
    convert(_tiff(tmp_path / "a.tif"), target, voxel_size=SIZE)
    np.testing.assert_array_equal(read(target).array, VOXELS)
    with pytest.raises(InputError, match="this is there already"):
        convert(tmp_path / "a.tif", target, voxel_size=SIZE)
    write_tiff(tmp_path / "b.tif", VOXELS // 2)
    convert(tmp_path / "b.tif", target, voxel_size=SIZE, overwrite=True)
    np.testing.assert_array_equal(read(target).array, VOXELS // 2)
    with pytest.raises(InputError, match="something else than a precomputed volume is there"):
        convert(tmp_path / "a.tif", f"precomputed://{bucket}", voxel_size=SIZE)

    def broken(self, box, voxels):
        raise AxolemmaError("the network is gone")

    monkeypatch.setattr(TensorVolume, "write", broken)
    with pytest.raises(AxolemmaError, match="the network is gone"):
        convert(tmp_path / "a.tif", f"precomputed://{bucket}/half", voxel_size=SIZE)
    with pytest.raises(InputError, match="is no precomputed volume"):
        open_volume(f"precomputed://{bucket}/half")
    np.testing.assert_array_equal(read(target).array, VOXELS // 2)


def test_refusals(tmp_path):
    source = _tiff(tmp_path / "a.tif")
    for target, options, match in [
        ("a.png", {}, r"a.png: its name tells no format that is written; give one that ends in"),
        ("a.tif", {}, r"a.tif: is the input itself; choose another name"),
        ("no/a.zarr", {}, r"the folder .*no does not exist; make it first"),
        ("no/a.tif", {}, r"the folder .*no does not exist; make it first"),
    ]:
        with pytest.raises(InputError, match=match):
            convert(source, tmp_path / target, **options)
    (tmp_path / "b").mkdir()
    with pytest.raises(InputError, match=r"b: its name tells no format"):
        convert(source, tmp_path / "b", overwrite=True)
    write_tiff(tmp_path / "f.tif", VOXELS.astype(np.float32))
    with pytest.raises(InputError, match=r"f.tif: labels are integers, not float32; leave --labe"):
        convert(tmp_path / "f.tif", tmp_path / "d.zarr", kind="labels")


def test_parts_are_whole_blocks_within_the_budget(monkeypatch):
    monkeypatch.setattr(room, "BUDGET", 1000)
    shape, block = (5, 40, 61), (2, 4, 8)
    seen = np.zeros(shape, int)
    for part in parts(shape, block, 1):
        seen[part.slices] += 1
        assert np.prod(part.shape) <= 1000
        assert all(a % n == 0 for a, n in zip(part.start, block, strict=True))
    assert (seen == 1).all()
    # Whole rows of blocks: X first.
    assert next(iter(parts(shape, block, 1))).shape == (2, 4, 61)
    assert next(iter(parts(shape, (2, 400, 800), 1))).shape == (2, 40, 61)


def test_command(call, tmp_path):
    _tiff(tmp_path / "a.tif")
    code, out, err = call(
        *("convert", "a.tif", "a.zarr", "--voxel-size", "50,4,4", "--block", "2,16,32"),
        *("--zarr-version", "0.4"),
    )
    assert (code, out) == (0, "volume: a.zarr\n"), err
    assert open_zarr(tmp_path / "a.zarr").voxel_size == SIZE
    code, _, err = call("convert", "a.tif", "a.zarr")
    assert code == 2
    assert "note: the voxel size is not known, none is written" in err
    assert "a.zarr: this is there already" in err
    for bad in (("--zarr-version", "1"), ("--block", "1,2"), ("--block", "0,2,2")):
        code, _, err = call("convert", "a.tif", "b.zarr", *bad)
        assert code == 2
        assert bad[0] in err


def test_a_kill_between_the_old_and_the_new_loses_nothing(tmp_path):
    source = _tiff(tmp_path / "a.tif")
    convert(source, tmp_path / "out.zarr", voxel_size=SIZE)
    (tmp_path / "out.zarr").rename(tmp_path / ".out.zarr.old")
    with pytest.raises(InputError, match="this is there already"):
        convert(source, tmp_path / "out.zarr", voxel_size=SIZE)
    volume = open_zarr(tmp_path / "out.zarr")
    np.testing.assert_array_equal(volume.read(Box.of(VOXELS.shape)), VOXELS)
