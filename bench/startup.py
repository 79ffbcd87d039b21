"""How long the command line takes to start, and one section from cold to its results.

    python bench/startup.py

Each command is a process of its own, repeated; the first, which finds nothing in the file cache
and may compile, is left out. The fastest is what the program takes, the median what this machine
had left for it. Beside them the same Python importing torch alone: less than that no command that
runs a network can take. Writes ``docs/results/startup.json``.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from axolemma.datasets import phantom
from axolemma.images import write_tiff
from measuring import keep, machine, table

LIMITS = {"--help": 0.3, "segment 512²": 3.0}


def timed(command: list[str], repeats: int) -> dict[str, float]:
    """Run a command so often, and once before; return seconds on the clock and of the processor."""
    wall, user = [], []
    for _ in range(repeats + 1):
        before, started = os.times(), time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        wall.append(time.perf_counter() - started)
        after = os.times()
        spent = (after.children_user, after.children_system)
        user.append(sum(spent) - before.children_user - before.children_system)
    return {
        "fastest": round(min(wall[1:]), 3),
        "median": round(statistics.median(wall[1:]), 3),
        "processor": round(min(user[1:]), 3),
    }


def slowest_imports(code: str, most: int = 12) -> list[dict[str, object]]:
    """Return the packages that a line of Python imports, by the seconds that they cost in all."""
    command = [sys.executable, "-X", "importtime", "-c", code]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    own: dict[str, float] = {}
    for line in told.splitlines():
        parts = line.removeprefix("import time:").split("|")
        if len(parts) == 3 and parts[0].strip().isdecimal():
            package = parts[2].strip().split(".")[0]
            own[package] = own.get(package, 0) + int(parts[0]) / 1e6
    ranked = sorted(own.items(), key=lambda item: -item[1])[:most]
    return [{"package": name, "seconds": round(seconds, 3)} for name, seconds in ranked]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    axolemma = [sys.executable, "-m", "axolemma"]
    with tempfile.TemporaryDirectory() as folder:
        section = Path(folder) / "section.tif"
        write_tiff(section, phantom((1, 512, 512)).image, voxel_size=(50, 4, 4))
        out = ["-o", str(Path(folder) / "out"), "--overwrite"]
        commands = {
            "import torch": [sys.executable, "-c", "import torch"],
            "--help": [*axolemma, "--help"],
            "segment --help": [*axolemma, "segment", "--help"],
            "info": [*axolemma, "info", "neurites"],
            "segment 512²": [*axolemma, "segment", str(section), *out],
        }
        rows = [
            {"command": name, **timed(command, options.repeats), "limit": LIMITS.get(name)}
            for name, command in commands.items()
        ]
    imports = slowest_imports("import axolemma.datasets, axolemma.segmentation")
    keep("startup", machine=machine(), commands=rows, imports=imports)
    print("\n".join(table(rows)))
    print("\n".join(["", *table(imports)]))


if __name__ == "__main__":
    main()
