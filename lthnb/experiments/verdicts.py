"""One rule for all verdicts, and the row of the findings that states one.

- A difference is paired by seed, and its interval is Student's; below three seeds there is none.
- *supported*: the interval lies on the claim's side of the bound; *contradicted*: on the other;
  *undecided*: it holds the bound. For non-inferiority (a bound below 0) the interval is one-sided.
- A density, or a best ticket, is chosen on the validation set (under `paper`, which has none, on
  test) and judged on test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from lthnb import stats
from lthnb.experiments.names import batches
from lthnb.experiments.selection import SETTING

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"
DECIDED = (SUPPORTED, CONTRADICTED, UNDECIDED)
ONE_RUN, TOO_FEW = "one run only", "cannot be tested with {} seeds"
NOT_APPLICABLE, NOT_RUN, NO_DATA = "does not apply", "not run", "no data"
COLUMNS = ["claim", *SETTING, "about", "density", "unit"]
COLUMNS += ["estimate", "low", "high", "n", "verdict", "by ndcg", "keys"]
Read = Callable[[str], pd.DataFrame]  # chapter → its rows, with the smallest batches
DIFFERENCE, POINTS, RATIO = "relative difference", "difference in points", "ratio"  # units
SHARE = "difference in points of the seeds"


def verdict(values: pd.Series, bound: float = 0.0, at_least: bool = True) -> dict[str, Any]:
    """The row's numbers for a claim that the mean of some values, one a seed, lies above a bound
    (or below it). `low` and `high` are the two-sided interval, whatever decides."""
    values = values.dropna().to_numpy(float)
    if not len(values):
        return {"n": 0, "verdict": NOT_RUN}
    found = stats.over_seeds(values)
    said = _judge(found, bound, at_least)
    known = {"low": found["low"], "high": found["high"]} if said in DECIDED else {}
    return {"estimate": found["mean"], "n": len(values), **known, "verdict": said}


def same(values: pd.Series, within: float) -> dict[str, Any]:
    """The row's numbers for a claim that the mean of some signed values, one a seed, is at most so
    far from 0: supported where the whole interval is, contradicted where none of it is."""
    found = verdict(values)
    if found["verdict"] in DECIDED:
        low, high = found["low"], found["high"]
        out = UNDECIDED if low < within and high > -within else CONTRADICTED
        found["verdict"] = SUPPORTED if -within < low and high < within else out
    return found


def judged(found: pd.DataFrame, bound: float) -> pd.Series:
    """The verdict of each row of a :func:`stats.summary`, for a claim that the mean lies above a
    bound."""
    rows = found.to_dict("records")
    return pd.Series([_judge(one, bound) for one in rows], found.index, str)


def _judge(found: dict[str, Any], bound: float, at_least: bool = True) -> str:
    n, mean = found["n"], found["mean"]
    if n < stats.LEAST_SEEDS:
        return ONE_RUN if n == 1 else TOO_FEW.format(n)
    if np.isclose(found["low"], found["high"]):  # no scatter at all: a count of few values
        return TOO_FEW.format(n)
    inside = mean - found["lower" if bound < 0 else "low"]
    above, below = mean - inside > bound, mean + inside < bound
    if not at_least:
        above, below = below, above
    return SUPPORTED if above else CONTRADICTED if below else UNDECIDED


def row(
    claim: str,
    names: dict[str, str],
    rows: pd.DataFrame | None,
    said: dict[str, Any],
    about: str = "",
    density: pd.Series | None = None,
    unit: str = DIFFERENCE,
) -> dict[str, Any]:
    """A line of the findings. about: what else tells it apart. density: of the tickets, of which
    the mean is kept. unit: of the estimate and its interval."""
    kept = np.nan if density is None else round(density.mean(), 3)
    if rows is not None and len(rows):
        about = (about + batches(rows["batch_size"]).iloc[0]).removeprefix(", ")
    found = {"claim": claim, **names, "about": about, "density": kept, "unit": unit}
    return {**found, **said, "keys": keys(rows)}


def keys(rows: pd.DataFrame | None) -> str:
    return "" if rows is None else " ".join(sorted({key[:8] for key in rows["key"]}))
