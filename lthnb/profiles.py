"""Named sizes of the experiments: `smoke` for tests, `quick` for a first read, and `paper`.

A profile is no part of a run's key: it only fills in a spec and a ladder, and two profiles that
fill in the same share their runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from lthnb.config import ConfigError, Ladder, Model, Spec, Training, nearest


@dataclass(frozen=True)
class Profile:
    """How large the experiments are.

    meaning: in a line, for help and the book. seeds: of X⁰ and order. training: settings other than
    :class:`config.Training`'s defaults; for_backbone: further ones by backbone. ladder: settings of
    the ladder. trains: whether missing runs are trained unless told otherwise.

    What single chapters vary: few_seeds: where many ladders are climbed; sizes: embedding sizes F;
    rates: pruning rates, each down to a density of at most `floor`; late_epoch: that of late
    rewinding; compressions: original size and density, as in Table 3.
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
    sizes: tuple[int, ...] = (16, 32, 64, 128)
    rates: tuple[float, ...] = (0.05, 0.1, 0.2)
    floor: float = 0.2
    late_epoch: int = 5
    compressions: tuple[tuple[int, float], ...] = ((64, 0.25), (64, 0.5), (128, 0.25), (128, 0.5))

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

    def ladder_at(self, rate: float, **changes: Any) -> Ladder:
        """The IMP ladder of a rate, with as many rungs as bring it to the profile's floor."""
        rungs = math.ceil(math.log(self.floor) / math.log(1 - rate))
        return self.ladder_of(pruning_rate=rate, rungs=rungs, **changes)


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
        rates=(0.5, 0.6),
        late_epoch=1,
        compressions=((8, 0.5),),
    ),
    "quick": Profile(
        "quick",
        "minutes for the whole book on two cores: real tickets on a small data set",
        seeds=(0, 1, 2, 3, 4),
        training={"epochs": 300, "patience": 30},
        # At 1e-3 LightGCN still rises after 300 epochs of this size; ten times that gets there.
        for_backbone={"lightgcn": {"learning_rate": 1e-2}},
        ladder={"pruning_rate": 0.4, "rungs": 5},
        sizes=(16, 32, 64),
        rates=(0.1, 0.2, 0.4),
        compressions=((64, 0.25), (64, 0.5)),
    ),
    "paper": Profile(
        "paper",
        "the paper's settings (§4.1): recorded runs are shown, missing ones are trained on demand",
        seeds=(0,),
        ladder={"pruning_rate": 0.1, "rungs": 30},
        trains=False,
        few_seeds=(0,),
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


# The ladders that are recorded in `results/`: protocol, pruning rate, rungs, and the rungs at whose
# densities OMP and RP are run beside IMP.
RECORDED = (
    ("paper", 0.1, 30, (1, 3, 6, 10, 15, 20, 25, 29)),
    ("validated", 0.2, 12, (2, 4, 7, 10)),
)


def recorded_contests(
    method: str = "imp", backbone: str = "mf", *, embedding_size: int | None = None, **changes: Any
) -> list[tuple[Ladder, Spec]]:
    """Ladder and spec of each recorded setting, for :func:`standings.recorded_fields`.

    method other than imp: at few of IMP's densities. changes: settings of the ladder.
    """
    contests = []
    for protocol, rate, rungs, few in RECORDED:
        spec = PROFILES["paper"].spec(backbone, embedding_size=embedding_size, protocol=protocol)
        steps = {"pruning_rate": rate, "rungs": rungs}
        if method != "imp":
            steps = {"densities": tuple((1 - rate) ** i for i in few)}
        contests.append((Ladder(method=method, **{**steps, **changes}), spec))
    return contests
