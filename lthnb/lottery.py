"""Searches: train, prune, rewind, repeat (Algorithm 1), and its rivals OMP and random pruning.

Trainings and prunings are memoised, so that resuming a search needs no code of its own.
"""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from lthnb.config import NUMERICS, ConfigError, Init, Schedule, Seeded, Snapshot, Spec, digest_text
from lthnb.control import Control
from lthnb.data import Interactions
from lthnb.kept import TrainedRun, pruned_mask
from lthnb.kernels import resolve
from lthnb.pruning import SCOPES, Score, targets_by_rate
from lthnb.rng import stream_start
from lthnb.store.records import Pruning, search_row, search_tags
from lthnb.training import train

Keep = tuple[int, ...]  # entries to keep, in each row range of a scope
Shrink = Callable[[int, TrainedRun], tuple[Interactions, Pruning, Init]]
PLAIN = (bool, int, float, str, type(None))  # values whose text says all of them
RANDOM = {"rp": "random", "rp_x0": "random_x0"}  # methods that read no weights: what rows call them


@dataclass(frozen=True)
class Criterion:
    """A pruning criterion of one's own: its name, by which a pruning is keyed, and its function."""

    name: str
    score: Score

    @classmethod
    def of(cls, score: Score) -> Criterion:
        """Named by the function's name and a digest of its code, with the numbers and texts that it
        reads from outside. Where it reads anything else, such as another function of one's own, the
        name is new at each call, so that no pruning by it is taken for an earlier one."""
        name = getattr(score, "__name__", type(score).__name__)
        return cls(f"{name}-{digest_text(_identity(score))[:12]}", score)

    def __call__(self, weights: np.ndarray, seed: int) -> np.ndarray:
        return np.asarray(self.score(weights, seed))


def _identity(score: Score) -> str:
    """What a function does, as text: its code, and plain values from outside it."""
    if not isinstance(score, FunctionType):
        return uuid.uuid4().hex
    codes = [score.__code__]
    for code in codes:  # and those inside of it, which are added as they are found
        codes += [one for one in code.co_consts if isinstance(one, CodeType)]
    names = {name for code in codes for name in code.co_names}
    read = {name: value for name, value in score.__globals__.items() if name in names}
    read |= inspect.getclosurevars(score).nonlocals
    read |= dict(enumerate(score.__defaults__ or ())) | (score.__kwdefaults__ or {})
    if not all(isinstance(value, (*PLAIN, ModuleType)) for value in read.values()):
        return uuid.uuid4().hex
    said = [getattr(value, "__name__", value) for value in read.values()]
    for code in codes:
        constants = [one for one in code.co_consts if not isinstance(one, CodeType)]
        said += [code.co_code.hex(), code.co_names, constants]
    return repr([*read, *said])


class Round(NamedTuple):
    """One round of a search: its number (0 is dense), its trained run, and its row as kept."""

    number: int
    run: TrainedRun
    row: dict[str, Any]


def rounds_of(
    schedule: Schedule,
    spec: Spec,
    data: Interactions,
    control: Control,
    criterion: Criterion | None = None,
) -> Iterator[Round]:
    """The rounds of a search, trained one after the other from the dense model (round 0) down; a
    row of the search is kept for each.

    data: as the spec's protocol wants it. criterion: one's own, in place of the schedule's. Raises
    what :func:`training.train` raises, and ConfigError where settings do not go together.
    """
    check(schedule, spec, criterion)
    spec, size = resolve(spec, control.device), spec.model.embedding_size
    # Tables that a later round will ask for are kept on the way rather than computed twice.
    late = (schedule.rewind_epoch,) if schedule.rewind == "late" else ()
    control = replace(control, keep=(*control.keep, *late, schedule.prune_from))
    dense = train_dense(spec, data, schedule.seed, control)
    keep = targets(schedule, data, size)

    def shrink(number: int, last: TrainedRun) -> tuple[Interactions, Pruning, Init]:
        source = dense if schedule.method == "omp" else last
        mask = mask_of(schedule, source, keep[number - 1], criterion)
        return data, mask, start_of(schedule, number, dense.key, last.key)

    yield from descend(dense, tags_of(schedule, criterion), len(keep), shrink)


def descend(
    dense: TrainedRun,
    tags: dict[str, Any],
    rounds: int,
    shrink: Shrink,
    spec: Spec | None = None,
) -> Iterator[Round]:
    """The loop of every search, from a dense run (round 0) down: what is left of the last round, a
    training of it, and its row. tags: :func:`records.search_tags`. shrink: the number of a round,
    from 1, and the run of the last one → data, mask and start of this one. spec: of the rounds'
    trainings; None: that of the dense run."""
    last, spec = dense, spec or dense.spec
    for number in range(rounds + 1):
        if number:
            data, mask, init = shrink(number, last)
            last = train(spec, data, init, mask, dense.control, tags["seed"])
        row = search_row(tags, dense.key, number, last.record.density, last.key)
        dense.control.store.put_search(row)
        yield Round(number, last, row)


