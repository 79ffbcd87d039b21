"""Put a section of the phantom beside a real one, and their statistics too.

    python bench/phantom_look.py [FOLDER] [--seed 0] [--section 3] [-o phantom_look.png]

FOLDER holds the ISBI 2012 files train-volume.tif and train-labels.tif; default: $AXOLEMMA_DATA,
itself or its folder isbi2012.
"""

import argparse
import itertools
import os
import time
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from axolemma.datasets.phantom_tissue import REAL, phantom


def best_overlap(truth: NDArray[np.uint8], following: NDArray[np.uint8]) -> float:
    """Return the part of the profiles that lies under their best match in the next section."""
    here, count = ndimage.label(truth == 0)
    there, others = ndimage.label(following == 0)
    pairs = np.bincount(
        (here * (others + 1) + there).ravel(), minlength=(count + 1) * (others + 1)
    ).reshape(count + 1, others + 1)[1:]
    return float(pairs[:, 1:].max(axis=1).sum() / pairs.sum())


def statistics(image: NDArray[np.uint8], truth: NDArray[np.uint8]) -> dict[str, float]:
    """Measure a stack (1 = membrane) under the names of `axolemma.datasets.phantom_tissue.REAL`."""
    sizes = [np.bincount(ndimage.label(t == 0)[0].ravel())[1:] for t in truth]
    pairs = list(itertools.pairwise(truth))
    slopes = np.gradient(image.astype(np.float32), axis=(1, 2))
    return {
        "membrane fraction": truth.mean(),
        "grey mean": image.mean(),
        "grey deviation": image.std(axis=(1, 2)).mean(),
        "grey of membrane": image[truth == 1].mean(),
        "grey of interior": image[truth == 0].mean(),
        "exposure deviation": image.mean(axis=(1, 2)).std(),
        "gradient": np.hypot(*slopes).mean(),
        "profiles": np.mean([len(s) for s in sizes]) * 512**2 / truth[0].size,
        "median profile": np.median(np.concatenate(sizes)),
        "section overlap": np.mean([best_overlap(a, b) for a, b in pairs]),
        "section correlation": np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs]),
    }


def spectrum(image: NDArray[np.uint8], bands: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean power of the sections in rings of frequency, `bands` in cycles per side."""
    window = np.hanning(image.shape[1])[:, None] * np.hanning(image.shape[2])
    power = sum(np.abs(np.fft.fft2((s - s.mean()) * window)) ** 2 for s in image) / len(image)
    y, x = (np.fft.fftfreq(n) * n for n in image.shape[1:])
    ring = np.hypot(y[:, None], x)
    return np.array([power[np.abs(ring - b) < 2].mean() for b in bands]) / (window**2).sum()


def real_folder(given: Path | None) -> Path:
    base = given or Path(os.environ.get("AXOLEMMA_DATA", "."))
    found = [p for p in (base, base / "isbi2012") if (p / "train-volume.tif").exists()]
    if not found:
        raise SystemExit(f"no train-volume.tif in {base}; give its folder or set AXOLEMMA_DATA")
    return found[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--section", type=int, default=3)
    parser.add_argument("-o", "--out", type=Path, default=Path("phantom_look.png"))
    options = parser.parse_args()
    folder = real_folder(options.folder)
    image = tifffile.imread(folder / "train-volume.tif")
    truth = (tifffile.imread(folder / "train-labels.tif") == 0).astype(np.uint8)

    phantom((1, 8, 8))  # compile first
    start = time.perf_counter()
    block = phantom(image.shape, seed=options.seed)
    print(f"phantom of {image.shape} in {time.perf_counter() - start:.1f} s")
    n = options.section
    pairs = np.vstack(
        [np.hstack([block.image[n], image[n]]), 255 - 255 * np.hstack([block.truth[n], truth[n]])]
    )
    Image.fromarray(pairs).save(options.out)
    print(f"phantom on the left, real on the right: {options.out}")

    real, made = statistics(image, truth), statistics(block.image, block.truth)
    print(f"{'':20}{'real':>10}{'phantom':>10}{'aimed at':>10}")
    for name, aim in REAL.items():
        print(f"{name:20}{real[name]:10.3f}{made[name]:10.3f}{aim:10.3f}")
    bands = np.array([4, 8, 16, 32, 64, 96, 128, 160, 192, 224])
    for band, a, b in zip(bands, spectrum(image, bands), spectrum(block.image, bands), strict=True):
        print(f"power at {band:3d} cycles {a:12.0f}{b:12.0f}")


if __name__ == "__main__":
    main()
