"""``python -m benchmarks.agreement``: the authors' code and ours on the same triplets, compared.

Both start from the same table under the same mask of a recorded run, and after every epoch their
losses, tables and rankings are compared. So are the masks that both prune from the same weights.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.plan import PLAN
from benchmarks.pool import Worker, WorkerError, say
from benchmarks.record import short
from benchmarks.run import OURS, Run, options
from lthnb.metrics import TOP

PEER, PLAIN = "lth-mrs", "reference"


class Agreement:
    """One run of the command: two workers, and the record as it grows. what: see `plan.yaml`."""

    def __init__(self, run: Run, what: dict[str, Any], epochs: int) -> None:
        self.run, self.what, self.epochs = run, what, epochs
        self.found: dict[str, Any] = {"trainings": [], "prunings": []}
        run.record["agreement"] = self.found

    def compare(self) -> None:
        """Everything in the plan. Raises WorkerError where a side cannot do its part."""
        with self.run.worker(PEER) as theirs, self.run.worker(OURS) as ours:
            for place in self.what["trainings"]:
                facts = self._prepare("agreement", place, ours, theirs)
                epochs = [self._epoch(place, facts, ours, theirs) for _ in range(self.epochs)]
                shown = {name: facts[name] for name in ("run", "density")}
                self.found["trainings"].append({**place, **shown, "epochs": epochs})
            for place in self.what["prunings"]:
                facts = self._prepare("pruning", place, ours, theirs)
                names = ("run", "before", "density", "percent", "as recorded")
                shown = {name: facts[name] for name in names}
                masks = {who: _array(facts, who, "kept") for who in (OURS, PEER)}
                entry = {**place, **shown, **pruned_alike(masks)}
                self.found["prunings"].append(entry)
                say(f"pruning {_called(place)}: only in {entry['only']}")

    def _prepare(self, task: str, place: dict, ours: Worker, theirs: Worker) -> dict[str, Any]:
        """Ours first, which writes what theirs reads; what it says of itself."""
        say(f"{task} {_called(place)}: preparing")
        settings = {name: self.what.get(name, {}) for name in ("source", "options", "rate")}
        settings |= {"run": None, **place, "folder": str(self.run.work), "epochs": self.epochs}
        facts = ours.ask("prepare", id="now", task=task, settings=settings)
        self.run.record["data"] = data = facts["data"]
        self.run.record["settings"].update({name: facts[name] for name in ("size", "batch")})
        told = {**facts, "users": data["users"], "items": data["items"], "layers": 0}
        told["clone"] = str(self.run.peers_folder / PEER)
        theirs.ask("prepare", id="now", task=task, settings=told)
        return facts

    def _epoch(self, place: dict, facts: dict, ours: Worker, theirs: Worker) -> dict[str, Any]:
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
        say(f"{_called(place)}: loss and Recall@20: {shown}; apart {entry['apart']}")
        return entry


def _called(place: dict[str, Any]) -> str:
    return f"{place['method']} {place['prunings']}"


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
    p.add_argument("--epochs", type=int, default=3, help="of each training (default: 3)")
    options(p)
    args = p.parse_args(words)
    if args.epochs < 1:
        p.error(f"--epochs: found {args.epochs}, expected 1 or more.")
    what = PLAN["quick agreement" if args.quick else "agreement"]
    settings = {"source": what["source"], "options": what.get("options", {}), "backbone": "mf"}
    settings |= {"protocol": "paper", "epochs": args.epochs, "threads": args.threads}
    name = "-".join(["quick"] * args.quick + [what["source"], "agreement"])
    run = Run(args, name, settings, set())
    try:
        Agreement(run, what, args.epochs).compare()
    except WorkerError as error:
        raise SystemExit(f"benchmarks: agreement: {error}") from None
    return run.finish()


if __name__ == "__main__":
    main()
