import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from axolemma import models
from axolemma.calibration import Calibration
from axolemma.datasets import phantom_pairs
from axolemma.errors import AxolemmaError, InputError, SettingsError
from axolemma.images import Stack, read
from axolemma.labels import COLOUR_SEED
from axolemma.modelfile import Model, ModelInfo, load_model, save_model
from axolemma.objects import segment_cells
from axolemma.pictures import cells_over, colours, grey, membrane_over, preview, side_by_side
from axolemma.predict import membrane_map
from axolemma.segmentation import segment, segment_stack
from axolemma.settings import SegmentSettings
from axolemma.uncertainty import uncertainty_map


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    arguments = {"width": 4, "depth": 2}
    network = models.build("resunet", **arguments).eval()
    info = ModelInfo(
        architecture="resunet",
        arguments=arguments,
        voxel_size=(50, 4, 4),
        threshold=0.4,
    )
    return Model(network, info, "made")


@pytest.fixture
def run(model, tmp_path):
    (tmp_path / "run").mkdir()
    save_model(tmp_path / "run" / "model.safetensors", model.network, model.info)
    return tmp_path / "run"


@pytest.fixture(scope="module")
def tissue():
    pairs = phantom_pairs((3, 96, 80))
    return Stack(pairs.images, (0, 255), pairs.voxel_size, "tissue.tif")


def test_cells_by_hand():
    membrane = np.ones((2, 3, 5), np.float32)
    membrane[0, :, :2] = 0.4
    membrane[0, 1, 3:] = 0.1
    membrane[1, 0, 0] = 0.0
    membrane[1, 1, 1] = 0.0  # touches the other one by a corner only
    expected = np.zeros((2, 3, 5), int)
    expected[0, :, :2] = 1
    expected[0, 1, 3:] = 2
    expected[1, 0, 0] = 3
    expected[1, 1, 1] = 4
    np.testing.assert_array_equal(segment_cells(membrane, method="threshold"), expected)
    # 1 - 0.4 is not above 0.6: the comparison is that of the scores.
    assert segment_cells(membrane, method="threshold", threshold=0.6)[0].max() == 1


def test_a_section_and_a_stack_agree(model, tissue):
    stack = segment(tissue.array, model=model)
    section = segment(tissue.array[0], model=model)
    assert stack.threshold == 0.4
    assert section.membrane.shape == (96, 80)
    np.testing.assert_array_equal(section.membrane, stack.membrane[0])
    np.testing.assert_array_equal(section.cells, stack.cells[0])
    assert segment(tissue.array[0], model=model, objects="none").cells is None
    with pytest.raises(InputError, match=r"not shape \(2, 3, 96, 80\)"):
        segment(np.zeros((2, 3, 96, 80)), model=model)


@pytest.mark.parametrize("bits", [8, 32])
def test_what_a_folder_holds(run, tissue, tmp_path, bits):
    settings = SegmentSettings(model=str(run), slices="1-2", bits=bits, precision="fp32")
    result, record = segment_stack(tissue, settings, tmp_path / "out")
    assert {f.name for f in (tmp_path / "out").iterdir()} == {
        "membrane.tif",
        "cells.tif",
        "preview.png",
        "run.json",
    }
    membrane, cells = (read(tmp_path / "out" / f"{name}.tif") for name in ("membrane", "cells"))
    assert membrane.holds == "membrane map"
    assert membrane.voxel_size == pytest.approx((50, 4, 4))
    assert membrane.info == {"threshold": 0.4, "sections": [1, 2]}
    if bits == 32:
        np.testing.assert_array_equal(membrane.array, result.membrane)
    else:
        assert membrane.array.dtype == np.uint8
        np.testing.assert_allclose(membrane.array / 255, result.membrane, atol=0.5 / 255 + 1e-7)
    assert cells.holds == "cells"
    assert cells.array.dtype == np.uint16
    np.testing.assert_array_equal(cells.array, result.cells)
    assert record == json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["input"]["sections"] == [1, 2]
    assert record["cells"] == result.cells.max()
    assert record["threshold"] == 0.4
    assert len(record["input"]["sha256"]) == len(record["model"]["weights_sha256"]) == 64
    with tifffile.TiffFile(tmp_path / "out" / "membrane.tif") as file:
        assert file.is_imagej
    with Image.open(tmp_path / "out" / "preview.png") as picture:
        assert picture.size == (3 * 80 + 2 * 8, 96)


