"""How a training is watched, stopped in order, and kept apart from others that do the same."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from lthnb.config import LthnbError
from lthnb.store.runs import Store

SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Stopped(LthnbError):
    """A training stopped in order, its checkpoint written; the same call goes on from there.

    reason: ``interrupted`` (Ctrl-C), ``terminated`` (SIGTERM) or ``time budget``. epoch: epochs
    done; None where it only waited for another process. key: empty where nothing was trained.
    """

    def __init__(self, reason: str, key: str, epoch: int | None) -> None:
        super().__init__(reason, key, epoch)  # the same arguments, so that it pickles
        self.reason, self.key, self.epoch = reason, key, epoch

    def __str__(self) -> str:
        when = f"after epoch {self.epoch} of run {self.key[:8]}"
        if self.epoch is None:
            when = "between two trainings, or waiting for another process"
        return f"stopped ({self.reason}) {when}; run the same command again to go on."


@dataclass(frozen=True)
class Control:
    """How a training is watched and ended, and where it runs: no part of its key.

    store: where runs are kept. progress: a bar for trainings over two seconds. report: called after
    each epoch with a few words on where the training stands. deadline: ``time.monotonic()`` after
    which trainings stop at an epoch's end. checkpoint_seconds: between two checkpoints. device:
    ``auto``, ``cpu``, ``cuda`` or ``cuda:1``, see :func:`kernels.resolve`. keep: epochs (from 1, or
    ``"last"``) whose tables are stored beside the best one's. owner: the process that waits for the
    result; without it a training stops. cluster: a `cluster.Cluster` that trains, in place of this
    machine.
    """

    store: Store
    progress: bool = True
    report: Callable[[str], None] | None = None
    deadline: float | None = None
    checkpoint_seconds: float = 30.0
    device: str = "auto"
    keep: tuple[int | str, ...] = ()
    owner: int | None = None
    cluster: Any = None

    def bar(self, title: str, total: int, done: int = 0) -> tqdm:
        """A progress bar over epochs, shown once two seconds have passed."""
        words = {"total": total, "initial": done, "unit": "epoch", "delay": 2, "leave": False}
        return tqdm(desc=title, disable=not self.progress, **words)

    def why_stop(self) -> str | None:
        """The reason to stop now, if there is one."""
        if self.cluster is not None:
            return self.cluster.why()
        if self.owner is not None and os.getppid() != self.owner:
            return "terminated"
        late = self.deadline is not None and time.monotonic() >= self.deadline
        return "time budget" if late else None

    @contextlib.contextmanager
    def stopping(self) -> Iterator[Callable[[], str | None]]:
        """While a training runs: a function that gives the reason to stop at the epoch's end, be it
        SIGINT, SIGTERM or :meth:`why_stop`. A second signal ends the training at once."""
        caught: list[str] = []

        def catch(number: int, frame: Any) -> None:
            if caught:
                raise KeyboardInterrupt
            caught.append(SIGNALS[number])
            print("\nlthnb: stopping at the end of this epoch …", file=sys.stderr)

        main = threading.current_thread() is threading.main_thread()  # others set no handlers
        before = {number: signal.signal(number, catch) for number in SIGNALS if main}
        try:
            yield lambda: caught[0] if caught else self.why_stop()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler or signal.SIG_DFL)

    def locked(self, key: str) -> contextlib.AbstractContextManager[None]:
        """Hold a key of the store. Raises Stopped where there is a reason to stop while another
        process holds it."""

        def check() -> None:
            if reason := self.why_stop():
                raise Stopped(reason, key, None)

        lock = self.store.lock(key, check)
        return lock if self.cluster is None else self.cluster.alone(key, lock)


@contextlib.contextmanager
def stopped_in_order() -> Iterator[None]:
    """A Ctrl-C between two trainings, which stop in order themselves, is a :class:`Stopped`."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped("interrupted", "", None) from None
