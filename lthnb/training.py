"""The one training loop, memoised by the store.

:func:`train` is a pure function of (spec, data, initialisation, mask): asked twice, it trains once.
A training that is stopped (Ctrl-C, SIGTERM, a time budget, a kill) goes on from its checkpoint to
the same bits, since the triplet stream is counter-based and a position in it is one integer.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lthnb import config
from lthnb.config import (
    SELECTION_K,
    Compressed,
    ConfigError,
    Init,
    LthnbError,
    Rotated,
    Seeded,
    Snapshot,
    Spec,
    init_from,
    run_text,
    spec_from,
)
from lthnb.data import DataError, Interactions
from lthnb.evaluation import evaluate, rank
from lthnb.models import LinearStart
from lthnb.pruning import CRITERIA, Mask, pruned
from lthnb.sampling import initial_maps, initial_table
from lthnb.steps import device_of, new_step, resolve
from lthnb.store.files import StoreError, npz, say, write_file
from lthnb.store.records import Record, make_nested, make_row, provenance
from lthnb.store.runs import Store, StoreBusy

REPLAY_TOLERANCE = 1e-3  # relative, on each epoch's mean loss: other machines round otherwise
PROBE_SECONDS, PROBE_USERS = 0.5, 2000  # from which the cost of an epoch is told
CHECKPOINT_SECONDS = 30.0  # at most this much work is lost to a kill, and one epoch


class Stopped(LthnbError):
    """A training stopped in order, its checkpoint written; the same call goes on from there.

    reason: ``interrupted`` (Ctrl-C), ``terminated`` (SIGTERM) or ``time budget``. epoch: epochs
    done; None where it only waited for another process that trains the same. key: empty where no
    training was under way.
    """

    def __init__(self, reason: str, key: str, epoch: int | None) -> None:
        super().__init__(reason, key, epoch)  # the same arguments, so that it pickles
        self.reason, self.key, self.epoch = reason, key, epoch

    def __str__(self) -> str:
        when = f"after epoch {self.epoch} of run {self.key[:8]}"
        if self.epoch is None:
            when = f"while another process trains run {self.key[:8]}"
        if not self.key:
            when = "between two trainings"
        return f"stopped ({self.reason}) {when}; run the same command again to go on."


class EpochError(ValueError):
    """An epoch that a run did not run."""


class Diverged(ArithmeticError):
    """The loss is no number any more."""


@dataclass(frozen=True)
class Control:
    """How a training is watched and ended, and where it runs: no part of its key.

    Nothing here but `device` can change a bit of a result, and that one is in the record.

    store: where runs are kept. progress: a bar for trainings over two seconds. report: called after
    each epoch with a few words on where the training stands. deadline: a moment
    of ``time.monotonic()`` after which trainings stop at the next epoch's end, or None.
    checkpoint_seconds: between two checkpoints. device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``:
    which step ``auto`` means, and where the reference step computes. keep: epochs (from 1, or
    ``"last"``) whose tables are stored beside the best one's. owner: process
    without which nobody waits for the result; a training whose parent it is no longer stops.
    """

    store: Store
    progress: bool = True
    report: Callable[[str], None] | None = None
    deadline: float | None = None
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    device: str = "auto"
    keep: tuple[int | str, ...] = ()
    owner: int | None = None


@dataclass(frozen=True, eq=False)
class StoredMask:
    """A mask known by how it was made, whose bits are read only when someone needs them: a search
    whose runs are all recorded is walked without a single table of weights.

    about: what the pruning depended on, and the mask's `digest` and `entries`; None for the dense
    mask. shape: (rows, F).
    """

    about: dict[str, Any] | None
    shape: tuple[int, int]
    store: Store

    @property
    def digest(self) -> str:
        """As :attr:`pruning.Mask.digest`."""
        return config.DENSE if self.about is None else self.about["digest"]

    @property
    def entries(self) -> int:
        """Entries that are kept."""
        return math.prod(self.shape) if self.about is None else self.about["entries"]

    @property
    def density(self) -> float:
        """Share of the entries that are kept."""
        return self.entries / math.prod(self.shape)

    def there(self) -> bool:
        """Whether the bits can be had without a training."""
        return self.about is None or self.store.has_mask(self.about)

    @property
    def kept(self) -> np.ndarray:
        """bool (rows, F). Raises StoreError where they are not kept: :func:`ensure_mask` makes them
        again."""
        mask = self.store.find_mask(self.about, self.shape)
        if mask is None:
            raise StoreError(
                f"mask {self.digest[:8]}: its bits are not kept; `training.ensure_mask` prunes "
                "again, from weights that are trained again where they are not kept either."
            )
        return mask.kept


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
        found = self.control.store.find_weights(self.key, checked_epoch(self.record, epoch))
        if found is None:
            raise StoreError(
                f"run {self.key[:8]}: its weights of epoch {epoch!r} are not kept; "
                f"`.ensure_weights({epoch!r})` trains them again ({self.record.seconds:.0f} s when "
                "it was first trained)."
            )
        return found

    def ensure_weights(self, epoch: int | str = "best") -> np.ndarray:
        """The same, trained again where they are not kept: see :func:`ensure_weights`."""
        return ensure_weights(self.record, self.data, self.control, epoch)

    def ensure_mask(self) -> Mask:
        """The mask with its bits, pruned again where they are not kept: :func:`ensure_mask`."""
        if isinstance(self.mask, Mask):
            return self.mask
        return ensure_mask(self.mask.about, self.mask.shape, self.data, self.control)

    def outputs(self) -> torch.Tensor:
        """Rows to score with, from the best epoch's weights: (users + items, F), users first."""
        return _outputs(self.spec, self.data, self.weights(), self.mask, self.control)

    def recommend(self, user: Any, n: int = 10) -> np.ndarray:
        """Ids (columns) of the n best items for a user, those of train and valid left out.

        user: a label, as in ``data.user_labels``. Raises DataError, naming the nearest label, where
        there is no such user.
        """
        data = self.data
        row = data.user_row(user)
        if not 1 <= n <= data.items:
            raise DataError(
                f"{data.name}: found n = {n} recommendations, expected 1 to {data.items}, the "
                "items of the catalogue."
            )
        outputs = self.outputs()
        best = rank(outputs[[row]], outputs[data.users :], data.known[[row]], n)[0]
        return best[best >= 0]

    def save(self, path: str | Path) -> Path:
        """Write the trained ticket with its labels as an .npz that numpy alone can read.

        `user_vectors` (users, F) and `item_vectors` (items, F) are what scores are inner products
        of: MF's table itself, LightGCN's after propagation. `table` (users + items, F) is the
        trained table before it, pruned entries zero, and `mask` its bits. `user_labels`,
        `item_labels`, and `run`, the key of the record. Returns the path.
        """
        path = Path(path)
        outputs = self.outputs().cpu().numpy()
        arrays = {
            "user_vectors": outputs[: self.data.users],
            "item_vectors": outputs[self.data.users :],
            "table": self.weights(),
            "mask": self.mask.kept,
            "user_labels": _plain(self.data.user_labels),
            "item_labels": _plain(self.data.item_labels),
            "run": np.array(self.key),
        }
        write_file(path, npz(arrays))
        return path

    def __repr__(self) -> str:
        return f"TrainedRun({self.record!r})"

    def _repr_html_(self) -> str:
        return self.record._repr_html_()