def test_a_calibrated_map_has_the_same_cells_and_scores(model, tissue, tmp_path):
    info = model.info.model_copy(update={"calibration": Calibration(0.5, -1.5)})
    save_model(tmp_path / "model.safetensors", model.network, info)
    settings = {"model": str(tmp_path / "model.safetensors"), "average": "dihedral"}
    plain, _ = segment_stack(tissue, SegmentSettings(**settings), tmp_path / "plain")
    assert plain.calibration == (0.5, -1.5)
    assert read(tmp_path / "plain" / "membrane.tif").info["calibration"] == [0.5, -1.5]
    chosen = SegmentSettings(**settings, calibrated=True)
    found, record = segment_stack(tissue, chosen, tmp_path / "calibrated")
    written = read(tmp_path / "calibrated" / "membrane.tif")
    assert found.calibration is None
    np.testing.assert_allclose(written.array, Calibration(0.5, -1.5)(plain.membrane))
    np.testing.assert_array_equal(found.cells, plain.cells)
    assert record["threshold"] == found.threshold == written.info["threshold"]
    # 1 - .4 are log-odds of .405; half of that less 1.5 is -1.297, .2146 as a probability.
    assert found.threshold == pytest.approx(1 - 0.2146, abs=1e-4)
    off = np.abs(1 - plain.membrane - 0.4) > 1e-5
    interior = [1 - result.membrane > result.threshold for result in (plain, found)]
    np.testing.assert_array_equal(interior[0][off], interior[1][off])
    assert "calibration" not in written.info


def test_a_model_that_is_not_calibrated_says_so(model, tissue):
    with pytest.raises(SettingsError, match=r"holds no calibration, as.*train anew"):
        segment(tissue.array, model=model, calibrated=True)


def test_the_uncertainty_of_a_map_is_written_beside_it(run, tissue, tmp_path):
    array = tissue.array.copy()
    array[1] = 0
    blank = Stack(array, (0, 255), tissue.voxel_size, "blank.tif")
    settings = SegmentSettings(model=str(run), uncertainty=True, bad_sections="mask", bits=8)
    found, _ = segment_stack(blank, settings, tmp_path / "out")
    written = read(tmp_path / "out" / "uncertainty.tif")
    assert written.holds == "uncertainty"
    np.testing.assert_array_equal(written.array, found.uncertainty)
    np.testing.assert_array_equal(
        found.uncertainty[2], uncertainty_map(found.membrane[2], smoothing=1)
    )
    assert not found.uncertainty[1].any()
    assert segment(array[0], model=run, uncertainty=True).uncertainty.shape == (96, 80)
    assert segment(array[0], model=run).uncertainty is None


def test_many_cells_take_more_bits(run, tissue, tmp_path, monkeypatch):
    many = np.arange(tissue.array.size, dtype=np.uint32).reshape(tissue.array.shape) * 7
    monkeypatch.setattr("axolemma.objects.segment_cells", lambda *_, **__: many)
    segment_stack(tissue, SegmentSettings(model=str(run)), tmp_path / "out")
    np.testing.assert_array_equal(read(tmp_path / "out" / "cells.tif").array, many)


