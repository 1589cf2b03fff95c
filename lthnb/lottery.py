"""Ladders: train, prune, rewind (Algorithm 1), and its rivals OMP and RP as schedules.

A ladder is a short loop over :func:`training.train` and a memoised pruning, so resuming it,
making it longer, or sharing its dense run with another method needs no code of its own.
"""

from __future__ import annotations

import inspect
import math
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lthnb.config import (
    DENSE,
    NUMERICS,
    ConfigError,
    Init,
    Ladder,
    Seeded,
    Snapshot,
    Spec,
    digest_text,
    run_key,
)
from lthnb.data import Interactions, Shape
from lthnb.pruning import (
    CRITERIA,
    drawn,
    prune,
    range_sizes,
    targets_by_density,
    targets_by_rate,
)
from lthnb.steps import device_of, resolve
from lthnb.store.records import Record, pruning_key, search_row, search_tags
from lthnb.store.runs import Store
from lthnb.stream import stream_start
from lthnb.training import Control, StoredMask, TrainedRun, ensure_mask, train

RANDOM = ("rp", "rp_x0")  # methods whose masks know nothing of any weights


@dataclass(frozen=True)
class Criterion:
    """A pruning criterion of one's own: its name, by which a pruning is keyed, and the function
    from weights (rows, F) and a seed to scores of the same shape, of which the lowest go first."""

    name: str
    score: Callable[[np.ndarray, int], np.ndarray]

    @classmethod
    def of(cls, score: Callable[[np.ndarray, int], np.ndarray]) -> Criterion:
        """Named by the function's name and a digest of its source. Where the source cannot be read,
        the name is new at each call, so that no pruning by it is taken for one that was done
        before."""
        name = getattr(score, "__name__", type(score).__name__)
        try:
            source = inspect.getsource(score)
        except (OSError, TypeError):
            source = uuid.uuid4().hex
        return cls(f"{name}-{digest_text(source)[:12]}", score)

    def __call__(self, weights: np.ndarray, seed: int) -> np.ndarray:
        return np.asarray(self.score(weights, seed))


@dataclass(frozen=True, eq=False)
class Rung:
    """One rung of a ladder: its number (0 is dense), its mask and its trained run."""

    number: int
    mask: StoredMask
    run: TrainedRun

    @property
    def record(self) -> Record:
        return self.run.record

    @property
    def density(self) -> float:
        """Share of the table's entries that live; the sparsity is one minus this."""
        return self.record.density

    def __repr__(self) -> str:
        return f"Rung({self.number}, {self.record!r})"

    def _repr_html_(self) -> str:
        return self.record._repr_html_()


def derived_seed(seed: int, purpose: str) -> int:
    """A seed for something else than X⁰, apart from it and from all others; 62 bits."""
    return stream_start(seed, purpose) >> 2


def targets(ladder: Ladder, data: Interactions, size: int) -> list[tuple[int, ...]]:
    """Entries that live at rungs 1 …, in each row range of the scope."""
    sizes = range_sizes(ladder.scope, data.users, data.rows, size)
    if ladder.densities:
        return targets_by_density(sizes, ladder.densities)
    return targets_by_rate(sizes, ladder.pruning_rate, ladder.rungs)


