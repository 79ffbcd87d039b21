"""The folder of a training as a document: what was done, how it went, and of what it was made."""

import json
from pathlib import Path
from typing import Any

from axolemma.errors import InputError
from axolemma.modelfile import ModelInfo, load_model
from axolemma.report.charts import Series, line_chart
from axolemma.report.curves import learning_rates, rate_figure, read_reports, smooth
from axolemma.report.markup import Html, joined, tag
from axolemma.report.methods import data_name
from axolemma.report.page import Document, Part
from axolemma.report.parts import AVERAGES, facts, figure, paragraph, row, table, tiles

__all__ = ["run_document"]

_AUGMENTED: dict[Any, str] = {
    "none": "took them as they are",
    "robust": "augmented them strongly, for sections worse than these",
    "keras": "augmented them as Keras does",
}


def run_document(run: str | Path) -> Document:
    """Tell what a training did, also while it is still at it.

    Parameters
    ----------
    run
        The folder, with ``settings.json`` and ``metrics.jsonl``, and ``model.safetensors`` when it
        is finished.

    Raises
    ------
    InputError
        If the folder is no run's.
    """
    run = Path(run)
    record = _read(run / "settings.json")
    settings: dict[str, Any] = record["settings"]
    lines = read_reports(run / "metrics.jsonl")
    info = load_model(run).info if (run / "model.safetensors").is_file() else None
    parts = [
        Part("What was done", _done(settings, lines, info)),
        Part("Learning curves", _curves(settings, lines)),
        Part("Validation", _validation(info)) if info else None,
        Part("Settings", _settings(settings, info)),
        Part("Versions, hashes and terms", _origin(run, record, info)),
    ]
    title = f"{settings.get('model', 'A network')} on {data_name(settings)}"
    lead = _lead(settings, lines, info)
    return Document("Training run", title, lead, tuple(part for part in parts if part))


def _read(file: Path) -> dict[str, Any]:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(record["settings"], dict):
            raise TypeError("its settings are no mapping")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file.parent}: this is no folder of a training ({type(error).__name__} in "
            f"{file.name}); name one that `axolemma train` made"
        ) from error
    return dict(record)


def _lead(settings: dict[str, Any], lines: list[dict[str, float]], info: ModelInfo | None) -> str:
    what = f"A {settings.get('model', 'network')} learned membranes"
    if info is None:
        last = lines[-1] if lines else {"step": 0, "done": 0.0}
        return (
            f"{what} from {data_name(settings)}; the run is not finished. It is at step "
            f"{last['step']:,}, {last['done']:.0%} of its budget."
        )
    told = info.training
    best = _validated(told)
    lead = (
        f"{what} from {_sections(told.get('slices'))} of {told.get('data', '?')}: "
        f"{told.get('steps', 0):,} steps in {_minutes(told)}."
    )
    if best:
        name, scores = best
        judged = f"On {_sections(told.get('validated_on'))}, held out to choose the weights"
        if told.get("validated_on") == "none":
            judged = "On sections that it learned from, which flatters"
        lead += (
            f" {judged}, it reaches V_rand {scores['v_rand']:.3f} and V_info "
            f"{scores['v_info']:.3f}, averaged over {AVERAGES.get(name, name)}."
        )
    return lead


def _sections(span: Any) -> str:
    """Write ``"0-24"`` as ``sections 0 to 24``."""
    first, _, last = str(span or "?").partition("-")
    return f"section {first}" if last in ("", first) else f"sections {first} to {last}"


def _minutes(told: dict[str, Any]) -> str:
    minutes = float(told.get("minutes", 0))
    if minutes < 2:
        return f"{60 * minutes:.0f} seconds"
    return f"{minutes:.1f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"


def _validated(told: dict[str, Any]) -> tuple[str, dict[str, float]] | None:
    """Return the last way of averaging, the one that segmenting takes, and its scores."""
    validation = told.get("validation") or {}
    known = [name for name in AVERAGES if name in validation]
    return (known[-1], validation[known[-1]]) if known else None


def _done(settings: dict[str, Any], lines: list[dict[str, float]], info: ModelInfo | None) -> Html:
    losses = [line for line in lines if "loss" in line]
    found = []
    if info and (best := _validated(info.training)):
        name, scores = best
        over = f"averaged over {AVERAGES.get(name, name)}"
        found += [
            ("V_rand, validation", f"{scores['v_rand']:.3f}", over),
            ("V_info, validation", f"{scores['v_info']:.3f}", over),
            ("Threshold", f"{scores['threshold']:.2g}", "chosen on the same sections"),
        ]
    elif validations := [line for line in lines if "v_rand" in line]:
        last = validations[-1]
        at = f"at step {last['step']:,}"
        found.append(("V_rand, validation", f"{last['v_rand']:.3f}", at))
        found.append(("V_info, validation", f"{last['v_info']:.3f}", at))
    if losses:
        spent = float(losses[-1].get("seconds", 0.0))
        pace = losses[-1]["step"] / spent if spent else 0.0
        found.append(
            ("Steps", f"{losses[-1]['step']:,}", f"{pace:.3g} a second, validation included")
        )
    body = [tiles(*found)] if found else []
    if info:
        body.append(
            paragraph(
                "The held-out sections chose the weights and the threshold, so these numbers are "
                "a little too good. For a number to publish, score sections that the training "
                "has never seen."
            )
        )
    side = settings.get("crop", "?")
    body.append(
        paragraph(
            f"Every step drew {settings.get('batch', '?')} crops of {side} × {side} pixels at "
            f"random, {_AUGMENTED.get(settings.get('preset'), 'augmented them')}, and moved the "
            "weights against the loss ",
            tag("code", settings.get("loss", "bce_dice")),
            ". What was validated and kept is a running average of the weights."
            if settings.get("averaging", 1)
            else ". What was validated best was kept.",
        )
    )
    return joined(*body)


