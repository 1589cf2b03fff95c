"""What our runs say to each claim of the paper: from fields to verdicts in words.

`ANSWERS` maps the id of a claim (:data:`lthnb.paper.CLAIMS`) to the function that answers it from
:class:`Evidence`. Chapters show the answers to their own claims, and *paper against ours* shows
all of them, so no verdict is worked out twice. Every sentence is made from records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, pairwise

import numpy as np
from scipy.stats import binomtest

from lthnb import compression, paper
from lthnb.anatomy import Opened, magnitudes, opened, size_of
from lthnb.compression import Compression, compressions_of
from lthnb.data import Interactions
from lthnb.pace import pace
from lthnb.profiles import COMPRESSED, CONTESTS, Profile, recorded_contests, recorded_matches
from lthnb.standings import (
    METHOD_NAMES,
    Field,
    Standing,
    difference,
    fields_of,
    grouped,
    recorded_by_contest,
    records_in,
)
from lthnb.store.records import Record
from lthnb.store.runs import Store
from lthnb.training import Control
from lthnb.verdicts import LEVEL, MARGIN, Interval, sign, t_interval

HOLDS, FAILS, OPEN = "holds", "does not hold", "not decided"
DIRECTION = "holds in direction"
NOT_RUN, NO_DATA, FUTURE = "not run", "no data", "open in the paper"


@dataclass(frozen=True)
class Answer:
    """One answer to a claim.

    claim: its id. about: backbone and data. ours: what the runs show, in words and numbers.
    verdict: ``holds``; ``holds in direction``, where the claim states a size, and ours is less than
    half of it or of another setting; ``does not hold``; ``not decided``, where the intervals allow
    both; ``not run``; ``no data``; or ``open in the paper``. basis: how many seeds. keys: the runs.
    numbers: those that the claim states for this data set and backbone, each with ours.
    """

    claim: str
    about: str
    ours: str
    verdict: str
    basis: str = ""
    keys: tuple[str, ...] = ()
    numbers: tuple[tuple[paper.Number, float], ...] = ()

    def __str__(self) -> str:
        basis = f" ({self.basis})" if self.basis else ""
        about = f"{self.about}{basis}: " if self.about else ""
        return f"{about}{self.ours} **{self.verdict[0].upper()}{self.verdict[1:]}.**".strip()


@dataclass(frozen=True, eq=False)
class Evidence:
    """What was run: on a reader's data, or of the recorded runs.

    fields: chapter (:data:`lthnb.profiles.CONTESTS`) → its fields, of any backbones. compressions:
    of the chapter on LCM. tickets: rungs that were opened, of the case study. known: answers that
    were worked out already, by claim.
    """

    fields: dict[str, Sequence[Field]] = field(default_factory=dict)
    compressions: Sequence[Compression] = ()
    tickets: Sequence[Opened] = ()
    known: dict[str, list[Answer]] = field(default_factory=dict, repr=False)

    @property
    def keys(self) -> set[str]:
        """The runs, each once, whatever chapters share it."""
        keys = {r.key for fields in self.fields.values() for r in records_in(fields)}
        return keys.union(*(one.keys for one in self.compressions))

    def groups(self, chapter: str) -> list[list[Field]]:
        """A chapter's fields of which the dense model was run, in groups that can be compared."""
        ran = [one for one in self.fields.get(chapter, ()) if one.standings[0] is not None]
        return grouped(ran)

    def each(self, chapter: str) -> list[Field]:
        """The same, one by one."""
        return [one for group in self.groups(chapter) for one in group]


def gathered(
    base: Profile,
    data: Interactions,
    backbones: Sequence[str],
    control: Control,
    *,
    protocol: str = "validated",
    seeds: Sequence[int] = (),
    train_missing: bool = False,
    workers: int = 1,
) -> Evidence:
    """All that the chapters of a profile run on one data set, looked up, or trained where missing.

    seeds: empty for those of each chapter.
    """
    how = {"train_missing": train_missing, "workers": workers}
    fields = {
        chapter: fields_of(
            base.contests(chapter, backbones, protocol=protocol),
            data,
            seeds or (base.seeds if chapter == "existence" else base.few_seeds),
            control,
            **how,
        )
        for chapter in CONTESTS
    }
    matches = base.matches(_compressed(backbones), protocol=protocol)
    return Evidence(
        fields,
        compressions_of(matches, data, seeds or base.few_seeds, control, **how),
        [opened(one, data, control, replay=False) for one in fields["existence"]],
    )


