import errno
import hashlib
import json
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import numpy as np
import pytest

from axolemma import augment, augment_keras, augmentation, datasets
from axolemma.augmentation import augment_pairs
from axolemma.datasets import Pairs
from axolemma.errors import AxolemmaError, ImageError, InputError
from axolemma.images import read


def annotated(sections=3, shape=(48, 64)):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (sections, *shape)).astype(np.uint8)
    images = images // 2 + 40 * np.arange(sections, dtype=np.uint8)[:, None, None]
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    truth = np.stack([(rows + 3 * z) % 16 < 3 for z in range(sections)]) | (columns % 16 < 3)
    return Pairs("grid", images, truth.astype(np.uint8), (50, 4, 4), "ask the owner")


PAIRS = annotated()


def content(folder):
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


# --- what is written


@pytest.mark.parametrize(
    ("preset", "fill", "truth_is"),
    [
        ("keras", None, "auto"),
        ("keras-report", None, "interior"),
        ("keras", "mirror", "auto"),
        ("axolemma", None, "auto"),
        ("robust", None, "auto"),
    ],
)
def test_the_folder_is_a_dataset_of_these_pairs(tmp_path, preset, fill, truth_is):
    out = tmp_path / "pairs"
    manifest = augment_pairs(PAIRS, out, count=7, preset=preset, fill=fill)
    loaded = datasets.load(out, truth_is=truth_is)
    assert loaded.images.shape == (7, 48, 64)
    assert loaded.images.dtype == np.uint8
    assert sorted(content(out)) == sorted(
        ["contact.png", "manifest.json"]
        + [f"{part}/000{i}.png" for part in ("images", "truths") for i in range(7)]
    )
    for i, entry in enumerate(json.loads((out / "manifest.json").read_text())["pairs"]):
        assert entry == json.loads(json.dumps(manifest.pairs[i]))
        expected, drawn = replayed(manifest, entry)
        np.testing.assert_array_equal(loaded.images[i], expected)
        np.testing.assert_array_equal(loaded.truth[i], drawn)
        interior = read(out / "truths" / entry["name"]).array[0]
        np.testing.assert_array_equal(interior, np.where(drawn == 0, 255, 0))


def test_pairs_of_partly_annotated_sections(tmp_path):
    truth = PAIRS.truth.copy()
    truth[0], truth[1, 24:], truth[2:, :, :60] = 2, 2, 2
    partly = replace(PAIRS, truth=truth)
    drawn = augment_pairs(partly, tmp_path / "a", count=12, preset="axolemma", size=24)
    assert drawn.ignore_value == 128
    assert drawn.notes == ("nothing is annotated in 1 of 3 sections, left out",)
    assert 0 not in {pair["section"] for pair in drawn.pairs}
    loaded = datasets.load(tmp_path / "a")
    assert set(np.unique(loaded.truth)) == {0, 1, 2}
    # However little of a section is annotated, every pair shows some of it; whole sections too.
    assert (loaded.truth != 2).any(axis=(1, 2)).all()
    augment_pairs(partly, tmp_path / "b", count=40, preset="axolemma")
    assert (datasets.load(tmp_path / "b").truth != 2).any(axis=(1, 2)).all()
    truths = np.stack([read(file).array[0] for file in (tmp_path / "a" / "truths").glob("*.png")])
    assert set(np.unique(truths)) == {0, 128, 255}


def replayed(manifest, entry):
    """Make a pair again from what the manifest says of it alone."""
    image, truth = PAIRS.images[entry["section"]], PAIRS.truth[entry["section"]]
    drawn = {
        key: tuple(tuple(v) if isinstance(v, list) else v for v in value)
        if isinstance(value, list)
        else value
        for key, value in entry["parameters"].items()
    }
    if manifest.preset.startswith("keras"):
        parameters = augment_keras.Parameters(**drawn)
        return augment_keras.apply(image, truth, parameters, fill=manifest.fill)
    for name in ("elastic", "shading", "bands", "blots"):
        drawn[name] = np.array(entry["parameters"][name])
    normal = ((image - image.mean()) / image.std()).astype(np.float32)[None]
    crop, drawn_truth = augment.apply(normal, truth, augment.Parameters(**drawn))
    return np.clip(np.rint(crop[0] * image.std() + image.mean()), 0, 255), drawn_truth


