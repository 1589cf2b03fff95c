"""What a training needs of others: masks, and weights to start from. They are kept in the store, or
made again, which may take as long as it took first.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from lthnb.config import DENSE, Compressed, Init, Rotated, Snapshot, Spec
from lthnb.control import Control, Stopped
from lthnb.data import DataError, Interactions
from lthnb.kernels import new_step
from lthnb.models import LinearStart
from lthnb.pruning import CRITERIA, Mask, pruned
from lthnb.sampling import initial_maps, initial_table
from lthnb.store.files import StoreError
from lthnb.store.records import Record
from lthnb.store.runs import Store, StoredMask

REPLAY_TOLERANCE = 1e-3  # relative, on each epoch's mean loss: other machines round otherwise


def initialise(init: Init, data: Interactions, size: int, store: Store) -> np.ndarray | LinearStart:
    """What a training starts from, before its mask: the table (rows, F), or for a compression the
    teacher's table and the maps. Raises StoreError for what the store does not have."""
    match init:
        case Rotated(of=start, rotation=digest):
            return initialise(start, data, size, store) @ store.get_array(digest)
        case Snapshot(run=key, epoch=epoch):
            return store.get_weights(key, epoch)
        case Compressed(teacher=key, seed=seed):
            teacher = store.get_weights(key, "best")
            return LinearStart(teacher, initial_maps(seed, teacher.shape[1], size))
    return initial_table(init.seed, data.rows, size)


def new_start(spec: Spec, data: Interactions, init: Init, mask: Mask, control: Control) -> Any:
    """A step at its beginning."""
    table = initialise(init, data, spec.model.embedding_size, control.store)
    return new_step(spec, data, table, mask.kept, control.device)


def ensure_mask(mask: Mask | StoredMask, data: Interactions, control: Control) -> Mask:
    """A mask with its bits; pruned again where they are not kept, from weights that are trained
    again where they are not kept either. Raises StoreError where a run that it comes from is not
    recorded, or the mask comes out otherwise here."""
    if isinstance(mask, Mask):
        return mask
    about, store, found = mask.about, control.store, mask.find()
    if found is not None:
        return found
    source = store.find(about.get("run", ""))
    if source is None or about["criterion"] not in CRITERIA:
        whence = f"criterion {about['criterion']!r}, from run {about.get('run', '')[:8] or 'none'}"
        raise StoreError(f"mask {mask.digest[:8]}: not kept, and cannot be pruned again: {whence}.")
    earlier = None if about["mask"] == DENSE else source.pruning
    before = ensure_mask(replace(mask, about=earlier), data, control)
    found = pruned(about, before, ensure_weights(source, data, control, about["weights"]))
    if found.digest != mask.digest:
        # Going on would train one mask under the key of another.
        raise StoreError(
            f"mask {mask.digest[:8]}: pruned again from run {source.key[:8]} it is "
            f"{found.digest[:8]}: weights come out in other bits on this processor. Replay a run "
            "whose mask is kept, or search in an empty store."
        )
    store.put_mask(found, about)
    return found


def ensure_weights(
    record: Record, data: Interactions, control: Control, epoch: int | str = "best"
) -> np.ndarray:
    """The table of a run after an epoch: ``best``, ``last``, or a number from 1; (rows, F).

    One that is not kept is trained again up to there, after the runs that it comes from, and kept.
    Raises ConfigError for an epoch that was not run, DataError where the data are others,
    StoreError where losses are not those of the record, and Stopped on a signal.
    """
    epoch, store = record.epoch(epoch), control.store
    table = store.find_weights(record.key, epoch)
    if table is not None:
        return table
    check_data(record, data)
    ensure_start(record.init, data, control)
    mask = ensure_mask(StoredMask(record.pruning, record.shape, store), data, control)
    with control.locked(record.key):
        table = store.find_weights(record.key, epoch)  # another process may have been faster
        if table is None:
            step = new_start(record.spec, data, record.init, mask, control)
            _replay(record, step, record.best_epoch if epoch == "best" else epoch, control)
            table = step.weights()
            store.put_weights(record.key, epoch, table)
    return table


def _replay(record: Record, step: Any, count: int, control: Control) -> None:
    """The first epochs of a run again, compared with its losses; nothing is evaluated."""
    # Not at the deadline: nothing of a replay is kept, so it would never come to its end.
    bar = control.bar(f"again: {record.key[:8]}", count)
    with bar, replace(control, deadline=None).stopping() as why_stop:
        for number, recorded in enumerate(record.nested["losses"][:count].tolist()):
            loss = step.run_epoch(number)
            if not math.isclose(loss, recorded, rel_tol=REPLAY_TOLERANCE):
                raise StoreError(
                    f"run {record.key[:8]}: replayed, epoch {number + 1} has loss {loss:.6g}, "
                    f"recorded is {recorded:.6g}. Remove the record and train again."
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
