"""Records of benchmarks: their layout, their arithmetic, a loader that refuses what is none, and
tables of what they hold.

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
              {PART: {recall@20, …}}}, …]}: tickets packed, loaded and asked
    checksum  SHA-256 over all the rest as canonical JSON

- `measures` is MEASURE: [one number a repeat, …], `spread` its {min, q1, median, q3, max}; `facts`
  is what a worker says of itself. "memory ROW" has `peak` and `children` (the largest child's).
- Repeats are interleaved: ratios are (peer's repeat k) / (ours), above 1 where ours needs less;
  slopes are of log(measure) against log(at), fitted in each repeat.
- `agreement`, of `python -m benchmarks.agreement`: recorded runs, trained again by ours and by the
  authors' code from one start, under one mask, on the same triplets. After each epoch, of ours, of
  `reference` (our plain step) and of LTH-MRS: loss, Recall and NDCG on test; of LTH-MRS also `bpr`
  and `l2 of pruned`, parts of its loss. `apart` compares LTH-MRS with ours, `rounding` the plain
  step: `largest` and `mean` absolute difference of kept entries, `users` whose top 20 hit
  otherwise, the `tied` of these. `typical` is the mean magnitude of a kept entry. For `prunings`
  both prune `percent` of the `before` entries of `run`: `kept` counts, and `only` what one keeps.

The package only reads them; `benchmarks/` measures and writes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lthnb.config import nearest
from lthnb.store.files import results_folder

FORMAT = 1
QUANTILES = ("min", "q1", "median", "q3", "max")


class RecordError(ValueError):
    """A file that is no benchmark record, or a damaged one: names it and what is wrong."""


def spread(values: Sequence[float]) -> dict[str, float]:
    """Minimum, quartiles (interpolated) and maximum of at least one number."""
    found = np.quantile(np.asarray(values, float), (0, 0.25, 0.5, 0.75, 1))
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


def slope(at: Sequence[float], values: Sequence[float]) -> float:
    """Of log(values) against log(at), by least squares; two points at least, all above 0."""
    return float(np.polyfit(np.log(at), np.log(values), 1)[0])


def slopes(points: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The spread over the repeats of each measure's slope against `at`."""
    at, names = [point["at"] for point in points], points[0]["measures"]
    repeats = {name: zip(*(p["measures"][name] for p in points), strict=True) for name in names}
    return {name: spread([slope(at, v) for v in of]) for name, of in repeats.items()}


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


def frame(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """What was measured, a line a repeat: `record`, `row`, `title`, `unit`, `who`, `measure`, `at`,
    `repeat`, `value`, and `ratio`, the value over ours of the same repeat (nan where either is 0,
    or ours was not measured).

    Facts that are numbers are measures too, of one repeat. Rows "scaling BACKBONE SETTING" are the
    sweeps, and `at` is the setting's value; it is nan elsewhere.
    """
    names = ["record", "row", "title", "unit", "who", "measure", "at", "repeat", "value"]
    lines = [
        (*about, measure, at, repeat, value)
        for record in records
        for *about, at, entry in _measured(record)
        for measure, values in (entry["facts"] | entry["measures"]).items()
        for repeat, value in enumerate(values if isinstance(values, list) else [values])
        if isinstance(value, int | float)
    ]
    table = pd.DataFrame(lines, columns=names)
    same = ["record", "row", "measure", "at", "repeat"]
    ours = table[table["who"] == "ours"].set_index(same)["value"].rename("ours")
    beside = table.join(ours, on=same)["ours"]
    return table.assign(ratio=(table["value"] / beside).where((table["value"] > 0) & (beside > 0)))


def _measured(record: dict[str, Any]) -> Iterator[tuple]:
    """Record, row, title, unit, who, at and entry of what was measured, rows and sweeps."""
    for name, row in record["rows"].items():
        for who, entry in row["who"].items():
            yield record["name"], name, row["title"], row["unit"], who, np.nan, entry
    for sweep in record["scaling"] or ():
        name = f"scaling {sweep['backbone']} {sweep['over']}"
        for point in sweep["points"]:
            yield record["name"], name, "", "seconds a batch", "ours", point["at"], point


def costs(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """`costs`, one line a file: `record`, `title`, `run` (key), `values` (their type), `forms` of
    the supports, `density`, `file` and `resident` (bytes), and Recall@20 of what is served, named
    as in :func:`lthnb.results`."""
    lines = [
        {**one, "record": record["name"], "title": record["costs"]["title"]}
        | {"forms": " / ".join(dict.fromkeys(one["forms"]))}
        | {"valid_recall@20": one["metrics"].get("valid", {}).get("recall@20")}
        | {"recall@20": one["metrics"]["test"]["recall@20"]}
        for record in records
        if "costs" in record
        for one in record["costs"]["tickets"]
    ]
    names = ["record", "title", "run", "values", "density", "file", "resident", "forms"]
    return pd.DataFrame(lines, columns=[*names, "valid_recall@20", "recall@20"])


def check(record: Any, name: str) -> None:
    """Refuse, as `name`, what is no record, of another format, or altered. Raises RecordError."""
    if not isinstance(record, dict) or "format" not in record:
        raise RecordError(f"{name}: not a benchmark record.")
    if record["format"] != FORMAT:
        raise RecordError(
            f"{name}: written in format {record['format']!r}, this version reads {FORMAT}."
        )
    if record.get("checksum") != checksum(record):
        raise RecordError(f"{name}: its checksum does not fit; it was altered.")
