"""Carry the runs of the first build over into the recorded tables, and check each number.

    python carry/import.py FOLDER RESULTS     # FOLDER: what carry/export.py wrote

Adds to RESULTS, as a part of its own, what it does not have yet. Prints a report, and ends with an
error where anything differs. Tags come from two sides, which are compared: from the graph of
prunings, and from the grid of the first build.
"""

import base64
import json
import sys
import zlib
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np

from lthnb.config import canonical, digest_text
from lthnb.lottery import derived_seed
from lthnb.metrics import Hits
from lthnb.store.adding import group_of, nest, write_manifest, write_parts
from lthnb.store.machine import PACKAGES
from lthnb.store.records import (
    Record,
    make_nested,
    make_row,
    results_digest,
    search_row,
    search_tags,
)
from lthnb.store.results import Recorded, identity

METHODS = {"rp": "random", "rp_x0": "random_x0", "small": "dense", "draw": "other_start"}
METHODS |= {"order": "other_order"}
WAYS = {"7:1:2": "random", "publi": "published"}


def unpacked(hits):
    """The hits of a record of the first build."""

    def values(name):
        raw = zlib.decompress(base64.b85decode(hits[name]))
        return np.frombuffer(raw, "<u4").astype(np.int64)

    bits = values("bits")[:, None] >> np.arange(hits["places"])[None, :]
    return Hits(np.cumsum(values("users")) - 1, (bits & 1).astype(bool), values("relevant"))


def key_text(record):
    names = ("spec", "init", "numerics")
    about = {name: record[name] for name in names}
    return canonical(about | {"data": record["data"]["digest"], "mask": record["mask"]["digest"]})


def carried(line, seed):
    """Row and nested part of a run."""
    record, results = line["record"], line["record"]["results"]
    made = record["circumstances"]
    print_ = made["fingerprint"]
    row_made = {name: made[name] for name in ("seconds", "device", "threads", "written", "commit")}
    row_made |= {"processor": print_["processor"], "cores": print_["cores"]}
    row_made |= {"system": f"{print_['system']} {print_['machine']}"}
    row_made |= {f"{p}_version": made["versions"][p] for p in ("lthnb", "python", *PACKAGES)}
    nested = make_nested(results["losses"], results["evaluations"], unpacked(results["hits"]))
    split = record["data"]["origin"]["split"]
    split["way"] = WAYS[split["how"][:5]]
    row = make_row(
        key_text(record),
        record["data"],
        record["mask"]["entries"],
        line["pruning"],
        seed,
        results,
        row_made,
        nested,
    )
    return row, nested


