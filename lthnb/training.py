"""The one training loop, memoised by the store.

:func:`train` is a pure function of (spec, data, initialisation, mask): asked twice, it trains once.
A training that is stopped (Ctrl-C, SIGTERM, a time budget, a kill) goes on from its checkpoint to
the same bits, since the triplet stream is counter-based and a position in it is one integer.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from lthnb.config import DENSE, SELECTION_K, Init, LthnbError, Spec, digest_text, run_text
from lthnb.control import Control, Stopped
from lthnb.data import DataError, Interactions
from lthnb.kept import Epochs, TrainedRun, ensure_mask, final_mask, initialise, outputs_of
from lthnb.kernels import device_of, new_step, resolve
from lthnb.kernels.ranking import evaluate
from lthnb.models import LinearStart
from lthnb.packing import decode, encode
from lthnb.pruning import Mask
from lthnb.store.files import say
from lthnb.store.records import Pruning, Record, make_nested, make_row, provenance
from lthnb.store.runs import Store


class Diverged(LthnbError, ArithmeticError):
    """The loss is no number any more."""


@dataclass(frozen=True, eq=False)
class Task:
    """A training that is to be done, and all that it depends on.

    text: of its key. start: see :func:`kept.initialise`. seed: the replicate that its row names.
    """

    text: str
    spec: Spec
    data: Interactions
    start: np.ndarray | LinearStart
    mask: Mask
    pruning: Pruning
    seed: int

    @property
    def key(self) -> str:
        return digest_text(self.text)


def train(
    spec: Spec,
    data: Interactions,
    init: Init,
    pruning: Pruning,
    control: Control,
    seed: int | None = None,
) -> TrainedRun:
    """Train a table, or return the run that did; test is scored once, with the best weights.

    spec: what and how. data: as the spec's protocol wants it (:meth:`Interactions.for_protocol`).
    init: where the table starts. pruning: what gave the mask. seed: the replicate that the row
    names (default: the data-order seed).

    Raises DataError where the data do not fit protocol or mask, Diverged where the loss is no
    number, and Stopped where the training was stopped in order.
    """
    spec = resolve(spec, control.device)
    _check(spec, data, pruning)
    store, device = control.store, device_of(spec.training.step, control.device)
    mask_digest = DENSE if pruning is None else pruning["digest"]
    text = run_text(spec, data.digest, init, mask_digest, device)
    key = digest_text(text)
    record = store.find(key)
    if record is None:
        size = spec.model.embedding_size
        mask = ensure_mask(pruning, (data.rows, size), data, control)
        start = initialise(init, data, size, control)
        seed = spec.training.order_seed if seed is None else seed
        task = Task(text, spec, data, start, mask, pruning, seed)
        with control.locked(key):
            record = store.find(key)  # another process may have finished it meanwhile
            if record is None:
                here = compute if control.cluster is None else control.cluster.compute
                record = here(task, control)
    else:
        store.drop_checkpoint(key)  # that of a process killed just after it wrote the record
    return TrainedRun(record, data, control)


def _check(spec: Spec, data: Interactions, pruning: Pruning) -> None:
    """Refuse what does not go together; see :func:`train`."""
    protocol = spec.training.protocol
    if protocol == "paper" and data.valid.nnz:
        found = f"{data.name}: valid still has {data.valid.nnz} pairs"
        raise DataError(f"{found}; protocol 'paper' wants data.for_protocol('paper').")
    data.for_protocol(protocol)  # refuses `validated` without a validation part
    if data.items <= SELECTION_K:
        raise DataError(
            f"{data.name}: found a catalogue of {data.items} items, expected more than "
            f"{SELECTION_K}: epochs are chosen by Recall@{SELECTION_K}. Bring more items."
        )
    if protocol == "paper" and data.test.nnz == 0:
        raise DataError(f"{data.name}: protocol 'paper' chooses epochs on test, and test is empty.")
    shape = (data.rows, spec.model.embedding_size)
    found = shape if pruning is None else tuple(pruning["shape"])
    if found != shape:
        raise DataError(f"mask: found shape {found}, expected {shape}, rows × embedding size.")


@dataclass
class _Progress:
    """What a checkpoint holds beside the step's state and the best table."""

    epoch: int = 0  # epochs done
    best_epoch: int = 0
    best_value: float = -1.0
    best_metrics: dict[str, float] | None = None
    losses: list[float] = field(default_factory=list)
    evaluations: list[list[float]] = field(default_factory=list)  # [epoch, recall@20, ndcg@20]
    seconds: float = 0.0


