import builtins
import errno
import json
import logging
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from axolemma import images
from axolemma.errors import AxolemmaError, ImageError, InputError
from axolemma.images import write as writing
from axolemma.labels import IGNORED, colours

SHARED = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
PLAIN = {"photometric": "minisblack"}


def noise(shape=(5, 32, 33), dtype="uint8", seed=0):
    return np.random.default_rng(seed).integers(0, 250, shape).astype(dtype)


def cells(sections=3, size=96, pitch=24, width=4):
    """Return a membrane truth, 1 = membrane: a grid of lines around square cells."""
    line = np.arange(size) % pitch < width
    return np.repeat((line[:, None] | line)[None], sections, axis=0).astype(np.uint8)


def stack(array, holds=None):
    return images.Stack(np.asarray(array), (0, 0), None, "truth.tif", holds=holds)


# --- what is written comes back


@given(
    array=hnp.arrays(
        st.sampled_from(["u1", "u2", "u4", "i1", "i2", "i4", "f4", "f8"]),
        st.tuples(st.integers(1, 4), st.integers(1, 20), st.integers(1, 20)),
        elements={"allow_nan": False},
    ),
    voxel=st.none() | st.tuples(*[st.floats(0.01, 1e5)] * 3),
    holds=st.none() | st.sampled_from(["cells", "neurons"]) | st.text(),
    info=st.dictionaries(st.text(), st.integers() | st.text() | st.floats(allow_nan=False)),
)
@SHARED
def test_tiff_round_trip(tmp_path, array, voxel, holds, info):
    path = tmp_path / "a.tif"
    images.write_tiff(path, array, voxel_size=voxel, holds=holds, info=info)
    back = images.read(path)
    assert back.array.dtype == array.dtype
    np.testing.assert_array_equal(back.array, array)
    assert (back.voxel_size is None) == (voxel is None)
    if voxel is not None:
        np.testing.assert_allclose(back.voxel_size, voxel, rtol=1e-6)
    assert (back.holds, back.info, back.notes) == (holds, info, ())


def test_written_tiff_is_calibrated_for_fiji(tmp_path):
    images.write_tiff(tmp_path / "a.tif", noise(), voxel_size=(50, 4, 8), info={"threshold": 0.5})
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_imagej
        assert file.series[0].axes == "ZYX"
        meta, tags = file.imagej_metadata, file.pages.first.tags
        assert (meta["unit"], meta["spacing"], meta["slices"]) == ("micron", 0.05, 5)
        assert tags.valueof("XResolution") == (125, 1)
        assert tags.valueof("YResolution") == (250, 1)
        assert tags.valueof("Compression") == 8
        assert tags.valueof("Predictor", 1) == 1
        assert json.loads(meta["Info"])["axolemma"]["info"] == {"threshold": 0.5}
        assert tags.get("ColorMap") is None


@pytest.mark.parametrize(
    ("dtype", "most", "top"), [("uint8", 200, 255), ("uint16", 200, 255), ("uint16", 9000, 9000)]
)
def test_labels_open_in_their_colours(tmp_path, dtype, most, top):
    labels = np.arange(16 * 20).reshape(1, 16, 20).astype(dtype)
    labels[0, 0, 5] = most
    images.write_tiff(tmp_path / "a.tif", np.minimum(labels, most), holds="neurons")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        page = file.pages.first
        assert file.is_imagej
        assert page.photometric.name == "MINISBLACK"
        assert (file.imagej_metadata["min"], file.imagej_metadata["max"]) == (0, top)
        table = np.reshape(page.tags.valueof("ColorMap"), (3, 256))
    np.testing.assert_array_equal((table >> 8).T, colours(np.arange(256)))
    assert not table[:, 0].any()
    back = images.read(tmp_path / "a.tif")
    np.testing.assert_array_equal(back.array, np.minimum(labels, most))
    assert back.notes == ()


def test_large_stack_becomes_ome_bigtiff(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "CLASSIC_LIMIT", 1000)
    images.write_tiff(tmp_path / "a.tif", noise(), voxel_size=(50, 4, 4), holds="cells")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert (file.is_bigtiff, file.is_ome, file.is_imagej) == (True, True, False)
    back = images.read(tmp_path / "a.tif")
    np.testing.assert_array_equal(back.array, noise())
    assert (back.voxel_size, back.holds) == ((50, 4, 4), "cells")


def test_one_section_is_written_as_a_stack_of_one(tmp_path):
    images.write_tiff(tmp_path / "a.tif", noise((8, 9)), voxel_size=(50, 4, 4))
    back = images.read(tmp_path / "a.tif")
    assert (back.array.shape, back.voxel_size) == ((1, 8, 9), (50, 4, 4))


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 3)])
def test_png_round_trip(tmp_path, shape):
    images.write_png(tmp_path / "a.png", noise(shape))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), noise(shape))


# --- what cannot be written leaves nothing behind


