"""What each chapter compares, as a table: :func:`table` gives its rows, :func:`missing` what is not
recorded of them.

`grid.yaml` is the one place that says what belongs to a chapter, and so what is to be recorded.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from lthnb.config import ConfigError, nearest
from lthnb.store.records import ONE_SHOT
from lthnb.store.results import results

GRID = Path(__file__).with_name("grid.yaml")
SETTINGS = ["protocol", "embedding_size", "l2", "learning_rate", "batch_size", "max_epochs"]
SETTINGS += ["patience", "evaluate_every"]
TAGS = ["method", "rate", "rewind", "rewind_epoch", "prune_from", "by_density"]
USUAL = {"rewind": "rewind", "prune_from": "best", "rate": None, "rewind_epoch": None}
PRUNES = ("imp", "omp", "other_start", "other_order")  # methods that read weights
DENSE_MATCH = ["dataset", "backbone", *SETTINGS, "seed"]
MATCH = [*DENSE_MATCH, *TAGS, "place"]
NOTHING = "–"  # a tag that a method does not read, where rows are matched; of numbers it is −1


def chapters() -> list[str]:
    """The chapters of the grid."""
    return list(_grid()["chapters"])


def table(chapter: str, *, live: bool = False, **where: Any) -> pd.DataFrame:
    """The rows of a chapter's searches, as :func:`results` has them: those of the grid, and no
    others. `frame.attrs["missing"]` is how many of the grid's are not recorded.

    where: values of columns, such as ``dataset="lastfm"``; a list means one of these. live: with
    one's own runs. Raises ConfigError for a chapter or a column that there is not.
    """
    rows, wanted = _beside(chapter, live, where)
    rows = rows.reset_index(drop=True)
    rows.attrs["missing"] = int(wanted["to_train"].sum())
    return rows


def missing(chapter: str, *, live: bool = False, **where: Any) -> pd.DataFrame:
    """What the grid wants of a chapter and is not recorded, a row a training: its settings, seed,
    round and density. Arguments as of :func:`table`."""
    _, wanted = _beside(chapter, live, where)
    shown = ["dataset", "backbone", *SETTINGS, *TAGS[:-1], "seed", "round", "density"]
    found = wanted.loc[wanted["to_train"], shown].reset_index(drop=True)
    return found.replace({NOTHING: None, -1.0: np.nan})


def tuned_l2(frame: pd.DataFrame, line: dict[str, Any]) -> float:
    """The λ whose dense model has the best mean Recall@20 on the validation set, for the data,
    backbone and settings of a line; among the values that were run with the most seeds. nan where
    none was run."""
    names = ["dataset", "backbone", *(s for s in SETTINGS if s != "l2")]
    dense = frame[frame["method"] == "dense"]
    for name in names:
        dense = dense[dense[name] == line[name]]
    by_value = dense.groupby("l2")["valid_recall@20"].agg(["mean", "count"])
    most = by_value[by_value["count"] == by_value["count"].max()]
    return float(most["mean"].idxmax()) if len(most) else float("nan")


def _grid() -> dict[str, Any]:
    return yaml.safe_load(GRID.read_text(encoding="utf-8"))


def _beside(chapter: str, live: bool, where: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The recorded rows of a chapter; and the grid's, where `to_train` says which have no run."""
    grid = _grid()
    if chapter not in grid["chapters"]:
        known = list(grid["chapters"])
        raise ConfigError(
            f"chapter: found {chapter!r}, expected one of {', '.join(known)}."
            + nearest(chapter, known)
        )
    frame = results(live=live)
    wanted_rows = [row for line in grid["chapters"][chapter] for row in _rows(grid, line, frame)]
    wanted = pd.DataFrame(wanted_rows).drop_duplicates(MATCH)
    for name, value in where.items():
        if name not in wanted.columns and name not in frame.columns:
            raise ConfigError(
                f"table: found the column {name!r}, expected one of {', '.join(frame.columns)}."
                + nearest(name, frame.columns)
            )
        if name in wanted.columns:
            values = value if isinstance(value, list | tuple | set) else [value]
            wanted = wanted[wanted[name].isin(values)]
    placed = _placed(frame)
    beside = wanted[[*MATCH, "round", "density"]].merge(
        placed[[*MATCH, "key", "search"]], on=MATCH, how="left", validate="one_to_one"
    )
    dense = placed[placed["method"] == "dense"][DENSE_MATCH].drop_duplicates()
    free = beside[DENSE_MATCH].merge(dense, how="left", indicator=True)["_merge"] == "both"
    beside["to_train"] = beside["key"].isna() & ~(free & (beside["round"] == 0).to_numpy())
    rows = frame.merge(beside[["search", "key", "round"]].dropna(), on=["search", "key", "round"])
    return rows.sort_values(["search", "round", "density"]), beside