def _compressed(backbones: Sequence[str]) -> list[str]:
    """Those that the paper compresses, of some backbones."""
    return [backbone for backbone in backbones if backbone in COMPRESSED]


def recorded(backbones: Sequence[str], store: Store) -> Evidence:
    """All that comes with the project, in `results/`; nothing is trained and no data are read."""
    wanted = {chapter: recorded_contests(chapter, backbones) for chapter in CONTESTS}
    # A contest that several chapters share is looked up, and its standings worked out, once.
    distinct = {contest for contests in wanted.values() for contest in contests}
    found = recorded_by_contest(distinct, store)
    fields = {
        chapter: [one for contest in contests for one in found[contest]]
        for chapter, contests in wanted.items()
    }
    return Evidence(fields, compression.recorded(recorded_matches(_compressed(backbones)), store))


def answers(claim: str, evidence: Evidence) -> list[Answer]:
    """The answers to a claim; one that says so where nothing was run for it.

    Raises LookupError for an unknown claim.
    """
    says = paper.claim(claim)
    if says.open:
        return [
            Answer(claim, "", "The paper names it as future work; nothing here tries it.", FUTURE)
        ]
    found = evidence.known.get(claim)
    if found is None:
        found = evidence.known[claim] = [_in_size(a) for a in ANSWERS[claim](evidence)]
    return found or [Answer(claim, "", "", NO_DATA if claim in ONLY_KWAI else NOT_RUN)]


def said_of(evidence: Mapping[str, Evidence]) -> str:
    """How much of each body of evidence there is, as a Markdown list."""
    return "\n".join(f"- *{name}*: {len(one.keys):,} trainings" for name, one in evidence.items())


def told(claims: Sequence[str], *evidence: Evidence) -> str:
    """Each claim with all that is known of it, as a Markdown list for a chapter."""
    lines = []
    for id in claims:
        says = paper.claim(id)
        lines.append(f"- *{says.section}:* {says.says}")
        found = [a for e in evidence for a in answers(id, e)]
        # What was not run is said once, and only where nothing else is known.
        found = [a for a in found if a.about] or found[:1]
        lines += [f"  - {answer}" for answer in found]
    return "\n".join(lines)


def _in_size(answer: Answer) -> Answer:
    """A claim with a size holds in direction alone where ours is less than half of the paper's, or
    where the paper has no size for this data set and backbone."""
    sized = paper.claim(answer.claim).numbers and answer.claim != "abstract-density"
    if answer.verdict != HOLDS or not sized:
        return answer
    numbers = answer.numbers
    reached = numbers and all(abs(ours) >= abs(n.value) / 2 for n, ours in numbers)
    return answer if reached else replace(answer, verdict=DIRECTION)


ONLY_KWAI = ("kwai-mf", "kwai-lightgcn")


# --- words ----------------------------------------------------------------------------------------


def interval_said(d: Interval) -> str:
    """``+1.2 % (95 % −0.3 to +2.7)``, or the mean alone where there is no interval."""
    mean = f"{100 * d.mean:+.1f} %"
    if np.isnan(d.low):
        return mean
    over = " over users" if d.kind == "user bootstrap" else ""
    return f"{mean} (95 %{over} {100 * d.low:+.1f} to {100 * d.high:+.1f})"


def _sign(d: Interval) -> str:
    """Whether a difference is above zero beyond doubt."""
    return {1: HOLDS, -1: FAILS, 0: OPEN}[sign(d)]


def _basis(one: Field | Compression) -> str:
    return "one run" if len(one.seeds) == 1 else f"{len(one.seeds)} seeds"


def _density(s: Standing | None) -> str:
    return "none" if s is None else f"{s.density:.1%} of the entries"


def _all(verdicts: Sequence[str]) -> str:
    """Several verdicts as one: it fails where one fails, and holds where all hold."""
    return FAILS if FAILS in verdicts else OPEN if OPEN in verdicts else HOLDS


