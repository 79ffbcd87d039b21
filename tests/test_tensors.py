"""N5 and precomputed volumes: written by their own library, read box by box."""

import json
import multiprocessing
import pickle
import sys

import numpy as np
import pytest

from axolemma.errors import ImageError, InputError
from axolemma.geometry import Box
from axolemma.images import open_volume, read, read_truth, stores

tensorstore = pytest.importorskip("tensorstore")

VOXELS = np.random.default_rng(3).integers(0, 255, (5, 40, 61), dtype=np.uint8)
BOXES = (Box((1, 3, 30), (4, 39, 61)), Box.of(VOXELS.shape), Box((4, 1, 1), (4, 1, 1)))


def n5(path, voxels=VOXELS, *, block=None, **attributes):
    """Write an array whose last axis is the file's first, and what it says of itself."""
    spec = {
        "driver": "n5",
        "kvstore": {"driver": "file", "path": f"{path}/"},
        "metadata": {
            "compression": {"type": "gzip"},
            "dataType": str(voxels.dtype),
            "dimensions": voxels.shape[::-1],
            "blockSize": block or [32, 16, 2, 1, 1][: voxels.ndim],
        },
    }
    tensorstore.open(spec, create=True).result()[...] = voxels.T
    file = path / "attributes.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | attributes))
    return path


def precomputed(path, voxels=VOXELS, *, kind="image", offset=(0, 0, 0), channels=1):
    for level in range(2):
        spec = {
            "driver": "neuroglancer_precomputed",
            "kvstore": {"driver": "file", "path": f"{path}/"},
            "multiscale_metadata": {
                "type": kind,
                "data_type": str(voxels.dtype),
                "num_channels": channels,
            },
            "scale_metadata": {
                "size": voxels.shape[::-1],
                "encoding": "raw",
                "chunk_size": [32, 16, 2],
                "resolution": [4 * 2**level, 4 * 2**level, 50],
                "voxel_offset": offset[::-1],
            },
        }
        tensorstore.open(spec, create=True).result()[...] = (voxels // 2**level).T[..., None]
    return path


def test_n5(tmp_path):
    address = n5(tmp_path / "a.n5" / "raw", resolution=[4, 4, 0.05], units=["nm", "nm", "um"])
    volume = open_volume(address)
    assert (volume.shape, volume.block, volume.dtype) == (VOXELS.shape, (2, 16, 32), VOXELS.dtype)
    assert volume.voxel_size == pytest.approx((50, 4, 4))
    for box in BOXES:
        np.testing.assert_array_equal(volume.read(box), VOXELS[box.slices])
    stack = read(address, sections=[3, 1])
    np.testing.assert_array_equal(stack.array, VOXELS[[3, 1]])
    assert stack.source == str(address)
    np.testing.assert_array_equal(read(f"n5://{address}").array, VOXELS)


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ({"pixelResolution": {"dimensions": [4, 4, 50], "unit": "nm"}}, (50, 4, 4)),
        (
            {"transform": {"axes": ["z", "y", "x"], "scale": [50, 4, 4], "units": ["nm"] * 3}},
            (50, 4, 4),
        ),
        ({"resolution": [4, 4, 50]}, None),
        ({"resolution": [4, 4, 0], "units": ["nm"] * 3}, None),
        ({}, None),
    ],
)
def test_n5_voxel_size(tmp_path, attributes, size):
    volume = open_volume(n5(tmp_path / "a.n5", **attributes))
    assert volume.voxel_size == size
    assert bool(volume.notes) == (size is None and bool(attributes))


def test_n5_axes(tmp_path):
    turned = n5(tmp_path / "a.n5", VOXELS.transpose(2, 0, 1), block=[16, 2, 32], axes=list("yzx"))
    volume = open_volume(turned)
    assert volume.block == (2, 16, 32)
    for box in BOXES:
        np.testing.assert_array_equal(volume.read(box), VOXELS[box.slices])
    flat = open_volume(n5(tmp_path / "b.n5", VOXELS[0]))
    assert (flat.shape, flat.block) == ((1, 40, 61), (1, 16, 32))
    np.testing.assert_array_equal(flat.read(Box((0, 3, 5), (1, 9, 8))), VOXELS[:1, 3:9, 5:8])
    padded = open_volume(n5(tmp_path / "c.n5", VOXELS[None, None]))
    np.testing.assert_array_equal(padded.read(Box.of(VOXELS.shape)), VOXELS)
    assert padded.notes == ("axes of length 1 were left out of the shape (61, 40, 5, 1, 1), xyzct",)


