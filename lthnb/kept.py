"""Finished trainings. Their masks and weights are kept in the store, or made again, which may take
as long as it took first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from lthnb.config import Compressed, ConfigError, Init, Rotated, Snapshot, Spec
from lthnb.control import Control, Stopped
from lthnb.data import DataError, Interactions
from lthnb.finders.dynamic import moved
from lthnb.finders.interactions import UNTRAINED
from lthnb.kernels import new_step
from lthnb.models import LinearStart
from lthnb.pruning import CRITERIA, Mask, Score, drawn, pruned_by
from lthnb.sampling import initial_maps, initial_table
from lthnb.store.files import StoreError
from lthnb.store.records import Pruning, Record, pruning_key

REPLAY_TOLERANCE = 1e-3  # relative, on each epoch's mean loss: other machines round otherwise


def initialise(
    init: Init, data: Interactions, size: int, control: Control
) -> np.ndarray | LinearStart:
    """What a training starts from, before its mask: the table (rows, F), or for a compression the
    teacher's table and the maps. Weights of another run that are not kept are trained again first.
    Raises StoreError for a run or an array that the store does not have."""
    match init:
        case Rotated(of=start, rotation=digest):
            rotation = control.store.get_array(digest)
            return initialise(start, data, size, control) @ rotation
        case Snapshot(run=key, epoch=epoch):
            record = control.store.find(key)
            if record is None:  # its weights may be there all the same
                return control.store.get_weights(key, epoch)
            return TrainedRun(record, data, control).ensure_weights(epoch)
        case Compressed(teacher=key, seed=seed):
            teacher = initialise(Snapshot(key), data, size, control)
            return LinearStart(teacher, initial_maps(seed, teacher.shape[1], size))
    return initial_table(init.seed, data.rows, size)


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A finished training: its record, and on demand its mask and weights. Refuses, with a
    DataError, other data than those of the record."""

    record: Record
    data: Interactions
    control: Control

    def __post_init__(self) -> None:
        there = self.record.row["data_digest"]
        if self.data.digest != there:
            raise DataError(
                f"run {self.key[:8]}: the data here are {self.data.digest[:8]}, those of the "
                f"record {there[:8]}; another version, another split, or other options."
            )

    @property
    def key(self) -> str:
        return self.record.key

    @cached_property
    def spec(self) -> Spec:
        return self.record.spec

    @cached_property
    def init(self) -> Init:
        return self.record.init

    def ensure_mask(self) -> Mask:
        """Its mask: see :func:`ensure_mask`."""
        return ensure_mask(self.record.pruning, self.record.shape, self.data, self.control)

    def weights(self, epoch: int | str = "best") -> np.ndarray:
        """The table after an epoch: ``best``, ``last``, or a number from 1; (rows, F). Raises
        StoreError where it is not kept, ConfigError for an epoch that was not run."""
        return self.control.store.get_weights(self.key, self.record.epoch(epoch))

    def ensure_weights(self, epoch: int | str = "best") -> np.ndarray:
        """The same; a table that is not kept is trained again up to there, after the runs that it
        comes from, and kept. Raises StoreError where losses are not those of the record, and
        Stopped on a signal."""
        record, control, store = self.record, self.control, self.control.store
        epoch = record.epoch(epoch)
        table = store.find_weights(self.key, epoch)
        if table is not None:
            return table
        at = at_its_start(self)
        with control.locked(self.key):
            table = store.find_weights(self.key, epoch)  # another process may have been faster
            if table is None:
                last = record.best_epoch if epoch == "best" else epoch
                for _ in again(self, at, last):
                    pass
                table = at.step.weights()
                store.put_weights(self.key, epoch, table)
        return table

    def outputs(self) -> torch.Tensor:
        """Rows to score with, from the best epoch's weights; what is not kept is made again:
        (users + items, F), users first."""
        table = self.ensure_weights()
        kept = final_mask(self.spec, self.ensure_mask().kept, table)
        return outputs_of(self.spec, self.data, table, kept, self.control)


