"""Intervals and paired differences over seeds, on plain arrays and DataFrames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import special

LEVEL = 0.95
LEAST_SEEDS = 3  # below this there is no interval and no verdict: one seed is one run
MARGIN = 0.01  # non-inferior: a loss of this share of the dense model's result is tolerated


def t95(values: Sequence[float]) -> tuple[float, float]:
    """Student's two-sided 95 % interval of the mean of some values, one a seed; both ends are the
    mean itself where there are fewer than three. As seaborn's ``errorbar=stats.t95``."""
    values = np.asarray(values, float)
    half = _half(values, (1 + LEVEL) / 2)
    mean = float(values.mean())
    return (mean, mean) if np.isnan(half) else (mean - half, mean + half)


def lower95(values: Sequence[float]) -> float:
    """The one-sided lower 95 % bound of the mean; nan for fewer than three values."""
    values = np.asarray(values, float)
    return float(values.mean() - _half(values, LEVEL))


def _half(values: np.ndarray, at: float) -> float:
    if len(values) < LEAST_SEEDS:
        return float("nan")
    spread = np.std(values, ddof=1) / np.sqrt(len(values))
    return float(special.stdtrit(len(values) - 1, at) * spread)


def paired(frame: pd.DataFrame, column: str, by: str = "round") -> pd.DataFrame:
    """Each run beside round 0 of the same seed: `frame` with a column `difference`, relative.

    frame: rows of searches that differ in their seed alone. column: a metric. Seeds without round 0
    are left out.
    """
    dense = frame[frame["round"] == 0].drop_duplicates("seed").set_index("seed")[column]
    beside = frame[frame["seed"].isin(dense.index)].sort_values([by, "seed"])
    return beside.assign(difference=beside[column] / beside["seed"].map(dense) - 1)


def summary(frame: pd.DataFrame, column: str, by: str = "round") -> pd.DataFrame:
    """One row for each round, over the seeds that have it: `n`, mean density, mean of the metric,
    mean relative difference to round 0 with its 95 % interval, and its one-sided lower bound.

    frame, column: as of :func:`paired`. With fewer than three seeds the interval is empty.
    """
    rows = []
    for value, group in paired(frame, column, by).groupby(by):
        difference = group["difference"].to_numpy()
        low, high = t95(difference) if len(group) >= LEAST_SEEDS else (np.nan, np.nan)
        rows.append(
            {
                by: value,
                "density": group["density"].mean(),
                "n": len(group),
                column: group[column].mean(),
                "difference": difference.mean(),
                "low": low,
                "high": high,
                "lower bound": lower95(difference),
            }
        )
    return pd.DataFrame(rows).set_index(by)


def non_inferior(found: pd.DataFrame, margin: float = MARGIN) -> pd.Series:
    """Which rounds of a :func:`summary` are non-inferior to the dense model: whether the one-sided
    lower 95 % bound of the paired relative difference lies above −margin; never with fewer than
    three seeds."""
    return found["lower bound"] > -margin
