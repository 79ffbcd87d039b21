"""What the benches share: what they ran on, tables, and where results go."""

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"


def machine(*packages: str) -> dict[str, Any]:
    """Return processor, cores, load and versions: what a time is worth nothing without."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text("utf-8").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        flags = next((line for line in lines if line.startswith("flags")), "").split()
        able = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
        model = f"{(names or [model])[0]} ({', '.join(able)})"
    versions = {}
    for package in ("torch", "numpy", *packages):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "load": [round(value, 2) for value in os.getloadavg()],
        "python": platform.python_version(),
        **versions,
    }


def seconds(
    work: Callable[[], object], *, repeats: int = 5, least: float = 0.0, most: float = math.inf
) -> tuple[float, float]:
    """Return the fastest and the median time of some work, after once that does not count.

    It is repeated beyond `repeats` until `least` seconds are spent, and no more after `most`.
    """
    work()
    times: list[float] = []
    while (len(times) < repeats or sum(times) < least) and sum(times) < most:
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times), statistics.median(times)


def peak() -> int:
    """Return the most memory that this process held so far, in bytes."""
    # Not getrusage: its maximum is inherited from the process that started this one.
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("the kernel does not tell the peak of memory")


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return rows as a Markdown table; their first one names the columns."""
    names = list(rows[0])
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    for row in rows:
        shown = ["" if row.get(name) is None else _shown(row[name]) for name in names]
        lines.append(f"| {' | '.join(shown)} |")
    return lines


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def keep(name: str, **parts: Any) -> None:
    """Write parts of a result into ``docs/results``, beside the parts that are there."""
    file = RESULTS / f"{name}.json"
    found = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    text = json.dumps(found | parts, indent=1, ensure_ascii=False) + "\n"
    file.write_text(text, encoding="utf-8")
