"""What counts as winning, and how sure one can be.

Two readings, kept apart. *By definition* (§3.3): a ticket wins in one run when it reaches at least
the dense model's result (a′ ≥ a) in at most as many epochs (j′ ≤ j) with fewer entries. *As a
claim*: over seeds, the lower 95 % bound of the paired relative difference in Recall@20 lies above
−1 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numba as nb
import numpy as np
from scipy import special

from lthnb.evaluation import Hits
from lthnb.stream import below, bits_at, stream_start

MARGIN = 0.01  # a claim of winning tolerates a loss below 1 % of the dense model's Recall@20
LEVEL = 0.95
LEAST_SEEDS = 3  # below this, an interval over seeds carries no claim
BOOTSTRAP_DRAWS = 2000


@dataclass(frozen=True)
class Interval:
    """A mean with its two-sided 95 % interval, and where the interval comes from.

    kind: ``t over seeds``, ``user bootstrap`` (one run: it covers which users were tested, not how
    a training falls out), or ``none`` (low and high are nan). n: seeds, or users.
    """

    mean: float
    low: float
    high: float
    kind: str
    n: int

    def __str__(self) -> str:
        return f"{self.mean:+.4g} [{self.low:+.4g}, {self.high:+.4g}] ({self.kind}, n = {self.n})"


def t_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Mean of values, one a seed, with Student's t interval; with one value the ends are nan."""
    values = np.asarray(values, float)
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Interval(mean, float("nan"), float("nan"), "none", n)
    half = float(special.stdtrit(n - 1, (1 + level) / 2) * np.std(values, ddof=1) / np.sqrt(n))
    return Interval(mean, mean - half, mean + half, "t over seeds", n)


def ratio_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Geometric mean of ratios, one a seed, with the t interval of their logarithms.

    The mean of ratios would lie above 1 also where neither side is larger: 2 and ½ have the mean
    1¼. Raises ValueError where a ratio is not above zero.
    """
    if min(values) <= 0:
        raise ValueError(f"ratios: found {min(values)}, expected numbers above zero.")
    d = t_interval(np.log(values), level)
    return replace(d, **{end: float(np.exp(getattr(d, end))) for end in ("mean", "low", "high")})


def sign(d: Interval, at: float = 0.0) -> int:
    """1 where a whole interval lies above `at`, −1 where it lies below, else 0; 0 also where there
    is no interval, or one over fewer than three seeds. Over one run it is the users' interval,
    which no other seed stands behind."""
    if d.kind == "t over seeds" and d.n < LEAST_SEEDS:
        return 0
    return int(d.low > at) - int(d.high < at)


def user_bootstrap(
    ticket: Hits, dense: Hits, metric: str = "recall", k: int = 20, level: float = LEVEL
) -> Interval:
    """Relative difference of a metric between two runs over the same users, resampling users.

    The percentile interval of 2,000 draws of users with replacement, from a fixed stream. Raises
    ValueError where the two runs were not tested on the same users.
    """
    if not np.array_equal(ticket.users, dense.users):
        raise ValueError("user bootstrap: the two runs were tested on different users.")
    a, b = ticket.per_user(metric, k), dense.per_user(metric, k)
    n = len(a)
    if b.mean() == 0:
        return Interval(float("nan"), float("nan"), float("nan"), "none", n)
    ratios = np.empty(BOOTSTRAP_DRAWS)
    _resample(np.uint64(stream_start(0, "bootstrap")), a, b, ratios)
    low, high = np.nanquantile(ratios, ((1 - level) / 2, (1 + level) / 2))
    return Interval(float(a.mean() / b.mean() - 1), float(low), float(high), "user bootstrap", n)


@nb.njit(cache=True, parallel=True)
def _resample(start, a, b, ratios):
    """Σ a / Σ b − 1 over n of n users with replacement, once for each of `ratios`."""
    n = a.size
    for draw in nb.prange(ratios.size):
        top, bottom = 0.0, 0.0
        for k in range(n):
            user = below(bits_at(start, np.uint64(draw * n + k)), n)
            top += a[user]
            bottom += b[user]
        ratios[draw] = top / bottom - 1.0 if bottom else np.nan


def relative_difference(ticket: Sequence[float], dense: Sequence[float]) -> Interval:
    """Seed-paired relative difference ticket / dense − 1 with its t interval.

    ticket, dense: one result a seed, in the same order of seeds. Raises ValueError where their
    numbers differ. Where a dense result is zero, mean and ends are nan.
    """
    if len(ticket) != len(dense) or not len(dense):
        raise ValueError(
            f"paired difference: found {len(ticket)} tickets and {len(dense)} dense runs, "
            "expected one of each a seed."
        )
    if min(dense) <= 0:
        nan = float("nan")
        return Interval(nan, nan, nan, "none", len(dense))  # nothing is relative to zero
    return t_interval([t / d - 1 for t, d in zip(ticket, dense, strict=True)])


def wins_by_definition(
    ticket: float, ticket_epoch: int, dense: float, dense_epoch: int, density: float
) -> bool:
    """§3.3 for one run: a′ ≥ a, j′ ≤ j, and fewer entries than the dense model.

    ticket, dense: results a′ and a; epochs: j′ and j. The paper's ‖M‖₀ ≪ ‖X‖₀ names no bound; here
    any density below 1 counts, and the density is always shown beside the verdict.
    """
    return density < 1 and ticket >= dense and ticket_epoch <= dense_epoch


def claim(difference: Interval, margin: float = MARGIN) -> bool | None:
    """Whether the ticket wins as a claim: the interval's lower end is above −margin.

    None where the interval does not come from at least three seeds: one training, or two, do not
    carry a claim.
    """
    if difference.kind != "t over seeds" or difference.n < LEAST_SEEDS:
        return None
    return difference.low > -margin


def sparsest_winning(
    densities: Sequence[float], valid_differences: Sequence[Interval]
) -> int | None:
    """Index of the sparsest density that wins on valid, or None where none does.

    It is chosen here, on valid, and reported on test. Where the seeds are too few for a claim, a
    mean difference ≥ 0 chooses (a′ ≥ a), and no claim follows from that. A density of 1 never
    counts.
    """
    winning = [
        (density, index)
        for index, (density, difference) in enumerate(
            zip(densities, valid_differences, strict=True)
        )
        if density < 1
        and (difference.mean >= 0 if claim(difference) is None else claim(difference))
    ]
    return min(winning)[1] if winning else None