def test_every_section_is_used_equally_often_and_its_variants_stand_together(tmp_path):
    manifest = augment_pairs(PAIRS, tmp_path / "a", count=8, first=10)
    assert [p["section"] for p in manifest.pairs] == [10, 10, 10, 11, 11, 11, 12, 12]
    assert [p["variant"] for p in manifest.pairs] == [0, 1, 2, 0, 1, 2, 0, 1]
    drawn = [json.dumps(p["parameters"]) for p in manifest.pairs]
    assert len(set(drawn)) == 8
    more = augment_pairs(PAIRS, tmp_path / "b", count=11, first=10)
    of = {(p["section"], p["variant"]): p["parameters"] for p in more.pairs}
    assert all(of[p["section"], p["variant"]] == p["parameters"] for p in manifest.pairs)
    few = augment_pairs(PAIRS, tmp_path / "c", count=2)
    assert [p["section"] for p in few.pairs] == [0, 1]


def test_one_seed_gives_the_same_bytes_on_any_number_of_processes(tmp_path):
    told = []
    for name, workers in [("one", 1), ("two", 2)]:
        augment_pairs(PAIRS, tmp_path / name, count=10, workers=workers, report=told.append)
    assert told == [1] * 20
    assert content(tmp_path / "one") == content(tmp_path / "two")
    augment_pairs(PAIRS, tmp_path / "other", count=10, seed=1)
    assert content(tmp_path / "one")["images/0000.png"] not in content(tmp_path / "other").values()


def test_the_manifest_tells_where_the_pairs_come_from(tmp_path):
    manifest = augment_pairs(PAIRS, tmp_path / "a", count=3, seed=5)
    told = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert told == json.loads(manifest.as_json())
    digest = hashlib.sha256(PAIRS.images.tobytes() + PAIRS.truth.tobytes()).hexdigest()
    assert told["sha256"] == digest
    expected = {"preset": "keras", "fill": "black", "seed": 5, "size": [48, 64], "source": "grid"}
    expected |= {"terms": "ask the owner", "voxel_size": [50, 4, 4], "truth_is": "interior"}
    assert {key: told[key] for key in expected} == expected
    assert told["settings"] == augment_keras.README_SETTINGS
    assert "counts as membrane" in told["notes"][0]
    free = augment_pairs(PAIRS, tmp_path / "b", count=3, preset="axolemma")
    assert (free.notes, free.fill) == ((), "mirror")
    assert free.settings["turn"] == 0.7


@pytest.mark.parametrize(("count", "rows", "across"), [(2, 1, 2), (5, 2, 4), (30, 6, 4)])
def test_the_contact_sheet_shows_pairs_from_first_to_last(tmp_path, count, rows, across):
    augment_pairs(PAIRS, tmp_path / "a", count=count)
    sheet = augmentation._contact_sheet  # what the file holds is in colour, which read refuses
    names = [f"{i:04}.png" for i in range(count)][:24]
    picture = sheet(tmp_path / "a", names)
    # A cell: image, a gap of 2, image with its truth; sections of 64 columns are not shrunk.
    assert picture.shape == (48 * rows + 8 * (rows - 1), 130 * across + 8 * (across - 1), 3)
    first = read(tmp_path / "a" / "images" / "0000.png").array[0]
    np.testing.assert_array_equal(picture[:48, :64], np.repeat(first[..., None], 3, axis=2))
    truth = read(tmp_path / "a" / "truths" / "0000.png").array[0]
    orange = picture[:48, 66:130].astype(int)
    assert (orange[truth == 0][:, 0] > orange[truth == 0][:, 2] + 100).all()
    assert (orange[truth == 255][:, 0] == orange[truth == 255][:, 2]).all()
    assert (tmp_path / "a" / "contact.png").stat().st_size > 1000


