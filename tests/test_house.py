"""The house: which room may import which, and the names that the package shows."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import axolemma

ROOT = Path(axolemma.__file__).parent

#: A room may import rooms of lower storeys only.
STOREYS = (
    ("_version", "errors", "geometry", "labels"),
    (
        "images",
        "tiles",
        "sampling",
        "padding",
        "augment",
        "augment_keras",
        "objects",
        "metrics",
        "calibration",
        "uncertainty",
        "settings",
        "pictures",
        "charts",
        "windows",
        "engines",
        "lock",
    ),
    ("models", "losses", "measure", "quality", "pixel_size", "view", "convert"),
    ("compiled", "datasets", "modelfile", "predict", "evaluation", "runs", "distributed", "replay"),
    ("training", "segmentation", "augmentation", "volume", "estimate"),
    ("suggestion", "demo", "terminal", "compare", "report", "pipeline"),
    ("cli", "__main__"),
)
#: Neighbours that may be called all the same.
SIDEWAYS = {("geometry", "errors"), ("terminal", "compare"), ("__main__", "cli")}
STOREY = {room: number for number, rooms in enumerate(STOREYS) for room in rooms}

#: The rooms of which an array's journey needs no torch: they start fast and serve anybody.
WITHOUT_TORCH = (
    "images",
    "tiles",
    "sampling",
    "augment",
    "objects",
    "metrics",
    "settings",
    "pictures",
    "measure",
    "convert",
    "quality",
    "pixel_size",
    "view",
    "windows",
    "calibration",
    "uncertainty",
    "engines",
    "volume",
    "lock",
)


def room_of(file: Path) -> str:
    part = file.relative_to(ROOT).parts[0]
    return part.removesuffix(".py")


def imports(file: Path):
    """Yield the absolute names of all modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name}: imports are absolute"
            yield node.module
            if node.module == "axolemma":
                yield from (f"axolemma.{alias.name}" for alias in node.names)


FILES = [file for file in sorted(ROOT.rglob("*.py")) if file != ROOT / "__init__.py"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_rooms_import_lower_storeys_only(file):
    mine = room_of(file)
    assert mine in STOREY, f"{mine} has no storey: add it to STOREYS"
    for name in imports(file):
        if not name.startswith("axolemma."):
            continue
        other = name.split(".")[1]
        if other in STOREY and other != mine:
            allowed = STOREY[other] < STOREY[mine] or (mine, other) in SIDEWAYS
            assert allowed, f"{mine} must not import {other}"


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_arrays_need_no_torch(room):
    for file in FILES:
        if room_of(file) == room:
            assert not any(name.split(".")[0] == "torch" for name in imports(file)), file


def test_every_room_exists():
    assert {room_of(file) for file in FILES} == set(STOREY)


def test_public_names():
    assert sorted(axolemma.__all__) == [
        "AxolemmaError",
        "DownloadError",
        "ImageError",
        "InputError",
        "Model",
        "ModelFileError",
        "Scores",
        "Segmentation",
        "SettingsError",
        "Suite",
        "__version__",
        "evaluate",
        "load_model",
        "score_suite",
        "segment",
        "train",
    ]
    for name in axolemma.__all__:
        assert getattr(axolemma, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'sgement'"):
        _ = axolemma.sgement


@pytest.mark.parametrize("what", ["import axolemma", "import axolemma.cli"])
def test_starting_waits_for_nothing_heavy(what):
    heavy = ("torch", "numba", "scipy", "tifffile", "numpy")
    script = f"import sys; {what}; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.stdout.strip() == "[]", found.stderr


def test_membrane_maps_wait_for_no_compiler():
    script = (
        "import sys; import axolemma.segmentation, axolemma.datasets;"
        " print([m for m in ('numba', 'skimage') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.stdout.strip() == "[]", found.stderr
