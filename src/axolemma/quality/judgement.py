"""From the sums of a volume's sections to what is wrong with each of them, and what to do."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from axolemma.quality.shifts import Shift
from axolemma.quality.statistics import cell_side, contrast, moments, spikes

__all__ = ["Finding", "Kind", "SectionReport", "judge", "summary", "usable"]

Kind = Literal[
    "missing",
    "not finite",
    "duplicate",
    "folded",
    "clipped",
    "spiked",
    "out of focus",
    "noisy",
    "low contrast",
    "dark",
    "bright",
    "inverted",
    "shifted",
]

#: Sections on either side that a section is held against.
_AROUND = 5
#: A section differs where it does so by this many of the deviations (median absolute, scaled) by
#: which the stack's sections usually differ from those around them, and by what follows.
_UNUSUAL = 3.0
_LEVEL = 0.75  # grey values, in standard deviations of a section
_CONTRAST = 0.55  # of the usual standard deviation
_SHARPNESS = 0.5  # of the usual one
_NOISE, _NOISY = 2.0, 0.06  # times the usual share of the variance, and more than it by this share
_CLIPPED = 0.1  # share of the pixels at one extreme, beyond the usual
#: A section that shows no more than this part of what others show, which is more than that part of
#: their variance, is empty.
_EMPTY, _SHOWS = 0.02, 0.1
#: A fold or crack: cells whose mean is off by this many deviations, connected over this part of the
#: section's shorter side or so many pixels, this many times as long as wide, and in
#: no section beside it.
_OFF, _ACROSS, _LONG, _SLIM, _SAME = 1.1, 0.5, 1024, 3.0, 0.7
_SHIFT = 10.0  # px
_FOLLOWED = 40  # px that the linking of neurons follows
_TWIN = 0.1  # of the unlikeness that neighbours usually have

_NORMALISED = "no need: grey values are normalised section by section; look whether cells are right"
_TREATMENT: dict[Kind, str] = {
    "missing": "segment with --bad-sections mask: neurons are linked across it",
    "not finite": "segment with --bad-sections mask, or put grey values there",
    "duplicate": "leave one of the two out, or neurons come out too long",
    "folded": "cells along it are wrong: image again, or blank it and say --bad-sections mask",
    "clipped": "nothing can be seen there: image again, or mend the conversion of grey values",
    "spiked": "no need: such values do not count; replace them in sections above 16384²",
    "out of focus": "image again if you can: thin membranes are lost; look whether cells are right",
    "noisy": "expect gaps in membranes there: average or denoise it, or image again",
    "low contrast": _NORMALISED,
    "dark": _NORMALISED,
    "bright": _NORMALISED,
    "inverted": "invert its grey values: membranes count as dark, or as bright, in all sections",
    "shifted": "linking follows it; align the stack before surfaces are measured",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a section.

    Parameters
    ----------
    kind
        In one of the words of `Kind`.
    says
        What was seen, with numbers.
    treatment
        What to do about it.
    """

    kind: Kind
    says: str
    treatment: str


@dataclass(frozen=True, slots=True)
class SectionReport:
    """What one section is like.

    Parameters
    ----------
    section
        Its number.
    mean, deviation
        Of its finite grey values; NaN where there are none.
    sharpness
        Share of what differs over 8 px that does so between 1 and 2 px, free of noise; NaN where
        the section shows nothing.
    noise
        Share of the variance that is noise from pixel to pixel; NaN where there is none.
    not_finite
        Pixels that are NaN or infinite.
    shift
        From the usable section before it, None where there is none or it cannot be told.
    findings
        What is wrong with it; empty for most sections.
    """

    section: int
    mean: float
    deviation: float
    sharpness: float
    noise: float
    not_finite: int
    shift: Shift | None
    findings: tuple[Finding, ...]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of its findings."""
        return tuple(finding.kind for finding in self.findings)


@dataclass(frozen=True, slots=True)
class _Measures:
    """What is known of each section before any is judged; arrays (Z,)."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    sharpness: NDArray[np.float64]
    noise: NDArray[np.float64]
    structure: NDArray[np.float64]
    darkest: NDArray[np.float64]
    brightest: NDArray[np.float64]