def _rows(grid: dict[str, Any], line: dict[str, Any], frame: pd.DataFrame) -> list[dict[str, Any]]:
    """One row for each run that a line of the grid wants."""
    line = {**grid["settings"][line["settings"]], **USUAL, **line}
    plural = [n for n, v in line.items() if isinstance(v, list) and n not in ("seeds", *ROUNDS)]
    rows = []
    for values in itertools.product(*(line[name] for name in plural)):
        one = line | dict(zip(plural, values, strict=True))
        if one["l2"] == "tuned":
            one["l2"] = tuned_l2(frame, one)
        for seed, (number, density) in itertools.product(one["seeds"], _places(one)):
            rows.append(_identity({**one, "seed": seed, "round": number, "density": density}))
    return rows


ROUNDS = ("rounds", "densities")


def _places(line: dict[str, Any]) -> list[tuple[int, float]]:
    """Round and density of each run of a search, the dense model first."""
    densities = line.get("densities") or []
    if line["method"] == "dense":
        return [(0, 1.0)]
    if line["method"] == "lcm":
        return [(1, density) for density in densities]
    if densities:
        once = line["method"] in ONE_SHOT
        return [(0, 1.0), *((1 if once else n, d) for n, d in enumerate(densities, start=1))]
    rounds = line["rounds"] if isinstance(line["rounds"], list) else range(1, line["rounds"] + 1)
    return [(0, 1.0), *((n, (1 - line["rate"]) ** n) for n in rounds)]


def _identity(row: dict[str, Any]) -> dict[str, Any]:
    """A wanted row as the tables have it: tags that its method does not read are empty."""
    prunes = row["method"] in PRUNES
    by_density = bool(row.get("densities")) and row["method"] not in (*ONE_SHOT, "lcm")
    tags = {
        "rate": row["rate"] if prunes and not row.get("densities") else None,
        "rewind": row["rewind"] if prunes else None,
        "rewind_epoch": row["rewind_epoch"] if row["rewind"] == "late" else None,
        "prune_from": row["prune_from"] if prunes else None,
        "by_density": by_density,
    }
    names = ["dataset", "backbone", *SETTINGS, "method", "seed", "round", "density"]
    return _place({name: row[name] for name in names} | tags)


def _place(row: dict[str, Any]) -> dict[str, Any]:
    """With what tells the rounds of a search apart: the number for IMP's, since densities are
    rounded to whole entries; the density, to a tenth of a percent, for what is pruned once."""
    once = row["method"] in (*ONE_SHOT, "lcm")
    place = f"{row['density']:.3g}" if once else str(int(row["round"]))
    empty = {"rewind": NOTHING, "prune_from": NOTHING, "rate": -1.0, "rewind_epoch": -1.0}
    return {**{n: empty[n] if v is None else v for n, v in row.items()}, "place": place}


def _placed(frame: pd.DataFrame) -> pd.DataFrame:
    """The recorded rows as :func:`_place` has them. Round 0 of an LCM search is its teacher, whose
    settings are its own."""
    frame = frame[(frame["method"] != "lcm") | (frame["round"] > 0)]
    once = frame["method"].isin([*ONE_SHOT, "lcm"])
    place = frame["density"].map("{:.3g}".format).where(once, frame["round"].astype(str))
    epochs = frame["rewind_epoch"].astype("Float64").fillna(-1.0).astype(float)
    filled = {"rewind_epoch": epochs, "rate": frame["rate"].fillna(-1.0)}
    filled |= {name: frame[name].fillna(NOTHING) for name in ("rewind", "prune_from")}
    return frame.assign(place=place, by_density=frame["densities"].notna(), **filled)
