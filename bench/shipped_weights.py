"""Score the weights that come with the package, as anyone can.

    python bench/shipped_weights.py

`neurites-seed` has learned from the challenge's sections 0-24 and is scored on 25-29; `neurites`
has learned from all of them. Once all sections are segmented, of which 25-29 are scored, as in
practice: their maps stay the same, and section 24 has a say in the cells of 25. Both weights are
scored on synthetic tissue, which they have never seen.
Writes ``docs/results/shipped_weights.json``, from which the table in docs/weights.md is taken;
weights that are in it are not scored again.
"""

import json
import tempfile
from pathlib import Path

from axolemma.modelfile import bundled, load_model, state_hash
from command_line import scored

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "shipped_weights.json"


def main() -> None:
    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for name in bundled():
        model = load_model(name)
        about: dict[str, object] = {"weights_sha256": state_hash(model.network)}
        about |= {"threshold": model.info.threshold, "boundary": model.info.boundary}
        if about.items() <= found.get(name, {}).items():
            continue  # measured already
        with tempfile.TemporaryDirectory() as folder:
            if name.endswith("-seed"):
                held_out = (name, "isbi2012", "25-29", Path(folder))
                about["isbi2012"] = scored(*held_out)
                about["isbi2012 whole"] = scored(*held_out, ["half-turn", "dihedral"], whole=True)
            about["phantom"] = scored(name, "phantom", "0-4", Path(folder), ["half-turn"])
        found[name] = about
    found = {name: found[name] for name in bundled()}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    for name, scores in found.items():
        for data in sorted(scores.keys() & {"isbi2012", "isbi2012 whole", "phantom"}):
            for average, row in scores[data].items():
                print(f"{name:14} {data:9} {average:9} {row['v_rand']:.4f} {row['v_info']:.4f}")


if __name__ == "__main__":
    main()
