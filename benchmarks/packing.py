"""``python -m benchmarks.packing``: every form of a packed ticket, its bytes and its speed.

Tables: planted rows of Gaussian entries whose scale differs, pruned by magnitude, so that rows keep
as unequal numbers of entries as in real tickets; the same under a mask at random; and runs of the
store: a ticket as it is, a dense one pruned by magnitude at each density.
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np

from lthnb.config import spec_from
from lthnb.packing import VALUES, Ticket, compare
from lthnb.pruning import Mask, magnitude, prune, random_score
from lthnb.replays import mask_of
from lthnb.store import Store

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
    kept = mask_of(record, store).kept
    size = spec_from(record.spec).model.embedding_size
    name = f"{record.data['name']}, run {record.key[:8]}, size {size}"
    return name, table.astype(np.float32), kept, record.data["users"]


def show(title: str, ticket: Ticket, kinds: list[str], repeats: int) -> None:
    rows, size = ticket.kept.shape
    density = ticket.kept.mean()
    print(f"\n{title}: {rows:,} × {size}, density {density:.4f}")
    print(f"{'form':12} {'values':9} {'bytes':>10} {'÷ bound':>8} {'dense ÷':>8}", end=" ")
    print(f"{'M entries/s':>12} {'M rows/s':>9} {'µs a row':>9}")
    for one in compare(ticket, kinds, repeats=repeats):
        print(
            f"{one.form:12} {one.values:9} {one.bytes:10,} {one.over_bound:8.3f} "
            f"{one.smaller:8.2f} {one.kept / one.seconds / 1e6:12.0f} "
            f"{one.rows / one.seconds / 1e6:9.2f} {one.single * 1e6:9.1f}",
            flush=True,
        )


def main() -> None:
    p = argparse.ArgumentParser(prog="python -m benchmarks.packing", description=__doc__)
    p.add_argument("--rows", type=int, default=70_000, help="of a planted table; half are users")
    p.add_argument("--size", type=int, default=64)
    p.add_argument("--densities", default="0.5,0.35,0.1,0.05")
    p.add_argument("--values", default="float16,int8", help=", ".join(VALUES))
    p.add_argument("--runs", nargs="*", default=[], help="first digits of keys of the store")
    p.add_argument("--repeats", type=int, default=5)
    args = p.parse_args()
    densities = [float(d) for d in args.densities.split(",")]
    kinds = args.values.split(",")
    store = Store()
    for prefix in args.runs:
        name, table, kept, users = of_run(store, prefix)
        if kept.all():
            for density in densities:
                show(f"{name}, pruned once", pruned(table, users, density), kinds, args.repeats)
        else:
            ticket = Ticket(kept, table * kept, users, len(table) - users)
            show(name, ticket, kinds, args.repeats)
    if not args.runs:
        table = planted(args.rows, args.size)
        ways = {"planted, by magnitude": magnitude, "planted, at random": random_score}
        for (title, scores), density in itertools.product(ways.items(), densities):
            ticket = pruned(table, args.rows // 2, density, scores)
            show(title, ticket, kinds, args.repeats)


if __name__ == "__main__":
    main()
