"""Named sizes of the experiments: `smoke` for tests, `quick` for a first read, and `paper`.

A profile is no part of a run's key: it only fills in a spec and a ladder, and two profiles that
fill in the same share their runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lthnb.compression import Match
from lthnb.config import METHODS, REWINDS, ConfigError, Ladder, Model, Spec, Training, nearest


@dataclass(frozen=True)
class Profile:
    """How large the experiments are.

    meaning: in a line, for help and the book. seeds: of X⁰ and order. training: settings other than
    :class:`config.Training`'s defaults; for_backbone: further ones by backbone. ladder: settings of
    the ladder. trains: whether missing runs are trained unless told otherwise.

    What single chapters vary: few_seeds: where many ladders are climbed; few_rungs: of the IMP
    ladder, those at whose densities the other methods are run (empty: all); sizes: embedding sizes
    F; rates: pruning rates, each down to a density of at most `floor`; late_epoch: that of late
    rewinding; compressions: original size and density, as in Table 3; for_lcm: settings of
    :class:`config.Training` that LCM has otherwise than the dense model.
    """

    name: str
    meaning: str
    seeds: tuple[int, ...]
    embedding_size: int = 32
    training: dict[str, Any] = field(default_factory=dict)
    for_backbone: dict[str, dict[str, Any]] = field(default_factory=dict)
    ladder: dict[str, Any] = field(default_factory=dict)
    trains: bool = True
    few_seeds: tuple[int, ...] = (0, 1, 2)
    few_rungs: tuple[int, ...] = ()
    sizes: tuple[int, ...] = (16, 32, 64, 128)
    rates: tuple[float, ...] = (0.05, 0.1, 0.2)
    floor: float = 0.2
    late_epoch: int = 5
    compressions: tuple[tuple[int, float], ...] = ((64, 0.25), (64, 0.5), (128, 0.25), (128, 0.5))
    for_lcm: dict[str, Any] = field(default_factory=dict)

    def spec(
        self, backbone: str, *, embedding_size: int | None = None, protocol: str = "validated"
    ) -> Spec:
        """The spec of a backbone under this profile; `embedding_size` None for the profile's."""
        training = {**self.training, **self.for_backbone.get(backbone, {})}
        return Spec(
            Model(backbone=backbone, embedding_size=embedding_size or self.embedding_size),
            Training(**training, protocol=protocol),
        )

    def ladder_of(self, method: str = "imp", **changes: Any) -> Ladder:
        """The ladder of a method under this profile, with some settings changed."""
        return Ladder(method=method, **{**self.ladder, **changes})

    def contests(
        self,
        chapter: str,
        backbones: Sequence[str],
        *,
        embedding_size: int | None = None,
        protocol: str = "validated",
    ) -> list[tuple[Ladder, Spec]]:
        """Ladder and spec of each contestant of a chapter, one of :data:`CONTESTS`, backbone by
        backbone. Raises ConfigError for an unknown chapter.
        """
        if chapter not in CONTESTS:
            raise ConfigError(
                f"chapter: found {chapter!r}, expected one of {', '.join(CONTESTS)}."
                + nearest(chapter, CONTESTS)
            )
        return [
            contest
            for backbone in dict.fromkeys(backbones)
            for contest in CONTESTS[chapter](
                self, self.spec(backbone, embedding_size=embedding_size, protocol=protocol)
            )
        ]

    def matches(self, backbones: Sequence[str], *, protocol: str = "validated") -> list[Match]:
        """What the chapter on LCM compares: a match for each backbone and original size."""
        return [
            Match(
                self.spec(backbone, embedding_size=size, protocol=protocol),
                tuple(sorted((p for s, p in self.compressions if s == size), reverse=True)),
                self.ladder_of().pruning_rate,
                tuple(self.for_lcm.items()),
            )
            for backbone in dict.fromkeys(backbones)
            for size in dict(self.compressions)
        ]


def _beside(base: Profile, method: str) -> Ladder:
    """Another method's ladder, at the densities of IMP's or at few of them."""
    ladder = base.ladder_of(method)
    if not base.few_rungs:
        return ladder
    kept = 1 - ladder.pruning_rate
    return replace(ladder, densities=tuple(kept**i for i in base.few_rungs))


def _sized(spec: Spec, size: int) -> Spec:
    return replace(spec, model=replace(spec.model, embedding_size=size))


def _at(base: Profile, rate: float) -> Ladder:
    """IMP at a rate, with as many rungs as bring it to the profile's floor."""
    rungs = math.ceil(math.log(base.floor) / math.log(1 - rate) - 1e-9)
    return base.ladder_of(pruning_rate=rate, rungs=rungs)


# Chapter → its contestants, the one that the others are compared with first.
CONTESTS: dict[str, Callable[[Profile, Spec], list[tuple[Ladder, Spec]]]] = {
    "existence": lambda base, spec: [(base.ladder_of(), spec)],
    "baselines": lambda base, spec: [
        (base.ladder_of() if m == "imp" else _beside(base, m), spec) for m in METHODS
    ],
    "sizes": lambda base, spec: [(base.ladder_of(), _sized(spec, f)) for f in base.sizes],
    "rates": lambda base, spec: [(_at(base, rate), spec) for rate in base.rates],
    "rewinds": lambda base, spec: [
        # Only `late` reads the epoch, and a ladder that does not should look the same everywhere.
        (base.ladder_of(rewind=r, rewind_epoch=base.late_epoch if r == "late" else 1), spec)
        for r in REWINDS
    ],
}


