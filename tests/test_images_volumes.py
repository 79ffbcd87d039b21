"""HDF5 and MRC: real files, and one sentence for each that cannot be used."""

import pickle
import sys

import h5py
import mrcfile
import numpy as np
import pytest

from axolemma import images
from axolemma.errors import ImageError, InputError
from axolemma.geometry import Box
from axolemma.images.numbers import numbered
from axolemma.labels import distinct, renumbered


def noise(shape=(5, 12, 13), dtype="uint8", seed=0):
    return np.random.default_rng(seed).integers(0, 120, shape).astype(dtype)


def hdf5(path, **datasets):
    """Write arrays; a pair is an array and its attributes."""
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            array, attributes = value if isinstance(value, tuple) else (value, {})
            file.create_dataset(name.replace("__", "/"), data=array)
            file[name.replace("__", "/")].attrs.update(attributes)
    return path


# --- HDF5


@pytest.mark.parametrize("dtype", ["u1", "u2", "u8", "i1", "i4", ">i2", "f2", "f4", ">f8"])
@pytest.mark.parametrize("suffix", ["h5", "hdf5", "HDF"])
def test_hdf5_types_and_sections(tmp_path, dtype, suffix):
    path = hdf5(tmp_path / f"a.{suffix}", data=noise(dtype=dtype))
    for sections in (None, [3, 1], range(2, 4)):
        read = images.read(f"{path}:/data", sections=sections)
        assert read.array.dtype == np.dtype(dtype).newbyteorder("=")
        np.testing.assert_array_equal(
            read.array, noise()[slice(None) if sections is None else sections]
        )
        assert (read.source, read.notes) == (f"{path}:/data", ())


def test_hdf5_the_only_volume_is_found(tmp_path):
    table = np.zeros((4, 3))
    path = hdf5(tmp_path / "a.h5", volumes__raw=noise(), annotations__locations=table, name="text")
    for name in (path, f"{path}:/volumes", f"{path}:volumes/"):
        read = images.read(name)
        np.testing.assert_array_equal(read.array, noise())
        assert read.source == f"{path}:/volumes/raw"
        assert read.notes == (
            "the file's only 3D dataset there, /volumes/raw (5 x 12 x 13 uint8), was read",
        )
    assert images.read(f"{path}:annotations/locations").array.shape == (1, 4, 3)


def test_hdf5_compressed_chunks_and_odd_shapes(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=noise(), chunks=(2, 8, 8), compression="gzip")
        file["exported"] = noise()[None, ..., None]
        file["mask"] = noise() > 60
    assert images.read(f"{path}:/data", sections=[4, 0]).array.tolist() == noise()[[4, 0]].tolist()
    exported = images.read(f"{path}:/exported", sections=[1])
    np.testing.assert_array_equal(exported.array, noise()[1:2])
    assert exported.notes == ("axes of length 1 were left out of the shape (1, 5, 12, 13, 1)",)
    mask = images.read(f"{path}:/mask")
    np.testing.assert_array_equal(mask.array, (noise() > 60) * np.uint8(255))
    assert mask.notes == ("1-bit pixels were read as 0 and 255",)


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ({"resolution": [40.0, 4, 5]}, (40, 4, 5)),
        ({"resolution": np.array([40, 4, 5])}, (40, 4, 5)),
        ({"element_size_um": [0.04, 0.004, 0.005]}, (40, 4, 5)),
        ({}, None),
        ({"resolution": [0.0, 4, 4]}, None),
        ({"resolution": [4.0, 4.0]}, None),
        ({"element_size_um": "small"}, None),
        ({"resolution": [np.nan, 4, 4]}, None),
    ],
)
def test_hdf5_voxel_size(tmp_path, attributes, size):
    read = images.read(hdf5(tmp_path / "a.h5", data=(noise(), attributes)))
    assert read.voxel_size == (None if size is None else pytest.approx(size))
    assert any("is not three lengths ZYX" in note for note in read.notes) == (
        size is None and bool(attributes)
    )


def test_hdf5_datasets_are_told_without_reading(tmp_path):
    told = images.hdf5_datasets(
        hdf5(tmp_path / "a.h5", raw=(noise(), {"resolution": [40, 4, 4], "offset": [80, 8, 0]}))
    )
    assert list(told) == ["/raw"]
    assert (told["/raw"].shape, told["/raw"].dtype) == ((5, 12, 13), np.uint8)
    assert (told["/raw"].voxel_size, told["/raw"].offset) == ((40, 4, 4), (80, 8, 0))