def climb(
    ladder: Ladder,
    spec: Spec,
    data: Interactions,
    control: Control,
    criterion: Criterion | None = None,
) -> Iterator[Rung]:
    """Train the rungs of a ladder one after the other, from the dense model (rung 0) down, and keep
    a row of the search for each.

    data: as the spec's protocol wants it. criterion: one's own, in place of the ladder's. What is
    in the store already is not trained again. Raises what :func:`training.train` raises, and
    ConfigError where method and rewinding do not go together.
    """
    check(ladder)
    spec, size = resolve(spec, control.device), spec.model.embedding_size
    if ladder.rewind == "late" and ladder.rewind_epoch > spec.training.epochs:
        raise ConfigError(
            f"Ladder.rewind_epoch: found {ladder.rewind_epoch}, expected at most "
            f"Training.epochs = {spec.training.epochs}."
        )
    # Tables that a later rung will ask for are kept on the way rather than computed twice.
    wanted = (ladder.rewind_epoch,) if ladder.rewind == "late" else ()
    wanted += ("last",) if ladder.prune_from == "last" else ()
    control = replace(control, keep=(*control.keep, *wanted))
    store, tags = control.store, tags_of(ladder, criterion)
    whole = StoredMask(None, (data.rows, size), store)
    dense = last = train_dense(spec, data, ladder.seed, control)
    store.put_search(search_row(tags, dense.key, 0, 1.0, dense.key))
    yield Rung(0, whole, dense)
    mask = whole
    for number, keep in enumerate(targets(ladder, data, size), start=1):
        source = dense if ladder.method == "omp" else last
        before = mask if ladder.method == "imp" else whole
        mask = _pruned(ladder, source, before, keep, criterion)
        init = start_of(ladder, number, dense.key, last.key)
        last = train(spec, data, init, mask, control, ladder.seed)
        store.put_search(search_row(tags, dense.key, number, mask.density, last.key))
        yield Rung(number, mask, last)


def train_dense(spec: Spec, data: Interactions, seed: int, control: Control) -> TrainedRun:
    """The dense model of a spec with a seed, and its row as a search of its own."""
    whole = StoredMask(None, (data.rows, spec.model.embedding_size), control.store)
    run = train(spec, data, Seeded(seed), whole, control, seed)
    control.store.put_search(search_row(search_tags("dense", seed), run.key, 0, 1.0, run.key))
    return run


def tags_of(ladder: Ladder, criterion: Criterion | None = None) -> dict[str, Any]:
    """What all rows of a ladder's search have alike: see :func:`records.search_tags`."""
    return search_tags(
        {"rp": "random", "rp_x0": "random_x0"}.get(ladder.method, ladder.method),
        ladder.seed,
        rate=ladder.pruning_rate,
        densities=ladder.densities,
        rewind=ladder.rewind,
        rewind_epoch=ladder.rewind_epoch,
        criterion=ladder.criterion if criterion is None else criterion.name,
        prune_from=ladder.prune_from,
        scope=ladder.scope,
    )


def check(ladder: Ladder) -> None:
    """Refuse what goes together in no reading: a random mask comes from no weights."""
    if ladder.method in RANDOM and ladder.rewind != "rewind":
        raise ConfigError(
            f"Ladder.rewind: found {ladder.rewind!r} with method {ladder.method!r}, expected "
            "'rewind': random pruning has no trained weights to go back to."
        )
    if ladder.method in RANDOM and ladder.criterion != "magnitude":
        raise ConfigError(
            f"Ladder.criterion: found {ladder.criterion!r} with method {ladder.method!r}, expected "
            "to be left alone: random pruning reads no weights."
        )


def pruning_of(
    ladder: Ladder, data: Interactions, size: int, source: str, before: str, keep: tuple[int, ...]
) -> dict[str, Any]:
    """What a pruning depends on, as plain data; its digest is the key under which it is stored.

    source: key of the run whose weights are pruned. before: digest of the mask that is pruned. A
    random mask depends on neither, so it is the same whatever the data hold.
    """
    random = ladder.method in RANDOM
    return {
        "criterion": "random" if random else ladder.criterion,
        "scope": ladder.scope,
        "users": data.users,
        "shape": [data.rows, size],
        "keep": list(keep),
        **(
            {"seed": derived_seed(ladder.seed, "rp mask")}
            if random
            else {"run": source, "weights": ladder.prune_from, "mask": before}
        ),
        # Left out while it is 1, so that keys made before it existed stay what they are.
        **({"numerics": NUMERICS["pruning"]} if NUMERICS["pruning"] > 1 else {}),
    }


