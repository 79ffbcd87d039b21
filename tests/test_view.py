"""What the viewer is given, and what a browser shows of it."""

import importlib.util
import io
import shutil
import socket
import sys
import urllib.request
import zlib
from dataclasses import replace

import numpy as np
import pytest

from axolemma import cli, view
from axolemma.datasets import phantom_pairs
from axolemma.errors import InputError, SettingsError
from axolemma.geometry import Box
from axolemma.images import Stack, create_zarr, write_tiff
from axolemma.labels import colours, distinct, renumbered

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SIZE = (50.0, 4.0, 4.0)

neuroglancer = pytest.importorskip("neuroglancer")


@pytest.fixture(scope="module")
def pairs():
    made = phantom_pairs((8, 128, 160))
    ids = distinct(made.labels)
    return replace(made, labels=renumbered(made.labels, ids[ids > 0]))


@pytest.fixture
def served():
    yield view.open_viewer
    view.close_viewer()


def held(array, **about):
    return view.held(Stack(np.asarray(array), (0, 255), SIZE, "made", **about))


def layers_of(pairs):
    return [
        view.Layer("image", "image", [held(pairs.images)]),
        view.Layer("membrane", "membrane", [held(pairs.truth * np.float32(1))]),
        view.Layer("neurons", "labels", [held(pairs.labels.astype(np.uint32))]),
    ]


def write_segmentation(folder, pairs, sections=None):
    info = {"sections": sections or [0, len(pairs.images) - 1]}
    part = slice(info["sections"][0], info["sections"][1] + 1)
    folder.mkdir()
    for name, holds, array in (
        ("membrane", "membrane map", (pairs.truth * 255).astype(np.uint8)),
        ("neurons", "neurons", pairs.labels.astype(np.uint16)),
    ):
        path = folder / f"{name}.tif"
        write_tiff(path, array[part], voxel_size=SIZE, holds=holds, info=info)


def test_the_folder_of_a_segmentation(pairs, tmp_path):
    write_segmentation(tmp_path / "out", pairs, [2, 6])
    write_tiff(tmp_path / "stack.tif", pairs.images)
    layers = view.read_layers(tmp_path / "out", image=tmp_path / "stack.tif")
    assert [(layer.name, layer.kind) for layer in layers] == [
        ("image", "image"),
        ("membrane", "membrane"),
        ("neurons", "labels"),
    ]
    # Of the image, the sections that were segmented.
    box = Box((1, 10, 20), (3, 50, 60))
    np.testing.assert_array_equal(layers[0].levels[0].read(box), pairs.images[3:5, 10:50, 20:60])
    np.testing.assert_array_equal(layers[2].levels[0].read(box), pairs.labels[3:5, 10:50, 20:60])
    assert layers[1].levels[0].voxel_size == pytest.approx(SIZE)
    # One file alone is what it says that it holds.
    (alone,) = view.read_layers(tmp_path / "out" / "neurons.tif")
    assert (alone.name, alone.kind) == ("neurons", "labels")
    (alone,) = view.read_layers(tmp_path / "stack.tif")
    assert (alone.name, alone.kind) == ("image", "image")


def test_where_a_map_may_be_wrong_is_laid_over_it(pairs, tmp_path):
    pytest.importorskip("zarr")
    write_segmentation(tmp_path / "out", pairs)
    unsure = pairs.truth * np.float32(0.5)
    write_tiff(tmp_path / "out" / "uncertainty.tif", unsure, holds="uncertainty")
    for name, holds in (("", "membrane map"), ("/uncertainty", "uncertainty")):
        create_zarr(f"{tmp_path}/out.zarr{name}", unsure.shape, np.uint8, holds=holds)
    layers, of_volume = (view.read_layers(tmp_path / name) for name in ("out", "out.zarr"))
    assert [layer.name for layer in layers] == ["membrane", "uncertainty", "neurons"]
    assert [layer.kind for layer in of_volume] == ["membrane", "uncertainty"]
    # Wholly undecided is log 2, or 255.
    for layer, highest in ((layers[1], "0.693147"), (of_volume[1], "255")):
        assert f"range=[0, {highest}]" in view._layer(neuroglancer, layer, SIZE).shader
    (alone,) = view.read_layers(tmp_path / "out.zarr" / "uncertainty")
    assert (alone.name, alone.kind) == ("uncertainty", "uncertainty")


def test_a_zarr_is_read_where_it_is_looked_at(pairs, tmp_path, monkeypatch):
    pytest.importorskip("zarr")
    images = np.tile(pairs.images, (1, 9, 5))
    out = str(tmp_path / "out.zarr")
    shape = images.shape
    options = {"voxel_size": SIZE, "block": (4, 128, 128)}
    fine, *coarse = create_zarr(out, shape, np.uint8, holds="membrane map", **options)
    fine.write(Box.of(shape), images)
    for level in coarse:
        level.write(Box.of(level.shape), np.full(level.shape, 7, np.uint8))
    labels = create_zarr(f"{out}/labels/neurons", shape, np.uint64, kind="labels", **options)
    layers = view.read_layers(out)
    assert [(layer.name, layer.kind) for layer in layers] == [
        ("membrane", "membrane"),
        ("neurons", "labels"),
    ]
    assert [len(layer.levels) for layer in layers] == [1 + len(coarse), len(labels)]
    assert len(coarse) > 0
    served = view._served(neuroglancer, layers[0], SIZE)
    start, end = np.array([0, 0, 0]), np.array([4, 32, 48])
    fine_bytes, _ = served.get_encoded_subvolume("npz", start, end, "1,1,1")
    coarse_bytes, _ = served.get_encoded_subvolume("npz", start, end, "1,4,4")
    assert set(decoded(coarse_bytes).ravel()) == {7}
    np.testing.assert_array_equal(decoded(fine_bytes), images[:4, :32, :48])
    # Meshes come from a level that fits into memory, or from none.
    monkeypatch.setattr(view, "_MESHED", 10)
    served = view._served(neuroglancer, layers[1], SIZE)
    with pytest.raises(neuroglancer.local_volume.MeshesNotSupportedForVolume):
        served.get_object_mesh(1)


