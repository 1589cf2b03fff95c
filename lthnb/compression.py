"""Tickets beside the linear compression model (§4.4, Table 3), and beside small dense models.

A dense table of size d is to be brought down to a share p of its entries, in three ways: the ticket
at density p; LCM, which maps the trained table to p·d columns; and what the paper leaves out, an
ordinary dense model of p·d columns, trained from nothing. All three serve as many entries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from lthnb.config import DENSE, Compressed, Match, Seeded, Spec, run_key
from lthnb.data import Interactions, Shape
from lthnb.lottery import plan, targets, train_dense
from lthnb.pruning import Mask
from lthnb.standings import (
    check_seeds,
    climb_to_the_end,
    difference,
    seeded,
    seeds_in,
    shapes_in,
    side_by_side,
    titled,
)
from lthnb.steps import resolve
from lthnb.store.records import Record, search_row, search_tags
from lthnb.store.runs import Store
from lthnb.training import Control, train
from lthnb.verdicts import Interval, sign

METHODS = ("dense", "ticket", "lcm", "small")
# What is compared: the paper's comparison first, then the two that it leaves out.
PAIRS = (("ticket", "lcm"), ("ticket", "small"), ("lcm", "small"))


@dataclass(frozen=True, eq=False)
class Compression:
    """One original size brought down to one density, over seeds.

    data: name, users and items of the data. kept: entries that the ticket keeps. runs: method
    (:data:`METHODS`) → its records, one a seed, None where it was not run.
    """

    match: Match
    density: float
    data: Shape
    seeds: tuple[int, ...]
    kept: int
    runs: dict[str, tuple[Record | None, ...]]

    @property
    def spec(self) -> Spec:
        """The dense model's, of the original size."""
        return self.match.dense

    @property
    def published(self) -> str:
        """The named source that the data are from."""
        return str(self.data.origin.get("source", ""))

    @property
    def original_size(self) -> int:
        """d, columns of the dense table."""
        return self.spec.model.embedding_size

    @property
    def size(self) -> int:
        """Columns of LCM's table and of the small dense one."""
        return self.match.size(self.density)

    @property
    def title(self) -> str:
        """As :attr:`standings.Field.title`."""
        return titled(self.spec, self.data.name)

    @property
    def missing(self) -> int:
        """Trainings that are not recorded, of those that are compared."""
        return sum(record is None for row in self.runs.values() for record in row)

    @property
    def complete(self) -> bool:
        """Whether every method is recorded with every seed."""
        return not self.missing

    @property
    def keys(self) -> tuple[str, ...]:
        """The runs that are recorded."""
        return tuple(r.key for row in self.runs.values() for r in row if r is not None)

    def records(self, method: str) -> list[Record] | None:
        """A method's records, one a seed; None where one is missing."""
        row = list(self.runs[method])
        return None if None in row else row

    def values(self, method: str, metric: str = "recall@20") -> np.ndarray | None:
        """A metric on test, one value a seed; None where a run is missing."""
        records = self.records(method)
        return None if records is None else np.array([r.metric(metric) for r in records])

    def difference(self, method: str, to: str) -> Interval | None:
        """Relative difference of two methods in Recall@20 on test, paired by seed (over users where
        there is one); None where a run is missing."""
        one, other = self.records(method), self.records(to)
        return None if one is None or other is None else difference(one, other)

    def entries(self, method: str) -> int:
        """Entries of the table that serving needs, LCM's when it has been worked out."""
        rows, small = self.data.rows, self.data.rows * self.size
        sizes = {"dense": rows * self.original_size, "ticket": self.kept}
        return {**sizes, "lcm": small, "small": small}[method]

    @property
    def entries_with_teacher(self) -> int:
        """Entries of LCM where its teacher and its two maps are kept instead of the table."""
        d = self.original_size
        return self.data.rows * d + 2 * (d + 1) * self.size

    @property
    def finding(self) -> str:
        """What is shown and what is not, in sentences that name their numbers."""
        return _finding(self)

    def __repr__(self) -> str:
        total = len(METHODS) * len(self.seeds)
        return (
            f"Compression({self.title}, {self.original_size} → {self.size}, density "
            f"{self.density:g}, {total - self.missing} of {total} trainings recorded)"
        )


def compressions_of(
    matches: Sequence[Match],
    data: Interactions | Shape,
    seeds: Sequence[int],
    control: Control,
    *,
    train_missing: bool = True,
    workers: int = 1,
) -> list[Compression]:
    """Train what each match needs, once for each seed, or look up what is recorded of it, for which
    the shape of the data is enough.

    A seed s sets X⁰, the start of LCM's maps and the order of triplets. One for each match and
    density comes back. `train_missing` and `workers` are those of :func:`standings.fields_of`.
    """
    check_seeds(seeds)
    if train_missing:
        first, then = [], []
        for match in matches:
            for seed in seeds:
                ladders, small, lcm = _todo(match, data, seed, control)
                first = [*ladders, *first, *small]  # ladders are the longest, and so the first
                then += lcm
        side_by_side(first, control, workers, "ladder or model")
        side_by_side(then, control, workers, "compression")
    return _look_up(matches, data, seeds, control.store, control.device)


