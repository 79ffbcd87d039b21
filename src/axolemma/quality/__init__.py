"""What is wrong with the sections of a stack, before a network sees them.

`block_statistics` of every block of a volume, added up by `pool`, and the shifts between sections
are all that `judge` needs; `check_stack` does the three in memory, `check_volume` block by block.
"""

from axolemma.quality.judgement import Finding, Kind, SectionReport, judge, summary, usable
from axolemma.quality.polarity import Polarity, looked_at, polarity_of
from axolemma.quality.sections import as_dict, check_stack, check_volume, write_csv
from axolemma.quality.shifts import Shift, section_shift, section_shifts
from axolemma.quality.statistics import (
    FARTHEST,
    HALO,
    Contrast,
    Table,
    block_statistics,
    contrast,
    contrast_of,
    grey_sums,
    moments,
    normalise,
    pool,
    spikes,
)

__all__ = [
    "FARTHEST",
    "HALO",
    "Contrast",
    "Finding",
    "Kind",
    "Polarity",
    "SectionReport",
    "Shift",
    "Table",
    "as_dict",
    "block_statistics",
    "check_stack",
    "check_volume",
    "contrast",
    "contrast_of",
    "grey_sums",
    "judge",
    "looked_at",
    "moments",
    "normalise",
    "polarity_of",
    "pool",
    "section_shift",
    "section_shifts",
    "spikes",
    "summary",
    "usable",
    "write_csv",
]
