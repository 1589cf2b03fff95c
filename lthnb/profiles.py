"""Named sizes of the experiments: `smoke` for tests, `quick` for a first read, and `paper`.

A profile is no part of a run's key: it only fills in a spec and a ladder, and two profiles that
fill in the same share their runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lthnb.config import ConfigError, Ladder, Model, Spec, Training, nearest


@dataclass(frozen=True)
class Profile:
    """How large the experiments are.

    meaning: in a line, for help and the book. seeds: of X⁰ and order. training: settings other than
    :class:`config.Training`'s defaults; for_backbone: further ones by backbone. ladder: settings of
    the ladder. trains: whether missing runs are trained unless told otherwise.
    """

    name: str
    meaning: str
    seeds: tuple[int, ...]
    embedding_size: int = 32
    training: dict[str, Any] = field(default_factory=dict)
    for_backbone: dict[str, dict[str, Any]] = field(default_factory=dict)
    ladder: dict[str, Any] = field(default_factory=dict)
    trains: bool = True

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


PROFILES = {
    "smoke": Profile(
        "smoke",
        "seconds a chapter: shows that everything runs, and proves nothing",
        seeds=(0, 1, 2),
        embedding_size=8,
        training={"epochs": 3, "patience": 3, "learning_rate": 1e-2},
        ladder={"pruning_rate": 0.5, "rungs": 2},
    ),
    "quick": Profile(
        "quick",
        "minutes for the whole book on two cores: real tickets on a small data set",
        seeds=(0, 1, 2, 3, 4),
        training={"epochs": 300, "patience": 30},
        # At 1e-3 LightGCN still rises after 300 epochs of this size; ten times that gets there.
        for_backbone={"lightgcn": {"learning_rate": 1e-2}},
        ladder={"pruning_rate": 0.4, "rungs": 3},
    ),
    "paper": Profile(
        "paper",
        "the paper's settings (§4.1): recorded runs are shown, missing ones are trained on demand",
        seeds=(0,),
        ladder={"pruning_rate": 0.1, "rungs": 30},
        trains=False,
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