def recorded(matches: Sequence[Match], store: Store) -> list[Compression]:
    """What comes with the project, in `results/`, of each match: one for each density, data set and
    step that has a run of LCM or of the ticket, with the seeds that have the most of it.
    Nothing is trained, and no data are read.
    """
    records = store.recorded()
    seeds = seeds_in(records)
    found = []
    for shape in shapes_in(records):
        for device in ("cpu", "cuda"):  # which step `auto` meant where they were run
            for one in _look_up(matches, shape, seeds, store, device):
                done = [
                    sum(r is not None for r in row) for row in zip(*one.runs.values(), strict=True)
                ]
                # The seeds that have the most of it: a comparison needs all of a field's seeds.
                there = [i for i, count in enumerate(done) if count == max(done) > 0]
                runs = {m: tuple(row[i] for i in there) for m, row in one.runs.items()}
                if any(record is not None for m in ("ticket", "lcm") for record in runs[m]):
                    kept = tuple(seeds[i] for i in there)
                    found.append(replace(one, seeds=kept, runs=runs))
    return found


def _todo(
    match: Match, data: Interactions, seed: int, control: Control
) -> tuple[list[Callable], list[Callable], list[Callable]]:
    """What is missing with a seed: ladders, small dense models, and LCMs, which come after them."""
    one = _look_up([match], data, [seed], control.store, control.device)
    ladder, spec = seeded(match.ladder, match.dense, seed)
    rungs = plan(ladder, spec, data, control.store, control.device)
    climbs = [partial(climb_to_the_end, ladder, spec, data)]
    wanted = [(c.density, {m: row[0] for m, row in c.runs.items()}) for c in one]
    return (
        climbs if any(rung.record is None for rung in rungs) else [],
        [partial(_train_small, match, p, data, seed) for p, runs in wanted if not runs["small"]],
        [partial(_train_lcm, match, p, data, seed) for p, runs in wanted if not runs["lcm"]],
    )


def _train_small(
    match: Match, density: float, data: Interactions, seed: int, control: Control
) -> None:
    train_dense(match.small(density).with_training(order_seed=seed), data, seed, control)


def _train_lcm(
    match: Match, density: float, data: Interactions, seed: int, control: Control
) -> None:
    teacher_spec = match.dense.with_training(order_seed=seed)
    teacher = train_dense(teacher_spec, data, seed, control)
    spec = match.lcm(density).with_training(order_seed=seed)
    mask = Mask.dense(data.rows, match.size(density))
    lcm = train(spec, data, Compressed(teacher.key, seed), mask, control, seed)
    tags, share = search_tags("lcm", seed), match.size(density) / match.dense.model.embedding_size
    for number, density_, key in ((0, 1.0, teacher.key), (1, share, lcm.key)):
        control.store.put_search(search_row(tags, teacher.key, number, density_, key))


def _look_up(
    matches: Sequence[Match],
    data: Interactions | Shape,
    seeds: Sequence[int],
    store: Store,
    device: str,
) -> list[Compression]:
    """What is recorded of each match and density; nothing is trained."""
    shape = data if isinstance(data, Shape) else Shape.of(data.summary())

    def find(spec: Spec, init: Seeded | Compressed) -> Record | None:
        return store.find(run_key(resolve(spec, device), data.digest, init, DENSE))

    found = []
    for match in matches:
        rungs, teachers = {}, {}
        for seed in seeds:
            ladder, spec = seeded(match.ladder, match.dense, seed)
            rungs[seed] = plan(ladder, spec, data, store, device)
            teachers[seed] = run_key(resolve(spec, device), data.digest, Seeded(seed), DENSE)
        keep = targets(match.ladder, data, match.dense.model.embedding_size)
        for density in match.densities:
            number = match.ladder.densities.index(density) + 1
            runs: dict[str, list[Record | None]] = {method: [] for method in METHODS}
            for seed in seeds:
                small, lcm = (
                    one.with_training(order_seed=seed)
                    for one in (match.small(density), match.lcm(density))
                )
                runs["dense"].append(rungs[seed][0].record)
                runs["ticket"].append(rungs[seed][number].record)
                runs["small"].append(find(small, Seeded(seed)))
                runs["lcm"].append(find(lcm, Compressed(teachers[seed], seed)))
            rows = {method: tuple(row) for method, row in runs.items()}
            kept = sum(keep[number - 1])
            found.append(Compression(match, density, shape, tuple(seeds), kept, rows))
    return found


def _finding(one: Compression) -> str:
    said = f"{one.title}, from size {one.original_size} at density {one.density:.0%}"
    if not one.complete:
        return f"{said}: not run yet ({one.missing} trainings missing)."
    mean = {method: one.values(method).mean() for method in METHODS}
    runs = "one run of each" if len(one.seeds) == 1 else f"means over {len(one.seeds)} seeds"
    verdicts = " ".join(
        f"{NAMES[a][0].upper()}{NAMES[a][1:]} against {NAMES[b]}: {_said(one.difference(a, b))}."
        for a, b in PAIRS
    )
    return (
        f"{said}: Recall@20 on test is {mean['ticket']:.4f} for the ticket, {mean['lcm']:.4f} for "
        f"LCM and {mean['small']:.4f} for an ordinary dense model of size {one.size} ({runs}); "
        f"the dense model of size {one.original_size} has {mean['dense']:.4f}. {verdicts}"
    )


def _said(d: Interval) -> str:
    if np.isnan(d.low):
        return f"{d.mean:+.1%}, {verdict(d)}"
    return f"{d.mean:+.1%} (95 % interval {d.low:+.1%} to {d.high:+.1%}, {d.kind}): {verdict(d)}"


def verdict(d: Interval) -> str:
    """What an interval shows: that the first is better, that it is worse, or neither."""
    shown = {1: "better", -1: "worse", 0: "no difference is shown"}[sign(d)]
    return shown if d.kind == "t over seeds" else f"{shown}, in one run"


NAMES = {"dense": "dense model", "ticket": "ticket", "lcm": "LCM", "small": "small dense model"}
