"""The one training loop, memoised by the store.

:func:`train` is a pure function of (spec, data, initialisation, mask): asked twice, it trains once.
A training that is stopped (Ctrl-C, SIGTERM, a time budget, a kill) goes on from its checkpoint to
the same bits, since the triplet stream is counter-based and a position in it is one integer.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from lthnb.config import (
    DENSE,
    SELECTION_K,
    Compressed,
    ConfigError,
    Init,
    LthnbError,
    Rotated,
    Snapshot,
    Spec,
    digest_text,
    init_from,
    run_text,
    spec_from,
)
from lthnb.control import Control, Stopped
from lthnb.data import DataError, Interactions
from lthnb.evaluation import evaluate
from lthnb.pruning import CRITERIA, Mask, pruned
from lthnb.steps import device_of, new_step, resolve
from lthnb.store.files import StoreError, say
from lthnb.store.masks import StoredMask
from lthnb.store.records import Record, make_nested, make_row, provenance
from lthnb.store.runs import Store
from lthnb.store.starts import initialise, kept_weights

REPLAY_TOLERANCE = 1e-3  # relative, on each epoch's mean loss: other machines round otherwise


class Diverged(LthnbError, ArithmeticError):
    """The loss is no number any more."""


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A finished training: its record, and on demand its weights."""

    record: Record
    spec: Spec
    data: Interactions
    init: Init
    mask: Mask | StoredMask
    control: Control

    @property
    def key(self) -> str:
        return self.record.key

    def weights(self, epoch: int | str = "best") -> np.ndarray:
        """The table after an epoch: ``best``, ``last``, or a number from 1; (rows, F).

        Raises StoreError where it is not kept: :meth:`ensure_weights` trains it again, which takes
        as long as the training did.
        """
        return kept_weights(self.control.store, self.key, _epoch_of(self.record, epoch))

    def ensure_weights(self, epoch: int | str = "best") -> np.ndarray:
        """The same, trained again where they are not kept: see :func:`ensure_weights`."""
        return ensure_weights(self.record, self.data, self.control, epoch)

    def ensure_mask(self) -> Mask:
        """The mask with its bits, pruned again where they are not kept: :func:`ensure_mask`."""
        return ensure_mask(self.mask, self.data, self.control)

    def outputs(self) -> torch.Tensor:
        """Rows to score with, from the best epoch's weights: (users + items, F), users first."""
        return _outputs(self.spec, self.data, self.weights(), self.mask, self.control)

    def __repr__(self) -> str:
        return f"TrainedRun({self.record!r})"


def train(
    spec: Spec,
    data: Interactions,
    init: Init,
    mask: Mask | StoredMask,
    control: Control,
    seed: int | None = None,
) -> TrainedRun:
    """Train a table, or return the run that did: ``train(spec, data, init, mask)`` is memoised.

    spec: what and how (a step of ``auto`` is resolved first). data: as the spec's protocol wants it
    (:meth:`Interactions.for_protocol`). init: where the table starts; mask: which entries are kept,
    shape (users + items, F). seed: the replicate that the row names (default: the data-order
    seed). The test part is scored once, with the best epoch's weights.

    Raises DataError where the data do not fit protocol or mask, ConfigError where a compression has
    no teacher or a mask that prunes, Diverged where the loss is no number, and Stopped where the
    training was stopped in order.
    """
    spec = resolve(spec, control.device)
    _check(spec, data, init, mask)
    device = device_of(spec.training.step, control.device)
    text = run_text(spec, data.digest, init, mask.digest, device)
    key, store = digest_text(text), control.store
    record = store.find(key)
    if record is None:
        bits = ensure_mask(mask, data, control)
        ensure_start(init, data, control)
        with control.locked(key):
            record = store.find(key)  # another process may have finished it meanwhile
            if record is None:
                seed = spec.training.order_seed if seed is None else seed
                about = mask.about if isinstance(mask, StoredMask) else _given(mask, store)
                record = _train(text, spec, data, init, bits, about, control, seed)
    else:
        store.drop_checkpoint(key)  # that of a process killed just after it wrote the record
    return TrainedRun(record, spec, data, init, mask, control)