def name_of(one: Field, chapter: str) -> str:
    """What tells a field from the others of its chapter."""
    return {
        "sizes": f"F = {one.spec.model.embedding_size}",
        "rates": f"rate {one.ladder.pruning_rate:.3g}",
        "rewinds": one.ladder.rewind,
    }.get(chapter, one.ladder.method)


def _called(one: Field, chapter: str) -> str:
    """The same in a sentence."""
    name = name_of(one, chapter)
    return METHOD_NAMES.get(name, name)


def _records(one: Field, standing: Standing | None) -> list[Record]:
    return [] if standing is None else one.records(standing.number) or []


def _of(group: Sequence[Field], **wanted) -> Field | None:
    """The field of a group whose ladder has these settings; None where it was not run."""
    for one in group:
        if all(getattr(one.ladder, name) == value for name, value in wanted.items()):
            return one
    return None


def _stated(claim: str, one: Field, what: str = "") -> list[paper.Number]:
    """The numbers that a claim states for a field's data set and backbone (or for any backbone);
    none for batches of another size than the paper's."""
    if not one.has_usual_batches:
        return []
    backbones = ("", one.spec.model.backbone)
    return [
        n
        for n in paper.claim(claim).numbers
        if n.dataset == one.published and n.backbone in backbones and what in n.what
    ]


def _printed(numbers: Sequence[paper.Number]) -> str:
    return "".join(f" The paper: {n.value:+g} %." for n in numbers)


# --- the abstract and §4.2 ------------------------------------------------------------------------


def _abstract_density(evidence: Evidence) -> list[Answer]:
    """One rung is judged, so that nothing is picked: the densest within the paper's range for the
    data set, or within half where the paper has no such data."""
    out = []
    for one in evidence.each("existence"):
        numbers = _stated("abstract-density", one)
        bound = max((n.value / 100 for n in numbers), default=0.5)
        within = [s for s in one.standings if s is not None and s.number and s.density <= bound]
        if not within:
            continue
        rung, star = within[0], one.sparsest
        whose = "the paper's range" if numbers else "half; the paper has no such data"
        ours = (
            f"at {rung.density:.1%}, the first rung within {bound:.0%} ({whose}), Recall@20 on "
            f"test is {interval_said(rung.difference)} to dense. Sparsest ticket that wins on "
            f"{one.chosen_on}: {_density(star)}."
        )
        # Of the two ends of the paper's range, MF's is the sparser one but for TikTok (its note).
        mine = "sparser" if one.spec.model.backbone == "mf" else "denser"
        fitting = [n for n in numbers if mine in n.what or one.published == "tiktok"]
        beside = tuple((n, 100 * star.density) for n in fitting) if star else ()
        keys = _keys(rung, star)
        verdict = _keeps(rung)
        out.append(Answer("abstract-density", one.title, ours, verdict, _basis(one), keys, beside))
    return out


def _keeps(s: Standing) -> str:
    """Whether a rung loses less than the margin of a claim, beyond doubt; or more."""
    return {1: HOLDS, -1: FAILS, 0: OPEN}[sign(s.difference, -MARGIN)]


def _existence(evidence: Evidence) -> list[Answer]:
    """The ticket that is judged on test is the one that is best on the other part; that other rungs
    do well on test too is said, and counts for nothing."""
    out = []
    for one in evidence.each("existence"):
        tickets = [s for s in one.standings if s is not None and s.number]
        best = one.best
        if best is None:
            continue
        ours = (
            f"a ticket wins by the paper's definition, on {one.chosen_on}, for "
            f"{one.seeds_that_win} of {len(one.seeds)} seeds. The ticket that is best there "
            f"({best.density:.1%}) is on test {interval_said(best.difference)} to dense."
        )
        also = [s for s in tickets if s is not best and _keeps(s) == HOLDS]
        if also:
            ours += " On test these lose less than 1 % beyond doubt, too: "
            ours += ", ".join(f"{s.density:.1%}" for s in also) + "."
        keys = tuple(k for s in tickets for k in s.keys)
        out.append(Answer("existence", one.title, ours, _keeps(best), _basis(one), keys))
    return out


