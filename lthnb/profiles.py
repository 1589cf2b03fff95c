"""Named sizes of the experiments: `smoke` for tests, `quick` for a first read, and `paper`.

A profile is no part of a run's key: it only fills in a spec and a ladder, and two profiles that
fill in the same share their runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lthnb.config import (
    METHODS,
    REWINDS,
    ConfigError,
    Ladder,
    Match,
    Model,
    Spec,
    Training,
    nearest,
)
from lthnb.paper import REFERENCES, Reference


@dataclass(frozen=True)
class Profile:
    """How large the experiments are.

    meaning: in a line, for help and the book. seeds: of X⁰ and order. training: settings other than
    :class:`config.Training`'s defaults; for_backbone: further ones by backbone. ladder: settings of
    the ladder. trains: whether missing runs are trained unless told otherwise.

    What single chapters vary: few_seeds: where many ladders are climbed; few_rungs: of the IMP
    ladder, those at whose densities the other methods are run (empty: all); sizes: embedding sizes
    F; rates: pruning rates, each down to a density of at most `floor`; late_epoch: that of late
    rewinding; taken_apart: rungs whose tickets are trained again with half of their seed changed;
    compressions: original size and density, as in Table 3; for_lcm: settings of
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
    taken_apart: tuple[int, ...] = (1, 4, 7)
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
    "sizes": lambda base, spec: [
        (base.ladder_of(), spec.with_model(embedding_size=size)) for size in base.sizes
    ],
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
        taken_apart=(1,),
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
        taken_apart=(1, 3),
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
SMALL_SETS = ("movielens", "tiktok-mmssl", "lastfm")


@dataclass(frozen=True)
class Setting:
    """The settings of recorded ladders: `protocol`, pruning `rate`, number of `rungs`, the rungs at
    whose densities OMP and RP are run beside IMP (`few`), further settings by backbone, and those
    that LCM has otherwise."""

    protocol: str
    rate: float
    rungs: int
    few: tuple[int, ...]
    for_backbone: dict[str, dict[str, Any]] = field(default_factory=dict)
    for_lcm: dict[str, Any] = field(default_factory=dict)

    @property
    def base(self) -> Profile:
        """The profile `paper`, with these settings."""
        return replace(
            PROFILES["paper"],
            ladder={"pruning_rate": self.rate, "rungs": self.rungs},
            few_rungs=self.few,
            for_backbone=self.for_backbone,
            for_lcm=self.for_lcm,
        )

    def contests(self, chapter: str, backbones: Sequence[str]) -> list[tuple[Ladder, Spec]]:
        """A chapter's contestants in these settings."""
        return self.base.contests(chapter, backbones, protocol=self.protocol)


LARGE = "large batches"
# The ladders that are recorded in `results/`: by protocol, and one that is ours.
RECORDED = {
    "paper": Setting("paper", 0.1, 30, (1, 3, 6, 10, 15, 20, 25, 29)),
    # At the paper's 1e-3 LightGCN takes hundreds of epochs; at five times that it is about as good
    # on valid on MovieLens and lastfm, though not on TikTok's subset (the chapter *Is the
    # comparison fair?* shows what was tried).
    "validated": Setting(
        "validated",
        0.2,
        12,
        (2, 4, 7, 10),
        {"lightgcn": {"learning_rate": 5e-3}},
        for_lcm={"learning_rate": 1e-3},
    ),
    # An eighth as many steps an epoch: without a GPU it is what brings LightGCN on Yelp2018 within
    # reach. It stands beside no number of the paper; *Is the comparison fair?* shows what it
    # changes.
    LARGE: Setting(
        "validated",
        0.2,
        12,
        (2, 4, 7, 10),
        {b: {"batch_size": 16_384, "learning_rate": 5e-3} for b in ("mf", "lightgcn")},
    ),
}


def recorded_contests(chapter: str, backbones: Sequence[str]) -> list[tuple[Ladder, Spec]]:
    """A chapter's contestants in the recorded settings, for :func:`standings.recorded_fields`."""
    return [
        contest for setting in RECORDED.values() for contest in setting.contests(chapter, backbones)
    ]


