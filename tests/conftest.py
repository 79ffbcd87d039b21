"""What several test files share: the real data, a call of the command line, an S3 server."""

import os
import sys
import urllib.request
from pathlib import Path

# Of workers side by side each has a core to itself: threads that wait for each other's turn take
# ten times as long. Before torch is imported, and for whatever a test starts.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest

from axolemma import cli

# No timed assertions: a busy machine is no failure.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def isbi2012_folder() -> Path:
    root = os.environ.get("AXOLEMMA_DATA")
    for folder in (Path(root), Path(root) / "isbi2012") if root else ():
        if (folder / "train-labels.tif").is_file():
            return folder
    pytest.skip("the ISBI 2012 stacks are not here: set AXOLEMMA_DATA to their folder")


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Run the command line in an empty folder; return exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["axolemma", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return run


@pytest.fixture(scope="session")
def s3_server():
    """Run an S3 server on this machine."""
    moto = pytest.importorskip("moto.server")
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    yield "http://{}:{}".format(*running.get_host_and_port())
    running.stop()


@pytest.fixture
def bucket(s3_server, monkeypatch):
    """Set the environment for that server; return the address of an empty bucket, made there."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    request = urllib.request.Request(f"{s3_server}/bucket", method="PUT")
    urllib.request.urlopen(request).close()
    return "s3://bucket"
