import hashlib
import io
import re
import threading
import zipfile
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from axolemma import images
from axolemma.datasets import download, folder, isbi2012, open_images
from axolemma.datasets.pairs import Pairs, folds
from axolemma.errors import DownloadError, ImageError, InputError
from axolemma.geometry import Box


def noise(sections=3, size=48, seed=0):
    shape = (sections, size, size)
    return np.random.default_rng(seed).integers(0, 250, shape).astype(np.uint8)


def drawn(sections=3, size=48):
    """Return a truth, 255 = interior."""
    line = np.arange(size) % 16 < 3
    return np.repeat(np.where(line[:, None] | line, 0, 255)[None], sections, 0).astype(np.uint8)


# --- pairs and folds


def test_pairs_slices_are_views():
    pairs = Pairs("a", noise(5), (drawn(5) == 0).astype(np.uint8), (50, 4, 4), "terms")
    part = pairs.slices(range(1, 3))
    assert len(pairs) == 5
    assert len(part) == 2
    assert part.images.base is pairs.images
    assert (part.voxel_size, part.terms) == ((50, 4, 4), "terms")
    for which in (range(0), range(3, 6), range(0, 4, 2), range(-1, 2)):
        with pytest.raises(InputError, match="no contiguous part of the 5"):
            pairs.slices(which)


def test_pairs_of_two_shapes():
    with pytest.raises(InputError, match="a: images and truth must be ZYX of one shape"):
        Pairs("a", noise(5), drawn(4))


@given(st.integers(2, 60), st.data())
def test_folds_cover_every_section_once(count, data):
    k = data.draw(st.integers(2, count))
    blocks = folds(count, k)
    assert len(blocks) == k
    assert [i for block in blocks for i in block] == list(range(count))
    assert all(0 <= len(a) - len(b) <= 1 for a, b in pairwise(blocks))


@pytest.mark.parametrize("k", [0, 1, 31])
def test_folds_refuse(k):
    with pytest.raises(InputError, match=rf"30 sections cannot be cut into {k} folds"):
        folds(30, k)


# --- folders of pairs


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        images.write_png(path, array[0])
    else:
        tifffile.imwrite(path, array, photometric="minisblack")


@pytest.mark.parametrize(
    ("image_names", "truth_names"),
    [
        (["images/a.tif", "images/b.tif"], ["truth/a.tif", "truth/b-labels.tif"]),
        (["images/s2.png", "images/s10.png"], ["membranes/s2.png", "membranes/s10.png"]),
        (["image/image_1.png", "image/image_2.png"], ["label/label_1.png", "label/label_2.png"]),
        (["raw/0.tif", "raw/1.png"], ["Masks/0.tif", "Masks/1.png"]),
        (["a.tif", "b.tif"], ["a_truth.tif", "b-labels.tif"]),
        (["a.tif", "b.tif"], ["annotations/a.tif", "annotations/b.tif"]),
        (["train-volume.tif"], ["train-labels.tif"]),
        (["em_stack.tif"], ["em_stack-labels.tif"]),
        (["stack.tif"], ["mask.tif"]),
        (["a.ome.tif"], ["a-gt.ome.tif"]),
    ],
)
def test_folder_layouts(tmp_path, image_names, truth_names):
    for seed, (image, truth) in enumerate(zip(image_names, truth_names, strict=True)):
        save(tmp_path / image, noise(1, seed=seed))
        save(tmp_path / truth, drawn(1))
    pairs = folder.load(tmp_path)
    expected = [noise(1, seed=seed) for seed in range(len(image_names))]
    np.testing.assert_array_equal(pairs.images, np.concatenate(expected))
    np.testing.assert_array_equal(pairs.truth, drawn(len(image_names)) == 0)
    assert (pairs.name, pairs.notes, pairs.terms) == (tmp_path.name, (), "")


def test_folder_of_stacks_is_put_in_a_row(tmp_path):
    for name, sections in [("s10", 2), ("s9", 3)]:
        images.write_tiff(tmp_path / f"{name}.tif", noise(sections), voxel_size=(50, 4, 4))
        images.write_tiff(tmp_path / f"{name}-truth.tif", drawn(sections))
    pairs = folder.load(tmp_path)
    np.testing.assert_array_equal(pairs.images, np.concatenate([noise(3), noise(2)]))
    assert pairs.voxel_size == (50, 4, 4)


