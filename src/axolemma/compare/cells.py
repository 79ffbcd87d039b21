"""The cells of a comparison, and what each one's process is given."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from axolemma import datasets
from axolemma.datasets import Pairs
from axolemma.errors import InputError
from axolemma.settings import Average, CompareSettings

#: Settings that a later call may extend.
AXES = ("models", "losses", "presets", "seeds")

#: The parts of a method, as cells call them.
PARTS = ("model", "loss", "preset")


@dataclass(frozen=True, slots=True)
class Cell:
    """One training and its test.

    Parameters
    ----------
    model, loss, preset, seed
        What is trained.
    first, last
        The fold: sections of the data, both included, that it is tested on.
    """

    model: str
    loss: str
    preset: str
    seed: int
    first: int
    last: int

    @property
    def key(self) -> str:
        """Name of the cell's folder."""
        method = f"{self.model}-{self.loss}-{self.preset}"
        return f"{method}-seed{self.seed}-test{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class CellProgress:
    """What a comparison tells while it runs.

    Parameters
    ----------
    cell
        The one that has something to tell.
    what
        Such as ``"step 120, loss 0.4312"``, ``"finished"`` or why it failed.
    done
        Share of its training that is done, in [0, 1].
    finished, count
        Cells that are finished or failed, and all of them.
    """

    cell: Cell
    what: str
    done: float
    finished: int
    count: int


def held_out(folds: Literal["seed"] | int, count: int) -> list[range]:
    """Return the test sections of every fold.

    Parameters
    ----------
    folds
        See `CompareSettings`.
    count
        Sections that there are.

    Raises
    ------
    InputError
        If there are too few sections.

    Examples
    --------
    >>> held_out("seed", 30)
    [range(25, 30)]
    """
    blocks = (
        [range(count - max(1, count // 6), count)]
        if folds == "seed"
        else datasets.folds(count, folds)
    )
    most = max(map(len, blocks))
    if count - most < 2:
        raise InputError(
            f"testing on {most} of {count} sections leaves fewer than the two that learning and "
            "validation need; give more sections or more folds"
        )
    return blocks


def all_cells(settings: Mapping[str, Any]) -> list[Cell]:
    """Return all cells, so ordered that an early stop leaves methods that can be compared."""
    return [
        Cell(model, loss, preset, seed, block.start, block.stop - 1)
        for seed, block, model, loss, preset in product(
            settings["seeds"],
            held_out(settings["folds"], settings["sections"]),
            settings["models"],
            settings["losses"],
            settings["presets"],
        )
    ]


@dataclass(frozen=True, slots=True)
class Task:
    """All that a cell's process is given: `learn` and `test` have no section in common."""

    cell: Cell
    folder: Path
    learn: Pairs
    numbers: tuple[int, ...]  # of the sections to learn from, in the data
    test: Pairs
    settings: dict[str, Any]
    average: Average
    jobs: int


def task_for(
    data: Pairs, settings: CompareSettings, cell: Cell, folder: Path, device: str, jobs: int
) -> Task:
    """Return what a cell's process is given: the sections apart, and the training's settings."""
    numbers = [z for z in range(len(data)) if not cell.first <= z <= cell.last]
    # The model file numbers the sections it learned from 0; its data's name says what is left out.
    whole = cell.last == len(data) - 1
    name = data.name if whole else f"{data.name} without sections {cell.first}-{cell.last}"
    images, truth = data.images[numbers], data.truth[numbers]
    learn = replace(data, name=name, images=images, truth=truth, labels=None)
    method = {part: getattr(cell, part) for part in (*PARTS, "seed")}
    budget = None if settings.budget is None else f"{60 * settings.budget:.3f}s"
    length = {"budget": budget, "steps": settings.steps}
    own = settings.arguments.get(cell.model, {})
    arguments = {"arguments": {**(settings.training.get("arguments") or {}), **own}}
    chosen = {**settings.training, **arguments, **method, **length, "data": name, "device": device}
    if cell.loss != "bce_dice":
        chosen.pop("dice", None)  # an option of that one alone; a training would refuse it
    test = data.slices(range(cell.first, cell.last + 1))
    return Task(cell, folder, learn, tuple(numbers), test, chosen, settings.average, jobs)