def usable(pooled: Mapping[str, NDArray[Any]]) -> list[int]:
    """Return the sections that show something, those between which shifts can be found.

    Parameters
    ----------
    pooled
        From `quality.pool`.
    """
    return np.flatnonzero(~_blank(pooled, _measures(pooled))).tolist()


def judge(
    pooled: Mapping[str, NDArray[Any]], shifts: Iterable[Shift] = (), *, first: int = 0
) -> list[SectionReport]:
    """Say what is wrong with each section of a volume.

    Every section is held against those around it, five on either side, since grey values, noise and
    focus drift through a stack and may change for good in the middle of it: that is no fault of
    a section. What counts as unusual is how much the stack's sections differ from those around
    them anyway.

    Parameters
    ----------
    pooled
        From `quality.pool`.
    shifts
        From `quality.section_shifts` between `usable` sections; none are reported without.
    first
        Number of the first section, in what is told.

    Returns
    -------
    list of SectionReport
        One for each section.
    """
    found = _measures(pooled)
    blank = _blank(pooled, found)
    seen = np.flatnonzero(~blank)
    steps = {shift.other: shift for shift in shifts}
    unlike: list[tuple[int, Finding]] = []
    if len(seen):
        unlike += _unusual(found, seen)
        unlike += _spiked(pooled, seen)
        unlike += _folded(pooled, found, seen)
        unlike += _twins(pooled, seen, steps, first)
        unlike += _inverted(seen, steps, first)
        unlike += _shifted(seen, steps, first)
    findings: list[list[Finding]] = [[] for _ in blank]
    for z, lost in enumerate(pooled["not_finite"].tolist()):
        if lost:
            pixels = "1 pixel is" if lost == 1 else f"{lost} pixels are"
            findings[z].append(_finding("not finite", f"{pixels} NaN or infinite"))
        elif blank[z]:
            findings[z].append(_finding("missing", _emptiness(pooled, z)))
    for z, finding in unlike:
        findings[z].append(finding)
    return [
        SectionReport(
            first + z,
            float(found.mean[z]),
            float(found.deviation[z]),
            float(found.sharpness[z]),
            float(found.noise[z]),
            int(pooled["not_finite"][z]),
            _told(steps[z], first) if z in steps and steps[z].clear else None,
            tuple(findings[z]),
        )
        for z in range(len(blank))
    ]


def summary(reports: Iterable[SectionReport]) -> str:
    """Return in half a sentence which sections something is wrong with; empty where none is.

    Examples
    --------
    >>> import numpy as np
    >>> from axolemma.quality import check_stack
    >>> stack = np.random.default_rng(0).normal(size=(5, 32, 32))
    >>> stack[2] = 0
    >>> summary(check_stack(stack))
    '2 missing'
    """
    by_kind: dict[Kind, list[int]] = {}
    for report in reports:
        for kind in dict.fromkeys(report.kinds):
            by_kind.setdefault(kind, []).append(report.section)
    return "; ".join(f"{_listed(sections)} {kind}" for kind, sections in by_kind.items())


def _listed(sections: list[int]) -> str:
    """Return numbers with runs shortened: 3, 7-9."""
    cuts = np.flatnonzero(np.diff(sections) > 1) + 1
    runs = [(int(run[0]), int(run[-1])) for run in np.split(np.array(sections), cuts)]
    return ", ".join(f"{a}-{b}" if a < b else f"{a}" for a, b in runs)


def _told(shift: Shift, first: int) -> Shift:
    return replace(shift, section=first + shift.section, other=first + shift.other)


def _finding(kind: Kind, says: str) -> Finding:
    return Finding(kind, says, _TREATMENT[kind])


