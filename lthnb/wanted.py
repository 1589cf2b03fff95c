"""What the book wants recorded at the paper's scale: how much of it is there, about what the rest
will take, and its training, by whoever has a machine to spare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lthnb import draws
from lthnb.compression import compressions_of
from lthnb.config import Ladder, Match, Spec
from lthnb.data import Interactions, Shape
from lthnb.lottery import plan
from lthnb.profiles import (
    LARGE,
    RECORDED,
    SMALL_SETS,
    TUNED_L2,
    isolating,
    literature,
    recorded_matches,
    recorded_tried,
)
from lthnb.sources import SOURCES
from lthnb.standings import BACKBONE_NAMES, METHOD_NAMES, fields_of, otherwise, seeded, shapes_in
from lthnb.store.records import Record
from lthnb.store.runs import Store
from lthnb.training import Control

FEW = (0, 1, 2)
# Backbone → seeds on the small sets: five where a training takes seconds.
SMALL_SEEDS = {"mf": (0, 1, 2, 3, 4), "lightgcn": FEW}


@dataclass(frozen=True)
class Wanted:
    """A ladder at the paper's scale that the book wants recorded: on which source, with which
    seeds, and what for: a chapter of :data:`profiles.CONTESTS`, ``causes`` (its
    :data:`profiles.CAUSES`), a setting of :data:`profiles.TRIED`, ``tuned``
    (:data:`profiles.TUNED_L2`), or ``literature`` (:data:`paper.REFERENCES`)."""

    what_for: str
    source: str
    ladder: Ladder
    spec: Spec
    seeds: tuple[int, ...]

    @property
    def trainings(self) -> int:
        """Trainings in all."""
        return len(self.seeds) * self.ladder.trainings

    @property
    def said(self) -> str:
        """The ladder in a few words, and what it has otherwise than the other recorded ones."""
        ladder, training = self.ladder, self.spec.training
        usual = RECORDED[training.protocol].base.spec(self.spec.model.backbone).training
        names = ("l2", "learning_rate", "batch_size", "patience", "evaluate_every")
        other = otherwise(training, usual, names)
        if not ladder.rungs and not ladder.densities:
            return ", ".join(["dense", *other])
        how = METHOD_NAMES[ladder.method]
        steps = f"{ladder.pruning_rate:.0%} × {ladder.rungs}"
        if ladder.densities:
            steps = f"{len(ladder.densities)} densities"
        way = [] if ladder.rewind == "rewind" else [ladder.rewind]
        cut = [] if ladder.prune_from == "best" else [f"pruned after the {ladder.prune_from} epoch"]
        return ", ".join([how, *way, steps, *cut, *other])

    def records(self, shape: Shape, store: Store, device: str) -> Iterator[Record]:
        """Those that are there on one split, by the step that `auto` means on a device."""
        yield from _rungs(self, shape, store, device)

    def train(self, data: Interactions, control: Control, workers: int = 1) -> None:
        """Train what is missing of it."""
        fields_of([(self.ladder, self.spec)], data, self.seeds, control, workers=workers)


@dataclass(frozen=True)
class WantedMatch:
    """A match of Table 3 that the book wants recorded: on which source, with which seeds."""

    source: str
    match: Match
    seeds: tuple[int, ...]

    @property
    def what_for(self) -> str:
        return "lcm"

    @property
    def ladder(self) -> Ladder:
        """The tickets'."""
        return self.match.ladder

    @property
    def spec(self) -> Spec:
        """The dense model's."""
        return self.match.dense

    @property
    def trainings(self) -> int:
        """Trainings in all: the ladder's, and an LCM and a small dense model for each density."""
        return len(self.seeds) * (self.ladder.trainings + 2 * len(self.match.densities))

    @property
    def said(self) -> str:
        """What is compared, in a few words."""
        densities = " and ".join(f"{p:.0%}" for p in self.match.densities)
        return f"tickets, LCM and small dense models at {densities}"

    def records(self, shape: Shape, store: Store, device: str) -> Iterator[Record]:
        """As :meth:`Wanted.records`."""
        yield from _rungs(self, shape, store, device)
        control = Control(store, device=device)
        for beside in compressions_of(
            [self.match], shape, self.seeds, control, train_missing=False
        ):
            yield from (r for m in ("lcm", "small") for r in beside.runs[m] if r is not None)

    def train(self, data: Interactions, control: Control, workers: int = 1) -> None:
        """Train what is missing of it."""
        compressions_of([self.match], data, self.seeds, control, workers=workers)