def train_dense(spec: Spec, data: Interactions, seed: int, control: Control) -> TrainedRun:
    """The dense model of a spec with a seed, and its row as a search of its own."""
    run = train(spec, data, Seeded(seed), None, control, seed)
    control.store.put_search(search_row(search_tags("dense", seed), run.key, 0, 1.0, run.key))
    return run


def check(schedule: Schedule, spec: Spec, criterion: Criterion | None = None) -> None:
    """Refuse what does not go together."""
    given = {"rewind": schedule.rewind, "criterion": schedule.criterion}
    given |= {} if criterion is None else {"criterion": criterion.name}
    late, epochs = schedule.rewind_epoch, spec.training.epochs
    if schedule.rewind == "late" and late > epochs:
        raise ConfigError(f"Schedule.rewind_epoch: found {late}, expected at most {epochs = }.")
    for name, usual in (("rewind", "rewind"), ("criterion", "magnitude")):
        if schedule.method in RANDOM and given[name] != usual:
            found = f"Schedule.{name}: found {given[name]!r} with method {schedule.method!r}"
            raise ConfigError(
                f"{found}, expected {usual!r}: random pruning reads no trained weights."
            )


def tags_of(schedule: Schedule, criterion: Criterion | None = None) -> dict[str, Any]:
    """What all rows of a search have alike: see :func:`records.search_tags`."""
    given = schedule.described()
    method = given.pop("method")
    if criterion is not None:
        given["criterion"] = criterion.name
    return search_tags(RANDOM.get(method, method), **given)


def targets(schedule: Schedule, data: Interactions, size: int) -> list[Keep]:
    """Entries that are kept at rounds 1 …, in each row range of the scope: of densities exactly
    ``round(density · all)``, of a rate see :func:`pruning.targets_by_rate`."""
    ranges = SCOPES[schedule.scope](data.users, data.rows)
    sizes = tuple((last - first) * size for first, last in ranges)
    if schedule.densities:
        return [tuple(round(density * n) for n in sizes) for density in schedule.densities]
    return targets_by_rate(sizes, schedule.rate, schedule.rounds)


def derived_seed(seed: int, purpose: str) -> int:
    """A seed for something else than X⁰; 62 bits."""
    return stream_start(seed, purpose) >> 2


def start_of(schedule: Schedule, number: int, dense: str, last: str) -> Init:
    """Where round `number` starts (§4.5); dense, last: keys of round 0 and of the round before.
    `rp` starts from a table of its own, the same at every round."""
    if schedule.method == "rp":
        return Seeded(derived_seed(schedule.seed, "rp start"))
    match schedule.rewind:
        case "reinit":
            return Seeded(derived_seed(schedule.seed, f"reinit {number}"))
        case "continue":
            return Snapshot(dense if schedule.method == "omp" else last, "best")
        case "late":
            return Snapshot(dense, schedule.rewind_epoch)
    return Seeded(schedule.seed)


def pruning_of(
    schedule: Schedule, data: Interactions, size: int, source: str, before: str, keep: Keep
) -> dict[str, Any]:
    """What a pruning depends on, as plain data; its digest is the key under which it is stored.

    source: key of the run whose weights are pruned. before: digest of the mask that is pruned.
    """
    about = {"scope": schedule.scope, "users": data.users, "shape": [data.rows, size]}
    about |= {"criterion": schedule.criterion, "keep": list(keep)}
    if schedule.method in RANDOM:
        about |= {"criterion": "random", "seed": derived_seed(schedule.seed, "rp mask")}
    else:
        about |= {"run": source, "weights": schedule.prune_from, "mask": before}
    if NUMERICS["pruning"] > 1:  # left out at 1, so that keys made before it stay what they are
        about["numerics"] = NUMERICS["pruning"]
    return about


def mask_of(
    schedule: Schedule, source: TrainedRun, keep: Keep, criterion: Criterion | None = None
) -> Pruning:
    """Line 5 of Algorithm 1: the next round's mask, from the store or of a run's weights."""
    size, before = source.record.shape[1], source.record.mask_digest
    about = pruning_of(schedule, source.data, size, source.key, before, keep)
    if criterion is not None:
        about["criterion"] = criterion.name
    return pruned_mask(source, about, criterion, schedule.seed)
