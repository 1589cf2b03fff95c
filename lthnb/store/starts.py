"""Where a training starts: from a seed, or from weights and arrays that the store keeps."""

from __future__ import annotations

import numpy as np

from lthnb.config import Compressed, Init, Rotated, Snapshot
from lthnb.data import Interactions
from lthnb.models import LinearStart
from lthnb.sampling import initial_maps, initial_table
from lthnb.store.files import StoreError
from lthnb.store.runs import Store


def initialise(init: Init, data: Interactions, size: int, store: Store) -> np.ndarray | LinearStart:
    """What a training starts from, before its mask: the table (rows, F), or for a compression the
    teacher's table and the maps.

    Raises StoreError where it needs a run's weights or an array that the store does not have.
    """
    match init:
        case Rotated(of=start, rotation=digest):
            rotation = store.get_array(digest)
            if rotation.shape != (size, size):
                raise StoreError(
                    f"rotation {digest[:8]}: shape {rotation.shape}, expected {(size, size)}."
                )
            return initialise(start, data, size, store) @ rotation
        case Snapshot(run=key, epoch=epoch):
            return kept_weights(store, key, epoch)
        case Compressed(teacher=key, seed=seed):
            teacher = kept_weights(store, key, "best")
            if len(teacher) != data.rows:
                raise StoreError(
                    f"teacher {key[:8]}: its table has {len(teacher)} rows, expected {data.rows}, "
                    f"the users and items of {data.name}; name a run on these data."
                )
            return LinearStart(teacher, initial_maps(seed, teacher.shape[1], size))
    return initial_table(init.seed, data.rows, size)


def kept_weights(store: Store, key: str, epoch: int | str) -> np.ndarray:
    """A run's table after an epoch, (rows, F). Raises StoreError where it is not kept."""
    table = store.find_weights(key, epoch)
    if table is None:
        raise StoreError(
            f"run {key[:8]}: its weights of epoch {epoch!r} are not kept here; train that run, or "
            f"ask it for `.ensure_weights({epoch!r})`, which trains it again up to there."
        )
    return table
