"""What the documents tell people to type exists."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

from axolemma import cli
from axolemma.metrics import SCORES, STACK_SCORES
from axolemma.predict import POSES

ROOT = Path(__file__).parent.parent
SCORED = ("v_rand", "v_info", "cells_v_rand", "cells_v_info")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands(page: Path, word: str):
    """Yield every command line of a page that starts with `word`, from blocks and inline code."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for code in re.findall(r"```[a-z]*\n(.*?)```|`([^`\n]+)`", text, re.DOTALL):
        for line in (code[0] or code[1]).splitlines():
            if line.strip().startswith(f"{word} "):
                yield line.split("#")[0].split()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_flags_exist(page):
    verbs = get_command(cli.app).commands
    for _, verb, *arguments in commands(page, "axolemma"):
        if verb.startswith("-") or verb == "VERB":
            continue
        known = {flag for option in verbs[verb].params for flag in option.opts} | {"--help"}
        used = {argument.split("=")[0] for argument in arguments if re.match(r"--?[a-z]", argument)}
        assert used <= known, f"{page.name}: axolemma {verb}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for _, *arguments in commands(page, "make"):
        for argument in arguments:
            assert "=" in argument or argument == "…" or argument in targets, page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)|<img src=\"([^\"]+)\"", text):
        place = target[0] or target[1]
        if "://" not in place:
            assert (page.parent / place).exists(), f"{page.name}: {place}"


def test_numbers_in_the_readme_come_from_the_bench():
    results = json.loads((ROOT / "docs" / "results" / "time_to_accuracy.json").read_text())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    trainings = [training for training in results["trainings"] if training["minutes"] == 10]
    assert [training["seed"] for training in trainings] == [0, 1, 2]
    for average in ("none", "half-turn", "flips", "dihedral"):
        rows = [training[average] for training in trainings]
        means = [f"{np.mean([row[key] for row in rows]):.4f}" for key in SCORED]
        spread = [f"{row[key]:.4f}" for row in rows for key in SCORED[:2]]
        (line,) = (line for line in readme.splitlines() if line.startswith(f"| `{average}`"))
        assert all(number in line for number in means + spread), average
    short = [run["half-turn"] for run in results["trainings"] if run["minutes"] == 1]
    map_v, map_i, *_, cells_v, cells_i = (
        f"{np.mean([row[key] for row in short]):.4f}"[1:] for key in SCORED
    )
    told = f"has {map_v} / {map_i} for the map and {cells_v} / {cells_i} for the cells"
    assert told in " ".join(readme.split())


def test_what_a_pixel_size_is_worth_comes_from_the_bench():
    results = json.loads((ROOT / "docs" / "results" / "pixel_size.json").read_text())
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    lines = text.split("<!-- pixels -->")[1].splitlines()
    rows = [row for row in results["scores"] if row["tissue"] == "isbi2012"]
    assert len([line for line in lines if " / " in line]) == len(rows)
    for row in rows:
        (line,) = (line for line in lines if line.startswith(f"| {row['nm']:g} |"))
        for how in ("told", "not told", "taken for 4 nm"):
            assert f"| {row[f'V_rand, {how}']:.4f} / {row[f'V_info, {how}']:.4f} |" in line
    lowest = min(row["lowest"] for row in results["ratios"])
    highest = max(row["highest"] for row in results["ratios"])
    assert f"between {lowest:.2f} and {highest:.2f} of the true one" in text


def test_what_weights_make_of_faulty_sections_comes_from_the_bench():
    results = ROOT / "docs" / "results"
    found = json.loads((results / "robustness.json").read_text("utf-8"))
    shipped = json.loads((results / "shipped_weights.json").read_text("utf-8"))
    assert found["weights_sha256"] == shipped["neurites-seed"]["weights_sha256"]
    page = (ROOT / "docs" / "weights.md").read_text(encoding="utf-8")
    lines = page.split("<!-- robustness -->")[1].strip().splitlines()[2:]
    for line, row in zip(lines, found["rows"], strict=True):
        map_, cells = (
            f"{row[f'V_rand, {what}']:.4f} / {row[f'V_info, {what}']:.4f}"
            for what in ("map", "cells")
        )
        assert line == f"| {row['sections']} | {map_} | {cells} |"


def test_how_long_it_takes_comes_from_the_bench():
    results = json.loads((ROOT / "docs" / "results" / "time_to_accuracy.json").read_text())
    lines = (ROOT / "docs" / "training.md").read_text().split("<!-- minutes -->")[1].splitlines()
    for training in results["trainings"]:
        found = training["half-turn"]
        numbers = [f"{found[key]:.4f}" for key in SCORED]
        begun = f"| {training['minutes']:g} | {training['seed']} |"
        (line,) = (line for line in lines if line.startswith(begun))
        assert all(number in line for number in numbers)
        assert f"| {training['steps']:,} |" in line


def test_the_table_of_networks_comes_from_the_comparison():
    text = (ROOT / "docs" / "comparing.md").read_text(encoding="utf-8")
    lines = [line for line in text.split("<!-- three -->")[1].splitlines() if "| `" in line]
    with (ROOT / "docs" / "results" / "three_networks.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(lines) == len(rows) == 3
    for line, row in zip(lines, rows, strict=True):
        assert f"`{row['model']}`" in line
        for key in ("v_rand", "v_info", "best_v_rand", "best_v_info", "over_sections"):
            assert f"{float(row[key]):.4f}" in line, key
        assert f"{int(row['parameters']):,}" in line


def test_the_table_of_recipes_comes_from_the_bench():
    found = json.loads((ROOT / "docs" / "results" / "seed_recipe.json").read_text())
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8").split("<!-- seed -->")[1]
    assert len([line for line in text.splitlines() if line.startswith("| U-Net")]) == len(found)
    for name, row in found.items():
        (line,) = (line for line in text.splitlines() if line.startswith(f"| {name} |"))
        for when in ("held_out", "best"):
            for score in ("v_rand", "v_info"):
                assert f"{row[when][score]['score']:.4f}" in line, name


def test_scripts_in_documents_exist():
    for page in PAGES:
        for _, script, *_ in commands(page, "python"):
            if script.endswith(".py"):
                assert (ROOT / script).is_file(), f"{page.name}: {script}"


def test_every_score_is_explained():
    text = (ROOT / "docs" / "scores.md").read_text(encoding="utf-8")
    explained = "".join(re.findall(r"^### .*$", text, re.MULTILINE))
    for name in SCORES | STACK_SCORES:
        assert f"`{name}`" in explained, name
    for entry in text.split("\n### ")[1:]:
        assert "**" in entry, "says which one to trust"
        assert "](images/scores/" in entry or entry.startswith("In 3D"), entry[:40]


def test_the_table_of_changes_comes_from_the_bench():
    found = json.loads((ROOT / "docs" / "results" / "perturbations.json").read_text())
    text = (ROOT / "docs" / "scores.md").read_text(encoding="utf-8")
    for what, row in found.items():
        (line,) = (line for line in text.splitlines() if line.startswith(f"| {what} |"))
        for name in ("v_rand", "v_info", "pixel_error", "voi_cremi_merge", "cl_dice", "betti_1"):
            assert f"| {row[name]:.3g} |" in line, (what, name)


def test_the_tables_of_cells_come_from_the_bench():
    found = json.loads((ROOT / "docs" / "results" / "objects.json").read_text(encoding="utf-8"))
    text = (ROOT / "docs" / "cells.md").read_text(encoding="utf-8")
    assert found["command"] in text
    for mark, start in (("cells", 0), ("later", 2)):
        lines = [s for s in text.split(f"<!-- {mark} -->")[1].splitlines() if " ± " in s]
        assert len(lines) == len(found["methods"])
        for line, (name, row) in zip(lines, found["methods"].items(), strict=True):
            assert line.startswith(f"| {name} |")
            folds = row["folds"][start:]
            assert len(row["folds"]) == 6
            for score in ("v_rand", "v_info", "voi", "cell_ap"):
                values = [fold[score] for fold in folds]
                assert f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}" in line, name
    for row in found["scale"]["sections"]:
        shown = f"| {row['side']}² | {row['seconds']:.2f} | {row['peak_mib']:.0f} |"
        assert shown in text
    # The page says in which columns ours is not the best.
    mine = found["methods"]["Axolemma"]["mean"]
    others = [row["mean"] for name, row in found["methods"].items() if "Axolemma" not in name]
    verdict = text.split("<!-- verdict -->")[1]
    for score, title, sign in (
        ("v_rand", "V_rand", 1),
        ("v_info", "V_info", 1),
        ("voi", "VOI", -1),
        ("cell_ap", "cell AP", 1),
    ):
        beaten = any(sign * row[score] > sign * mine[score] for row in others)
        assert f"- {title}: ours is {'**not** the best' if beaten else 'the best'}," in verdict