def _over_dense(claim: str) -> Callable[[Evidence], list[Answer]]:
    """A claim that a rung is so many percent above the dense model, on a data set of the paper."""

    def answer(evidence: Evidence) -> list[Answer]:
        out = []
        for one in evidence.each("existence"):
            beside, keys = [], ()
            for number in _stated(claim, one):
                metric, _, rung = number.what.partition(" at rung ")
                density = (1 - paper.SETTINGS.pruning_rate) ** int(rung)
                near = [s for s in one.standings if s and abs(s.density / density - 1) < 1e-2]
                for there in near[:1]:
                    above = there.results[metric] / one.standings[0].results[metric] - 1
                    beside.append((number, 100 * above))
                    keys = there.keys
            if beside:
                ours = "; ".join(
                    f"{n.what}: {value:+.1f} %, the paper {n.value:+g} %" for n, value in beside
                )
                verdict = HOLDS if all(value >= n.value / 2 for n, value in beside) else FAILS
                out.append(
                    Answer(claim, one.title, f"{ours}.", verdict, _basis(one), keys, tuple(beside))
                )
        return out

    return answer


# --- §3.5 -----------------------------------------------------------------------------------------


def _complexity(evidence: Evidence) -> list[Answer]:
    out = []
    for one in (kept for f in evidence.each("existence") if (kept := f.with_masks)):
        number = one.to_take_home
        there = size_of(one, number) if number else None
        if there is None:
            continue
        size = one.spec.model.embedding_size
        # Of what the mean rows would save, the formulas should promise at least half.
        promised = 1 - min(there.users.fullest, there.items.fullest) / size
        possible = 1 - min(there.users.mean, there.items.mean) / size
        saves = promised >= possible / 2
        ours = (
            f"the ticket that keeps {there.density:.1%} has F_u* = {there.users.fullest:.3g} and "
            f"F_i* = {there.items.fullest:.3g} of F = {size}; the mean rows keep "
            f"{there.users.mean:.1f} and {there.items.mean:.1f}. By the formulas {promised:.0%} of "
            f"the work is saved, by the mean rows it could be {possible:.0%}."
        )
        keys = _keys(one.standings[number])
        verdict = HOLDS if saves else FAILS
        out.append(Answer("complexity", one.title, ours, verdict, _basis(one), keys))
    return out


# --- §4.3 -----------------------------------------------------------------------------------------


def sparsity_gain(above: Standing | None, below: Standing | None) -> float | None:
    """How much sparser one sparsest winning ticket is than another, relative, as §4.3 has it; None
    where one of them does not exist."""
    if above is None or below is None:
        return None
    return (1 - above.density) / (1 - below.density) - 1


def stars_at_shared(a: Field, b: Field) -> tuple[Standing | None, Standing | None]:
    """The sparsest winning tickets of two fields among the densities that both were run at: who has
    more rungs would else have more chances."""
    ran = [[s.density for s in one.standings if s is not None] for one in (a, b)]
    return a.sparsest_among(ran[1]), b.sparsest_among(ran[0])


def _sparser(a: Standing | None, b: Standing | None) -> str:
    """Whether the first of two sparsest winning tickets is sparser; equal ones decide nothing."""
    gain = sparsity_gain(a, b)
    if gain is None:
        return HOLDS if a else FAILS if b else OPEN
    return OPEN if abs(gain) < 1e-6 else HOLDS if gain > 0 else FAILS


def _omp_sparsity(evidence: Evidence) -> list[Answer]:
    out = []
    for group in evidence.groups("baselines"):
        imp, omp = _of(group, method="imp"), _of(group, method="omp")
        if imp is None or omp is None or not _ran_beside(imp, omp):
            continue
        stars = stars_at_shared(imp, omp)
        gain = sparsity_gain(*stars)
        ours = (
            f"sparsest winning ticket, at densities that both were run at: IMP {_density(stars[0])}"
            f", OMP {_density(stars[1])}"
        )
        ours += f"; {100 * gain:+.1f} % in sparsity." if gain is not None else "."
        sparser = [s for s in omp.standings if s and stars[1] and s.density < stars[1].density]
        if sparser:
            ours += (
                f" The next density at which OMP was run, {sparser[0].density:.1%}, does not win."
            )
        numbers = _stated("omp-sparsity", imp)
        beside = tuple((n, 100 * gain) for n in numbers) if gain is not None else ()
        ours += _printed(numbers)
        keys, verdict = _keys(*stars), _sparser(*stars)
        out.append(Answer("omp-sparsity", imp.title, ours, verdict, _basis(imp), keys, beside))
    return out


