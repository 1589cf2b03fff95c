"""Ladders: train, prune, rewind (Algorithm 1), and its rivals OMP and RP as schedules.

A ladder is a short loop over :func:`training.train` and a memoised pruning, so resuming it,
making it longer, or sharing its dense run with another method needs no code of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
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
    canonical,
    digest_text,
    run_key,
)
from lthnb.data import Interactions, Shape, card
from lthnb.pruning import (
    Mask,
    drawn,
    pruned,
    range_sizes,
    targets_by_density,
    targets_by_rate,
)
from lthnb.steps import resolve
from lthnb.store import Record, Store, StoreError
from lthnb.stream import stream_start
from lthnb.training import Control, TrainedRun, train

RANDOM = ("rp", "rp_x0")  # methods whose masks know nothing of any weights


@dataclass(frozen=True, eq=False)
class StoredMask:
    """A mask known by its digest and entries, whose bits are fetched only when someone needs them.

    That lets a ladder whose runs are all recorded be walked without a single table of weights.
    """

    digest: str
    entries: int
    shape: tuple[int, int]
    fetch: Callable[[], np.ndarray] = field(repr=False)
    there: Callable[[], bool] = field(repr=False, default=lambda: True)  # can they be fetched?

    @cached_property
    def kept(self) -> np.ndarray:
        """bool (rows, F)."""
        return Mask(self.fetch()).kept

    @property
    def density(self) -> float:
        """Share of the entries that live."""
        return self.entries / (self.shape[0] * self.shape[1])


@dataclass(frozen=True, eq=False)
class Rung:
    """One rung of a ladder: its number (0 is dense), its mask and its trained run."""

    number: int
    mask: Mask | StoredMask
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
        kept = self.mask.kept
        users, items = np.split(kept.sum(1), [self.run.data.users])
        return card(
            f"Rung {self.number}, run {self.record.key[:8]}",
            {
                **self.record.described(),
                "entries a user": f"{users.mean():.1f} of {kept.shape[1]} in the mean, at most "
                f"{users.max()}",
                "entries an item": f"{items.mean():.1f} of {kept.shape[1]} in the mean, at most "
                f"{items.max()}",
            },
        )


def derived_seed(seed: int, purpose: str) -> int:
    """A seed for something else than X⁰, apart from it and from all others; 62 bits."""
    return stream_start(seed, purpose) >> 2


def targets(ladder: Ladder, data: Interactions, size: int) -> list[tuple[int, ...]]:
    """Entries that live at rungs 1 …, in each row range of the scope."""
    sizes = range_sizes(ladder.scope, data.users, data.rows, size)
    if ladder.densities:
        return targets_by_density(sizes, ladder.densities)
    return targets_by_rate(sizes, ladder.pruning_rate, ladder.rungs)


def climb(ladder: Ladder, spec: Spec, data: Interactions, control: Control) -> Iterator[Rung]:
    """Train the rungs of a ladder one after the other, from the dense model (rung 0) down.

    data: as the spec's protocol wants it. What is in the store already is not trained again. Raises
    what :func:`training.train` raises; ConfigError where method and rewinding do not go together.
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
    mask: Mask | StoredMask = Mask.dense(data.rows, size)
    dense = last = train(spec, data, Seeded(ladder.seed), mask, control)
    yield Rung(0, mask, dense)
    for number, keep in enumerate(targets(ladder, data, size), start=1):
        source = dense if ladder.method == "omp" else last
        before = mask if ladder.method == "imp" else Mask.dense(data.rows, size)
        mask = _pruned(ladder, source, before, keep)
        init = start_of(ladder, number, dense.key, last.key)
        key = run_key(spec, data.digest, init, mask.digest)
        if isinstance(init, Snapshot) and control.store.find(key) is None:
            (dense if init.run == dense.key else last).weights(init.epoch)  # the store has it now
        last = train(spec, data, init, mask, control)
        yield Rung(number, mask, last)


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


def _pruned(ladder: Ladder, source: TrainedRun, before: Mask | StoredMask, keep) -> StoredMask:
    """The mask of the next rung, from the store where it was pruned before."""
    data, store, shape = source.data, source.control.store, before.shape
    about = pruning_of(ladder, data, shape[1], source.key, before.digest, keep)
    key = digest_text(canonical(about))

    def compute() -> Mask:
        if ladder.method in RANDOM:
            mask = drawn(about)
        else:
            mask = pruned(about, Mask(before.kept), source.weights(ladder.prune_from))
        known = store.find_pruning(key)
        if known is not None and known["digest"] != mask.digest:
            # Going on would train one mask under the key of another.
            raise StoreError(
                f"mask {key[:8]}: pruned again here it is {mask.digest[:8]}, recorded is "
                f"{known['digest'][:8]}: this machine's replay of run {source.key[:8]} gives other "
                "bits. Import the recorded mask (`runs export`), or climb in an empty store."
            )
        result = {"digest": mask.digest, "entries": mask.entries}
        with store.lock(key):
            store.put_mask(key, mask.kept, {**about, **result})
        return mask

    def fetch() -> np.ndarray:
        bits = store.find_mask_bits(key)
        return compute().kept if bits is None else bits

    found = store.find_pruning(key)
    if found is None:
        return compute()
    return StoredMask(found["digest"], found["entries"], shape, fetch)


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
    entries = data.rows * size
    covered = sum(range_sizes(ladder.scope, data.users, data.rows, size))

    def look(number: int, density: float, init: Init, mask: StoredMask) -> tuple[Planned, str]:
        key = run_key(spec, data.digest, init, mask.digest)
        record = store.find(key)
        return Planned(number, density, "recorded" if record else "missing", record, mask), key

    shape = (data.rows, size)
    whole = StoredMask(DENSE, entries, shape, lambda: np.ones(shape, bool))
    first, dense = look(0, 1.0, Seeded(ladder.seed), whole)
    out, last, mask = [first], dense, DENSE
    for number, keep in enumerate(targets(ladder, data, size), start=1):
        density = (sum(keep) + entries - covered) / entries
        source = dense if ladder.method == "omp" else last
        before = mask if ladder.method == "imp" else DENSE
        about = pruning_of(ladder, data, size, source, before, keep)
        key = digest_text(canonical(about))
        pruning = store.find_pruning(key)
        if pruning is None:
            out.append(Planned(number, density, "unknown", None))
            mask = last = "unknown"  # a key made from this is in no store
            continue
        mask = pruning["digest"]
        stored = StoredMask(
            mask,
            pruning["entries"],
            shape,
            partial(_bits, store, key),
            partial(store.has_mask_bits, key),
        )
        planned, last = look(number, density, start_of(ladder, number, dense, last), stored)
        out.append(planned)
    return out


def _bits(store: Store, key: str) -> np.ndarray:
    """The bits of a stored pruning, bool (rows, F)."""
    bits = store.find_mask_bits(key)
    if bits is None:
        raise StoreError(
            f"mask {key[:8]}: its bits are not in the store; climb the ladder again, which prunes "
            "once more and trains nothing."
        )
    return bits