def _plain(labels: np.ndarray) -> np.ndarray:
    """Labels as numbers or fixed-width text, which numpy reads without pickle."""
    labels = np.asarray(labels)
    return labels.astype(str) if labels.dtype == object else labels


def _outputs(spec, data, table: np.ndarray, mask: Mask, control: Control) -> torch.Tensor:
    """Rows to score with, from a table of weights (rows, F). What a compression has trained is a
    table like any other by then, and scores as one."""
    plain = spec.with_model(compression="none")
    return new_step(plain, data, table, mask.kept, control.device).outputs()


def initialise(init: Init, data: Interactions, size: int, store: Store) -> np.ndarray | LinearStart:
    """What a training starts from, before its mask: the table (rows, F), or for a compression the
    teacher's table and the maps.

    Raises StoreError where it needs a run's weights or an array that the store does not have.
    """
    match init:
        case Seeded():
            return initial_table(init.seed, data.rows, size)
        case Rotated():
            rotation = store.get_array(init.rotation)
            if rotation.shape != (size, size):
                raise StoreError(
                    f"rotation {init.rotation[:8]}: shape {rotation.shape}, "
                    f"expected {(size, size)}."
                )
            return initialise(init.of, data, size, store) @ rotation
        case Snapshot():
            table = store.find_weights(init.run, init.epoch)
            if table is None:
                raise StoreError(
                    f"snapshot of run {init.run[:8]} at epoch {init.epoch}: not in the store; "
                    "train that run and ask for its weights at that epoch first."
                )
            return table
        case Compressed():
            teacher = store.find_weights(init.teacher, "best")
            if teacher is None:
                raise StoreError(
                    f"teacher {init.teacher[:8]}: its weights are not in the store; train that run "
                    "and ask for its weights() first."
                )
            if len(teacher) != data.rows:
                raise StoreError(
                    f"teacher {init.teacher[:8]}: its table has {len(teacher)} rows, expected "
                    f"{data.rows}, the users and items of {data.name}; name a run on these data."
                )
            return LinearStart(teacher, initial_maps(init.seed, teacher.shape[1], size))


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

    Raises DataError where data and protocol do not fit, ConfigError where a compression has no
    teacher or a mask that prunes, Diverged where the loss is no number, and Stopped where the
    training was stopped in order.
    """
    spec = resolve(spec, control.device)
    _check_protocol(spec, data)
    _check_compression(spec, init, mask)
    device = device_of(spec.training.step, control.device)
    text = run_text(spec, data.digest, init, mask.digest, device)
    key, store = config.digest_text(text), control.store
    record = store.find(key)
    if record is None:
        masked = _with_bits(mask, data, control)
        ensure_start(init, data, control)
        with _locked(key, control):
            record = store.find(key)  # another process may have finished it meanwhile
            if record is None:
                seed = spec.training.order_seed if seed is None else seed
                record = _train(text, spec, data, init, masked, control, seed)
    else:
        store.drop_checkpoint(key)  # that of a process killed just after it wrote the record
    return TrainedRun(record, spec, data, init, mask, control)


@dataclass(frozen=True)
class _Masked:
    """A mask with its bits, and how it was made: None for the dense mask."""

    mask: Mask
    about: dict[str, Any] | None


def _with_bits(mask: Mask | StoredMask, data: Interactions, control: Control) -> _Masked:
    """What is to be trained. A mask that comes from no pruning is kept as given, so that its run
    can be trained again."""
    if isinstance(mask, StoredMask):
        return _Masked(ensure_mask(mask.about, mask.shape, data, control), mask.about)
    if mask.digest == config.DENSE:
        return _Masked(mask, None)
    about = {"criterion": "given", "given": mask.digest, "shape": list(mask.shape)}
    return _Masked(mask, control.store.put_mask(mask, about))


# What is not kept is made again, when it is asked for by name


def ensure_mask(
    about: dict[str, Any] | None, shape: tuple[int, int], data: Interactions, control: Control
) -> Mask:
    """The mask that a pruning gave; pruned again where its bits are not kept, from weights that are
    trained again where they are not kept either.

    about: as of :class:`StoredMask`. Raises StoreError where a run that it comes from is not
    recorded, or the mask comes out otherwise here.
    """
    mask = control.store.find_mask(about, shape)
    if mask is not None:
        return mask
    source = control.store.find(about.get("run", ""))
    if source is None or about["criterion"] not in CRITERIA:
        raise StoreError(
            f"mask {about['digest'][:8]}: its bits are not kept, and it cannot be pruned again: "
            f"criterion {about['criterion']!r}, from run {about.get('run', '')[:8] or 'none'}."
        )
    earlier = None if about["mask"] == config.DENSE else source.pruning
    before = ensure_mask(earlier, shape, data, control)
    weights = ensure_weights(source, data, control, about["weights"])
    mask = pruned(about, before, weights)
    if mask.digest != about["digest"]:
        # Going on would train one mask under the key of another.
        raise StoreError(
            f"mask {about['digest'][:8]}: pruned again from run {source.key[:8]} it is "
            f"{mask.digest[:8]}, since weights come out in other bits here, as on another kind of "
            "processor. Replay a run whose mask is kept, or search in an empty store."
        )
    control.store.put_mask(mask, about)
    return mask


def checked_epoch(record: Record, epoch: int | str) -> int | str:
    """``best``, or the number of an epoch that was run; ``last`` is one. Raises EpochError."""
    number = record.epochs if epoch == "last" else epoch
    if number != "best" and not (isinstance(number, int) and 1 <= number <= record.epochs):
        raise EpochError(
            f"run {record.key[:8]}: no weights of epoch {epoch!r}; expected 'best', 'last' or "
            f"1 … {record.epochs}, the epochs that were run."
        )
    return number


def ensure_weights(
    record: Record, data: Interactions, control: Control, epoch: int | str = "best"
) -> np.ndarray:
    """The table of a run after an epoch: ``best``, ``last``, or a number from 1; (rows, F).

    One that is not kept is computed by training again up to there, after the runs that this one
    comes from, and is then kept. Raises EpochError for an epoch that was not run, DataError where
    the data are others, StoreError where the losses are not those of the record, to
    :data:`REPLAY_TOLERANCE`, and Stopped on a signal.
    """
    epoch, store = checked_epoch(record, epoch), control.store
    table = store.find_weights(record.key, epoch)
    if table is not None:
        return table
    check_data(record, data)
    spec, init = spec_from(record.spec), init_from(record.init)
    ensure_start(init, data, control)
    mask = ensure_mask(record.pruning, record.shape, data, control)
    with _locked(record.key, control):
        table = store.find_weights(record.key, epoch)  # another process may have been faster
        if table is None:
            at = record.best_epoch if epoch == "best" else epoch
            table = _replay(TrainedRun(record, spec, data, init, mask, control), at)
            store.put_weights(record.key, epoch, table)
    return table


def ensure_start(init: Init, data: Interactions, control: Control) -> None:
    """Bring the weights that a run starts from into the store, where it starts from any."""
    match init:
        case Rotated():
            ensure_start(init.of, data, control)
        case Compressed(teacher=key):
            ensure_start(Snapshot(key, "best"), data, control)
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


@contextlib.contextmanager
def _locked(key: str, control: Control) -> Iterator[None]:
    """Hold a key. While another process holds it, what stops a training stops the wait: Stopped."""
    with contextlib.ExitStack() as held:
        with _stop_signals("") as signals:
            try:
                held.enter_context(
                    control.store.lock(key, lambda: _why_stop(signals, control, time.monotonic()))
                )
            except StoreBusy as busy:
                raise Stopped(busy.reason, key, None) from busy
        if signals:  # one that came at the very moment when the wait was over
            raise Stopped(signals[0], key, None)
        yield


def _check_protocol(spec: Spec, data: Interactions) -> None:
    protocol, valid = spec.training.protocol, data.valid.nnz
    if protocol == "paper" and valid:
        raise DataError(
            f"{data.name}: protocol 'paper' trains on train and valid joined, and valid still has "
            f"{valid} pairs; pass data.for_protocol('paper')."
        )
    data.for_protocol(protocol)  # refuses `validated` without a validation part
    if data.items <= SELECTION_K:
        raise DataError(
            f"{data.name}: found a catalogue of {data.items} items, expected more than "
            f"{SELECTION_K}: epochs are chosen by Recall@{SELECTION_K}, which hits everything in "
            "so small a one. Bring more items."
        )
    if protocol == "paper" and data.test.nnz == 0:
        raise DataError(f"{data.name}: protocol 'paper' chooses epochs on test, and test is empty.")


def _check_compression(spec: Spec, init: Init, mask: Mask) -> None:
    """A compression starts from a teacher and maps, all else from a table; and is not pruned."""
    kind, linear = type(init).__name__, spec.model.compression == "linear"
    if linear != isinstance(init, Compressed):
        raise ConfigError(
            f"initialisation: found {kind} with Model.compression {spec.model.compression!r}, "
            "expected Compressed with 'linear', and any other with 'none'."
        )
    if linear and mask.digest != config.DENSE:
        raise ConfigError(
            f"mask: found density {mask.density:.3g} with Model.compression 'linear', expected the "
            "dense mask: LCM trains maps, and has no table to prune."
        )


@dataclass
class _Progress:
    """Where a training stands: all that a checkpoint holds beside the step's own state."""

    epoch: int = 0  # epochs done
    best_epoch: int = 0
    best_value: float = -1.0
    best_table: np.ndarray | None = None
    best_metrics: dict[str, float] | None = None
    losses: list[float] | None = None
    evaluations: list[list[float]] | None = None  # [epoch, recall@20, ndcg@20]
    seconds: float = 0.0

    def plain(self) -> dict[str, Any]:
        names = ("epoch", "best_epoch", "best_value", "best_metrics", "losses", "evaluations")
        return {name: getattr(self, name) for name in (*names, "seconds")}