class Graph:
    """Where each run comes from, told by prunings and starts alone."""

    def __init__(self, lines):
        self.record = {key: line["record"] for key, line in lines.items()}
        self.pruning = {key: line["pruning"] for key, line in lines.items()}
        self.parents = {p["run"] for p in self.pruning.values() if p and "run" in p}

    def order_seed(self, key):
        return self.record[key]["spec"]["training"]["order_seed"]

    def root(self, key):
        """The dense run from which a run's mask comes; itself where it is dense."""
        while self.pruning[key] and "run" in self.pruning[key]:
            key = self.pruning[key]["run"]
        return key

    def seed(self, key):
        """The replicate."""
        init = self.record[key]["init"]
        if init["init"] == "compressed":
            return init["seed"]
        pruning = self.pruning[key]
        return self.order_seed(key if pruning and "seed" in pruning else self.root(key))

    def chain(self, key):
        """Keys from the dense run to the run from which this one's mask was pruned, at most."""
        keys = []
        while self.pruning[key] and "run" in self.pruning[key]:
            key = self.pruning[key]["run"]
            keys.append(key)
        return keys[::-1]

    def rewinds(self, key):
        """Ways in which a run may start, seen as a round of a search."""
        init, number = self.record[key]["init"], len(self.chain(key))
        dense, seed = self.root(key), self.seed(key)
        if init["init"] == "snapshot":
            last = self.pruning[key]["run"]
            found = (
                {("continue", None)} if (init["run"], init["epoch"]) == (last, "best") else set()
            )
            if init["run"] == dense and init["epoch"] != "best":
                found.add(("late", init["epoch"]))
            return found
        if init["seed"] == seed:
            return {("rewind", None)}
        if init["seed"] == derived_seed(seed, f"reinit {number}"):
            return {("reinit", None)}
        raise ValueError(f"{key}: starts from seed {init['seed']}, which no search has.")

    def tags(self, key):
        """(method, rewind, rewind_epoch, round, prune_from) of each search that has this run, as
        far as the graph can tell: what was pruned once is IMP's round 1 where a round 2 was pruned
        from it, else OMP's. (A run may be both; that the grid alone can tell.)"""
        record, pruning, seed = self.record[key], self.pruning[key], self.seed(key)
        if record["init"]["init"] == "compressed":
            return {("lcm", None, None, 1, None)}
        if pruning is None:
            return {("dense", None, None, 0, None)}
        if "seed" in pruning:
            assert pruning["seed"] == derived_seed(seed, "rp mask"), key
            own = derived_seed(seed, "rp start")
            method = {own: "random", seed: "random_x0"}[record["init"]["seed"]]
            return {(method, None, None, 1, None)}
        number, cut = len(self.chain(key)), pruning["weights"]
        if self.order_seed(key) != seed:
            assert self.order_seed(key) == derived_seed(seed, "another order"), key
            return {("other_order", "rewind", None, number, cut)}
        found = set()
        for rewind, epoch in self.rewinds(key):
            # Of the runs that this one's mask came by, all but the dense start in the same way.
            before = self.chain(key)[1:]
            if number == 1 and key not in self.parents:
                found.add(("omp", rewind, epoch, 1, cut))
            elif all((rewind, epoch) in self.rewinds(one) for one in before):
                found.add(("imp", rewind, epoch, number, cut))
            if rewind == "reinit" and (number == 1 or (before and not found)):
                found.add(("other_start", "rewind", None, number, cut))
        return found


def dense_key(row):
    """Key of the round 0 of the searches that a run may belong to."""
    if row["teacher"]:
        return row["teacher"]
    about = json.loads(row["key_text"])
    about |= {"mask": "dense", "init": {"init": "seeded", "seed": row["seed"]}}
    about["spec"]["training"]["order_seed"] = row["seed"]
    return digest_text(canonical(about))


def search_rows(path, rows):
    """Rows of the searches as the first build's grid has them, each once; and for each run the tags
    that the graph can tell, too."""
    found, of_run = {}, defaultdict(set)

    def add(row, tags, number, density):
        for n, d, key in ((0, 1.0, dense_key(row)), (number, density, row["key"])):
            line = search_row(tags, dense_key(row), n, d, key)
            found[line["search"], line["round"], line["density"]] = line
            assert line["key"] == key

    for key, row in rows.items():
        if row["mask_digest"] == "dense" and not row["teacher"]:
            add(row, search_tags("dense", row["seed"]), 0, 1.0)
            of_run[key].add(("dense", None, None, 0, None))
    for text in path.open():
        one = json.loads(text)
        method, row = METHODS.get(one["method"], one["method"]), rows[one["key"]]
        if method == "dense" or (one["round"] == 0):
            assert row["mask_digest"] == "dense", row["key"]
            continue  # above, and with its tickets
        names = ("rewind", "rewind_epoch", "criterion", "prune_from", "scope", "densities")
        settings = {name: one[name] for name in names} | {"rate": one["pruning_rate"]}
        tags = search_tags(method, one["seed"], **settings)
        assert row["seed"] == one["seed"], row["key"]
        density = one["density"] if method == "lcm" else row["density"]
        assert abs(density / one["density"] - 1) < 1e-3, row["key"]
        add(row, tags, one["round"], density)
        number = 1 if method in ("omp", "random", "random_x0", "lcm") else one["round"]
        told = tuple(tags[name] for name in ("rewind", "rewind_epoch"))
        of_run[row["key"]].add((method, *told, number, tags["prune_from"]))
    return list(found.values()), of_run