def test_an_existing_folder_is_left_alone(run, tissue, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="there already; choose a new folder or remove it"):
            segment_stack(
                tissue, SegmentSettings(model=str(run)), tmp_path / "out", overwrite=overwrite
            )
    assert [f.name for f in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_an_earlier_segmentation_is_replaced_when_asked(run, tissue, tmp_path):
    settings = SegmentSettings(model=str(run), objects="none")
    segment_stack(tissue, SegmentSettings(model=str(run)), tmp_path / "out")
    with pytest.raises(InputError, match="or say --overwrite"):
        segment_stack(tissue, settings, tmp_path / "out")
    assert (tmp_path / "out" / "cells.tif").exists()
    segment_stack(tissue, settings, tmp_path / "out", overwrite=True)
    # As a kill leaves it between the old results' leaving and the new ones' coming.
    (tmp_path / "out").rename(tmp_path / ".out.old")
    with pytest.raises(InputError, match="say --overwrite"):
        segment_stack(tissue, settings, tmp_path / "out")
    assert (tmp_path / "out/run.json").is_file()
    assert not (tmp_path / "out" / "cells.tif").exists()
    assert sorted(f.name for f in tmp_path.iterdir()) == ["out", "run"]


def test_other_files_are_never_replaced(run, tissue, tmp_path):
    out = tmp_path / "out"
    segment_stack(tissue, SegmentSettings(model=str(run)), out)
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="or remove it"):
        segment_stack(tissue, SegmentSettings(model=str(run)), out, overwrite=True)
    assert (out / "thesis.txt").read_text() == "mine"
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "run.json").write_text("{}")
    with pytest.raises(InputError, match="or remove it"):
        segment_stack(tissue, SegmentSettings(model=str(run)), tmp_path / "foreign", overwrite=True)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"average": "dihedrals"}, "average"),
        ({"objects": "axons"}, "objects"),
        ({"method": "watershed"}, "method"),
        ({"boundary": 1}, "boundary"),
        ({"precision": "int4"}, "precision"),
        ({"threshold": 7}, "threshold"),
    ],
)
def test_options_are_checked_in_python_too(model, tissue, options, match):
    with pytest.raises(InputError, match=match):
        segment(tissue.array, model=model, **options)
    with pytest.raises(InputError, match="real numbers, not complex128"):
        segment(tissue.array.astype(complex), model=model)


