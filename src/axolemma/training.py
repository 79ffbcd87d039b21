"""Training: one linear loop, top to bottom; `runs` keeps what it needs to go on."""

import copy
import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from axolemma import augment, augment_keras, datasets, losses, models
from axolemma.calibration import fit_calibration
from axolemma.datasets import Pairs, data_hash
from axolemma.distributed import ALONE, Team, joined
from axolemma.engines.cores import cores
from axolemma.errors import AxolemmaError, InputError, SettingsError
from axolemma.images import parse_slices
from axolemma.labels import IGNORED
from axolemma.metrics import USUAL_THRESHOLD, evaluate, steady_choice
from axolemma.modelfile import Model, ModelInfo, load_model, save_model, state_hash
from axolemma.objects import BOUNDARIES, BOUNDARY, contacts, fragments, merge
from axolemma.padding import padded
from axolemma.predict import (
    Average,
    autocast,
    choose_device,
    choose_precision,
    cudnn_set,
    enlargement,
    neighbours,
    pixel_text,
    place,
    predict_section,
    ready,
)
from axolemma.quality import Contrast, contrast_of, normalise
from axolemma.replay import Replayed
from axolemma.runs import LOCK, Metrics, State, Weights, load_state, open_run, save_state
from axolemma.settings import TrainSettings, check

__all__ = ["Laps", "Progress", "begin", "enough_steps", "fit", "schedule", "split", "train"]

#: Shares of the budget at which the averaged weights are validated; the last one chooses too.
VALIDATIONS = (0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9)

#: Minutes of training where neither a budget nor a number of steps is given.
DEFAULT_MINUTES = 10.0

#: Where minutes are given they end early, once all annotated pixels were seen so often and so many
#: steps were done: on six folds of 25 sections no more was gained (docs/training.md).
PASSES, LEAST_STEPS = 270, 3000

#: Sections at most to judge by where none are held out, and to choose the boundary from.
MOST_JUDGED, MOST_CHOOSING = 5, 12

#: Validations that differ by less are taken for equal; by twice that, the later weights were taken
#: too often (docs/experiments.md).
_AS_GOOD = 0.0025

#: Standard deviations by which membranes are brighter or darker where a section tells its polarity.
_TOLD = 0.1

#: Share of the budget over which the learning rate rises; it then falls along a cosine.
WARM_UP = 0.05

#: Steps of an epoch in the schedule of the earlier project.
EPOCH = 300

#: Sections (C, Y, X) and their truth (Y, X), cut out.
_Crop = tuple[NDArray[np.float32], NDArray[np.uint8]]

#: Crops (N, C, Y, X), float32, and their truth (N, 1, Y, X), uint8.
_Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Progress:
    """What a training tells while it runs.

    Parameters
    ----------
    step
        Steps done.
    done
        Share of the budget that is spent, in [0, 1].
    loss
        Mean loss since the last report.
    v_rand
        Thinned V_rand of the latest validation at its chosen threshold, None before the first.
    seconds_left
        Estimate of the time to the end; None where steps are counted and one alone is done.
    """

    step: int
    done: float
    loss: float
    v_rand: float | None
    seconds_left: float | None


