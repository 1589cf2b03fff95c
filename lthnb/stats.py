"""Intervals and paired differences over seeds, on plain arrays and DataFrames.

One rule throughout: what is compared is paired by seed first; an interval is Student's, over seeds,
from three on. One seed is one run, and carries neither interval nor verdict.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import special

LEVEL = 0.95
LEAST_SEEDS = 3
MARGIN = 0.01  # non-inferior: a loss of this share of the dense model's result is tolerated
WIDER = 0.02  # a margin whose verdict tables have beside it
POWER = 0.8  # with which a detectable difference would be found
RECALL = "recall@20"


def t95(values: Sequence[float]) -> tuple[float, float]:
    """Student's two-sided 95 % interval of the mean of some values, one a seed; both ends are the
    mean itself where there are fewer than three. As seaborn's ``errorbar=stats.t95``."""
    found = over_seeds(np.asarray(values, float))
    if found["n"] < LEAST_SEEDS:
        return found["mean"], found["mean"]
    return found["low"], found["high"]


def to_dense(frame: pd.DataFrame, column: str = RECALL) -> pd.Series:
    """The relative difference of each row to round 0 of its own search, so of the same seed.

    frame: rows of searches. column: a metric. nan where round 0 is not among the rows, or is 0.
    """
    dense = frame[frame["round"] == 0].drop_duplicates("search").set_index("search")[column]
    beside = frame["search"].map(dense).astype(float)
    return frame[column] / beside.where(beside > 0) - 1


def beside(
    one: pd.DataFrame, other: pd.DataFrame, on: Sequence[str], column: str = RECALL
) -> pd.DataFrame:
    """Rows of one kind beside the rows of another that have the same `on`: the columns of `one`,
    and `difference`, relative to the other's result. on: the seed among them, so that what is
    compared is paired. Raises MergeError (pandas) where a row has several beside it."""
    to = other[[*on, column]].rename(columns={column: "beside"})
    found = one.merge(to, on=list(on), how="inner", validate="many_to_one")
    return found.assign(difference=found[column] / found["beside"] - 1)


def summary(
    frame: pd.DataFrame, by: Sequence[str] | str, column: str = "difference"
) -> pd.DataFrame:
    """One row for each group, over its seeds: `n`, `mean`, the two-sided interval `low` to `high`,
    the one-sided lower bound `lower`, the two-sided p-value `p` of a mean of 0, `detectable`, the
    difference that so many seeds with this scatter would find with a probability of 80 %, and
    `corrected p`, the p-values of all groups corrected together (:func:`holm`).

    All but n and mean are empty with fewer than three seeds. Rows without a value are left out.
    """
    rows = []
    keys = [by] if isinstance(by, str) else list(by)
    for key, group in frame.dropna(subset=[column]).groupby(keys, sort=True):
        values = group[column].to_numpy(float)
        rows.append(dict(zip(keys, key, strict=True)) | over_seeds(values))
    names = [*keys, "n", "mean", "low", "high", "lower", "p", "detectable"]
    found = pd.DataFrame(rows, columns=names)
    return found.assign(**{"corrected p": holm(found["p"].astype(float))})


def over_seeds(values: np.ndarray) -> dict[str, float]:
    """The columns of :func:`summary` for the values of one group."""
    n, mean, nan = len(values), float(values.mean()), float("nan")
    if n < LEAST_SEEDS:
        empty = ("low", "high", "lower", "p", "detectable")
        return {"n": n, "mean": mean} | dict.fromkeys(empty, nan)
    error = float(np.std(values, ddof=1) / np.sqrt(n))
    half, one_sided, more = special.stdtrit(n - 1, [(1 + LEVEL) / 2, LEVEL, POWER]) * error
    p = 2 * float(special.stdtr(n - 1, -abs(mean) / error)) if error > 0 else float(mean == 0)
    found = {"low": mean - half, "high": mean + half, "lower": mean - one_sided}
    found = {name: float(value) for name, value in found.items()}
    return {"n": n, "mean": mean, **found, "p": p, "detectable": float(half + more)}


def holm(p: pd.Series) -> pd.Series:
    """p-values corrected together (Holm 1979), so that the chance of one false claim among them
    stays below 5 % where those below 0.05 are believed; empty ones stay empty."""
    known = p.dropna().sort_values()
    steps = known * np.arange(len(known), 0, -1)
    return steps.cummax().clip(upper=1.0).reindex(p.index)


def non_inferior(lower: pd.Series) -> pd.Series:
    """Whether a one-sided lower 95 % bound of a paired relative difference lies above
    −:data:`MARGIN`; never without a bound."""
    return lower > -MARGIN


def interval(frame: pd.DataFrame) -> pd.Series:
    """`mean`, `low` and `high` of a :func:`stats.summary` as one text: +1.2 % (−0.3 to +2.7)."""

    def said(mean: float, low: float, high: float) -> str:
        ends = "" if pd.isna(low) else f" ({100 * low:+.1f} to {100 * high:+.1f})"
        return f"{100 * mean:+.1f} %{ends}".replace("-", "−")

    rows = zip(frame["mean"], frame["low"], frame["high"], strict=True)
    return pd.Series([said(*row) for row in rows], frame.index, str)