def _measures(pooled: Mapping[str, NDArray[Any]]) -> _Measures:
    mean, deviation = moments(pooled)
    with np.errstate(invalid="ignore", divide="ignore"):
        # Half the mean squared difference: noise, and what tissue changes by over that distance.
        near, next_, far = (pooled["steps"] / (2 * pooled["pairs"])).T
        structure = np.maximum(far - near, 0.0)
        # The second difference along both axes has 36 times the variance of white noise.
        noise = pooled["bends"] / (36 * pooled["count"])
        return _Measures(
            mean,
            deviation,
            np.where(structure > 0, (next_ - near) / structure, np.nan),
            np.where(deviation > 0, noise / deviation**2, np.nan),
            np.where(np.isfinite(structure), structure, 0.0),
            pooled["at_lowest"] / pooled["count"],
            pooled["at_highest"] / pooled["count"],
        )


def _blank(pooled: Mapping[str, NDArray[Any]], found: _Measures) -> NDArray[np.bool_]:
    """Tell which sections show nothing: no pixel, one grey value, or nothing but noise."""
    flat = pooled["lowest"] >= pooled["highest"]
    usual, variance = (
        float(np.median(values[~flat])) if not flat.all() else 0.0
        for values in (found.structure, found.deviation**2)
    )
    # In a stack of noise nothing tells one section from the others.
    return np.asarray(flat | (found.structure < _EMPTY * usual) & (usual > _SHOWS * variance))


def _emptiness(pooled: Mapping[str, NDArray[Any]], z: int) -> str:
    if pooled["count"][z] == 0:
        return "there are no pixels"
    if pooled["lowest"][z] == pooled["highest"][z]:
        return f"every pixel is {pooled['lowest'][z]:g}"
    return "it shows nothing but noise"


def _unusual(found: _Measures, seen: NDArray[np.int64]) -> Iterator[tuple[int, Finding]]:
    """Yield what the grey values, noise and sharpness of sections say."""
    mean, deviation = found.mean[seen], found.deviation[seen]
    usual_mean, usual_deviation = _usual(mean), _usual(deviation)
    level = (mean - usual_mean) / usual_deviation
    contrast = np.log(deviation / usual_deviation)
    noise, usual_noise = found.noise[seen], _usual(found.noise[seen])
    grain = np.log(np.maximum(noise, 1e-9) / np.maximum(usual_noise, 1e-9))
    dull, loud = contrast < np.log(_CONTRAST), (grain > np.log(_NOISE))
    loud &= noise - usual_noise > _NOISY
    for n in np.flatnonzero((level <= -_LEVEL) & (_scores(level) <= -_UNUSUAL)):
        yield int(seen[n]), _finding("dark", _beside("mean", mean[n], usual_mean[n]))
    for n in np.flatnonzero((level >= _LEVEL) & (_scores(level) >= _UNUSUAL)):
        yield int(seen[n]), _finding("bright", _beside("mean", mean[n], usual_mean[n]))
    for n in np.flatnonzero(dull & (_scores(contrast) <= -_UNUSUAL)):
        says = _beside("standard deviation", deviation[n], usual_deviation[n])
        yield int(seen[n]), _finding("low contrast", says)
    for n in np.flatnonzero(loud & (_scores(grain) >= _UNUSUAL)):
        says = f"noise is {noise[n]:.0%} of the variance, {usual_noise[n]:.0%} around it"
        yield int(seen[n]), _finding("noisy", says)
    # What has no structure at all has no sharpness, and is no measure for those around it.
    sharp = seen[np.isfinite(found.sharpness[seen])]
    sharpness = np.maximum(found.sharpness[sharp], 1e-9)
    blur = np.log(sharpness / _usual(sharpness))
    for n in np.flatnonzero((blur < np.log(_SHARPNESS)) & (_scores(blur) <= -_UNUSUAL)):
        says = f"sharpness is {np.exp(blur[n]):.0%} of that around it"
        yield int(sharp[n]), _finding("out of focus", says)
    for share, where in ((found.darkest, "lowest"), (found.brightest, "highest")):
        excess = share[seen] - _usual(share[seen])
        for n in np.flatnonzero(excess > _CLIPPED):
            says = f"{share[seen][n]:.0%} of the pixels have the {where} value"
            yield int(seen[n]), _finding("clipped", says)