def _ran_beside(imp: Field, other: Field) -> bool:
    """Whether another method was run beyond what it shares with IMP: OMP's first rung is IMP's."""
    mine = {key for s in imp.standings if s is not None for key in s.keys}
    return any(not set(s.keys) <= mine for s in other.standings if s is not None)


def _keys(*standings: Standing | None) -> tuple[str, ...]:
    return tuple(k for s in standings if s is not None for k in s.keys)


def best_against(above: Field, below: Field) -> Interval | None:
    """Recall@20 on test of one field's best ticket over another's, both chosen on valid, paired by
    seed (over users where there is one); None where one was not run."""
    if above.best is None or below.best is None:
        return None
    return difference(_records(above, above.best), _records(below, below.best))


def _best_said(above: Field, below: Field, chapter: str) -> str:
    d = best_against(above, below)
    names = [_called(one, chapter) for one in (above, below)]
    return (
        f"best ticket of {names[0]} ({above.best.density:.1%}) over that of {names[1]} "
        f"({below.best.density:.1%}): Recall@20 on test {interval_said(d)}."
    )


def _omp_recall(evidence: Evidence) -> list[Answer]:
    out = []
    for group in evidence.groups("baselines"):
        imp, omp = _of(group, method="imp"), _of(group, method="omp")
        d = best_against(imp, omp) if imp and omp and _ran_beside(imp, omp) else None
        if d is not None:
            numbers = _stated("omp-recall", imp)
            ours = _best_said(imp, omp, "baselines") + _printed(numbers)
            keys, beside = _keys(imp.best, omp.best), tuple((n, 100 * d.mean) for n in numbers)
            out.append(Answer("omp-recall", imp.title, ours, _sign(d), _basis(imp), keys, beside))
    return out


def _rp_finds(evidence: Evidence) -> list[Answer]:
    out = []
    for group in evidence.groups("baselines"):
        ran = [one for m in ("rp", "rp_x0") if (one := _of(group, method=m)) and one.best]
        if not ran:
            continue
        stars = [(one, one.sparsest) for one in ran]
        ours = "; ".join(
            f"{METHOD_NAMES[one.ladder.method]}: sparsest winning ticket {_density(star)}; at "
            f"{one.best.density:.1%} Recall@20 on test is {interval_said(one.best.difference)} to "
            "dense"
            for one, star in stars
        )
        expected = (ran[0].published, ran[0].spec.model.backbone) == ("tiktok", "lightgcn")
        found = any(star and _keeps(star) == HOLDS for _, star in stars)
        lost = all(sign(one.best.difference) < 0 for one in ran)
        verdict = OPEN if not (found or lost) else HOLDS if found == expected else FAILS
        keys = tuple(k for one, star in stars for k in _keys(star, one.best))
        out.append(Answer("rp-finds", ran[0].title, ours + ".", verdict, _basis(ran[0]), keys))
    return out


def _rp_falls(evidence: Evidence) -> list[Answer]:
    out = []
    for group in evidence.groups("baselines"):
        rp = _of(group, method="rp")
        if rp is None or rp.best is None:
            continue
        said, verdicts, keys = [], [], _keys(rp.best)
        for method in ("imp", "omp"):
            other = _of(group, method=method)
            d = best_against(rp, other) if other else None
            if d is None:
                continue
            said.append(_best_said(rp, other, "baselines"))
            verdicts.append({HOLDS: FAILS, FAILS: HOLDS}.get(_sign(d), OPEN))
            stars = stars_at_shared(other, rp)
            gain = sparsity_gain(*reversed(stars))
            if gain is not None:
                name = METHOD_NAMES[method]
                said.append(f"Highest winning sparsity {100 * gain:+.1f} % to {name}'s.")
                verdicts.append(_sparser(*stars))
            keys += _keys(other.best)
        if said:
            ours = " ".join(said)
            if rp.sparsest is None:  # the claim is about where it finds one
                ours = f"RP finds no winning ticket here, so that the claim does not apply. {ours}"
                verdicts = [OPEN]
            out.append(Answer("rp-falls", rp.title, ours, _all(verdicts), _basis(rp), keys))
    return out


# --- §4.4 -----------------------------------------------------------------------------------------