def start_of(ladder: Ladder, number: int, dense: str, last: str) -> Init:
    """Where rung `number` starts (§4.5); dense, last: keys of rung 0 and of the rung before.

    `rp` starts from a draw of its own, the same at every rung, as its mask is nested too.
    """
    if ladder.method == "rp":
        return Seeded(derived_seed(ladder.seed, "rp start"))
    match ladder.rewind:
        case "reinit":
            return Seeded(derived_seed(ladder.seed, f"reinit {number}"))
        case "continue":
            return Snapshot(dense if ladder.method == "omp" else last, "best")
        case "late":
            return Snapshot(dense, ladder.rewind_epoch)
        case _:
            return Seeded(ladder.seed)


def _pruned(
    ladder: Ladder,
    source: TrainedRun,
    before: StoredMask,
    keep: tuple[int, ...],
    criterion: Criterion | None,
) -> StoredMask:
    """The mask of the next rung, from the store where it was pruned before."""
    data, store, shape = source.data, source.control.store, before.shape
    about = pruning_of(ladder, data, shape[1], source.key, before.digest, keep)
    if criterion is not None:
        about["criterion"] = criterion.name
    known = store.find_pruning(pruning_key(about))
    if known is None:
        if ladder.method in RANDOM:
            mask = drawn(about)
        else:
            weights = source.ensure_weights(ladder.prune_from)
            start = ensure_mask(before, data, source.control)
            scores = CRITERIA[ladder.criterion] if criterion is None else criterion
            mask = prune(start, scores(weights, 0), keep, users=data.users, scope=ladder.scope)
        known = store.put_mask(mask, about)
    return StoredMask(known, shape, store)


def run_ladder(ladder: Ladder, spec: Spec, data: Interactions, control: Control) -> list[Rung]:
    """All rungs of a ladder; see :func:`climb`."""
    return list(climb(ladder, spec, data, control))


@dataclass(frozen=True)
class Planned:
    """A rung before it is run: its density, and where it stands.

    state: ``recorded``, ``missing``, or ``unknown`` (behind a missing one: its mask, and so its
    key, does not exist yet; it counts as missing in the bill). record: where it is recorded. mask:
    which entries live, None where that is not known yet; its bits are fetched from the store.
    """

    number: int
    density: float
    state: str
    record: Record | None
    mask: StoredMask | None = None


def plan(
    ladder: Ladder, spec: Spec, data: Interactions | Shape, store: Store, device: str = "auto"
) -> list[Planned]:
    """What of a ladder is there and what is missing; nothing is trained or pruned, and of the data
    only the shape and the digest are read."""
    check(ladder)
    spec, size = resolve(spec, device), spec.model.embedding_size
    step, shape = spec.training.step, (data.rows, size)
    where = "cpu" if step == "cpu" else device_of(step, device)
    entries = math.prod(shape)
    covered = sum(range_sizes(ladder.scope, data.users, data.rows, size))

    def look(number: int, density: float, init: Init, mask: StoredMask) -> tuple[Planned, str]:
        key = run_key(spec, data.digest, init, mask.digest, where)
        record = store.find(key)
        return Planned(number, density, "recorded" if record else "missing", record, mask), key

    first, dense = look(0, 1.0, Seeded(ladder.seed), StoredMask(None, shape, store))
    out, last, mask = [first], dense, DENSE
    for number, keep in enumerate(targets(ladder, data, size), start=1):
        density = (sum(keep) + entries - covered) / entries
        source = dense if ladder.method == "omp" else last
        before = mask if ladder.method == "imp" else DENSE
        about = pruning_of(ladder, data, size, source, before, keep)
        pruning = store.find_pruning(pruning_key(about))
        if pruning is None:
            out.append(Planned(number, density, "unknown", None))
            mask = last = "unknown"  # a key made from this is in no store
            continue
        mask, stored = pruning["digest"], StoredMask(pruning, shape, store)
        planned, last = look(number, density, start_of(ladder, number, dense, last), stored)
        out.append(planned)
    return out