def _train(
    text: str,
    spec: Spec,
    data: Interactions,
    init: Init,
    masked: _Masked,
    control: Control,
    seed: int,
) -> Record:
    store, t = control.store, spec.training
    key, mask = config.digest_text(text), masked.mask
    began = time.monotonic()
    step, at = _start(key, spec, data, init, mask, control, from_checkpoint=True)
    spent = at.seconds
    part = t.chosen_on
    saved = time.monotonic()
    with _stop_signals() as signals, _bar(spec, data, mask, at, control) as bar:
        while at.epoch < t.epochs and at.epoch - at.best_epoch < t.patience:
            loss = step.run_epoch(at.epoch)
            at.epoch += 1
            at.losses.append(_finite(loss, key, at.epoch))
            if at.epoch in control.keep:
                store.put_weights(key, at.epoch, step.weights())
            if at.epoch % t.evaluate_every == 0 or at.epoch == t.epochs:
                hits = evaluate(step.outputs(), data, part)
                value, ndcg = (hits.mean(m, SELECTION_K) for m in ("recall", "ndcg"))
                at.evaluations.append([at.epoch, value, ndcg])
                if value > at.best_value:
                    at.best_epoch, at.best_value = at.epoch, value
                    at.best_table, at.best_metrics = step.weights(), hits.means()
                shown = f"Recall@20 {value:.4f}, best {at.best_value:.4f}"
                bar.set_postfix_str(shown, refresh=False)
            bar.update()
            if control.report is not None:
                control.report(f"epoch {at.epoch}, best Recall@20 {at.best_value:.4f}")
            now = time.monotonic()
            at.seconds = spent + now - began
            reason = _why_stop(signals, control, now)
            if reason or now - saved >= control.checkpoint_seconds:
                _save(key, step, at, store)
                saved = time.monotonic()
            if reason:
                raise Stopped(reason, key, at.epoch)
    if "last" in control.keep:
        store.put_weights(key, at.epoch, step.weights())
    at.seconds = spent + time.monotonic() - began
    return _finish(text, spec, data, masked, at, control, seed)