def test_a_failure_leaves_nothing(run, tissue, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("axolemma.segmentation.write_png", full)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(AxolemmaError, match="no space left on device"):
        segment_stack(tissue, SegmentSettings(model=str(run)), tmp_path / "a" / "b" / "out")
    assert sorted(tmp_path.iterdir()) == before


def test_pixels_of_another_size_are_brought_to_the_models(run, tissue, tmp_path):
    settings = SegmentSettings(model=str(run), voxel_size=(50, 8, 8))
    found, record = segment_stack(tissue, settings, tmp_path / "out")
    assert record["voxel_size"] == [50, 8, 8]
    note = "pixels of 8 nm and the model learned at 4 nm: the sections were resized by 2 for it"
    assert any(note in told for told in record["input"]["notes"])
    assert found.membrane.shape == tissue.array.shape
    assert record["magnification"] == 2
    model = load_model(run)
    twice = membrane_map(model.network, tissue.array, magnification=2, average="half-turn")
    np.testing.assert_array_equal(found.membrane, np.stack(list(twice)))
    assert (found.membrane != segment(tissue.array, model=model).membrane).mean() > 0.5


@pytest.mark.parametrize(
    ("size", "learned", "note"),
    [
        (None, (50, 4, 4), "not known and taken for the model's, 4 nm; say --voxel-size"),
        ((50, 4, 4), None, "the model does not tell the pixel size it learned at"),
        (None, None, None),
    ],
)
def test_pixels_of_a_size_that_is_not_told(run, tissue, tmp_path, size, learned, note):
    model = load_model(run)
    info = model.info.model_copy(update={"voxel_size": learned})
    save_model(tmp_path / "m.safetensors", model.network, info)
    stack = Stack(tissue.array, (0, 255), size, "silent.tif")
    settings = SegmentSettings(model=str(tmp_path / "m.safetensors"))
    _, record = segment_stack(stack, settings, tmp_path / "out")
    told = [words for words in record["input"]["notes"] if "pixel size" in words]
    assert len(told) == (note is not None)
    assert all(note in words for words in told)


@pytest.mark.parametrize("size", ["50,8", (8, 8), (50, -8, -8)])
def test_a_voxel_size_that_is_none(run, tissue, size):
    with pytest.raises(SettingsError, match=r"'voxel_size': .*three lengths Z,Y,X"):
        segment(tissue.array, model=run, voxel_size=size)


@pytest.mark.parametrize("side", [0.9, 17])
def test_pixels_of_an_impossible_size(run, tissue, side):
    with pytest.raises(InputError, match=r"too far apart to be true; give the right voxel_size"):
        segment(tissue.array, model=run, voxel_size=(50, side, side))


@pytest.mark.parametrize("side", [4, 4.15, None])
def test_pixels_of_the_models_size_stay(run, tissue, side):
    size = None if side is None else (50, side, side)
    same = segment(tissue.array, model=run, voxel_size=size)
    np.testing.assert_array_equal(same.membrane, segment(tissue.array, model=run).membrane)


def test_bright_membranes_are_inverted_and_said_so(run, tissue, tmp_path):
    settings = SegmentSettings(model=str(run))
    dark, told = segment_stack(tissue, settings, tmp_path / "dark")
    assert (told["polarity"], dark.polarity) == ("dark", "dark")
    assert not any("bright" in note for note in told["input"]["notes"])
    bright = Stack(255 - tissue.array, (0, 255), tissue.voxel_size, "inverted.tif")
    found, told = segment_stack(bright, settings, tmp_path / "bright")
    assert found.polarity == told["polarity"] == "bright"
    assert (
        "the membranes look bright, so the grey values were inverted" in told["input"]["notes"][-1]
    )
    np.testing.assert_allclose(found.membrane, dark.membrane, atol=1e-5)


def test_a_polarity_can_be_insisted_on(run, tissue):
    inverted = 255 - tissue.array[:1]
    as_told = segment(inverted, model=run, polarity="dark")
    assert as_told.polarity == "dark"
    assert abs(as_told.membrane - segment(inverted, model=run).membrane).max() > 0.01
    with pytest.raises(SettingsError, match="'polarity'"):
        segment(inverted, model=run, polarity="inverted")


def test_bad_sections_are_refused_unless_masked(run, tissue, tmp_path):
    array = tissue.array.astype(np.float32)
    array[1] = 3
    blank = Stack(array, (0, 255), tissue.voxel_size, "blank.tif")
    message = "section 1 is constant, .* leave it out or replace it, or say --bad-sections mask"
    with pytest.raises(InputError, match=message):
        segment_stack(blank, SegmentSettings(model=str(run)), tmp_path / "out")
    with pytest.raises(InputError, match="section 1: all pixels of a section are 3"):
        segment(array, model=run)
    settings = SegmentSettings(model=str(run), bad_sections="mask", slices="1-2")
    found, record = segment_stack(blank, settings, tmp_path / "out")
    assert found.masked == (0,)
    assert (found.membrane[0] == 1).all()
    assert not found.cells[0].any()
    assert "masked: section 1; there is membrane everywhere" in record["input"]["notes"][-1]
    alone = segment(array[2:], model=run)
    np.testing.assert_array_equal(found.membrane[1:], alone.membrane)
    array[0, 5, 6] = np.nan
    found = segment(array, model=run, bad_sections="mask")
    assert found.masked == (0, 1)
    with pytest.raises(InputError, match="every section is blank or holds NaN"):
        segment(array[:2], model=run, bad_sections="mask")
    with pytest.raises(SettingsError, match="'bad_sections'"):
        segment(array, model=run, bad_sections="skip")


def test_a_model_with_context_looks_past_masked_sections(tissue):
    torch.manual_seed(0)
    arguments = {"width": 4, "depth": 2, "in_channels": 3}
    info = ModelInfo(architecture="resunet", arguments=arguments, context=1, threshold=0.5)
    model = Model(models.build("resunet", **arguments).eval(), info, "made")
    array = tissue.array.copy()
    array[1] = 0
    found = segment(array, model=model, threshold=0.5, bad_sections="mask", objects="none")
    without = segment(array[[0, 2]], model=model, threshold=0.5, objects="none")
    np.testing.assert_array_equal(found.membrane[[0, 2]], without.membrane)


def test_neurons_go_on_across_a_masked_section():
    array = phantom_pairs((5, 160, 160)).images.copy()
    array[2] = 128
    options = {"objects": "neurons", "average": "none", "bad_sections": "mask"}
    neurons = segment(array, voxel_size=(50, 4, 4), **options).neurons
    assert not neurons[2].any()
    after = neurons[3][neurons[3] > 0]
    assert np.isin(after, neurons[1]).mean() > 0.8


def test_colours_are_stable_and_apart():
    row = colours(np.arange(50))
    assert row[0].tolist() == [0, 0, 0]
    assert len({tuple(c) for c in row.tolist()}) == 50
    np.testing.assert_array_equal(colours(np.array([[7, 3]]))[0], row[[7, 3]])
    assert row[1:].max(axis=1).min() > 180
    steps = np.abs(np.diff(row[1:].astype(int), axis=0)).sum(axis=1)
    assert steps.min() > 60
    # Of 64 bits, too.
    large = colours(np.array([2**40 + 7, 7, 2**64 - 1], np.uint64))
    assert len({tuple(c) for c in large.tolist()}) == 3


def test_a_pixel_size_without_a_thickness_is_used(tissue, run, tmp_path):
    """By the learned 4 nm sections of 8 nm are enlarged by 2; nobody knows their thickness."""
    coarse = replace(tissue, voxel_size=None, pixel_size=(8.0, 8.0))
    found, record = segment_stack(coarse, SegmentSettings(model=str(run)), tmp_path / "out")
    assert found.enlargement == 2
    assert record["voxel_size"] is None
    assert read(tmp_path / "out" / "membrane.tif").voxel_size is None
    told = SegmentSettings(model=str(run), voxel_size=(50, 4, 4))
    assert segment_stack(coarse, told, tmp_path / "told")[0].enlargement == 1


def test_hot_and_dead_pixels_change_little(tissue):
    section = 8000 + tissue.array[0].astype(np.uint16)
    spiked = section.copy()
    spiked[::37, ::29] = 65535
    spiked[10::41, 3::31] = 0
    plain, found = (segment(s, model="neurites", objects="none") for s in (section, spiked))
    assert np.abs(found.membrane - plain.membrane).mean() < 0.02


def test_colours_are_those_of_neuroglancer():
    segment_colors = pytest.importorskip("neuroglancer.segment_colors")
    for label in (1, 2, 255, 256, 70_000, 2**32 + 5, 2**63 + 11):
        told = segment_colors.hex_string_from_segment_id(COLOUR_SEED, label)
        assert "#" + bytes(colours(np.array(label, np.uint64))).hex() == told


def test_pictures():
    section = np.linspace(-3, 5, 20 * 30).reshape(20, 30)
    shown = grey(section)
    assert (shown.min(), shown.max()) == (0, 255)
    assert (np.diff(shown.ravel().astype(int)) >= 0).all()
    assert (grey(np.full((4, 4), 7)) == 0).all()
    nothing = membrane_over(section, np.zeros((20, 30)))
    np.testing.assert_array_equal(nothing, np.repeat(shown[..., None], 3, axis=2))
    np.testing.assert_array_equal(cells_over(section, np.zeros((20, 30), int)), nothing)
    assert side_by_side(shown, nothing, gap=5).shape == (20, 65, 3)
    assert preview(section, np.zeros((20, 30)), None, largest=10).shape == (10, 28, 3)


def test_integers_only_where_they_say_the_same(monkeypatch):
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    from axolemma import compiled

    image = phantom_pairs((2, 512, 512)).images
    options = {"model": "neurites", "average": "none", "device": "cpu", "objects": "none"}
    exact = segment(image, precision="fp32", **options)
    fast = segment(image, precision="int8", **options)
    assert fast.precision == "int8"
    assert "in 8-bit integers" in fast.parity
    assert np.abs(fast.membrane - exact.membrane).mean() < 0.01
    assert (fast.membrane != exact.membrane).any()
    monkeypatch.setattr(compiled, "MOST_CHANGED", -1.0)
    refused = segment(image, precision="int8", **options)
    assert refused.precision in ("fp32", "bf16")
    assert refused.parity.startswith("not in 8-bit integers, since on")
    if refused.precision == "fp32":
        np.testing.assert_array_equal(refused.membrane, exact.membrane)


def test_hash_and_bytes_take_no_copy_but_are_the_same(model, tmp_path):
    file = tmp_path / "model.safetensors"
    save_model(file, model.network, model.info)
    array = phantom_pairs((3, 96, 80)).images[:, ::2]
    stack = Stack(array, (0, 255), (50, 4, 4), "stack.tif")
    settings = SegmentSettings(model=str(file), objects="none", bits=8, slices="1-2")
    result, record = segment_stack(stack, settings, tmp_path / "out")
    assert record["input"]["sha256"] == hashlib.sha256(array[1:].tobytes()).hexdigest()
    written = read(tmp_path / "out" / "membrane.tif").array
    np.testing.assert_array_equal(written, np.rint(result.membrane * 255).astype(np.uint8))