def _check(spec: Spec, data: Interactions, init: Init, mask: Mask | StoredMask) -> None:
    """Refuse what does not go together; see :func:`train`."""
    protocol, linear = spec.training.protocol, spec.model.compression == "linear"
    if protocol == "paper" and data.valid.nnz:
        raise DataError(
            f"{data.name}: protocol 'paper' trains on train and valid joined, and valid still has "
            f"{data.valid.nnz} pairs; pass data.for_protocol('paper')."
        )
    data.for_protocol(protocol)  # refuses `validated` without a validation part
    if data.items <= SELECTION_K:
        raise DataError(
            f"{data.name}: found a catalogue of {data.items} items, expected more than "
            f"{SELECTION_K}: epochs are chosen by Recall@{SELECTION_K}. Bring more items."
        )
    if protocol == "paper" and data.test.nnz == 0:
        raise DataError(f"{data.name}: protocol 'paper' chooses epochs on test, and test is empty.")
    shape = (data.rows, spec.model.embedding_size)
    if mask.shape != shape:
        raise DataError(
            f"mask: found shape {mask.shape}, expected {shape}, users and items × embedding size."
        )
    if linear != isinstance(init, Compressed):
        raise ConfigError(
            f"initialisation: found {type(init).__name__} with Model.compression "
            f"{spec.model.compression!r}, expected Compressed with 'linear', and any other with "
            "'none'."
        )


def _given(mask: Mask, store: Store) -> dict[str, Any] | None:
    """Keep a mask that comes from no pruning, so that its run can be trained again."""
    if mask.digest == DENSE:
        return None
    return store.put_mask(
        mask, {"criterion": "given", "given": mask.digest, "shape": list(mask.shape)}
    )


@dataclass
class _Progress:
    """Where a training stands: what a checkpoint holds beside the step's state and best table."""

    epoch: int = 0  # epochs done
    best_epoch: int = 0
    best_value: float = -1.0
    best_metrics: dict[str, float] | None = None
    losses: list[float] = field(default_factory=list)
    evaluations: list[list[float]] = field(default_factory=list)  # [epoch, recall@20, ndcg@20]
    seconds: float = 0.0


def _train(
    text: str,
    spec: Spec,
    data: Interactions,
    init: Init,
    mask: Mask,
    about: dict[str, Any] | None,
    control: Control,
    seed: int,
) -> Record:
    """The loop of Algorithm 1, line 4, from the checkpoint where there is one, to the record."""
    key, store, t = digest_text(text), control.store, spec.training
    began = saved = time.monotonic()
    step = _start(spec, data, init, mask, control)
    at, best = _resume(key, step, store)
    spent = at.seconds
    with control.stopping() as why_stop, _bar(spec, data, mask, control, t.epochs, at.epoch) as bar:
        while at.epoch < t.epochs and at.epoch - at.best_epoch < t.patience:
            loss = step.run_epoch(at.epoch)
            at.epoch += 1
            if not math.isfinite(loss):
                raise Diverged(
                    f"run {key[:8]}: the loss of epoch {at.epoch} is {loss}; lower the learning "
                    "rate or the L2 weight."
                )
            at.losses.append(loss)
            if at.epoch in control.keep:
                store.put_weights(key, at.epoch, step.weights())
            if at.epoch % t.evaluate_every == 0 or at.epoch == t.epochs:
                hits = evaluate(step.outputs(), data, t.chosen_on)
                value, ndcg = (hits.mean(m, SELECTION_K) for m in ("recall", "ndcg"))
                at.evaluations.append([at.epoch, value, ndcg])
                if value > at.best_value:
                    at.best_epoch, at.best_value = at.epoch, value
                    best, at.best_metrics = step.weights(), hits.means()
            bar.set_postfix_str(f"best Recall@20 {at.best_value:.4f}", refresh=False)
            bar.update()
            if control.report is not None:
                control.report(f"epoch {at.epoch}, best Recall@20 {at.best_value:.4f}")
            now = time.monotonic()
            at.seconds = spent + now - began
            reason = why_stop()
            if reason or now - saved >= control.checkpoint_seconds:
                _save(key, step, at, best, store)
                saved = time.monotonic()
            if reason:
                raise Stopped(reason, key, at.epoch)
    if "last" in control.keep:
        store.put_weights(key, at.epoch, step.weights())
    # Test is scored once, with the best epoch's weights.
    hits = evaluate(_outputs(spec, data, best, mask, control), data, "test")
    valid = {} if t.protocol == "paper" else at.best_metrics
    scores = {"best_epoch": at.best_epoch, "epochs": at.epoch, "test": hits.means(), "valid": valid}
    seconds = spent + time.monotonic() - began
    made = provenance(seconds, device_of(t.step, control.device), torch.get_num_threads())
    nested = make_nested(at.losses, at.evaluations, hits)
    row = make_row(text, data.summary(), mask.entries, about, seed, scores, made, nested)
    store.put_weights(key, "best", best)
    store.put(row, nested)  # last, so that a row means a finished training
    store.drop_checkpoint(key)
    return Record(row, lambda: nested)