def _start(key, spec, data, init, mask, control, *, from_checkpoint: bool):
    """A step at its beginning, or where the checkpoint stands, and its progress."""
    size = spec.model.embedding_size
    if mask.kept.shape != (data.rows, size):
        raise DataError(
            f"mask: found shape {mask.kept.shape}, expected {(data.rows, size)}, "
            "users and items × embedding size."
        )
    table = initialise(init, data, size, control.store)
    step = new_step(spec, data, table, mask.kept, control.device)
    at = _Progress(losses=[], evaluations=[])
    found = control.store.find_checkpoint(key) if from_checkpoint else None
    if found is not None:
        arrays, state = found
        best = arrays.pop("best", None)
        shapes = [{n: (a.shape, a.dtype) for n, a in s.items()} for s in (arrays, step.state())]
        if state.keys() == at.plain().keys() and shapes[0] == shapes[1]:
            at = _Progress(**state)
            at.best_table = best
            step.restore(arrays)
        else:
            say(
                f"run {key[:8]}: its checkpoint is not what this version writes for this run; the "
                "training starts over."
            )
            control.store.drop_checkpoint(key)
    return step, at


def _save(key: str, step, at: _Progress, store: Store) -> None:
    best = {} if at.best_table is None else {"best": at.best_table}
    store.put_checkpoint(key, {**step.state(), **best}, at.plain())