def test_n5_levels(tmp_path):
    for level in range(2):
        n5(tmp_path / "a.n5" / "raw" / f"s{level}", VOXELS // 2**level)
    assert open_volume(tmp_path / "a.n5/raw").read(Box.of(VOXELS.shape)).max() == VOXELS.max()
    coarse = open_volume(tmp_path / "a.n5/raw", level=1)
    np.testing.assert_array_equal(coarse.read(Box.of(VOXELS.shape)), VOXELS // 2)


def test_precomputed(tmp_path):
    address = precomputed(tmp_path / "image", offset=(3, 0, 10))
    volume = open_volume(address)
    assert (volume.shape, volume.block, volume.voxel_size) == (
        VOXELS.shape,
        (2, 16, 32),
        (50, 4, 4),
    )
    assert volume.notes == (
        "its first voxel is (3, 0, 10) (ZYX) of the space it lies in; it counts as 0, 0, 0 here",
    )
    for box in BOXES:
        np.testing.assert_array_equal(volume.read(box), VOXELS[box.slices])
    coarse = open_volume(f"precomputed://{address}", level=1)
    assert coarse.voxel_size == (50, 8, 8)
    np.testing.assert_array_equal(coarse.read(Box.of(VOXELS.shape)), VOXELS // 2)


def test_precomputed_labels_are_truth(tmp_path):
    labels = np.zeros((2, 20, 30), np.uint64)
    labels[:, :, :14], labels[:, :, 15:] = 7, 2**40
    truth = read_truth(precomputed(tmp_path / "labels", labels, kind="segmentation"))
    assert truth.labels is not None
    assert (truth.array.max(), truth.array[:, :, 14].min()) == (1, 1)


def _sum(volume):
    return int(volume.read(Box.of(volume.shape)).sum())


def test_other_processes_read_what_is_sent_to_them(tmp_path):
    volumes = [open_volume(n5(tmp_path / "a.n5")), open_volume(precomputed(tmp_path / "b"))]
    assert [pickle.loads(pickle.dumps(volume)) for volume in volumes] == volumes
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(_sum, volumes) == [int(VOXELS.sum())] * 2


@pytest.mark.parametrize(
    ("make", "level", "match"),
    [
        (lambda p: p / "no.n5", 0, "no.n5: does not exist"),
        (lambda p: n5(p / "a.n5" / "raw").parent, 0, r"N5 group without an array s0.*holds: raw\)"),
        (lambda p: n5(p / "a.n5"), 1, "an array has no levels; give the group above it"),
        (lambda p: n5(p / "a.n5", VOXELS[:, None]), 0, r"axes x, y, z, c and the shape \(61, 40,"),
        (lambda p: n5(p / "a.n5", axes=["a", "b", "c"]), 0, "axes a, b, c and the shape"),
        (lambda p: precomputed(p / "a"), 2, "level 2 does not exist; there are 0-1"),
        (lambda p: precomputed(p / "a", channels=2), 0, "the volume has 2 channels, where one"),
    ],
)
def test_what_cannot_be_opened(tmp_path, make, level, match):
    with pytest.raises(ImageError, match=match):
        open_volume(make(tmp_path), level=level)


def test_damaged_volumes_get_a_sentence(tmp_path):
    address = n5(tmp_path / "a.n5")
    (address / "0/0/0").write_bytes(b"\0\0")
    volume = open_volume(address)
    with pytest.raises(ImageError, match=r"a.n5: cannot be opened or is damaged \("):
        volume.read(Box.of(volume.shape))
    (address / "attributes.json").write_text("{")
    with pytest.raises(ImageError, match=r"a.n5: its attributes.json is damaged; copy the volume"):
        open_volume(address)
    with pytest.raises(InputError, match="section 9 does not exist"):
        read(n5(tmp_path / "b.n5"), sections=[9])


def test_missing_package_is_named(tmp_path, monkeypatch):
    address = n5(tmp_path / "a.n5")
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    with pytest.raises(ImageError, match=r"a.n5: .* pip install 'axolemma\[n5\]'"):
        open_volume(address)


def test_s3(tmp_path, bucket):
    obstore = pytest.importorskip("obstore")
    folder = precomputed(tmp_path / "image")
    store = stores.object_store(f"{bucket}/some")
    for file in folder.rglob("*"):
        if file.is_file():
            obstore.put(store, file.relative_to(folder).as_posix(), file.read_bytes())
    np.testing.assert_array_equal(read(f"precomputed://{bucket}/some").array, VOXELS)
    with pytest.raises(ImageError, match="s3://bucket/none: is no precomputed volume"):
        open_volume(f"precomputed://{bucket}/none")
