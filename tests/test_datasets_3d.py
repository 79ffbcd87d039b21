"""Public volumes whose truth is 3D, by path: tiny files in the layouts of CREMI and SNEMI3D."""

import json

import h5py
import numpy as np
import pytest
import tifffile

from axolemma import datasets, images
from axolemma.datasets import cremi, folder, snemi3d
from axolemma.datasets.pairs import Pairs
from axolemma.errors import ImageError, InputError
from axolemma.evaluation import evaluate_stacks, read_proposal
from axolemma.labels import IGNORED, distinct, label_borders, renumbered

SHAPE = (4, 96, 96)
NEURON_IDS = "/volumes/labels/neuron_ids"


@pytest.fixture(scope="module")
def tissue():
    """Return a phantom: its image, and its neurons without membrane between, as CREMI draws."""
    block = datasets.phantom(SHAPE)
    neurons = block.neurons
    for _ in range(12):  # numbers grow over the membranes
        for axis in (1, 2):
            for step in (1, -1):
                neurons = np.where(neurons == 0, np.roll(neurons, step, axis), neurons)
    return block.image, renumbered(neurons, distinct(neurons)).astype(np.uint64)


def sample(path, raw, ids, *, offset=None, resolution=(40.0, 4.0, 4.0), raw_offset=None):
    """Write a sample as the challenge's files are laid out."""
    with h5py.File(path, "w") as file:
        for name, array, place in [("/volumes/raw", raw, raw_offset), (NEURON_IDS, ids, offset)]:
            if array is None:
                continue
            node = file.create_dataset(name, data=array, compression="gzip", chunks=True)
            if resolution is not None:
                node.attrs["resolution"] = resolution
            if place is not None:
                node.attrs["offset"] = place
        if ids is not None:
            file.create_dataset("/volumes/labels/clefts", data=np.full_like(ids, 2**64 - 1))
        file.create_dataset("/annotations/ids", data=np.arange(6, dtype=np.uint64))
        file.create_dataset("/annotations/locations", data=np.zeros((6, 3)))
        file.attrs["file_format"] = "0.2"
    return path


# --- CREMI


def test_cremi_sample(tmp_path, tissue):
    raw, ids = tissue
    path = sample(tmp_path / "sample_A_20160501.hdf", raw, ids)
    for pairs in (datasets.load(path), datasets.load(str(path))):
        np.testing.assert_array_equal(pairs.images, raw)
        np.testing.assert_array_equal(pairs.labels, ids)
        np.testing.assert_array_equal(pairs.truth, label_borders(ids))
        assert (pairs.labels.dtype, pairs.truth.dtype) == (np.uint32, np.uint8)
        assert (pairs.name, pairs.voxel_size) == ("sample_A_20160501", (40, 4, 4))
        assert "cremi.org" in pairs.terms
        assert pairs.notes == (
            "labels were read as interior, and 0 and one pixel where two labels touch as membrane",
        )
    stack = datasets.load_images(path)
    np.testing.assert_array_equal(stack.array, raw)
    assert (stack.voxel_size, stack.notes) == ((40, 4, 4), ())


def test_padded_cremi_sample_is_cropped_to_its_labels(tmp_path, tissue):
    raw, ids = tissue
    padded = np.pad(raw, ((2, 3), (10, 5), (7, 9)), mode="reflect")
    place = np.array([2 * 40.0, 10 * 4, 7 * 4])
    path = sample(tmp_path / "padded.hdf", padded, ids, offset=place)
    pairs = datasets.load(path)
    np.testing.assert_array_equal(pairs.images, raw)
    np.testing.assert_array_equal(pairs.labels, ids)
    assert pairs.notes[0] == (
        "the raw volume (9, 111, 112) is larger than its labels and was cropped to them,"
        " (4, 96, 96) from voxel (2, 10, 7) on"
    )
    np.testing.assert_array_equal(datasets.load_images(path).array, raw)
    whole = datasets.load_images(f"{path}:/volumes/raw")
    np.testing.assert_array_equal(whole.array, padded)
    # Both may be told from an origin outside of either.
    path = sample(tmp_path / "b.hdf", padded, ids, offset=place + 400, raw_offset=[400.0] * 3)
    np.testing.assert_array_equal(datasets.load(path).images, raw)


def test_cremi_numbers_that_mean_none_and_high_ones(tmp_path, tissue):
    raw, ids = tissue
    ids = ids.copy()
    ids[:, :24], ids[0, 50:, :10] = 2**64 - 1, 0
    pairs = datasets.load(sample(tmp_path / "a.hdf", raw, ids))
    np.testing.assert_array_equal(pairs.labels, np.where(ids == 2**64 - 1, 0, ids))
    assert pairs.truth[:, :24].all()
    assert pairs.notes[0].startswith("the number 2^64 - 1 and its neighbours mean no cell")
    share = (pairs.labels == 0).mean()
    assert pairs.notes[-1] == (
        f"{share:.1%} of the voxels have no neuron's number and count as membrane;"
        " --ignore-value 0 leaves voxels of number 0 out"
    )
    partial = datasets.load(tmp_path / "a.hdf", ignore_value=0)
    np.testing.assert_array_equal(partial.truth == IGNORED, ids == 0)
    np.testing.assert_array_equal(partial.truth[ids != 0], pairs.truth[ids != 0])
    high = datasets.load(
        sample(tmp_path / "b.hdf", raw, np.where(ids == 2**64 - 1, ids, ids << np.uint64(33)))
    )
    assert "too high for 32 bits and were numbered anew from 1" in high.notes[1]
    np.testing.assert_array_equal(high.truth, pairs.truth)
    np.testing.assert_array_equal(high.labels > 0, (ids > 0) & (ids < 2**64 - 1))