@pytest.mark.parametrize(
    ("array", "options", "match"),
    [
        (np.zeros((2, 2, 2, 2), "u1"), {}, r"ZYX or YX, got the shape \(2, 2, 2, 2\)"),
        (np.zeros((0, 4), "u1"), {}, "got the shape"),
        (np.zeros((4, 4), "i8"), {}, "int64 pixels cannot be written; convert"),
        (np.zeros((4, 4), bool), {}, "bool pixels cannot be written"),
        (np.zeros((4, 4), "u1"), {"voxel_size": (1, 0, 1)}, "three lengths ZYX in nm"),
        (np.zeros((4, 4), "u1"), {"voxel_size": (1, 1)}, "three lengths ZYX in nm"),
    ],
)
def test_unwritable_array(tmp_path, array, options, match):
    with pytest.raises(InputError, match=match):
        images.write_tiff(tmp_path / "a.tif", array, **options)
    assert not list(tmp_path.iterdir())


def test_png_refuses_other_pictures(tmp_path):
    with pytest.raises(InputError, match=r"a picture is uint8 .* got float64"):
        images.write_png(tmp_path / "a.png", np.zeros((4, 4)))
    with pytest.raises(InputError, match=r"got uint8 \(4, 4, 2\)"):
        images.write_png(tmp_path / "a.png", np.zeros((4, 4, 2), "u1"))


def test_unwritable_places(tmp_path):
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "folder.tif").mkdir()
    for place, match in [
        (tmp_path / "missing" / "a.tif", "the folder .*missing does not exist"),
        (tmp_path / "file.txt" / "a.tif", "the folder .*file.txt does not exist"),
        (Path("/proc/self/a.tif"), "/proc/self/a.tif: cannot be written"),
        (tmp_path / "folder.tif", "folder.tif: cannot be written, is a directory"),
    ]:
        with pytest.raises(InputError, match=match):
            images.write_tiff(place, noise())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file.txt", "folder.tif"]


def test_what_a_kill_left_behind_is_written_over(tmp_path):
    (tmp_path / ".a.tif.partial").write_text("half")
    images.write_tiff(tmp_path / "a.tif", noise())
    assert [file.name for file in tmp_path.iterdir()] == ["a.tif"]