def test_folder_judges_the_truth_of_single_sections_together(tmp_path):
    for number, truth in enumerate([drawn(1), np.full((1, 48, 48), 255, np.uint8)]):
        save(tmp_path / f"images/{number}.png", noise(1))
        save(tmp_path / f"truth/{number}.png", truth)
    assert folder.load(tmp_path).truth[1].max() == 0


def test_folder_says_what_was_converted_and_mends_polarity(tmp_path):
    save(tmp_path / "a.tif", noise())
    save(tmp_path / "a-truth.tif", 255 - drawn())
    with pytest.raises(ImageError, match=r"a-truth.tif: the truth looks inverted"):
        folder.load(tmp_path)
    pairs = folder.load(tmp_path, truth_is="membrane")
    np.testing.assert_array_equal(pairs.truth, drawn() == 0)
    tifffile.imwrite(tmp_path / "a.tif", 255 - noise(), photometric="miniswhite")
    assert (
        "a.tif: the file says that 0 is white"
        in folder.load(tmp_path, truth_is="membrane").notes[0]
    )


def test_folder_says_when_a_pair_has_two_names(tmp_path):
    save(tmp_path / "images/monday.tif", noise())
    save(tmp_path / "truth/tuesday.tif", drawn())
    (note,) = folder.load(tmp_path).notes
    assert note.endswith("tuesday.tif is taken for the truth of monday.tif")


def test_folder_leaves_the_test_part_out(tmp_path):
    for part in ("train", "test"):
        save(tmp_path / f"{part}-volume.tif", noise())
        save(tmp_path / f"{part}-labels.tif", drawn())
    pairs = folder.load(tmp_path)
    assert len(pairs) == 3
    assert [re.sub(".*/", "", note) for note in pairs.notes] == [
        "test-volume.tif was left out",
        "test-labels.tif was left out",
    ]


def test_folder_refusals(tmp_path):
    with pytest.raises(ImageError, match="is no folder"):
        folder.load(tmp_path / "missing")
    with pytest.raises(ImageError, match="no images or truth found; looked for the subfolders"):
        folder.load(tmp_path)
    save(tmp_path / "a.tif", noise())
    with pytest.raises(ImageError, match="no truth found; looked for"):
        folder.load(tmp_path)
    save(tmp_path / "a-truth.tif", drawn())
    save(tmp_path / "b.tif", noise())
    save(tmp_path / "c_mask.tif", drawn())
    with pytest.raises(
        ImageError,
        match=r"2 images and 2 truths do not pair by name; without a truth: b.tif;"
        r" without an image: c_mask.tif; give a pair one name",
    ):
        folder.load(tmp_path)
    save(tmp_path / "a_labels.tif", drawn())
    with pytest.raises(ImageError, match=r"a_labels.tif: and a-truth.tif claim the same place"):
        folder.load(tmp_path)
    save(tmp_path / "labels/a.tif", drawn())
    save(tmp_path / "masks/a.tif", drawn())
    with pytest.raises(ImageError, match=r"labels/ and masks/ could each be meant"):
        folder.load(tmp_path)


def test_folder_shapes_must_agree(tmp_path):
    save(tmp_path / "a.tif", noise())
    save(tmp_path / "a-truth.tif", drawn(2))
    with pytest.raises(ImageError, match=r"a-truth.tif: the truth has the shape \(2, 48, 48\)"):
        folder.load(tmp_path)
    save(tmp_path / "a-truth.tif", drawn())
    save(tmp_path / "b.tif", noise(3, 32))
    save(tmp_path / "b-truth.tif", drawn(3, 32))
    with pytest.raises(ImageError, match=r"b.tif: its sections are \(32, 32\) uint8, those of"):
        folder.load(tmp_path)


# --- the challenge's data, from a server on this machine

FILES = {
    "train-volume.tif": noise(seed=1),
    "train-labels.tif": drawn(),
    "test-volume.tif": noise(seed=2),
}
HASHES = {name: hashlib.sha256(a.tobytes()).hexdigest() for name, a in FILES.items()}


def archive(files=FILES, prefix="../../ISBI/"):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for name, array in files.items():
            page = io.BytesIO()
            tifffile.imwrite(page, array, photometric="minisblack")
            file.writestr(prefix + name, page.getvalue())
        file.writestr("__MACOSX/._train-volume.tif", b"x")
    return packed.getvalue()