def _start(spec: Spec, data: Interactions, init: Init, mask: Mask, control: Control) -> Any:
    """A step at its beginning."""
    table = initialise(init, data, spec.model.embedding_size, control.store)
    return new_step(spec, data, table, mask.kept, control.device)


def _save(key: str, step: Any, at: _Progress, best: np.ndarray | None, store: Store) -> None:
    found = {} if best is None else {"best": best}
    store.put_checkpoint(key, {**step.state(), **found}, asdict(at))


def _resume(key: str, step: Any, store: Store) -> tuple[_Progress, np.ndarray | None]:
    """Where the checkpoint stands, to which the step is brought, and the best table so far."""
    at = _Progress()
    arrays, state = store.find_checkpoint(key) or ({}, {})
    best = arrays.pop("best", None)
    shapes = [{n: (a.shape, a.dtype) for n, a in s.items()} for s in (arrays, step.state())]
    if state.keys() == asdict(at).keys() and shapes[0] == shapes[1]:
        step.restore(arrays)
        return _Progress(**state), best
    if state:
        say(f"run {key[:8]}: its checkpoint is of another version; the training starts over.")
        store.drop_checkpoint(key)
    return at, None


def _outputs(
    spec: Spec, data: Interactions, table: np.ndarray, mask: Mask | StoredMask, control: Control
) -> torch.Tensor:
    """Rows to score with, from a table of weights (rows, F). What a compression has trained is a
    table like any other by then, and scores as one."""
    plain = spec.with_model(compression="none")
    return new_step(plain, data, table, mask.kept, control.device).outputs()


def _bar(
    spec: Spec, data: Interactions, mask: Mask, control: Control, total: int, done: int = 0
) -> tqdm:
    """A progress bar over epochs, shown once two seconds have passed."""
    title = f"{data.name} {spec.model.backbone} density {mask.density:.3f}"
    quiet = not control.progress
    return tqdm(None, title, total, False, initial=done, unit="epoch", delay=2, disable=quiet)


def _epoch_of(record: Record, epoch: int | str) -> int | str:
    """``best``, or the number of an epoch that was run; ``last`` is one. Raises ConfigError."""
    number = record.epochs if epoch == "last" else epoch
    if number != "best" and not (isinstance(number, int) and 1 <= number <= record.epochs):
        raise ConfigError(
            f"run {record.key[:8]}: found epoch {epoch!r}, expected 'best', 'last' or 1 … "
            f"{record.epochs}, the epochs that were run."
        )
    return number


# What is not kept is made again, when it is asked for by name