def _curves(settings: dict[str, Any], lines: list[dict[str, float]]) -> Html:
    reports = [line for line in lines if "loss" in line]
    validations = [line for line in lines if "v_rand" in line]
    reach = (0.0, max((line["step"] for line in lines), default=1.0))
    charts = []
    if reports:
        steps = [line["step"] for line in reports]
        loss = [line["loss"] for line in reports]
        many = len(loss) >= 20
        mean = Series("loss", steps, smooth(loss) if many else loss, "line")
        raw = [Series("each report", steps, loss, "pale")] if many else []
        chart = line_chart(
            [*raw, mean], title="Loss", x="step", y="mean since last report", x_range=reach
        )
        words = "Training loss" + (", pale as reported, dark smoothed." if many else ".")
        charts.append(figure(chart, words))
    if validations:
        steps = [line["step"] for line in validations]
        names = [("v_rand", "V_rand"), ("v_info", "V_info")]
        if all("accuracy" in line for line in validations):
            names.append(("accuracy", "pixel accuracy"))
        chart = line_chart(
            [
                Series(title, steps, [v[name] for v in validations], "dotted")
                for name, title in names
            ],
            title="Validation",
            x="step",
            y="score on the held-out sections",
            x_range=reach,
        )
        charts.append(
            figure(chart, "Of the weights to be kept, each at the threshold that it chose.")
        )
    places = [(line["done"], line["step"]) for line in reports]
    if rates := learning_rates(settings, places):
        steps = [line["step"] for line in reports]
        rate = Series("learning rate", steps, rates)
        charts.append(rate_figure([rate], settings, x="step", reach=reach))
    if validations:
        steps = [line["step"] for line in validations]
        chart = line_chart(
            [Series("threshold", steps, [v["threshold"] for v in validations], "dotted")],
            title="Threshold",
            x="step",
            y="chosen at each validation",
            x_range=reach,
            y_range=(0, 1),
        )
        words = "The threshold that each validation chose; it settles as the maps do."
        charts.append(figure(chart, words))
    if not charts:
        return paragraph("Nothing has been reported yet.")
    return tag("div", *charts, class_="pair")


def _validation(info: ModelInfo) -> Html:
    told = info.training
    rows = [
        row(
            AVERAGES.get(name, name),
            f"{found['threshold']:.2g}",
            float(found["v_rand"]),
            float(found["v_info"]),
        )
        for name, found in (told.get("validation") or {}).items()
    ]
    if cells := told.get("validation_cells"):
        name = f"cells, {AVERAGES.get('dihedral', 'dihedral')}"
        rows.append(row(name, f"boundary {info.boundary:.2g}", cells["v_rand"], cells["v_info"]))
    judged = f"the held-out {_sections(told.get('validated_on'))}"
    if told.get("validated_on") == "none":
        judged = "sections that they learned from, which flatters"
    caption = (
        f"The weights that were kept, on {judged}. "
        "Averaging over more poses takes longer and mostly scores a little higher."
    )
    return table(("averaged over", ">threshold", ">V_rand", ">V_info"), rows, caption=caption)


def _settings(settings: dict[str, Any], info: ModelInfo | None) -> Html:
    asked = {key: value for key, value in settings.items() if key != "data_sha256"}
    body = [facts(asked, caption="Settings as they were asked for; – is the default.")]
    if info:
        network = {"architecture": info.architecture, **info.arguments}
        told = network | {"normalisation": info.normalisation, "axes": info.axes}
        body.append(facts(told, caption="The network that came of them."))
    return tag("div", *body, class_="pair")


def _origin(run: Path, record: dict[str, Any], info: ModelInfo | None) -> Html:
    told: dict[str, Any] = {"run": run.name, "Axolemma, at the start": record.get("axolemma")}
    if info:
        training = info.training
        told |= {
            "Axolemma, at the end": info.axolemma,
            "PyTorch": training.get("torch"),
            "precision": training.get("precision"),
            "weights, sha256": training.get("weights_sha256"),
        }
    told["data"] = record["settings"].get("data")
    told["data, sha256"] = record["settings"].get("data_sha256")
    if info:
        size = info.voxel_size
        told["voxel size"] = size and " × ".join(f"{side:g}" for side in size) + " nm (Z, Y, X)"
        told["terms of data and weights"] = info.licence
    return facts(told, caption="Enough to make the run again and to recognise its weights.")