@contextmanager
def server(*answers, ranges=True):
    """Serve one (content, bytes before the line breaks or None) a request, the last for ever."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            content, cut = answers[min(len(asked), len(answers) - 1)]
            asked.append(self.headers["Range"])
            if isinstance(content, int):
                self.send_error(content)
                return
            start = int(re.sub(r"\D", "", asked[-1])) if ranges and asked[-1] else 0
            if start and start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                place = f"bytes {start}-{len(content) - 1}/{len(content)}"
                self.send_header("Content-Range", place)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:cut])

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{served.server_port}/ISBI-2012-challenge.zip", asked
        finally:
            served.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path_factory):
    """Keep the tests away from the user's cache, settings and proxies."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setattr(isbi2012.platformdirs, "user_cache_path", lambda name: home / name)
    monkeypatch.delenv("AXOLEMMA_DATA", raising=False)
    monkeypatch.delenv("AXOLEMMA_ISBI2012_URL", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    return home / "axolemma" / "isbi2012"


def fetch(url, cache):
    isbi2012.fetch_archive(cache, url=url, hashes=HASHES, pause=0)


def assert_fetched(cache, names=tuple(FILES)):
    assert sorted(p.name for p in cache.iterdir()) == sorted(names)
    for name in FILES:
        np.testing.assert_array_equal(images.read(cache / name).array, FILES[name])


def test_load_fetches_once_and_states_the_terms(monkeypatch, alone, capsys):
    monkeypatch.setenv("AXOLEMMA_DATA", str(alone.parent / "nothing here"))
    with server((archive(), None)) as (url, asked):
        monkeypatch.setenv("AXOLEMMA_ISBI2012_URL", url)
        for _ in range(2):
            pairs = isbi2012.load(hashes=HASHES)
        test = isbi2012.load_images("test", hashes=HASHES)
    assert asked == [None]
    assert_fetched(alone)
    np.testing.assert_array_equal(pairs.images, FILES["train-volume.tif"])
    np.testing.assert_array_equal(pairs.truth, FILES["train-labels.tif"] == 0)
    np.testing.assert_array_equal(test.array, FILES["test-volume.tif"])
    assert pairs.voxel_size == test.voxel_size == (50, 4, 4)
    assert pairs.terms == isbi2012.TERMS
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("Arganda-Carreras et al. 2015") == 1
    assert f"fetching {url}" in err


def test_test_labels_are_taken_where_the_archive_has_them(tmp_path, alone):
    with server((archive(FILES | {"test-labels.tif": drawn()}), None)) as (url, _):
        pairs = isbi2012.load("test", hashes=HASHES, url=url, cache=tmp_path)
    np.testing.assert_array_equal(pairs.truth, drawn() == 0)
    assert_fetched(tmp_path, [*FILES, "test-labels.tif"])


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on(tmp_path, ranges):
    whole = archive()
    with server((whole, 3000), (whole, 5000), (whole, None), ranges=ranges) as (url, asked):
        fetch(url, tmp_path)
    assert asked == [None, "bytes=3000-", "bytes=5000-"]
    assert_fetched(tmp_path)


def test_a_download_given_up_is_resumed_by_the_next_call(tmp_path):
    whole = archive()
    with server((whole, 4000), (503, None)) as (url, asked):
        with pytest.raises(DownloadError, match=r"cannot be fetched \(HTTP 503 .*by hand"):
            fetch(url, tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == [".ISBI-2012-challenge.zip.partial"]
        assert asked == [None] + ["bytes=4000-"] * 4
    with server((whole, None)) as (url, asked):
        fetch(url, tmp_path)
    assert asked == ["bytes=4000-"]
    assert_fetched(tmp_path)


@pytest.mark.parametrize("stale", [b"x" * 100, b"x" * 10**6])
def test_a_stale_partial_file_is_thrown_away(tmp_path, stale):
    (tmp_path / ".ISBI-2012-challenge.zip.partial").write_bytes(stale)
    with server((archive(), None)) as (url, _):
        fetch(url, tmp_path)
    assert_fetched(tmp_path)


def test_a_damaged_archive_is_refused(tmp_path):
    damaged = bytearray(archive())
    damaged[len(damaged) // 4] ^= 255
    for content in (bytes(damaged), b"no zip at all"):
        with server((content, None)) as (url, asked):
            with pytest.raises(DownloadError, match=r"the archive is damaged .*put them into"):
                fetch(url, tmp_path)
            assert len(asked) == 2
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("files", "match"),
    [
        (FILES | {"test-volume.tif": noise(seed=3)}, r"its test-volume.tif are not the challenge"),
        ({"train-volume.tif": noise(seed=1)}, r"lacks train-labels.tif and test-volume.tif"),
    ],
)
def test_an_archive_of_other_content_leaves_nothing(tmp_path, files, match):
    with server((archive(files), None)) as (url, _), pytest.raises(DownloadError, match=match):
        fetch(url, tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_network(tmp_path):
    with server((b"", None)) as (url, _):
        pass
    with pytest.raises(DownloadError, match=r"cannot be fetched \(.*refused.*AXOLEMMA_DATA"):
        fetch(url, tmp_path)
    with server((404, None)) as (url, asked):
        with pytest.raises(DownloadError, match="HTTP 404 Not Found"):
            fetch(url, tmp_path)
        assert len(asked) == 1
    with pytest.raises(InputError, match=r"file:///etc/x: is no http or https address"):
        fetch("file:///etc/x", tmp_path)


def test_an_unwritable_cache(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DownloadError, match=r"cannot be written, .*by hand"):
        fetch("http://127.0.0.1:9/", tmp_path / "file" / "cache")


def test_a_terminal_gets_a_bar(tmp_path, monkeypatch):
    screen = io.StringIO()
    terminal = download.Console(file=screen, force_terminal=True, width=80)
    monkeypatch.setattr(download, "Console", lambda **_: terminal)
    with server((archive(), None)) as (url, _):
        download.fetch(url, tmp_path / "a.zip", pause=0)
    assert "━" in screen.getvalue()


@pytest.mark.parametrize("below", ["", "isbi2012"])
def test_files_in_the_data_folder(tmp_path, monkeypatch, below):
    for name, array in FILES.items():
        save(tmp_path / below / name, array)
    monkeypatch.setenv("AXOLEMMA_DATA", str(tmp_path))
    assert len(isbi2012.load(hashes=HASHES)) == 3


def test_files_in_a_given_folder(tmp_path):
    with pytest.raises(InputError, match=r"does not hold train-volume.tif and train-labels.tif"):
        isbi2012.load(folder=tmp_path)
    for name, array in FILES.items():
        save(tmp_path / "isbi2012" / name, array)
    assert len(isbi2012.load(folder=tmp_path, hashes=HASHES)) == 3
    with pytest.raises(InputError, match=r"test-labels.tif: the test labels are not there"):
        isbi2012.load("test", folder=tmp_path, hashes=HASHES)
    with pytest.raises(ImageError, match=r"train-volume.tif: its pixels are not those of the"):
        isbi2012.load(folder=tmp_path)
    with pytest.raises(InputError, match=r"'tset' is no part of isbi2012; did you mean 'test'"):
        isbi2012.load("tset", folder=tmp_path)


def test_the_real_challenge(isbi2012_folder):
    pairs = isbi2012.load(folder=isbi2012_folder)
    assert pairs.images.shape == (30, 512, 512)
    assert 0.2 < pairs.truth.mean() < 0.25
    assert pairs.notes == ()
    assert isbi2012.load_images("test", folder=isbi2012_folder).array.shape == (30, 512, 512)
    same = folder.load(isbi2012_folder)
    np.testing.assert_array_equal(same.truth, pairs.truth)
    assert len(same.notes) == 1


def test_the_challenge_box_by_box(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = partial(isbi2012.load_images, hashes=HASHES)
    monkeypatch.setattr(isbi2012, "load_images", known)
    for name, array in FILES.items():
        save(tmp_path / name, array)
    monkeypatch.setenv("AXOLEMMA_DATA", str(tmp_path))
    for name, part in (("isbi2012", "train"), ("isbi2012-test", "test")):
        volume, expected = open_images(name), FILES[f"{part}-volume.tif"]
        assert (volume.shape, volume.voxel_size) == (expected.shape, isbi2012.VOXEL_SIZE)
        box = Box((1, 2, 3), (3, 6, 8))
        np.testing.assert_array_equal(volume.read(box), expected[box.slices])
    assert open_images(tmp_path / "train-volume.tif").shape == FILES["train-volume.tif"].shape
    with pytest.raises(InputError, match="phantom: is made in memory and not read box by box"):
        open_images("phantom")
