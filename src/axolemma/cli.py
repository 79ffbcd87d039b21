"""The command line: parsing and wiring only.

What computes is imported inside the commands, so that ``--help`` does not wait for it.
"""

import errno
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from axolemma._version import __version__
from axolemma.errors import AxolemmaError, SettingsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from axolemma.augment_keras import Fill
    from axolemma.compare import CellProgress
    from axolemma.datasets import Pairs
    from axolemma.evaluation import Evaluation
    from axolemma.images import Stack, Volume
    from axolemma.images import TruthIs as TruthKind
    from axolemma.modelfile import Model
    from axolemma.settings import SegmentSettings, TrainSettings, VoxelSize
    from axolemma.training import Progress
    from axolemma.volume import Progress as BlockProgress

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="From electron-microscopy sections to membranes, cells and a score you can trust.",
    epilog="Every command has --help with an example. --debug shows the traceback of an error.",
)

INTERRUPTED = 130  # the exit code that the parser turns Ctrl-C into

#: What keeps what it has done so far.
GOES_ON = {
    "train": "; the training goes on when its command is repeated",
    "compare": "; the comparison goes on when its command is repeated",
    "segment": "; an output that ends in .zarr goes on when its command is repeated",
}

out = Console()
err = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Config = Annotated[
    Path | None, typer.Option(help="YAML file of settings by the same names; flags win.")
]
Slices = Annotated[str | None, typer.Option(help="Sections, first and last: 0-24.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda.")]
Precision = Annotated[
    str | None, typer.Option(help="auto, fp32 or bf16; auto takes bf16 where it is native.")
]
SegmentPrecision = Annotated[
    str | None,
    typer.Option(
        help="auto, fp32, bf16, or int8: compiled by the extra openvino, held against fp32 first."
    ),
]
TruthIs = Annotated[
    str | None,
    typer.Option(help="What the truth shows bright: interior or membrane; or labels of cells."),
]

IgnoreValue = Annotated[
    int | None, typer.Option(help="Value in the truth of what nobody annotated: 128.")
]


def main() -> None:
    """Run the command line; errors end in one sentence and an exit code."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    try:
        code = app([a for a in arguments if a != "--debug"], standalone_mode=False)
    except Exception as error:
        if debug:
            raise
        code = _explain(error)
    if code == INTERRUPTED:
        verb = next((a for a in arguments if not a.startswith("-")), "")
        _plain(f"axolemma: stopped{GOES_ON.get(verb, '')}")
    sys.exit(code if isinstance(code, int) else 0)


def _explain(error: Exception) -> int:
    """Print an exception as one sentence and return its exit code."""
    if isinstance(error, AxolemmaError):
        _plain(f"axolemma: {error}")
        return error.exit_code
    if hasattr(error, "format_message"):  # the parser's own: a missing or misspelt option
        if message := error.format_message():
            _plain(f"axolemma: {message} (see --help)")
        return 2
    if isinstance(error, OSError) and error.errno in (
        errno.ENAMETOOLONG,
        errno.EACCES,
        errno.EPERM,
    ):
        _plain(f"axolemma: {error.filename}: {(error.strerror or 'no access').lower()}")
        return 2
    _plain(f"axolemma: {type(error).__name__}: {error} (--debug shows where)")
    return 1


def _plain(text: str) -> None:
    """Print a sentence to stderr as it is: paths in it may look like markup."""
    err.print(text, markup=False, highlight=False, soft_wrap=True)


def _result(text: str) -> None:
    """Print a line of results to stdout as it is."""
    out.print(text, markup=False, highlight=False, soft_wrap=True)


def _version(wanted: bool) -> None:
    if wanted:
        out.print(__version__, highlight=False)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder.")] = Path("demo"),
    budget: Annotated[
        str | None,
        typer.Option(help="Train a model of its own first, for so long: 90s, 2m."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Do the main job on synthetic tissue: segment unseen sections and score them.

    By the weights that ship, or by those of a training on other sections of that tissue.

    Example: `axolemma demo --budget 2m -o demo`
    """
    from axolemma.demo import run_demo
    from axolemma.settings import TrainSettings, check

    if budget is None:
        found = run_demo(output, say=_plain)
    else:
        settings = check(TrainSettings, {"data": "phantom", "budget": budget, "seed": 0})
        with _training_bar() as report:
            found = run_demo(output, settings, report=report, say=_plain)
    _show_scores(found, as_json)
    _plain(f"look at {output / 'segmented' / 'preview.png'}")


