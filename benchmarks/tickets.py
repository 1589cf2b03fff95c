"""``python -m benchmarks.tickets``: every ticket of a recorded ladder, by its bytes and its Recall.

Each rung of the first seed is packed in every kind of values, written, loaded again and asked for
all users. Nothing in it is a time, so the machine may be busy. Tables come from the store, or are
trained again, which takes as long as the ladder did.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from benchmarks.__main__ import Run
from benchmarks.pool import say
from benchmarks.record import ROOT
from lthnb import budget, profiles, sources, standings
from lthnb.config import PROTOCOLS
from lthnb.store.runs import Store
from lthnb.training import Control


def main(words: list[str] | None = None) -> Path:
    """Pack and ask, write the record, and return its path."""
    p = argparse.ArgumentParser(prog="python -m benchmarks.tickets", description=__doc__)
    p.add_argument("--source", default="yelp2018", help="(default: yelp2018)")
    p.add_argument("--protocol", default="validated", choices=PROTOCOLS)
    p.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks")
    p.add_argument("--peers", type=Path, default=ROOT / ".bench", help="folder for work")
    args = p.parse_args(words)
    store = Store()
    contests = profiles.RECORDED[args.protocol].contests("existence", ["mf"])
    found = (field.with_masks for field in standings.recorded_fields(contests, store))
    field = next((one for one in found if one and one.published == args.source), None)
    if field is None:
        p.error(f"--source: no ladder of MF on {args.source!r} is recorded with its masks.")
    data = sources.load(args.source, protocol=args.protocol)
    settings = {"source": args.source, "backbone": "mf", "protocol": args.protocol}
    settings |= {"seed": field.seeds[0], "size": field.spec.model.embedding_size}
    run = Run(f"{args.source}-{args.protocol}-tickets", settings, args.peers.resolve(), set())
    costs = budget.costs_of_ladder(field, data, Control(store))
    for one in costs:
        say(f"{one.run[:8]} {one.density:.3f} {one.values}: {one.file} bytes, {one.metrics}")
    run.record["data"] = {"name": data.name, "digest": data.digest}
    tickets = [dataclasses.asdict(one) for one in costs]
    run.record["costs"] = {"title": field.title, "tickets": tickets}
    return run.finish(args.out)


if __name__ == "__main__":
    main()
