"""Verdicts on the paper's claims, from fields whose results are made up for the purpose."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from test_standings import SPEC, made_up

from lthnb import paper, plots
from lthnb.answers import (
    ANSWERS,
    DIRECTION,
    FAILS,
    FUTURE,
    HOLDS,
    NO_DATA,
    NOT_RUN,
    OPEN,
    Evidence,
    answers,
    apart_at,
    best_against,
    sparsity_gain,
    told,
    widest_gap,
)
from lthnb.config import Ladder

NOTHING = Evidence()


def field(rungs, seeds=3, published="table", spread=0.0, batches=2048, **ladder):
    """A field with the paper's batches, whose `rungs` are (Recall@20 on valid and test, best
    epoch), equal over seeds but for a drift of `spread` that all rungs of a seed share."""
    rows = [
        [None if r is None else (r[0] + s * spread, r[0] + s * spread, r[1]) for r in rungs]
        for s in range(seeds)
    ]
    settings = {**{"method": "imp", "pruning_rate": 0.4, "rungs": len(rungs) - 1}, **ladder}
    ladder = Ladder(**settings)
    made = made_up(rows, SPEC.with_training(batch_size=batches))
    rows = tuple(tuple(_as_of(rung, ladder) for rung in row) for row in made.rungs)
    return dataclasses.replace(made, ladder=ladder, published=published, rungs=rows)


def _as_of(rung, ladder):
    """A made-up rung with the density of its ladder, and a key that no other ladder has."""
    density = (1 - ladder.pruning_rate) ** rung.number
    record = rung.record and dataclasses.replace(
        rung.record,
        key=f"{ladder.method}-{ladder.rewind}-{rung.record.key}",
        mask={"density": density},
    )
    return dataclasses.replace(rung, density=density, record=record)


def verdicts(claim, chapter, *fields):
    return [a.verdict for a in answers(claim, Evidence({chapter: fields}))]


GOOD = [(0.10, 9), (0.12, 5), (0.13, 3)]  # better and faster with every rung
POOR = [(0.10, 9), (0.09, 9), (0.05, 9)]


def test_every_claim_has_an_answer_and_every_answer_a_claim():
    closed = {c.id for c in paper.CLAIMS if not c.open}
    assert set(ANSWERS) == closed
    for claim in paper.CLAIMS:
        [answer] = answers(claim.id, NOTHING)
        kwai = claim.id.startswith("kwai")
        assert answer.verdict == (FUTURE if claim.open else NO_DATA if kwai else NOT_RUN)
        assert answer.keys == ()
    with pytest.raises(LookupError, match="'existance'"):
        answers("existance", NOTHING)


def test_what_was_not_run_gives_no_verdict():
    for claim, chapter in (("existence", "existence"), ("omp-recall", "baselines")):
        assert verdicts(claim, chapter, field([None, None])) == [NOT_RUN]


def test_existence_is_judged_by_the_ticket_that_valid_chooses():
    assert verdicts("existence", "existence", field(GOOD)) == [HOLDS]
    assert verdicts("existence", "existence", field(POOR)) == [FAILS]
    assert verdicts("existence", "existence", field(GOOD, seeds=2)) == [OPEN]  # two show nothing
    # On valid the first rung wins, and loses on test; the second does the other way round.
    rows = [[(0.1, 0.1, 9), (0.12, 0.05, 5), (0.05, 0.12, 5)]] * 3
    crossed = dataclasses.replace(made_up(rows), ladder=Ladder("imp", 0.4, 2))
    [answer] = answers("existence", Evidence({"existence": [crossed]}))
    assert answer.verdict == FAILS
    assert "On test these lose less than 1 % beyond doubt, too: 36.0%." in answer.ours


def test_abstract_density_judges_the_first_rung_within_the_papers_range():
    assert verdicts("abstract-density", "existence", field(GOOD)) == [HOLDS]
    assert verdicts("abstract-density", "existence", field(POOR)) == [FAILS]
    deep = [*GOOD, (0.12, 3), (0.11, 3), (0.08, 3)]  # 36, 21.6, 13.0 and 7.8 %
    tiktok = field(deep, published="tiktok")  # the paper: 7 to 10 %
    [answer] = answers("abstract-density", Evidence({"existence": [tiktok]}))
    assert answer.verdict == FAILS  # at 7.8 % it loses a fifth
    assert [(n.value, round(ours, 6)) for n, ours in answer.numbers] == [(7, 12.96), (10, 12.96)]
    shallow = dataclasses.replace(field(GOOD), published="tiktok")  # no rung that sparse
    assert verdicts("abstract-density", "existence", shallow) == [NOT_RUN]


def test_a_rung_above_dense_by_as_much_as_the_paper_says():
    rungs = [(0.10, 9)] + [(0.10 + 0.001 * i, 9) for i in range(1, 31)]
    kwai = field(rungs, published="kwai", pruning_rate=0.1)
    [answer] = answers("kwai-mf", Evidence({"existence": [kwai]}))
    assert answer.verdict == HOLDS  # +29 % at rung 29 against 28.7 and 35.5
    assert [round(ours, 3) for _, ours in answer.numbers] == [29.0, 29.0]
    coarse = field(rungs, published="kwai", pruning_rate=0.2)  # its rung 29 is far sparser
    assert verdicts("kwai-mf", "existence", coarse) == [NO_DATA]
    low = dataclasses.replace(field(POOR, published="kwai"))
    assert [a.verdict for a in answers("kwai-mf", Evidence({"existence": [low]}))] == [NO_DATA]


def test_imp_against_omp():
    imp, omp = field(GOOD, spread=0.001), field(POOR, method="omp", spread=0.001)
    assert verdicts("omp-recall", "baselines", imp, omp) == [DIRECTION]  # no size on these data
    assert verdicts("omp-sparsity", "baselines", imp, omp) == [DIRECTION]  # OMP finds none
    kwai = [dataclasses.replace(one, published="kwai") for one in (imp, omp)]
    assert verdicts("omp-recall", "baselines", *kwai) == [HOLDS]  # the paper: 1.1 %
    yelp = [dataclasses.replace(one, published="yelp2018") for one in (imp, omp)]
    assert verdicts("omp-recall", "baselines", *yelp) == [HOLDS]  # 44 %, the paper: 18.8 %
    swapped = (field(POOR), field(GOOD, method="omp"))
    assert verdicts("omp-recall", "baselines", *swapped) == [FAILS]
    assert verdicts("omp-sparsity", "baselines", *swapped) == [FAILS]
    both = (field(POOR), field(POOR, method="omp"))
    assert verdicts("omp-sparsity", "baselines", *both) == [OPEN]
    same = (field(GOOD), field(GOOD, method="omp"))
    assert verdicts("omp-sparsity", "baselines", *same) == [OPEN]
    fewer = field(GOOD[:2], method="omp")  # not run as far down: no chance to win there
    assert verdicts("omp-sparsity", "baselines", field(GOOD), fewer) == [OPEN]
    shared = field(GOOD[:2])  # OMP's first rung is IMP's; alone it is no run of OMP
    borrowed = dataclasses.replace(shared, ladder=Ladder("omp", 0.4, 1))
    assert verdicts("omp-sparsity", "baselines", field(GOOD), borrowed) == [NOT_RUN]
    assert best_against(imp, omp).low > 0
    assert sparsity_gain(imp.sparsest, None) is None
    assert sparsity_gain(imp.sparsest, imp.standings[1]) == pytest.approx(0.64 / 0.4 - 1)


def test_random_pruning_should_find_nothing():
    assert verdicts("rp-finds", "baselines", field(GOOD), field(POOR, method="rp")) == [HOLDS]
    assert verdicts("rp-finds", "baselines", field(GOOD), field(GOOD, method="rp")) == [FAILS]
    assert verdicts("rp-falls", "baselines", field(GOOD), field(POOR, method="rp")) == [OPEN]
    worse = [(0.10, 9), (0.105, 9), (0.105, 9)]  # it finds some, below IMP's best
    assert verdicts("rp-falls", "baselines", field(GOOD), field(worse, method="rp")) == [OPEN]
    only = field(GOOD[:2], method="rp"), field([*GOOD, (0.14, 3)])  # and IMP's are sparser
    assert verdicts("rp-falls", "baselines", *only) == [OPEN]  # at what both were run at, a tie
    assert verdicts("rp-falls", "baselines", field(POOR), field(GOOD, method="rp")) == [FAILS]
    noisy = made_up([[(0.1, 0.1, 9), (0.05 + 0.05 * s, 0.05 + 0.05 * s, 9)] for s in range(3)])
    noisy = dataclasses.replace(noisy, ladder=Ladder("rp", 0.4, 1))
    assert verdicts("rp-finds", "baselines", noisy) == [OPEN]  # not found, and not shown to lose


def sized(rungs, size, **more):
    one = field(rungs, **more)
    spec = SPEC.with_model(embedding_size=size)
    return dataclasses.replace(one, spec=spec)


def test_sizes():
    wide = [(0.20, 9), (0.24, 5), (0.26, 3)]  # twice as good, the same trend
    assert widest_gap([sized(GOOD, 4), sized(wide, 8)]) == pytest.approx((0.0, 1.0))
    assert verdicts("size-exists", "sizes", sized(GOOD, 4), sized(wide, 8)) == [HOLDS]
    assert verdicts("size-exists", "sizes", sized(GOOD, 4), sized(POOR, 8)) == [OPEN]
    gap, density = widest_gap([sized(GOOD, 4), sized(POOR, 8)])
    assert (gap, density) == pytest.approx((0.8, 0.36))
    assert verdicts("size-trend", "sizes", sized(GOOD, 4), sized(POOR, 8)) == [FAILS]
    assert verdicts("size-trend", "sizes", sized(GOOD, 4), sized(wide, 8)) == [HOLDS]
    near = [(0.10, 9), (0.12, 5), (0.126, 3)]  # four points off, and all seeds alike
    assert verdicts("size-trend", "sizes", sized(GOOD, 4), sized(near, 8)) == [FAILS]
    assert apart_at([sized(GOOD, 4), sized(near, 8)]) == pytest.approx([0.36])
    assert verdicts("size-trend", "sizes", sized(GOOD, 4)) == [NOT_RUN]  # one is no comparison


def test_rates():
    slow, fast = field(GOOD, pruning_rate=0.2), field(GOOD[:2], pruning_rate=0.4)
    assert verdicts("rate-steps", "rates", fast, slow) == [HOLDS]  # two prunings against one
    assert verdicts("rate-recall", "rates", fast, slow) == [HOLDS]
    assert verdicts("rate-sparsity", "rates", fast, slow) == [HOLDS]  # 36 % and 60 %: one rung
    assert verdicts("rate-recall", "rates", slow) == [NOT_RUN]
    worse = field(POOR, pruning_rate=0.4)
    assert verdicts("rate-sparsity", "rates", worse, slow) == [OPEN]


def test_rewinding():
    rewind, reinit = field(GOOD), field(POOR, rewind="reinit")
    assert verdicts("rewind-better", "rewinds", rewind, reinit) == [HOLDS]
    assert verdicts("rewind-stable", "rewinds", rewind, reinit) == [OPEN]  # three seeds are few
    many = field(GOOD, seeds=8), field(POOR, seeds=8, rewind="reinit")
    assert verdicts("rewind-stable", "rewinds", *many) == [HOLDS]
    other_way = (field(POOR), field(GOOD, rewind="continue"))
    assert verdicts("rewind-better", "rewinds", *other_way) == [FAILS]
    many = field(POOR, seeds=8), field(GOOD, seeds=8, rewind="continue")
    assert verdicts("rewind-stable", "rewinds", *many) == [FAILS]
    same = (field(GOOD), field(GOOD, rewind="reinit"))
    assert verdicts("rewind-stable", "rewinds", *same) == [OPEN]


def test_training_speed_and_its_number():
    one = field(GOOD, published="yelp2018")
    for rungs in one.rungs:
        for rung in rungs:
            rung.record.results["evaluations"] = [[1, rung.record.metric("recall@20"), 0.0]]
            rung.record.circumstances["seconds"] = 1.0
    [answer] = answers("training-speed", Evidence({"existence": [one]}))
    assert answer.verdict == DIRECTION  # three times, the paper: eight
    [(number, ours)] = answer.numbers
    assert (number.value, ours) == (8, pytest.approx(3.0))
    assert "3 of 3 runs" in answer.ours


def test_large_batches_stand_beside_no_number_of_the_paper():
    """They are called by their name, and none of the sizes that the paper states is theirs."""
    good, poor = [(0.10, 9), (0.20, 5)], [(0.10, 9), (0.11, 9)]
    for batches, numbers, verdict in ((2048, 1, HOLDS), (16384, 0, DIRECTION)):
        pair = (
            field(good, published="kwai", batches=batches),
            field(poor, published="kwai", method="omp", batches=batches),
        )
        [answer] = answers("omp-recall", Evidence({"baselines": pair}))
        assert (len(answer.numbers), answer.verdict) == (numbers, verdict)
        assert ("batches of 16384" in answer.about) == (batches == 16384)
    shown = plots.verdicts_table({"runs": Evidence({"baselines": pair})}).as_raw_html()
    assert "MF (batches of 16384): holds in direction" in shown


def test_complexity_by_the_fullest_row():
    def with_mask(kept):
        made = field(GOOD)
        masks = [SimpleNamespace(kept=kept, there=lambda: True)] * 3
        rungs = tuple(
            tuple(dataclasses.replace(r, mask=m) for r, m in zip(row, masks, strict=True))
            for row in made.rungs
        )
        return dataclasses.replace(made, rungs=rungs)

    rows = made_up([[(0.1, 0.1, 1)]]).rungs[0][0].record.data
    even = np.zeros((rows["users"] + rows["items"], 8), bool)
    even[:, :2] = True
    scattered = even.copy()
    scattered[[0, -1]] = True  # one full row on either side is enough
    assert verdicts("complexity", "existence", with_mask(even)) == [HOLDS]
    assert verdicts("complexity", "existence", with_mask(scattered)) == [FAILS]


def test_fields_of_other_seeds_are_compared_by_those_in_common():
    few, more = field(GOOD, seeds=3), field(POOR, seeds=5, method="omp")
    [group] = Evidence({"baselines": [few, more]}).groups("baselines")
    assert [one.seeds for one in group] == [(0, 1, 2), (0, 1, 2)]
    assert verdicts("omp-recall", "baselines", few, more) == [DIRECTION]


def test_fields_of_another_split_or_step_are_not_compared():
    imp, omp = field(GOOD), field(POOR, method="omp")
    data = omp.rungs[0][0].record.data | {"digest": "another split"}
    rows = tuple(
        tuple(dataclasses.replace(r, record=dataclasses.replace(r.record, data=data)) for r in row)
        for row in omp.rungs
    )
    apart = dataclasses.replace(omp, rungs=rows)
    assert len(Evidence({"baselines": [imp, apart]}).groups("baselines")) == 2
    assert verdicts("omp-recall", "baselines", imp, apart) == [NOT_RUN]
    assert verdicts("existence", "existence", imp, apart) == [HOLDS, FAILS]


def test_told_in_words():
    evidence = Evidence({"existence": [field(GOOD)]})
    text = told(["existence", "kwai-mf"], evidence, NOTHING)
    assert text.count("\n- ") == 1
    assert "**Holds.**" in text
    assert "**No data.**" in text
    assert "**Not run.**" not in text  # something else is known
    assert str(answers("existence", NOTHING)[0]) == "**Not run.**"