def test_failed_write_keeps_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    for error, kind in [
        (OSError(errno.ENOSPC, "No space left on device"), AxolemmaError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ]:
        with pytest.raises(kind) as caught, images.replacing(path) as partial:  # noqa: PT012
            partial.write_text("half")
            raise error
        assert not isinstance(caught.value, InputError)
        assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
        assert path.read_text() == "before"


# --- TIFF and its dialects


@pytest.mark.parametrize(
    "dtype", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]
)
@pytest.mark.parametrize("order", "<>")
def test_types_and_byte_orders(tmp_path, dtype, order):
    tifffile.imwrite(tmp_path / "a.tif", noise().astype(dtype), byteorder=order, **PLAIN)
    for sections in (None, [3, 1]):
        read = images.read(tmp_path / "a.tif", sections=sections)
        assert read.array.dtype == np.dtype(dtype)
        assert read.array.dtype.isnative
        np.testing.assert_array_equal(read.array, noise().astype(dtype)[sections or slice(None)])


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zlib"},
        {"compression": "lzw", "predictor": True},
        {"compression": "zstd"},
        {"compression": "packbits"},
        {"bigtiff": True},
        {"tile": (16, 16)},
        {"metadata": None},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"ome": True, "metadata": {"axes": "ZYX"}},
    ],
    ids=lambda o: "-".join(f"{v}" for v in o.values()),
)
def test_layouts_and_every_cut(tmp_path, options, capsys):
    """However far a file is cut, it is read to the last pixel or refused."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(), **PLAIN, **options)
    whole = path.read_bytes()
    np.testing.assert_array_equal(images.read(path).array, noise())
    np.testing.assert_array_equal(images.read(path, sections=range(2, 4)).array, noise()[2:4])
    cuts = {*range(1, len(whole), len(whole) // 60), *range(len(whole) - 12, len(whole))}
    refusals = []
    for cut in cuts:
        path.write_bytes(whole[:cut])
        try:
            np.testing.assert_array_equal(images.read(path).array, noise())
        except ImageError as error:
            refusals.append(str(error))
    assert len(refusals) > 40
    assert all(refusal.startswith(str(path)) for refusal in refusals)
    assert capsys.readouterr() == ("", "")


@given(st.data())
@SHARED
def test_damaged_bytes_raise_nothing_but_image_errors(tmp_path, data):
    path = tmp_path / "a.tif"
    images.write_tiff(path, noise((3, 8, 8)), voxel_size=(50, 4, 4))
    damaged = bytearray(path.read_bytes())
    for _ in range(3):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    with suppress(ImageError):
        assert images.read(path).array.ndim == 3


def test_pages_from_pillow(tmp_path):
    pages = [Image.fromarray(page) for page in noise()]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(images.read(tmp_path / "a.tif").array, noise())


def test_sections_written_one_by_one_are_one_stack(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page in noise():
            file.write(page, **PLAIN)
    read = images.read(tmp_path / "a.tif", sections=[4, 0])
    np.testing.assert_array_equal(read.array, noise()[[4, 0]])
    assert read.notes == ("5 separate images of one size were read as sections",)


def test_pages_of_other_shapes_are_left_out_and_said(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(noise(), **PLAIN)
        file.write(noise((16, 16)), **PLAIN)
    read = images.read(tmp_path / "a.tif")
    assert read.array.shape == (5, 32, 33)
    assert "the first of 2 images was read" in read.notes[0]


def test_images_of_one_size_are_sections_in_ome_files_too(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as file:
        for section in noise():
            file.write(section, metadata={"axes": "YX"}, **PLAIN)
    read = images.read(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(read.array, noise())
    assert read.notes == ("5 separate images of one size were read as sections",)


def test_pyramid_gives_its_full_resolution(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as file:
        file.write(noise((64, 64)), subifds=1, **PLAIN)
        file.write(noise((64, 64))[::2, ::2], subfiletype=1, **PLAIN)
    read = images.read(tmp_path / "a.ome.tif")
    assert read.array.shape == (1, 64, 64)
    assert read.notes == ("of a pyramid only the full resolution was read",)


@pytest.mark.parametrize(
    ("axes", "shape", "match"),
    [
        ("CYX", (2, 8, 8), r"axes CYX, shape \(2, 8, 8\)"),
        ("ZCYX", (3, 2, 8, 8), r"axes ZCYX, shape \(3, 2, 8, 8\)"),
        ("TZYX", (4, 3, 8, 8), r"axes TZYX, shape \(4, 3, 8, 8\)"),
    ],
)
@pytest.mark.parametrize("dialect", ["imagej", "ome"])
def test_a_further_axis_is_refused(tmp_path, axes, shape, match, dialect):
    tifffile.imwrite(
        tmp_path / "a.tif", noise(shape), metadata={"axes": axes}, **{dialect: True}, **PLAIN
    )
    for sections in (None, [0]):
        with pytest.raises(ImageError, match=match):
            images.read(tmp_path / "a.tif", sections=sections)


def test_time_is_read_as_sections_and_axes_of_one_are_dropped(tmp_path):
    array = noise((4, 1, 1, 8, 9))
    tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, metadata={"axes": "TZCYX"}, **PLAIN)
    read = images.read(tmp_path / "a.tif")
    np.testing.assert_array_equal(read.array, array[:, 0, 0])
    assert read.notes == ("the time axis was read as sections",)


@pytest.mark.parametrize("narrow", [(5, 1, 9), (5, 9, 1), (1, 1, 1)])
def test_narrow_stacks_keep_their_axes(tmp_path, narrow):
    tifffile.imwrite(tmp_path / "a.tif", noise(narrow), metadata={"axes": "ZYX"}, **PLAIN)
    assert images.read(tmp_path / "a.tif").array.shape == narrow


# --- voxel size


@pytest.mark.parametrize(
    ("unit", "spacing", "resolution", "expected"),
    [
        ("um", 0.05, 250, (50, 4, 4)),
        ("\\u00B5m", 0.05, 250, (50, 4, 4)),
        ("micron", 0.05, 250, (50, 4, 4)),
        ("nm", 50, 0.25, (50, 4, 4)),
        ("mm", 5e-5, 250e3, (50, 4, 4)),
        ("pixel", 1, 1, None),
    ],
)
def test_imagej_voxel_size(tmp_path, unit, spacing, resolution, expected):
    tifffile.imwrite(
        tmp_path / "a.tif",
        noise(),
        imagej=True,
        resolution=(resolution, resolution),
        metadata={"axes": "ZYX", "unit": unit, "spacing": spacing},
    )
    read = images.read(tmp_path / "a.tif")
    assert read.voxel_size == (None if expected is None else pytest.approx(expected, rel=1e-6))
    assert read.notes == ()


def test_imagej_axes_may_have_units_of_their_own(tmp_path):
    metadata = {"axes": "ZYX", "unit": "micron", "yunit": "nm", "zunit": "nm", "spacing": 50}
    tifffile.imwrite(
        tmp_path / "a.tif", noise(), imagej=True, resolution=(250, 0.25), metadata=metadata
    )
    assert images.read(tmp_path / "a.tif").voxel_size == pytest.approx((50, 4, 4), rel=1e-6)


@pytest.mark.parametrize(
    ("metadata", "match"),
    [
        ({"unit": "inch", "spacing": 1}, "in inches is one for printing"),
        ({"unit": "furlong", "spacing": 1}, "incomplete"),
        ({"unit": "micron", "yunit": "furlong"}, "incomplete"),
    ],
)
def test_unusable_voxel_size_is_said(tmp_path, metadata, match):
    metadata = {"axes": "ZYX", **metadata}
    tifffile.imwrite(
        tmp_path / "a.tif", noise(), imagej=True, resolution=(72, 72), metadata=metadata
    )
    read = images.read(tmp_path / "a.tif")
    assert read.voxel_size is None
    assert match in read.notes[0]


@pytest.mark.parametrize(
    ("unit", "factor"), [("nm", 1), ("µm", 1e-3), ("mm", 1e-6), ("Å", 10), (None, 1e-3)]
)
def test_ome_voxel_size(tmp_path, unit, factor):
    metadata = {"axes": "ZYX"}
    for axis, size in zip("ZYX", (50, 4, 8), strict=True):
        metadata[f"PhysicalSize{axis}"] = size * factor
        if unit:
            metadata[f"PhysicalSize{axis}Unit"] = unit
    tifffile.imwrite(tmp_path / "a.ome.tif", noise(), metadata=metadata, **PLAIN)
    assert images.read(tmp_path / "a.ome.tif").voxel_size == pytest.approx((50, 4, 8))


def test_ome_without_a_spacing_has_no_voxel_size(tmp_path):
    metadata = {"axes": "ZYX", "PhysicalSizeX": 4, "PhysicalSizeY": 4}
    tifffile.imwrite(tmp_path / "a.ome.tif", noise(), metadata=metadata, **PLAIN)
    read = images.read(tmp_path / "a.ome.tif")
    assert read.voxel_size is None
    assert read.pixel_size == pytest.approx((4e3, 4e3))  # µm, where no unit is named
    assert "no thickness of sections" in read.notes[0]


@pytest.mark.parametrize("spacing", [{}, {"spacing": -1}])
def test_imagej_without_a_spacing_has_a_pixel_size(tmp_path, spacing):
    metadata = {"axes": "ZYX", "unit": "micron", **spacing}
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(), imagej=True, resolution=(250, 125), metadata=metadata)
    read = images.read(path)
    assert read.voxel_size is None
    assert read.pixel_size == pytest.approx((8, 4))
    assert read.notes == (
        "the file gives pixels of 8 × 4 nm (Y × X) and no thickness of sections: it is used for"
        " what networks see, and results are written without a voxel size",
    )
    (tmp_path / "folder").mkdir()
    for number in (0, 1):
        tifffile.imwrite(
            tmp_path / "folder" / f"{number}.tif",
            noise()[0],
            imagej=True,
            resolution=(250, 250),
            metadata={"unit": "micron"},
        )
    assert images.read(tmp_path / "folder").pixel_size == pytest.approx((4, 4))


@pytest.mark.parametrize(
    ("unit", "resolution", "size"),
    [("CENTIMETER", 2.5e6, 4), ("INCH", 6.35e6, 4), ("INCH", 300, None), ("NONE", 1, None)],
)
def test_the_resolution_of_a_plain_tiff(tmp_path, unit, resolution, size):
    path = tmp_path / "a.tif"
    options = {"resolution": (resolution, resolution), "resolutionunit": unit}
    tifffile.imwrite(path, noise()[0], photometric="minisblack", metadata=None, **options)
    read = images.read(path)
    assert read.voxel_size is None
    assert read.pixel_size == (None if size is None else pytest.approx((size, size), rel=1e-6))
    assert len(read.notes) == (size is not None)


# --- colour, palettes, bits


def test_equal_channels_and_opaque_alpha_are_dropped_with_a_note(tmp_path):
    grey = noise((2, 8, 9))
    rgb = np.repeat(grey[..., None], 3, axis=-1)
    rgba = np.concatenate([rgb, np.full_like(rgb[..., :1], 255)], axis=-1)
    tifffile.imwrite(tmp_path / "rgb.tif", rgb, photometric="rgb")
    tifffile.imwrite(tmp_path / "rgba.tif", rgba, photometric="rgb", extrasamples=["unassalpha"])
    Image.fromarray(rgba[0]).save(tmp_path / "rgba.png")
    Image.fromarray(grey[0]).convert("LA").save(tmp_path / "la.png")
    for name, notes in [("rgb.tif", 1), ("rgba.tif", 2), ("rgba.png", 2), ("la.png", 1)]:
        read = images.read(tmp_path / name)
        np.testing.assert_array_equal(read.array, grey[: len(read.array)])
        assert len(read.notes) == notes, name


def test_planar_samples_are_samples(tmp_path):
    planar = np.repeat(noise((1, 8, 9)), 3, axis=0)
    tifffile.imwrite(tmp_path / "a.tif", planar, photometric="rgb", planarconfig="separate")
    read = images.read(tmp_path / "a.tif")
    np.testing.assert_array_equal(read.array, planar[:1])
    assert read.notes == ("RGB with three equal channels was read as grey",)


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.jpg"])
def test_colour_is_refused(tmp_path, name):
    Image.fromarray(noise((16, 16, 3))).save(tmp_path / name)
    with pytest.raises(ImageError, match=r"is in colour .*convert it to grey"):
        images.read(tmp_path / name)


def test_transparency_is_refused(tmp_path):
    Image.fromarray(noise((8, 8, 4))).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="transparent pixels"):
        images.read(tmp_path / "a.png")


def test_sixteen_bit_png_keeps_its_bits(tmp_path):
    Image.fromarray(noise((8, 9), "uint16") * 257).save(tmp_path / "a.png")
    read = images.read(tmp_path / "a.png")
    assert read.array.dtype == np.uint16
    assert read.range == (0, 65535)
    np.testing.assert_array_equal(read.array[0], noise((8, 9), "uint16") * 257)


def test_one_bit_pictures_become_0_and_255(tmp_path):
    bits = noise((8, 9)) > 100
    Image.fromarray(bits).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", bits, **PLAIN)
    for name, note in [("a.png", "1-bit pixels were stretched"), ("a.tif", "1-bit pixels")]:
        read = images.read(tmp_path / name)
        np.testing.assert_array_equal(read.array[0], bits * np.uint8(255))
        assert note in read.notes[0]


def test_palettes(tmp_path):
    Image.fromarray(noise((8, 9))).convert("P").save(tmp_path / "grey.png")
    read = images.read(tmp_path / "grey.png")
    np.testing.assert_array_equal(read.array[0], noise((8, 9)))
    assert "palette" in read.notes[0]
    ramp = np.arange(256, dtype=np.uint16) * 257
    grey, fire = np.stack([ramp[::-1]] * 3), np.stack([ramp, ramp[::-1], ramp])
    tifffile.imwrite(tmp_path / "grey.tif", noise(), photometric="palette", colormap=grey)
    tifffile.imwrite(tmp_path / "fire.tif", noise(), photometric="palette", colormap=fire)
    np.testing.assert_array_equal(images.read(tmp_path / "grey.tif").array, 255 - noise())
    fiery = images.read(tmp_path / "fire.tif")
    np.testing.assert_array_equal(fiery.array, noise())
    assert "lookup table of colours" in fiery.notes[0]


def test_white_is_zero_is_inverted_and_said(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise(), photometric="miniswhite")
    read = images.read(tmp_path / "a.tif")
    np.testing.assert_array_equal(read.array, 255 - noise())
    assert "0 is white" in read.notes[0]
    tifffile.imwrite(tmp_path / "b.tif", noise(dtype="int16"), photometric="miniswhite")
    read = images.read(tmp_path / "b.tif")
    np.testing.assert_array_equal(read.array, noise())
    assert read.notes == ("the file says that 0 is white; its int16 were left as they are",)


def test_complex_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise(dtype="complex64"), **PLAIN)
    with pytest.raises(ImageError, match="type complex64 are not read"):
        images.read(tmp_path / "a.tif")


# --- folders


def test_folder_in_natural_order(tmp_path):
    for number in range(11):
        images.write_png(tmp_path / f"section{number}.png", noise((8, 9), seed=number))
    (tmp_path / ".hidden.png").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    read = images.read(tmp_path)
    for number in range(11):
        np.testing.assert_array_equal(read.array[number], noise((8, 9), seed=number))
    picked = images.read(tmp_path, sections=range(9, 11))
    np.testing.assert_array_equal(picked.array, read.array[9:])


def test_sections_that_a_folder_lacks_are_missed(tmp_path):
    for number in (0, 2):
        images.write_png(tmp_path / f"s{number}.png", noise((8, 9), seed=number))
    Image.fromarray(noise((8, 9))).save(tmp_path / "s1.bmp")
    read = images.read(tmp_path)
    assert read.array.shape == (2, 8, 9)
    assert read.notes == ("files that are no sections in a folder were left out, 1: s1.bmp",)
    (tmp_path / "s3.png").symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(ImageError, match=r"s3.png: leads to .*elsewhere.png, which is not there"):
        images.read(tmp_path)
    with pytest.raises(ImageError, match=r"s3.png: does not exist(?!.*did you mean '.*s3.png')"):
        images.read(tmp_path / "s3.png")


def test_folder_of_tiff_sections(tmp_path):
    for number in range(3):
        images.write_tiff(
            tmp_path / f"{number}.tif", noise((8, 9), seed=number), voxel_size=(50, 4, 4)
        )
    assert images.read(tmp_path).array.shape == (3, 8, 9)
    assert images.read(tmp_path).voxel_size == (50, 4, 4)
    images.write_tiff(tmp_path / "3.tif", noise((8, 9)), voxel_size=(50, 5, 5))
    assert images.read(tmp_path).voxel_size is None
    assert "disagree on the voxel size" in images.read(tmp_path).notes[0]


def test_folder_refusals(tmp_path):
    with pytest.raises(ImageError, match="holds no image"):
        images.read(tmp_path)
    images.write_png(tmp_path / "a.png", noise((8, 9)))
    images.write_png(tmp_path / "b.png", noise((8, 8)))
    with pytest.raises(ImageError, match=r"b.png: this section is 8 x 8 uint8 but .*8 x 9 uint8"):
        images.read(tmp_path)
    images.write_tiff(tmp_path / "b.tif", noise())
    (tmp_path / "b.png").unlink()
    with pytest.raises(ImageError, match=r"b.tif: this file holds 5 sections"):
        images.read(tmp_path)


# --- files that are no images


def test_missing_paths_name_the_nearest(tmp_path):
    images.write_png(tmp_path / "volume.png", noise((8, 9)))
    with pytest.raises(ImageError, match=r"volum.png: does not exist; did you mean .*volume.png'"):
        images.read(tmp_path / "volum.png")
    with pytest.raises(ImageError, match=r"qqq.tif: does not exist$"):
        images.read(tmp_path / "qqq.tif")
    with pytest.raises(ImageError, match=r"does not exist; neither does the folder .*nowhere"):
        images.read(tmp_path / "nowhere" / "a.tif")
    with pytest.raises(ImageError, match="does not exist"):
        images.read(tmp_path / "volume.png" / "a.tif")


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.tif", b"", "the file is empty"),
        ("a.tif", b"some text that is no image\n", "says TIFF but the content is text"),
        ("a.tif", b"\x89PNG\r\n\x1a\n" + bytes(20), "says TIFF but the content is PNG"),
        ("a.png", b"\xff\xd8\xff" + bytes(20), "says PNG but the content is JPEG"),
        ("a.jpg", bytes(20), "content is neither TIFF, PNG, JPEG, HDF5, MRC nor DM"),
        ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(40), "cannot be read, the file is cut short"),
        ("a.png", b"\x89PNG\r\n\x1a\n", "cannot be read, the file is cut short"),
        ("a.bmp", b"BM", r"'.bmp' files are not read; give one of .*\.tif"),
        ("a", b"BM", "'' files are not read"),
    ],
)
def test_files_that_are_no_images(tmp_path, name, content, match):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=match):
        images.read(tmp_path / name)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_cut_pictures_are_refused(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise((64, 64))).save(path)
    whole = path.read_bytes()
    for cut in (len(whole) // 3, len(whole) // 2, len(whole) - 20):
        path.write_bytes(whole[:cut])
        with pytest.raises(ImageError, match="cut short or damaged"):
            images.read(path)


def test_forbidden_file(tmp_path, monkeypatch):
    images.write_png(tmp_path / "a.png", noise((8, 9)))

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(builtins, "open", refuse)
    with pytest.raises(ImageError, match=r"a.png: may not be read"):
        images.read(tmp_path / "a.png")


def test_logging_of_others_is_left_alone(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise(), **PLAIN)
    images.read(tmp_path / "a.tif")
    images.read(tmp_path / "a.tif")
    assert len(logging.getLogger("tifffile").handlers) == 1
    assert logging.getLogger("tifffile").propagate


def test_sections_outside_the_stack(tmp_path):
    images.write_tiff(tmp_path / "a.tif", noise())
    with pytest.raises(InputError, match=r"section 5 does not exist; there are 5 sections, 0-4"):
        images.read(tmp_path / "a.tif", sections=range(3, 6))
    with pytest.raises(InputError, match="no sections were asked for"):
        images.read(tmp_path / "a.tif", sections=[])


# --- checks


def test_constant_sections_are_no_images(tmp_path):
    array = noise()
    array[1], array[3] = 0, 7
    images.write_tiff(tmp_path / "a.tif", array)
    assert images.read(tmp_path / "a.tif").array[1].max() == 0
    with pytest.raises(ImageError, match=r"section 1 \(and 1 more\) is constant, .* is 0"):
        images.read_image(tmp_path / "a.tif")


def test_values_that_outshine_all_others_are_no_images(tmp_path):
    section = noise().astype("f4")
    section[2, 3, 4] = -1e30
    images.write_tiff(tmp_path / "a.tif", section)
    with pytest.raises(
        ImageError, match=r"section 2 has values as far off as -1e\+30, .*, 1.55 to 247, "
    ):
        images.read_image(tmp_path / "a.tif")
    section[2, 3, 4] = 2000  # a hot pixel does no harm
    images.write_tiff(tmp_path / "b.tif", section)
    images.read_image(tmp_path / "b.tif")


def test_infinite_pixels_are_no_images(tmp_path):
    array = noise(dtype="float32")
    array[2, 3, 4], array[4, 0, 0] = np.nan, -np.inf
    images.write_tiff(tmp_path / "a.tif", array)
    assert images.read(tmp_path / "a.tif").range == (0, 249)
    with pytest.raises(ImageError, match=r"2 pixels are NaN or infinite, the first at ZYX \(2, 3,"):
        images.read_image(tmp_path / "a.tif")


def test_pair_of_two_shapes():
    with pytest.raises(ImageError, match=r"truth has the shape \(1, 4, 4\) .* has \(1, 4, 5\)"):
        images.check_pair(stack(np.zeros((1, 4, 5))), stack(np.zeros((1, 4, 4))))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0-24", range(25)),
        ("3", range(3, 4)),
        (" 25 - 29 ", range(25, 30)),
        ("29-29", range(29, 30)),
    ],
)
def test_parse_slices(text, expected):
    assert images.parse_slices(text, 30) == expected


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "expected a-b or a"),
        ("a-b", "expected a-b or a"),
        ("-3", "expected a-b or a"),
        ("0-4,8-9", "splits are contiguous"),
        ("9-3", "the first lies behind the last"),
        ("25-30", "section 30 does not exist; there are 30 sections, 0-29"),
    ],
)
def test_parse_slices_refuses(text, match):
    with pytest.raises(InputError, match=match):
        images.parse_slices(text, 30)


# --- truths


@pytest.mark.parametrize(("low", "high"), [(0, 255), (0, 1), (3, 9)])
def test_interior_is_bright_unless_said(low, high):
    truth = np.where(cells(), low, high).astype(np.uint8)
    membrane, notes = images.to_membrane(stack(truth))
    np.testing.assert_array_equal(membrane, cells())
    assert membrane.dtype == np.uint8
    assert notes == ()
    np.testing.assert_array_equal(
        images.to_membrane(stack(truth), truth_is="membrane")[0], 1 - cells()
    )


@pytest.mark.parametrize("truth", [cells() * 255, cells().astype(bool), cells().astype("float32")])
def test_inverted_truth_is_refused_and_the_flag_mends_it(truth):
    with pytest.raises(ImageError, match=r"looks inverted.*--truth-is membrane"):
        images.to_membrane(stack(truth))
    np.testing.assert_array_equal(images.to_membrane(stack(truth), truth_is="membrane")[0], cells())


def test_inverted_truth_with_few_cells_is_refused():
    line = np.arange(96) % 24 < 11  # membranes cover two thirds, and cells are the thicker
    membrane = np.repeat((line[:, None] | line)[None], 2, axis=0)
    with pytest.raises(ImageError, match="looks inverted, 7"):
        images.to_membrane(stack(~membrane))


def test_isbi_truth_is_right_way_round_and_its_inverse_is_not(isbi2012_folder):
    truth = images.read(isbi2012_folder / "train-labels.tif")
    membrane, notes = images.to_membrane(truth)
    assert notes == ()
    np.testing.assert_array_equal(membrane, truth.array == 0)
    for section in range(30):
        one = truth.array[section : section + 1]
        images.to_membrane(stack(one))
        with pytest.raises(ImageError, match="looks inverted"):
            images.to_membrane(stack(255 - one))


def test_own_files_say_what_they_hold(tmp_path):
    images.write_tiff(tmp_path / "a.tif", cells(), holds="membrane map")
    np.testing.assert_array_equal(images.read_truth(tmp_path / "a.tif").array, cells())
    one_cell = (1 - cells()).astype(np.int32)
    images.write_tiff(tmp_path / "b.tif", one_cell, holds="cells")
    np.testing.assert_array_equal(images.read_truth(tmp_path / "b.tif").array, cells())


def test_labels_get_membrane_where_they_touch():
    labels = np.zeros((1, 6, 8), np.int32)
    labels[:, :, :4], labels[:, :, 4:] = 1, 2
    labels[:, :, 0] = 0
    labels[:, :, 6:] = 3
    membrane, notes = images.to_membrane(stack(labels), truth_is="labels")
    np.testing.assert_array_equal(membrane[0, 0], [1, 0, 0, 1, 0, 1, 0, 0])
    assert "one pixel where two labels touch" in notes[0]


def test_many_values_are_labels_where_they_are_flat():
    labels = np.kron(np.arange(1, 17).reshape(4, 4), np.ones((24, 24))).astype(np.uint16)[None]
    labels[cells(1) == 1] = 0
    membrane, notes = images.to_membrane(stack(labels))
    np.testing.assert_array_equal(membrane, cells(1))
    assert notes == ("labels were read as interior and 0 as membrane",)


def test_jpeg_truth(tmp_path):
    Image.fromarray((1 - cells(1)[0]) * 255).save(tmp_path / "a.jpg", quality=95)
    read = images.read_truth(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read.array, cells(1))
    assert "save it as PNG" in read.notes[0]
    assert (read.holds, read.range) == ("membrane truth", (0, 1))


@pytest.mark.parametrize(
    ("array", "options", "match"),
    [
        (np.ones((1, 8, 8), "u1"), {}, "every pixel of the truth is 1"),
        (noise(), {}, "looks like a grey image"),
        (noise().astype("float32"), {}, "looks like a grey image"),
        (np.full((1, 8, 8), np.nan), {}, "NaN"),
        (np.repeat([[[-1, 0, 1]]], 9, axis=2), {}, "negative labels, the lowest -1"),
        (np.repeat([[[0, 1, 2]]], 9, axis=2), {"truth_is": "interior"}, "holds 3 values"),
    ],
)
def test_truth_refusals(array, options, match):
    with pytest.raises(ImageError, match=match):
        images.to_membrane(stack(array), **options)


# --- truths of which a part is annotated


def partly(value=128):
    """A truth with 0 and 255, of which the left half of each section is not annotated."""
    truth = (1 - cells()) * np.uint8(255)
    truth[:, :, :48] = value
    return truth


def test_what_is_not_annotated_is_neither_membrane_nor_interior():
    read = images.to_truth(stack(partly()), ignore_value=128)
    np.testing.assert_array_equal(read.array[:, :, 48:], cells()[:, :, 48:])
    assert (read.array[:, :, :48] == IGNORED).all()
    assert read.notes == ("50.0% of the truth, value 128, is not annotated and does not count",)
    flipped = images.to_truth(stack(255 - partly(127)), truth_is="membrane", ignore_value=128)
    np.testing.assert_array_equal(flipped.array, read.array)


def test_all_counts_where_no_pixel_has_the_value():
    whole = (1 - cells()) * np.uint8(255)
    read = images.to_truth(stack(whole), ignore_value=128)
    np.testing.assert_array_equal(read.array, cells())
    assert "all of the truth counts" in read.notes[0]


def test_labels_of_which_a_part_is_annotated():
    labels = np.kron(np.arange(1, 17).reshape(4, 4), np.ones((24, 24))).astype(np.int32)[None]
    whole = images.to_truth(stack(labels), truth_is="labels")
    labels[:, :20] = 99
    read = images.to_truth(stack(labels), ignore_value=99)
    assert (read.array[:, :20] == IGNORED).all()
    assert (read.labels[:, :20] == 0).all()
    np.testing.assert_array_equal(read.array[:, 20:], whole.array[:, 20:])


def test_the_number_of_no_cell_may_be_what_is_not_annotated():
    labels = np.kron(np.arange(16).reshape(4, 4), np.ones((24, 24))).astype(np.uint64)[None]
    read = images.to_truth(stack(labels), truth_is="labels", ignore_value=0)
    np.testing.assert_array_equal(read.array == IGNORED, labels == 0)


@pytest.mark.parametrize(
    ("array", "options", "match"),
    [
        (partly(), {}, r"but for pixels of value 128; .* --ignore-value 128 .* --truth-is labels"),
        (partly(), {"ignore_value": 7}, r"but for pixels of value 128; .* --ignore-value 128"),
        (partly(), {"truth_is": "interior"}, "--ignore-value 128"),
        (np.full((1, 8, 8), 128, "u1"), {"ignore_value": 128}, "nothing is annotated, every pixel"),
        (np.eye(8, dtype="u1")[None], {"ignore_value": 1}, "every annotated pixel of the truth is"),
        (255 - partly(127), {"ignore_value": 128}, "looks inverted"),
        (np.repeat([[[0, 1, 2]]], 9, axis=2), {"truth_is": "interior"}, "--ignore-value V"),
    ],
)
def test_partial_truth_refusals(array, options, match):
    with pytest.raises(ImageError, match=match):
        images.to_truth(stack(array), **options)


def test_kinds_of_truth_are_known():
    with pytest.raises(InputError, match=r"--truth-is is one of auto, .*, not 'membranes'"):
        images.to_truth(stack(cells()), truth_is="membranes")


# --- the numbers of cells


def test_labels_keep_their_numbers_but_those_that_mean_none(tmp_path):
    labels = np.zeros((2, 8, 9), np.uint64)
    labels[:, :4], labels[:, 6:] = 7, 2**64 - 1
    tifffile.imwrite(tmp_path / "a.tif", labels, **PLAIN)
    read = images.read_labels(tmp_path / "a.tif")
    np.testing.assert_array_equal(read.array, np.where(labels == 7, 7, 0))
    assert read.array.dtype == np.uint64
    assert "mean no cell and were read as 0" in read.notes[-1]


def test_grey_values_are_no_labels(tmp_path):
    images.write_tiff(tmp_path / "a.tif", noise())
    with pytest.raises(ImageError, match=r"a.tif: this looks like grey values \(uint8\)"):
        images.read_labels(tmp_path / "a.tif")
    images.write_tiff(tmp_path / "b.tif", cells(), holds="membrane map")
    with pytest.raises(ImageError, match="says that it holds a membrane map; give cells"):
        images.read_labels(tmp_path / "b.tif")


@pytest.mark.parametrize(("shape", "said"), [((200, 180, 12), True), ((12, 200, 180), False)])
def test_sections_that_lie_crosswise_are_told(tmp_path, shape, said):
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", array, photometric="minisblack")
    notes = " ".join(images.read(tmp_path / "stack.tif").notes)
    assert ("200 × 180 × 12 are taken for 200 sections (Z, Y, X)" in notes) == said