def test_hdf5_refusals(tmp_path):
    path = hdf5(
        tmp_path / "a.h5",
        raw=noise(),
        labels=noise(dtype="u8"),
        movie=noise((2, 3, 4, 5)),
        complex=noise(dtype="c8"),
        empty=np.zeros((0, 4, 4), "u1"),
        line=np.zeros(4),
        words=np.array([b"a", b"b"]),
    )
    for inside, match in [
        ("", r"a.h5: 2 datasets could be meant: /labels \(5 x 12 x 13 uint64\), /raw \(5"
         r" x 12 x 13 uint8\); name one, as in a.h5:/labels$"),
        (":/movie", r"a.h5:/movie: the dataset has the shape \(2, 3, 4, 5\), uint8, where .* ZYX"),
        (":/complex", r"shape \(5, 12, 13\), complex64, where numbers"),
        (":/line", r"shape \(4,\), float64, where numbers"),
        (":/words", r"shape \(2,\), \|S1, where numbers"),
        (":/empty", r"a.h5:/empty: the dataset is empty, its shape is \(0, 4, 4\)"),
        (":/row", r"a.h5: there is no dataset '/row' in the file; did you mean '/raw'\?"),
    ]:  # fmt: skip
        with pytest.raises(ImageError, match=match):
            images.read(f"{path}{inside}")
    with pytest.raises(InputError, match=r"a.h5:/raw: section 5 does not exist; there are 5"):
        images.read(f"{path}:/raw", sections=[5])
    flat = hdf5(tmp_path / "b.h5", group__table=np.zeros((4, 3)))
    with pytest.raises(ImageError, match=r"b.h5: no 3D dataset of numbers is in it: /group/table"):
        images.read(flat)
    with pytest.raises(ImageError, match=r"b.h5:/group: no 3D dataset of numbers is in it"):
        images.read(f"{flat}:/group")
    with pytest.raises(ImageError, match=r"c.h5: no 3D dataset of numbers is in it; save"):
        images.read(hdf5(tmp_path / "c.h5"))
    many = hdf5(tmp_path / "d.h5", **{f"s{i}": noise((2, 3, 4)) for i in range(9)})
    with pytest.raises(ImageError, match=r"9 datasets could be meant: .* /s5 .* and 3 more; name"):
        images.read(many)
    with pytest.raises(ImageError, match=r"e.h5: does not exist"):
        images.read(tmp_path / "e.h5:/raw")
    with pytest.raises(ImageError, match=r"e.h5: does not exist"):
        images.hdf5_datasets(tmp_path / "e.h5")