# Values of a setting that the dense model is tried with, to choose the best on valid.
TRIED = {
    "l2": (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
    "learning_rate": (1e-3, 5e-3, 1e-2, 2e-2),
}


def tried(ladder: Ladder, spec: Spec, setting: str) -> list[tuple[Ladder, Spec]]:
    """The dense model of a ladder alone, with each value of a setting in :data:`TRIED` but the
    ladder's own."""
    alone = replace(ladder, rungs=0, densities=())
    others = [v for v in TRIED[setting] if v != getattr(spec.training, setting)]
    return [(alone, spec.with_training(**{setting: value})) for value in others]


def recorded_tried(
    setting: str, backbones: Sequence[str], of: Sequence[str] = ("validated", LARGE)
) -> list[tuple[Ladder, Spec]]:
    """The same for the recorded ladders, `of` some of :data:`RECORDED`: not of `paper`, since there
    is nothing to choose on where epochs are chosen on test."""
    contests = [c for name in of for c in RECORDED[name].contests("existence", backbones)]
    return [one for ladder, spec in contests for one in tried(ladder, spec, setting)]


# λ that valid chooses for the dense model, where it is not the paper's: source → backbone → λ.
TUNED_L2 = {
    "yelp2018": {"mf": 1e-2},
    "movielens": {"mf": 1e-2, "lightgcn": 1e-3},
    "lastfm": {"mf": 1e-2, "lightgcn": 1e-3},
    "tiktok-mmssl": {"mf": 1e-1, "lightgcn": 1e-2},
}


def recorded_tuned(backbones: Sequence[str]) -> list[tuple[Ladder, Spec]]:
    """The recorded ladders under `validated`, with every λ of :data:`TRIED` but their own: those of
    :data:`TUNED_L2` are wanted."""
    contests = RECORDED["validated"].contests("existence", backbones)
    return [(ladder, other) for ladder, spec in contests for _, other in tried(ladder, spec, "l2")]


def recorded_matches(backbones: Sequence[str] = COMPRESSED) -> list[Match]:
    """Table 3's matches in the recorded settings, for :func:`compression.recorded`."""
    return [
        match
        for protocol in ("paper", "validated")
        for match in RECORDED[protocol].base.matches(backbones, protocol=protocol)
    ]


# The best epoch of dense MF on Yelp2018: from its weights the authors' script would resume.
DENSE_BEST = 83

# Cause → what a ladder of Table 2 has otherwise to show what the cause alone changes: its seed,
# settings of the ladder and of the training. Waiting for a better epoch half as long saves half of
# the time, and chooses the same epoch at each rung of the recorded ladder.
CAUSES: dict[str, tuple[int, dict[str, Any], dict[str, Any]]] = {
    "as in the code": (0, {}, {}),
    "another seed": (1, {}, {"patience": 50}),
    "evaluated every 10 epochs": (0, {}, {"patience": 50, "evaluate_every": 10}),
    "pruned after the last epoch": (0, {"prune_from": "last"}, {}),
    "pruned after the last epoch, 50 after the best": (
        0,
        {"prune_from": "last"},
        {"patience": 50},
    ),
    "resumed once, at the first pruning": (
        0,
        {"rewind": "late", "rewind_epoch": DENSE_BEST},
        {"patience": 50},
    ),
    "resumed at every pruning": (0, {"rewind": "continue"}, {"patience": 50}),
}


def isolating(backbone: str) -> dict[str, tuple[Ladder, Spec, int]]:
    """Ladder, spec and seed of each of :data:`CAUSES`, from those of Table 2."""
    [(ladder, spec)] = RECORDED["paper"].contests("existence", [backbone])
    return {
        cause: (replace(ladder, **of_ladder), spec.with_training(**of_training), seed)
        for cause, (seed, of_ladder, of_training) in CAUSES.items()
    }


def literature() -> list[tuple[Reference, Spec]]:
    """The dense models whose results others publish, each with its settings: a fixed number of
    epochs, of which none is the last by patience."""
    return [
        (
            one,
            PROFILES["paper"]
            .spec(one.backbone, embedding_size=one.embedding_size, protocol="paper")
            .with_training(epochs=one.epochs, patience=one.epochs),
        )
        for one in REFERENCES
    ]
