"""The grid: which searches a chapter compares, from `grid.yaml`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lthnb.config import Model, Schedule, Spec, Training, canonical, one_of
from lthnb.store import records

# Settings by which runs are told apart, as the tables call them.
SETTINGS = ("protocol", "embedding_size", "l2", "learning_rate", "batch_size", "max_epochs")
SETTINGS += ("patience", "evaluate_every", "optimizer")
TAGS = ("method", "rate", "rewind", "rewind_epoch", "prune_from", "basis", "criterion", "policy")
AGAIN = ("other_start", "other_order")  # tickets trained again with half of their seed changed
METHOD_NAMES = {"random": "rp", "random_x0": "rp_x0"}  # method → what `config.Schedule` calls it
RECORDED = "recorded"  # the profile that trains nothing, beside those of the grid


@dataclass(frozen=True)
class Search:
    """One search of the grid: data, backbone and settings, a method, a seed.

    settings: :data:`SETTINGS`. rounds: those that are shown, round 0 apart. densities: of what is
    pruned once, or of an IMP search that goes by densities. of: LCM's: the teacher's embedding
    size and learning rate; of masks carried over, the `seed` they come from. policy: of a mask
    that moves, settings of :class:`config.Dynamic`; of pairs, see :func:`thinned_search`.
    split_seed: see :func:`sources.load_with`. noise: see :func:`pairs.noisy`.
    """

    dataset: str
    backbone: str
    settings: Mapping[str, Any]
    method: str
    seed: int
    rate: float | None = None
    rounds: tuple[int, ...] = ()
    densities: tuple[float, ...] = ()
    rewind: str = "rewind"
    rewind_epoch: int | None = None
    prune_from: str = "best"
    basis: str = ""
    criterion: str = "magnitude"
    of: Mapping[str, Any] = field(default_factory=dict)
    policy: Mapping[str, Any] = field(default_factory=dict)
    split_seed: int = 0
    noise: str = ""

    def __hash__(self) -> int:
        return hash((self.dataset, self.backbone, self.method, self.seed, self.rewind, self.rate))

    @property
    def spec(self) -> Spec:
        """Of its trainings."""
        settings = dict(self.settings)
        settings["epochs"] = settings.pop("max_epochs")
        model = Model(backbone=self.backbone, embedding_size=settings.pop("embedding_size"))
        return Spec(model, Training(**settings, order_seed=self.seed))

    @property
    def schedule(self) -> Schedule:
        """How its masks are found, of a method that `lottery` has."""
        method = "imp" if self.method in AGAIN else self.method
        how = {"rewind": self.rewind, "rewind_epoch": self.rewind_epoch or 1}
        how |= {"prune_from": self.prune_from, "seed": self.seed, "criterion": self.criterion}
        if self.densities:
            how["densities"] = self.densities
        else:
            how |= {"rate": self.rate, "rounds": max(self.rounds)}
        return Schedule(METHOD_NAMES.get(method, method), **how)

    def rows(self) -> list[dict[str, Any]]:
        """One row a run, with what the recorded tables tell it by; `place` tells the rounds of a
        search apart: IMP's by number, since densities are rounded to whole entries; what is pruned
        once by density, to three digits. `path`: the densities of a search that was told them."""
        given = {**vars(self), "scope": "join", "basis": self.basis or None}
        given["policy"] = canonical(dict(self.policy)) if self.policy else None
        given = {name: given[name] for name in records.TAGS}
        tags = records.search_tags(self.method, self.seed, **given)
        about = {"dataset": self.dataset, "backbone": self.backbone, **self.settings}
        about |= {"seed": self.seed, "split_seed": self.split_seed, "noise": self.noise or None}
        about |= {name: tags[name] for name in TAGS}
        about["path"] = records.path_of(tags["densities"])
        found = []
        for number, density in self._places():
            by_density = self.method in (*records.ONE_SHOT, "lcm")
            place = f"{density:.3g}" if by_density and number else str(number)
            untrained = {"max_epochs": 0} if self.method == "cut" and number else {}
            row = {**about, **untrained, "round": number, "density": density, "place": place}
            found.append(row)
        return found

    def _places(self) -> list[tuple[int, float]]:
        dense = [] if self.method == "lcm" else [(0, 1.0)]
        if self.method in (*records.ONE_SHOT, "lcm"):
            return [*dense, *((1, density) for density in self.densities)]
        if self.densities:
            return [*dense, *enumerate(self.densities, start=1)]
        return [*dense, *((n, (1 - self.rate) ** n) for n in self.rounds)]


@cache
def grid() -> dict[str, Any]:
    """`grid.yaml`, read once, when it is first asked for."""
    return yaml.safe_load(Path(__file__).with_name("grid.yaml").read_text(encoding="utf-8"))


def entry(kind: str, name: str) -> Mapping[str, Any]:
    """One of the grid's settings, groups, profiles or chapters. Raises ConfigError, with the
    nearest name, for another."""
    one_of(kind.removesuffix("s"), name, grid()[kind])
    return grid()[kind][name]


def setting(name: str) -> dict[str, Any]:
    """Some settings, with those that they are `like`."""
    own = dict(entry("settings", name))
    like = own.pop("like", None)
    return {**(setting(like) if like else {}), **own}


def to_record(chapter: str) -> list[Search]:
    """The searches of a chapter that are to be recorded."""
    about, found = entry("chapters", chapter), []
    for one in about["recorded"]:
        one = {"group": one} if isinstance(one, str) else dict(one)
        group = {**entry("groups", one.pop("group")), **one}
        settings, compare = setting(group.pop("settings")), about["compare"]
        found += expand(group.pop("compare", compare), {**settings, **group})
    return found


def of_profile(
    chapter: str, profile: str, datasets: Sequence[str], backbones: Sequence[str], **changes: Any
) -> list[Search]:
    """The searches of a chapter under a profile, on any data. changes: settings, seeds."""
    about, how, found = entry("chapters", chapter), entry("profiles", profile), []
    for backbone in backbones:
        settings = setting(how[backbone]) | {"seeds": how["seeds"]}
        where = {"dataset": list(datasets), "backbone": backbone}
        found += expand(about["compare"], {**settings, **where, **changes})
    return found


def expand(compare: Iterable[Mapping[str, Any]], base: Mapping[str, Any]) -> list[Search]:
    """The searches of some lines of a chapter, with the settings, data and seeds of `base`."""
    found = []
    for line in compare:
        one = {**base, **line}
        one |= {n: base[v[1:]] for n, v in line.items() if isinstance(v, str) and v[:1] == "$"}
        names = ("dataset", "backbone", "split_seed", "noise", *SETTINGS, *TAGS)
        plural = [name for name in names if isinstance(one.get(name), list)]
        for values in itertools.product(*(one[name] for name in plural)):
            for seed in base["seeds"]:
                found += _searches({**one, **dict(zip(plural, values, strict=True)), "seed": seed})
    return found


def _searches(one: dict[str, Any]) -> list[Search]:
    if one["method"] == "lcm":
        return _compressions(one)
    numbers = one["rounds"]
    if numbers == "again":
        numbers = one["again"]
    elif numbers == "floor":
        numbers = math.ceil(math.log(one["floor"]) / math.log(1 - one["rate"]) - 1e-9)
    rounds = tuple(numbers if isinstance(numbers, list) else range(1, numbers + 1))
    densities: tuple[float, ...] = ()
    if one.get("densities") == "few":
        densities, rounds = tuple((1 - one["rate"]) ** n for n in one["few"]), ()
    elif one.get("densities"):
        densities, rounds = tuple(one[one["densities"]]), ()
    elif one["method"] == "dense":
        rounds = ()
    return [_search(one, rounds=rounds, densities=densities)]


def _search(one: dict[str, Any], **more: Any) -> Search:
    """A search of the grid's words; `more` has what they do not say. What neither says is at its
    default."""
    own: dict[str, Any] = {"rounds": (), "densities": ()}
    own["settings"] = {name: one[name] for name in SETTINGS} | more.pop("settings", {})
    own["rewind_epoch"] = one["rewind_epoch"] if one.get("rewind") == "late" else None
    if one["method"] == "dynamic":
        own["policy"] = one["dynamic"]
    if one["method"] == "carried":
        own["of"] = {"seed": one["seed"] + 1}
    found = {**one, **own, **more}
    return Search(**{f.name: found[f.name] for f in fields(Search) if f.name in found})


def _compressions(one: dict[str, Any]) -> list[Search]:
    """A table of `of` dimensions brought down to shares of its entries (§4.4): by IMP in equal
    steps from one to the next, by LCM, and as dense models of as many entries."""
    lcm, found = one["lcm"], []
    path: list[float] = []
    for above, below in itertools.pairwise([1.0, *lcm["to"]]):
        steps = math.ceil(math.log(below / above) / math.log(1 - one["rate"]) - 1e-9)
        between = (above * (below / above) ** (k / steps) for k in range(1, steps))
        path += [*(round(density, 4) for density in between), below]
    wide = {"embedding_size": lcm["of"]}
    found.append(_search(one, method="imp", settings=wide, densities=tuple(path)))
    teacher = {**wide, "learning_rate": one["learning_rate"]}
    for share in lcm["to"]:
        small = {"embedding_size": max(1, round(share * lcm["of"]))}
        found.append(_search(one, method="dense", settings=small))
        small |= {"learning_rate": lcm["learning_rate"]}
        found.append(_search(one, method="lcm", settings=small, densities=(share,), of=teacher))
    return found
