"""The first build's tables, cell by cell, beside a plain groupby on the recorded tables.

    python carry/compare.py FOLDER RESULTS   # FOLDER: what `carry/export.py FOLDER --tables` wrote

Nothing here comes from the package but the two tables: tags are read, keys are not.
"""

import json
import math
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from lthnb.store.results import results

METHODS = {"rp": "random", "rp_x0": "random_x0"}
TRAINING = ("protocol", "l2", "learning_rate", "batch_size", "patience", "evaluate_every")
cells = Counter()


def same(chapter, found, expected, what):
    """Count a cell; complain where it differs."""
    both_nan = isinstance(expected, float) and math.isnan(expected) and math.isnan(found)
    close = both_nan or math.isclose(found, expected, rel_tol=1e-12, abs_tol=1e-12)
    cells[chapter, "equal" if close else "DIFFERENT"] += 1
    if not close:
        print(f"{chapter}: {what}: found {found!r}, the first build had {expected!r}")


def rows_of(frame, one):
    """The rows of an old field: its method, its settings and its seeds."""
    model, training, ladder = one["spec"]["model"], one["spec"]["training"], one["ladder"]
    method = METHODS.get(ladder["method"], ladder["method"])
    wanted = {"data_digest": one["data_digest"], "method": method}
    wanted |= {"backbone": model["backbone"], "embedding_size": model["embedding_size"]}
    wanted |= {name: training[name] for name in TRAINING} | {"max_epochs": training["epochs"]}
    if method in ("imp", "omp"):
        wanted |= {"rewind": ladder["rewind"], "prune_from": ladder["prune_from"]}
    if method == "imp":
        wanted |= {"rate": ladder["pruning_rate"]}
    if ladder["rewind"] == "late":
        wanted |= {"rewind_epoch": ladder["rewind_epoch"]}
    found = frame[frame["seed"].isin(one["seeds"])]
    for name, value in wanted.items():
        found = found[found[name] == value]
    return found.assign(group=found["density"].round(3))


def difference(found, dense, column):
    """Mean of the seed-paired relative difference to dense, and its 95 % t interval."""
    pairs = found.set_index("seed")[column] / dense.set_index("seed")[column] - 1
    if len(pairs) < 2 or pairs.std() == 0:
        return pairs.mean(), None
    return pairs.mean(), stats.t.interval(0.95, len(pairs) - 1, pairs.mean(), stats.sem(pairs))


def check_field(chapter, frame, one):
    found = rows_of(frame, one)
    dense = found[found["round"] == 0]
    valid = "recall@20" if one["spec"]["training"]["protocol"] == "paper" else "valid_recall@20"
    means = found.groupby("group").mean(numeric_only=True)
    for rung in one["rungs"]:
        group = min(means.index, key=lambda d: abs(d - rung["density"]))
        here, what = found[found["group"] == group], f"{one['source']} at {group}"
        same(chapter, len(here), len(one["seeds"]), f"{what}, seeds")
        same(chapter, means.loc[group, "density"], rung["density"], f"{what}, density")
        for name, value in rung["results"].items():
            same(chapter, means.loc[group, name], value, f"{what}, {name}")
        same(chapter, means.loc[group, "best_epoch"], rung["epoch"], f"{what}, best epoch")
        if len(here) > 1:
            same(chapter, here["recall@20"].std(), rung["spread"], f"{what}, deviation")
        won = (here.set_index("seed")[valid] >= dense.set_index("seed")[valid]) & (
            here.set_index("seed")["best_epoch"] <= dense.set_index("seed")["best_epoch"]
        )
        same(chapter, int((won & (group < 1)).sum()), sum(rung["won"]), f"{what}, wins")
        for column, name in (("recall@20", "difference"), (valid, "valid")):
            mean, interval = difference(here, dense, column)
            same(chapter, mean, rung[name]["mean"], f"{what}, {name}")
            if interval is not None and rung["number"]:
                for end, value in zip(("low", "high"), interval, strict=True):
                    same(chapter, value, rung[name][end], f"{what}, {name}, {end}")