def compute(task: Task, control: Control) -> Record:
    """The loop of Algorithm 1, line 4, from the checkpoint where there is one, to the record."""
    key, store, spec, data, mask = task.key, control.store, task.spec, task.data, task.mask
    t = spec.training
    began = saved = time.monotonic()
    step = new_step(spec, data, task.start, mask.kept, control.device)
    run = Epochs(spec, data, step, mask.kept, control.device)
    at, best = _resume(key, run, store)
    spent = at.seconds
    moving = spec.policy.until if spec.policy else 0  # patience counts from the last exchange
    if t.epochs == 0:
        best = _evaluated(at, best, step, data, t.chosen_on)
    title = f"{data.name} {spec.model.backbone} density {mask.density:.3f}"
    bar, done = control.bar(title, t.epochs, at.epoch), run.step.done()
    with control.stopping() as why_stop, bar:
        while not done and at.epoch < min(t.epochs, max(at.best_epoch, moving) + t.patience):
            loss = run.run(at.epoch)
            at.epoch += 1
            if not math.isfinite(loss):
                found = f"run {key[:8]}: the loss of epoch {at.epoch} is {loss}"
                raise Diverged(f"{found}; lower the learning rate or the L2 weight.")
            at.losses.append(loss)
            if at.epoch in control.keep:
                store.put_weights(key, at.epoch, run.step.weights())
            done = run.step.done()
            if done or at.epoch % t.evaluate_every == 0 or at.epoch == t.epochs:
                best = _evaluated(at, best, run.step, data, t.chosen_on)
            bar.set_postfix_str(f"best Recall@20 {at.best_value:.4f}", refresh=False)
            bar.update()
            if control.report is not None:
                control.report(f"epoch {at.epoch}, best Recall@20 {at.best_value:.4f}")
            now = time.monotonic()
            at.seconds = spent + now - began
            reason = why_stop()
            if reason or now - saved >= control.checkpoint_seconds:
                found = {} if best is None else {"best": best}
                if spec.policy is not None:
                    found["kept"] = run.kept
                store.put_checkpoint(key, {**run.step.state(), **found}, asdict(at))
                saved = time.monotonic()
            if reason:
                raise Stopped(reason, key, at.epoch)
    if "last" in control.keep:
        store.put_weights(key, at.epoch, run.step.weights())
    kept = final_mask(spec, mask.kept, best)
    hits = evaluate(outputs_of(spec, data, best, kept, control), data, "test")
    valid = {} if t.protocol == "paper" else at.best_metrics
    scores = {"best_epoch": at.best_epoch, "epochs": at.epoch, "test": hits.means(), "valid": valid}
    scores["int8"] = score_rounded(spec, data, best, kept, "int8", control)
    seconds = spent + time.monotonic() - began
    made = provenance(seconds, device_of(t.step, control.device), torch.get_num_threads())
    nested = make_nested(at.losses, at.evaluations, hits)
    about = task.text, data.summary(), mask.entries, task.pruning, task.seed
    row = make_row(*about, scores, made, nested)
    store.put_weights(key, "best", best)
    store.put(row, nested)  # last, so that a row means a finished training
    store.drop_checkpoint(key)
    return Record(row, lambda: nested)


def _evaluated(
    at: _Progress, best: np.ndarray | None, step: Any, data: Interactions, part: str
) -> np.ndarray | None:
    """Score the table as it is now, and return the best one so far."""
    hits = evaluate(step.outputs(), data, part)
    value, ndcg = (hits.mean(m, SELECTION_K) for m in ("recall", "ndcg"))
    at.evaluations.append([at.epoch, value, ndcg])
    if value <= at.best_value:
        return best
    at.best_epoch, at.best_value, at.best_metrics = at.epoch, value, hits.means()
    return step.weights()


def score_rounded(
    spec: Spec,
    data: Interactions,
    table: np.ndarray,
    kept: np.ndarray,
    values: str,
    control: Control,
    part: str = "test",
) -> dict[str, float]:
    """Recall@20 and NDCG@20 on a part, of a table of weights, (rows, F), as a file with such values
    (:data:`packing.VALUES`) gives it back. kept: bool, its mask."""
    rounded = decode(encode(table, kept, values), kept)
    hits = evaluate(outputs_of(spec, data, rounded, kept, control), data, part)
    return {f"{name}@{SELECTION_K}": hits.mean(name, SELECTION_K) for name in ("recall", "ndcg")}


def _resume(key: str, run: Epochs, store: Store) -> tuple[_Progress, np.ndarray | None]:
    """Where the checkpoint stands, to which the step is brought, and the best table so far."""
    at = _Progress()
    arrays, state = store.find_checkpoint(key) or ({}, {})
    best, kept = arrays.pop("best", None), arrays.pop("kept", run.kept)
    shapes = [{n: (a.shape, a.dtype) for n, a in s.items()} for s in (arrays, run.step.state())]
    if state.keys() == asdict(at).keys() and shapes[0] == shapes[1]:
        run.put(kept, arrays)
        return _Progress(**state), best
    if state:
        say(f"run {key[:8]}: its checkpoint is of another version; the training starts over.")
        store.drop_checkpoint(key)
    return at, None
