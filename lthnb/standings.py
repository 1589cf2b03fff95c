"""Ladders over seeds, and where they stand: from records to verdicts.

A *field* is one ladder climbed with several seeds. Its standings are one line a rung: results over
seeds, the paired difference to dense, and both readings of winning (see `verdicts`).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from functools import cached_property, partial
from typing import Any

import numpy as np

from lthnb.config import DENSE, ConfigError, Ladder, Spec, Training
from lthnb.data import Interactions, Shape, card
from lthnb.evaluation import evaluate_popularity
from lthnb.lottery import Planned, climb, plan
from lthnb.store.records import Record
from lthnb.store.runs import Store
from lthnb.training import Control, Stopped
from lthnb.verdicts import (
    Interval,
    claim,
    relative_difference,
    sparsest_winning,
    t_interval,
    user_bootstrap,
    wins_by_definition,
)


@dataclass(frozen=True, eq=False)
class Field:
    """A ladder over seeds: `rungs[s][i]` is rung i with seed s, recorded or missing.

    source: the name of the data. published: the named source that they are from (a file of one's
    own may be called like one, and is none). popular: Recall@20 on test of recommending to everyone
    what is most popular; None where that was not asked for.
    """

    ladder: Ladder
    spec: Spec
    source: str
    published: str
    seeds: tuple[int, ...]
    rungs: tuple[tuple[Planned, ...], ...]
    popular: float | None = None

    @property
    def missing(self) -> int:
        """Trainings that are not recorded."""
        return sum(rung.record is None for rungs in self.rungs for rung in rungs)

    def records(self, number: int) -> list[Record] | None:
        """The records of a rung, one a seed; None where one is missing."""
        found = [rungs[number].record for rungs in self.rungs]
        return None if None in found else found

    @property
    def chosen_on(self) -> str:
        """The part that chose the epochs and chooses the ticket: valid, or under `paper` test."""
        return self.spec.training.chosen_on

    @property
    def has_usual_batches(self) -> bool:
        """Whether its batches are of the paper's size, so that its numbers may stand beside it."""
        return self.spec.training.batch_size == Training().batch_size

    @property
    def title(self) -> str:
        """Backbone and data, and what is otherwise than usual: settings of the training that are
        not the paper's, the criterion, the protocol."""
        by = self.ladder.criterion
        pruned = "" if by == "magnitude" else f", pruned by {by}"
        return titled(self.spec, self.source, pruned)

    @cached_property
    def standings(self) -> list[Standing | None]:
        """One :class:`Standing` a rung, None where a training of it, or of the dense model, is
        missing. Rung 0 stands against itself, with differences of zero.
        """
        rungs = [self.records(number) for number in range(len(self.rungs[0]))]
        return [
            None if records is None or rungs[0] is None else _standing(number, records, rungs[0])
            for number, records in enumerate(rungs)
        ]

    @property
    def sparsest(self) -> Standing | None:
        """The sparsest winning ticket, chosen on valid; None where no rung wins there."""
        return self.sparsest_among(None)

    def sparsest_among(self, densities: Collection[float] | None) -> Standing | None:
        """The same, among the rungs with some densities (to 0.1 %) alone; None for all."""
        there = [
            s
            for s in self.standings
            if s is not None
            and (densities is None or any(abs(s.density / d - 1) < 1e-3 for d in densities))
        ]
        index = sparsest_winning([s.density for s in there], [s.difference_valid for s in there])
        return None if index is None else there[index]

    @property
    def best(self) -> Standing | None:
        """The ticket with the best mean difference to dense on the part that chooses; None where no
        ticket was run. Its result is what it then reaches on test."""
        tickets = [s for s in self.standings if s is not None and s.number]
        return max(tickets, key=lambda s: s.difference_valid.mean, default=None)

    @property
    def seeds_that_win(self) -> int | None:
        """Seeds for which some ticket wins by the paper's definition (§3.3), on the part that
        chooses; None where no ticket was run with all seeds."""
        tickets = [s for s in self.standings if s is not None and s.number]
        if not tickets:
            return None
        return sum(any(s.won[seed] for s in tickets) for seed in range(len(self.seeds)))

    def cost(self, number: int) -> Cost | None:
        """What a rung costs from nothing, over seeds: the trainings that find its mask, and its
        own. None where one of them is missing."""
        search = {"imp": range(number), "omp": range(min(1, number))}.get(self.ladder.method, ())
        found = [self.records(rung) for rung in (*search, number)]
        if None in found:
            return None
        runs = [record for records in found for record in records]
        epochs, seconds = (
            sum(values) / len(self.seeds)
            for values in ([r.epochs for r in runs], [r.seconds for r in runs])
        )
        return Cost(len(found), epochs, seconds)

    @property
    def kind(self) -> tuple[str, ...]:
        """What fields must share to be compared: title, split of the data, and step."""
        record = next((r for row in self.rungs for rung in row if (r := rung.record)), None)
        ran = () if record is None else (record.data["digest"], record.spec["training"]["step"])
        return (self.title, *ran)

    def with_seeds(self, seeds: Sequence[int]) -> Field:
        """The same field with some of its seeds alone."""
        if tuple(seeds) == self.seeds:
            return self  # and with it what was worked out of it
        rungs = tuple(self.rungs[self.seeds.index(seed)] for seed in seeds)
        return replace(self, seeds=tuple(seeds), rungs=rungs)

    @property
    def with_masks(self) -> Field | None:
        """The same field with the seeds of which the masks of all rungs that were run are kept
        (`results/` has those of few seeds); None where no seed has them."""
        seeds = [
            seed
            for seed, row in zip(self.seeds, self.rungs, strict=True)
            if all(rung.record is None or rung.mask.there() for rung in row)
        ]
        return self.with_seeds(seeds) if seeds else None

    @property
    def to_take_home(self) -> int:
        """Number of the rung to use: the sparsest that wins on valid; where none does beyond
        doubt, the sparsest whose mean on valid is not below the dense model's; else the rung with
        the best mean there.

        Raises ValueError where nothing was run.
        """
        there = [s for s in self.standings if s is not None]
        if not there:
            raise ValueError(f"{self!r}: no rung was run; there is nothing to choose from.")
        level = [s for s in there if s.number and s.difference_valid.mean >= 0]
        if self.sparsest or level:
            return (self.sparsest or level[-1]).number
        tickets = [s for s in there if s.number] or there
        return max(tickets, key=lambda s: s.difference_valid.mean).number

    @property
    def first_seed(self) -> tuple[Ladder, Spec]:
        """Ladder and spec of the first seed, to climb again (which trains nothing anew)."""
        return seeded(self.ladder, self.spec, self.seeds[0])

    @property
    def finding(self) -> str:
        """What the field shows, in a sentence or two that name their numbers."""
        return _finding(self)

    def __repr__(self) -> str:
        total = len(self.seeds) * len(self.rungs[0])
        return (
            f"Field({self.source}, {self.spec.model.backbone}, F = "
            f"{self.spec.model.embedding_size}, {self.ladder.method}, rate "
            f"{self.ladder.pruning_rate:.3g}, {self.ladder.rewind}, seeds {list(self.seeds)}, "
            f"{total - self.missing} of {total} trainings recorded)"
        )

    def _repr_html_(self) -> str:
        return card(
            f"{self.title}: {self.ladder.method}, {len(self.seeds)} ladders",
            {
                f"rung {planned.number}, density {planned.density:.1%}": "not run"
                if s is None
                else f"Recall@20 {s.results['recall@20']:.4f} on test, wins by definition in "
                f"{s.wins} of {s.runs}"
                for planned, s in zip(self.rungs[0], self.standings, strict=True)
            },
        )


