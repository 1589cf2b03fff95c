"""What each chapter compares, as a table: :func:`table` gives its rows, :func:`missing` what is not
recorded of them, and :func:`run` trains it on any data.

`grid.yaml` is the one place that says what belongs to a chapter, and so what is to be recorded.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pandas as pd

from lthnb.config import one_of
from lthnb.experiments.grid import SETTINGS, TAGS, Search, grid, to_record
from lthnb.experiments.selection import best_of
from lthnb.store.records import ONE_SHOT, path_of
from lthnb.store.results import results
from lthnb.store.runs import Store

DENSE_MATCH = ["dataset", "backbone", *SETTINGS, "split_seed", "noise", "seed"]
MATCH = [*DENSE_MATCH, *TAGS, "path", "place"]


def chapters() -> list[str]:
    """The chapters of the grid."""
    return list(grid()["chapters"])


def table(
    chapter: str, *, live: bool = False, frame: pd.DataFrame | None = None, **where: Any
) -> pd.DataFrame:
    """The recorded rows of a chapter's searches, as :func:`results` has them: those of the grid,
    and no others. `frame.attrs["missing"]` is how many of the grid's are not recorded.

    where: values of columns, such as ``dataset="lastfm"``; a list means one of these. live: with
    one's own runs. frame: what :func:`results` gave, where it is at hand. Raises ConfigError for a
    chapter or a column that there is not.
    """
    frame = _rows(live) if frame is None else frame
    rows, wanted = _beside(tuned(to_record(chapter), frame), frame, where)
    rows.attrs["missing"] = int(wanted["to_train"].sum())
    return rows


def missing(
    chapter: str, *, live: bool = False, frame: pd.DataFrame | None = None, **where: Any
) -> pd.DataFrame:
    """What the grid wants of a chapter and is not recorded, a row a training: its settings, seed,
    round and density. Arguments as of :func:`table`."""
    frame = _rows(live) if frame is None else frame
    _, wanted = _beside(tuned(to_record(chapter), frame), frame, where)
    shown = ["dataset", "backbone", *SETTINGS, *TAGS, "seed", "round", "density"]
    return wanted.loc[wanted["to_train"], shown].reset_index(drop=True)


def main(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that a chapter's main figure shows: of each data set and backbone those with the
    smallest batches, and of these those whose epochs were chosen on the validation set, where there
    are any."""
    rows = smallest_batches(rows)
    fine = rows["protocol"] == "validated"
    some = fine.groupby([rows["dataset"], rows["backbone"]]).transform("any")
    return rows[fine | ~some]


