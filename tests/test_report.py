"""Pages: complete in themselves, escaped, and alive in a real browser."""

import base64
import importlib.util
import io
import json
import math
import re
import shutil
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from axolemma import cli, compare, report, training
from axolemma.datasets import phantom_pairs
from axolemma.errors import AxolemmaError, InputError
from axolemma.evaluation import evaluate_stacks
from axolemma.images import Stack, write_tiff
from axolemma.metrics import SCORES, STACK_SCORES, Section, label_cells
from axolemma.report import figures
from axolemma.report.charts import Series, line_chart, ticks
from axolemma.report.curves import comparison_curves
from axolemma.report.explained import EXPLAINED
from axolemma.report.markup import Html, tag
from axolemma.report.methods import Method, sections
from axolemma.report.overlays import representative
from axolemma.settings import TrainSettings, check

EVIL = "<script>alert(1)</script>"
VOID = {"br", "img", "input", "meta", "!doctype"}
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


class Reader(HTMLParser):
    """Check that every tag is closed, and keep what a page holds."""

    def __init__(self, text):
        super().__init__()
        self.open, self.found, self.words = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, name, attributes):
        self.found.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, words):
        self.words.append(words)

    def all(self, name, class_=None):
        return [
            attributes
            for tag_, attributes in self.found
            if tag_ == name and class_ in (None, attributes.get("class"))
        ]


def read(text):
    """Parse a page and check what holds for all of them."""
    page = Reader(text)
    names = [attributes["id"] for _, attributes in page.found if "id" in attributes]
    assert len(set(names)) == len(names)
    for _, attributes in page.found:
        for key in ("src", "href", "srcset", "action", "data"):
            target = attributes.get(key) or "#"
            assert target.startswith(("#", "data:image/")), target
            if len(target) > 1 and target.startswith("#"):
                assert target[1:] in names
    assert "url(" not in text
    assert "@import" not in text
    assert len(page.all("script")) == 1
    assert all(image["alt"] for image in page.all("img"))
    for image in page.all("img"):
        kind, data = re.fullmatch(r"data:image/([a-z+]+);base64,(.*)", image["src"]).groups()
        held = base64.b64decode(data, validate=True)
        if kind == "svg+xml":
            ET.fromstring(held)
        else:
            picture = Image.open(io.BytesIO(held))
            picture.load()
            assert picture.format.lower() == kind
    return page


@pytest.fixture(scope="module")
def pairs():
    return phantom_pairs((3, 96, 96))


#: As a segmentation writes it beside a map.
ABOUT = {"threshold": 0.5, "calibration": [0.8, -0.2]}


@pytest.fixture(scope="module")
def found(pairs):
    rng = np.random.default_rng(0)
    noisy = np.clip(pairs.truth + rng.normal(0, 0.35, pairs.truth.shape), 0, 1)
    proposal = Stack(noisy, (0, 1), None, "map", holds="membrane map", info=ABOUT)
    return evaluate_stacks(proposal, Stack(pairs.truth, (0, 1), (50.0, 4.0, 4.0), "truth"))