def fields_of(
    contests: Sequence[tuple[Ladder, Spec]],
    data: Interactions,
    seeds: Sequence[int],
    control: Control,
    *,
    train_missing: bool = True,
    workers: int = 1,
) -> list[Field]:
    """Climb each ladder once for each seed, or look up what is recorded of it.

    contests: ladder and spec of each field. A seed s sets both X⁰ and the order of triplets. With
    `train_missing` false nothing is trained, and what is not in the store or in `results/` stays
    missing. workers: processes that climb side by side, sharing the cores (0: one per core); they
    meet in the store alone, so the records are the same.
    """
    check_seeds(seeds)
    fields = [[seeded(ladder, spec, s) for s in seeds] for ladder, spec in contests]
    if train_missing:
        todo = [
            partial(climb_to_the_end, ladder, spec, data)
            for row in fields
            for ladder, spec in row
            if any(
                rung.record is None
                for rung in plan(ladder, spec, data, control.store, control.device)
            )
        ]
        side_by_side(todo, control, workers, "ladder")
    popular = evaluate_popularity(data, "test").means()["recall@20"]
    return [
        Field(
            ladder,
            spec,
            data.name,
            str(data.origin.get("source", "")),
            tuple(seeds),
            tuple(tuple(plan(*pair, data, control.store, control.device)) for pair in row),
            popular,
        )
        for (ladder, spec), row in zip(contests, fields, strict=True)
    ]