def _lcm(claim: str, density: float) -> Callable[[Evidence], list[Answer]]:
    def answer(evidence: Evidence) -> list[Answer]:
        out = []
        for one in evidence.compressions:
            if abs(one.density - density) > 1e-9 or not one.complete:
                continue
            d, beside = one.difference("ticket", "lcm"), one.difference("ticket", "small")
            ours = (
                f"from size {one.original_size} at density {density:.0%}, the ticket's Recall@20 "
                f"on test is {interval_said(d)} to LCM's, and {interval_said(beside)} to that of "
                "an ordinary dense model with as many entries, which the paper does not show."
            )
            numbers = [
                n
                for n in paper.claim(claim).numbers
                if (one.published, one.spec.model.backbone) == (n.dataset, n.backbone)
                and one.original_size == 128
            ]
            out.append(
                Answer(
                    claim,
                    one.title,
                    ours + _printed(numbers),
                    _sign(d),
                    _basis(one),
                    one.keys,
                    tuple((n, 100 * _above(one, n)) for n in numbers),
                )
            )
        return out

    return answer


def _above(one: Compression, number: paper.Number) -> float:
    """The ticket's metric over LCM's, − 1, for the metric that a number of the claim is about."""
    metric = number.what.partition(",")[0]
    ticket, lcm = (one.values(method, metric).mean() for method in ("ticket", "lcm"))
    return ticket / lcm - 1


# --- §4.5 -----------------------------------------------------------------------------------------


def curve(one: Field) -> tuple[np.ndarray, np.ndarray]:
    """(density of each rung, Recall@20 on test relative to the field's own dense model, − 1)."""
    there = [s for s in one.standings if s is not None]
    return np.array([s.density for s in there]), np.array([s.difference.mean for s in there])


def widest_gap(fields: Sequence[Field]) -> tuple[float, float]:
    """The largest difference between two curves (:func:`curve`) at one density, and that density;
    densities are those of the rungs of the first, between which the others are interpolated."""
    curves = [curve(one) for one in fields]
    least = max(density.min() for density, _ in curves)
    grid = [d for d in curves[0][0] if d >= least - 1e-9]
    at = np.array([np.interp(np.log(grid), np.log(d[::-1]), value[::-1]) for d, value in curves])
    gaps = at.max(0) - at.min(0)
    widest = int(gaps.argmax())
    return float(gaps[widest]), float(grid[widest])


SAME = 0.02  # curves that stay within two points of each other have the same trend


def apart_at(fields: Sequence[Field]) -> list[float]:
    """Densities of rungs at which the intervals of two fields' relative differences are disjoint;
    the fields' ladders have the same rungs."""
    out = []
    for rung in zip(*(one.standings for one in fields), strict=False):
        ends = [(s.difference.low, s.difference.high) for s in rung if s is not None and s.number]
        if any(a[1] < b[0] or b[1] < a[0] for a, b in combinations(ends, 2)):
            out.append(next(s.density for s in rung if s is not None))
    return out


def _size_trend(evidence: Evidence) -> list[Answer]:
    out = []
    for group in evidence.groups("sizes"):
        ran = [one for one in group if one.best]
        if len(ran) < 2:
            continue
        gap, density = widest_gap(ran)
        apart = apart_at(ran)
        ours = (
            f"relative to its own dense model, the curves of {_listed(ran, 'sizes')} lie at most "
            f"{100 * gap:.1f} points apart (at {density:.1%}); their 95 % intervals are disjoint "
        )
        ours += f"at {', '.join(f'{d:.1%}' for d in apart)}." if apart else "nowhere."
        verdict = HOLDS if gap <= SAME else FAILS if apart else OPEN
        keys = _keys(*(s for one in ran for s in one.standings))
        out.append(Answer("size-trend", ran[0].title, ours, verdict, _basis(ran[0]), keys))
    return out


def _listed(fields: Sequence[Field], chapter: str) -> str:
    names = [name_of(one, chapter) for one in fields]
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]