@dataclass(frozen=True)
class WantedAgain:
    """Tickets of a ladder's rungs `numbers` that the book wants trained again with half of their
    seed changed (:mod:`draws`); the ladder itself is another line, :attr:`above`."""

    source: str
    ladder: Ladder
    spec: Spec
    numbers: tuple[int, ...]
    seeds: tuple[int, ...]

    @property
    def what_for(self) -> str:
        return "draws"

    @property
    def above(self) -> Wanted:
        """The ladder that finds the tickets."""
        return Wanted("existence", self.source, self.ladder, self.spec, self.seeds)

    @property
    def trainings(self) -> int:
        """Trainings in all, without the ladder's."""
        return len(self.seeds) * len(self.numbers) * len(draws.CHANGES)

    @property
    def said(self) -> str:
        """What is trained again, in a few words."""
        kept = ", ".join(f"{(1 - self.ladder.pruning_rate) ** n:.0%}" for n in self.numbers)
        return f"tickets of {kept} again, with {' or '.join(draws.CHANGES.values())}"

    def records(self, shape: Shape, store: Store, device: str) -> Iterator[Record]:
        """As :meth:`Wanted.records`."""
        for seed in self.seeds:
            ladder, spec = seeded(self.ladder, self.spec, seed)
            rungs = plan(ladder, spec, shape, store, device)
            for number in self.numbers:
                found = draws.again(ladder, spec, rungs[number], store, device)
                yield from (r for r in found if r is not None)

    def train(self, data: Interactions, control: Control, workers: int = 1) -> None:
        """Train what is missing of it, and of the ladder that finds its tickets."""
        contests = [(self.ladder, self.spec)]
        draws.changed_of(contests, self.numbers, data, self.seeds, control, workers=workers)


# Any line of what is wanted.
Line = Wanted | WantedMatch | WantedAgain


def _rungs(one: Wanted | WantedMatch, shape: Shape, store: Store, device: str) -> Iterator[Record]:
    for seed in one.seeds:
        for rung in plan(*seeded(one.ladder, one.spec, seed), shape, store, device):
            if rung.record is not None:
                yield rung.record


def wanted() -> list[Wanted]:
    """All ladders that the book wants recorded, in the order of their worth, run or not.

    A chapter's contestants at the settings of :data:`RECORDED`; OMP and RP at few densities.
    """
    found: dict[tuple, Wanted] = {}

    def want(what_for, source, contests, seeds):
        for ladder, spec in contests:
            key = source, ladder, spec
            if ladder.method != "rp_x0":
                found.setdefault(key, Wanted(what_for, source, ladder, spec, seeds))

    def chapters(source, setting, backbone, seeds, names):
        for name in names:
            want(name, source, RECORDED[setting].contests(name, [backbone]), seeds)

    chapters("yelp2018", "paper", "mf", (0,), ("baselines",))
    for ladder, spec, seed in isolating("mf").values():
        want("causes", "yelp2018", [(ladder, spec)], (seed,))
    main = ("existence", "baselines")
    chapters("yelp2018", "validated", "mf", FEW, main)
    valid = ("validated",)
    curve, best = recorded_tried("l2", ["mf"], valid), TUNED_L2["yelp2018"]["mf"]
    # The best λ and those next to it with all seeds: it must not be the best for being an end.
    near = [one for one in curve if 0.05 < one[1].training.l2 / best < 20]
    want("l2", "yelp2018", near, FEW)
    want("l2", "yelp2018", curve, (0,))
    for backbone, seeds in SMALL_SEEDS.items():
        for source in SMALL_SETS:
            chapters(source, "validated", backbone, seeds, main)
            want("l2", source, recorded_tried("l2", [backbone], valid), seeds)
            chapters(source, "validated", backbone, seeds, ("rewinds", "sizes"))
    for source, chosen in TUNED_L2.items():
        for backbone, value in chosen.items():
            [(ladder, spec)] = RECORDED["validated"].contests("existence", [backbone])
            tuned = [(ladder, spec.with_training(l2=value))]
            want("tuned", source, tuned, SMALL_SEEDS[backbone] if source in SMALL_SETS else FEW)
    for source in SMALL_SETS:
        rates = recorded_tried("learning_rate", ["lightgcn"], valid)
        want("learning_rate", source, rates, SMALL_SEEDS["lightgcn"])
    for source, backbones, seeds in (
        ("movielens", ("mf", "lightgcn"), FEW),
        ("yelp2018", ("lightgcn",), (0,)),
    ):
        for backbone in backbones:
            chapters(source, LARGE, backbone, seeds, main)
            rates = recorded_tried("learning_rate", [backbone], [LARGE])
            want("learning_rate", source, rates, seeds)
    chapters("yelp2018", "validated", "mf", (0,), ("sizes", "rates", "rewinds"))
    chapters("gowalla", "validated", "mf", (0, 1), ("existence",))
    chapters("yelp2018", "paper", "lightgcn", (0,), ("baselines",))
    for one, spec in literature():
        want("literature", one.dataset, [(Ladder(rungs=0), spec)], (0,))
    return list(found.values())


def wanted_matches() -> list[WantedMatch]:
    """What the book wants recorded of tickets beside LCM, run or not: on the small sets at size 64
    under `validated`, and Table 3 itself."""
    matches = recorded_matches()
    small = [
        m
        for m in matches
        if (m.dense.training.protocol, m.dense.model.embedding_size) == ("validated", 64)
    ]
    table3 = [m for m in matches if m.dense.training.protocol == "paper"]
    return [WantedMatch(source, m, FEW) for source in SMALL_SETS for m in small] + [
        WantedMatch("yelp2018", m, (0,)) for m in table3
    ]


