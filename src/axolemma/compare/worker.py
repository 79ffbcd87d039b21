"""What runs in a cell's own process, which alone needs torch."""

import json
import os
import pickle
import platform
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from axolemma._version import __version__
from axolemma.compare.cells import Task
from axolemma.errors import AxolemmaError
from axolemma.evaluation import evaluate_stacks
from axolemma.images import Stack, replacing, write_tiff
from axolemma.metrics import SCORES
from axolemma.settings import TrainSettings, check


def main() -> None:
    """Run the cell that stands on standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process hears it and ends the others
    task = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as channel:
        os.dup2(2, 1)  # what anything prints goes to the log

        def tell(**message: object) -> None:
            channel.write(json.dumps(message) + "\n")
            channel.flush()

        if failed := attempt(task, lambda what, done: tell(what=what, done=done)):
            tell(failed=failed)


def attempt(task: Task, tell: Callable[[str, float], None]) -> str | None:
    """Run a cell, write its result and return why that failed, None where it did not."""
    try:
        result = _run(task, tell)
        with replacing(task.folder / "result.json") as partial:
            partial.write_text(json.dumps(result, indent=1), encoding="utf-8")
    except AxolemmaError as error:
        return str(error)
    except Exception as error:
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"
    return None


def _end_with_parent() -> None:
    # Read below Python's own buffer, whose lock a thread must not hold when the process ends.
    while os.read(0, 4096):
        pass
    os._exit(1)


def _run(task: Task, tell: Callable[[str, float], None]) -> dict[str, Any]:
    """Train, predict and score one cell."""
    # Late: importing torch takes a while, and by now somebody watches the first process.
    import torch

    from axolemma import models
    from axolemma.predict import choose_device
    from axolemma.segmentation import segment
    from axolemma.training import fit, split

    torch.set_num_threads(max(1, torch.get_num_threads() // task.jobs))
    cell, test = task.cell, task.test
    settings = check(TrainSettings, task.settings)
    run = task.folder / "run"
    resumed = run.exists()
    model = fit(
        task.learn,
        settings,
        run,
        report=lambda p: tell(f"step {p.step}, loss {p.loss:.4f}", p.done),
    )
    tell("predicting and scoring", 1.0)
    started = time.monotonic()
    found = segment(
        test.images,
        model=model,
        average=task.average,
        objects="none",
        precision=settings.precision,
        device=settings.device,
    )
    prediction_seconds = time.monotonic() - started
    memory = _peak_memory()
    device = choose_device(settings.device)
    on_gpu = device.type == "cuda"
    about = {"threshold": found.threshold, "sections": [cell.first, cell.last]}
    write_tiff(
        task.folder / "membrane.tif",
        found.membrane,
        voxel_size=test.voxel_size,
        holds="membrane map",
        info=about,
    )
    scored = evaluate_stacks(
        Stack(found.membrane, (0, 1), test.voxel_size, cell.key, holds="membrane map"),
        Stack(test.truth, (0, 1), test.voxel_size, test.name),
        threshold=found.threshold,
    )
    training = model.info.training
    validated = split(settings, len(task.learn))[1]
    return {
        **asdict(cell),
        "sections": list(range(cell.first, cell.last + 1)),
        "learned_from": list(task.numbers),
        "validated_on": [task.numbers[z] for z in validated],
        "threshold": found.threshold,
        "average": task.average,
        "scores": {name: scored.suite.values[name].tolist() for name in SCORES},
        "best": {
            name: scored.scores.at(scored.best_threshold(name), name).score
            for name in ("v_rand", "v_info")
        },
        "steps": training["steps"],
        "training_seconds": round(60 * training["minutes"], 1),
        "prediction_seconds": round(prediction_seconds, 3),
        "resumed": resumed,
        "memory_mib": memory,
        "device_memory_mib": torch.cuda.max_memory_allocated(device) / 2**20 if on_gpu else None,
        "parameters": models.parameters(model.network),
        "gflop_per_megapixel": models.gflop_per_megapixel(cell.model, **model.info.arguments),
        "arguments": model.info.arguments,
        "machine": torch.cuda.get_device_name(device) if on_gpu else platform.machine(),
        "device": str(device),
        "jobs": task.jobs,
        "threads": torch.get_num_threads(),
        "precision": training["precision"],
        "versions": {
            "axolemma": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "weights_sha256": training["weights_sha256"],
    }


def _peak_memory() -> float | None:
    """Return the most memory that this process held so far, in MiB; None where nobody knows."""
    # On Linux not getrusage: its maximum is inherited from the process that started this one.
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text("utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(most / (2**20 if sys.platform == "darwin" else 1024), 1)
