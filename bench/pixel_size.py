"""How well the look of the membranes tells the pixel size of sections that do not.

    python bench/pixel_size.py

`neurites-seed` on sections 25-29 of the challenge and on synthetic tissue, neither of which it has
seen, resized as if they had been imaged at other pixel sizes, and blurred, noisy or with another
gamma. Each section is judged alone. Then what it is good for: the scores of the cells of these
sections where the size is told, where it is not, and where it is taken for the model's.
Writes ``docs/results/pixel_size.json``, from which docs/data.md takes its numbers.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.transform import resize

from axolemma import pixel_size
from axolemma.datasets import isbi2012, phantom_pairs
from axolemma.metrics import evaluate
from axolemma.modelfile import load_model
from axolemma.segmentation import likely_size, segment
from measuring import keep, table

#: Of the microscope, in nm; the model learned at 4.
SIZES = (1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 11.0)

CHANGES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "as they are": lambda grey: grey,
    "blurred by 1.5 px": lambda grey: ndimage.gaussian_filter(grey, 1.5),
    "noise of 40 grey values": lambda grey: (
        grey + np.random.default_rng(0).normal(0, 40, grey.shape)
    ),
    "gamma 2": lambda grey: 255 * (grey / 255) ** 2,
    "inverted, a fifth of the contrast": lambda grey: 150 - grey / 5,
}


def imaged(section: NDArray[np.float64], size: float) -> NDArray[np.uint8]:
    """Return a section of 4 nm pixels as pixels of another size would have it, in 8 bits."""
    sides = [round(side * 4 / size) for side in section.shape]
    found = resize(section, sides, order=1, preserve_range=True, anti_aliasing=size > 4)
    return np.rint(np.clip(found, 0, 255)).astype(np.uint8)


def main() -> None:
    # Here the factor itself counts, not whether it is near enough to 1.
    alike, pixel_size._ALIKE = pixel_size._ALIKE, 1.0
    model = load_model("neurites-seed")
    tissues = {
        "isbi2012": isbi2012.load().slices(range(25, 30)),
        "phantom": phantom_pairs((5, 512, 512), seed=3),
    }
    ratios = []
    for name, pairs in tissues.items():
        for change, changed in CHANGES.items():
            for size in SIZES:
                found = []
                for section in pairs.images:
                    stack = imaged(changed(section.astype(float)), size)[None]
                    found.append(
                        4
                        * likely_size(lambda box, s=stack: s[box.slices], stack.shape, model)
                        / size
                    )
                ratios.append(
                    {
                        "tissue": name,
                        "sections": change,
                        "nm": size,
                        "lowest": round(min(found), 3),
                        "median": round(float(np.median(found)), 3),
                        "highest": round(max(found), 3),
                    }
                )
                print(ratios[-1], flush=True)
    pixel_size._ALIKE = alike
    scores = []
    for name, pairs in tissues.items():
        for size in SIZES:
            images = np.stack([imaged(section.astype(float), size) for section in pairs.images])
            sides = images.shape[1:]
            truth = np.stack(
                [resize(one.astype(float), sides, order=1) > 0.5 for one in pairs.truth]
            ).astype(np.uint8)
            row = {"tissue": name, "nm": size}
            for how, said in (
                ("told", (50, size, size)),
                ("not told", None),
                ("taken for 4 nm", (50, 4, 4)),
            ):
                result = segment(images, model=model, voxel_size=said)
                found = evaluate(result.cells, truth, proposal_is="cells", unthinned=False)
                row[f"V_rand, {how}"] = round(found.v_rand(0), 4)
                row[f"V_info, {how}"] = round(found.v_info(0), 4)
            scores.append(row)
            print(row, flush=True)
    keep("pixel_size", ratios=ratios, scores=scores)
    print("\n".join(table(ratios) + table(scores)))


if __name__ == "__main__":
    main()
