"""Records of benchmarks: their layout, their arithmetic, and a loader that refuses what is none.

A record is one JSON file. Times are wall seconds, sizes are bytes, `…` stands for more of the same:

    format    1
    name      what the file is called
    date      when the run began, UTC          commit   of this project, with + if changed since
    settings  source, options, size (of the embedding), layers, batch (triplets), threads, repeats,
              batches (in one repeat of a step), trained (epochs before a ranking), step (ours), …
    machine   processor, cores, memory, caches, system, load_before and load_after (1, 5, 15 min)
    data      name, digest, users, items, train, test
    who       NAME: {repository, commit, versions: {package: version}, shims: [sentence, …]}; for
              "ours", repository and commit are null: it is this project at `commit`
    absent    [{row, who, reason}, …]: peers that were wanted and not measured
    rows      ROW: {title, unit, who: NAME: {measures, spread, facts},
              ratios: PEER: MEASURE: spread}
    scaling   null, or [{backbone, over, points: [{at, measures, spread, facts}, …],
              slopes: MEASURE: spread}, …]
    agreement absent, or {trainings: [{method, prunings, run, density, epochs: [{WHO: {loss,
              recall@20, ndcg@20, …}, apart, rounding, typical}, …]}, …], prunings: [{method,
              prunings, run, before, density, percent, as recorded, kept: {WHO: entries}, only:
              {WHO: entries}}, …]}
    costs     absent, or {title, tickets: [{run, values, forms, density, file, resident, metrics:
              {PART: {recall@20, …}}}, …]}
    checksum  SHA-256 over all the rest as canonical JSON

- `measures` is MEASURE: [one number a repeat, …], raw, in the order of the repeats; `spread` is
  MEASURE: {min, q1, median, q3, max} of them.
- `facts` is what a worker says of itself: recall@20 and ndcg@20 of a ranking, the sampler, ….
- Repeats are interleaved, so a ratio is taken repeat by repeat: `ratios` is the spread of
  (peer's repeat k) / (our repeat k), and above 1 where ours needs less.
- `slopes` are those of log(measure) against log(at), fitted in each repeat by least squares; 1 is
  linear growth.
- Rows of memory are called "memory ROW"; their measures are `peak` and `children` (the largest
  child process, 0 where there was none).
- `agreement` is what `python -m benchmarks.agreement` found: recorded runs, trained again by ours
  and by the authors' code from one start, under one mask, on the same triplets. `run` is the key
  of the record, `prunings` how often the ladder's rate leads to its density. After each epoch: of
  ours, of `reference` (our plain step) and of LTH-MRS, the mean loss, and Recall and NDCG on test;
  of LTH-MRS also `bpr` and `l2 of pruned`, parts of its loss, the latter over entries that the
  mask hides. `apart` compares LTH-MRS with ours, and `rounding` the plain step, which computes the
  same and rounds otherwise: `largest` and `mean` absolute difference of kept entries, `users`
  whose top 20 hit otherwise, and the `tied` ones of these, who have equal scores there. `typical`
  is the mean magnitude of a kept entry.
- For its `prunings` both prune the weights of `run` at its best epoch, of which `before` entries
  live and LTH-MRS is told to prune `percent` (a share): `kept` counts what each keeps, `only` what
  it alone keeps, and `as recorded` says whether our mask is the recorded one, bit by bit.
- `costs` is what `python -m benchmarks.tickets` found (:class:`lthnb.budget.Cost`): every ticket
  of a recorded ladder, packed in each kind of values, loaded again and asked for all users.

The package only reads them; `benchmarks/` measures and writes.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lthnb.config import nearest
from lthnb.store.files import results_folder

FORMAT = 1
QUANTILES = ("min", "q1", "median", "q3", "max")


class RecordError(ValueError):
    """A file that is no benchmark record, or a damaged one: names it and what is wrong."""


def spread(values: list[float]) -> dict[str, float]:
    """Minimum, quartiles (interpolated) and maximum of at least one number."""
    if len(values) == 1:
        return dict.fromkeys(QUANTILES, short(values[0]))
    quartiles = statistics.quantiles(values, n=4, method="inclusive")
    found = (min(values), *quartiles, max(values))
    return {name: short(value) for name, value in zip(QUANTILES, found, strict=True)}


def spreads(measures: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """The spread of each measure."""
    return {name: spread(values) for name, values in measures.items()}


def ratios(peer: dict[str, list[float]], ours: dict[str, list[float]]) -> dict[str, Any]:
    """Peer / ours, paired by repeat: a spread for each measure that both have, above 0."""
    return {
        name: spread([p / o for p, o in zip(peer[name], ours[name], strict=True)])
        for name in peer
        if name in ours and min(*peer[name], *ours[name]) > 0
    }


def slope(at: list[float], values: list[float]) -> float:
    """Of log(values) against log(at), by least squares; two points at least, all above 0."""
    return statistics.linear_regression(
        [math.log(x) for x in at], [math.log(v) for v in values]
    ).slope


def slopes(points: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The spread over the repeats of each measure's slope against `at`."""
    at = [point["at"] for point in points]
    return {
        name: spread(
            [slope(at, v) for v in zip(*(p["measures"][name] for p in points), strict=True)]
        )
        for name in points[0]["measures"]
    }


