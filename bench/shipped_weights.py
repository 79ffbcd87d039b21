"""Score the weights that come with the package, as anyone can.

    python bench/shipped_weights.py

`neurites-seed` has learned from the challenge's sections 0-24 and is scored on 25-29, and on
synthetic tissue, which it has never seen. Writes ``docs/results/shipped_weights.json``, from which
the table in docs/weights.md is taken.
"""

import json
import tempfile
from pathlib import Path

from axolemma.modelfile import bundled, load_model, state_hash
from command_line import AVERAGES, scored

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "shipped_weights.json"


def main() -> None:
    found: dict[str, dict] = {}
    for name in bundled():
        with tempfile.TemporaryDirectory() as folder:
            about = {"weights_sha256": state_hash(load_model(name).network)}
            if name.endswith("-seed"):
                about["isbi2012"] = scored(name, "isbi2012", "25-29", Path(folder))
            found[name] = about | {"phantom": scored(name, "phantom", "0-4", Path(folder))}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    for name, scores in found.items():
        for data in scores.keys() & {"isbi2012", "phantom"}:
            for average in AVERAGES:
                row = scores[data][average]
                print(f"{name:14} {data:9} {average:9} {row['v_rand']:.4f} {row['v_info']:.4f}")


if __name__ == "__main__":
    main()