@pytest.fixture(scope="module")
def run(pairs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a"
    small = {"width": 2, "depth": 1, "crop": 32, "batch": 2, "precision": "fp32", "device": "cpu"}
    settings = check(TrainSettings, {"data": EVIL, "steps": 3, **small})
    training.fit(replace(pairs, name=EVIL, terms=EVIL), settings, folder)
    return folder


@pytest.fixture(scope="module")
def compared(pairs, tmp_path_factory):
    """Return the folder of a comparison whose networks are noise: 2 models, 3 seeds, 1 fold."""
    folder = tmp_path_factory.mktemp("compared") / "mine"
    settings = {"data": "phantom", "models": ["unet", "cenet"], "losses": ["bce_dice"]}
    settings |= {"presets": ["axolemma"], "seeds": [0, 1, 2], "folds": "seed", "sections": 4}
    settings |= {"budget": 2.0, "steps": None, "training": {"crop": 64}}
    settings["arguments"] = {"unet": {"width": 4, "unshuffle": 2, "dropout": 0.2}}
    truth = Stack(np.concatenate([pairs.truth, pairs.truth[:1]]), (0, 1), None, "truth")
    rng = np.random.default_rng(1)
    for model, seed in [(model, seed) for model in settings["models"] for seed in range(3)]:
        cell = compare.Cell(model, "bce_dice", "axolemma", seed, 3, 3)
        run = folder / "cells" / cell.key / "run"
        run.mkdir(parents=True)
        noise = 0.3 + 0.03 * seed + 0.06 * (model == "cenet")
        drawn = truth.array[3:] + rng.normal(0, noise, (1, 96, 96))
        info = {"threshold": 0.5, "sections": [3, 3]}
        file = run.parent / "membrane.tif"
        drawn = np.clip(drawn, 0, 1).astype(np.float32)
        write_tiff(file, drawn, holds="membrane map", info=info)
        proposal = Stack(drawn, (0, 1), None, "map", holds="membrane map", info=info)
        found = evaluate_stacks(proposal, truth)
        steps = 40 if model == "unet" else 20
        result = {"sections": [3], "learned_from": [0, 1, 2], "validated_on": [2], "steps": steps}
        result |= {"model": model, "loss": "bce_dice", "preset": "axolemma", "seed": seed}
        result |= {"first": 3, "last": 3, "threshold": 0.5, "average": "flips", "jobs": 1}
        result["scores"] = {name: found.suite.values[name].tolist() for name in SCORES}
        result["best"] = {"v_rand": 0.9, "v_info": 0.9}
        result |= dict.fromkeys(("training_seconds", "prediction_seconds", "memory_mib"), 1.0)
        result |= {
            "parameters": 9,
            "gflop_per_megapixel": 1.0,
            "arguments": {},
            "threads": 1 + seed,
        }
        result |= {"machine": "abacus", "device": "cpu", "device_memory_mib": None}
        result |= {"precision": "fp32", "versions": {"torch": "2"}}
        result["weights_sha256"] = f"{seed}{model}" + 60 * "f"
        (run.parent / "result.json").write_text(json.dumps(result))
        told = {"settings": {"learning_rate": 0.003, "schedule": "cosine"}}
        (run / "settings.json").write_text(json.dumps(told))
        lines = [
            {"step": steps * n // 20, "done": n / 20, "loss": 1 + seed, "seconds": n}
            for n in range(1, 21)
        ]
        score = {"v_rand": 0.5 + seed / 10, "v_info": 0.9, "threshold": 0.5}
        score |= {} if model == "unet" else {"accuracy": 0.8}
        lines += [{"step": steps * n // 20, "done": n / 20, **score} for n in (5, 20)]
        (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "comparison.json").write_text(json.dumps({"settings": settings}))
    return folder, compare.load(folder).as_dict(), truth


# Markup and charts


def test_whatever_is_inserted_is_escaped():
    assert tag("p", "a < b & c", class_='"x"') == '<p class="&quot;x&quot;">a &lt; b &amp; c</p>'
    assert tag("p", tag("b", "x"), hidden=True, id=None) == "<p hidden><b>x</b></p>"
    assert tag("img", alt="\x00a\x1b") == '<img alt="a">'
    assert tag("p", Html("<i></i>"), 3, None) == "<p><i></i>3None</p>"


@given(
    st.floats(-1e6, 1e6).filter(lambda v: abs(v) > 1e-3 or v == 0),
    st.floats(1e-3, 1e6),
    st.integers(2, 8),
)
def test_ticks_are_even_and_inside(low, width, count):
    high = low + width
    found = ticks(low, high, count=count)
    # The steps 1, 2, 2.5, 5, 10 are at most a factor 2 apart, so the nearest is off by √2 at most.
    assert count / 1.5 - 1 <= len(found) <= 1.5 * count + 1
    assert all(low - 1e-6 * width <= value <= high + 1e-6 * width for value in found)
    steps = np.diff(found)
    assert np.allclose(steps, steps[:1], rtol=1e-6, atol=1e-9 * abs(high))


def test_ticks_by_hand():
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert ticks(3, 17) == [5, 7.5, 10, 12.5, 15]  # 14 / 5 = 2.8, and 2.5 is the nearest step
    assert ticks(5, 5) == [5]


def test_a_line_stands_where_its_numbers_say():
    chart = line_chart(
        [Series("a", [0, 0.5, 1], [0, math.nan, 1])],
        title="T & <b>",
        x="x",
        y="y",
        x_range=(0, 1),
        y_range=(0, 1),
    )
    Reader(chart)
    # The axes go from 52 to 480 - 14 and from 300 - 44 up to 52; NaN is left out.
    assert 'points="52.0,256.0 466.0,52.0"' in chart
    assert "T &amp; &lt;b&gt;" in chart
    assert "from 0 to 1" in chart


def test_several_series_have_a_legend_and_marks_have_words():
    series = [
        Series("V_rand", [0, 1], [0.2, 0.4], "dotted"),
        Series("V_info", [0, 1], [0.3, 0.5], "dots"),
        Series("raw", [0, 1], [0.3, 0.5], "pale"),
    ]
    chart = line_chart(series, title="t", x="x", y="y", marks={0.9: "chosen <0.9>"})
    words = [text for text in Reader(chart).words if text.strip()]
    assert words.count("V_rand") == words.count("V_info") == 1
    assert "raw" not in words
    assert "chosen <0.9>" in words
    # 2 dots of each, and in the legend 2 of the line with dots and 1 of the dots.
    assert len(Reader(chart).all("circle")) == 4 + 3


def test_long_series_are_thinned_and_flat_ones_have_room():
    many = list(range(10_000))
    chart = line_chart([Series("a", many, many)], title="t", x="x", y="y")
    assert len(Reader(chart).all("polyline")[0]["points"].split()) == 400
    line_chart([Series("a", [3], [0.0])], title="t", x="x", y="y")


def test_specks_lie_behind_in_the_colour_of_their_series():
    series = [
        Series("a", [0.5], [0.5], "dotted"),
        Series("b", [0.5], [0.2], "specks", shift=7),
        Series("b", [0.5], [0.4], "dotted", shift=7),
    ]
    chart = line_chart(series, title="t", x="x", y="y", x_range=(0, 1), y_range=(0, 1), wide=True)
    page = Reader(chart)
    # The middle of 52 … 1000 - 14, where 7 to the right is asked for.
    assert [float(dot["cx"]) for dot in page.all("circle") if float(dot["cx"]) > 100] == [
        *(526, 519, 526),
    ]
    speck = page.all("circle")[4]  # after the two dots of each of the legend's samples
    mean = page.all("circle")[-1]
    assert (speck["fill"], speck["fill-opacity"]) == (mean["stroke"], "0.4")
    assert page.words.count("b") == 1


@hypothesis.settings(max_examples=20)
@given(st.lists(st.integers(1, 50), min_size=2, max_size=9), st.booleans())
def test_a_legend_stays_within_the_chart(lengths, wide):
    series = [Series(length * "x", [0, 1], [0, 1]) for length in lengths]
    page = Reader(line_chart(series, title="t", x="x", y="y", wide=wide))
    _, _, width, height = map(float, page.all("svg")[0]["viewbox"].split())
    names = page.all("text", "chart-name")
    ends = [float(name["x"]) + 7.5 * length for name, length in zip(names, lengths, strict=True)]
    assert max(ends) <= max(width, 36 + 7.5 * max(lengths))
    places = [(float(name["y"]), float(name["x"])) for name in names]
    assert places == sorted(places)
    # What the legend needs more than one line for, the chart is higher.
    assert height == 300 + places[-1][0] - places[0][0]
    assert len({*places}) == len(lengths)


def test_a_chart_of_nothing_is_refused():
    with pytest.raises(InputError, match="'t' has no finite point"):
        line_chart([Series("a", [1], [math.inf])], title="t", x="x", y="y")
    with pytest.raises(InputError, match="'a' has 2 x and 1 y"):
        line_chart([Series("a", [1, 2], [1])], title="t", x="x", y="y")


# Pictures


def section_of(membrane, true_membrane):
    cells, true_cells = label_cells(~membrane), label_cells(~true_membrane)
    return Section(membrane, cells, true_membrane, true_cells)


def decoded(uri):
    return np.array(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGBA"))


def test_colours_tell_mergers_and_splits():
    truth = np.zeros((9, 40), bool)
    truth[:, [10, 20, 30]] = True
    proposal = truth.copy()
    proposal[:, 10] = False  # joins the first and the second cell
    proposal[:, 36] = True  # cuts the last
    section = section_of(proposal, truth)
    kinds = np.zeros(truth.shape, np.uint8)
    kinds[4, 10] = 2
    made = figures.layers(np.full(truth.shape, 99, np.uint8), section, kinds)
    drawn, shown, wrong = map(decoded, (made.truth, made.proposal, made.errors))
    assert (shown[4, 5] == shown[4, 15]).all()
    assert any((shown[4, 5] == drawn[4, x]).all() for x in (5, 15))
    assert (shown[4, 25] == drawn[4, 25]).all()
    assert (shown[4, 33] == drawn[4, 33]).all()  # the larger part keeps the cell's colour
    assert not any((shown[4, 38] == drawn[4, x]).all() for x in (5, 15, 25, 35))
    assert drawn[4, 10, 3] == 0  # membrane is see-through
    # Costly errors are broadened by one pixel; the truth is a pale line under them.
    assert (wrong[3:6, 9:12] == (213, 54, 0, 255)).all()
    assert 0 < wrong[4, 20, 3] < 255
    assert wrong[4, 5, 3] == 0


def test_large_sections_are_reduced_and_lose_no_error():
    truth = np.zeros((2100, 30), bool)
    truth[:, 15] = True
    kinds = np.zeros(truth.shape, np.uint8)
    kinds[1000, 7] = 3
    made = figures.layers(np.zeros(truth.shape, np.uint8), section_of(truth, truth), kinds)
    assert made.reduced == 3
    sizes = {decoded(uri).shape for uri in (made.image, made.truth, made.proposal, made.errors)}
    assert sizes == {(700, 10, 4)}
    assert (decoded(made.errors) == (240, 190, 20, 255)).all(axis=-1).any()


def test_crops_stay_inside_and_show_the_place():
    truth = np.zeros((96, 96), bool)
    truth[50] = True
    kinds = np.zeros(truth.shape, np.uint8)
    kinds[50, 2] = 2
    shown = decoded(figures.crop(np.full(truth.shape, 200, np.uint8), truth, kinds, (50, 2)))
    assert shown.shape == (192, 192, 4)
    # Rows 18 … 81 and columns 0 … 63 are shown, so (50, 2) lies at 3 · 32 and 3 · 2.
    assert (shown[97, 7, :3] == (212, 69, 20)).all()  # 0.9 · (213, 54, 0) + 0.1 · 200
    assert (shown[97 - 30, 7, :3] == (213, 54, 0)).all()  # the ring, ten pixels above
    assert (shown[96, 100, :3] == figures.OUTLINE).all()
    assert (shown[10, 100, :3] == 200).all()
    small = figures.crop(np.zeros((20, 30), np.uint8), truth[:20, :30], kinds[:20, :30], (3, 3))
    assert decoded(small).shape == (60, 90, 4)


# Pages


def test_the_page_of_a_run(run, tmp_path):
    text = report.run_page(run)
    page = read(text)
    words = " ".join(page.words)
    assert EVIL in words  # as text, after unescaping
    assert "<script>alert" not in text
    told = training.load_model(run).info.training
    assert told["weights_sha256"] in words
    assert f"{told['validation']['dihedral']['v_rand']:.4f}" in words
    assert len(page.all("svg", "chart")) == 4
    out = tmp_path / "page.html"
    report.write_page(out, text)
    assert out.read_text("utf-8") == text
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
    with pytest.raises(InputError, match="does not exist"):
        report.write_page(tmp_path / "none" / "page.html", text)


def test_a_run_that_held_nothing_out_says_so(pairs, tmp_path):
    small = {"width": 2, "depth": 1, "crop": 32, "batch": 2, "precision": "fp32", "device": "cpu"}
    settings = check(TrainSettings, {"data": "made", "steps": 2, "validate": "none", **small})
    training.fit(pairs, settings, tmp_path / "run")
    words = " ".join(" ".join(read(report.run_page(tmp_path / "run")).words).split())
    assert "On sections that it learned from, which flatters, it reaches V_rand" in words
    assert "kept, on sections that they learned from, which flatters" in words
    assert "held out" not in words.split("which flatters")[0]


def test_a_run_that_is_not_finished(run, tmp_path):
    shutil.copy(run / "settings.json", tmp_path)
    assert "Nothing has been reported yet" in report.run_page(tmp_path)
    lines = [{"step": n, "done": n / 100, "loss": 1 / n, "seconds": n} for n in range(1, 41)]
    lines.append({"step": 40, "done": 0.4, "threshold": 0.5, "v_rand": 0.9, "v_info": 0.95})
    text = "\n".join(map(json.dumps, lines)) + '\n{"step": 41, "lo'
    (tmp_path / "metrics.jsonl").write_text(text)
    page = report.run_page(tmp_path)
    read(page)
    assert "not finished. It is at step 40, 40% of its budget" in page


@pytest.mark.parametrize("held", [None, "{}", "not json", '{"settings": 3}'])
def test_a_folder_that_is_no_run(tmp_path, held):
    if held is not None:
        (tmp_path / "settings.json").write_text(held)
    with pytest.raises(InputError, match="no folder of a training"):
        report.run_page(tmp_path)


def test_every_score_is_explained():
    assert EXPLAINED.keys() == (SCORES | STACK_SCORES).keys()
    assert all(words.endswith(".") and len(words) < 100 for words in EXPLAINED.values())


def test_the_page_of_an_evaluation(found, pairs, run):
    text = report.evaluation_page(found, images=pairs.images, run=run, title=EVIL)
    page = read(text)
    words = " ".join(page.words)
    assert "<script>alert" not in text
    for sure in (found.suite.interval("v_rand"), found.suite.interval("cell_f1")):
        assert f"{sure.mean:.3f}" in words
        assert f"{sure.low:.3f} … {sure.high:.3f}" in words
    assert "chosen 0.5" in page.words
    assert f"{found.suite.reliability.expected_error:.3f} off the share of membrane" in words
    assert f"{found.calibrated.expected_error:.3f} off." in words
    assert {"Reliability", "as it should be", "calibrated"} <= {*page.words}
    crops = min(12, len(found.mistakes))
    assert crops > 0
    assert len(page.all("figure", "viewer")) == 3
    assert len(page.all("img")) == 3 * 4 + crops
    assert sum("jpeg" in image["src"][:20] for image in page.all("img")) == 3
    assert f"−{found.mistakes[0].gain:.4f}" in words
    for score in EXPLAINED.keys() & SCORES.keys():
        assert EXPLAINED[score] in words
    # Without the script everything is there: nothing is hidden but its controls.
    hidden = [name for name, attributes in page.found if "hidden" in attributes]
    assert hidden == ["div"] * 3
    assert len(page.all("button")) == 3 * 4


def test_labels_one_section_and_nothing_wrong(pairs):
    cells = label_cells(pairs.truth[0] == 0)[None]
    truth = Stack(pairs.truth[:1], (0, 1), None, "truth")
    perfect = evaluate_stacks(Stack(cells, (0, 1), None, "cells", holds="cells"), truth)
    page = read(report.evaluation_page(perfect))
    words = " ".join(page.words)
    assert "Taken as labels" in words
    assert "Reliability" not in words
    assert "No gap and no false membrane alone costs any V_rand." in words
    assert not page.all("svg", "chart")
    assert "Map" in page.words


def test_of_many_sections_the_worst_are_shown(found, pairs, monkeypatch):
    monkeypatch.setattr("axolemma.report.evaluations._FIGURES", 1)
    monkeypatch.setattr("axolemma.report.evaluations._CROPS", 1)
    lowest = found.suite.sections[int(found.suite.values["v_rand"].argmin())]
    shown = {f"section-{lowest}", f"section-{found.mistakes[0].section}"}
    page = read(report.evaluation_page(found))
    assert {viewer["id"] for viewer in page.all("figure", "viewer")} == shown
    assert f"{len(shown)} of 3 sections are shown" in " ".join(page.words)


def test_a_threshold_chosen_on_the_scored_sections_is_said(found, pairs):
    proposal = Stack(found.pair.proposal, (0, 1), None, "map", holds="membrane map")
    again = evaluate_stacks(proposal, Stack(pairs.truth, (0, 1), None, "truth"), roi="0:96,8:90")
    text = report.evaluation_page(again)
    read(text)
    assert "the best on these very sections" in text
    assert "too good for a held-out result" in text


def test_images_of_another_shape_and_folders_without_a_record(found, tmp_path):
    with pytest.raises(InputError, match=r"images have shape \(1, 2, 3\)"):
        report.evaluation_page(found, images=np.zeros((1, 2, 3)))
    with pytest.raises(InputError, match=r"neither run.json nor settings.json"):
        report.evaluation_page(found, run=tmp_path)


COMPARED = {
    "rows": [
        {"name": EVIL, "v_rand": 0.9, "v_info": 0.8, "seeds": 3, "memory_mib": None},
        {
            "name": "second",
            "rank": 1.2,
            "scores": {"v_rand": 0.95, "v_info": 0.9, "rand_error": 0.1},
            "interval": {"mean": 0.95, "low": 0.94, "high": 0.96, "note": ""},
            "arguments": {"width": 4},
            "seeds": 3,
        },
    ],
    "verdict": [f"{EVIL} is behind"],
    "svg": {"Ranks & <ties>": '<svg xmlns="http://www.w3.org/2000/svg"><title>t</title></svg>'},
    "pairs": [
        {
            "one": "second",
            "other": EVIL,
            "difference": {"mean": 0.05, "low": -0.01, "high": 0.1},
            "p": 0.03,
            "p_holm": 0.03,
        }
    ],
    "friedman": [3.2, 0.04],
    "failed": {"third-0": "out of memory"},
    "missing": ["third-1"],
    "settings": {"models": ["a", "b"], "nested": {"deep": EVIL}},
}


def test_the_page_of_a_comparison():
    text = report.comparison_page(COMPARED, title="A & B")
    page = read(text)
    assert "<script>alert" not in text
    words = [word for word in page.words if word.strip()]
    assert words.index("0.9500") < words.index("0.9000")  # ranked
    for told in ("0.9400 … 0.9600", "+0.0500", "−0.0100 … +0.1000", "width 4", EVIL):
        assert told in words
    assert "third-0 failed: out of memory" in words
    assert "has the highest V_rand, 0.950" in text
    with pytest.raises(InputError, match="no list of rows"):
        report.comparison_page({"rows": []})


def test_sections_in_words():
    assert sections([2, 0, 1, 7]) == "sections 0 to 2 and 7"
    assert sections([5]) == "section 5"
    assert sections([1, 3, 5]) == "sections 1, 3 and 5"


def test_the_page_of_a_comparisons_folder(compared):
    folder, told, _ = compared
    text = report.report_page([told | {"folder": folder, "svg": ["<svg><title>t</title></svg>"]}])
    page = read(text)
    words = " ".join(page.words)
    # No picture of the data: nothing but drawings.
    assert all(image["src"].startswith("data:image/svg+xml") for image in page.all("img"))
    assert "axolemma report mine --truth phantom shows" in " ".join(words.split())
    assert str(folder.parent) not in text
    for sentence in (
        "2 networks learned membranes from phantom: unet (width 4, unshuffle 2, dropout 0.2) and "
        "cenet. Arguments that are not named are the usual ones. All had the loss bce_dice, the "
        "augmentation axolemma and crop 64.",
        "Every training took 2 minutes, validation included. Each method was trained anew with 3 "
        "seeds, 0, 1 and 2.",
        "learned from sections 0 to 1; section 2 was held out to choose from, and section 3 was "
        "tested.",
        "The threshold was 0.5. Predictions were averaged over 4 flips.",
        "1 (2 trainings), 2 (2 trainings), 3 (2 trainings)",  # threads
        "In the mean these are: unet, 40; cenet, 20.",
    ):
        assert sentence in words
    # Losses 1, 2, 3 and scores .5, .6, .7 of the seeds; the loss from 5 % on, a score from 25 %.
    over = "over share of the budget, %: from"
    for name in ("unet", "cenet"):
        assert f"{name} {over} 2 to 2, lowest 2, highest 2." in words
        assert f"{name} {over} 0.6 to 0.6, lowest 0.6, highest 0.6." in words
    assert f"cenet {over} 0.8 to 0.8" in words
    assert f"unet {over} 0.8" not in words
    assert "The same for every method." in words
    pale = [line for line in page.all("polyline") if line.get("stroke-opacity")]
    assert len(pale) == 3 * 2 + 3 * 2 + 3
    # Of every cell the first twelve characters of its weights, and its own scores.
    for cell in told["cells"]:
        assert cell["weights_sha256"][:12] in page.words
        assert cell["weights_sha256"][:13] not in words
        assert f"{cell['scores']['v_rand'][0]:.4f}" in words
    specks = [dot for dot in page.all("circle") if dot.get("fill-opacity")]
    assert len(specks) == 6


def test_as_json_a_comparison_lacks_its_curves_only(compared, tmp_path):
    _, told, truth = compared
    file = tmp_path / "told.json"
    file.write_text(json.dumps(told))
    text = report.report_page([file], truth=truth)
    words = " ".join(read(text).words)
    for part in ("What was done", "Section by section", "Versions, machine and hashes"):
        assert part in words
    for part in ("Learning curves", "Where they are wrong", "Where it is wrong"):
        assert part not in words


def test_curves_of_equal_steps_and_of_none(compared, tmp_path):
    folder, told, _ = compared
    cells = [cell for cell in told["cells"] if cell["model"] == "unet"]
    lost = Method("lost", ({"key": "none"},))
    page = Reader(comparison_curves([lost, Method("unet", (cells[0],))], folder))
    assert "Every training made 40 steps." in " ".join(page.words)
    assert "pixel accuracy" not in " ".join(page.words).lower()
    # The second method keeps its colour where the first has no line, and one curve is no mean.
    assert {line["stroke"] for line in page.all("polyline") if line["points"].count(" ") > 1} == {
        "#0b5fa5",
        "#c8500a",
    }
    assert comparison_curves([lost], folder) == ""


@pytest.mark.parametrize(
    ("scores", "seed", "words"),
    [
        ([0.5], 0, "its only training that was tested on section 7, seed 0"),
        ([0.9, 0.7], 1, "seed 1: of the 2 that were tested on section 7 the one with the lower"),
        ([0.9, 0.5, 0.8], 2, "of the 3 that were tested on section 7 the one with the median"),
        ([0.9, 0.5, 0.8, 0.6], 3, "the one with the lower V_rand of the two in the middle"),
    ],
)
def test_a_median_training_stands_for_its_method(scores, seed, words):
    cells = [
        {"seed": n, "first": 7, "last": 7, "sections": [7], "scores": {"v_rand": [score]}}
        for n, score in enumerate(scores)
    ]
    elsewhere = {"seed": 9, "first": 1, "last": 1, "sections": [1], "scores": {"v_rand": [0.7]}}
    cell, told = representative(Method("a", (elsewhere, *cells)), (7, 7))
    assert cell["seed"] == seed
    assert words in told


def test_overlays_of_a_comparison(compared, pairs, tmp_path):
    folder, told, truth = compared
    image = Stack(np.concatenate([pairs.images, pairs.images[:1]]), (0, 255), None, "image")
    source = told | {"folder": folder}
    page = read(report.report_page([source, source], truth=truth, image=image))
    words = " ".join(page.words)
    assert len(page.all("article")) == 2 * (1 + 2)
    assert len(page.all("figure", "viewer")) == 2 * 2
    for row in told["rows"]:
        mine = [cell for cell in told["cells"] if cell["model"] == row["model"]]
        middle = sorted(mine, key=lambda cell: cell["scores"]["v_rand"][0])[1]
        assert (
            f"Shown is seed {middle['seed']}: of the 3 that were tested on section 3 the one with "
            "the median V_rand. At its own threshold, 0.5, V_rand is "
            f"{middle['scores']['v_rand'][0]:.3f} and"
        ) in words
    assert "this truth is another one" not in words
    assert "holds no picture" not in words
    other = Stack(np.roll(truth.array, 5, axis=2), (0, 1), None, "other")
    page = read(report.comparison_page(told, folder=folder, truth=other))
    assert "this truth is another one, or was read in another way" in " ".join(page.words)
    assert len(page.all("article")) == 2
    with pytest.raises(InputError, match=r"truth \(1, 50, 96\)"):
        report.comparison_page(told, folder=folder, truth=replace(truth, array=truth.array[:, :50]))
    with pytest.raises(InputError, match="images have shape"):
        report.comparison_page(
            told, folder=folder, truth=truth, image=replace(image, array=image.array[:, :50])
        )
    with pytest.raises(InputError, match=r"membrane.tif: the map .* is not there any more"):
        report.comparison_page(told, folder=tmp_path, truth=truth)


def test_a_comparisons_page_from_the_command_line(compared, tmp_path, monkeypatch, capsys):
    folder, _, _ = compared
    file = tmp_path / "page.html"
    monkeypatch.setattr(sys, "argv", ["axolemma", "report", str(folder), "-o", str(file)])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    words = " ".join(read(file.read_text("utf-8")).words)
    for part in (
        "2 methods on phantom",
        "Learning curves",
        "Average ranks",
        "Where they are wrong",
    ):
        assert part in words
    assert capsys.readouterr().out.strip().endswith("page.html")


def test_a_report_finds_out_what_its_sources_are(run, pairs, found, tmp_path):
    proposal, told = tmp_path / "membrane.tif", tmp_path / "told.json"
    told.write_text(json.dumps(COMPARED))
    write_tiff(proposal, found.pair.proposal.astype(np.float32), holds="membrane map")
    truth = Stack(pairs.truth, (0, 1), None, "truth")
    image = Stack(pairs.images, (0, 255), None, "image")
    text = report.report_page(
        [run, proposal, tmp_path, told, COMPARED], truth=truth, image=image, title="All"
    )
    page = read(text)
    assert len(page.all("article")) == 5
    assert len(page.all("figure", "viewer")) == 6
    with pytest.raises(InputError, match="against a truth; name it with --truth"):
        report.report_page([proposal])
    with pytest.raises(InputError, match="no such file or folder"):
        report.report_page([tmp_path / "none"])
    with pytest.raises(InputError, match="needs something to show"):
        report.report_page([])
    told.write_text("half")
    with pytest.raises(InputError, match="no comparison's file"):
        report.report_page([told])


def test_five_sections_stay_small():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (512, 512), np.uint8)  # noise: the worst there is for JPEG
    truth = phantom_pairs((1, 512, 512)).truth[0] > 0
    made = figures.layers(image, section_of(truth, truth), np.zeros(image.shape, np.uint8))
    assert 5 * sum(map(len, (made.image, made.truth, made.proposal, made.errors))) < 4e6


# PDF and browser


def test_without_a_browser_there_is_one_clear_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("axolemma.report.pdf._PLACES", {})
    monkeypatch.delenv("AXOLEMMA_BROWSER", raising=False)
    with pytest.raises(AxolemmaError, match="needs Chromium, Chrome or Edge"):
        report.write_pdf(tmp_path / "a.pdf", "")
    monkeypatch.setenv("AXOLEMMA_BROWSER", str(tmp_path / "none"))
    with pytest.raises(InputError, match="which is no program"):
        report.find_browser()


def test_a_browser_prints_whole_or_not_at_all(monkeypatch, tmp_path):
    browser, out = tmp_path / "browser", tmp_path / "a.pdf"
    monkeypatch.setenv("AXOLEMMA_BROWSER", str(browser))
    browser.write_text(
        '#!/bin/sh\nfor a; do case "$a" in --print-to-pdf=*) printf %s%s "%PDF-" "$#" '
        '> "${a#--print-to-pdf=}";; esac; done\n'
    )
    browser.chmod(0o755)
    report.write_pdf(out, "<p>")
    assert out.read_text().startswith("%PDF-")
    browser.write_text("#!/bin/sh\necho no display >&2\nexit 1\n")
    with pytest.raises(AxolemmaError, match="could not print the page: no display"):
        report.write_pdf(out, "<p>")
    assert out.read_text().startswith("%PDF-")
    assert {file.name for file in tmp_path.iterdir()} == {"browser", "a.pdf"}


@pytest.mark.skipif(
    CHROMIUM is None or importlib.util.find_spec("playwright") is None,
    reason="needs Chromium and the package playwright",
)
def test_the_page_lives_in_a_browser(found, pairs, compared, tmp_path):
    from playwright.sync_api import sync_playwright

    file = tmp_path / "page.html"
    report.write_page(file, report.evaluation_page(found, images=pairs.images))
    folder, told, truth = compared
    overlaid = tmp_path / "compared.html"
    source = told | {"folder": folder, "svg": [compare.load(folder).picture()]}
    report.write_page(overlaid, report.report_page([source], truth=truth))
    flags = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*flags, "--ignore-gpu-blocklist"]
        )
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        trouble, asked = [], []
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        viewer = page.locator(".viewer").first
        shown = "v => [...v.querySelectorAll('img')].map(i => i.checkVisibility())"
        strength = viewer.get_by_role("slider", name="strength")
        assert viewer.evaluate(shown) == [True, False, False, True]
        viewer.get_by_role("button", name="Truth").click()
        assert viewer.evaluate(shown) == [True, True, False, False]
        strength.fill("20")
        opacity = "v => [...v.querySelectorAll('img')].map(i => i.style.opacity)[1]"
        assert viewer.evaluate(opacity) == "0.2"
        page.keyboard.press("1")
        assert viewer.evaluate(shown) == [True, False, False, False]
        assert strength.is_disabled()
        pressed = viewer.locator("button[aria-pressed=true]")
        assert pressed.inner_text() == "Image"
        page.emulate_media(media="print")
        assert viewer.evaluate(shown) == [True] * 4
        page.emulate_media(media="screen")
        page.set_viewport_size({"width": 400, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") == 400
        page.screenshot(path=tmp_path / "page.png", full_page=True)
        page.goto(overlaid.as_uri())
        assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        assert page.evaluate("document.images.length") > 8
        assert page.evaluate("document.documentElement.scrollWidth") == 400
        viewer = page.locator(".viewer").last
        viewer.get_by_role("button", name="Proposal").click()
        assert viewer.evaluate(shown) == [True, False, True, False]
        browser.close()
    assert trouble == []
    assert all(url.startswith(("file:", "data:")) for url in asked)
    assert (tmp_path / "page.png").stat().st_size > 10_000


def test_assets_come_with_the_package():
    folder = Path(report.__file__).parent
    assert {file.name for file in folder.glob("page.*")} == {"page.py", "page.css", "page.js"}
