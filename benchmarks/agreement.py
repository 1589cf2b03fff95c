"""``python -m benchmarks.agreement``: the authors' code and ours on the same triplets, compared.

Both start from the same table under the same mask of a recorded run, and after every epoch their
losses, tables and rankings are compared. So are the masks that both prune from the same weights.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.__main__ import OURS, Run
from benchmarks.pool import Worker, WorkerError, say
from benchmarks.record import ROOT
from lthnb.evaluation import TOP
from lthnb.measured import short

PEER, PLAIN = "lth-mrs", "reference"


@dataclass(frozen=True)
class Place:
    """A rung of a recorded ladder: its method, and how many prunings at the ladder's rate lead to
    its density (0: the dense model)."""

    method: str
    prunings: int


@dataclass(frozen=True)
class Plan:
    """What is compared: trainings at some places, and the prunings that lead to some.

    source: of the records; options: its own. toy: ladders are climbed on the spot instead.
    """

    source: str
    trainings: tuple[Place, ...]
    prunings: tuple[Place, ...]
    toy: bool = False
    options: tuple[tuple[str, Any], ...] = ()

    def settings(self, place: Place, **more: Any) -> dict[str, Any]:
        """What the workers are told of a place."""
        told = {"source": self.source, "options": dict(self.options), "toy": self.toy}
        return {**told, "method": place.method, "prunings": place.prunings, **more}


# Where our runs and the paper part, and the dense model, from which all of them begin.
FULL = Plan(
    "yelp2018",
    trainings=(
        Place("imp", 0),
        Place("imp", 29),
        Place("omp", 10),
        Place("omp", 29),
        Place("rp", 1),
        Place("rp", 3),
    ),
    prunings=(Place("imp", 1), Place("imp", 29), Place("omp", 10), Place("omp", 29)),
)
QUICK = Plan(
    "synthetic",
    trainings=(Place("imp", 0), Place("imp", 2), Place("rp", 1)),
    prunings=(Place("imp", 2), Place("omp", 2)),
    toy=True,
    options=(("users", 390), ("items", 200), ("interactions", 8000)),
)


class Agreement:
    """One run of the command: two workers, and the record as it grows."""

    def __init__(self, run: Run, plan: Plan, epochs: int) -> None:
        self.run, self.plan, self.epochs = run, plan, epochs
        self.found: dict[str, Any] = {"trainings": [], "prunings": []}
        run.record["agreement"] = self.found

    def compare(self) -> None:
        """Everything in the plan. Raises WorkerError where a side cannot do its part."""
        with self.run.worker(PEER) as theirs, self.run.worker(OURS) as ours:
            for place in self.plan.trainings:
                facts = self._prepare("agreement", place, ours, theirs)
                epochs = [self._epoch(place, facts, ours, theirs) for _ in range(self.epochs)]
                shown = {name: facts[name] for name in ("run", "density")}
                self.found["trainings"].append({**vars(place), **shown, "epochs": epochs})
            for place in self.plan.prunings:
                facts = self._prepare("pruning", place, ours, theirs)
                names = ("run", "before", "density", "percent", "as recorded")
                shown = {name: facts[name] for name in names}
                masks = {who: _array(facts, who, "kept") for who in (OURS, PEER)}
                entry = {**vars(place), **shown, **pruned_alike(masks)}
                self.found["prunings"].append(entry)
                say(f"pruning {place.method} {place.prunings}: only in {entry['only']}")

    def _prepare(self, task: str, place: Place, ours: Worker, theirs: Worker) -> dict[str, Any]:
        """Ours first, which writes what theirs reads; what it says of itself."""
        say(f"{task} {place.method} {place.prunings}: preparing")
        more = {"folder": str(self.run.work), "epochs": self.epochs}
        settings = self.plan.settings(place, **more)
        facts = ours.ask("prepare", id="now", task=task, settings=settings)
        self.run.record["data"] = data = facts["data"]
        shape = {name: facts[name] for name in ("size", "batch")}
        self.run.record["settings"].update(shape)
        told = {**facts, "users": data["users"], "items": data["items"], "layers": 0}
        told["clone"] = str(self.run.peers_folder / PEER)
        theirs.ask("prepare", id="now", task=task, settings=told)
        return facts

    def _epoch(self, place: Place, facts: dict, ours: Worker, theirs: Worker) -> dict[str, Any]:
        """One epoch of each, and how far apart they are then."""
        results = {**ours.ask("repeat", id="now"), PEER: theirs.ask("repeat", id="now")}
        folder = Path(facts["folder"])
        mask = np.load(folder / "mask.npy")
        train, test = (np.load(folder / f"{part}.npy") for part in ("train", "test"))
        tables, hits = (
            {who: _array(facts, who, name) for who in results} for name in ("table", "hits")
        )

        def compared(who: str) -> dict[str, Any]:
            otherwise = np.unique(test[0])[(hits[OURS] != hits[who]).any(1)]
            tied = ties(tables[OURS], train, otherwise, facts["data"]["users"])
            return {**apart(tables[OURS], tables[who], mask), "users": len(otherwise), "tied": tied}

        entry = {
            **{who: {k: float(f"{v:.9g}") for k, v in r.items()} for who, r in results.items()},
            "apart": compared(PEER),
            "rounding": compared(PLAIN),
            "typical": short(float(np.abs(tables[OURS][mask]).mean())),
        }
        shown = "; ".join(
            f"{who} {r['loss']:.6f}, {r['recall@20']:.5f}" for who, r in results.items()
        )
        say(f"{place.method} {place.prunings}: loss and Recall@20: {shown}; apart {entry['apart']}")
        return entry


def _array(facts: dict[str, Any], who: str, name: str) -> np.ndarray:
    return np.load(Path(facts["folder"]) / f"{who}-{name}.npy")


def apart(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """The largest and the mean absolute difference of two tables' kept entries, all (rows, F).

    Raises WorkerError where a pruned entry is not zero in either."""
    if a[~mask].any() or b[~mask].any():
        raise WorkerError("a pruned entry is not zero: the two had other masks")
    difference = np.abs(a[mask].astype(np.float64) - b[mask])
    return {"largest": short(float(difference.max())), "mean": short(float(difference.mean()))}


def ties(table: np.ndarray, train: np.ndarray, users: np.ndarray, all_users: int) -> int:
    """How many of some users have equal scores among their best 21 items, so that which of these
    are in the top 20, and where, is anyone's. table: (rows, F), users first. train: pairs (2, n),
    left out of the ranking."""
    tied = 0
    for user in users:
        scores = table[all_users:] @ table[user]
        scores = np.delete(scores, train[1][train[0] == user])
        tied += (np.diff(np.sort(scores)[-TOP - 1 :]) == 0).any()
    return int(tied)


def pruned_alike(masks: dict[str, np.ndarray]) -> dict[str, dict[str, int]]:
    """Two masks, bit by bit: how many entries each keeps, and how many it alone keeps."""
    a, b = masks.values()
    only = dict(zip(masks, (int((a & ~b).sum()), int((b & ~a).sum())), strict=True))
    return {"kept": {who: int(mask.sum()) for who, mask in masks.items()}, "only": only}


def main(words: list[str] | None = None) -> Path:
    """Compare, write the record, and return its path."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.agreement",
        description="Train recorded runs again through the authors' code and through ours, on the "
        "same triplets, and compare after every epoch; compare what both prune.",
    )
    p.add_argument("--quick", action="store_true", help="seconds, a toy: does it run?")
    p.add_argument("--epochs", type=int, default=3, help="of each training (default: 3)")
    p.add_argument("--threads", type=int, default=os.cpu_count(), help="(default: one per core)")
    p.add_argument(
        "--peers", type=Path, default=ROOT / ".bench", help="folder of the peers (default: .bench)"
    )
    p.add_argument(
        "--out",
        type=Path,
        help="folder of the record (default: results/benchmarks; with --quick, the peers' folder)",
    )
    args = p.parse_args(words)
    if args.epochs < 1:
        p.error(f"--epochs: found {args.epochs}, expected 1 or more.")
    plan = QUICK if args.quick else FULL
    name = "-".join(["quick"] * args.quick + [plan.source, "agreement"])
    if os.environ.get("LTHNB_DATA"):  # workers run elsewhere
        os.environ["LTHNB_DATA"] = os.path.abspath(os.environ["LTHNB_DATA"])
    settings = {"source": plan.source, "options": dict(plan.options), "backbone": "mf"}
    settings |= {"protocol": "paper", "epochs": args.epochs, "threads": args.threads}
    run = Run(name, settings, args.peers.resolve(), set())
    try:
        Agreement(run, plan, args.epochs).compare()
    except WorkerError as error:
        raise SystemExit(f"benchmarks: agreement: {error}") from None
    return run.finish(args.out or (args.peers if args.quick else ROOT / "results" / "benchmarks"))


if __name__ == "__main__":
    main()