def recorded_fields(
    contests: Sequence[tuple[Ladder, Spec]], store: Store, *, dense_alone: bool = False
) -> list[Field]:
    """What comes with the project, in `results/`, of each ladder: one field for each data set and
    step that has a run of a ticket (or with `dense_alone` of a dense model), with the seeds that
    have the most of it. Nothing is trained, and no data are read.
    """
    found = recorded_by_contest(contests, store, dense_alone=dense_alone)
    return [one for contest in contests for one in found[contest]]


def recorded_by_contest(
    contests: Iterable[tuple[Ladder, Spec]], store: Store, *, dense_alone: bool = False
) -> dict[tuple[Ladder, Spec], list[Field]]:
    """The same by ladder and spec, for many contests at once: the records are read once."""
    records = store.recorded()
    shapes, seeds = shapes_in(records), seeds_in(records)
    steps = sorted({r.spec["training"]["step"] for r in records})
    found: dict[tuple[Ladder, Spec], list[Field]] = {contest: [] for contest in contests}
    for contest, shape, step in itertools.product(found, shapes, steps):
        ladder, made = contest[0], contest[1].with_training(step=step)
        # A ladder stands on its dense model; most have none here, and are done with at once.
        alone = replace(ladder, rungs=0, densities=())
        based = [s for s in seeds if plan(*seeded(alone, made, s), shape, store)[0].record]
        rows = {s: plan(*seeded(ladder, made, s), shape, store) for s in based}
        done = {s: sum(rung.record is not None for rung in row) for s, row in rows.items()}
        # A field's rung needs all of its seeds: those that are further behind wait.
        most = max(done.values(), default=0)
        there = {s: tuple(row) for s, row in rows.items() if done[s] == most}
        if there and most > (0 if dense_alone else 1):
            source = str(shape.origin.get("source", ""))
            ran = tuple(there.values())
            found[contest].append(Field(ladder, made, shape.name, source, tuple(there), ran))
    return found


def titled(spec: Spec, source: str, more: str = "") -> str:
    """Backbone and data, the settings of the training that are not the paper's (§4.1), and the
    protocol where it is `paper`."""
    other = otherwise(spec.training, Training(), ("l2", "learning_rate", "batch_size"))
    under = [] if spec.training.chosen_on == "valid" else ["protocol paper (epochs chosen on test)"]
    name = BACKBONE_NAMES[spec.model.backbone]
    return ", ".join([f"{name} on {source}{more}", *other, *under])


SAID = {
    "l2": "λ = {:g}",
    "learning_rate": "learning rate {:g}",
    "batch_size": "batches of {}",
    "patience": "patience {}",
    "evaluate_every": "evaluated every {} epochs",
}


def otherwise(training: Training, usual: Training, names: Sequence[str]) -> list[str]:
    """Which of some settings (:data:`SAID`) differ from the usual ones, in words."""
    values = {name: getattr(training, name) for name in names}
    return [SAID[n].format(v) for n, v in values.items() if v != getattr(usual, n)]


def grouped(fields: Sequence[Field]) -> list[list[Field]]:
    """Fields that can be compared (:attr:`Field.kind`), each group with the seeds that all of its
    fields have; where they have none in common, each stands by itself."""
    groups: dict[tuple, list[Field]] = {}
    for one in fields:
        groups.setdefault(one.kind, []).append(one)
    out: list[list[Field]] = []
    for group in groups.values():
        shared = [s for s in group[0].seeds if all(s in one.seeds for one in group)]
        out += [[one.with_seeds(shared) for one in group]] if shared else [[one] for one in group]
    return out


@dataclass(frozen=True, eq=False)
class Narrow:
    """An ordinary dense table of few columns, and a ticket of a wider table with about as many
    entries.

    narrow, wide: fields of one group (:func:`grouped`). number: the ticket's rung, the sparsest
    that has no fewer entries. more: by which share it has more. difference: of the ticket's
    Recall@20 on test to the narrow table's, paired by seed.
    """

    narrow: Field
    wide: Field
    number: int
    more: float
    difference: Interval