def _size_exists(evidence: Evidence) -> list[Answer]:
    out = []
    for group in evidence.groups("sizes"):
        ran = [one for one in group if one.best]
        if len(ran) < 2:
            continue
        ours = "sparsest winning ticket, by size: " + "; ".join(
            f"{name_of(one, 'sizes')}: {_density(one.sparsest)}" for one in ran
        )
        verdict = HOLDS if all(one.sparsest for one in ran) else OPEN
        keys = _keys(*(one.sparsest for one in ran))
        out.append(Answer("size-exists", ran[0].title, ours + ".", verdict, _basis(ran[0]), keys))
    return out


def _by_rate(evidence: Evidence) -> Iterable[list[Field]]:
    for group in evidence.groups("rates"):
        ran = sorted((one for one in group if one.best), key=lambda f: f.ladder.pruning_rate)
        if len(ran) > 1:
            yield ran


def _per_rate(ran: Sequence[Field], said: Sequence[str]) -> str:
    rates = [f"{one.ladder.pruning_rate:.3g}" for one in ran]
    return ", by rate: " + "; ".join(f"{r}: {what}" for r, what in zip(rates, said, strict=True))


def _rate_sparsity(evidence: Evidence) -> list[Answer]:
    out = []
    for ran in _by_rate(evidence):
        stars = [one.sparsest for one in ran]
        ours = "sparsest winning ticket" + _per_rate(ran, [_density(star) for star in stars])
        verdict = OPEN
        if all(stars):
            # A rung of the coarsest ladder is the finest difference that it can show.
            step = 1 - ran[-1].ladder.pruning_rate
            densities = [s.density for s in stars]
            verdict = HOLDS if min(densities) >= step * max(densities) - 1e-9 else FAILS
        out.append(
            Answer(
                "rate-sparsity", ran[0].title, ours + ".", verdict, _basis(ran[0]), _keys(*stars)
            )
        )
    return out


def _rate_recall(evidence: Evidence) -> list[Answer]:
    out = []
    for ran in _by_rate(evidence):
        low, high = ran[0], ran[-1]
        ours = _best_said(low, high, "rates")
        verdict = _sign(best_against(low, high))
        keys = _keys(low.best, high.best)
        out.append(Answer("rate-recall", low.title, ours, verdict, _basis(low), keys))
    return out


def _rate_steps(evidence: Evidence) -> list[Answer]:
    out = []
    for ran in _by_rate(evidence):
        stars = [one.sparsest for one in ran]
        numbers = [str(star.number) if star else "none" for star in stars]
        ours = "prunings to the sparsest winning ticket" + _per_rate(ran, numbers)
        verdict = OPEN
        if all(stars):
            steps = [s.number for s in stars]
            verdict = HOLDS if all(a > b for a, b in pairwise(steps)) else FAILS
        out.append(
            Answer("rate-steps", ran[0].title, ours + ".", verdict, _basis(ran[0]), _keys(*stars))
        )
    return out


def _rewound(evidence: Evidence) -> Iterable[tuple[Field, list[Field]]]:
    for group in evidence.groups("rewinds"):
        rewind = _of(group, rewind="rewind")
        others = [one for r in ("reinit", "continue") if (one := _of(group, rewind=r)) and one.best]
        if rewind is not None and rewind.best and others:
            yield rewind, others


def _rewind_stable(evidence: Evidence) -> list[Answer]:
    out = []
    for rewind, others in _rewound(evidence):
        counts = {one.ladder.rewind: one.seeds_that_win for one in (rewind, *others)}
        ours = f"seeds for which a ticket wins by definition, of {len(rewind.seeds)}: "
        ours += ", ".join(f"{name} {count}" for name, count in counts.items()) + "."
        verdict = _all([_oftener(rewind, other) for other in others])
        keys = _keys(*(s for one in (rewind, *others) for s in one.standings))
        out.append(Answer("rewind-stable", rewind.title, ours, verdict, _basis(rewind), keys))
    return out


def _oftener(a: Field, b: Field) -> str:
    """Whether tickets win by definition for more seeds of one field than of another: the exact sign
    test over the seeds that differ, which needs six of them to decide anything."""
    won = [
        [
            any(s.won[seed] for s in one.standings if s and s.number)
            for seed in range(len(one.seeds))
        ]
        for one in (a, b)
    ]
    more = sum(x and not y for x, y in zip(*won, strict=True))
    less = sum(y and not x for x, y in zip(*won, strict=True))
    if not more + less or binomtest(more, more + less).pvalue > 1 - LEVEL:
        return OPEN
    return HOLDS if more > less else FAILS