def wanted_again() -> list[WantedAgain]:
    """Tickets that the book wants trained again, on the small sets under `validated`."""
    setting = RECORDED["validated"]
    return [
        WantedAgain(source, ladder, spec, setting.base.taken_apart, seeds)
        for backbone, seeds in SMALL_SEEDS.items()
        for source in SMALL_SETS
        for ladder, spec in setting.contests("existence", [backbone])
    ]


def everything() -> list[Line]:
    """All that the book wants recorded, run or not."""
    return [*wanted(), *wanted_matches(), *wanted_again()]


def model_said(one: Line) -> str:
    """Backbone and embedding size."""
    model = one.spec.model
    return f"{BACKBONE_NAMES[model.backbone]}, F = {model.embedding_size}"


def line_said(one: Line) -> str:
    """Data, protocol, model, what of it and what for, in a line."""
    where = f"{one.source}, {one.spec.training.protocol}: {model_said(one)}"
    return f"{where}: {one.said} (for {one.what_for})"


def known(store: Store) -> list[Record]:
    """The records by which the splits of sources are known: those in `results/`, and of sources
    that it lacks the store's own. (Another split of a source, by options of one's own, is no
    evidence.)"""
    recorded = store.recorded()
    sources = {r.data["origin"].get("source") for r in recorded}
    own = (store.find(key) for key in store.run_keys() if not store.is_recorded_result(key))
    return [*recorded, *(r for r in own if r and r.data["origin"].get("source") not in sources)]


def there(
    one: Line, records: Sequence[Record], store: Store, devices: Sequence[str] = ("cpu", "cuda")
) -> list[Record]:
    """What a store has of it, each run once, on whichever split of its source, and by the step of
    whichever device, it has most.

    records: those from which the splits of the source are known.
    """
    of_source = [r for r in records if r.data["origin"].get("source") == one.source]
    best: list[Record] = []
    for shape in shapes_in(of_source):
        for device in devices:
            found = one.records(shape, store, device)
            best = max(best, list({r.key: r for r in found}.values()), key=len)
    return best


def to_record(lines: Sequence[Line], store: Store) -> list[str]:
    """Keys of all finished runs of some lines that lie in the store and not in `results/` yet;
    tickets that were trained again bring their search along."""
    records = known(store)
    every = [*lines, *(one.above for one in lines if isinstance(one, WantedAgain))]
    found = (r.key for one in every for r in there(one, records, store))
    return [key for key in dict.fromkeys(found) if not store.is_recorded_result(key)]


@dataclass(frozen=True)
class Rest:
    """About what missing trainings will take. seconds: None where nothing is known. scaled: whether
    nothing like them is recorded, and runs of other sizes or other data were scaled."""

    seconds: float | None
    scaled: bool = False

    def said(self, duration: Callable[[float], str]) -> str:
        """In words; duration: how a number of seconds is written."""
        if self.seconds is None:
            return "unknown"
        return "≈ " * self.scaled + duration(self.seconds)


def rest(missing: int, one: Line, records: Sequence[Record]) -> Rest:
    """About how long `missing` trainings take: each the mean time of the recorded ones of the same
    data, backbone, size and batch size, whatever their other settings; where there are none, of
    those of the same backbone, scaled, and of the same data if there are any. A training that is
    told to run all its epochs takes all of them."""
    # What LCM takes is most of what a match takes, and it is trained by `reference` alone.
    usable = [
        r
        for r in records
        if r.spec["model"]["backbone"] == one.spec.model.backbone
        and (isinstance(one, WantedMatch) or r.spec["training"]["step"] != "reference")
    ]
    same_data = [r for r in usable if r.data["origin"].get("source") == one.source]
    model, training = one.spec.model, one.spec.training
    setting = model.embedding_size, training.batch_size
    like = [r for r in same_data if _setting(r) == setting]
    pairs = _pairs(one.source, records)
    of = like or same_data or usable
    if not of or pairs is None:
        return Rest(None)
    work = _work(model.backbone, pairs, *setting)
    seconds = [
        r.seconds
        * (1.0 if like else work / _work(model.backbone, r.data["train"], *_setting(r)))
        * (training.epochs / r.epochs if training.patience >= training.epochs else 1.0)
        for r in of
    ]
    return Rest(missing * float(np.mean(seconds)), not like)


def _setting(r: Record) -> tuple[int, int]:
    """What a training's time hangs on beside data and backbone: embedding size and batch size."""
    return r.spec["model"]["embedding_size"], r.spec["training"]["batch_size"]


def _pairs(source: str, records: Sequence[Record]) -> int | None:
    """Training pairs of a source: of its records, else as it should have them."""
    there = (r.data["train"] for r in records if r.data["origin"].get("source") == source)
    return next(there, SOURCES[source].expected.get("train"))


def _work(backbone: str, pairs: int, size: int, batch: int) -> float:
    """What an epoch costs, up to a factor: MF touches the rows of its pairs once, LightGCN sends
    the whole table over all pairs once a batch."""
    return float(pairs) * size * (pairs / batch if backbone == "lightgcn" else 1.0)