def compare(graph, of_run):
    """Every difference between what the graph of prunings tells and what the grid says."""
    kinds = defaultdict(list)
    for key in graph.record:
        told, said = graph.tags(key), of_run[key]
        if not said:
            kinds["in no search of the grid"].append(key)
        for extra in said - told:
            kinds[f"the grid alone: {extra[0]}, {extra[1]}"].append(key)
        for extra in told - said:
            also = sorted({f"{one[0]}, {one[1]}" for one in said})
            kinds[f"the graph alone: {extra[0]}, {extra[1]}; both: {'; '.join(also)}"].append(key)
        if told == said:
            kinds["equal"].append(key)
    return kinds


def equal_records(lines, recorded):
    """How many runs, read back from the tables, equal their records in every number."""
    equal = 0
    for key, line in lines.items():
        there, old = recorded.find(key), line["record"]
        results, hits = old["results"], unpacked(old["results"]["hits"])
        now, found = there.results, there.hits()
        assert all(now[name] == results[name] for name in now), key
        for name in ("users", "hits", "relevant"):
            assert np.array_equal(getattr(found, name), getattr(hits, name)), (key, name)
        for name in ("spec", "init", "data"):
            assert getattr(there, name) == old[name], (key, name)
        assert there.row["mask_digest"] == old["mask"]["digest"], key
        for name in ("seconds", "device", "threads", "commit", "written"):
            assert there.row[name] == old["circumstances"][name], (key, name)
        assert there.pruning == line["pruning"], key
        assert there.results_digest == results_digest(there.row, there.nested), key
        equal += 1
    return equal


def main(source: Path, target: Path) -> None:
    lines = {}
    for text in (source / "runs.jsonl").open():
        line = json.loads(text)
        lines[line["record"]["key"]] = line
    graph = Graph(lines)
    rows, nested = {}, {}
    for key, line in lines.items():
        row, nested[key] = carried(line, graph.seed(key))
        assert row["key"] == key, f"{key}: its key is {row['key']} now"
        rows[key] = row
    print(f"keys: {len(rows)} of {len(lines)} recomputed from the row equal themselves")

    searches, of_run = search_rows(source / "grid.jsonl", rows)
    print("tags, from the graph of prunings and from the grid of the first build:")
    for kind, keys in sorted(compare(graph, of_run).items()):
        print(f"  {len(keys):5} {kind}, such as {keys[0][:8]}")

    there = Recorded(target)
    new = {key: row for key, row in rows.items() if key not in there.places}
    groups, shapes = defaultdict(dict), {row["mask_digest"]: row for row in new.values()}
    with np.load(source / "masks.npz") as bits:
        for digest in sorted(set(bits.files) & set(shapes)):
            row = shapes[digest]
            if there.places and row["seed"] > 0:
                continue  # of what is added later, masks of the first seed alone are kept
            size, count = row["embedding_size"], row["users"] + row["items"]
            kept = np.unpackbits(bits[digest], count=count * size).reshape(count, size)
            about = json.loads(row["pruning"])
            # Masks of one search lie within each other.
            kind = "one shot" if about["mask"] == "dense" else "nested"
            groups[dense_key(row), row["start_from"] is None, kind][digest] = kept.astype(bool)
    more = [row for row in searches if identity(row) not in there.identities]
    print(f"added: {len(new)} runs, {len(more)} rows of searches")
    if new or more:
        records = {key: Record(row, partial(nested.get, key)) for key, row in new.items()}
        chains = [
            (group_of(shapes[next(iter(one))]), chain)
            for one in groups.values()
            for chain in nest(one)
        ]
        write_manifest(target, there.sums, write_parts(target, records, more, chains))

    recorded = Recorded(target)
    equal = equal_records(lines, recorded)
    print(f"runs: {equal} of {len(lines)} read back equal their records in every number and hit")
    same = 0
    for masks in groups.values():
        for digest, kept in masks.items():
            assert np.array_equal(recorded.mask(digest), kept), digest
            same += 1
    print(f"masks: {same} read back equal those that were kept, bit for bit")
    print(f"searches: {len({r['search'] for r in searches})}, {len(searches)} rows")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