def _rewind_better(evidence: Evidence) -> list[Answer]:
    out = []
    for rewind, others in _rewound(evidence):
        said, verdicts = [], []
        for other in others:
            said.append(_best_said(rewind, other, "rewinds"))
            verdicts.append(_sign(best_against(rewind, other)))
        stars = [(one.ladder.rewind, one.sparsest) for one in (rewind, *others)]
        said.append(
            "Sparsest winning ticket: " + ", ".join(f"{n} {_density(s)}" for n, s in stars) + "."
        )
        keys = _keys(rewind.best, *(one.best for one in others))
        ours, verdict = " ".join(said), _all(verdicts)
        out.append(Answer("rewind-better", rewind.title, ours, verdict, _basis(rewind), keys))
    return out


# --- §4.6, §4.7 -----------------------------------------------------------------------------------


def _training_speed(evidence: Evidence) -> list[Answer]:
    out = []
    for one in evidence.each("existence"):
        star = one.sparsest
        if star is None:
            continue
        backbone = one.spec.model.backbone
        p = pace(star.number, _records(one, star), one.records(0))
        ours = (
            f"at the sparsest winning ticket ({star.density:.1%}) the dense model's best epoch is "
            f"{p.by_best.mean:.1f} times the ticket's"
        )
        if not np.isnan(p.by_best.low):
            ours += f" (95 % {p.by_best.low:.1f} to {p.by_best.high:.1f})"
        ours += f"; the ticket reaches the dense model's best in {p.matched} of {p.runs} runs"
        if p.by_match is not None:
            ours += f", then {p.by_match.mean:.1f} times as early"
        verdict = {1: HOLDS, -1: FAILS, 0: OPEN}[sign(p.by_best, 1.0)]
        ours += ". That it is faster, by whatever factor:"
        stated = paper.claim("training-speed").numbers if one.has_usual_batches else ()
        numbers = [n for n in stated if n.backbone == backbone]
        beside = tuple((n, p.by_best.mean) for n in numbers if one.published in paper.DATASETS)
        out.append(Answer("training-speed", one.title, ours, verdict, _basis(one), p.keys, beside))
    return out


def _magnitude(evidence: Evidence) -> list[Answer]:
    out = []
    for ticket in evidence.tickets:
        if ticket.number is None or not ticket.dense or not ticket.number:
            continue
        [share] = [kept.trained for kept in magnitudes(ticket, [ticket.number])]
        over = t_interval(share - ticket.density)
        mean = {n: np.mean([r[n] for r in ticket.removals]) for n in ticket.removals[0]}
        ours = (
            f"of the entries kept, {share.mean():.1%} are among as many largest of the dense model "
            f"as trained; by chance it would be {ticket.density:.1%}. Without the kept entries the "
            f"dense model's Recall@20 is {mean['kept removed']:.4f}, without as many pruned ones "
            f"{mean['pruned removed']:.4f}, with all {mean['all']:.4f}."
        )
        worse = t_interval([r["pruned removed"] - r["kept removed"] for r in ticket.removals])
        verdict = _all([_sign(over), _sign(worse)])
        one = ticket.field
        keys = _keys(one.standings[ticket.number])
        out.append(Answer("magnitude", one.title, ours, verdict, _basis(one), keys))
    return out


ANSWERS: dict[str, Callable[[Evidence], list[Answer]]] = {
    "abstract-density": _abstract_density,
    "existence": _existence,
    "kwai-mf": _over_dense("kwai-mf"),
    "kwai-lightgcn": _over_dense("kwai-lightgcn"),
    "complexity": _complexity,
    "omp-sparsity": _omp_sparsity,
    "omp-recall": _omp_recall,
    "rp-finds": _rp_finds,
    "rp-falls": _rp_falls,
    "lcm-50": _lcm("lcm-50", 0.5),
    "lcm-25": _lcm("lcm-25", 0.25),
    "size-trend": _size_trend,
    "size-exists": _size_exists,
    "rate-sparsity": _rate_sparsity,
    "rate-recall": _rate_recall,
    "rate-steps": _rate_steps,
    "rewind-stable": _rewind_stable,
    "rewind-better": _rewind_better,
    "training-speed": _training_speed,
    "magnitude": _magnitude,
}