def _spiked(
    pooled: Mapping[str, NDArray[Any]], seen: NDArray[np.int64]
) -> Iterator[tuple[int, Finding]]:
    """Yield the sections that have values far off all others, as of a detector's hot pixels."""
    for z in seen.tolist():
        if pooled["not_finite"][z]:
            continue
        by = contrast(pooled, z)
        for value in spikes(pooled, by, z):
            off = abs(value - by.mean) / by.deviation
            says = f"a value of {value:g} is {off:.0f} deviations from the mean"
            yield z, _finding("spiked", says)


def _beside(what: str, value: float, usual: float) -> str:
    return f"{what} {value:.4g} beside {usual:.4g} around it"


def _usual(values: NDArray[Any]) -> NDArray[Any]:
    """Return the median of each section and those around it, along the first axis."""
    return np.array(
        [
            np.median(values[max(0, n - _AROUND) : n + _AROUND + 1], axis=0)
            for n in range(len(values))
        ]
    )


def _scores(residuals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return residuals in their own robust standard deviations."""
    spread = 1.4826 * float(np.median(np.abs(residuals))) if residuals.size else 0.0
    return np.asarray(residuals / max(spread, 1e-9))


def _folded(
    pooled: Mapping[str, NDArray[Any]], found: _Measures, seen: NDArray[np.int64]
) -> Iterator[tuple[int, Finding]]:
    """Yield the sections with a long dark or bright structure that no neighbour has."""
    sides = pooled["shape"][1:].tolist()
    # Deviations are those around it, since a fold widens that of its own section.
    spread = _usual(found.deviation[seen])
    off = [
        _off_middle(means) / deviation
        for means, deviation in zip(_cell_means(pooled, seen), spread, strict=True)
    ]
    wanted = min(_ACROSS * min(sides), _LONG)
    for n, z in enumerate(seen.tolist()):
        near = [off[m] for m in (n - 1, n + 1) if 0 <= m < len(off)]
        for sign, what in ((-1, "dark"), (1, "bright")):
            length = _longest(sign * off[n], [sign * beside for beside in near], cell_side(sides))
            if length >= wanted:
                says = f"a {what} band or crack, some {length:.0f} px long"
                yield z, _finding("folded", says)


def _off_middle(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return by how much means differ from their median; 0 where there is none."""
    known = np.isfinite(means)
    middle = np.median(means[known]) if known.any() else 0.0
    return np.where(known, means - middle, 0.0)


def _cell_means(
    pooled: Mapping[str, NDArray[Any]], seen: NDArray[np.int64]
) -> Iterator[NDArray[np.float64]]:
    """Yield the mean grey values of the cells (y, x) of each section."""
    sides = pooled["shape"][1:].tolist()
    cell = cell_side(sides)
    rows, columns = (np.minimum(cell, side - cell * np.arange(-(-side // cell))) for side in sides)
    for z in seen:
        yield pooled["cells"][z] / np.outer(rows, columns)


def _longest(off: NDArray[np.float64], near: Sequence[NDArray[np.float64]], cell: int) -> float:
    """Return the length in pixels of the longest slim structure that is in no neighbour."""
    labels, _ = ndimage.label(off > _OFF, np.ones((3, 3)))
    longest = 0.0
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        length = cell * float(np.hypot(*(side.stop - side.start - 1 for side in box)))
        if length <= longest:
            continue
        inside = labels[box] == number
        width = np.count_nonzero(inside) * cell**2 / length
        lasting = any(beside[box][inside].mean() > _SAME * _OFF for beside in near)
        if not lasting and length >= _SLIM * width:
            longest = length
    return longest


def _twins(
    pooled: Mapping[str, NDArray[Any]],
    seen: NDArray[np.int64],
    steps: Mapping[int, Shift],
    first: int,
) -> Iterator[tuple[int, Finding]]:
    """Yield the sections that are the one before them, or that one imaged again."""
    # An inverted section says nothing of how alike others are.
    alike = {z: shift for z, shift in steps.items() if shift.clear and shift.likeness > 0}
    unlike = {z: 1 - shift.likeness for z, shift in alike.items()}
    usual = float(np.median(list(unlike.values()))) if unlike else 1.0
    names = ("total", "squares", "lowest", "highest", "steps", "cells")
    for one, other in zip(seen[:-1].tolist(), seen[1:].tolist(), strict=True):
        pairs = ((pooled[name][one], pooled[name][other]) for name in names)
        if all(np.array_equal(*pair, equal_nan=True) for pair in pairs):
            yield other, _finding("duplicate", f"the same pixels as section {first + one}")
        elif unlike.get(other, 1.0) < _TWIN * usual:
            says = f"like section {first + one}, correlation {steps[other].likeness:.2f}"
            yield other, _finding("duplicate", says)


def _inverted(
    seen: NDArray[np.int64], steps: Mapping[int, Shift], first: int
) -> Iterator[tuple[int, Finding]]:
    """Yield the sections whose contrast is the other way round than that of most beside them."""
    # Where two sections have too little in common to tell, what follows is told for itself.
    runs: list[dict[int, bool]] = []
    for z in seen.tolist():
        shift, run = steps.get(z), runs[-1] if runs else {}
        if shift is None or not shift.clear or shift.section not in run:
            runs.append({z: False})
        else:
            run[z] = run[shift.section] != (shift.likeness < 0)
    for run in runs:
        flipped = 2 * sum(run.values())
        odd = flipped <= len(run)
        doubt = ", or it is that one" if flipped == len(run) else ""
        if len(run) < len(seen):
            doubt += f"; sections {first + min(run)}-{first + max(run)} alone can be compared"
        for z in (z for z, other in run.items() if other == odd):
            against = min((k for k in run if run[k] != odd), key=lambda k: abs(k - z))
            says = f"what is bright in section {first + against} is dark, and the other way round"
            yield z, _finding("inverted", says + doubt)


def _shifted(
    seen: NDArray[np.int64], steps: Mapping[int, Shift], first: int
) -> Iterator[tuple[int, Finding]]:
    """Yield the sections that lie beside the one before them, or beside both neighbours."""
    clear = {z: shift for z, shift in steps.items() if shift.clear}
    alone = False  # whether the section before lies beside its neighbours
    for z, after in zip(seen.tolist(), [*seen[1:].tolist(), None], strict=True):
        shift, back = clear.get(z), clear.get(-1 if after is None else after)
        was_alone, alone = alone, False
        # Over lost sections as much drift as elsewhere is no fault.
        if shift is None or shift.length < _SHIFT * (shift.other - shift.section):
            continue
        returns = back is not None and (
            np.hypot(shift.rows + back.rows, shift.columns + back.columns) < shift.length / 2
        )
        if was_alone:
            continue  # what shows here is the way back of the section before
        alone = returns
        before = first + shift.section
        where = f"section {before}"
        if after is not None and returns:
            where = f"sections {before} and {first + after}"
        says = f"lies {shift.length:.0f} px ({shift.rows:+d}, {shift.columns:+d}) beside {where}"
        treatment = _TREATMENT["shifted"]
        if max(abs(shift.rows), abs(shift.columns)) > _FOLLOWED:
            treatment = f"align the stack first: linking follows no more than {_FOLLOWED} px"
        yield z, Finding("shifted", says, treatment)