def short(value: float) -> float:
    """Five significant digits: more would be noise, and the record is committed."""
    return float(f"{value:.5g}")


def canonical_text(record: dict[str, Any]) -> str:
    return json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)


def checksum(record: dict[str, Any]) -> str:
    """SHA-256, in hex, over all of a record but its checksum."""
    rest = {name: value for name, value in record.items() if name != "checksum"}
    return hashlib.sha256(canonical_text(rest).encode()).hexdigest()


def load(path: Path | str) -> dict[str, Any]:
    """A record, checked: plain data in the layout above. Raises RecordError."""
    path = Path(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecordError(f"{path.name}: cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise RecordError(f"{path.name}: not JSON ({error}); it is torn or altered.") from error
    check(record, path.name)
    return record


def recorded(names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The records of benchmarks that come with the project, in `results/benchmarks`, by name.

    names: those wanted; none for all. Raises RecordError for a damaged one, and for one that is not
    there, with the nearest name.
    """
    there = {path.stem: path for path in sorted((results_folder() / "benchmarks").glob("*.json"))}
    for name in names:
        if name not in there:
            raise RecordError(
                f"benchmark record {name!r}: not in results/benchmarks, which has "
                f"{', '.join(there) or 'none'}." + nearest(name, there)
            )
    return [load(there[name]) for name in names or there]


COST = {"run", "values", "forms", "density", "file", "resident", "metrics"}
PARTS = {
    **dict.fromkeys(("name", "date", "checksum"), str),
    **dict.fromkeys(("settings", "machine", "data", "who", "rows"), dict),
    "absent": list,
}


PLACE = {"method", "prunings", "run", "density"}
AGREEMENT = {
    "trainings": PLACE | {"epochs"},
    "prunings": PLACE | {"before", "percent", "as recorded", "kept", "only"},
}


def check(record: Any, name: str) -> None:
    """Refuse, as `name`, what is not a whole record."""

    def require(fine: bool, what: str) -> None:
        if not fine:
            raise RecordError(f"{name}: {what}.")

    require(isinstance(record, dict) and "format" in record, "not a benchmark record")
    found = record["format"]
    require(found == FORMAT, f"written in format {found!r}, this version reads {FORMAT}")
    for part, kind in PARTS.items():
        require(isinstance(record.get(part), kind), f"{part!r} is missing or no {kind.__name__}")
    require({"scaling", "commit"} <= set(record), "'scaling' or 'commit' is missing")
    require(record["checksum"] == checksum(record), "its checksum does not fit; it was altered")

    def require_measures(entry: Any, where: str) -> None:
        whole = isinstance(entry, dict) and {"measures", "spread", "facts"} <= set(entry)
        require(whole, f"{where} lacks measures, spread or facts")
        lengths = {len(values) for values in entry["measures"].values()}
        require(len(lengths) == 1 and lengths != {0}, f"{where} has repeats of differing number")
        require(entry["spread"] == spreads(entry["measures"]), f"{where}: a spread does not fit")

    for title, row in record["rows"].items():
        require({"title", "unit", "who", "ratios"} <= set(row), f"row {title!r} is not whole")
        for who, entry in row["who"].items():
            require_measures(entry, f"row {title!r}, {who!r}")
            require(who in record["who"], f"row {title!r}: {who!r} is not described in 'who'")
    for sweep in record["scaling"] or []:
        where = f"scaling over {sweep.get('over')!r}"
        require({"backbone", "over", "points", "slopes"} <= set(sweep), f"{where} is not whole")
        for point in sweep["points"]:
            require_measures(point, where)
    costs = record.get("costs", {"title": "", "tickets": []})
    whole = isinstance(costs, dict) and {"title", "tickets"} == set(costs)
    require(whole, "'costs' lacks its title or tickets")
    for entry in costs["tickets"]:
        require(set(entry) == COST, f"costs, run {str(entry.get('run'))[:8]!r} is not whole")
    agreement = record.get("agreement", {part: [] for part in AGREEMENT})
    for part, names in AGREEMENT.items():
        for entry in agreement[part]:
            where = f"agreement, {part}, {entry.get('method')!r} after {entry.get('prunings')!r}"
            require(names <= set(entry), f"{where} is not whole")
            if part == "trainings":
                fits = len(entry["epochs"]) == record["settings"]["epochs"]
                require(fits, f"{where}: its epochs are not as many as the settings say")
            else:
                both = {entry["kept"][who] - entry["only"][who] for who in entry["kept"]}
                require(len(both) == 1, f"{where}: its counts do not fit")
