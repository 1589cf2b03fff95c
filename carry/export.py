"""Write all runs of the first build as neutral files, for `carry/import.py`.

To be run in a worktree of commit 50bae00a, whose package it uses:

    git worktree add ../old 50bae00a && cd ../old
    python /path/to/carry/export.py FOLDER            # what lies in results/ and in the store
    python /path/to/carry/export.py FOLDER --tables   # and the old chapters' tables, to compare

FOLDER gets `runs.jsonl` (a record and the pruning of its mask in each line), `masks.npz` (the bits
of the masks that are kept, packed, by digest), `grid.jsonl` (which search of the old grid each run
belongs to), and with ``--tables`` `tables.json`.
"""

import itertools
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from lthnb import compression, draws, profiles, standings, tuning, wanted
from lthnb.config import DENSE
from lthnb.lottery import plan
from lthnb.store import Store

BACKBONES = ("mf", "lightgcn")


def prunings(store):
    """What is told of each pruning, by the digest of its mask; the bits where they are kept."""
    found, bits = {}, {}
    for base in store._places():
        for path in sorted((base / "masks").glob("*")):
            if path.suffix or path.name.startswith("."):
                continue
            about = store._read(base, "masks", path.name)
            found[about["digest"]] = about
            # Random masks are drawn again from their seed.
            if about["criterion"] != "random" and (path.parent / f"{path.name}.bits").is_file():
                kept = store._read(base, "masks", f"{path.name}.bits")
                bits[about["digest"]] = np.packbits(kept)
    return found, bits


def contests():
    """Every ladder of the old grid, with what it is for."""
    for setting in profiles.RECORDED.values():
        for chapter in profiles.CONTESTS:
            for pair in setting.contests(chapter, BACKBONES):
                yield chapter, pair
    for name in ("l2", "learning_rate"):
        for pair in profiles.recorded_tried(name, BACKBONES):
            yield name, pair
    for pair in profiles.recorded_tuned(BACKBONES):
        yield "tuned", pair
    for ladder, spec, _ in profiles.isolating("mf").values():
        yield "causes", (ladder, spec)
    for match in profiles.recorded_matches():
        yield "lcm", (match.ladder, match.dense)
    for one in wanted.wanted():
        yield one.what_for, (one.ladder, one.spec)


def row(what_for, shape, ladder, seed, number, density, key, method=""):
    names = ("method", "pruning_rate", "densities", "scope", "rewind", "rewind_epoch", "criterion")
    about = {name: getattr(ladder, name) for name in (*names, "prune_from")}
    about |= {"method": method} if method else {}
    where = {"for": what_for, "source": shape.name, "seed": seed}
    return where | about | {"round": number, "density": density, "key": key}


def grid(store, records):
    """One row for each recorded run of each search of the old grid."""
    shapes, seeds = standings.shapes_in(records), standings.seeds_in(records)
    for (what_for, pair), shape in itertools.product(dict.fromkeys(contests()), shapes):
        for seed in seeds:
            ladder, spec = standings.seeded(pair[0], pair[1].with_training(step="cpu"), seed)
            alone = replace(ladder, rungs=0, densities=())
            if plan(alone, spec, shape, store)[0].record is None:
                continue
            for rung in plan(ladder, spec, shape, store):
                if rung.record is not None:
                    key = rung.record.key
                    yield row(what_for, shape, ladder, seed, rung.number, rung.density, key)
    control = compression.Control(store)
    for match, shape in itertools.product(profiles.recorded_matches(), shapes):
        for one in compression.compressions_of([match], shape, seeds, control, train_missing=False):
            for method, runs in one.runs.items():
                for seed, record in zip(one.seeds, runs, strict=True):
                    if method in ("lcm", "small") and record is not None:
                        share = one.entries(method) / one.entries("dense")
                        yield row("lcm", shape, match.ladder, seed, 1, share, record.key, method)
    for one in wanted.wanted_again():
        shape = next(s for s in shapes if s.name == one.source)
        for seed in one.seeds:
            ladder, spec = standings.seeded(one.ladder, one.spec, seed)
            rungs = plan(ladder, spec, shape, store)
            for number in one.numbers:
                found = draws.again(ladder, spec, rungs[number], store)
                for change, record in zip(draws.CHANGES, found, strict=True):
                    if record is not None:
                        density = rungs[number].density
                        yield row("draws", shape, ladder, seed, number, density, record.key, change)


def interval(d):
    return None if d is None else {"mean": d.mean, "low": d.low, "high": d.high, "kind": d.kind}


def field_table(one):
    """What a chapter shows of one ladder over its seeds."""
    digest = one.rungs[0][0].record.data["digest"]
    about = {"source": one.source, "data_digest": digest, "seeds": one.seeds}
    about |= {"ladder": asdict(one.ladder), "spec": one.spec.described(), "rungs": []}
    for s in one.standings:
        if s is not None:
            more = {"difference": interval(s.difference), "valid": interval(s.difference_valid)}
            names = ("number", "density", "results", "spread", "won", "epoch", "keys")
            about["rungs"].append({name: getattr(s, name) for name in names} | more)
    return about


def tables(store):
    """The old tables of five chapters, cell by cell."""
    out = {}
    for chapter in ("existence", "baselines", "rewinds", "sizes", "rates"):
        found = profiles.recorded_contests(chapter, BACKBONES)
        fields = standings.recorded_fields(found, store)
        out[chapter] = [field_table(one) for one in fields]
    ladders = standings.recorded_fields(profiles.recorded_contests("existence", BACKBONES), store)
    for name in ("l2", "learning_rate"):
        dense = standings.recorded_fields(
            profiles.recorded_tried(name, BACKBONES), store, dense_alone=True
        )
        out[f"tuning {name}"] = [
            {
                "field": field_table(one.field),
                "values": {repr(v): list(one.recall(v)) for v in one.runs},
                "valid": {repr(v): list(one.recall(v, "valid")) for v in one.runs},
                "chosen": one.chosen,
                "gain": interval(one.gain),
                "lead": interval(one.lead),
            }
            for one in tuning.tunings(name, ladders, dense)
        ]
    out["lcm"] = [
        {
            "source": one.data.name,
            "data_digest": one.data.digest,
            "protocol": one.spec.training.protocol,
            "original": one.original_size,
            "size": one.size,
            "density": one.density,
            "seeds": one.seeds,
            "kept": one.kept,
            "values": {
                m: None if one.values(m) is None else list(one.values(m))
                for m in compression.METHODS
            },
            "differences": {
                f"{a} to {b}": interval(one.difference(a, b)) for a, b in compression.PAIRS
            },
        }
        for one in compression.recorded(profiles.recorded_matches(), store)
    ]
    return out


def main(folder: Path, with_tables: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    store = Store()
    records = [record for key in store.run_keys() if (record := store.find(key))]
    about, bits = prunings(store)
    with (folder / "runs.jsonl").open("w") as file:
        for record in records:
            masked = record.mask["digest"] != DENSE
            line = {"record": asdict(record)}
            line |= {"pruning": about[record.mask["digest"]] if masked else None}
            file.write(json.dumps(line) + "\n")
    np.savez_compressed(folder / "masks.npz", **bits)
    with (folder / "grid.jsonl").open("w") as file:
        for line in grid(store, records):
            file.write(json.dumps(line) + "\n")
    if with_tables:
        (folder / "tables.json").write_text(json.dumps(tables(store)))
    print(f"{len(records)} runs, {len(about)} prunings, bits of {len(bits)} masks")


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--tables" in sys.argv[2:])
