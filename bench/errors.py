"""Where the cells of sections that no network has seen are still wrong, and what that costs.

    axolemma compare --data isbi2012 --models resunet --seeds 1 --folds 6 --steps 6000 -o FOLDER
    python bench/errors.py FOLDER --pictures PICTURES

Six networks, each of which has not seen five of the thirty sections, and their cells of those.
Every gap and every false border is mended alone (`axolemma.metrics.find_mistakes`), and what V_rand
then gains is added up by what was to be seen there: nothing in the membrane map, something, or a
membrane of which it is sure; and whether the smaller cell lies within the other, as organelles and
vesicles do. Gains of errors that share a cell do not quite add up. Writes
``docs/results/errors.json``, from which the table in docs/cells.md is taken; the pictures show the
image, the truth, the cells and the map at the costliest errors, and are not to be published: they
are the challenge's.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from axolemma import datasets
from axolemma.labels import label_borders
from axolemma.metrics import Mistake, find_mistakes
from axolemma.metrics.section import Section, section_of_labels
from axolemma.objects import segment_cells
from axolemma.pictures import grey, side_by_side
from measuring import keep, table
from objects import Fold, finished_folds

#: A map that stays below the first value shows nothing, one above the second is sure of itself.
NOTHING, SURE = 0.2, 0.6

#: Sections of the challenge.
SECTIONS = 30

#: Errors of a section that are tried, pictures that are made, and their sides in pixels.
TRIED, PICTURES, SIDE = 60, 24, 160


def kind_of(mistake: Mistake, section: Section, map_: np.ndarray) -> str:
    """Say what kind of an error it is."""
    # A quarter of a gap's pixels may be what holds it together at its ends.
    level = float(
        np.quantile(map_[tuple(mistake.pixels.T)], 0.25 if mistake.kind == "merge" else 0.5)
    )
    seen = "nothing" if level < NOTHING else "something" if level < SURE else "a sure membrane"
    where = "inside a cell" if enclosed(mistake, section) else "between cells"
    if mistake.kind == "split":
        where = "across a cell"
    return f"{mistake.kind} {where}, the map shows {seen}"


def enclosed(mistake: Mistake, section: Section) -> bool:
    """Tell whether an error's smallest cell borders on a single other cell."""
    sizes = [(int((section.true_cells == cell).sum()), cell) for cell in mistake.cells]
    inside = section.true_cells == min(sizes)[1]
    around = ndimage.binary_dilation(inside, iterations=12)
    touched = set(np.unique(section.true_cells[around & ~inside]).tolist()) - {0, min(sizes)[1]}
    at_edge = inside[[0, -1]].any() or inside[:, [0, -1]].any()
    return len(touched) == 1 and not at_edge


def picture(
    mistake: Mistake, image: np.ndarray, truth: np.ndarray, cells: np.ndarray, map_: np.ndarray
) -> np.ndarray:
    """Show image, truth, cells and map around an error."""
    corner = [
        int(np.clip(at - SIDE // 2, 0, max(0, whole - SIDE)))
        for at, whole in zip(mistake.position, image.shape, strict=True)
    ]
    cut = tuple(slice(first, first + SIDE) for first in corner)
    plain = np.repeat(grey(image[cut])[..., None], 3, axis=2)
    drawn, found = plain.copy(), plain.copy()
    drawn[truth[cut] == 1] = (230, 60, 60)
    found[label_borders(cells)[cut]] = (60, 220, 60)
    shown = np.repeat((255 * map_[cut]).astype(np.uint8)[..., None], 3, axis=2)
    panels = side_by_side(plain, drawn, found, shown, gap=4)
    return np.kron(panels, np.ones((2, 2, 1), np.uint8))


def listed(fold: Fold) -> list[dict[str, Any]]:
    """Return every error of a fold's sections."""
    cells = segment_cells(fold.maps, threshold=fold.threshold, boundary=fold.boundary, filled=True)
    found = []
    for n, drawn in enumerate(fold.truth):
        true_cells, _ = ndimage.label(drawn == 0)
        section = section_of_labels(cells[n], drawn == 1, true_cells)
        for mistake in find_mistakes(section, count=TRIED):
            about = {"section": fold.first + n, "y": mistake.position[0], "x": mistake.position[1]}
            about |= {"kind": kind_of(mistake, section, fold.maps[n]), "gain": mistake.gain}
            found.append(about | {"_": (mistake, drawn, cells[n], fold.maps[n])})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the comparison")
    parser.add_argument("--pictures", type=Path, help="folder for pictures of the costliest")
    options = parser.parse_args()
    errors = [error for fold in finished_folds(options.folder) for error in listed(fold)]
    errors.sort(key=lambda error: -error["gain"])
    if options.pictures:
        images = datasets.load("isbi2012").images
        options.pictures.mkdir(parents=True, exist_ok=True)
        for number, error in enumerate(errors[:PICTURES]):
            mistake, *rest = error["_"]
            shown = picture(mistake, images[error["section"]], *rest)
            file = options.pictures / f"{number:02}-section-{error['section']}.png"
            Image.fromarray(shown).save(file)
    plain = [{name: value for name, value in error.items() if name != "_"} for error in errors]
    total = sum(error["gain"] for error in plain)
    rows = []
    for kind in sorted({error["kind"] for error in plain}):
        gains = [error["gain"] for error in plain if error["kind"] == kind]
        rows.append(
            {
                "error": kind,
                "errors": len(gains),
                "V_rand it costs": round(sum(gains) / SECTIONS, 4),
                "share": f"{sum(gains) / total:.0%}",
            }
        )
    rows.sort(key=lambda row: -row["V_rand it costs"])
    keep("errors", kinds=rows, costliest=plain[:PICTURES])
    print("\n".join(table(rows)))
    print("\n".join(table(plain[:PICTURES])))


if __name__ == "__main__":
    main()