def smallest_batches(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each data set and backbone the rows with the smallest batches: the paper's where there are
    any. Larger ones are ours alone, and named wherever they are shown."""
    least = rows.groupby(["dataset", "backbone"])["batch_size"].transform("min")
    return rows[rows["batch_size"] == least]


def histories(rows: pd.DataFrame) -> pd.DataFrame:
    """Every evaluation of the runs of some rows: `key`, `epoch` and `recall`, Recall@20 on the part
    that chooses epochs."""
    store, found = Store(), [pd.DataFrame({"key": pd.Series(dtype=str), "epoch": [], "recall": []})]
    for key in dict.fromkeys(rows["key"]):
        nested = store.find(key).nested
        epochs, recall = nested["evaluated_epochs"], nested["evaluated_recall"]
        found.append(pd.DataFrame({"key": key, "epoch": epochs, "recall": recall}))
    return pd.concat(found, ignore_index=True)


def rows_of(searches: Sequence[Search], frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of some searches among those of a frame."""
    return _beside(searches, frame, {})[0]


def complete(searches: Sequence[Search], frame: pd.DataFrame) -> list[bool]:
    """Of each search whether a frame has all of its rows."""
    placed = _placed(frame)[MATCH].drop_duplicates()
    rows = [{**row, "of": place} for place, one in enumerate(searches) for row in one.rows()]
    wanted = pd.DataFrame(rows).astype(placed.dtypes)
    found = wanted.merge(placed, on=MATCH, how="left", indicator="there")
    return found["there"].eq("both").groupby(found["of"]).all().tolist()


def tuned(searches: Sequence[Search], frame: pd.DataFrame) -> list[Search]:
    """Searches with every λ that is ``tuned`` replaced by :func:`best_l2` of the dense models with
    the same data, backbone and other settings; nan where none was run."""
    by = ["dataset", "backbone", "split_seed", "noise", *SETTINGS]
    by.remove("l2")
    dense = frame[frame["method"] == "dense"].assign(split_seed=_split_seeds)
    alike = dict(list(dense.fillna({"noise": ""}).groupby(by)))

    @cache
    def best(wanted: tuple) -> float:
        return best_l2(alike.get(wanted, dense[:0]))

    found = []
    for one in searches:
        if one.settings["l2"] == "tuned":
            given = {**vars(one), **one.settings}
            l2 = best(tuple(given[name] for name in by))
            one = replace(one, settings={**one.settings, "l2": l2})
        found.append(one)
    return found


def best_l2(dense: pd.DataFrame) -> float:
    """Of dense models that differ by λ and seed alone: the λ with the best mean Recall@20 on the
    validation set (:func:`selection.best_of`); nan where none was run."""
    found = best_of(dense, ["l2"], "valid_recall@20")
    return float("nan") if found is None else float(found[0])


def at_best_l2(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The rows of each group that have its :func:`best_l2`."""
    groups = (group for _, group in rows.groupby(list(by)))
    return pd.concat([rows[:0], *(one[one["l2"] == best_l2(one)] for one in groups)])


def on_data(frame: pd.DataFrame, digests: Collection[str]) -> pd.DataFrame:
    """The rows of the searches that begin on some data. Tables of one's own, other options and
    fewer pairs may share a name; of pruned pairs the whole search is there."""
    first = frame[frame["round"] == 0].drop_duplicates("search")
    return frame[frame["search"].isin(first.loc[first["data_digest"].isin(digests), "search"])]


def _rows(live: bool) -> pd.DataFrame:
    """The recorded rows, and if `live` one's own on the same data, or on data of which nothing is
    recorded."""
    frame = results(live=live)
    if not live:
        return frame
    known = frame[~frame["live"] & (frame["round"] == 0)]
    same = frame.index.isin(on_data(frame, known["data_digest"]).index)
    return frame[~frame["live"] | same | ~frame["dataset"].isin(known["dataset"])]


def _beside(
    searches: Sequence[Search], frame: pd.DataFrame, where: dict[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of some searches that a frame has; and all of their rows, `to_train` where the run
    is in none."""
    placed = _placed(frame).drop_duplicates(MATCH)  # two tables of one's own may share a name
    wanted = pd.DataFrame([row for one in searches for row in one.rows()]).drop_duplicates(MATCH)
    wanted = wanted.astype(placed[MATCH].dtypes)  # a merge takes empty for empty
    for name, value in where.items():
        one_of("column", name, wanted.columns)
        values = value if isinstance(value, list | tuple | set) else [value]
        wanted = wanted[wanted[name].isin(values)]
    beside = wanted[[*MATCH, "round", "density"]].merge(
        placed[[*MATCH, "key", "search"]], on=MATCH, how="left", validate="one_to_one"
    )
    dense = placed[placed["method"] == "dense"][DENSE_MATCH].drop_duplicates()
    free = beside[DENSE_MATCH].merge(dense, how="left", indicator=True)["_merge"] == "both"
    beside["to_train"] = beside["key"].isna() & ~(free & (beside["round"] == 0).to_numpy())
    rows = frame.merge(beside[["search", "key", "round"]].dropna(), on=["search", "key", "round"])
    return rows.sort_values(["search", "round", "density"], ignore_index=True), beside


def _placed(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of a frame as :meth:`Search.rows` has them. Round 0 of an LCM search is its teacher,
    whose settings are its own."""
    frame = frame[(frame["method"] != "lcm") | (frame["round"] > 0)]
    frame = frame[frame["scope"].fillna("join") == "join"]  # the grid has no other
    once = frame["method"].isin([*ONE_SHOT, "lcm"]) & (frame["round"] > 0)
    place = frame["density"].map("{:.3g}".format).where(once, frame["round"].astype(str))
    path = frame["densities"].fillna("").map(path_of)
    return frame.assign(split_seed=_split_seeds, place=place.astype(str), path=path)


def _split_seeds(frame: pd.DataFrame) -> pd.Series:
    """The seed at the end of the names of the splits."""
    return frame["split"].str.extract(r"-(\d+)$")[0].fillna("0").astype(int)
