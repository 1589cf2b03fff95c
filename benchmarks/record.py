"""The layout of a benchmark record, its arithmetic, and writing it; :mod:`lthnb.measured` reads it.

A record is one JSON file. Times are wall seconds, sizes are bytes, `…` stands for more of the same:

    format    1
    name      what the file is called
    date      when the run began, UTC          commit   of this project, with + if changed since
    settings  of the run: see plan.yaml; threads
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
              {PART: {recall@20, …}}}, …]}: tickets packed, loaded and asked (of the first build)
    checksum  SHA-256 over all the rest as canonical JSON

- `measures` is MEASURE: [one number a repeat, …], `spread` its {min, q1, median, q3, max}; `facts`
  is what a worker says of itself.
- Repeats are interleaved: ratios are (peer's repeat k) / (ours), above 1 where ours needs less;
  slopes are of log(measure) against log(at), fitted in each repeat.
- `agreement`, of `python -m benchmarks.agreement`: recorded runs, trained again by ours and by the
  authors' code from one start, under one mask, on the same triplets. After each epoch, of ours, of
  `reference` (our plain step) and of LTH-MRS: loss, Recall and NDCG on test; of LTH-MRS also `bpr`
  and `l2 of pruned`, parts of its loss. `apart` compares LTH-MRS with ours, `rounding` the plain
  step: `largest` and `mean` absolute difference of kept entries, `users` whose top 20 hit
  otherwise, the `tied` of these. `typical` is the mean magnitude of a kept entry. For `prunings`
  both prune `percent` of the `before` entries of `run`: `kept` counts, and `only` what one keeps.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.plan import ROOT
from lthnb.measured import RecordError, checksum
from lthnb.store.files import write_file
from lthnb.store.machine import processor

FORMAT = 1
QUANTILES = ("min", "q1", "median", "q3", "max")


def short(value: float) -> float:
    """Five significant digits: more would be noise, and the record is committed."""
    return float(f"{value:.5g}")


def spread(values: Sequence[float]) -> dict[str, float]:
    """Minimum, quartiles (interpolated) and maximum of at least one number."""
    found = np.quantile(np.asarray(values, float), (0, 0.25, 0.5, 0.75, 1))
    return {name: short(value) for name, value in zip(QUANTILES, found, strict=True)}


def ratios(peer: dict[str, list[float]], ours: dict[str, list[float]]) -> dict[str, Any]:
    """Peer / ours, paired by repeat: a spread for each measure that both have, above 0."""
    return {
        name: spread([p / o for p, o in zip(peer[name], ours[name], strict=True)])
        for name in peer
        if name in ours and min(*peer[name], *ours[name]) > 0
    }


def slopes(points: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The spread over the repeats of each measure's slope: of log(measure) against log(at), by
    least squares over two points at least."""
    at = np.log([point["at"] for point in points])
    found = {}
    for name in points[0]["measures"]:
        values = np.log([point["measures"][name] for point in points])  # points × repeats
        found[name] = spread(np.polyfit(at, values, 1)[0])
    return found


def write(path: Path, record: dict[str, Any]) -> None:
    """Seal and write a record, all or nothing. Raises RecordError for one that names a path of this
    machine or its host."""
    record = json.loads(json.dumps({**record, "checksum": checksum(record)}, allow_nan=False))
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    # One number a line would be most of the file.
    for inner in (r"\[[^\[\]{}\"]*\]", r"\{[^\[\]{}]*\}"):
        text = re.sub(inner, lambda m: re.sub(r"\n\s*", " ", m[0]), text)
    for told in (str(ROOT), str(Path.home()) + os.sep, f'"{platform.node()}"'):
        if told in text:
            raise RecordError(f"{path.name}: would tell {told}, which is this machine's alone.")
    write_file(path, text.encode())


def machine() -> dict[str, Any]:
    """What kind of machine this is; nothing that names it. Linux tells most."""
    caches = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"))
    names = ("level", "type", "size")
    told = [[(folder / name).read_text().strip() for name in names] for folder in caches]
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "caches": [f"L{level} {kind} {size}" for level, kind, size in told],
        "system": platform.system(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
    }


def load_average() -> list[float]:
    """Processes that wanted to run in the last 1, 5 and 15 minutes: how busy the machine was."""
    return [short(value) for value in os.getloadavg()]


def without_paths(text: str) -> str:
    """A message whose absolute paths have lost all but their last part."""
    return re.sub(r"(?:/[^/\s'\":,()]+)+/([^/\s'\":,()]+)", r"…/\1", text)