def final_mask(spec: Spec, kept: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Which entries of a trained table (rows, F) are kept, bool: those of the mask that it was
    trained under, or where a policy moved that, those that are not zero."""
    return kept if spec.policy is None else table != 0


def outputs_of(
    spec: Spec, data: Interactions, table: np.ndarray, kept: np.ndarray, control: Control
) -> torch.Tensor:
    """Rows to score with, from a table of weights (rows, F), also that of a compression. kept:
    bool, its mask."""
    plain = spec.with_model(compression="none")
    return new_step(plain, data, table, kept, control.device).outputs()


def ensure_mask(
    about: Pruning, shape: tuple[int, int], data: Interactions, control: Control
) -> Mask:
    """A mask (rows, F), from the store; pruned again where its bits are not kept, from weights that
    are trained again where they are not kept either. Raises StoreError where a run that it comes
    from is not recorded, or the mask comes out otherwise here."""
    store, found = control.store, control.store.find_mask(about, shape)
    if found is not None:
        return found
    which = f"mask {about['digest'][:8]}"
    source, whence = store.find(about.get("run", "")), "the interactions"
    if about["criterion"] in UNTRAINED:
        found = make_mask(about, data, None)
    elif source is None or about["criterion"] not in CRITERIA:
        whence = f"criterion {about['criterion']!r}, from run {about.get('run', '')[:8] or 'none'}"
        raise StoreError(f"{which}: not kept, and cannot be pruned again: {whence}.")
    else:
        # A ticket may be trained on fewer pairs than those that gave its mask.
        data = data if data.digest == source.row["data_digest"] else data.whole
        found = make_mask(about, data, TrainedRun(source, data, control))
        whence = f"run {source.key[:8]}"
    if found.digest != about["digest"]:
        # Going on would train one mask under the key of another.
        raise StoreError(
            f"{which}: pruned again from {whence} it is "
            f"{found.digest[:8]}: weights come out in other bits on this processor. Replay a run "
            "whose mask is kept, or search in an empty store."
        )
    store.put_mask(found, about)
    return found


def pruned_mask(
    run: TrainedRun, about: dict[str, Any], score: Score | None = None, seed: int = 0
) -> Pruning:
    """The mask of a pruning, known to the store or made (:func:`make_mask`) and kept there."""
    store = run.control.store
    known = store.find_pruning(pruning_key(about))
    return known or store.put_mask(make_mask(about, run.data, run, score, seed), about)


def make_mask(
    about: dict[str, Any],
    data: Interactions,
    run: TrainedRun | None,
    score: Score | None = None,
    seed: int = 0,
) -> Mask:
    """The mask of a pruning, by what it depends on: a random one; of the interactions, by
    :data:`interactions.UNTRAINED`; or of a run's weights, which with a `rotation` are turned first,
    and so every entry is there again. score: a criterion of one's own, and `seed`, which it is
    given. Raises ConfigError for a run whose mask moved, and what :func:`pruning.prune` does."""
    criterion = about["criterion"]
    if criterion == "random":
        return drawn(about)
    if criterion in UNTRAINED:
        scores = UNTRAINED[criterion](data, about["shape"][1])
        return pruned_by(about, Mask.dense(*about["shape"]), scores)
    if run.spec.policy is not None:
        found = f"run {run.key[:8]}: found a mask that moved in training"
        raise ConfigError(f"{found}, expected one that stayed: it cannot be pruned on.")
    weights = run.ensure_weights(about["weights"])
    if "rotation" in about:
        weights = weights @ run.control.store.get_array(about["rotation"])
        before = Mask.dense(*weights.shape)
    else:
        before = run.ensure_mask()
    score = CRITERIA[criterion] if score is None else score
    return pruned_by(about, before, score(weights, seed))


@dataclass
class Epochs:
    """A training's step and its mask, bool (rows, F), which the spec's policy may move."""

    spec: Spec
    data: Interactions
    step: Any
    kept: np.ndarray
    device: str

    def run(self, number: int) -> float:
        """Train an epoch, counted from 0, and return its mean loss. The policy has its say before
        it, so that what is scored after an epoch was trained for one under its mask."""
        if self.spec.policy is not None and number:
            table = self.step.weights()
            fresh = moved(self.spec.policy, self.spec, self.data, number, table, self.kept)
            if fresh is not None:
                state, both = self.step.state(), self.kept & fresh
                arrays = {n: a * both if a.shape == both.shape else a for n, a in state.items()}
                self.put(fresh, arrays)
        return self.step.run_epoch(number)

    def put(self, kept: np.ndarray, state: dict[str, np.ndarray]) -> None:
        """Go on from a state under another mask."""
        if kept is not self.kept:
            table = np.zeros(kept.shape, np.float32)
            self.step = new_step(self.spec, self.data, table, kept, self.device)
            self.kept = kept
        self.step.restore(state)


def at_its_start(run: TrainedRun) -> Epochs:
    """A run's training, at its start; what it comes from is trained again where it is not kept."""
    kept = run.ensure_mask().kept
    start = initialise(run.init, run.data, kept.shape[1], run.control)
    step = new_step(run.spec, run.data, start, kept, run.control.device)
    return Epochs(run.spec, run.data, step, kept, run.control.device)


def again(run: TrainedRun, at: Epochs, count: int) -> Iterator[int]:
    """The numbers, from 1, of the first epochs of a run, each once it is trained again and its loss
    compared with the run's; nothing is evaluated."""
    record, control = run.record, run.control
    # Not at the deadline: nothing of a replay is kept, so it would never come to its end.
    bar = control.bar(f"again: {record.key[:8]}", count)
    with bar, replace(control, deadline=None).stopping() as why_stop:
        for number, recorded in enumerate(record.nested["losses"][:count].tolist()):
            loss = at.run(number)
            if not math.isclose(loss, recorded, rel_tol=REPLAY_TOLERANCE):
                raise StoreError(
                    f"run {record.key[:8]}: replayed, epoch {number + 1} has loss {loss:.6g}, "
                    f"recorded is {recorded:.6g}. If it is your own, delete its folder in "
                    f"{control.store.folder / 'runs'} and train again."
                )
            bar.update()
            yield number + 1
            if reason := why_stop():
                raise Stopped(reason, record.key, number + 1)