def test_hdf5_files_that_are_none(tmp_path):
    path = hdf5(tmp_path / "a.h5", raw=noise((5, 64, 64)))
    whole = path.read_bytes()
    for cut in (len(whole) // 3, len(whole) - 20):
        path.write_bytes(whole[:cut])
        with pytest.raises(ImageError, match=r"a.h5: cannot be read, the file is cut short"):
            images.read(path)
    path.write_bytes(b"")
    with pytest.raises(ImageError, match=r"a.h5: the file is empty"):
        images.read(path)
    path.write_bytes(b"some text that is no image\n")
    with pytest.raises(ImageError, match=r"the name says HDF5 but the content is text"):
        images.read(path)
    (tmp_path / "a.tif").write_bytes(whole)
    with pytest.raises(ImageError, match=r"the name says TIFF but the content is HDF5"):
        images.read(tmp_path / "a.tif")


def test_hdf5_behind_a_page_of_another_program(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=512) as file:
        file["data"] = noise()
    np.testing.assert_array_equal(images.read(tmp_path / "a.h5").array, noise())


def test_hdf5_boxes_by_chunks(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        raw = file.create_dataset("raw", data=noise(dtype=">u2"), chunks=(2, 8, 8))
        raw.attrs["resolution"] = [40, 4, 4]
        file["exported"] = noise()[None, ..., None]
        file["mask"] = noise() > 60
        file["section"] = noise()[0]
        file["empty"] = np.zeros((0, 4, 4), "u1")
    box = Box((1, 3, 7), (4, 12, 13))
    for name, block, expected in [
        ("raw", (2, 8, 8), noise(dtype="u2")),
        ("exported", (1, 12, 13), noise()),
        ("mask", (1, 12, 13), (noise() > 60) * np.uint8(255)),
    ]:
        volume = images.open_volume(f"{path}:/{name}")
        assert (volume.block, volume.shape, volume.dtype) == (block, (5, 12, 13), expected.dtype)
        np.testing.assert_array_equal(volume.read(box), expected[box.slices])
        assert volume.read(box).dtype.isnative
        assert pickle.loads(pickle.dumps(volume)) == volume
        assert volume.notes == images.read(f"{path}:/{name}").notes
    assert images.open_volume(f"{path}:/raw").voxel_size == (40, 4, 4)
    section = images.open_volume(f"{path}:/section")
    np.testing.assert_array_equal(section.read(Box((0, 3, 0), (1, 5, 9))), noise()[:1, 3:5, :9])
    with pytest.raises(ImageError, match=r"a.h5:/empty: the dataset is empty"):
        images.open_volume(f"{path}:/empty")
    with pytest.raises(ImageError, match=r"a.h5:/raw: a dataset has no levels"):
        images.open_volume(f"{path}:/raw", level=1)


def bdv(path, *, setups=1):
    with h5py.File(path, "w") as file:
        for setup in range(setups):
            file[f"s{setup:02}/resolutions"] = [[1.0, 1, 1], [2, 2, 1]]
            for level in range(2):
                file[f"t00000/s{setup:02}/{level}/cells"] = noise(dtype="i2")[
                    :, :: level + 1, :: level + 1
                ] - np.int16(1)
    path.with_suffix(".xml").write_text(
        "<SpimData><SequenceDescription><ViewSetups><ViewSetup><id>0</id><voxelSize><unit>um</unit>"
        "<size>0.004 0.005 0.04</size></voxelSize></ViewSetup></ViewSetups></SequenceDescription>"
        "</SpimData>"
    )
    return path


def test_hdf5_of_bigdataviewer(tmp_path):
    path = bdv(tmp_path / "a.h5")
    grey = (noise(dtype="i2") - np.int16(1)).view(np.uint16)
    stack, volume = images.read(path), images.open_volume(path)
    np.testing.assert_array_equal(stack.array, grey)
    np.testing.assert_array_equal(volume.read(Box.of((5, 12, 13))), grey)
    assert stack.notes == volume.notes == ("BigDataViewer's numbers were read as 0 to 65535",)
    assert stack.voxel_size == volume.voxel_size == pytest.approx((40, 5, 4))
    coarse = images.open_volume(f"{path}:/t00000/s00", level=1)
    assert (coarse.shape, coarse.voxel_size) == ((5, 6, 7), pytest.approx((40, 10, 8)))
    with pytest.raises(ImageError, match="level 2 does not exist; there are 0-1"):
        images.open_volume(path, level=2)
    (tmp_path / "a.xml").write_text("<")
    assert images.open_volume(path).voxel_size is None
    with pytest.raises(ImageError, match="4 datasets could be meant"):
        images.open_volume(bdv(tmp_path / "b.h5", setups=2))


def test_stacks_have_one_level(tmp_path):
    images.write_tiff(tmp_path / "a.tif", noise())
    for path in (tmp_path / "a.tif", hdf5(tmp_path / "a.h5", raw=noise())):
        with pytest.raises(ImageError, match="level 1 does not exist; the file has no pyramid"):
            images.open_volume(path, level=1)


def test_hdf5_of_an_unknown_compression(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((5, 12, 13))
        plan.set_filter(32123, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple((5, 12, 13))
        h5py.h5d.create(file.id, b"data", h5py.h5t.NATIVE_UINT8, space, plan)
    with pytest.raises(ImageError, match=r"a.h5:/data: it is compressed by the filter 32123"):
        images.read(path)


@pytest.mark.parametrize(
    ("text", "file", "inside"),
    [
        ("a.h5", "a.h5", ""),
        ("a.h5:/x/y", "a.h5", "/x/y"),
        ("b/a.HDF:x/y/", "b/a.HDF", "/x/y"),
        ("b/a.hdf5:\\x\\y", "b/a.hdf5", "/x/y"),
        ("C:a.tif", "C:a.tif", ""),
        ("a.h5.tif", "a.h5.tif", ""),
    ],
)
def test_split_inside(text, file, inside):
    found = images.split_inside(text)
    assert (str(found[0]), found[1]) == (file, inside)


# --- MRC


def mrc(path, array, **header):
    """Write an MRC file and set fields of its header."""
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(array)
        for name, value in header.items():
            file.header[name] = value
    return path


def voxel(path, *, x, y, z):
    with mrcfile.open(path, mode="r+") as file:
        file.voxel_size = (x, y, z)
    return path


@pytest.mark.parametrize("dtype", ["i1", "i2", "u2", "f2", "f4"])
@pytest.mark.parametrize("suffix", ["mrc", "rec", "map"])
def test_mrc_modes_and_sections(tmp_path, dtype, suffix):
    path = mrc(tmp_path / f"a.{suffix}", noise(dtype=dtype))
    for sections in (None, [3, 1]):
        read = images.read(path, sections=sections)
        assert read.array.dtype == np.dtype(dtype)
        assert read.array.dtype.isnative
        np.testing.assert_array_equal(
            read.array, noise()[slice(None) if sections is None else sections]
        )
        assert (read.source, read.notes) == (str(path), ())
    with pytest.raises(InputError, match="section 5 does not exist; there are 5 sections"):
        images.read(path, sections=[5])


def test_mrc_of_one_image(tmp_path):
    read = images.read(mrc(tmp_path / "a.mrc", noise((12, 13), "f4")))
    np.testing.assert_array_equal(read.array, noise((1, 12, 13)))


def test_mrc_voxel_size(tmp_path):
    path = mrc(tmp_path / "a.mrc", noise(dtype="f4"))
    assert images.read(voxel(path, x=40, y=50, z=500)).voxel_size == pytest.approx((50, 5, 4))
    read = images.read(voxel(path, x=1, y=1, z=1))
    assert read.voxel_size is None
    assert read.notes == ("a voxel of 1 Å stands for one that is not known, and was not used",)
    read = images.read(voxel(path, x=4, y=4, z=0))
    assert read.voxel_size is None
    assert "is incomplete, no voxel size was taken" in read.notes[0]


@pytest.mark.parametrize(
    ("mapc", "mapr", "maps", "axes"),
    [(1, 2, 3, "ZYX"), (2, 1, 3, "ZXY"), (3, 2, 1, "XYZ"), (2, 3, 1, "XZY"), (1, 3, 2, "YZX")],
)
def test_mrc_axes_become_zyx(tmp_path, mapc, mapr, maps, axes):
    zyx = noise()
    stored = zyx.transpose(["ZYX".index(axis) for axis in axes]).astype("f4")
    path = mrc(tmp_path / "a.mrc", np.ascontiguousarray(stored), mapc=mapc, mapr=mapr, maps=maps)
    read = images.read(path)
    np.testing.assert_array_equal(read.array, zyx)
    assert read.array.flags.c_contiguous
    np.testing.assert_array_equal(images.read(path, sections=[2]).array, zyx[2:3])
    expected = (
        () if axes == "ZYX" else (f"the file's axes are {axes}; they were put into the order ZYX",)
    )
    assert read.notes == expected


def test_mrc_axes_without_meaning(tmp_path):
    read = images.read(mrc(tmp_path / "a.mrc", noise(dtype="f4"), mapc=0, mapr=0, maps=0))
    np.testing.assert_array_equal(read.array, noise())
    assert "order of axes [0, 0, 0] means nothing" in read.notes[0]


def imod(path, flags):
    """Put IMOD's stamp and flags where IMOD puts them."""
    data = bytearray(path.read_bytes())
    data[152:160] = np.array([1146047817, flags], "<i4").tobytes()
    path.write_bytes(data)
    return path


def test_mrc_bytes_may_be_signed_or_not(tmp_path):
    grey = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    signed = grey.view(np.int8)
    path = mrc(tmp_path / "a.mrc", signed)
    for written, expected, note in [
        (path, signed, "as the MRC standard has them; if grey values look torn"),
        (mrc(tmp_path / "b.mrc", signed, dmax=255), grey, "the header gives 255 as the highest"),
        (imod(mrc(tmp_path / "c.mrc", signed), 0), grey, "0 to 255, as IMOD's flag"),
        (imod(mrc(tmp_path / "d.mrc", signed), 1), signed, "as signed, as IMOD's flag"),
    ]:
        read = images.read(written)
        assert read.array.dtype == expected.dtype
        np.testing.assert_array_equal(read.array, expected)
        assert len(read.notes) == 1
        assert note in read.notes[0]


def test_mrc_refusals(tmp_path):
    path = mrc(tmp_path / "a.mrc", noise(dtype="f4"))
    whole = path.read_bytes()
    for cut in (300, 1024, 2000, len(whole) - 4):
        path.write_bytes(whole[:cut])
        with pytest.raises(ImageError, match=r"a.mrc: .*the file is cut short or damaged"):
            images.read(path)
    path.write_bytes(bytes(2000))
    with pytest.raises(ImageError, match="says MRC but the content is neither TIFF, PNG, JPEG, HD"):
        images.read(path)
    with pytest.raises(ImageError, match="its pixels are complex numbers, a Fourier transform"):
        images.read(mrc(path, noise(dtype="c8")))
    with pytest.raises(ImageError, match=r"a stack of 2 volumes, shape \(2, 3, 4, 5\); save one"):
        images.read(mrc(path, noise((2, 3, 4, 5), "f4")))
    with pytest.raises(ImageError, match="pixels of the MRC mode 3 are not read"):
        images.read(mrc(path, noise(dtype="f4"), mode=3))


def test_mrc_that_breaks_a_small_rule_is_read_with_a_note(tmp_path):
    path = mrc(tmp_path / "a.mrc", noise(dtype="f4"))
    path.write_bytes(path.read_bytes() + bytes(12))
    read = images.read(path)
    np.testing.assert_array_equal(read.array, noise())
    assert "the MRC is not quite well-formed: " in read.notes[0]


# --- the packages may be missing


@pytest.mark.parametrize(("suffix", "package"), [("h5", "h5py"), ("mrc", "mrcfile")])
def test_missing_packages_are_named(tmp_path, monkeypatch, suffix, package):
    path = tmp_path / f"a.{suffix}"
    (hdf5 if suffix == "h5" else mrc)(
        path, **({"a": noise()} if suffix == "h5" else {"array": noise(dtype="f4")})
    )
    monkeypatch.setitem(sys.modules, package, None)
    extra = {"h5": "hdf5", "mrc": "mrc"}[suffix]
    match = (
        rf"a.{suffix}: to read it needs the package {package}; pip install 'axolemma\[{extra}\]'"
    )
    with pytest.raises(ImageError, match=match):
        images.read(path)


# --- numbers of cells


def test_numbers_are_kept_where_32_bits_hold_them():
    labels = np.array([[[0, 5, 2**32 - 1]]])
    for dtype in (np.int64, np.uint64, np.uint32):
        found, notes = numbered(labels.astype(dtype), "a")
        assert found.dtype == np.uint32
        assert (found.tolist(), notes) == (labels.tolist(), ())


def test_reserved_and_high_numbers():
    labels = np.array([[[0, 5, 2**64 - 1], [2**64 - 3, 7, 5]]], np.uint64)
    found, notes = numbered(labels, "a")
    assert found.tolist() == [[[0, 5, 0], [0, 7, 5]]]
    assert notes == ("the number 2^64 - 1 and its neighbours mean no cell and were read as 0",)
    labels[0, 1, 1] = 2**40
    found, notes = numbered(labels, "a")
    assert found.tolist() == [[[0, 1, 0], [0, 2, 1]]]
    assert notes[1] == "2 labels are too high for 32 bits and were numbered anew from 1"
    with pytest.raises(ImageError, match="a: there are negative labels, the lowest -2"):
        numbered(np.array([[[-2, 1]]]), "a")


def test_renumbering():
    labels = np.array([[[9, 4, 0]], [[100, 9, 3]]])
    assert distinct(labels).tolist() == [0, 3, 4, 9, 100]
    assert renumbered(labels, np.array([4, 9])).tolist() == [[[2, 1, 0]], [[0, 2, 0]]]
    assert renumbered(labels, np.array([], int)).max() == 0