def test_cremi_without_resolution(tmp_path, tissue):
    raw, ids = tissue
    pairs = datasets.load(sample(tmp_path / "a.hdf", raw, ids, resolution=None))
    assert pairs.voxel_size == (40, 4, 4)
    assert (
        pairs.notes[0] == "the file does not tell the voxel size; CREMI's, 40 x 4 x 4 nm, was taken"
    )


def test_cremi_test_sample_has_images_only(tmp_path, tissue):
    path = sample(tmp_path / "sample_A+.hdf", tissue[0], None)
    assert datasets.load_images(path).array.shape == SHAPE
    assert cremi.is_sample(path)
    assert not datasets.holds_truth(path)
    with pytest.raises(
        ImageError, match=r"sample_A\+.hdf: no annotated CREMI sample, /volumes/lab"
    ):
        datasets.load(path)


def test_cremi_refusals(tmp_path, tissue):
    raw, ids = tissue
    for name, options in [("far", {"offset": [40.0, 0, 0]}), ("between", {"offset": [0.0, 2, 0]}),
                          ("before", {"offset": [-40.0, 0, 0]})]:  # fmt: skip
        path = sample(tmp_path / f"{name}.hdf", raw, ids, **options)
        for load in (datasets.load, datasets.load_images):
            with pytest.raises(
                ImageError, match=r"hdf: the labels \(4, 96, 96\) at .* nm do not lie"
            ):
                load(path)
    path = sample(tmp_path / "sizes.hdf", raw, ids)
    with h5py.File(path, "a") as file:
        file["/volumes/raw"].attrs["resolution"] = [50.0, 4, 4]
    with pytest.raises(
        ImageError, match=r"voxels of two sizes, \(50.0, 4.0, 4.0\) and \(40.0, 4.0,"
    ):
        datasets.load(path)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = raw
    with pytest.raises(
        ImageError, match=r"other.h5: no annotated CREMI sample, /volumes/raw and /v"
    ):
        datasets.load(tmp_path / "other.h5")
    with pytest.raises(InputError, match=r"sizes.hdf:/volumes/raw: is one array, where images and"):
        datasets.load(f"{path}:/volumes/raw")
    with pytest.raises(InputError, match=r"no dataset or folder named '.*none.hdf'"):
        datasets.load(tmp_path / "none.hdf")
    with pytest.raises(ImageError, match=r"the truth holds \d+ values where interior and membrane"):
        datasets.load(sample(tmp_path / "a.hdf", raw, ids), truth_is="interior")


# --- SNEMI3D


def snemi(path, raw, ids, **options):
    path.mkdir()
    tifffile.imwrite(path / "train-input.tif", raw, photometric="minisblack", **options)
    tifffile.imwrite(path / "train-labels.tif", ids.astype("u2"), photometric="minisblack")
    return path


def test_snemi3d_folder(tmp_path, tissue):
    raw, ids = tissue
    path = snemi(tmp_path / "snemi", raw, ids)
    pairs = datasets.load(path)
    np.testing.assert_array_equal(pairs.images, raw)
    np.testing.assert_array_equal(pairs.labels, ids)
    np.testing.assert_array_equal(pairs.truth, label_borders(ids))
    assert (pairs.name, pairs.voxel_size) == ("snemi3d train", (30, 6, 6))
    assert "Kasthuri" in pairs.terms
    assert pairs.notes[0] == (
        "the file does not tell the voxel size; SNEMI3D's, 30 x 6 x 6 nm, was taken"
    )
    np.testing.assert_array_equal(datasets.load_images(path).array, raw)
    assert datasets.holds_truth(path)


def test_snemi3d_keeps_the_size_in_its_file(tmp_path, tissue):
    path = snemi(tmp_path / "snemi", *tissue)
    images.write_tiff(path / "train-input.tif", tissue[0], voxel_size=(29, 6, 6))
    assert snemi3d.load(path).voxel_size == pytest.approx((29, 6, 6))


def test_snemi3d_refusals(tmp_path, tissue):
    raw, ids = tissue
    path = snemi(tmp_path / "snemi", raw, ids[1:])
    with pytest.raises(
        ImageError, match=r"train-labels.tif: the truth has the shape \(3, 96, 96\)"
    ):
        datasets.load(path)
    (path / "train-labels.tif").unlink()
    assert not datasets.holds_truth(path)
    with pytest.raises(ImageError, match="no truth found; looked for"):
        datasets.load(path)


