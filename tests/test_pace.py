"""Training speed from histories whose answer is known."""

import numpy as np
import pytest
from test_standings import made_up
from toys import PlainRecord

from lthnb.pace import first_match, pace, paces


def run(curve, best, seconds=1.0, density=0.5, key="k"):
    """A record with a history: curve[i] is Recall@20 after epoch i + 1."""
    results = {
        "best_epoch": best,
        "epochs": len(curve),
        "evaluations": [[i + 1, value, 0.0] for i, value in enumerate(curve)],
    }
    circumstances = {"seconds": seconds}
    return PlainRecord(key, {}, {}, {}, {"density": density}, {}, results, circumstances)


DENSE = run([0.1, 0.2, 0.25, 0.3, 0.29], 4, seconds=10.0, density=1.0)


def test_first_match_is_the_first_epoch_that_reaches_the_best():
    assert first_match(run([0.1, 0.31, 0.3], 2), DENSE) == 2
    assert first_match(run([0.3, 0.1], 1), DENSE) == 1  # equal is enough
    assert first_match(run([0.1, 0.29], 2), DENSE) is None


def test_a_rung_over_seeds():
    tickets = [run([0.1, 0.31], 2, 2.0, key="a"), run([0.1, 0.2], 2, 2.0, key="b")]
    p = pace(1, tickets, [DENSE, DENSE])
    assert (p.matched, p.runs, p.density, p.keys) == (1, 2, 0.5, ("a", "b"))
    assert p.by_best.mean == pytest.approx(2.0)
    assert p.by_best.low == p.by_best.high == 2.0  # both seeds alike
    assert p.by_match.mean == pytest.approx(2.0)
    assert np.isnan(p.by_match.low)  # one run carries no interval
    assert p.seconds.mean == pytest.approx(2.0)  # 2 s an epoch against 1


def test_runs_that_never_match_are_counted():
    p = pace(1, [run([0.1], 1)] * 3, [DENSE] * 3)
    assert (p.by_match, p.matched, p.runs) == (None, 0, 3)


def test_a_run_that_took_no_time_has_no_ratio_of_seconds():
    assert pace(1, [run([0.3], 1, seconds=0.0)], [DENSE]).seconds is None


def test_a_field_with_a_missing_rung():
    field = made_up([[(0.1, 0.1, 4), None]])
    for rung in field.rungs[0]:
        if rung.record is not None:
            rung.record.results["evaluations"] = [[4, 0.1, 0.0]]
            rung.record.circumstances["seconds"] = 1.0
    there, missing = paces(field)
    assert there.by_best.mean == 1.0
    assert missing is None