class Laps:
    """Where the time of a training went: each call gives a part what passed since the last.

    Parameters
    ----------
    seconds
        Of each part so far, by its name.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def __call__(self, part: str) -> None:
        """End a part."""
        if torch.cuda.is_available():
            if torch.cuda.is_current_stream_capturing():
                return  # nothing is done yet
            torch.cuda.synchronize()  # what was asked of it is done later, and would count later
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._last
        self._last = now


def train(
    data: str | Path | Pairs | tuple[NDArray[Any], NDArray[Any]],
    *,
    run: str | Path,
    report: Callable[[Progress], None] = lambda _: None,
    **settings: Any,
) -> Model:
    """Train a network on annotated sections.

    Parameters
    ----------
    data
        What `datasets.load` takes (``"isbi2012"``, ``"phantom"``, a folder of pairs, a CREMI or
        SNEMI3D volume's path), loaded `Pairs`, or two arrays of shape (Z, Y, X): images with dark
        membranes, and truth with 1 = membrane, 0 = interior and 2 = not annotated.
    run
        Folder of the run; a run that was interrupted goes on.
    report
        Called about once a second.
    **settings
        See `TrainSettings`, for instance ``slices="0-24"``, ``budget="10m"``, ``seed=0``, or
        ``start="neurites"`` to go on from a model's weights.

    Returns
    -------
    Model
        For `segment`.

    Raises
    ------
    InputError
        If data or settings cannot be used, or the run's folder holds something else.
    """
    name = data if isinstance(data, str | Path) else getattr(data, "name", "arrays")
    chosen = check(TrainSettings, {"data": str(name), **settings})
    if isinstance(data, str | Path):
        data = datasets.load(data, truth_is=chosen.truth_is, ignore_value=chosen.ignore_value)
    elif isinstance(data, tuple):
        images, truth = (np.asarray(array) for array in data)
        if not np.isin(truth, (0, 1, IGNORED)).all():
            raise InputError(
                "the truth holds other values than 0 (interior), 1 (membrane) and 2 (not annotated)"
            )
        data = Pairs("arrays", images, truth.astype(np.uint8))
    with joined() as team:
        return fit(data, chosen, run, report=report, team=team)


def split(settings: TrainSettings, count: int) -> tuple[range, range]:
    """Return the sections to use and, among them, those held out for validation.

    Parameters
    ----------
    settings
        Its `slices` and `validate_slices`.
    count
        Sections that the data has.

    Returns
    -------
    range, range
        The sections to use and those among them that are held out: none of them where
        `validate_slices` is ``"none"``.

    Raises
    ------
    SettingsError
        If the held-out sections are not among the used ones, or leave none to learn from.
    """
    used = parse_slices(settings.slices, count) if settings.slices else range(count)
    if settings.validate_slices == "none":
        return used, used[:0]
    if settings.validate_slices:
        held_out = parse_slices(settings.validate_slices, count)
        if held_out.start < used.start or held_out.stop > used.stop:
            raise SettingsError(
                f"the validation sections {settings.validate_slices} must lie within the "
                f"sections {used.start}-{used.stop - 1} that training may see"
            )
    else:
        held_out = range(used.stop - max(1, len(used) // 8), used.stop)
    if len(held_out) >= len(used):
        raise SettingsError(
            f"validation on {len(held_out)} of {len(used)} sections leaves none to learn from; "
            "annotate at least two sections, hold out fewer, or none: validate = none"
        )
    return used, held_out


def fit(
    data: Pairs,
    settings: TrainSettings,
    run: str | Path,
    *,
    report: Callable[[Progress], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
    lap: Callable[[str], None] = lambda _: None,
    team: Team = ALONE,
) -> Model:
    """Train a network, or go on with a training that was interrupted.

    The run folder keeps everything. Called again with the same settings it continues where the
    last saved state is; with `steps` the result then equals that of a run that was never
    interrupted, bit for bit on the same machine. A finished run is loaded, not repeated.

    Parameters
    ----------
    data
        Annotated sections.
    settings
        See `TrainSettings`.
    run
        The run's folder; made where it does not exist.
    report
        Called about once a second.
    say
        Called with a sentence or two at the start.
    lap
        Called with the name of each part of the work when that is done, see `Laps`.
    team
        The processes that share the work, see `distributed`. All of them call this, with the same
        arguments, and see the same folder; the first one writes, reports and says.

    Returns
    -------
    Model
        The averaged weights that validated best, with their thresholds.

    Raises
    ------
    SettingsError
        If settings are wrong, do not fit the weights to start from, differ from those of the run
        that is there, or the batch cannot be shared out evenly.
    InputError
        If nothing is annotated where it is needed, a section is unusable or the folder cannot
        be written.
    AxolemmaError
        If the loss is no longer finite.
    """
    if not team.first:
        report, say = (lambda _: None), (lambda _: None)
    with ExitStack() as held:
        model = _fit(data, settings, Path(run), report, say, lap, team, held)
    if team.first:
        (Path(run) / LOCK).unlink(missing_ok=True)
    return model


def _fit(
    data: Pairs,
    settings: TrainSettings,
    run: Path,
    report: Callable[[Progress], None],
    say: Callable[[str], None],
    lap: Callable[[str], None],
    team: Team,
    held: ExitStack,
) -> Model:
    """Train as `fit` does, with the run's folder locked until `held` ends."""
    used, chosen = split(settings, len(data.images))
    # From here on there are the used sections only, numbered from 0: nothing else can leak in.
    data = data.slices(used)
    held_out = [z for z, number in enumerate(used) if number in chosen]
    annotated = _annotated(data, used.start, held_out)
    _check_both(data, used.start, held_out, say)
    train_set = [z for z in annotated if z not in held_out]
    # With none held out the model is judged, and flattered, on some that it learned from.
    judged = held_out or spread(train_set, MOST_JUDGED)
    # Two or three sections hang on a single contact, so some that were learned from help to choose
    # the boundary. They do not help with thresholds: what is known by heart leaks at none of them.
    choosing = sorted({*judged, *spread(train_set, MOST_CHOOSING - len(judged))})
    deciding = held_out or choosing
    # The weight of the Dice part is an option of the one loss that has one.
    weighs = settings.loss == "bce_dice" or "dice" in settings.model_fields_set
    options = {"dice": settings.dice} if weighs else {}
    loss_of = losses.build(settings.loss, **options)
    settings, start, arguments, network = begin(settings)
    context = settings.context
    device = team.device(choose_device(settings.device))
    mine = team.share(settings.batch)
    precision = choose_precision(settings.precision, device)
    _check_crop(network, settings, data.images.shape)
    images, levels = _prepare(data, used.start)
    truth = data.truth
    bright = _bright(images, truth)
    # As `segment` inverts what it is given: a network sees dark membranes only.
    images[bright] *= -1
    sparse = bool((truth == IGNORED).any())
    if sparse and settings.preset == "keras":
        raise SettingsError(
            "preset 'keras' paints what it cannot see as annotated membrane, so it cannot leave"
            " pixels out; take preset axolemma, robust or none where not all is annotated"
        )
    signs = np.where(bright, 1, -1).tolist()
    black = [sign * one.mean / one.deviation for sign, one in zip(signs, levels, strict=True)]
    frames = [
        padded(section, one.padding) for section, one in zip(data.images, levels, strict=True)
    ]
    hashes: dict[str, Any] = {
        "data_sha256": data_hash(images, truth),
        "start_sha256": None if start is None else state_hash(start.network),
    }
    team.led(lambda: held.enter_context(open_run(run, settings, **hashes)))
    if (run / "model.safetensors").is_file():
        (run / "state.safetensors").unlink(missing_ok=True)
        say(f"the run in {run} is finished already")
        return load_model(run / "model.safetensors")

    if bright.any():
        names = ", ".join(map(str, used.start + np.flatnonzero(bright)))
        say(
            f"by their truth membranes are bright in sections {names}: their grey values were"
            " inverted for the network, as segment does"
        )
    if start is not None:
        _compare_sizes(settings, data, start, say)

    place(network, device)
    average = copy.deepcopy(network).eval().requires_grad_(False)
    best = copy.deepcopy(average)
    learner = team.learner(network, device)
    # Scales and biases are not shrunk: that would fight the normalisation.
    parts: list[dict[str, Any]] = [
        {"params": [p for p in network.parameters() if p.ndim > 1]},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    on_gpu = device.type == "cuda"
    # A rate that is recorded as a part of the steps has to lie on the GPU too.
    rate = torch.tensor(settings.learning_rate, device=device) if on_gpu else settings.learning_rate
    optimizer = kind(
        parts, lr=rate, weight_decay=settings.weight_decay, fused=True, capturable=on_gpu
    )
    weights = Weights(network, average, best, optimizer)
    state = State()
    say(
        f"{settings.model} on {data.name}: sections {_span(used)}, of which "
        f"{_span(chosen) if chosen else 'none'} are held out to validate; {precision} on {device}"
    )
    if start is not None:
        say(f"starting from the weights of {settings.start}{_learned_from(start.info)}")
    if len(annotated) < len(data):
        say(f"nothing is annotated in {len(data) - len(annotated)} of these sections")
    if resumed := (run / "state.safetensors").is_file():
        state = load_state(run, weights)
        say(f"going on in {run} from step {state.step}")
    metrics = Metrics(run / "metrics.jsonl", up_to=state.step if resumed else -1, mine=team.first)
    enough = enough_steps(settings, int((truth[train_set] != IGNORED).sum()))
    if settings.steps is None:
        say(f"{enough:,} steps at most: more gain nothing on so few sections (--steps insists)")
    # A validation predicts in 4 poses; the last ones in 4, then in 2, then in 8.
    clock = _Clock(
        settings,
        state,
        ending=1 + (2 * len(deciding) + 8 * len(choosing)) / (4 * len(judged)),
        boundaries=len(choosing),
        enough=enough,
    )

    def mapped(candidate: nn.Module, kind: Average, sections: list[int]) -> NDArray[np.float32]:
        """Predict sections."""
        candidate = ready(candidate, device, precision)
        maps = np.zeros((len(sections), *images.shape[1:]), np.float32)
        for n in range(team.rank, len(sections), team.size):
            maps[n] = predict_section(
                candidate,
                images[neighbours(sections[n], context, len(images))],
                average=kind,
                precision=precision,
                device=device,
            )
            if (frame := frames[sections[n]]) is not None:
                maps[n][frame] = 1
        maps = team.summed(maps)  # each section comes from one process, and is 0 in the others
        if not np.isfinite(maps).all():
            raise AxolemmaError("the network predicts NaN; try a lower learning_rate")
        return maps

    def validate(
        maps: NDArray[np.float32], sections: list[int], threshold: float | None = None
    ) -> dict[str, float]:
        """Score the judged sections at a threshold, the one that `sections` choose if none."""
        counted = truth[sections] != IGNORED
        # Nobody knows how cells go on beyond: there they end, the proposal's as the truth's.
        closed = np.where(counted, maps, np.float32(1))
        scores = evaluate(closed, truth[sections], where=counted, unthinned=False)
        threshold = scores.choose_threshold() if threshold is None else threshold
        rows = [sections.index(z) for z in judged]
        right = (1 - maps[rows] > threshold) == (truth[judged] == 0)
        return {
            "threshold": threshold,
            "v_rand": float(scores.sections_at(threshold, "v_rand")[rows, 0].mean()),
            "v_info": float(scores.sections_at(threshold, "v_info")[rows, 0].mean()),
            "accuracy": float(right[counted[rows]].mean()),
        }

    def validate_average(done: float) -> None:
        started = time.monotonic()
        maps = mapped(average, "flips", judged)
        found = validate(maps, judged)
        _keep_best(state, found, average, best)
        metrics.write(step=state.step, done=done, **found)
        state.validation_seconds = time.monotonic() - started
        if state.boundary_seconds == 0:
            # Tried on one section, only to know how long the end will take.
            _choose_boundary(maps[:1], truth[judged[:1]], [0], found["threshold"])
            state.boundary_seconds = time.monotonic() - started - state.validation_seconds

    said = saved = time.monotonic()
    network.train()
    target = _thickened(truth, settings.thicken)
    # Every annotated pixel is as likely to be aimed at, wherever in the stack.
    areas = (truth[train_set] != IGNORED).sum(axis=(1, 2))
    shares = areas / areas.sum() if sparse else None
    if start is not None and not resumed:
        validate_average(0.0)  # A training that makes the start worse must not replace it.
    # While a GPU works processors are free; where they work themselves, as much as crops need.
    threads = max(1, cores() // team.here if on_gpu else torch.get_num_threads() // 4)
    pool = ThreadPoolExecutor(threads)

    def cut(step: int) -> _Batch:
        # Chance depends on seed and step alone, so a resumed run draws what it would have drawn.
        rng = np.random.default_rng((settings.seed, step))
        sections = rng.choice(train_set, settings.batch, p=shares)
        return _batch(rng, images, target, sections, mine, settings, black, pool, pinned=on_gpu)

    # Backwards too a GPU would round what it multiplies.
    flags = {"deterministic": True} | ({"allow_tf32": False} if precision == "fp32" else {})

    def learn(crops: Tensor, drawn: Tensor) -> Tensor:
        """Take a step with a batch; return its loss."""
        with cudnn_set(**flags):
            with autocast(precision, device):
                heads = learner(crops)
            lap("forward")
            drawn = team.whole(drawn)
            counted = (drawn != IGNORED).float() if sparse else None
            target_map = (drawn == 1).float()
            loss = torch.stack(
                [loss_of(team.whole(logits.float()), target_map, counted) for logits in heads]
            ).mean()
            optimizer.zero_grad(set_to_none=True)
            lap("loss")
            loss.backward()  # type: ignore[no-untyped-call]
            lap("backward")
        optimizer.step()
        lap("optimizer")
        return loss.detach()

    waiting: list[Tensor] = []
    recent: list[float] = []

    def look() -> None:
        """Look at the losses of the last steps; waits until a GPU has got there."""
        for step, loss in enumerate(torch.stack(waiting).tolist(), state.step + 1 - len(waiting)):
            if not math.isfinite(loss):
                raise AxolemmaError(
                    f"the loss became {loss} in step {step}; try a lower learning_rate, in another"
                    f" folder than {run}"
                )
            recent.append(loss)
        waiting.clear()

    recorded = on_gpu and team.size == 1 and settings.loss not in losses.LOOKING
    step_with = Replayed(learn) if recorded else learn
    # A GPU asks for its next crops sooner than those of one step are cut.
    batches = _ahead(cut, state.step, max(1, threads // len(mine)) if on_gpu else 1)
    move_average = _mover(average, network)
    before: torch.cuda.Event | None = None
    lap("beginning")
    while (done := team.agreed(clock.done(state))) < 1:
        _set_rate(optimizer, settings.learning_rate * schedule(done, state.step, settings.schedule))
        torch.manual_seed((settings.seed << 32) + state.step)
        crops, drawn = next(batches)
        lap("crops")
        crops = crops.to(device, non_blocking=True, memory_format=torch.channels_last)
        drawn = drawn.to(device, non_blocking=True)
        lap("transfer")
        waiting.append(step_with(crops, drawn).clone())
        if recorded:
            lap("recorded steps")
        state.step += 1
        move_average(1 / (1 + settings.averaging * state.step))
        lap("averaging")
        if on_gpu:
            # One step waits while another runs; more of them would spend time not yet counted.
            if before is not None:
                before.synchronize()
            before = torch.cuda.current_stream(device).record_event()

        done, now = team.agreed(clock.done(state)), time.monotonic()
        judging = state.validations < len(VALIDATIONS) and done >= VALIDATIONS[state.validations]
        telling = now - said > 1 or done >= 1
        saving = team.first and now - saved >= settings.save_every
        if judging or telling or saving or not on_gpu:
            look()
        if judging:
            while state.validations < len(VALIDATIONS) and done >= VALIDATIONS[state.validations]:
                state.validations += 1
            validate_average(done)
            lap("validation")
        if telling:
            said = now
            mean = float(np.mean(recent))
            recent.clear()
            metrics.write(step=state.step, done=done, loss=mean, seconds=clock.elapsed())
            report(Progress(state.step, done, mean, state.v_rand, clock.seconds_left(state)))
        if saving:
            state.seconds = clock.elapsed()
            save_state(run, state, weights)
            saved = time.monotonic()
            lap("saving")

    if waiting:
        look()
    validate_average(1.0)
    wide = mapped(best, "dihedral", choosing)
    # The steadiest map decides for all: chosen by each on its own, thresholds of fewer poses were
    # those of a few gaps (docs/decisions/0003-threshold.md).
    steadiest = wide[[choosing.index(z) for z in deciding]]
    in_all = validate(steadiest, deciding)
    if not held_out and in_all["threshold"] < USUAL_THRESHOLD:
        # What is known by heart is told apart by thin membranes, others are not.
        in_all = validate(steadiest, deciding, USUAL_THRESHOLD)
    threshold = in_all["threshold"]
    as_segmented = validate(mapped(best, "half-turn", deciding), deciding, threshold)
    boundary, cells = _choose_boundary(
        wide, truth[choosing], [choosing.index(z) for z in judged], threshold
    )
    known = truth[deciding]
    info = ModelInfo(
        architecture=settings.model,
        arguments=arguments,
        context=context,
        voxel_size=settings.voxel_size or data.voxel_size,
        threshold=threshold,
        boundary=boundary,
        calibration=fit_calibration(steadiest, known == 1, where=known != IGNORED),
        training={
            "data": data.name,
            "slices": _span(used),
            "validated_on": _span(chosen) if chosen else "none",
            "validation": {"half-turn": as_segmented, "dihedral": in_all},
            "validation_cells": cells,
            "steps": state.step,
            "minutes": round(clock.elapsed() / 60, 2),
            "precision": precision,
            "settings": settings.model_dump(mode="json", by_alias=True),
            "weights_sha256": state_hash(best),
            "torch": torch.__version__,
            **({} if start is None else {"start": _provenance(str(settings.start), start)}),
        },
        licence=_terms(data.terms, "" if start is None else start.info.licence),
    )
    team.led(partial(save_model, run / "model.safetensors", best, info))
    (run / "state.safetensors").unlink(missing_ok=True)
    lap("thresholds and boundary")
    return Model(best.cpu(), info, str(run / "model.safetensors"))


def begin(
    settings: TrainSettings,
) -> tuple[TrainSettings, Model | None, dict[str, Any], nn.Module]:
    """Build the network that a training begins with.

    Parameters
    ----------
    settings
        See `TrainSettings`; its seed draws the weights.

    Returns
    -------
    TrainSettings, Model, dict, nn.Module
        The settings, with what a model to start from says of itself; that model, or None; the
        network's arguments; and the network.

    Raises
    ------
    SettingsError
        If arguments are unknown, out of range or contradict the model to start from.
    """
    start = None if settings.start is None else load_model(settings.start)
    given = _given_arguments(settings)
    if start is None:
        inputs = 2 * settings.context + 1
        arguments = models.all_arguments(settings.model, in_channels=inputs, **given)
    else:
        settings = _following(settings, given, start.info)
        arguments = start.info.arguments
    torch.manual_seed(settings.seed)
    network = models.build(settings.model, **arguments)
    if start is not None:
        network.load_state_dict(start.network.state_dict())
    return settings, start, arguments, network


def _choose_boundary(
    maps: NDArray[np.float32], truth: NDArray[np.uint8], judged: list[int], threshold: float
) -> tuple[float, dict[str, float]]:
    """Choose the boundary of `objects.segment_cells` by V_rand and V_info.

    Of those that can hardly be told from the best one, the nearest to the usual one.

    Parameters
    ----------
    maps, truth
        The sections that choose, (Z, Y, X).
    judged
        Which of them are scored at the choice.
    threshold
        At which these maps are cut.

    Returns
    -------
    float, dict
        The boundary, and V_rand and V_info of cells there.
    """
    scores = np.empty((len(BOUNDARIES), len(maps), 2))
    for z, section in enumerate(maps):
        pieces = fragments(section, threshold=threshold)
        found = contacts(pieces, section)
        counted = truth[z] != IGNORED
        for b, boundary in enumerate(BOUNDARIES):
            cells = np.where(counted, merge(pieces, found, boundary=boundary), 0)
            score = evaluate(cells, truth[z], proposal_is="cells", where=counted, unthinned=False)
            scores[b, z] = [score.at(0.5, name).score for name in ("v_rand", "v_info")]
    # Cells that are known by heart part well at any boundary.
    chosen = steady_choice(scores.mean(axis=(1, 2)), BOUNDARIES, BOUNDARY)
    v_rand, v_info = scores[chosen, judged].mean(axis=0).tolist()
    return BOUNDARIES[chosen], {"v_rand": v_rand, "v_info": v_info}


def _annotated(data: Pairs, first: int, held_out: list[int]) -> list[int]:
    """Return the sections of which anything is annotated; refuse where that leaves too few."""
    found = np.flatnonzero((data.truth != IGNORED).any(axis=(1, 2))).tolist()
    told = ", ".join(str(first + z) for z in found)
    for z in held_out:
        if z not in found:
            raise InputError(
                f"{data.name}: nothing is annotated in section {first + z}, which is held out to"
                f" validate; hold out annotated ones ({told}) or none: validate = none"
            )
    if not set(found) - set(held_out):
        raise InputError(
            f"{data.name}: nothing is annotated in the sections to learn from; annotate a part of"
            " them, or choose others: slices"
        )
    return found


def _check_both(data: Pairs, first: int, held_out: list[int], say: Callable[[str], None]) -> None:
    """Refuse to validate on membrane or interior alone, and tell of whole sections of one of them.

    Scores mean nothing there, and a section that nobody has drawn yet looks so.
    """
    sections = range(len(data))
    drawn = np.array([[(data.truth[z] == kind).any() for kind in (0, 1)] for z in sections])
    if held_out and not drawn[held_out].any(axis=0).all():
        names = ", ".join(str(first + z) for z in held_out)
        raise InputError(
            f"{data.name}: the truth of sections {names}, held out to validate, shows membrane or"
            " interior alone; hold out others, leave out what is not drawn (slices), or validate ="
            " none"
        )
    blank = [z for z in sections if not drawn[z].all() and (data.truth[z] != IGNORED).all()]
    if blank:
        names = ", ".join(str(first + z) for z in blank)
        say(
            f"the truth of sections {names} shows membrane or interior alone, and that is learned;"
            " leave out what nobody has drawn yet"
        )


def _given_arguments(settings: TrainSettings) -> dict[str, Any]:
    """Return the network's arguments that were given, wherever."""
    sizes = {"width": settings.width, "depth": settings.depth}
    sizes = {name: size for name, size in sizes.items() if size is not None}
    for name in ("in_channels", "out_channels", *sizes):
        if name in settings.arguments:
            raise SettingsError(f"setting 'arguments': '{name}' is set elsewhere; leave it out")
    return {**settings.arguments, **sizes}


def _following(settings: TrainSettings, given: dict[str, Any], info: ModelInfo) -> TrainSettings:
    """Take what was not given from the model to start from, and refuse what contradicts it."""
    there = {"model": info.architecture, "context": info.context}
    asked = {name: getattr(settings, name) for name in there if name in settings.model_fields_set}
    if asked.get("model", info.architecture) == info.architecture:
        models.check(info.architecture, **given)
    for name, value in {**asked, **given}.items():
        found = {**there, **info.arguments}.get(name)
        if found != value:
            raise SettingsError(
                f"the weights of {settings.start} are of {name} = {found!r}, not {value!r}; leave"
                f" {name} out, or train without a start"
            )
    return settings.model_copy(
        update={name: v for name, v in there.items() if name not in settings.model_fields_set}
    )


def _learned_from(info: ModelInfo) -> str:
    data, slices = info.training.get("data"), info.training.get("slices")
    return "" if data is None else f", which has learned from sections {slices} of {data}"


def _provenance(name: str, start: Model) -> dict[str, Any]:
    """Tell where the weights come from that a training began with, by the name that was given."""
    told = start.info.training
    before = {name: told[name] for name in told if name in ("data", "slices", "start")}
    return {"source": name, "weights_sha256": state_hash(start.network), **before}


def _terms(*terms: str) -> str:
    """Join the terms of all that weights come from, a line each, none twice."""
    return "\n".join(dict.fromkeys(line for text in terms for line in text.splitlines()))


def spread(sections: list[int], most: int) -> list[int]:
    """Pick at most so many sections, evenly."""
    return sections[:: -(-len(sections) // most)] if most > 0 else []


def _span(sections: range) -> str:
    return f"{sections.start}-{sections.stop - 1}"


class _Clock:
    """How much of the budget is spent; in steps, or in seconds over all starts of the run."""

    def __init__(
        self,
        settings: TrainSettings,
        state: State,
        *,
        ending: float,
        boundaries: int,
        enough: int,
    ) -> None:
        self._ending = ending  # the last validation and the thresholds, in validations
        self._boundaries = boundaries  # sections that choose the boundary
        self._timed = settings.steps is None
        self._steps = settings.steps or enough
        self._budget = 60 * (settings.budget or DEFAULT_MINUTES)
        self._before = state.seconds
        self._first_step = state.step
        self._started = self._compiled = time.monotonic()

    def elapsed(self) -> float:
        return self._before + time.monotonic() - self._started

    def done(self, state: State) -> float:
        done = state.step / self._steps
        if self._timed:
            reserve = min(self._end(state), self._budget / 5)
            done = max(done, self.elapsed() / (self._budget - reserve))
        return min(1.0, done)

    def seconds_left(self, state: State) -> float | None:
        """Return how long it will take yet, None after the first step alone, which compiles."""
        most = max(0.0, self._budget - self.elapsed()) if self._timed else None
        if state.step <= self._first_step + 1:
            self._compiled = time.monotonic()
            return most
        pace = (time.monotonic() - self._compiled) / (state.step - self._first_step - 1)
        left = pace * (self._steps - state.step) + self._end(state)
        return left if most is None else min(left, most)

    def _end(self, state: State) -> float:
        """Return how long what follows the last step will take, in seconds."""
        return self._ending * state.validation_seconds + self._boundaries * state.boundary_seconds


def enough_steps(settings: TrainSettings, annotated: int) -> int:
    """Return after how many steps a training in minutes gains nothing more.

    Parameters
    ----------
    settings
        Its `batch` and `crop`.
    annotated
        Pixels to learn from that are annotated.
    """
    return max(LEAST_STEPS, math.ceil(PASSES * annotated / (settings.batch * settings.crop**2)))


def schedule(done: float, step: int, kind: str = "cosine") -> float:
    """Return the share of the highest learning rate, in (0, 1].

    Parameters
    ----------
    done
        Share of the budget that is spent, in [0, 1].
    step
        Steps done.
    kind
        ``cosine``: a linear rise, then a cosine to zero. ``step``, by epochs of 300 steps as the
        earlier project counted them: all of it in the first two, then a fifth, from the tenth on
        falling by exp(-0.05) an epoch; `done` does not matter.
    """
    if kind == "step":
        epoch = step // EPOCH
        return (1.0 if epoch < 2 else 0.2) * math.exp(-0.05 * max(0, epoch - 9))
    if done < WARM_UP:
        return max(0.01, done / WARM_UP)
    return 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


def _check_crop(network: nn.Module, settings: TrainSettings, shape: tuple[int, ...]) -> None:
    """Refuse sections too small to crop, and crops too small for batch normalisation."""
    if min(shape[1:]) < 2:
        raise SettingsError(
            f"sections of {shape[1]} × {shape[2]} pixels are too small to learn from"
        )
    deepest = -(-settings.crop // int(network.stride))  # type: ignore[arg-type]
    if settings.batch * deepest**2 < 2:
        raise SettingsError(
            f"a batch of {settings.batch} crop of {settings.crop} pixels leaves one value at the "
            "network's deepest level; take a larger batch or crop, or a smaller depth"
        )


def _prepare(data: Pairs, first: int) -> tuple[NDArray[np.float32], list[Contrast]]:
    """Return sections as networks see them, one row after the other, and by what it was done."""
    images, levels = np.empty(data.images.shape, np.float32), []
    for z, section in enumerate(data.images):
        try:
            levels.append(contrast_of(section))
        except InputError as error:
            raise InputError(f"{data.name}, section {first + z}: {error}") from None
        images[z] = normalise(section, levels[z])
    return images, levels


def _bright(images: NDArray[np.float32], truth: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tell of each section whether its membranes are brighter than what is between them.

    Those that do not tell, since nothing or one of both alone is annotated, go with most others.
    """
    told = np.zeros(len(images))
    for z, (section, known) in enumerate(zip(images, truth, strict=True)):
        membrane, interior = section[known == 1], section[known == 0]
        if membrane.size and interior.size:
            difference = float(membrane.mean() - interior.mean())
            told[z] = np.sign(difference) * (abs(difference) > _TOLD)
    return np.where(told == 0, told.sum() > 0, told > 0)


def _compare_sizes(
    settings: TrainSettings, data: Pairs, start: Model, say: Callable[[str], None]
) -> None:
    """Say where the pixels to learn from are not of the size that the start had learned at."""
    here, there = settings.voxel_size or data.voxel_size, start.info.voxel_size
    if here is not None and there is not None and enlargement(here, there) != 1:
        say(
            f"the weights of {settings.start} learned at {pixel_text(there)} and these sections"
            f" have {pixel_text(here)}: nothing is resized, and what they know may be of little"
            " use; resample the sections to go on from them"
        )


def _thickened(truth: NDArray[np.uint8], pixels: int) -> NDArray[np.uint8]:
    """Grow the membrane of every section by `pixels`, 4-connectedly, within what is annotated."""
    if pixels == 0:
        return truth
    grown = [ndimage.binary_dilation(section == 1, iterations=pixels) for section in truth]
    return np.where(truth == IGNORED, truth, np.stack(grown).astype(np.uint8))


def _ahead(cut: Callable[[int], _Batch], step: int, many: int) -> Iterator[_Batch]:
    """Yield the batch of each step from `step` on, and cut that `many` next ones meanwhile."""
    with ThreadPoolExecutor(many) as beside:
        coming = deque(beside.submit(cut, step + n) for n in range(many))
        for later in itertools.count(step + many):
            batch = coming.popleft().result()
            coming.append(beside.submit(cut, later))
            yield batch


def _batch(
    rng: np.random.Generator,
    images: NDArray[np.float32],
    truth: NDArray[np.uint8],
    sections: NDArray[np.int64],
    mine: range,
    settings: TrainSettings,
    black: list[float],
    pool: Executor,
    *,
    pinned: bool = False,
) -> _Batch:
    """Cut those crops of a batch that are `mine`, into pinned memory or other."""
    size, shape = (settings.crop, settings.crop), truth.shape[1:]
    # Chance is drawn in order, here, for all; what is drawn is carried out side by side.
    jobs: list[Callable[..., object]] = []
    for z in sections:
        near = neighbours(int(z), settings.context, len(images))
        pair = images[near] if settings.context else images[z : z + 1], truth[z]
        if (ranges := augment.PRESETS.get(settings.preset)) is not None:
            drawn = augment.draw_annotated(rng, truth[z], size, channels=len(near), **ranges)
            jobs.append(partial(augment.apply, *pair, drawn))
            continue
        moves = augment_keras.draw(rng, shape) if settings.preset == "keras" else None
        if (truth[z] == IGNORED).any():
            corner = augment.aimed(rng, truth[z], size)
        else:
            corner = [int(rng.integers(max(0, side - settings.crop) + 1)) for side in shape]
        levels = [black[k] for k in near]
        jobs.append(partial(_whole_section, *pair, moves, levels, corner))
    crops = torch.empty((len(mine), 2 * settings.context + 1, *size), pin_memory=pinned)
    masks = torch.empty((len(mine), 1, *size), dtype=torch.uint8, pin_memory=pinned)
    places = zip(crops.numpy(), masks.numpy()[:, 0], strict=True)
    for _ in pool.map(lambda k, place: jobs[k](out=place), mine, places):
        pass
    return crops, masks


def _whole_section(
    image: NDArray[np.float32],
    truth: NDArray[np.uint8],
    moves: augment_keras.Parameters | None,
    black: list[float],
    corner: Sequence[int],
    *,
    out: _Crop,
) -> None:
    """Cut a crop from sections (C, Y, X), augmented as a whole where there are `moves`."""
    if moves is not None:
        image, truth = _as_keras(image, truth, moves, black)
    _cut(image, truth, corner, out)


def _as_keras(
    image: NDArray[np.float32],
    truth: NDArray[np.uint8],
    parameters: augment_keras.Parameters,
    black: list[float],
) -> _Crop:
    """Augment whole sections (C, Y, X) as Keras does."""
    moved = np.empty_like(image)
    for channel, level in enumerate(black):
        # What is filled is 0 in the file, which the normalisation has moved to `level`.
        filled, drawn = augment_keras.apply(image[channel] - np.float32(level), truth, parameters)
        moved[channel] = filled + np.float32(level)
    return moved, drawn


def _cut(
    image: NDArray[np.float32], truth: NDArray[np.uint8], corner: Sequence[int], out: _Crop
) -> None:
    """Cut a crop, mirrored beyond the border where the section is smaller."""
    top, left = corner
    size = out[1].shape
    window = (slice(top, top + size[0]), slice(left, left + size[1]))
    padding = [(0, max(0, side - whole)) for whole, side in zip(truth.shape, size, strict=True)]
    out[0][...] = np.pad(image[:, *window], [(0, 0), *padding], mode="symmetric")
    out[1][...] = np.pad(truth[window], padding, mode="symmetric")


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def _mover(average: nn.Module, network: nn.Module) -> Callable[[float], None]:
    """Return what moves an average by a share of the way to where the network is."""
    pairs = [*zip(average.state_dict().values(), network.state_dict().values(), strict=True)]
    # All at once, which on a GPU is a few kernels instead of hundreds; counts go all the way.
    real = [pair for pair in pairs if pair[0].dtype.is_floating_point]
    whole = [pair for pair in pairs if not pair[0].dtype.is_floating_point]

    @torch.no_grad()
    def move(share: float) -> None:
        torch._foreach_lerp_([mean for mean, _ in real], [value for _, value in real], share)
        if whole:
            torch._foreach_copy_([mean for mean, _ in whole], [value for _, value in whole])

    return move


def _keep_best(state: State, found: dict[str, float], average: nn.Module, best: nn.Module) -> None:
    state.v_rand = found["v_rand"]
    both = (found["v_rand"] + found["v_info"]) / 2
    # The later of two that can hardly be told apart: it has seen more.
    if both >= state.best - _AS_GOOD:
        state.best = max(both, state.best)
        best.load_state_dict(average.state_dict())
