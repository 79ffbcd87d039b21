"""Trainings for test_distributed.py, alone or under torchrun: ``distributed_runs.py FOLDER``."""

import sys
from pathlib import Path

from axolemma.datasets import Pairs, phantom_pairs
from axolemma.distributed import Team, joined
from axolemma.errors import InputError, SettingsError
from axolemma.labels import IGNORED
from axolemma.settings import TrainSettings, check
from axolemma.training import fit

SMALL = {"width": 4, "depth": 2, "crop": 64, "batch": 4, "precision": "fp32", "device": "cpu"}

#: Networks and losses that look at a whole batch, or leave what they keep to chance.
CASES = {
    "residual": {},
    "dropout": {"model": "unet", "loss": "cl_dice", "arguments": {"dropout": 0.5}},
    "heads": {"model": "unetplusplus", "depth": 3, "loss": "weighted_bce"},
    "context": {"context": 1, "validate": "none", "preset": "none", "loss": "weight_map_bce"},
    "sparse": {"loss": "tversky"},
}


class StopError(Exception):
    pass


def pairs(name: str) -> Pairs:
    found = phantom_pairs((5, 128, 128))
    if name == "sparse":  # crops then differ in how much of them counts
        found.truth[:, 40:] = IGNORED
    return found


def settings(**values):
    return check(TrainSettings, {"data": "made", "steps": 6, **SMALL, **values})


def stopping_after(steps):
    def lap(part):
        nonlocal steps
        steps -= part == "averaging"
        if steps < 0:
            raise StopError

    return lap


def refused(team: Team, folder: Path) -> str:
    """Return what all processes are told that share an odd batch, or a folder of other things."""
    told = []
    other = folder / "other"
    other.mkdir(exist_ok=True)
    (other / "letter.txt").touch()
    for run, batch in ((folder / "odd", 3), (other, 4)):
        try:
            fit(pairs(""), settings(batch=batch), run, team=team)
        except (SettingsError, InputError) as error:
            told.append(str(error))
    return "\n".join(told)


def main(folder: Path) -> None:
    with joined() as team:
        for name, values in CASES.items():
            fit(pairs(name), settings(**values), folder / name, team=team)
        if team.size == 1:
            return
        try:
            again = settings(save_every=0)
            fit(pairs(""), again, folder / "again", team=team, lap=stopping_after(3))
        except StopError:
            fit(pairs(""), again, folder / "again", team=team)
        timed = fit(pairs(""), settings(steps=None, budget="2s"), folder / "timed", team=team)
        told = refused(team, folder)
        (folder / f"told-{team.rank}.txt").write_text(told)
        (folder / f"steps-{team.rank}.txt").write_text(str(timed.info.training["steps"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
