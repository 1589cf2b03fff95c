"""``python -m benchmarks.packing``: every form of a packed ticket, its bytes and its speed, as a
record.

Tables: planted rows of Gaussian entries whose scale differs, pruned by magnitude, so that rows keep
as unequal numbers of entries as in real tickets; the same under a mask at random; and runs of the
store: a ticket as it is, a dense one pruned by magnitude at each density.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np

from benchmarks.__main__ import OURS, Run
from benchmarks.pool import say
from benchmarks.record import ROOT
from lthnb.config import spec_from
from lthnb.measured import short, spreads
from lthnb.packing import VALUES, Ticket, compare
from lthnb.pruning import Mask, magnitude, prune, random_score
from lthnb.store.runs import Store

SCALES = 0.5  # standard deviation of the log of a planted row's scale


def planted(rows: int, size: int, seed: int = 0) -> np.ndarray:
    """float32 (rows, F): Gaussian rows, each with a scale of its own."""
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((rows, size), dtype=np.float32)
    scales = np.exp(SCALES * rng.standard_normal((rows, 1), dtype=np.float32))
    return table * scales


def pruned(table: np.ndarray, users: int, density: float, scores=magnitude) -> Ticket:
    """A table, pruned once over all rows."""
    keep = (round(density * table.size),)
    mask = prune(Mask.dense(*table.shape), scores(table, 0), keep, users=users)
    return Ticket(mask.kept, table * mask.kept, users, len(table) - users)


def of_run(store: Store, prefix: str) -> tuple[str, np.ndarray, np.ndarray, int]:
    """What a run is called, its table (rows, F), its mask, and how many rows are users."""
    record = store.find(store.resolve(prefix))
    table = store.find_weights(record.key, "best")
    if table is None:
        raise SystemExit(f"run {prefix}: its weights are not in the store; train it again there.")
    mask = store.find_mask(record.pruning, record.shape)
    if mask is None:
        raise SystemExit(f"run {prefix}: its mask is not kept; replay it first.")
    kept = mask.kept
    size = spec_from(record.spec).model.embedding_size
    name = f"{record.data['name']}, run {record.key[:8]}, size {size}"
    return name, table.astype(np.float32), kept, record.data["users"]


def measure(run: Run, title: str, ticket: Ticket, kinds: list[str], repeats: int) -> None:
    """One ticket: a row of the record, and a line for each form."""
    found = compare(ticket, kinds, repeats=repeats)
    density = short(float(ticket.kept.mean()))
    measures, facts = {}, {"dense": found[0].dense, "kept": found[0].kept, "rows": found[0].rows}
    for one in found:
        name = f"{one.form} {one.values}"
        facts |= {f"bytes {name}": one.bytes, f"bound {one.values}": one.bound}
        for what, seconds in (("whole", one.whole), ("single", one.single)):
            measures[f"{what} {name}"] = [short(s) for s in seconds]
    spread = spreads(measures)
    for one in found:
        rate = one.kept / spread[f"whole {one.form} {one.values}"]["median"] / 1e6
        say(
            f"{title}, density {density}: {one.form:12} {one.values:9} {one.bytes:10,} bytes, "
            f"{one.over_bound:.3f} of the bound, dense {one.smaller:.2f} times as large, "
            f"{rate:.0f} M entries a second"
        )
    run.record["rows"][f"packing {title} {density:g}"] = {
        "title": f"reading packed rows: {title}, density {density:g}",
        "unit": "seconds of one thread",
        "who": {OURS: {"measures": measures, "spread": spread, "facts": facts}},
        "ratios": {},
        "packing": {"table": title, "size": ticket.kept.shape[1], "density": density},
    }


def main(words: list[str] | None = None) -> Path:
    """Pack and read, write the record, and return its path."""
    p = argparse.ArgumentParser(prog="python -m benchmarks.packing", description=__doc__)
    p.add_argument("--rows", type=int, default=70_000, help="of a planted table; half are users")
    p.add_argument("--size", type=int, default=64)
    p.add_argument("--densities", default="0.5,0.35,0.1,0.05")
    p.add_argument("--values", default="float16,int8", help=", ".join(VALUES))
    p.add_argument("--runs", nargs="*", default=[], help="first digits of keys of the store")
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--name", default="packing", help="of the record (default: packing)")
    p.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks")
    p.add_argument("--peers", type=Path, default=ROOT / ".bench", help="folder for work")
    args = p.parse_args(words)
    densities = [float(d) for d in args.densities.split(",")]
    kinds = args.values.split(",")
    store = Store()
    settings = {"size": args.size, "rows": args.rows, "repeats": args.repeats, "threads": 1}
    run = Run(args.name, settings, args.peers.resolve(), set())
    with run.worker(OURS):
        pass  # which describes us
    for prefix in args.runs:
        name, table, kept, users = of_run(store, prefix)
        if kept.all():
            for density in densities:
                ticket = pruned(table, users, density)
                measure(run, f"{name}, pruned once", ticket, kinds, args.repeats)
        else:
            ticket = Ticket(kept, table * kept, users, len(table) - users)
            measure(run, name, ticket, kinds, args.repeats)
    if not args.runs:
        table = planted(args.rows, args.size)
        ways = {"planted": magnitude, "at random": random_score}
        for (title, scores), density in itertools.product(ways.items(), densities):
            ticket = pruned(table, args.rows // 2, density, scores)
            measure(run, title, ticket, kinds, args.repeats)
    return run.finish(args.out)


if __name__ == "__main__":
    main()