def decoded(data):
    return np.load(io.BytesIO(zlib.decompress(data)))


@pytest.mark.parametrize(
    ("dtype", "kind", "expected"),
    [
        ("uint8", "image", "uint8"),
        ("float64", "image", "float32"),
        ("int64", "image", "float32"),
        ("bool", "image", "uint8"),
        ("int64", "labels", "uint64"),
        ("int32", "labels", "uint32"),
    ],
)
def test_any_type_is_served_as_one_that_the_viewer_knows(dtype, kind, expected):
    array = np.arange(4 * 20 * 20).reshape(4, 20, 20).astype(dtype)
    served = view._served(neuroglancer, view.Layer("a", kind, [held(array)]), SIZE)
    start, end = np.array([1, 2, 3]), np.array([3, 20, 20])
    data, _ = served.get_encoded_subvolume("npz", start, end, "1,1,1")
    found = decoded(data)
    assert served.info()["dataType"] == expected == found.dtype.name
    np.testing.assert_array_equal(found, array[1:3, 2:, 3:].astype(expected))


def test_what_cannot_be_shown(pairs, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no image"):
        view.read_layers(tmp_path / "empty")
    write_segmentation(tmp_path / "out", pairs)
    write_tiff(tmp_path / "other.tif", pairs.images[:, :100])
    with pytest.raises(InputError, match=r"\(8, 100, 160\).* is not that of .*; show what was"):
        view.read_layers(tmp_path / "out", image=tmp_path / "other.tif")


def test_without_the_package(pairs, monkeypatch):
    monkeypatch.setitem(sys.modules, "neuroglancer", None)
    with pytest.raises(SettingsError, match=r"pip install 'axolemma\[view\]'"):
        view.open_viewer(layers_of(pairs))


def test_a_port_that_is_taken(pairs, served, tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SettingsError, match=f"port {port} cannot be used, .* another --port"):
            served(layers_of(pairs), port=port)


def test_the_command_serves_until_it_is_stopped(call, pairs, tmp_path, monkeypatch):
    write_segmentation(tmp_path / "out", pairs)
    opened = []
    pages = []

    def look_once():
        with urllib.request.urlopen(opened[0]) as page:
            pages.append(page.read())
        raise KeyboardInterrupt

    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr(cli, "_forever", look_once)
    code, out, err = call("view", "out")
    assert (code, out.strip()) == (0, opened[0])
    assert "membrane, neurons; Ctrl-C ends it" in err
    assert b"neuroglancer" in pages[0].lower()
    with pytest.raises(OSError, match=r"refused|closed|reset"):
        urllib.request.urlopen(opened[0], timeout=5)
    code, _, err = call("view", "out", "--voxel-size", "4")
    assert code == 2
    assert "--voxel-size: a voxel size is three lengths" in err


@pytest.mark.skipif(
    CHROMIUM is None or importlib.util.find_spec("playwright") is None,
    reason="needs Chromium and the package playwright",
)
def test_a_browser_shows_image_and_neurons(pairs, served, tmp_path):
    from PIL import Image
    from playwright.sync_api import sync_playwright

    viewer = served(layers_of(pairs))
    with viewer.txn() as state:
        state.layout = "xy"
        state.show_axis_lines = state.show_scale_bar = False
        state.cross_section_scale = 1
    flags = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*flags, "--ignore-gpu-blocklist"]
        )
        page = browser.new_page(viewport={"width": 600, "height": 500})
        trouble, asked = [], []
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(viewer.get_viewer_url())

        def shown(**visible):
            with viewer.txn() as state:
                for name in ("image", "membrane", "neurons"):
                    state.layers[name].visible = visible.get(name, False)
            page.wait_for_timeout(1500)
            page.screenshot(path=tmp_path / "page.png")
            picture = np.asarray(Image.open(tmp_path / "page.png").convert("RGB")).astype(int)
            # The section lies in the middle of what is below the bars.
            return picture[80:-20, 60:-60]

        image = shown(image=True)
        assert np.ptp(image, axis=2).mean() < 30, "grey"
        assert len(np.unique(image[..., 0])) > 50
        with viewer.txn() as state:
            state.layers["neurons"].selected_alpha = state.layers["neurons"].not_selected_alpha = 1
        labels = shown(neurons=True)
        section = pairs.labels[len(pairs.labels) // 2]
        expected = {tuple(map(int, c)) for c in colours(np.unique(section[section > 0]))}
        seen = {tuple(c) for c in labels.reshape(-1, 3).tolist()}
        assert len(expected & seen) > 0.5 * len(expected)
        browser.close()
    assert trouble == []
    assert all(url.startswith(("http://127.0.0.1:", "blob:", "data:")) for url in asked)
