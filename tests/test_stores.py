"""Volumes in object stores: a real S3 server and a real web server, both on this machine."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from axolemma.errors import AxolemmaError, ImageError, InputError
from axolemma.geometry import Box, grid
from axolemma.images import create_zarr, open_volume, read, remove_zarr, stores

pytest.importorskip("zarr")
pytest.importorskip("obstore")

VOXELS = np.random.default_rng(3).integers(0, 255, (5, 40, 61), dtype=np.uint8)
BLOCK = (2, 16, 32)


def filled(address, **options):
    volume, *_ = create_zarr(address, VOXELS.shape, VOXELS.dtype, block=BLOCK, **options)
    for box in grid(VOXELS.shape, BLOCK):
        volume.write(box, VOXELS[box.slices])
    return volume


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_s3(bucket, version):
    address = f"{bucket}/some/folder/{version}.zarr"
    filled(address, voxel_size=(50, 4, 4), version=version, holds="image")
    volume = open_volume(address + "/")
    box = Box((1, 3, 30), (4, 39, 61))
    np.testing.assert_array_equal(volume.read(box), VOXELS[box.slices])
    assert (volume.voxel_size, volume.holds) == ((50, 4, 4), "image")
    # What the command line takes for a path is the same address.
    np.testing.assert_array_equal(read(Path(address)).array, VOXELS)
    filled(f"{address}/labels/cells", kind="labels", version=version)
    assert open_volume(f"{address}/labels/cells").kind == "labels"
    remove_zarr(address)
    with pytest.raises(ImageError, match=r"nothing is there; check the bucket and the path"):
        open_volume(address)


def test_web_server(tmp_path):
    filled(tmp_path / "a.zarr")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.func.log_message = lambda *_: None
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{web.server_port}/a.zarr"
        np.testing.assert_array_equal(read(address).array, VOXELS)
        with pytest.raises(ImageError, match="nothing is there; check the bucket and the path"):
            open_volume(f"{address[:-6]}b.zarr")
        web.shutdown()


def test_a_bucket_that_is_not_there(bucket):
    with pytest.raises(ImageError, match=r"s3://other/a.zarr: the bucket does not exist; make it"):
        filled("s3://other/a.zarr")
    with pytest.raises(ImageError, match=r"s3://other/a.zarr: nothing is there; check the bucket"):
        open_volume("s3://other/a.zarr")


def test_a_server_that_is_not_there(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setitem(stores.RETRY, "max_retries", 0)
    for use in (open_volume, filled):
        with pytest.raises(AxolemmaError, match=r"a.zarr: the store does not answer \(.*AWS_ENDP"):
            use(f"{bucket}/a.zarr")


def test_addresses_that_are_none():
    with pytest.raises(InputError, match=r"is no usable address, .*expected for example s3://buc"):
        open_volume("s3://")


def test_missing_package_is_named(bucket, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "obstore.store", None)
    with pytest.raises(ImageError, match=r"s3://bucket/a.zarr: .* pip install 'axolemma\[remote\]"):
        open_volume(f"{bucket}/a.zarr")