# --- labels beside the truth


def test_pairs_keep_labels_through_slices(tissue):
    raw, ids = tissue
    truth, ids = label_borders(ids).astype(np.uint8), ids.astype(np.uint32)
    pairs = Pairs("a", raw, truth, labels=ids)
    np.testing.assert_array_equal(pairs.slices(range(1, 3)).labels, ids[1:3])
    assert Pairs("a", raw, truth).slices(range(1, 3)).labels is None
    with pytest.raises(InputError, match=r"a: truth and labels must have one shape, got \(4, 96,"):
        Pairs("a", raw, truth, labels=ids[1:])


def test_phantom_knows_its_neurons():
    pairs = datasets.phantom_pairs((2, 64, 64))
    np.testing.assert_array_equal(pairs.labels == 0, pairs.truth == 1)
    np.testing.assert_array_equal(pairs.labels, datasets.phantom((2, 64, 64)).neurons)


def test_folder_of_volumes_keeps_labels_and_tells_files_apart(tmp_path, tissue):
    raw, ids = tissue
    for name, part in [("a", np.s_[:2]), ("b", np.s_[2:])]:
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["data"] = raw[part]
            file["data"].attrs["element_size_um"] = [0.04, 0.004, 0.004]
        with h5py.File(tmp_path / f"{name}-labels.h5", "w") as file:
            file["data"] = ids[part]
    pairs = datasets.load(tmp_path)
    np.testing.assert_array_equal(pairs.images, raw)
    np.testing.assert_array_equal(pairs.truth, label_borders(ids))
    assert pairs.voxel_size == pytest.approx((40, 4, 4))
    assert not set(np.unique(pairs.labels[:2])) & set(np.unique(pairs.labels[2:]))
    assert len(np.unique(pairs.labels[2:])) == len(np.unique(ids[2:]))
    images.write_tiff(tmp_path / "b-labels.tif", (1 - pairs.truth[2:]) * np.uint8(255))
    (tmp_path / "b-labels.h5").unlink()
    assert folder.load(tmp_path).labels is None


# --- evaluation


def test_truth_of_64_bits_scores_3d_neurons_and_2d_cells(tmp_path, tissue):
    raw, ids = tissue
    path = sample(
        tmp_path / "a.hdf", raw, np.where(ids == ids[0, 0, 0], 2**64 - 1, ids + np.uint64(2**40))
    )
    truth = images.read_truth(f"{path}:{NEURON_IDS}")
    assert truth.labels.max() < 1000
    assert truth.holds == "membrane truth"
    proposal = read_proposal(f"{path}:{NEURON_IDS}")
    assert proposal.array.dtype == np.uint32
    assert "numbered anew" in proposal.notes[-1]
    found = evaluate_stacks(proposal, truth)
    assert found.read_as == "labels, 0 = membrane (the file says it holds neurons)"
    assert found.suite.stack["v_rand_3d"] == 1
    assert found.suite.stack["voi_cremi_split_3d"] == pytest.approx(0)
    assert found.suite.mean("cell_f1") == 1


def test_cremi_from_training_to_scores(call, tmp_path, tissue):
    raw, ids = tissue
    sample(
        tmp_path / "sample_A.hdf", np.pad(raw, ((1, 1), (4, 4), (4, 4))), ids, offset=[40.0, 16, 16]
    )
    code, out, err = call(
        *("train", "--data", "sample_A.hdf", "--slices", "0-2", "--steps", 2, "--width", 4),
        *("--crop", 64, "--batch", 1, "-o", "run"),
    )
    assert code == 0, err
    assert "note: the raw volume (6, 104, 104) is larger than its labels" in err
    code, out, err = call("segment", "sample_A.hdf", "--model", "run", "-o", "out", "--json")
    assert code == 0, err
    assert json.loads(out)["voxel_size"] == [40, 4, 4]
    told = {}
    for truth in ("sample_A.hdf", f"sample_A.hdf:{NEURON_IDS}"):
        for proposal in ("out", "out/cells.tif"):
            code, out, err = call("evaluate", proposal, truth, "--json")
            assert code == 0, err
            told[truth, proposal] = json.loads(out)["all"]
            assert "note: labels were read as interior" in err
    for proposal in ("out", "out/cells.tif"):
        one, other = (
            told[truth, proposal] for truth in ("sample_A.hdf", f"sample_A.hdf:{NEURON_IDS}")
        )
        assert one == other
        assert ("v_rand_3d" in one["stack"]) == (proposal != "out")
    code, _, err = call("evaluate", "out", "sample_A.hdf", "--errors", "errors")
    assert code == 0, err
    assert (tmp_path / "errors" / "section-003.png").is_file()
    code, _, err = call("evaluate", "out", "sample_A.hdf:/volumes/labels")
    assert code == 2
    assert "sample_A.hdf: 2 datasets could be meant: /volumes/labels/clefts" in err