@app.command()
def train(
    data: Annotated[
        str | None, typer.Option(help="isbi2012, phantom, a folder of pairs, CREMI or SNEMI3D.")
    ] = None,
    voxel_size: Annotated[
        str | None, typer.Option(help="Z,Y,X in nm, where the files do not tell.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Named settings: seed-unet, seed-unetplusplus.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", help="Go on from these weights: model file, run, or bundled name."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Network, see `axolemma models`.")] = None,
    width: Annotated[int | None, typer.Option(help="Channels of its finest level.")] = None,
    depth: Annotated[int | None, typer.Option(help="Number of its levels.")] = None,
    context: Annotated[
        int | None, typer.Option(help="Neighbouring sections to look at on either side.")
    ] = None,
    slices: Slices = None,
    validate: Annotated[
        str | None,
        typer.Option(help="Sections among them held out to choose the threshold, or none."),
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Training time: 90s, 10m, 2h.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps instead of time.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights and augmentation.")] = None,
    batch: Annotated[int | None, typer.Option(help="Crops per step.")] = None,
    crop: Annotated[int | None, typer.Option(help="Side of a crop in pixels.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Of the optimizer.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="adamw or adam.")] = None,
    schedule: Annotated[
        str | None, typer.Option(help="Of the learning rate: cosine or step.")
    ] = None,
    loss: Annotated[
        str | None, typer.Option(help="Loss: bce_dice, weight_map_bce, cl_dice; docs/training.md.")
    ] = None,
    dice: Annotated[float | None, typer.Option(help="Weight of Dice in bce_dice.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="Augmentation: axolemma, robust, keras or none.")
    ] = None,
    thicken: Annotated[
        int | None, typer.Option(help="Pixels by which membranes are thickened for learning.")
    ] = None,
    averaging: Annotated[
        float | None, typer.Option(help="Share of the steps so far that weights are averaged over.")
    ] = None,
    save_every: Annotated[float | None, typer.Option(help="Seconds between saves.")] = None,
    truth_is: TruthIs = None,
    ignore_value: IgnoreValue = None,
    device: Device = None,
    precision: Precision = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Say at the end where the time went.")
    ] = False,
    config: Config = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder of the run.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Learn membranes from annotated sections. A run that was interrupted goes on.

    More arguments of a network (`arguments: {dropout: 0.2}`) are given in a YAML file.

    Example: `axolemma train --data isbi2012 --slices 0-24 --budget 10m -o runs/a`
    """
    values = _given({**locals(), "from": start}, config, also=("start", "profile"))

    from axolemma.settings import TrainSettings, check

    settings = check(TrainSettings, values)

    from axolemma import datasets, models
    from axolemma.distributed import joined
    from axolemma.training import Laps, fit

    models.check_name(settings.model)
    pairs = datasets.load(
        settings.data, truth_is=settings.truth_is, ignore_value=settings.ignore_value
    )
    what = settings.model if settings.start is None else Path(settings.start).stem
    run = output or Path("runs") / f"{Path(settings.data).name}-{what}-{settings.seed}"
    laps = Laps() if profile else None
    lap = laps or (lambda _: None)
    with joined() as team:
        for note in pairs.notes if team.first else ():
            _plain(f"note: {note}")
        if not (run / "model.safetensors").is_file():
            team.led(lambda: _foresee_training(pairs, settings, run))
        if not team.first:
            fit(pairs, settings, run, lap=lap, team=team)
            return
        with _training_bar() as report:
            trained = fit(pairs, settings, run, report=report, say=_plain, lap=lap, team=team)
    if laps is not None:
        _show_laps(laps.seconds)
    if as_json:
        _print_json(trained.info.model_dump(mode="json"))
        return
    for average, found in trained.info.training["validation"].items():
        _result(
            f"validation, averaged over {average}: V_rand {found['v_rand']:.4f}, "
            f"V_info {found['v_info']:.4f} at threshold {found['threshold']:.1f}"
        )
    _result(f"model: {run / 'model.safetensors'}")


def _show_laps(seconds: dict[str, float]) -> None:
    """Print where the time of a training went, to stderr: results alone go to stdout."""
    table = Table("part", "seconds", "share")
    for column in table.columns[1:]:
        column.justify = "right"
    total = sum(seconds.values())
    for part, spent in seconds.items():
        table.add_row(part, f"{spent:.2f}", f"{spent / total:.1%}")
    err.print(table)


def _foresee_training(pairs: "Pairs", settings: "TrainSettings", run: Path) -> None:
    """Say what a training will take, and refuse what cannot fit."""
    from axolemma import estimate
    from axolemma.labels import IGNORED
    from axolemma.training import DEFAULT_MINUTES, begin, enough_steps, split

    used, held_out = split(settings, len(pairs.images))
    learned = pairs.truth[[z for z in used if z not in held_out]]
    settings, _, _, network = begin(settings)
    # A quarter of a crop tells a pixel's share of a step.
    side = max(64, settings.crop // 2)
    step = estimate.tile_of(
        network,
        channels=2 * settings.context + 1,
        precision=settings.precision,
        device=settings.device,
        shape=(min(settings.batch, 4), side, side),
        learning=True,
    )
    seen = estimate.of_training(
        (len(used), *pairs.images.shape[1:]),
        settings,
        step,
        minutes=settings.budget or DEFAULT_MINUTES,
        enough=enough_steps(settings, int((learned != IGNORED).sum())),
        itemsize=pairs.images.dtype.itemsize,
    )
    estimate.refuse_what_cannot_fit(
        seen,
        memory=estimate.free_memory(),
        disk=estimate.free_disk(run),
        where=run,
        less_memory=["a smaller --batch", "a smaller --crop", "a smaller --width"],
        less_disk=["a smaller --width"],
    )
    _plain(str(seen))


@app.command()
def segment(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT", help="TIFF, HDF5, MRC, DM, Zarr, PNG, JPEG or folder of sections."
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", help="Folder to make; or an OME-Zarr, for any size."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model file, folder of a run, or the name of one that ships.")
    ] = None,
    polarity: Annotated[
        str | None, typer.Option(help="Of membranes: dark or bright; auto looks.")
    ] = None,
    slices: Slices = None,
    voxel_size: Annotated[
        str | None, typer.Option(help="Z,Y,X in nm, where the file does not say: 50,4,4.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Interior is where 1 - membrane exceeds it.")
    ] = None,
    average: Annotated[
        str | None, typer.Option(help="Average over none, half-turn, flips or dihedral poses.")
    ] = None,
    objects: Annotated[str | None, typer.Option(help="none, cells or neurons.")] = None,
    method: Annotated[
        str | None, typer.Option(help="Of finding cells: mean, multicut or threshold.")
    ] = None,
    boundary: Annotated[
        float | None,
        typer.Option(help="Rise of membrane that parts two cells; lower: more cells."),
    ] = None,
    filled: Annotated[
        bool | None, typer.Option("--filled", help="Cells touch, without a line between them.")
    ] = None,
    bad_sections: Annotated[
        str | None, typer.Option(help="Blank sections, or with NaN: refuse or mask them.")
    ] = None,
    bits: Annotated[int | None, typer.Option(help="Of the membrane map's file: 32 or 8.")] = None,
    calibrated: Annotated[
        bool | None,
        typer.Option("--calibrated", help="Membrane map as probabilities that come true."),
    ] = None,
    uncertainty: Annotated[
        bool | None,
        typer.Option("--uncertainty", help="Also write where the map is likely to be wrong."),
    ] = None,
    tile: Annotated[int | None, typer.Option(help="Largest side of a tile in pixels.")] = None,
    device: Device = None,
    precision: SegmentPrecision = None,
    engine: Annotated[
        str | None,
        typer.Option(help="For an OME-Zarr: serial, processes, processes:4, dask://host:port."),
    ] = None,
    block: Annotated[
        str | None,
        typer.Option(help="For an OME-Zarr: voxels done at once, Y and X by 4: 8,2048,2048."),
    ] = None,
    ledger: Annotated[
        Path | None,
        typer.Option(
            help="For an OME-Zarr: folder of what is done so far, that all workers reach."
        ),
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(help="For an OME-Zarr: a volume, not 0 where there is tissue."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="For an OME-Zarr: say what it would take, no more.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier segmentation in that folder.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Segment sections: membrane map, cells or neurons, a preview picture, a record of the run.

    Without --model the weights that ship are taken, `neurites`. With an output that ends in .zarr,
    or in an object store, the input is done block by block: any size, on any number of workers,
    and what was interrupted goes on when the command is repeated.

    Example: `axolemma segment stack.tif --voxel-size 50,4,4 -o segmented`
    """
    wiring = {
        "engine": engine,
        "block": block,
        "ledger": ledger,
        "mask": mask,
        "dry_run": dry_run or None,
    }
    values = _given(locals(), config, also=(*wiring, "wiring"))

    from axolemma import datasets
    from axolemma.images import is_zarr, open_volume
    from axolemma.settings import SegmentSettings, check

    settings = check(SegmentSettings, values)
    if output is not None and is_zarr(output):
        job = {
            "ledger": ledger,
            "mask": None if mask is None else open_volume(mask),
            **({} if block is None else {"block": _triple(block)}),
        }
        volume = datasets.open_images(source)
        for note in volume.notes:
            _plain(f"note: {note}")
        if dry_run:
            _look_ahead(volume, output, settings, job, as_json)
        else:
            _segment_volume(volume, output, settings, job, engine or "serial", overwrite, as_json)
        return
    for name, given in wiring.items():
        if given is not None:
            raise SettingsError(
                f"--{name.replace('_', '-')} is for volumes block by block; give an output that"
                " ends in .zarr, or leave it out"
            )

    from axolemma.images import parse_slices
    from axolemma.modelfile import load_model
    from axolemma.segmentation import likely_size_of, segment_stack, told_size

    stack = datasets.load_images(source)
    depth = len(stack.array)
    chosen = parse_slices(settings.slices, depth) if settings.slices else range(depth)
    array = stack.array[chosen.start : chosen.stop]
    for note in stack.notes:
        _plain(f"note: {note}")
    folder = Path(output or f"{Path(source).resolve().stem}-segmented")
    loaded = load_model(settings.model)
    told = settings.model_copy(update={"voxel_size": told_size(settings, stack)})
    enlargement = likely_size_of(array, loaded, told)
    _foresee_segmenting(array, settings, loaded, enlargement or 1.0, folder)
    with _pixel_bar("segmenting", array.size) as advance:
        _, record = segment_stack(
            stack,
            settings,
            folder,
            model=loaded,
            enlargement=enlargement or 1.0,
            overwrite=overwrite,
            advance=advance,
        )
    for note in record["input"]["notes"][len(stack.notes) :]:
        _plain(f"note: {note}")
    if as_json:
        _print_json(record)
        return
    first, last = record["input"]["sections"]
    cells = "".join(
        f", {record[what]} {what}" for what in ("cells", "neurons") if record[what] is not None
    )
    _result(
        f"sections {first}-{last}{cells}, threshold {record['threshold']:.2g}, "
        f"{record['precision']} on {record['device']}, {record['seconds']:.1f} s"
    )
    _result(f"results: {folder}")


def _look_ahead(
    source: "Volume", target: str, settings: "SegmentSettings", job: dict[str, Any], as_json: bool
) -> None:
    from axolemma.pipeline import outlook

    seen = outlook(source, target, settings, **job)
    if as_json:
        _print_json(asdict(seen))
        return
    shape, sides = (" × ".join(map(str, sides)) for sides in (seen.shape, seen.block))
    _result(
        f"{shape} voxels in {seen.blocks} blocks of {sides}: {_size(seen.read)} read,"
        f" {_size(seen.written)} written before compression, {seen.hours:.2g} hours of one worker"
        " like this one for the network"
    )


def _foresee_segmenting(
    array: "NDArray[Any]",
    settings: "SegmentSettings",
    model: "Model",
    enlargement: float,
    folder: Path,
) -> None:
    """Say what segmenting a stack (Z, Y, X) will take, and refuse what cannot fit."""
    from axolemma import estimate

    channels = 2 * model.info.context + 1
    tile = estimate.tile_of(
        model.network,
        channels=channels,
        # Compiled it is faster; how much shows when it is.
        precision="bf16" if settings.precision == "int8" else settings.precision,
        device=settings.device,
    )
    seen = estimate.of_segmenting(
        array.shape,
        settings,
        tile,
        itemsize=array.dtype.itemsize,
        channels=channels,
        magnification=enlargement,
    )
    fewer = ["fewer --slices"] if len(array) > 1 else []
    estimate.refuse_what_cannot_fit(
        seen,
        memory=estimate.free_memory(),
        disk=estimate.free_disk(folder),
        where=folder,
        less_memory=[
            *(["a smaller --tile"] if settings.tile > 512 else []),
            *(["--objects none"] if settings.objects != "none" else []),
            *fewer,
            "an output that ends in .zarr, which is done block by block",
        ],
        less_disk=[*(["--bits 8"] if settings.bits == 32 else []), *fewer],
    )
    _plain(str(seen))


def _segment_volume(
    source: "Volume",
    target: str,
    settings: "SegmentSettings",
    job: dict[str, Any],
    engine: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    from axolemma.engines import engine_from
    from axolemma.pipeline import segment_volume

    with engine_from(engine) as workers, _block_bar() as advance:
        record = segment_volume(
            source,
            target,
            settings,
            engine=workers,
            overwrite=overwrite,
            advance=advance,
            say=_plain,
            **job,
        )
    if as_json:
        _print_json(record)
        return
    first, last = record["sections"]
    found = "".join(
        f", {record[what]} {what}" for what in ("cells", "neurons") if record[what] is not None
    )
    _result(f"sections {first}-{last}{found}, {record['seconds']:.1f} s")
    _result(f"results: {target}")


def _voxel_size(text: str | None) -> "VoxelSize | None":
    from axolemma.settings import voxel_size

    try:
        return None if text is None else voxel_size(text)
    except ValueError as error:
        raise SettingsError(f"--voxel-size: {error}") from error


def _triple(text: str) -> tuple[int, int, int]:
    """Return three whole numbers that commas part."""
    try:
        z, y, x = (int(part) for part in text.split(","))
    except ValueError:
        raise SettingsError(
            f"--block {text}: expected Z,Y,X in voxels, for example 8,2048,2048"
        ) from None
    return z, y, x


def _size(count: float) -> str:
    """Return bytes in the unit in which they are short to say."""
    units = ("bytes", "kB", "MB", "GB", "TB", "PB")
    power = min(len(units) - 1, int(math.log10(max(count, 1))) // 3)
    return f"{count / 1000**power:.3g} {units[power]}"


@app.command()
def evaluate(
    proposal: Annotated[
        Path, typer.Argument(help="Membrane map, mask, labels, or folder of a segmentation.")
    ],
    truth: Annotated[str, typer.Argument(help="Truth stack, isbi2012, phantom, CREMI or SNEMI3D.")],
    slices: Slices = None,
    threshold: Annotated[
        float | None, typer.Option(help="Chosen elsewhere; the proposal's own by default.")
    ] = None,
    proposal_is: Annotated[
        str,
        typer.Option(
            help="What is high in the proposal, membrane or interior; or cells. In --against as"
            " well, unless its file says otherwise."
        ),
    ] = "auto",
    truth_is: TruthIs = None,
    ignore_value: IgnoreValue = None,
    roi: Annotated[str | None, typer.Option(help="Score these rows and columns: y0:y1,x0:x1.")] = (
        None
    ),
    ignore: Annotated[
        Path | None, typer.Option(help="Mask of pixels not to count, nonzero = ignored.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Pixels that a boundary may be off, for the boundary F.")
    ] = 2.0,
    against: Annotated[
        Path | None, typer.Option(help="A second proposal to compare with, at its own threshold.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write every score of every section.")] = None,
    errors: Annotated[
        Path | None, typer.Option(help="Folder for the list and the pictures of the errors.")
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(help="Sections to show the errors over; a named data set's own by default."),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write a page, complete in itself.")] = None,
    as_json: Json = False,
) -> None:
    """Score membranes or cells: every score of the field, per section and for the stack.

    Example: `axolemma evaluate segmented train-labels.tif --slices 25-29 --errors errors`
    """
    from typing import cast, get_args

    from axolemma import evaluation, images

    if proposal_is not in (known := get_args(evaluation.ProposalIs)):
        raise SettingsError(f"--proposal-is is one of {', '.join(known)}, not '{proposal_is}'")
    if image is not None and errors is None and report is None:
        raise SettingsError("--image is what the errors are shown over; say --errors or --report")
    read: list[str | Path | None] = [proposal, truth, ignore, against, image]
    images.check_places(csv, report, folders=[errors], inputs=read)
    _ends_in(".csv", csv)
    _ends_in(".html", report)
    if errors is not None:
        evaluation.check_errors_folder(errors)
    drawn, background = _annotated(
        truth, cast("images.TruthIs", truth_is or "auto"), image, ignore_value
    )
    mask = None if ignore is None else images.read(ignore)
    asked = cast("evaluation.ProposalIs", proposal_is)
    found, *others = (
        evaluation.evaluate_stacks(
            one := evaluation.read_proposal(path),
            drawn,
            slices=slices,
            threshold=threshold if path == proposal else None,
            proposal_is=asked if path == proposal or one.holds is None else "auto",
            roi=roi,
            ignore=mask,
            tolerance=tolerance,
            cells=evaluation.read_cells(path) if proposal_is == "auto" else None,
        )
        for path in (proposal, against)
        if path is not None
    )
    for note in (*drawn.notes, *found.notes, *(note for one in others for note in one.notes)):
        _plain(f"note: {note}")
    # What is written next may fail; the scores took a while.
    _show_scores(found, as_json, *others)
    if csv is not None:
        evaluation.write_csv(csv, found)
    shown = None
    if background is not None and (report is not None or errors is not None):
        shown = evaluation.matching(found, background, roi)
    if report is not None:
        from axolemma import report as pages

        folder = proposal if (proposal / "run.json").is_file() else None
        pages.write_page(report, pages.evaluation_page(found, images=shown, run=folder))
        _plain(f"look at {report}")
    if errors is not None:
        evaluation.write_mistakes(errors, found, shown)
        _plain(f"look at {errors}")


def _ends_in(suffix: str, place: Path | None) -> None:
    """Refuse a name that belongs to something else than what is to be written."""
    if place is not None and place.suffix.lower() != suffix:
        raise SettingsError(f"{place}: name a file that ends in {suffix}")


def _annotated(
    truth: str, truth_is: "TruthKind", image: Path | None, ignore_value: int | None
) -> "tuple[Stack, Stack | None]":
    """Read the truth that a path or the name of a data set stands for, and what it is shown over.

    The sections of a data set need not be named.
    """
    from axolemma import datasets, images

    shown = None if image is None else images.read_image(image)
    if not datasets.holds_truth(truth):
        return images.read_truth(truth, truth_is=truth_is, ignore_value=ignore_value), shown
    pairs = datasets.load(truth, truth_is=truth_is, ignore_value=ignore_value)
    drawn = images.Stack(
        pairs.truth, (0, 1), pairs.voxel_size, truth, pairs.notes, labels=pairs.labels
    )
    return drawn, shown or images.Stack(pairs.images, (0, 255), pairs.voxel_size, truth)


@app.command()
def compare(
    models: Annotated[
        str | None, typer.Option(help="Networks: resunet,unet,unetplusplus,cenet.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="isbi2012, phantom, a folder of pairs, CREMI or SNEMI3D.")
    ] = None,
    losses: Annotated[str | None, typer.Option(help="Losses, see docs/training.md.")] = None,
    presets: Annotated[
        str | None, typer.Option(help="Augmentations: axolemma,robust,keras,none.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="How many, or which: 0,3,5.")] = None,
    folds: Annotated[
        str | None, typer.Option(help="seed: test on the last sixth; 6: on every sixth once.")
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Time of each training: 90s, 10m.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps instead of time.")] = None,
    average: Annotated[str | None, typer.Option(help="none, half-turn, flips or dihedral.")] = None,
    jobs: Annotated[int, typer.Option(help="Trainings at once.")] = 1,
    devices: Annotated[str, typer.Option(help="They take these in turn: cuda:0,cuda:1.")] = "auto",
    truth_is: TruthIs = None,
    ignore_value: IgnoreValue = None,
    config: Config = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder.")] = Path("comparison"),
    csv: Annotated[Path | None, typer.Option(help="Write the ranking.")] = None,
    as_json: Json = False,
) -> None:
    """Train and score networks under one protocol, and rank them; repeated, it goes on.

    Arguments of networks (`arguments: {unet: {width: 16}}`) and other settings of the trainings
    (`training: {crop: 128}`) are given in a YAML file.

    Example: `axolemma compare --data isbi2012 --models resunet,unet --seeds 3 --budget 4m`
    """
    values = _given(locals(), config, also=("jobs", "devices", "csv"))

    from axolemma import datasets, images, terminal
    from axolemma import losses as loss_room
    from axolemma import models as model_room
    from axolemma.compare import run_comparison
    from axolemma.settings import CompareSettings, check

    settings = check(CompareSettings, values)
    for name in settings.models:
        model_room.check(name, **settings.arguments.get(name, {}))
    for name in settings.losses:
        loss_room.check_name(name)
    images.check_places(csv, inputs=[settings.data])
    _ends_in(".csv", csv)
    pairs = datasets.load(
        settings.data, truth_is=settings.truth_is, ignore_value=settings.ignore_value
    )
    for note in pairs.notes:
        _plain(f"note: {note}")
    with _cell_lines() as report:
        found = run_comparison(
            pairs,
            settings,
            output,
            jobs=jobs,
            devices=[device.strip() for device in devices.split(",")],
            report=report,
        )
    if csv is not None:
        found.write_csv(csv)
    if as_json:
        _print_json(found.as_dict())
    else:
        for part in terminal.ranking(found):
            out.print(part, highlight=False, soft_wrap=True)
    found.check()


@app.command()
def report(
    sources: Annotated[
        list[Path], typer.Argument(help="Folders of runs, segmentations or comparisons.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="HTML file to make.")] = Path(
        "report.html"
    ),
    truth: Annotated[
        str | None,
        typer.Option(help="What segmentations, and predictions of a comparison, are held against."),
    ] = None,
    image: Annotated[Path | None, typer.Option(help="The sections to show them over.")] = None,
    slices: Slices = None,
    truth_is: TruthIs = None,
    ignore_value: IgnoreValue = None,
    pdf: Annotated[
        Path | None, typer.Option(help="The same as PDF, printed by a browser that is installed.")
    ] = None,
) -> None:
    """Make one page, complete in itself, of runs, segmentations with a truth, or comparisons.

    Example: `axolemma report segmented --truth isbi2012 -o report.html`
    """
    from typing import cast

    from axolemma import images
    from axolemma import report as pages

    images.check_places(output, pdf, inputs=[*sources, truth, image])
    _ends_in(".html", output)
    _ends_in(".pdf", pdf)
    given: list[Any] = list(sources)
    for place, source in enumerate(sources):
        if (source / "comparison.json").is_file():
            from axolemma import compare

            found = compare.load(source)
            pictures = {"svg": [found.picture()]} if len(found.rows) > 1 else {}
            given[place] = found.as_dict() | pictures | {"folder": source}
    drawn = shown = None
    if truth is not None:
        kind = cast("TruthKind", truth_is or "auto")
        drawn, shown = _annotated(truth, kind, image, ignore_value)
    else:
        told = {"--image": image, "--truth-is": truth_is, "--ignore-value": ignore_value}
        for name, value in (told | {"--slices": slices}).items():
            if value is not None:
                raise SettingsError(f"{name} is about a truth; name it with --truth")
    page = pages.report_page(given, truth=drawn, image=shown, slices=slices)
    pages.write_page(output, page)
    if pdf is not None:
        pages.write_pdf(pdf, page)
    _result(f"{output}" if pdf is None else f"{output}, {pdf}")


@app.command()
def augment(
    data: Annotated[
        str, typer.Option(help="isbi2012, phantom, a folder of pairs, CREMI or SNEMI3D.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to make.")],
    slices: Slices = None,
    count: Annotated[int, typer.Option(help="Pairs to write.")] = 1000,
    preset: Annotated[
        str, typer.Option(help="axolemma, robust, keras (an earlier project's), or keras-report.")
    ] = "axolemma",
    fill: Annotated[
        str | None, typer.Option(help="Beyond the border, for keras: black (its own) or mirror.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed writes the same files.")] = 0,
    size: Annotated[
        int | None,
        typer.Option(help="Side of the crops of axolemma and robust; whole sections by default."),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; one a core by default.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace earlier augmented pairs there.")
    ] = False,
    truth_is: TruthIs = None,
    ignore_value: IgnoreValue = None,
    as_json: Json = False,
) -> None:
    """Write augmented pairs of image and truth, with a record of every drawn parameter.

    Example: `axolemma augment --data isbi2012 --slices 0-24 --preset keras -o augmented`
    """
    from typing import cast

    from axolemma import datasets, images
    from axolemma.augmentation import augment_pairs

    images.refuse_input(output, data)
    kind = cast("images.TruthIs", truth_is or "auto")
    pairs = datasets.load(data, truth_is=kind, ignore_value=ignore_value)
    chosen = images.parse_slices(slices, len(pairs)) if slices else range(len(pairs))
    with _pixel_bar("augmenting", count) as report:
        manifest = augment_pairs(
            pairs.slices(chosen),
            output,
            count=count,
            preset=preset,
            fill=cast("Fill", fill),
            seed=seed,
            size=size,
            first=chosen.start,
            workers=workers,
            overwrite=overwrite,
            report=report,
        )
    for note in (*pairs.notes, *manifest.notes):
        _plain(f"note: {note}")
    if as_json:
        out.print(manifest.as_json(), markup=False, highlight=False, soft_wrap=True)
        return
    _result(f"{len(manifest.pairs)} pairs: {output}, look at {output / 'contact.png'}")


@app.command(name="convert")
def convert_volume(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT", help="TIFF, HDF5, MRC, DM, Zarr, N5, precomputed, or folder."
        ),
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="OUTPUT", help="volume.zarr, volume.tif, precomputed://… or s3://…."
        ),
    ],
    labels: Annotated[
        bool,
        typer.Option("--labels", help="They are labels, whatever the file says: never averaged."),
    ] = False,
    voxel_size: Annotated[
        str | None, typer.Option(help="Z,Y,X in nm, where the file does not say: 50,4,4.")
    ] = None,
    block: Annotated[
        str | None, typer.Option(help="Z,Y,X of a shard in voxels: 16,1024,1024.")
    ] = None,
    zarr_version: Annotated[str, typer.Option(help="Of OME-Zarr: 0.5 or 0.4.")] = "0.5",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> None:
    """Convert a volume of any size to OME-Zarr with its pyramid, precomputed, or TIFF.

    Labels of an image go to OUTPUT.zarr/labels/NAME.

    Example: `axolemma convert stack.tif volume.zarr --voxel-size 50,4,4`
    """
    from axolemma.convert import convert

    if zarr_version not in ("0.5", "0.4"):
        raise SettingsError(f"--zarr-version is 0.5 or 0.4, not '{zarr_version}'")
    size = _voxel_size(voxel_size)
    shard = None if block is None else _triple(block)
    if shard is not None and min(shard) < 1:
        raise SettingsError(f"--block {block}: sides are at least 1 voxel")
    with _total_bar("converting") as advance:
        made = convert(
            source,
            target,
            kind="labels" if labels else None,
            voxel_size=size,
            block=shard,
            version="0.5" if zarr_version == "0.5" else "0.4",
            overwrite=overwrite,
            advance=advance,
            say=lambda note: _plain(f"note: {note}"),
        )
    _result(f"volume: {made}")


@app.command()
def check(
    source: Annotated[
        str, typer.Argument(metavar="STACK", help="Sections to look at; formats as for segment.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="CSV file to make: a line a section.")
    ] = None,
    voxel_size: Annotated[
        str | None, typer.Option(help="Z,Y,X in nm, to give shifts in nm: 50,4,4.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Look for sections that are blank, folded, blurred, noisy, spiked, dark, shifted or doubled.

    Findings are results: the exit code is 0 whatever is found.

    Example: `axolemma check stack.tif -o sections.csv`
    """
    from axolemma import datasets, images, quality, terminal

    size = _voxel_size(voxel_size)
    images.check_places(output, inputs=[source])
    _ends_in(".csv", output)
    found: images.Stack | images.Volume
    if images.is_zarr(source):
        found = images.open_volume(source)
        with _pixel_bar("looking", math.prod(found.shape)) as advance:
            reports = quality.check_volume(found, advance=advance)
    else:
        found = datasets.load_images(source)
        reports = quality.check_stack(found.array)
    for note in found.notes:
        _plain(f"note: {note}")
    size = size or found.voxel_size
    if output is not None:
        quality.write_csv(output, reports, size)
    if as_json:
        told = [quality.as_dict(report, size) for report in reports]
        sides = None if size is None else list(size)
        _print_json({"source": found.source, "voxel_size": sides, "sections": told})
        return
    for part in terminal.quality(reports, size):
        out.print(part, highlight=False)
    if output is not None:
        _result(f"{output}")


@app.command()
def view(
    source: Annotated[
        str,
        typer.Argument(help="OME-Zarr, folder of a segmentation, or any stack of image or labels."),
    ],
    image: Annotated[
        Path | None, typer.Option(help="The stack that was segmented, to lie under it.")
    ] = None,
    voxel_size: Annotated[
        str | None, typer.Option(help="Z,Y,X in nm, where the files do not say: 50,4,4.")
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of the page; 0 takes any that is free.")
    ] = 0,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address and open nothing.")
    ] = False,
) -> None:
    """Look at image, membranes and neurons in 3D, in a browser, until Ctrl-C.

    Example: `axolemma view segmented --image stack.tif`
    """
    import webbrowser

    from axolemma import view as room

    size = _voxel_size(voxel_size)
    layers = room.read_layers(source, image=image)
    viewer = room.open_viewer(layers, voxel_size=size, port=port)
    try:
        url = viewer.get_viewer_url()
        _result(url)
        _plain(f"{', '.join(layer.name for layer in layers)}; Ctrl-C ends it")
        if not no_browser:
            webbrowser.open(url)
        _forever()
    except KeyboardInterrupt:
        pass
    finally:
        room.close_viewer()


@app.command()
def measure(
    labels: Annotated[
        Path, typer.Argument(help="Cells or neurons, 0 = membrane, or folder of a segmentation.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="CSV file to make.")],
    voxel_size: Annotated[
        str | None, typer.Option(help="Z,Y,X in nm, where the file does not say: 50,4,4.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="cells or neurons; what the file says, else neurons.")
    ] = None,
    gap: Annotated[
        float, typer.Option(help="Width in nm of the membrane across which objects touch.")
    ] = 60.0,
    meshes: Annotated[Path | None, typer.Option(help="Folder for a PLY of each neuron.")] = None,
    skeletons: Annotated[Path | None, typer.Option(help="Folder for an SWC of each neuron.")] = (
        None
    ),
    as_json: Json = False,
) -> None:
    """Measure cells or neurons: sizes, calibres, paths and contacts, one line for each.

    Example: `axolemma measure neurons.tif --voxel-size 50,4,4 -o neurons.csv`
    """
    from axolemma import images
    from axolemma import measure as room

    images.check_places(output, folders=[meshes, skeletons], inputs=[labels])
    _ends_in(".csv", output)
    if kind not in (None, "cells", "neurons"):
        raise SettingsError(f"--kind is cells or neurons, not '{kind}'")
    stack = images.read_labels(labels, kind=kind)
    kind = kind or ("cells" if stack.holds == "cells" else "neurons")
    if kind == "cells" and (meshes is not None or skeletons is not None):
        raise SettingsError("meshes and skeletons are made of neurons; say --kind neurons")
    size = _voxel_size(voxel_size) or stack.voxel_size
    if size is None:
        raise SettingsError(f"{labels}: the file has no voxel size; say --voxel-size Z,Y,X in nm")
    for note in stack.notes:
        _plain(f"note: {note}")
    job = room.measure_cells if kind == "cells" else room.measure_neurons
    table = dict(job(stack.array, voxel_size=size, gap=gap))
    # Sections are called by their numbers in the image that was segmented, as everywhere.
    first, *_ = stack.info.get("sections", (0,))
    for column in ("section", "first_section", "last_section"):
        if column in table:
            table[column] = table[column] + first
    room.write_table(output, table)
    if meshes is not None:
        room.write_meshes(meshes, stack.array, voxel_size=size)
    if skeletons is not None:
        room.write_skeletons(skeletons, stack.array, voxel_size=size)
    if as_json:
        _print_json({"kind": kind, "voxel_size": list(size), "objects": room.rows(table)})
        return
    _result(f"{len(table['contacts'])} {kind}: {output}")


@app.command()
def suggest(
    source: Annotated[
        str,
        typer.Argument(metavar="STACK", help="Sections nobody annotated yet; as for segment."),
    ],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="CSV file to make.")] = None,
    model: Annotated[
        str, typer.Option(help="Model file, folder of a run, or the name of one that ships.")
    ] = "neurites",
    count: Annotated[int, typer.Option(help="How many windows.")] = 10,
    size: Annotated[int, typer.Option(help="Their side in pixels.")] = 128,
    polarity: Annotated[
        str, typer.Option(help="Of membranes: dark or bright; auto looks.")
    ] = "auto",
    slices: Slices = None,
    voxel_size: Annotated[
        str | None, typer.Option(help="Z,Y,X in nm, where the file does not say: 50,4,4.")
    ] = None,
    device: Device = None,
    picture: Annotated[Path | None, typer.Option(help="PNG of the windows to make.")] = None,
    as_json: Json = False,
) -> None:
    """Suggest windows to annotate next: those of which the model is least sure.

    Annotate them in a copy of the stack that is one grey value elsewhere, and train on it with
    --ignore-value.

    Example: `axolemma suggest stack.tif --model runs/a --count 10 -o windows.csv`
    """
    from dataclasses import asdict, replace

    from axolemma import datasets, images
    from axolemma.segmentation import told_size
    from axolemma.settings import SegmentSettings, check
    from axolemma.suggestion import suggest as look
    from axolemma.suggestion import windows_picture, write_windows

    asked = {"polarity": polarity, "voxel_size": voxel_size, "device": device, "slices": slices}
    settings = check(SegmentSettings, asked)
    images.check_places(output, picture, inputs=[source, model])
    _ends_in(".csv", output)
    _ends_in(".png", picture)
    stack = datasets.load_images(source)
    depth = len(stack.array)
    chosen = images.parse_slices(slices, depth) if slices else range(depth)
    array = stack.array[chosen.start : chosen.stop]
    images.check_image(replace(stack, array=array), first=chosen.start)
    for note in stack.notes:
        _plain(f"note: {note}")
    with _pixel_bar("looking", array.size) as advance:
        found = look(
            array,
            model=model,
            count=count,
            size=size,
            polarity=settings.polarity,
            voxel_size=told_size(settings, stack),
            device=settings.device,
            advance=advance,
        )
    windows = found.windows
    if len(windows) < count:
        _plain(f"note: no more than {len(windows)} windows fit without overlap")
    if output is not None:
        write_windows(output, windows, first=chosen.start)
    if picture is not None:
        images.write_png(picture, windows_picture(array, found.uncertainty, windows))
    rows = [asdict(replace(w, section=chosen.start + w.section)) for w in windows]
    if as_json:
        _print_json({"model": model, "windows": rows})
        return
    table = Table("section", "rows", "columns", "uncertainty", box=None)
    for row in rows:
        ends = (f"{row[side]}-{row[side] + size - 1}" for side in ("y", "x"))
        table.add_row(str(row["section"]), *ends, f"{row['score']:.4f}")
    out.print(table, highlight=False)
    for file in (output, picture):
        if file is not None:
            _result(f"{file}")


@app.command()
def models(as_json: Json = False) -> None:
    """List the networks: parameters and arithmetic.

    Example: `axolemma models`
    """
    from axolemma import models as rooms

    rows: list[dict[str, Any]] = []
    for name in rooms.MODELS:
        network = rooms.build(name)
        summary = (type(network).__doc__ or "").splitlines()[0]
        rows.append(
            {
                "name": name,
                "parameters": rooms.parameters(network),
                "gflop_per_megapixel": round(rooms.gflop_per_megapixel(name), 1),
                "summary": summary,
            }
        )
    if as_json:
        _print_json(rows)
        return
    table = Table("name", "parameters", "GFLOP/Mpx", "", box=None)
    for row in rows:
        flop = f"{row['gflop_per_megapixel']:,.0f}"
        table.add_row(row["name"], f"{row['parameters']:,}", flop, row["summary"])
    out.print(table)


@app.command()
def info(
    model: Annotated[str, typer.Argument(help="Model file, folder of a run, or bundled name.")],
    as_json: Json = False,
) -> None:
    """Show what a model file says about itself.

    Example: `axolemma info runs/a`
    """
    from axolemma.modelfile import load_model
    from axolemma.models import parameters

    loaded = load_model(model)
    values = {"file": loaded.source, "parameters": parameters(loaded.network)}
    values |= loaded.info.model_dump(mode="json")
    if as_json:
        _print_json(values)
        return
    table = Table(show_header=False, box=None)
    for key, value in _flat(values):
        table.add_row(key, Text(str(value)))
    out.print(table, highlight=False)


def _forever() -> None:
    """Wait until somebody ends it."""
    while True:
        time.sleep(3600)


def _given(
    values: dict[str, Any], config: Path | None, *, also: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Merge the flags that were given over a YAML file's settings; `also` names no settings."""
    from axolemma.settings import read_yaml

    wiring = ("config", "output", "as_json", "source", "overwrite", *also)
    flags = {k: v for k, v in values.items() if k not in wiring and v is not None}
    from_file = {} if config is None else read_yaml(config)
    for one, other in (("budget", "steps"), ("steps", "budget")):
        if one in flags:
            from_file.pop(other, None)
    return from_file | flags


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2))  # noqa: T201 - rich would wrap long lines


def _show_scores(found: "Evaluation", as_json: bool, *others: "Evaluation") -> None:
    """Print scores as tables, or as JSON."""
    from axolemma import evaluation, terminal

    if as_json:
        values = found.as_dict()
        for other in others:
            values["against"] = other.as_dict()
            values["difference"] = evaluation.compare_as_dict(found, other)
        _print_json(values)
        return
    for part in terminal.scores(found):
        out.print(part, highlight=False, soft_wrap=True)
    for other in others:
        for part in terminal.comparison(found, other):
            out.print(part, highlight=False, soft_wrap=True)


@contextmanager
def _training_bar() -> "Iterator[Callable[[Progress], None]]":
    """Show the progress of a training: a bar on a terminal, a line now and then elsewhere."""
    if not err.is_terminal:
        last = [0.0, -1.0]

        def line(progress: "Progress") -> None:
            now = time.monotonic()
            if progress.done < 1 and (now - last[0] < 10 or progress.done - last[1] < 0.02):
                return
            last[:] = now, progress.done
            _plain(f"{progress.done:4.0%}  {_sentence(progress)}")

        yield line
        return

    from rich.progress import BarColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"))
    with Bar(*columns, console=err) as bar:
        task = bar.add_task("starting", total=1.0)

        def step(progress: "Progress") -> None:
            bar.update(task, completed=progress.done, description=_sentence(progress))

        yield step


@contextmanager
def _cell_lines() -> "Iterator[Callable[[CellProgress], None]]":
    """Show how a comparison's trainings go on: one line that changes, or a line now and then."""
    last: dict[str, float] = {}

    def line(progress: "CellProgress") -> None:
        key, now = progress.cell.key, time.monotonic()
        ended = progress.done >= 1
        if not ended and now - last.get(key, 0) < (1 if err.is_terminal else 20):
            return
        last[key] = now
        text = f"{progress.finished}/{progress.count}  {key}: {progress.what}"
        if err.is_terminal and not ended:
            err.print(text[: err.width - 1], end="\r", markup=False, highlight=False)
        else:
            _plain(text)

    yield line


def _sentence(progress: "Progress") -> str:
    validated = "" if progress.v_rand is None else f"  V_rand {progress.v_rand:.4f}"
    left = progress.seconds_left
    time_left = "" if left is None else f"  {timedelta(seconds=round(left))} left"
    return f"step {progress.step}  loss {progress.loss:.4f}{validated}{time_left}"


@contextmanager
def _block_bar() -> "Iterator[Callable[[BlockProgress], None]]":
    """Show how a run over a volume goes on: a bar a pass, or a line now and then."""
    last = [0.0]

    def told(progress: "BlockProgress") -> str:
        rate = (
            f"  {progress.voxels_per_second / 1e6:.1f} Mvx/s" if progress.voxels_per_second else ""
        )
        failed = f"  {progress.failed} failed" if progress.failed else ""
        left = progress.seconds_left
        time_left = "" if left is None else f"  {timedelta(seconds=round(left))} left"
        return f"{progress.name}  {progress.done}/{progress.total} blocks{rate}{failed}{time_left}"

    if not err.is_terminal:

        def line(progress: "BlockProgress") -> None:
            now = time.monotonic()
            if now - last[0] >= 10 or progress.done == progress.total:
                last[0] = now
                _plain(told(progress))

        yield line
        return

    from rich.progress import BarColumn, TaskID, TextColumn
    from rich.progress import Progress as Bar

    with Bar(BarColumn(), TextColumn("{task.description}"), console=err) as bar:
        tasks: dict[str, TaskID] = {}

        def step(progress: "BlockProgress") -> None:
            if progress.name not in tasks:
                tasks[progress.name] = bar.add_task(progress.name, total=progress.total)
            bar.update(tasks[progress.name], completed=progress.done, description=told(progress))

        yield step


@contextmanager
def _pixel_bar(what: str, pixels: int) -> "Iterator[Callable[[int], None]]":
    """Show how many of the pixels are done; nothing where there is no terminal."""
    if not err.is_terminal:
        yield lambda _: None
        return

    from rich.progress import Progress as Bar

    with Bar(console=err) as bar:
        task = bar.add_task(what, total=pixels)
        yield lambda done: bar.update(task, advance=done)


@contextmanager
def _total_bar(what: str) -> "Iterator[Callable[[int, int], None]]":
    """Show how much of a total that is known later is done; nothing where there is no terminal."""
    if not err.is_terminal:
        yield lambda _done, _total: None
        return

    from rich.progress import Progress as Bar

    with Bar(console=err) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
