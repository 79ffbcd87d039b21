"""What an engine costs per block: 1,000 blocks with nothing to do, by each engine.

    python bench/engines.py --results docs/results/engines.json

Also what the ledger costs: its bytes and microseconds per block, and the time to read it again.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import distributed
import numpy as np
from numpy.typing import NDArray

from axolemma.engines import engine_from
from axolemma.volume import Block, Ledger, plan, run
from axolemma.volume.ledger import pack

BLOCKS = 1000
RECORDS = 1_000_000


def nothing(_: Block) -> dict[str, NDArray[Any]]:
    return {}


def tables(block: Block) -> dict[str, NDArray[Any]]:
    edges = np.arange(200, dtype=np.uint64).reshape(-1, 2)
    return {"edges": edges + np.uint64(block.index), "areas": np.ones(100)}


def per_block(name: str, work: Callable[[Block], dict[str, NDArray[Any]]]) -> float:
    """Return milliseconds per block, workers already started."""
    blocks = plan((10 * BLOCKS, 10, 10), (10, 10, 10), (1, 1, 1))
    with (
        tempfile.TemporaryDirectory() as folder,
        engine_from(name) as engine,
        Ledger(folder, {}) as ledger,
    ):
        run("start", work, blocks[:10], ledger=ledger, engine=engine)
        begun = time.perf_counter()
        run("all", work, blocks, ledger=ledger, engine=engine)
        return (time.perf_counter() - begun) / BLOCKS * 1e3


def ledger_costs() -> dict[str, float]:
    packed = pack(tables(plan((1,), (1,), (0,))[0]))
    with tempfile.TemporaryDirectory() as folder:
        with Ledger(folder, {}) as ledger:
            books = ledger.open("all")
            begun = time.perf_counter()
            for index in range(RECORDS):
                books.record(index, packed)
            recorded = time.perf_counter() - begun
        with Ledger(folder, {}) as ledger:
            begun = time.perf_counter()
            ledger.open("all")
            read = time.perf_counter() - begun
        size = (Path(folder) / "all.jsonl").stat().st_size
    return {
        "blocks": RECORDS,
        "bytes of a line": round(size / RECORDS, 1),
        "bytes of the tables": len(packed),
        "microseconds to record a block": round(recorded / RECORDS * 1e6, 1),
        "seconds to read all and check their tables": round(read, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, help="a JSON file to write")
    arguments = parser.parse_args()
    names = ("serial", "processes:2", "dask://?workers=2", "dask://?workers=2&in_flight=64")
    found = {
        name: {
            "nothing returned, ms per block": round(per_block(name, nothing), 3),
            "two tables returned, ms per block": round(per_block(name, tables), 3),
        }
        for name in names
    }
    result = {
        "command": "python bench/engines.py",
        "dask": distributed.__version__,
        "engines": found,
        "ledger": ledger_costs(),
    }
    print(json.dumps(result, indent=1))
    if arguments.results:
        arguments.results.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