def test_large_sections_are_shrunk_on_the_contact_sheet(tmp_path):
    large = annotated(1, (400, 200))  # to a third: 400 / 192, rounded up
    augment_pairs(large, tmp_path / "a", count=1)
    assert augmentation._contact_sheet(tmp_path / "a", ["0000.png"]).shape == (133, 134, 3)


def test_axolemma_cuts_crops_of_a_size(tmp_path):
    manifest = augment_pairs(PAIRS, tmp_path / "a", count=2, preset="axolemma", size=32)
    assert manifest.size == (32, 32)
    assert datasets.load(tmp_path / "a").images.shape == (2, 32, 32)


def test_changes_of_contrast_survive(tmp_path, monkeypatch):
    plain = dict.fromkeys(("turn", "noise", "blur", "gamma", "shading", "bands", "blots"), 0)
    monkeypatch.setitem(augmentation.SETTINGS, "axolemma", plain)
    manifest = augment_pairs(PAIRS, tmp_path / "a", count=6, preset="axolemma", workers=1)
    for image, entry in zip(datasets.load(tmp_path / "a").images, manifest.pairs, strict=True):
        source, drawn = PAIRS.images[entry["section"]], entry["parameters"]
        # The same pixels but for what the border mirrors, so gain and offset can be read off.
        assert image.std() / source.std() == pytest.approx(drawn["gain"], rel=0.05)
        brighter = (image.mean() - source.mean()) / source.std()
        assert brighter == pytest.approx(drawn["offset"], abs=0.05)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_other_grey_values_are_stretched_alike_and_it_is_said(tmp_path, dtype):
    images = PAIRS.images.astype(dtype) * 100
    manifest = augment_pairs(replace(PAIRS, images=images), tmp_path / "a", count=3)
    assert manifest.notes[0].startswith(f"{np.dtype(dtype)} grey values were stretched from ")
    low, high = np.percentile(images, (0.1, 99.9))
    expected = np.rint(np.clip((images - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    again = augment_pairs(replace(PAIRS, images=expected), tmp_path / "b", count=3)
    for entry in again.pairs:
        name = f"images/{entry['name']}"
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


# --- whole or not at all


def test_a_folder_that_is_there(tmp_path):
    out = tmp_path / "new" / "pairs"
    augment_pairs(PAIRS, out, count=2)
    before = content(out)
    with pytest.raises(InputError, match=r"pairs: this is there already; .* or say --overwrite"):
        augment_pairs(PAIRS, out, count=3)
    assert content(out) == before
    augment_pairs(PAIRS, out, count=3, overwrite=True)
    assert len(datasets.load(out, truth_is="interior")) == 3
    (out / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="this is there already; choose a new folder or remove it"):
        augment_pairs(PAIRS, out, count=2, overwrite=True)
    (tmp_path / "empty").mkdir()
    augment_pairs(PAIRS, tmp_path / "empty", count=2)
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    augment_pairs(PAIRS, tmp_path / "link", count=3, overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert len(list((tmp_path / "empty" / "images").iterdir())) == 3
    assert {p.name for p in tmp_path.iterdir()} == {"new", "empty", "link"}


@pytest.mark.parametrize(
    ("error", "expected", "match"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt, None),
        (OSError(errno.ENOSPC, "No space left on device"), AxolemmaError, "cannot be written, no"),
        (PermissionError(errno.EACCES, "Permission denied"), InputError, "permission denied; ch"),
    ],
)
def test_an_interruption_leaves_nothing_and_keeps_what_was(tmp_path, error, expected, match):
    def stop(_):
        raise error

    with pytest.raises(expected, match=match):
        augment_pairs(PAIRS, tmp_path / "new" / "pairs", count=4, report=stop)
    assert list(tmp_path.iterdir()) == []
    augment_pairs(PAIRS, tmp_path / "old", count=2)
    before = content(tmp_path / "old")
    with pytest.raises(expected):
        augment_pairs(PAIRS, tmp_path / "old", count=4, overwrite=True, report=stop)
    assert content(tmp_path / "old") == before
    assert [p.name for p in tmp_path.iterdir()] == ["old"]


def test_what_a_kill_left_is_cleared_away(tmp_path):
    (tmp_path / ".a.partial" / "images").mkdir(parents=True)
    (tmp_path / ".a.partial" / "images" / "9999.png").write_text("half")
    augment_pairs(PAIRS, tmp_path / "a", count=2)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert len(list((tmp_path / "a" / "images").iterdir())) == 2


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"file: this is there already"):
        augment_pairs(PAIRS, tmp_path / "file", count=2, overwrite=True)
    with pytest.raises(InputError, match=r"pairs: cannot be written, not a directory; choose"):
        augment_pairs(PAIRS, tmp_path / "file" / "pairs", count=2)


def test_a_process_that_is_killed(tmp_path, monkeypatch):
    class Pool:
        def __init__(self, *args, **kwargs):
            pass

        def map(self, *args, **kwargs):
            raise BrokenProcessPool

        def shutdown(self, **kwargs):
            pass

    monkeypatch.setattr(augmentation, "ProcessPoolExecutor", Pool)
    with pytest.raises(AxolemmaError, match=r"ended unexpectedly, .* or 1 to stay in one process"):
        augment_pairs(PAIRS, tmp_path / "a", count=2, workers=2)
    assert list(tmp_path.iterdir()) == []


# --- what cannot be


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"preset": "kears"}, "unknown preset 'kears'; did you mean 'keras'"),
        ({"preset": "x"}, "unknown preset 'x'; known: axolemma, keras, keras-report"),
        ({"count": 0}, "count must be at least 1, not 0"),
        ({"seed": -1}, "seed must be at least 0, not -1"),
        ({"workers": -2}, "workers must be at least 1, not -2"),
        ({"workers": 0}, "workers must be at least 1, not 0"),
        ({"size": 32}, "preset keras keeps the sections' size, 48 × 64; leave size out"),
        ({"size": 8, "preset": "axolemma"}, "size must be at least 16 pixels, not 8"),
        ({"fill": "black", "preset": "axolemma"}, "axolemma mirrors .* has no fill 'black'"),
        ({"fill": "blakc"}, "unknown fill 'blakc'; did you mean 'black'"),
    ],
)
def test_options_that_cannot_be(tmp_path, options, match):
    with pytest.raises(InputError, match=match):
        augment_pairs(PAIRS, tmp_path / "a", **options)
    assert list(tmp_path.iterdir()) == []


def test_sections_that_cannot_be(tmp_path):
    flat = PAIRS.images.copy()
    flat[1] = 7
    for pairs, kind, match in [
        (replace(PAIRS, images=flat), ImageError, r"grid: section 11 is constant"),
        (replace(PAIRS, images=np.where(flat == 7, np.nan, flat)), ImageError, "NaN or infinite"),
        (replace(PAIRS, truth=PAIRS.truth * 255), InputError, "a truth is 1 = membrane and 0"),
        (annotated(2, (9, 64)), InputError, "in 2 sections of 9 × 64 pixels; sides must be"),
        (
            replace(PAIRS, truth=np.where(PAIRS.truth, 1, 2).astype(np.uint8)),
            InputError,
            "not all is annotated, which preset keras cannot leave out; take preset axolemma",
        ),
        (replace(PAIRS, truth=np.full_like(PAIRS.truth, 2)), InputError, "nothing is annotated"),
        (Pairs("none", PAIRS.images[:0], PAIRS.truth[:0]), InputError, "augment in 0 sections"),
    ]:
        with pytest.raises(kind, match=match):
            augment_pairs(pairs, tmp_path / "a", count=2, first=10)
    assert list(tmp_path.iterdir()) == []
