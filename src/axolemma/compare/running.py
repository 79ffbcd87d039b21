"""A comparison from its call to its ranking: what is missing is run, what is there is read."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from axolemma import datasets
from axolemma.compare.cells import Cell, CellProgress, all_cells, held_out, task_for
from axolemma.compare.comparison import Comparison
from axolemma.compare.folder import (
    cell_folder,
    open_folder,
    read_object,
    read_settings,
    record_failure,
)
from axolemma.compare.processes import Board, in_process
from axolemma.compare.table import ranked
from axolemma.datasets import Pairs, data_hash
from axolemma.errors import InputError, SettingsError
from axolemma.labels import IGNORED
from axolemma.lock import Lock
from axolemma.predict import choose_device
from axolemma.runs import LOCK
from axolemma.settings import CompareSettings, TrainSettings, check

#: Settings of a training that the comparison sets.
_TAKEN = {"data", "truth_is", "ignore_value", "slices", "validate", "validate_slices", "budget"}
_TAKEN |= {"steps", "device", "recipe", "model", "width", "depth", "loss", "preset", "seed"}


def compare(
    data: str | Path | Pairs,
    *,
    out: str | Path,
    jobs: int = 1,
    devices: Sequence[str] = ("auto",),
    report: Callable[[CellProgress], None] = lambda _: None,
    **settings: Any,
) -> Comparison:
    """Train and score methods under one protocol and rank them.

    Parameters
    ----------
    data
        What `datasets.load` takes, or loaded `Pairs`.
    out, jobs, devices, report
        See `run_comparison`.
    **settings
        See `CompareSettings`: ``models=["resunet", "unet"], seeds=3, budget="4m"``.

    Returns
    -------
    Comparison
        The ranking, and which cells failed.

    Raises
    ------
    InputError
        If data or settings cannot be used, or the folder holds another comparison.
    """
    name = str(data) if isinstance(data, str | Path) else data.name
    chosen = check(CompareSettings, {"data": name, **settings})
    if not isinstance(data, Pairs):
        data = datasets.load(data, truth_is=chosen.truth_is, ignore_value=chosen.ignore_value)
    return run_comparison(data, chosen, out, jobs=jobs, devices=devices, report=report)


def run_comparison(
    data: Pairs,
    settings: CompareSettings,
    out: str | Path,
    *,
    jobs: int = 1,
    devices: Sequence[str] = ("auto",),
    report: Callable[[CellProgress], None] = lambda _: None,
) -> Comparison:
    """Run what is missing of a comparison, and rank.

    Repeated with the same settings it goes on: finished cells stay as they are, a training that
    was killed is resumed, a cell that failed is tried again. More models, losses, presets or seeds
    extend it.

    For a fold in the middle, the sections before and behind it are put together for training. They
    are then neighbours that were none, which only a network with `context` would see; so that is
    refused where there are such folds.

    Parameters
    ----------
    data
        Annotated sections.
    settings
        See `CompareSettings`.
    out
        The comparison's folder; made where it does not exist.
    jobs
        Cells that run at once, each with its share of the processor's threads. Then they slow each
        other down: with a budget in minutes and as many jobs they all do so alike.
    devices
        ``auto``, ``cpu``, ``cuda`` or ``cuda:1``; the jobs take them in turn.
    report
        Called about once a second for every running cell, never twice at once.

    Returns
    -------
    Comparison
        From `load`. That cells failed is for the caller to notice, see `Comparison.check`.

    Raises
    ------
    SettingsError
        If the settings are wrong or differ from those of the comparison that is there.
    InputError
        If the folder holds something else or cannot be made, another process compares there, or
        nothing is annotated in a section that is to be tested.
    """
    blocks = held_out(settings.folds, len(data))
    shared = _check(settings, blocks, jobs, devices)
    for z in (z for block in blocks for z in block if (data.truth[z] == IGNORED).all()):
        raise InputError(
            f"{data.name}: nothing is annotated in section {z}, which is to be tested; leave it"
            " out of the data, or annotate some of it"
        )
    out = Path(out)
    asked = settings.model_dump(mode="json") | {
        # With the defaults of today: a later version may have others.
        "trained_with": shared.model_dump(mode="json", by_alias=True, exclude=_TAKEN),
        "sections": len(data),
        "data_sha256": data_hash(data.images, data.truth),
    }
    open_folder(out, asked)
    with Lock(out / LOCK):
        _run_missing(data, settings, out, asked, jobs, devices, report)
    return load(out)


def _run_missing(
    data: Pairs,
    settings: CompareSettings,
    out: Path,
    asked: dict[str, Any],
    jobs: int,
    devices: Sequence[str],
    report: Callable[[CellProgress], None],
) -> None:
    """Run the cells that are not finished."""
    cells = all_cells(asked)
    board = Board(report, len(cells))
    todo = [cell for cell in cells if not (cell_folder(out, cell) / "result.json").is_file()]
    for cell in cells:
        if cell not in todo:
            board.tell(cell, "finished already", 1.0, ended=True)
    idle: SimpleQueue[str] = SimpleQueue()
    for job in range(jobs):
        idle.put(devices[job % len(devices)])

    def run(cell: Cell) -> None:
        device, folder = idle.get(), cell_folder(out, cell)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            failed = in_process(task_for(data, settings, cell, folder, device, jobs), board)
        finally:
            idle.put(device)
        if not board.stopped:
            record_failure(folder, failed)
            board.tell(cell, f"failed: {failed}" if failed else "finished", 1.0, ended=True)

    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(run, cell) for cell in todo]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            board.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def load(out: str | Path) -> Comparison:
    """Read a comparison from its folder and rank what is finished; the data is not needed.

    Raises
    ------
    InputError
        If there is no comparison in the folder, or a file of it cannot be read.
    """
    out = Path(out)
    settings = read_settings(out)
    results, failed, missing = [], {}, []
    for cell in all_cells(settings):
        folder = cell_folder(out, cell)
        if (folder / "result.json").is_file():
            results.append(read_object(folder / "result.json"))
        elif (folder / "failed.json").is_file():
            failed[cell.key] = str(read_object(folder / "failed.json")["error"])
        else:
            missing.append(cell.key)
    return ranked(settings, results, failed, tuple(missing))


def _check(
    settings: CompareSettings, blocks: Sequence[range], jobs: int, devices: Sequence[str]
) -> TrainSettings:
    """Refuse what no cell could work with, before hours are spent."""
    if jobs < 1 or not devices:
        raise SettingsError(f"a comparison needs 1 job and 1 device or more, not {jobs} jobs")
    for device in devices:
        choose_device(device)
    for model in settings.arguments:
        if model not in settings.models:
            raise SettingsError(f"arguments: '{model}' is not among the models; name it there too")
    for key in settings.training:
        if key in _TAKEN:
            raise SettingsError(
                f"training: '{key}' is for the comparison to set; see its own settings"
            )
    if "dice" in settings.training and "bce_dice" not in settings.losses:
        raise SettingsError("training: 'dice' is for the loss bce_dice, which is not among them")
    for preset in settings.presets:
        shared = check(
            TrainSettings, {"data": settings.data, "preset": preset, **settings.training}
        )
    if shared.context and len(blocks) > 2:
        raise SettingsError(
            "training: with neighbouring sections (context) a fold in the middle would make "
            "neighbours of sections that are none; take folds 'seed' or 2"
        )
    return shared