def check_tuning(chapter, setting, frame, one):
    field = one["field"]
    found = rows_of(frame, {**field, "ladder": {**field["ladder"], "method": "dense"}})
    training = field["spec"]["training"]
    wanted = {name: training[name] for name in TRAINING if name != setting}
    model = field["spec"]["model"]
    found = frame[
        (frame["method"] == "dense")
        & (frame["data_digest"] == field["data_digest"])
        & (frame["backbone"] == model["backbone"])
        & (frame["embedding_size"] == model["embedding_size"])
        & (frame["max_epochs"] == training["epochs"])
        & frame["seed"].isin(field["seeds"])
    ]
    for name, value in wanted.items():
        found = found[found[name] == value]
    by_value = found.groupby(setting)
    complete = by_value.filter(lambda rows: len(rows) == len(field["seeds"]))
    means = complete.groupby(setting)["valid_recall@20"].mean()
    same(chapter, means.idxmax(), one["chosen"], f"{field['source']}, chosen {setting}")
    for value, recalls in one["values"].items():
        rows = found[found[setting] == float(value)].sort_values("seed")
        for part, expected in (("recall@20", recalls), ("valid_recall@20", one["valid"][value])):
            for a, b in zip(rows[part], expected, strict=True):
                same(chapter, a, b, f"{field['source']}, {setting} {value}, {part}")
    own = found[found[setting] == training[setting]]
    mean, interval = difference(found[found[setting] == one["chosen"]], own, "recall@20")
    same(chapter, mean, one["gain"]["mean"], f"{field['source']}, gain")
    if interval is not None and one["chosen"] != training[setting]:
        for end, value in zip(("low", "high"), interval, strict=True):
            same(chapter, value, one["gain"][end], f"{field['source']}, gain, {end}")


def check_lcm(frame, one):
    here = frame[
        (frame["data_digest"] == one["data_digest"])
        & (frame["protocol"] == one["protocol"])
        & (frame["backbone"] == "lightgcn")
        & (frame["batch_size"] == 2048)
        & (frame["l2"] == 1e-4)
        & frame["seed"].isin(one["seeds"])
    ]
    rates = here["learning_rate"] == here[here["method"] == "imp"]["learning_rate"].iloc[0]
    near = (here["density"] / one["density"] - 1).abs() < 1e-3
    parts = {
        "dense": here[(here["method"] == "dense") & (here["embedding_size"] == one["original"])],
        "small": here[(here["method"] == "dense") & (here["embedding_size"] == one["size"])],
        "lcm": here[(here["method"] == "lcm") & near & (here["embedding_size"] == one["size"])],
        "ticket": here[
            (here["method"] == "imp")
            & (here["embedding_size"] == one["original"])
            & near
            & here["densities"].notna()
        ],
    }
    what = f"{one['source']}, {one['original']} to {one['size']}"
    chosen = {}
    for method, rows in parts.items():
        rows = rows if method == "lcm" else rows[rates.loc[rows.index]]
        chosen[method] = rows.sort_values("seed")
        for a, b in zip(chosen[method]["recall@20"], one["values"][method], strict=True):
            same("lcm", a, b, f"{what}, {method}")
    for name, expected in one["differences"].items():
        a, b = name.split(" to ")
        mean, interval = difference(chosen[a], chosen[b], "recall@20")
        same("lcm", mean, expected["mean"], f"{what}, {name}")
        for end, value in zip(("low", "high"), interval, strict=True):
            same("lcm", value, expected[end], f"{what}, {name}, {end}")


def main(source, target):
    tables = json.loads((source / "tables.json").read_text())
    frame = results(folder=target)
    for chapter, found in tables.items():
        for one in found:
            if chapter.startswith("tuning"):
                check_tuning(chapter, chapter.split()[1], frame, one)
            elif chapter == "lcm":
                if all(one["values"].values()):
                    check_lcm(frame, one)
            else:
                check_field(chapter, frame, one)
    print(pd.Series(cells).unstack(fill_value=0).to_string())
    print(f"{len(frame)} rows, {frame['key'].nunique()} runs, {frame['search'].nunique()} searches")
    assert not any(kind == "DIFFERENT" for _, kind in cells), "see above"
    assert np.isfinite(frame["recall@20"]).all()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
