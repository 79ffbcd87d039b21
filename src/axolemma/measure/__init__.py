"""What cells and neurons measure: sizes, shapes and contacts; meshes and skeletons of them.

========================  ====================================================================
`measure_cells`           area, perimeter, calibre, contacts of every cell of every section
`measure_neurons`         volume, surface, calibre, path, contacts of every neuron
`write_table`             either of them as CSV, units in the names of the columns
`rows`                    the same lines as dictionaries, for JSON
`write_meshes`            one PLY for each neuron
`write_skeletons`         one SWC for each neuron
========================  ====================================================================
"""

from axolemma.measure.files import rows, write_meshes, write_skeletons, write_table
from axolemma.measure.tables import Table, measure_cells, measure_neurons

__all__ = [
    "Table",
    "measure_cells",
    "measure_neurons",
    "rows",
    "write_meshes",
    "write_skeletons",
    "write_table",
]
