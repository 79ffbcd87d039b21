"""Axolemma: from electron-microscopy sections to membranes, cells and a score you can trust.

Numpy in, numpy out::

    import axolemma

    model = axolemma.train("isbi2012", slices="0-24", budget="10m", run="runs/a")
    result = axolemma.segment(stack, model=model)
    scores = axolemma.evaluate(result.membrane, truth)

Arrays are (Z, Y, X), or (Y, X) for one section; a membrane map is 1 on membranes.
"""

from typing import TYPE_CHECKING

from axolemma._version import __version__
from axolemma.errors import (
    AxolemmaError,
    DownloadError,
    ImageError,
    InputError,
    ModelFileError,
    SettingsError,
)

if TYPE_CHECKING:
    from axolemma.metrics import Scores, Suite, evaluate, score_suite
    from axolemma.modelfile import Model, load_model
    from axolemma.segmentation import Segmentation, segment
    from axolemma.training import train

__all__ = [
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

# What needs torch is imported when it is first asked for: the command line answers --help, and a
# script that only evaluates starts, without waiting for it.
_ROOMS = {
    "Model": "modelfile",
    "Scores": "metrics",
    "Segmentation": "segmentation",
    "Suite": "metrics",
    "evaluate": "metrics",
    "load_model": "modelfile",
    "score_suite": "metrics",
    "segment": "segmentation",
    "train": "training",
}


def __getattr__(name: str) -> object:
    if name not in _ROOMS:
        raise AttributeError(f"module 'axolemma' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"axolemma.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