def beside_narrow(fields: Sequence[Field], most: float = 0.1) -> list[Narrow]:
    """The dense table of each embedding size beside a ticket of each larger one, where one was run
    that has at most `most` more entries."""
    found = []
    for group in grouped(fields):
        by_size = sorted(group, key=lambda one: one.spec.model.embedding_size)
        for narrow, wide in itertools.combinations(by_size, 2):
            dense = narrow.records(0)
            if dense is None:
                continue
            entries = dense[0].mask["entries"]
            tickets = {s.number: wide.records(s.number) for s in wide.standings if s and s.number}
            more = {n: runs[0].mask["entries"] / entries - 1 for n, runs in tickets.items()}
            near = [n for n, share in more.items() if 0 <= share <= most]
            if near:
                number = min(near, key=more.get)
                beside = difference(tickets[number], dense)
                found.append(Narrow(narrow, wide, number, more[number], beside))
    return found


def has_setting(record: Record, spec: Spec) -> bool:
    """Whether a run has a spec's settings, its seed and its step apart."""
    ran = record.spec["training"]
    same = spec.with_training(order_seed=ran["order_seed"], step=ran["step"])
    return record.spec == same.described()


def records_in(fields: Sequence[Field]) -> list[Record]:
    """The records of some fields, each once: what their ladders climbed, and nothing else."""
    rungs = (rung for one in fields for row in one.rungs for rung in row)
    return list({r.key: r for rung in rungs if (r := rung.record) is not None}.values())


def seeded(ladder: Ladder, spec: Spec, seed: int) -> tuple[Ladder, Spec]:
    """Ladder and spec of one seed, which sets both X⁰ and the order of triplets."""
    return replace(ladder, seed=seed), spec.with_training(order_seed=seed)


def shapes_in(records: Iterable[Record]) -> list[Shape]:
    """The shapes of the splits that some records are of, each once."""
    return list({r.data["digest"]: Shape.of(r.data) for r in records}.values())


def seeds_in(records: Iterable[Record]) -> list[int]:
    """The seeds of the ladders of some records, sorted: those of their dense models. (A ticket that
    was trained again with another order has one that no ladder has.)"""
    return sorted({r.spec["training"]["order_seed"] for r in records if r.mask["digest"] == DENSE})


def check_seeds(seeds: Sequence[int]) -> None:
    """Refuse, with a ConfigError, no seeds at all and a seed given twice."""
    if not seeds or len(set(seeds)) != len(seeds):
        raise ConfigError(
            f"seeds: found {list(seeds)}, expected one or more, each once: a seed given twice is "
            "one run, and would look like agreement."
        )


