"""DM3 and DM4: stacks of every type, and one sentence for each file that cannot be used."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dm_files as dm
from axolemma import images
from axolemma.convert import convert
from axolemma.errors import ImageError, InputError
from axolemma.geometry import Box
from axolemma.images.read import count_sections


def noise(shape=(5, 12, 13), dtype="uint8", seed=0):
    return np.random.default_rng(seed).integers(0, 120, shape).astype(dtype)


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"]
)
def test_types_and_sections(tmp_path, version, order, dtype):
    voxels = noise(dtype=dtype)
    voxels[0, 0, :2] = (0, 200) if dtype.startswith("u") else (-100, 100)
    path = dm.save(tmp_path / f"a.dm{version}", dm.image(voxels), version=version, order=order)
    for sections in (None, [3, 1], range(2, 4)):
        read = images.read(path, sections=sections)
        assert read.array.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(
            read.array, voxels[slice(None) if sections is None else sections]
        )
        assert (read.source, read.notes, read.voxel_size) == (str(path), (), None)
    volume = images.open_volume(path)
    assert volume.shape == voxels.shape
    box = Box((1, 2, 3), (4, 12, 8))
    np.testing.assert_array_equal(volume.read(box), voxels[box.slices])


@pytest.mark.parametrize("side", [4, 40])
def test_short_images_of_16_bits_are_no_text(tmp_path, side):
    voxels = noise((side, side), "uint16")
    np.testing.assert_array_equal(
        images.read(dm.save(tmp_path / "a.dm4", dm.image(voxels))).array, voxels[None]
    )


def test_binary_images(tmp_path):
    read = images.read(dm.save(tmp_path / "a.dm3", dm.image(noise() > 60), version=3))
    np.testing.assert_array_equal(read.array, np.where(noise() > 60, 255, 0))
    assert read.notes == ("1-bit pixels were read as 0 and 255",)


def test_the_image_is_read_and_not_its_thumbnail(tmp_path):
    small, large = dm.image(noise((2, 4, 4))), dm.image(noise())
    read = images.read(dm.save(tmp_path / "a.dm4", dm.thumbnail(64), large))
    np.testing.assert_array_equal(read.array, noise())
    assert read.notes == ()
    for listed in ((large, small), (dm.thumbnail(), small, large)):
        read = images.read(dm.save(tmp_path / "a.dm4", *listed))
        np.testing.assert_array_equal(read.array, noise())
        assert read.notes == ("the largest of the file's 2 images, 5 x 12 x 13, was read",)


@pytest.mark.parametrize(
    ("scales", "units", "size", "note"),
    [
        ((4, 4, 50), ("nm",) * 3, (50, 4, 4), None),
        ((0.004, 0.004, 0.05), ("µm", "\u03bcm", "um"), (50, 4, 4), None),
        ((40, 40, 500), ("Å",) * 3, (50, 4, 4), None),
        ((4, 4, 1), ("nm", "nm", ""), None, "pixels of 4 × 4 nm (Y × X) and no thickness"),
        ((4, 0, np.nan), ("nm",) * 3, None, "(X 4 nm) is incomplete"),
        ((1, 1, 1), ("",) * 3, None, None),
        ((), (), None, None),
    ],
)
def test_voxel_size(tmp_path, scales, units, size, note):
    path = dm.save(tmp_path / "a.dm3", dm.image(noise(), scales=scales, units=units), version=3)
    read = images.read(path)
    assert read.voxel_size == (None if size is None else pytest.approx(size, rel=1e-6))
    assert len(read.notes) == (note is not None)
    assert note is None or note in read.notes[0]


def test_a_folder_of_sections(tmp_path):
    for z, section in enumerate(noise()):
        dm.save(tmp_path / f"s{z + 8}.dm4", dm.thumbnail(), dm.image(section))
    volume = images.open_volume(tmp_path)
    assert volume.shape == noise().shape
    np.testing.assert_array_equal(volume.read(Box((1, 0, 0), (4, 9, 9))), noise()[1:4, :9, :9])


def test_conversion(tmp_path):
    pytest.importorskip("zarr")
    one = dm.image(noise(), scales=(4, 4, 50), units=("nm",) * 3)
    target = convert(dm.save(tmp_path / "a.dm4", one), tmp_path / "a.zarr")
    assert images.open_volume(target).voxel_size == (50, 4, 4)
    np.testing.assert_array_equal(images.read(target).array, noise())


def test_axes_of_length_1(tmp_path):
    read = images.read(dm.save(tmp_path / "a.dm4", dm.image(noise((2, 1, 4, 5)))))
    np.testing.assert_array_equal(read.array, noise((2, 4, 5)))
    assert read.notes == ("axes of length 1 were left out of the shape (2, 1, 4, 5)",)
    assert images.read(dm.save(tmp_path / "a.dm4", dm.image(noise((7,))))).array.shape == (1, 1, 7)


@pytest.mark.parametrize(
    ("made", "match"),
    [
        ([], "the file holds no image"),
        ([dm.thumbnail()], r"its pixels \(8 x 8\) are packed colours; save a grey"),
        ([dm.image(noise(dtype="complex64"))], r"\(5 x 12 x 13\) are complex numbers, a Fourier"),
        ([dm.image(noise(), code=39)], "are of DigitalMicrograph's data type 39"),
        ([dm.image(noise((2, 3, 4, 5)))], r"has the shape \(2, 3, 4, 5\), where sections, rows"),
        ([dm.image(noise((0, 4, 5)))], r"has the shape \(0, 4, 5\)"),
        ([dm.image(noise(), code=10)], "damaged .*5 x 12 x 13 uint16 has 780 bytes"),
        (
            [dm.image(noise((9, 9)), scales=(0.1, 0.1), units=("1/nm",) * 2)],
            "an axis of it is measured in 1/nm, a diffraction pattern",
        ),
        (
            [dm.image(noise(), scales=(4, 4, 1), units=("nm", "nm", "eV"))],
            "an axis of it is measured in eV",
        ),
    ],
)
def test_files_without_a_usable_image(tmp_path, made, match):
    path = dm.save(tmp_path / "a.dm4", *made)
    for ask in (images.read, images.open_volume, count_sections):
        with pytest.raises(ImageError, match=rf"a\.dm4: .*{match}"):
            ask(path)


def test_images_that_lack_a_part(tmp_path):
    whole = dict(dict(dm.image(noise()))["ImageData"])
    for part in ("DataType", "Dimensions"):
        left = [(name, value) for name, value in whole.items() if name != part]
        path = dm.save(tmp_path / "a.dm4", [("ImageData", left)])
        with pytest.raises(ImageError, match="an image lacks its type, its size or its pixels"):
            images.read(path)
    path = dm.save(tmp_path / "a.dm4", [("ImageData", list({**whole, "Dimensions": []}.items()))])
    with pytest.raises(ImageError, match="the size of an image is"):
        images.read(path)


def test_trees_that_mean_nothing(tmp_path):
    deep = [("ImageList", dm.number(1))]
    with pytest.raises(ImageError, match="the file holds no image"):
        images.read(dm.save(tmp_path / "a.dm4", root=deep))
    for _ in range(80):
        deep = [("", deep)]
    with pytest.raises(ImageError, match="tags lie more than 64 deep"):
        images.read(dm.save(tmp_path / "a.dm4", root=deep))
    for parts in ([99], [20, 99, 4], [20, 20, 2, 2], [2**60], [15, 0, 1, 0, 99], [7] * 2000):
        path = dm.save(tmp_path / "a.dm4", root=[("a", lambda _order, p=parts: (p, bytes(64)))])
        with pytest.raises(ImageError, match="cut short or damaged"):
            images.read(path)
    for size in (10**6, 2**62):
        path = dm.save(
            tmp_path / "a.dm4", root=[("a", lambda _order, n=size: ([20, 10, n], bytes(64)))]
        )
        with pytest.raises(ImageError, match=rf"{size} bytes are told and 72 are there"):
            images.read(path)


@pytest.mark.parametrize("version", [3, 4])
def test_cut_files_are_refused(tmp_path, version):
    path = dm.save(tmp_path / "a.dm4", dm.image(noise((3, 4, 5))), version=version)
    whole = path.read_bytes()[:-8]  # what follows the tags means nothing
    for cut in range(16, len(whole), 7):
        path.write_bytes(whole[:cut])
        with pytest.raises(ImageError, match=r"a\.dm4: cannot be read, the file is cut short"):
            images.read(path)


@pytest.mark.parametrize("version", [3, 4])
@given(changes=st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 255)), max_size=6),
       cut=st.integers(4, 1300))  # fmt: skip
def test_damaged_files_are_read_or_refused(tmp_path_factory, version, changes, cut):
    path = tmp_path_factory.mktemp("dm") / "a.dm3"
    one = dm.image(noise((3, 4, 5)), scales=(4, 4, 50), units=("nm",) * 3)
    dm.save(path, one, version=version)
    content = bytearray(path.read_bytes())
    for where, value in changes:
        content[where % len(content)] = value
    path.write_bytes(content[:cut])
    try:
        told = f"{path}: of {images.read(path).array.ndim} axes"
    except InputError as error:
        told = str(error)
    assert told.startswith(f"{path}: ")


def test_other_content_under_the_name(tmp_path):
    path = tmp_path / "a.dm3"
    path.write_bytes(bytes(200))
    with pytest.raises(ImageError, match="says DM3/DM4 but the content is neither TIFF, PNG"):
        images.read(path)
    dm.save(path, dm.image(noise()), version=3)
    path.rename(tmp_path / "a.tif")
    with pytest.raises(ImageError, match="says TIFF but the content is DM3/DM4"):
        images.read(tmp_path / "a.tif")
