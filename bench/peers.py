"""How good the networks that people use become in the time in which ours is trained.

    peers/bin/python bench/peers.py --budget 5m        (see bench/requirements-peers.txt)

Each is trained on the challenge's sections 0-24 for as long, by our own loop: augmentation, loss,
averaged weights, validation, and the processor's fastest arithmetic are the same for all; what
learning rate suits a peer is tried on the way (`--rates`) and the better validation kept. Sections
25-29 are scored once, at the threshold that validation chose, predicted as `segment` does it. One
after the other, on a machine that does nothing else. Writes ``docs/results/peers.json``; what is
in it with the same budget and seed on the same processor is not run again.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from axolemma import datasets, models
from axolemma.metrics import evaluate
from axolemma.models.blocks import pad_to_multiple
from axolemma.segmentation import segment
from axolemma.settings import TrainSettings, check, minutes
from axolemma.training import fit
from infer import PEERS, peer
from measuring import RESULTS, keep, machine, table

OURS = "axolemma"


class Peer(nn.Module):
    """A peer's network that takes sections of any size and says one logit, as ours do."""

    kind = ""

    def __init__(self, *, in_channels: int = 1) -> None:
        super().__init__()
        assert in_channels == 1
        self.network = peer(self.kind)
        self.stride = 128 if self.kind == "nnU-Net" else 32

    def forward(self, x: Tensor) -> Tensor:
        """Map sections (N, 1, Y, X) to logits of equal shape."""
        found = self.network(pad_to_multiple(x, self.stride))
        # Two classes are one logit: how far the second is above the first.
        found = found[:, 1:] - found[:, :1] if found.shape[1] == 2 else found
        return found[..., : x.shape[-2], : x.shape[-1]]

    def state_dict(self, *given: Any, **named: Any) -> dict[str, Tensor]:
        """Return every weight once; nnU-Net's network knows some of its parts by several names."""
        found = super().state_dict(*given, **named)
        first = {weight.data_ptr(): name for name, weight in reversed(found.items())}
        return {name: weight for name, weight in found.items() if first[weight.data_ptr()] == name}

    def load_state_dict(self, state: Mapping[str, Any]) -> Any:
        """Take weights as `state_dict` gives them."""
        return super().load_state_dict(state, strict=False)


def network_of(name: str) -> str:
    """Return the name by which `axolemma.models` builds one of them."""
    if name == OURS:
        return models.DEFAULT
    models.MODELS[name.lower()] = type("Peer", (Peer,), {"kind": name})
    return name.lower()


def trained(name: str, budget: float, seed: int, rate: float | None) -> dict[str, object]:
    """Train one, and score it on sections that it has not seen."""
    pairs = datasets.load("isbi2012")
    network = network_of(name)
    asked = {"data": "isbi2012", "slices": "0-24", "budget": budget, "seed": seed}
    if rate is not None:
        asked["learning_rate"] = rate
    with tempfile.TemporaryDirectory() as folder:
        model = fit(pairs, check(TrainSettings, {**asked, "model": network}), Path(folder) / "run")
    unseen = slice(25, 30)
    maps = segment(
        pairs.images[unseen], model=model, objects="none", voxel_size=pairs.voxel_size
    ).membrane
    scores, threshold = evaluate(maps, pairs.truth[unseen], unthinned=False), model.info.threshold
    best = model.info.training["validation"]["dihedral"]
    return {
        "network": name,
        "minutes": budget,
        "seed": seed,
        "learning rate": rate,
        "parameters": models.parameters(model.network),
        "steps": model.info.training["steps"],
        "validation": round(best["v_rand"] + best["v_info"], 4),
        "threshold": threshold,
        "v_rand": round(scores.at(threshold, "v_rand").score, 4),
        "v_info": round(scores.at(threshold, "v_info").score, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", default="5m")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--networks", nargs="+", default=[OURS, *PEERS], choices=[OURS, *PEERS])
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3], help="of the peers")
    options = parser.parse_args()
    about = {"processor": machine()["processor"], "threads": torch.get_num_threads()}
    file = RESULTS / "peers.json"
    rows = json.loads(file.read_text("utf-8"))["trainings"] if file.is_file() else []
    for name in options.networks:
        for rate in [None] if name == OURS else options.rates:
            asked = {"network": name, "minutes": minutes(options.budget), "seed": options.seed}
            asked |= {"learning rate": rate, **about}
            if any(asked.items() <= row.items() for row in rows):
                continue
            rows.append(about | trained(name, minutes(options.budget), options.seed, rate))
            keep("peers", machine=machine("segmentation-models-pytorch", "monai"), trainings=rows)
            print(rows[-1], flush=True)
    shown = []
    for name in (OURS, *PEERS):
        mine = [row for row in rows if row["network"] == name]
        if mine:
            best = max(mine, key=lambda row: row["validation"])
            shown.append({key: best[key] for key in best if key not in about})
    print("\n".join(table(shown)))


if __name__ == "__main__":
    main()
