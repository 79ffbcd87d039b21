"""What several test files share: where the real data lies, and a call of the command line."""

import os
import sys
from pathlib import Path

import pytest

from axolemma import cli


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
