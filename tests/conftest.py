"""What several test files share: where the real data lies, and its skip."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def isbi2012_folder() -> Path:
    root = os.environ.get("AXOLEMMA_DATA")
    for folder in (Path(root), Path(root) / "isbi2012") if root else ():
        if (folder / "train-labels.tif").is_file():
            return folder
    pytest.skip("the ISBI 2012 stacks are not here: set AXOLEMMA_DATA to their folder")