def _finish(text, spec, data, masked, at, control, seed) -> Record:
    """Score test once with the best epoch's weights; write weights, then the row."""
    store, t = control.store, spec.training
    key = config.digest_text(text)
    hits = evaluate(_outputs(spec, data, at.best_table, masked.mask, control), data, "test")
    valid = {} if t.protocol == "paper" else at.best_metrics
    scores = {"best_epoch": at.best_epoch, "epochs": at.epoch, "test": hits.means(), "valid": valid}
    made = provenance(at.seconds, device_of(t.step, control.device), torch.get_num_threads())
    nested = make_nested(at.losses, at.evaluations, hits)
    row = make_row(
        text, data.summary(), masked.mask.entries, masked.about, seed, scores, made, nested
    )
    store.put_weights(key, "best", at.best_table)
    store.put(row, nested)
    store.drop_checkpoint(key)
    return Record(row, lambda: nested)


def _replay(run: TrainedRun, epoch: int) -> np.ndarray:
    """The table after an epoch, by training again up to there; nothing is evaluated."""
    step, at = _start(
        run.key, run.spec, run.data, run.init, run.mask, run.control, from_checkpoint=False
    )
    bar = _bar(run.spec, run.data, run.mask, at, run.control, total=epoch)
    with _stop_signals() as signals, bar:
        for number, recorded in enumerate(run.record.nested["losses"][:epoch].tolist()):
            loss = step.run_epoch(number)
            if not math.isclose(loss, recorded, rel_tol=REPLAY_TOLERANCE):
                raise StoreError(
                    f"run {run.key[:8]}: replayed, epoch {number + 1} has loss {loss:.6g}, "
                    f"recorded is {recorded:.6g}; the record is from other code or data. Remove it "
                    "and train again."
                )
            bar.update()
            # Not at the deadline: nothing of a replay is kept, so it would never come to its end.
            if reason := _why_stop(signals, replace(run.control, deadline=None), 0.0):
                raise Stopped(reason, run.key, number + 1)
    return step.weights()


