"""Draw docs/images/view.jpg: what `axolemma view` shows of segmented synthetic tissue.

    python bench/view_picture.py

Needs the extras `view` and `browser`, and Chromium.
"""

import argparse
import io
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

import axolemma
from axolemma import view
from axolemma.datasets import phantom_pairs
from axolemma.images import Stack

FLAGS = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", type=Path, default=Path("docs/images/view.jpg"))
    parser.add_argument("--seconds", type=float, default=60, help="until all is drawn")
    given = parser.parse_args()
    pairs = phantom_pairs((30, 512, 512), seed=1)
    size = pairs.voxel_size
    found = axolemma.segment(pairs.images, objects="neurons", voxel_size=size, average="flips")
    assert found.neurons is not None
    layers = [
        view.Layer(name, kind, [view.held(Stack(array, (0, 1), size, name))])
        for name, kind, array in (
            ("image", "image", pairs.images),
            ("membrane", "membrane", found.membrane),
            ("neurons", "labels", found.neurons),
        )
    ]
    viewer = view.open_viewer(layers)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=[*FLAGS, "--ignore-gpu-blocklist"]
        )
        page = browser.new_page(viewport={"width": 1300, "height": 700})
        page.goto(viewer.get_viewer_url())
        page.wait_for_timeout(1000 * given.seconds)
        shot = Image.open(io.BytesIO(page.screenshot()))
        browser.close()
    view.close_viewer()
    shot.convert("RGB").save(given.picture, quality=84)
    print(f"{given.picture}: {np.unique(found.neurons).size - 1} neurons")


if __name__ == "__main__":
    main()