def ensure_mask(mask: Mask | StoredMask, data: Interactions, control: Control) -> Mask:
    """A mask with its bits; pruned again where they are not kept, from weights that are trained
    again where they are not kept either.

    Raises StoreError where a run that it comes from is not recorded, or the mask comes out
    otherwise here.
    """
    if isinstance(mask, Mask):
        return mask
    about, store = mask.about, control.store
    found = store.find_mask(about, mask.shape)
    if found is not None:
        return found
    source = store.find(about.get("run", ""))
    if source is None or about["criterion"] not in CRITERIA:
        raise StoreError(
            f"mask {mask.digest[:8]}: its bits are not kept, and it cannot be pruned again: "
            f"criterion {about['criterion']!r}, from run {about.get('run', '')[:8] or 'none'}."
        )
    earlier = None if about["mask"] == DENSE else source.pruning
    before = ensure_mask(replace(mask, about=earlier), data, control)
    found = pruned(about, before, ensure_weights(source, data, control, about["weights"]))
    if found.digest != mask.digest:
        # Going on would train one mask under the key of another.
        raise StoreError(
            f"mask {mask.digest[:8]}: pruned again from run {source.key[:8]} it is "
            f"{found.digest[:8]}, since weights come out in other bits here, as on another kind of "
            "processor. Replay a run whose mask is kept, or search in an empty store."
        )
    store.put_mask(found, about)
    return found


def ensure_weights(
    record: Record, data: Interactions, control: Control, epoch: int | str = "best"
) -> np.ndarray:
    """The table of a run after an epoch: ``best``, ``last``, or a number from 1; (rows, F).

    One that is not kept is computed by training again up to there, after the runs that this one
    comes from, and is then kept. Raises ConfigError for an epoch that was not run, DataError where
    the data are others, StoreError where the losses are not those of the record, to
    :data:`REPLAY_TOLERANCE`, and Stopped on a signal.
    """
    epoch, store = _epoch_of(record, epoch), control.store
    table = store.find_weights(record.key, epoch)
    if table is not None:
        return table
    check_data(record, data)
    spec, init = spec_from(record.spec), init_from(record.init)
    ensure_start(init, data, control)
    mask = ensure_mask(StoredMask(record.pruning, record.shape, store), data, control)
    with control.locked(record.key):
        table = store.find_weights(record.key, epoch)  # another process may have been faster
        if table is None:
            count = record.best_epoch if epoch == "best" else epoch
            step = _start(spec, data, init, mask, control)
            with _bar(spec, data, mask, control, count) as bar:
                _replay(record, step, count, control, bar)
            table = step.weights()
            store.put_weights(record.key, epoch, table)
    return table


def _replay(record: Record, step: Any, count: int, control: Control, bar: tqdm) -> None:
    """The first epochs of a run again, compared with its losses; nothing is evaluated."""
    # Not at the deadline: nothing of a replay is kept, so it would never come to its end.
    with replace(control, deadline=None).stopping() as why_stop:
        for number, recorded in enumerate(record.nested["losses"][:count].tolist()):
            loss = step.run_epoch(number)
            if not math.isclose(loss, recorded, rel_tol=REPLAY_TOLERANCE):
                raise StoreError(
                    f"run {record.key[:8]}: replayed, epoch {number + 1} has loss {loss:.6g}, "
                    f"recorded is {recorded:.6g}; the record is from other code or data. Remove it "
                    "and train again."
                )
            bar.update()
            if reason := why_stop():
                raise Stopped(reason, record.key, number + 1)


def ensure_start(init: Init, data: Interactions, control: Control) -> None:
    """Bring the weights that a run starts from into the store, where it starts from any."""
    match init:
        case Rotated(of=start):
            ensure_start(start, data, control)
        case Compressed(teacher=key):
            ensure_start(Snapshot(key), data, control)
        case Snapshot(run=key, epoch=epoch):
            record = control.store.find(key)
            if record is not None:
                ensure_weights(record, data, control, epoch)
            # Else training says what is missing: weights may be there without a record.


def check_data(record: Record, data: Interactions) -> None:
    """Refuse, with a DataError, other data than those of a record."""
    if data.digest != record.row["data_digest"]:
        raise DataError(
            f"run {record.key[:8]}: the data here are {data.digest[:8]}, those of the record "
            f"{record.row['data_digest'][:8]}; another version, another split, or other options."
        )