PROFILES = {
    "smoke": Profile(
        "smoke",
        "seconds a chapter: shows that everything runs, and proves nothing",
        seeds=(0, 1, 2),
        embedding_size=8,
        training={"epochs": 3, "patience": 3, "learning_rate": 1e-2},
        ladder={"pruning_rate": 0.5, "rungs": 2},
        few_seeds=(0,),
        sizes=(4, 8),
        rates=(0.5, 0.75),
        late_epoch=1,
        compressions=((8, 0.5),),
    ),
    "quick": Profile(
        "quick",
        "minutes for the whole book on two cores: real tickets on a small data set",
        seeds=(0, 1, 2, 3, 4),
        training={"epochs": 300, "patience": 30},
        # At 1e-3 LightGCN still rises after 300 epochs of this size; twenty times that gets there,
        # to the same quality as ten times in two thirds of the epochs.
        for_backbone={"lightgcn": {"learning_rate": 2e-2, "patience": 20}},
        ladder={"pruning_rate": 0.4, "rungs": 5},
        few_rungs=(1, 2, 3, 5),
        sizes=(16, 32, 64),
        floor=0.13,
        rates=(0.2254, 0.4, 0.64),  # one step of 0.64 is two of 0.4 and four of 0.2254
        compressions=((64, 0.25), (64, 0.5)),
        # By Recall@20 on valid the maps learn as well at the paper's rate as at the backbone's own,
        # or better.
        for_lcm={"learning_rate": 1e-3},
    ),
    "paper": Profile(
        "paper",
        "the paper's settings (§4.1): recorded runs are shown, missing ones are trained on demand",
        seeds=(0,),
        ladder={"pruning_rate": 0.1, "rungs": 30},
        trains=False,
        few_seeds=(0,),
        few_rungs=(1, 3, 6, 10, 15, 20, 25, 29),
    ),
}


def profile(name: str) -> Profile:
    """A profile by name. Raises ConfigError naming the known ones."""
    if name not in PROFILES:
        raise ConfigError(
            f"profile: found {name!r}, expected one of {', '.join(PROFILES)}."
            + nearest(name, PROFILES)
        )
    return PROFILES[name]


COMPRESSED = ("lightgcn",)  # the backbones of Table 3

# The ladders that are recorded in `results/`: protocol, pruning rate, rungs, and the rungs at whose
# densities OMP and RP are run beside IMP.
RECORDED = (
    ("paper", 0.1, 30, (1, 3, 6, 10, 15, 20, 25, 29)),
    ("validated", 0.2, 12, (2, 4, 7, 10)),
)


def recorded_contests(chapter: str, backbones: Sequence[str]) -> list[tuple[Ladder, Spec]]:
    """A chapter's contestants in the recorded settings, for :func:`standings.recorded_fields`."""
    contests = []
    for protocol, rate, rungs, few in RECORDED:
        steps = {"pruning_rate": rate, "rungs": rungs}
        base = replace(PROFILES["paper"], ladder=steps, few_rungs=few)
        contests += base.contests(chapter, backbones, protocol=protocol)
    return contests


def recorded_matches(backbones: Sequence[str] = ("lightgcn",)) -> list[Match]:
    """Table 3's matches in the recorded settings, for :func:`compression.recorded`."""
    return [
        match
        for protocol, rate, *_ in RECORDED
        for match in replace(PROFILES["paper"], ladder={"pruning_rate": rate}).matches(
            backbones, protocol=protocol
        )
    ]


@dataclass(frozen=True)
class Wanted:
    """A ladder at the paper's scale that the book wants recorded: on which source, with which
    seeds, and what for: a chapter of :data:`CONTESTS`, or ``l2``, the dense model's λ."""

    what_for: str
    source: str
    ladder: Ladder
    spec: Spec
    seeds: tuple[int, ...]


SMALL_SETS = ("movielens", "tiktok-mmssl", "lastfm")
L2_TRIED = (0.0, 1e-5, 1e-3, 1e-2, 1e-1)  # λ of the dense model, tuned on valid; 1e-4 is rung 0


def wanted() -> list[Wanted]:
    """All ladders that the book wants recorded, in the order of their worth, run or not.

    A chapter's contestants at the settings of :data:`RECORDED`; OMP and RP at few densities.
    """
    sets = [("yelp2018", "paper", "mf", (0,), ("baselines",))]
    sets += [("yelp2018", "validated", "mf", (0, 1, 2), ("existence", "baselines", "l2"))]
    for backbone, seeds in (("mf", (0, 1, 2, 3, 4)), ("lightgcn", (0, 1, 2))):
        chapters = ("existence", "baselines", "l2", "rewinds", "sizes")
        sets += [(source, "validated", backbone, seeds, chapters) for source in SMALL_SETS]
    sets += [("yelp2018", "validated", "mf", (0,), ("sizes", "rates", "rewinds"))]
    sets += [("gowalla", "validated", "mf", (0, 1), ("existence",))]
    sets += [("yelp2018", "paper", "lightgcn", (0,), ("baselines",))]
    settings = {protocol: rest for protocol, *rest in RECORDED}
    found: dict[tuple, Wanted] = {}
    for source, protocol, backbone, seeds, chapters in sets:
        rate, rungs, few = settings[protocol]
        steps = {"pruning_rate": rate, "rungs": rungs}
        base = replace(PROFILES["paper"], ladder=steps, few_rungs=few)
        for chapter in chapters:
            if chapter == "l2":
                spec = base.spec(backbone, protocol=protocol)
                contests = [
                    (base.ladder_of(rungs=0), spec.with_training(l2=value)) for value in L2_TRIED
                ]
            else:
                contests = base.contests(chapter, [backbone], protocol=protocol)
            for ladder, spec in contests:
                one = Wanted(chapter, source, ladder, spec, seeds)
                if (source, ladder, spec) not in found and ladder.method != "rp_x0":
                    found[source, ladder, spec] = one
    return list(found.values())
