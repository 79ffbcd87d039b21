"""The command line as the benches call it: as a user would, one process per command."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from axolemma.predict import POSES


def axolemma_json(*arguments: object) -> dict:
    """Run one command and return what it prints as JSON."""
    command = [sys.executable, "-m", "axolemma", *map(str, arguments), "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def scored(
    model: object,
    data: str,
    slices: str,
    folder: Path,
    averages: Sequence[str] = tuple(POSES),
    *,
    whole: bool = False,
) -> dict[str, dict]:
    """Segment sections in ways of averaging, score them, and keep what is reported.

    Where the `whole` stack is segmented those beside the scored ones have a say in their cells.
    """
    result = {}
    for average in averages:
        out = folder / f"{data}-{average}{'-whole' * whole}"
        part = () if whole else ("--slices", slices)
        record = axolemma_json(
            *("segment", data, *part, "--model", model, "--average", average, "-o", out)
        )
        scores = axolemma_json("evaluate", out, data, "--slices", slices)
        held_out = scores["held_out"]
        result[average] = {
            "threshold": record["threshold"],
            "seconds": record["seconds"],
            "v_rand": held_out["v_rand"]["score"],
            "v_info": held_out["v_info"]["score"],
            "v_rand_sections": held_out["v_rand"]["sections"],
            "v_info_sections": held_out["v_info"]["sections"],
            "best_v_rand": scores["best"]["v_rand"]["score"],
            "best_v_info": scores["best"]["v_info"]["score"],
            "cells_v_rand": scores["cells"]["v_rand"]["score"],
            "cells_v_info": scores["cells"]["v_info"]["score"],
        }
    return result