def _finite(loss: float, key: str, epoch: int) -> float:
    if not math.isfinite(loss):
        raise Diverged(
            f"run {key[:8]}: the loss of epoch {epoch} is {loss}; lower the learning rate or the "
            "L2 weight."
        )
    return loss


def _why_stop(signals: list[str], control: Control, now: float) -> str | None:
    """The reason to stop after this epoch, if there is one."""
    if signals:
        return signals[0]
    if control.owner is not None and os.getppid() != control.owner:
        return "terminated"
    if control.deadline is not None and now >= control.deadline:
        return "time budget"
    return None


@contextlib.contextmanager
def _stop_signals(when: str = " at the end of this epoch") -> Iterator[list[str]]:
    """Collect SIGINT and SIGTERM while a training runs, so that it ends at an epoch's end.

    when: what the user is told of that end. A second signal ends it at once. Handlers can be set in
    the main thread alone; elsewhere the list stays empty.
    """
    caught: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    names = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
    before = {number: signal.getsignal(number) for number in names}

    def catch(number: int, frame: Any) -> None:
        if caught:
            signal.signal(number, before[number] or signal.SIG_DFL)
            raise KeyboardInterrupt
        caught.append(names[number])
        print(f"\nlthnb: stopping{when} …", file=sys.stderr)

    for number in names:
        signal.signal(number, catch)
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _bar(spec, data, mask, at, control, total: int | None = None):
    """A progress bar over epochs, shown once two seconds have passed."""
    from tqdm import tqdm

    return tqdm(
        total=total or spec.training.epochs,
        initial=at.epoch,
        desc=f"{data.name} {spec.model.backbone} F={spec.model.embedding_size} "
        f"density {mask.density:.3f}",
        unit="epoch",
        delay=2,
        leave=False,
        disable=not control.progress,
        dynamic_ncols=True,
    )
