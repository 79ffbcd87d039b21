"""The folder of a comparison: what stands in it, and whether a call fits what is there."""

import json
from pathlib import Path
from typing import Any

from axolemma._version import __version__
from axolemma.compare.cells import AXES, PARTS, Cell
from axolemma.errors import InputError, SettingsError
from axolemma.images import replacing

#: Where the data lies and how it was read; the hash says what it is.
_MAY_CHANGE = ("data", "truth_is", "ignore_value")


def cell_folder(out: Path, cell: Cell) -> Path:
    """Return where a cell works and leaves its result."""
    return out / "cells" / cell.key


def open_folder(out: Path, asked: dict[str, Any]) -> None:
    """Make the folder or extend what is there; refuse another comparison."""
    file = out / "comparison.json"
    try:
        if file.is_file():
            _check_same(out, asked, read_settings(out))
        elif out.is_dir() and any(not f.name.startswith(".") for f in out.iterdir()):
            raise InputError(
                f"{out}: this folder holds other files; choose a new one for the comparison"
            )
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{out}: the comparison's folder cannot be made, {reason}") from error
    with replacing(file) as partial:
        text = json.dumps({"axolemma": __version__, "settings": asked}, indent=2)
        partial.write_text(text, encoding="utf-8")


def _check_same(out: Path, asked: dict[str, Any], there: dict[str, Any]) -> None:
    """Refuse settings other than those of the comparison there, but for more on an axis."""
    results = [read_object(file) for file in out.glob("cells/*/result.json")]
    # What never finished may be named otherwise now, or left out: it may have been misspelt.
    finished = {
        axis: {result[part] for result in results}
        for axis, part in zip(AXES, (*PARTS, "seed"), strict=True)
    }
    keys = (asked.keys() | there.keys()) - {*_MAY_CHANGE}
    # What was asked for before what became of it.
    for key in sorted(keys, key=lambda key: (key == "trained_with", key)):
        mine, other = asked.get(key), there.get(key)
        if key in AXES:
            gone = [str(v) for v in other or () if v not in (mine or ()) and v in finished[key]]
            if gone:
                raise SettingsError(
                    f"{out}: the comparison there has {key} {', '.join(gone)} too; name them as "
                    "well, or choose another folder"
                )
            continue
        if key == "arguments":
            begun = {name for name in {*(mine or {}), *(other or {})} if _begun(out, name)}
            mine, other = (
                {name: own for name, own in (of or {}).items() if name in begun}
                for of in (mine, other)
            )
        if mine != other:
            raise SettingsError(
                f"{out}: the comparison there has {key} = {other!r}, this one {mine!r}; repeat its "
                "settings to go on, or choose another folder"
            )


def _begun(out: Path, model: str) -> bool:
    """Return whether a training of the network is finished, or has left what to go on from."""
    left = ("result.json", "run/settings.json")
    return any(next(out.glob(f"cells/{model}-*/{file}"), None) for file in left)


def read_settings(out: Path) -> dict[str, Any]:
    """Return what ``comparison.json`` says was asked for."""
    found = read_object(out / "comparison.json").get("settings")
    if isinstance(found, dict) and {*AXES, "folds", "sections"} <= found.keys():
        return found
    raise InputError(f"{out / 'comparison.json'}: this is no comparison's settings file")


def read_object(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file of a comparison holds."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
        reason = "it holds no object"
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
    except ValueError as error:
        reason = str(error)
    raise InputError(f"{path}: this file of a comparison cannot be read, {reason}")


def record_failure(folder: Path, failed: str | None) -> None:
    """Leave word of a failure, or remove that of an earlier one."""
    if failed is None:
        (folder / "failed.json").unlink(missing_ok=True)
        return
    with replacing(folder / "failed.json") as partial:
        partial.write_text(json.dumps({"error": failed}, indent=1), encoding="utf-8")
