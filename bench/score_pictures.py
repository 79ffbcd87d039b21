"""The pictures in docs/scores.md: for every score what it forgives and what it punishes.

    python bench/score_pictures.py [FOLDER]

Synthetic tissue; the number under a panel is the score of that very panel.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from axolemma.datasets import phantom_pairs
from axolemma.metrics import (
    SCORES,
    Sections,
    error_map,
    expected_run_length,
    find_mistakes,
    score_suite,
)
from axolemma.pictures import colours, errors_over

SIDE, ZOOM, GAP, TEXT = 240, 1, 14, 40
FONT = ImageFont.load_default(15)

#: score: (what it forgives, what it punishes), each a name of a change below.
SHOWN = {
    "v_rand": ("thick", "gap"),
    "v_info": ("thick", "walls"),
    "v_rand_unthinned": ("stub", "thick"),
    "rand_error": ("stub", "gap"),
    "pixel_error": ("gap", "thick"),
    "squared_error": ("gap", "soft"),
    "warping_error": ("thick", "wall"),
    "warping_splits": ("thick", "walls"),
    "voi_cremi_split": ("gap", "walls"),
    "voi_cremi_merge": ("walls", "gap"),
    "are_cremi": ("stub", "gap"),
    "are_skimage": ("stub", "thick"),
    "cremi_score": ("stub", "gap"),
    "cell_f1": ("gap", "lost"),
    "cell_ap": ("gap", "thick"),
    "panoptic_quality": ("gap", "lost"),
    "f1": ("gap", "thick"),
    "average_precision": ("soft", "specks"),
    "calibration_error": ("gap", "thick"),
    "cl_dice": ("thick", "specks"),
    "boundary_f": ("moved", "thick"),
    "betti_0": ("thick", "specks"),
    "betti_1": ("trade", "leak"),
    "betti_matching_1": ("moved", "trade"),
}

WORDS = {
    "thick": "membrane 2 px thicker",
    "gap": "one gap",
    "wall": "one false membrane",
    "walls": "three false membranes",
    "stub": "open-ended stubs",
    "soft": "a soft map",
    "lost": "small cells filled",
    "specks": "specks",
    "moved": "moved by 1 px",
    "leak": "a gap between closed cells",
    "trade": "a gap, and a false membrane",
}


def change(what: str, truth: np.ndarray) -> np.ndarray:
    cells, count = ndimage.label(~truth)
    sizes = ndimage.sum_labels(~truth, cells, np.arange(1, count + 1))
    order = 1 + np.argsort(sizes)[::-1]
    if what in ("leak", "trade"):  # cells cut by the border are no holes
        edge = np.concatenate((cells[0], cells[-1], cells[:, 0], cells[:, -1]))
        order = order[~np.isin(order, edge)]
    proposal = truth.astype(float)
    if what == "thick":
        return ndimage.binary_dilation(truth, iterations=2).astype(float)
    if what == "soft":
        return ndimage.gaussian_filter(proposal, 2.0)
    if what == "moved":
        return np.roll(proposal, 1, axis=1)
    if what == "specks":
        rng = np.random.default_rng(1)
        dots = ndimage.binary_dilation(rng.random(truth.shape) < 0.002, iterations=2)
        return np.maximum(proposal, dots)
    if what == "lost":
        proposal[np.isin(cells, order[-5:])] = 1
        return proposal
    if what in ("gap", "leak", "trade"):
        one, other = largest_neighbours(cells, order)
        near = [ndimage.binary_dilation(cells == cell, iterations=5) for cell in (one, other)]
        contact = np.argwhere(near[0] & near[1] & truth)
        y, x = contact[len(contact) // 2]
        proposal[max(0, y - 5) : y + 6, max(0, x - 5) : x + 6] = 0
    if what in ("wall", "walls", "trade", "stub"):
        for cell in order[: {"walls": 3, "stub": 4}.get(what, 1)]:
            box = ndimage.find_objects(cells)[cell - 1]
            middle = (box[0].start + box[0].stop) // 2
            line = np.argwhere(cells[middle] == cell)[:, 0]
            if what == "stub":
                line = line[: len(line) * 2 // 3]
            proposal[middle - 1 : middle + 2, line] = np.maximum(
                proposal[middle - 1 : middle + 2, line],
                cells[middle - 1 : middle + 2, line] == cell,
            )
    return proposal


def largest_neighbours(cells: np.ndarray, order: np.ndarray) -> tuple[int, int]:
    for n, one in enumerate(order):
        near = ndimage.binary_dilation(cells == one, iterations=8)
        for other in order[:n]:
            if (near & (cells == other)).any():
                return int(one), int(other)
    raise SystemExit("no two cells touch")


def panel(truth: np.ndarray, proposal: np.ndarray, words: str) -> Image.Image:
    """Draw a proposal: membrane dark, missing membrane red, false membrane blue."""
    wrong = proposal - truth
    shade = 255 - 190 * np.minimum(proposal, 1)[..., None] * np.ones(3)
    for sign, colour in ((1, (0, 114, 178)), (-1, (213, 54, 0))):
        strength = np.clip(sign * wrong, 0, 1)[..., None]
        shade = (1 - strength) * shade + strength * np.array(colour)
    return captioned(shade.astype(np.uint8), words)


def captioned(pixels: np.ndarray, words: str) -> Image.Image:
    image = Image.fromarray(pixels).resize(
        (pixels.shape[1] * ZOOM, pixels.shape[0] * ZOOM), Image.Resampling.NEAREST
    )
    sheet = Image.new("RGB", (image.width, image.height + TEXT), "white")
    sheet.paste(image)
    ImageDraw.Draw(sheet).multiline_text((2, image.height + 2), words, "black", FONT, spacing=2)
    return sheet


def row(*panels: Image.Image) -> Image.Image:
    width = sum(part.width for part in panels) + GAP * (len(panels) - 1)
    sheet = Image.new("RGB", (width, panels[0].height), "white")
    x = 0
    for part in panels:
        sheet.paste(part, (x, 0))
        x += part.width + GAP
    return sheet


def run_length() -> Image.Image:
    """Draw two straight neurites from the side: whole, one cut, both joined."""
    truth = np.zeros((60, 9, SIDE), np.int64)
    truth[10:25, 2:7, 5:-5], truth[35:50, 2:7, 5:-5] = 1, 2
    cut, joined = truth.copy(), truth.copy()
    cut[10:25, :, SIDE // 2 :][truth[10:25, :, SIDE // 2 :] > 0] = 3
    joined[truth > 0] = 1
    panels = []
    for labels, words in ((truth, "truth"), (cut, "one neurite cut"), (joined, "both joined")):
        found = expected_run_length(labels, truth, voxel_size=(4, 4, 4))
        view = np.where((labels == 0)[:, 4, :, None], 255, colours(labels[:, 4]))
        tall = np.full((SIDE, SIDE, 3), 255, np.uint8)
        tall[90:150] = view
        panels.append(captioned(tall, f"{words}\n{found.expected:.0f} nm"))
    return row(*panels)


def errors() -> Image.Image:
    """Show what `axolemma evaluate --errors` draws: the errors of a soft, noisy map."""
    pairs = phantom_pairs((1, 400, 720), seed=8)
    truth = pairs.truth[0].astype(bool)
    rng = np.random.default_rng(2)
    map_ = ndimage.gaussian_filter(truth.astype(float), 2.0)
    map_ += ndimage.gaussian_filter(rng.normal(0, 1.1, truth.shape), 3.0)
    (cut,) = Sections(np.clip(map_, 0, 1), truth).each()
    section = cut.at(0.62)
    mistakes = find_mistakes(section, count=12)
    kinds = error_map(section, mistakes)
    rings = [mistake.position for mistake in mistakes]
    return Image.fromarray(errors_over(pairs.images[0], kinds, rings))


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images/scores")
    folder.mkdir(parents=True, exist_ok=True)
    truth = phantom_pairs((1, SIDE, SIDE), seed=4).truth[0].astype(bool)
    for name, shown in SHOWN.items():
        best = score_suite(truth.astype(float), truth).mean(name)
        panels = [panel(truth, truth.astype(float), f"truth\n{best:.4g}")]
        for what in shown:
            proposal = change(what, truth)
            value = score_suite(proposal, truth).mean(name)
            panels.append(panel(truth, proposal, f"{WORDS[what]}\n{value:.4g}"))
        row(*panels).quantize(64).save(folder / f"{name}.png", optimize=True)
        print(f"{folder / name}.png: {SCORES[name].title.strip()}")
    errors().save(folder.parent / "errors.jpg", quality=80)
    run_length().quantize(64).save(folder / "expected_run_length.png", optimize=True)


if __name__ == "__main__":
    main()