def side_by_side(
    todo: Sequence[Callable[[Control], Any]], control: Control, workers: int, what: str
) -> None:
    """Call each with the control, in this process or side by side; a bar counts what is done.

    todo: what can be sent to another process, such as ``partial(climb_to_the_end, …)``. workers:
    processes, which share the cores (0: one per core). what: the name of one of them, for the bar.
    """
    workers = min(workers or os.cpu_count() or 1, len(todo))
    if workers <= 1:
        for work in todo:
            work(control)
        return
    # Here, not above: the core runs without joblib, one after the other.
    from joblib import Parallel, delayed, parallel_config
    from tqdm import tqdm

    threads, me = max(1, (os.cpu_count() or 1) // workers), os.getpid()
    with parallel_config("loky", n_jobs=workers, inner_max_num_threads=threads):
        done = Parallel(return_as="generator_unordered")(
            # A worker whose parent was killed stops at the next epoch's end.
            delayed(done_or_stopped)(work, replace(control, progress=False, owner=me))
            for work in todo
        )
        bar = tqdm(done, total=len(todo), desc=f"{what}s", unit=what, disable=not control.progress)
        stopped = [stop for stop in bar if stop is not None]
    if stopped:
        raise stopped[0]


def climb_to_the_end(ladder: Ladder, spec: Spec, data: Interactions, control: Control) -> None:
    """Climb a ladder for what it leaves in the store."""
    for _ in climb(ladder, spec, data, control):
        pass


def done_or_stopped(work: Callable[[Control], Any], control: Control) -> Stopped | None:
    """In a worker: a stop is returned, not raised, so that the others come to their own ends."""
    try:
        work(control)
    except Stopped as stop:
        return stop
    return None


@dataclass(frozen=True)
class Cost:
    """Trainings, and the mean over seeds of all their epochs and of their seconds."""

    trainings: int
    epochs: float
    seconds: float


@dataclass(frozen=True)
class Standing:
    """One rung over all seeds.

    results: metric → mean over seeds, on test. difference, difference_valid: to dense in Recall@20,
    relative, paired by seed (on test over users, where there is one run). won: by seed, whether the
    rung wins by definition. claim: the verdict over seeds, None where they do not carry one.
    epoch: mean best epoch. records, dense: the runs, and the dense model's.
    """

    number: int
    density: float
    results: dict[str, float]
    spread: float
    difference_valid: Interval
    won: tuple[bool, ...]
    epoch: float
    records: tuple[Record, ...] = dataclass_field(repr=False)
    dense: tuple[Record, ...] = dataclass_field(repr=False)

    @property
    def runs(self) -> int:
        """How many runs there are, one a seed."""
        return len(self.records)

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the runs."""
        return tuple(r.key for r in self.records)

    @property
    def wins(self) -> int:
        """In how many of the `runs` the rung wins by definition."""
        return sum(self.won)

    @cached_property
    def difference(self) -> Interval:
        """See above. Worked out when asked for: over the users of a large set it takes a moment."""
        if self.number == 0:
            return t_interval([0.0] * self.runs)
        return difference(self.records, self.dense)

    @property
    def claim(self) -> bool | None:
        """See above; None for the dense model itself."""
        return claim(self.difference) if self.number else None


def difference(records: Sequence[Record], base: Sequence[Record]) -> Interval:
    """Relative difference in Recall@20 on test: paired by seed, or over users where there is one
    run of each."""
    if len(records) == len(base) == 1:
        return user_bootstrap(records[0].hits(), base[0].hits())
    return relative_difference(*([r.metric("recall@20") for r in runs] for runs in (records, base)))


def _standing(number: int, records: list[Record], dense: list[Record]) -> Standing:
    # Under `paper` there is no validation part: epochs were chosen on test, and so is the ticket.
    chosen = "valid" if records[0].results["valid"] else "test"
    recall = {part: [r.metric("recall@20", part) for r in records] for part in ("test", chosen)}
    base = {part: [r.metric("recall@20", part) for r in dense] for part in ("test", chosen)}
    won = tuple(
        wins_by_definition(a, r.best_epoch, b, d.best_epoch, r.density)
        for a, b, r, d in zip(recall[chosen], base[chosen], records, dense, strict=True)
    )
    names = records[0].results["test"]
    return Standing(
        number=number,
        density=records[0].density,
        results={m: float(np.mean([r.metric(m) for r in records])) for m in names},
        spread=float(np.std(recall["test"], ddof=1)) if len(records) > 1 else 0.0,
        difference_valid=relative_difference(recall[chosen], base[chosen]),
        won=won,
        epoch=float(np.mean([r.best_epoch for r in records])),
        records=tuple(records),
        dense=tuple(dense),
    )


def _finding(field: Field) -> str:
    name = field.title
    dense, star = field.standings[0], field.sparsest
    if dense is None:
        return f"{name}: not run yet ({field.missing} trainings missing)."
    part = field.chosen_on
    shown = star or next(
        s for s in field.standings if s is not None and s.number == field.to_take_home
    )
    if star is not None:
        one = ", in its one run," if star.runs == 1 else ""
        opening = f"the sparsest ticket that wins on {part}{one}"
    elif shown.number:
        opening = f"no rung wins beyond doubt on {part}. The ticket that we would take"
    else:
        return f"{name}: the dense model's Recall@20 on test is {dense.results['recall@20']:.4f}."
    d = shown.difference
    verdict = {
        True: "there it wins, as a claim",
        False: "there winning is not shown, as a claim",
        None: f"with {_count(shown.runs, 'run')}, there is no claim",
    }[shown.claim]
    return (
        f"{name}: {opening} keeps {shown.density:.1%} of the entries. On test its Recall@20 is "
        f"{shown.results['recall@20']:.4f} against {dense.results['recall@20']:.4f} for the dense "
        f"model, {d.mean:+.1%} (95 % interval {d.low:+.1%} to {d.high:+.1%}, {d.kind}): {verdict}. "
        f"By the paper's definition, on {part}, it wins in {shown.wins} of "
        f"{_count(shown.runs, 'run')}." + _beside_popularity(field, dense.results["recall@20"])
    )


def _beside_popularity(field: Field, dense: float) -> str:
    """A warning where the dense model has learnt less than which items are popular."""
    if field.popular is None or dense >= field.popular:
        return ""
    return (
        f" But recommending to everyone what is most popular has {field.popular:.4f}: the dense "
        "model has learnt less than that, so its tickets say nothing yet. Train longer."
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("s" if number != 1 else "")


BACKBONE_NAMES = {"mf": "MF", "lightgcn": "LightGCN"}

METHOD_NAMES = {"imp": "IMP", "omp": "OMP", "rp": "RP", "rp_x0": "RP over X⁰"}