def test_the_table_of_speeds_comes_from_the_bench():
    found = json.loads((ROOT / "docs" / "results" / "infer.json").read_text(encoding="utf-8"))
    table = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8").split("<!-- infer -->")[1]
    rows = {(row["network"], row["way"], row["side"]): row for row in found["rows"]}
    assert 2 * (table.count("\n| ") - 1) == len(rows)
    for (network, way, _), row in rows.items():
        (line,) = (line for line in table.splitlines() if line.startswith(f"| {network} | {way} |"))
        assert f"| {row['fastest Mpx/s']:.2f} | {row['default segment is faster by']} |" in line


def test_the_table_of_a_gpu_comes_from_the_bench():
    found = json.loads((ROOT / "docs" / "results" / "gpu.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    table = page.split("<!-- gpu -->")[1]
    assert found["machine"]["gpu"] in page
    assert table.count("\n| ") - 1 == len(found["end_to_end"])
    for row in found["end_to_end"]:
        values = [row[name] for name in ("seconds", "Mpx/s", "GPU MB", "hours a teravoxel")]
        assert f"| {row['side']}² | {row['average']} | {' | '.join(map(str, values))} |" in table
    (tile,) = (row for row in found["network"] if (row["tiles"], row["side"]) == (1, 2560))
    assert f"{tile['Mpx/s']:,} megapixels per second" in page
    assert f"{tile['of the roofline']:.2f} of what a copy" in page


def test_the_table_of_trainings_on_a_gpu_comes_from_the_bench():
    results = ROOT / "docs" / "results" / "time_to_accuracy_gpu.json"
    rows = json.loads(results.read_text(encoding="utf-8"))["trainings"]
    page = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    lines = page.split("<!-- gpu training -->")[1].strip().splitlines()[2:]
    for line, average in zip(lines, POSES, strict=True):
        map_, info, cells, cells_info = (np.mean([r[average][n] for r in rows]) for n in SCORED)
        assert line == f"| {average} | {map_:.4f} / {info:.4f} | {cells:.4f} / {cells_info:.4f} |"


def test_the_table_of_trainings_comes_from_the_bench():
    found = json.loads((ROOT / "docs" / "results" / "train.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    lines = page.split("<!-- train -->")[1].strip().splitlines()[2:]
    assert lines == [
        f"| {row['network']} | {row['precision']} | {row['steps/s']:.2f} | {row['Mpx/s']:.3f}"
        f" | {row['default is faster by']:.1f} |"
        for row in found["paces"]
    ]
    ours = next(r for r in found["paces"] if r["default is faster by"] == 1)
    assert f"crops, {ours['crops']:.1%} of its time" in page
    told = [
        f"{t['seconds']} s {t['V_rand']:.4f} (cells {t['of the cells']:.4f})"
        for t in found["tries"]
    ]
    assert ", ".join(told) in page


def test_what_is_said_of_speed_comes_from_the_bench():
    rows = json.loads((ROOT / "docs" / "results" / "infer.json").read_text(encoding="utf-8"))[
        "rows"
    ]
    beside = {
        row["network"]: f"{row['default segment is faster by']:.0f}"
        for row in rows
        if row["side"] == 512 and row["way"] == "as shipped"
    }
    smp, classic, nnunet = (
        beside[name] for name in ("smp U-Net resnet34", "U-Net 64…1024", "nnU-Net")
    )
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert (
        f"{smp} times as fast as the U-Net of segmentation-models-pytorch, {classic} times as the "
        f"classic U-Net, {nnunet} times as nnU-Net's prediction"
    ) in readme
    large = json.loads((ROOT / "docs" / "results" / "infer_large.json").read_text("utf-8"))["rows"]
    speed = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    assert f"in tiles, at {large[0]['fastest Mpx/s']:.1f} megapixels per second" in speed
    for row, said in ((large[2], "is {:.0f} times slower"), (large[3], "with our tricks {:.0f} (")):
        assert said.format(row["default segment is faster by"]) in speed
    found = json.loads((ROOT / "docs" / "results" / "peers.json").read_text(encoding="utf-8"))
    table = speed.split("<!-- peers -->")[1]
    for row in found["trainings"]:
        scores = f"{row['v_rand']:.4f} | {row['v_info']:.4f}"
        assert (
            f"| {row['network']} | {row['parameters']:,} | {row['steps']:,} | {scores} |" in table
        )


def test_what_the_machine_allows_comes_from_the_benches():
    results, page = ROOT / "docs" / "results", (ROOT / "docs" / "speed.md").read_text("utf-8")
    startup, roofline, scale, compiled = (
        json.loads((results / f"{name}.json").read_text("utf-8"))
        for name in ("startup", "roofline", "scale", "compiled")
    )
    took = {row["command"]: row["fastest"] for row in startup["commands"]}
    assert f"`axolemma --help` takes {took['--help']:.2f} s" in page
    assert f"a section of 512² {took['segment 512²']:.1f} s from cold" in page
    network = next(row for row in roofline["networks"] if row["network"] == "bf16, fused")
    for value in (f"{network['GFLOP/s']:.0f} GFLOP/s", f"{network['of its convolution']:.2f} of"):
        assert value in page
    second = roofline["ceilings"]["bf16"]["3×3 convolution of 48 channels GFLOP/s"]
    assert f"second's, {network['GFLOP/s'] / second:.2f})".replace("0.", ".") in page
    for row in scale["exponents"]:
        assert f" {row['time']:.2f}" in page
    for row in compiled["rows"]:
        changed = f"{row['v_rand']:.4f} | {row['v_info']:.4f} | {row['changed']:.2%}"
        assert f"| {row['precision']} | {changed} | {row['against bf16']} |" in page


def test_the_table_of_volumes_comes_from_the_bench():
    found = json.loads((ROOT / "docs" / "results" / "volume.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    table = page.split("<!-- volume -->")[1]
    assert all(f"`{part['command']}`" in page for part in found.values())
    for row in (row for part in ("sizes", "largest") for row in found[part]["runs"]):
        assert f"| {row['shape']} | {row['gigabytes']:.4g} | {row['engine']} |" in table
        assert f"| {row['seconds']:.4g} |" in table
    driver = page.split("<!-- driver -->")[1]
    for row in found["driver"]["runs"]:
        assert f"| {row['shape']} | {row['engine']} |" in driver
        assert f"| {row['joins_s']:.4g} | {row['cells_s']:.4g} | {row['neurons_s']:.4g} |" in driver


def test_how_many_sections_it_takes_comes_from_the_bench():
    found = json.loads((ROOT / "docs" / "results" / "few_sections.json").read_text())
    lines = (ROOT / "docs" / "training.md").read_text().split("<!-- few -->")[1].splitlines()
    kinds = [(row["asked"]["count"], "start" in row["asked"]) for row in found]
    for count, started in kinds:
        rows = [row for row, kind in zip(found, kinds, strict=True) if kind == (count, started)]
        assert len(rows) == (3 if count else 1)
        (line,) = (line for line in lines if line.startswith(f"| {count} |"))
        means = [np.mean([r[name] for r in rows]) for name in ("v_rand", "v_info")]
        lowest, highest = (of(r["v_rand"] for r in rows) for of in (min, max))
        spread = f" ({lowest:.3f} … {highest:.3f})" if count else ""
        cell = line.split("|")[3 if started else 2]
        assert cell.strip() == f"{means[0]:.4f} / {means[1]:.4f}{spread}"


def test_what_suggestions_are_worth_comes_from_the_bench():
    found = json.loads((ROOT / "docs" / "results" / "suggest.json").read_text())
    table = (ROOT / "docs" / "training.md").read_text().split("<!-- suggest -->")[1]
    lines = table.strip().splitlines()[2:]
    ways = ("first", "suggested", "disagreement", "random")
    for line, way in zip(lines, ways, strict=True):
        rows = [row for row in found if row["asked"]["way"].startswith(way)]
        assert f"| {len(rows)} |" in line
        for name in ("best_v_rand", "best_v_info", "pixel_error", "v_rand"):
            values = [row[name] for row in rows]
            assert f"| {np.mean(values):.4f} ({np.std(values):.4f}) |" in line
        cells = [np.mean([row[f"cells_{name}"] for row in rows]) for name in ("v_rand", "v_info")]
        assert f"| {cells[0]:.4f} / {cells[1]:.4f} |" in line


def said(page: str) -> str:
    """Return a page in one line."""
    return " ".join((ROOT / "docs" / page).read_text(encoding="utf-8").split())


def test_what_is_said_of_kills_comes_from_the_bench():
    found = json.loads((ROOT / "docs" / "results" / "kill.json").read_text())
    assert all(part["good"] for part in found["rounds"])
    # Beside the rounds there are stores and disks that fail, where nobody is killed.
    rounds = [part for part in found["rounds"] if "kills" in part]
    kills, extra, allowed = (sum(part[k] for part in rounds) for k in ("kills", "extra", "allowed"))
    text = said("volumes.md")
    assert found["command"] in text
    assert f"In {len(rounds)} rounds with {kills} kills all {found['files']} files" in text
    assert f"of {found['blocks']} blocks in a round {extra} in all were computed again" in text
    assert f"where up to {allowed} were in flight" in text


def test_what_is_said_of_uncertainty_comes_from_the_bench():
    found = json.loads((ROOT / "docs" / "results" / "uncertainty.json").read_text())
    chosen, scored = (found["sections"][sections] for sections in ("22-24", "25-29"))
    kept = "entropy of the mean, smoothed 1 px"

    def share(of, measure, where, what):
        return f"{of['measures'][measure][where]['all'][what]:.0%}".replace("%", " %")

    text = said("weights.md")
    for where, words in (
        ("membrane", "touch the most uncertain 5 % of the membrane ({chance} would by chance)"),
        ("all pixels", "touch the most uncertain 5 % of all pixels ({chance})"),
    ):
        touched, chance, pixels = (
            share(scored, kept, where, what)
            for what in ("errors touched", "by chance", "of their pixels")
        )
        assert f"{touched} {words.format(chance=chance)}, with {pixels} of their pixels" in text
    assert f"Of the {scored['merge'] + scored['split']} gaps and false membranes" in text
    shares = {name: each["all pixels"]["all"] for name, each in chosen["measures"].items()}
    best = max(shares, key=lambda name: shares[name]["of their pixels"])
    assert (best, len(shares)) == (kept, 16)
    assert f"{share(chosen, kept, 'all pixels', 'of their pixels')} in all" in text


def test_what_is_said_of_calibration_comes_from_the_bench():
    found = json.loads((ROOT / "docs" / "results" / "calibration.json").read_text())
    rows = {row["calibrated on"]: row for row in found["rows"] if row["average"] == "half-turn"}
    plain, validation, learned = (rows[on] for on in ("–", "validation, 8 poses", "learned"))
    errors = [f"{row['expected error']:.4f}"[1:] for row in (plain, validation, learned)]
    losses = [f"{row['log loss']:.3f}"[1:] for row in (plain, validation, learned)]
    text = said("training.md")
    assert (
        f"expected calibration error {errors[0]}, calibrated on its validation sections 22–24"
        f" {errors[1]}, on three that it learned from {errors[2]}; log loss {', '.join(losses)}."
    ) in text
