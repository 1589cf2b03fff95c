"""Trainings on a Dask cluster: a training is a task, a search a chain of them, and searches run
side by side. Workers keep nothing; the driver alone reads and writes the store.

A search is the same code as on one machine, in a thread of its own. One thread at a time has its
turn, and gives it up while its training is elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
import threading
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from concurrent.futures import CancelledError as Cancelled
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from tqdm import tqdm

from lthnb.config import ConfigError, LthnbError, canonical, digest_text, init_from
from lthnb.control import Control, Stopped
from lthnb.data import Interactions
from lthnb.kept import initialise
from lthnb.pruning import Mask
from lthnb.store.files import say, sha256
from lthnb.store.records import Record
from lthnb.store.runs import Store
from lthnb.training import Task, compute

try:
    import distributed
    from distributed import WorkerPlugin
    from distributed.client import FutureCancelledError
    from distributed.comm import CommClosedError
except ImportError:
    distributed, WorkerPlugin = None, object

POLL, AGAIN = 0.2, 5.0  # seconds between two looks at a training; until a lost scheduler is tried
AT_ONCE = 100  # searches under way at the same time
DATA_SETS = 8  # that workers hold: searches over training pairs have many
ONE = threading.Lock()  # on a worker: kernels use all threads that there are, one training a time


class _Data(WorkerPlugin):
    """Data on each worker, one that comes later too; sent to it once."""

    def __init__(self, name: str, data: Interactions) -> None:
        self.name, self.data = name, data


class _NoData(Exception):
    """A worker has not got its data: the scheduler is another one, or the worker has just come."""


class ClusterError(LthnbError, RuntimeError):
    """Something is wrong with the cluster: says what, and what to do."""


class Cluster:
    """The workers of a Dask scheduler, as `Control.cluster`.

    address: of the scheduler, such as ``tcp://10.0.0.1:8786``. Raises ConfigError where Dask is not
    installed, ClusterError where no scheduler answers.
    """

    def __init__(self, address: str) -> None:
        if distributed is None:
            raise ConfigError(
                f"scheduler {address}: found no Dask here; `pip install 'lthnb[cluster]'` adds it."
            )
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what is lost we say ourselves
        self.address, self.name = address, uuid.uuid4().hex
        self.turn, self.connecting = threading.Lock(), threading.Lock()
        self.keys: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self.failed = threading.Event()
        self.why: Callable[[], str | None] = lambda: None
        self.client, self.sent = self._connect(), deque[str]()

    def _connect(self) -> Any:
        try:
            return distributed.Client(self.address, timeout=AGAIN, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ClusterError(
                f"scheduler {self.address}: does not answer ({error}). Start one with "
                "`dask scheduler`, and give the address that it prints."
            ) from None

    # Searches side by side

    def side_by_side(self, work: Sequence[Callable[[Control], Any]], control: Control) -> None:
        """Call each with the control, side by side. What one raises is raised once the others have
        come to the end of the training they are at. Raises Stopped on a signal."""
        apart, errors = replace(control, cluster=self, progress=False), []

        def one(search: Callable[[Control], Any]) -> None:
            with self.turn:
                self._check("")
                search(apart)

        bar = tqdm(total=len(work), unit="search", disable=not control.progress)
        pool = ThreadPoolExecutor(min(AT_ONCE, max(1, len(work))))
        with control.stopping() as self.why, bar, contextlib.closing(self), pool:
            left = {pool.submit(one, search) for search in work}
            try:
                while left:
                    done, left = wait(left, POLL * 5, FIRST_COMPLETED)
                    errors += [error for search in done if (error := search.exception())]
                    if errors:
                        self.failed.set()
                    bar.update(len(done))
                    bar.set_postfix_str(self.where())
            except KeyboardInterrupt:  # a second Ctrl-C
                self.why = lambda: "interrupted"
                raise
        errors.sort(key=lambda error: isinstance(error, Stopped))  # why, before what it stopped
        for error in errors[1:]:
            if not isinstance(error, Stopped):
                say(f"and in another search: {error}")
        if errors:
            raise errors[0]

    def _check(self, key: str) -> None:
        """Nothing more is begun once there is a reason to stop, or a search has failed."""
        if reason := self.why() or ("interrupted" if self.failed.is_set() else None):
            raise Stopped(reason, key, None)

    def close(self) -> None:
        """Take the data off the workers."""
        with contextlib.suppress(Exception):  # those that are lost hold nothing
            for name in self.sent:
                self.client.unregister_worker_plugin(name)
            self.client.close()

    def where(self) -> str:
        """What is trained where, in a few words."""
        with contextlib.suppress(Exception):  # between two schedulers there is nothing to say
            busy = {w: tasks[0] for w, tasks in self.client.processing().items() if tasks}
            names = self.client.scheduler_info()["workers"]
            found = [f"{names.get(w, {}).get('name', w)}: {task}" for w, task in busy.items()]
            return "; ".join(one.rpartition(" ")[0] for one in found)
        return f"waiting for {self.address}"

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """While a search waits, another has its turn."""
        self.turn.release()
        try:
            yield
        finally:
            self.turn.acquire()

    @contextlib.contextmanager
    def alone(self, key: str, lock: contextlib.AbstractContextManager) -> Iterator[None]:
        """One of the searches at a time has a run's key, and of all processes the one that has its
        lock in the store; others have their turn while it waits."""
        with contextlib.ExitStack() as held:
            with self.aside():
                while not self.keys[key].acquire(timeout=POLL):
                    if reason := self.why():
                        raise Stopped(reason, key, None)
                held.callback(self.keys[key].release)
                held.enter_context(lock)
            yield

    # One training

    def compute(self, task: Task, control: Control) -> Record:
        """As :func:`training.compute`, on a worker. A worker or a scheduler that is lost costs the
        training it was at. Raises ClusterError where a training takes its workers down."""
        key, data, mask = task.key, task.data, task.mask
        seeded = json.loads(task.text)["init"]["init"] == "seeded"  # the worker draws it itself
        bits = np.packbits(mask.kept), mask.shape
        sent = replace(task, data=None, mask=None, start=None if seeded else task.start)
        label = f"{data.name} {task.spec.model.backbone} {mask.density:.3f} seed {task.seed}"
        with self.aside():
            while True:
                self._check(key)
                client, future = self.client, None
                try:
                    future = client.submit(
                        _train,
                        *(sent, self._send(client, data), bits),
                        *(control.keep, control.device, source()),
                        key=f"{label} {uuid.uuid4().hex}",
                        pure=False,
                    )
                    while not future.done():
                        if reason := self.why():
                            raise Stopped(reason, key, None)
                        time.sleep(POLL)
                    row, nested, weights = future.result()
                    break
                except distributed.KilledWorker as error:
                    raise ClusterError(
                        f"{label}: took down {error.allowed_failures + 1} workers, one after the "
                        "other; most likely it does not fit into their memory."
                    ) from None
                except _NoData:
                    self._forget(client, data)
                except Exception as error:
                    lost = isinstance(error, (Cancelled, FutureCancelledError, CommClosedError))
                    if isinstance(error, LthnbError) or not (lost or client.status != "running"):
                        raise
                    self._again(client)
                finally:
                    if future is not None:
                        with contextlib.suppress(Exception):
                            future.cancel()
        for epoch, table in weights.items():
            control.store.put_weights(key, epoch, table)
        control.store.put(row, nested)
        return Record(row, lambda: nested)

    def _send(self, client: Any, data: Interactions) -> str:
        """Send the data to every worker, those that come later too, once; returns their name
        there. The oldest of more than :data:`DATA_SETS` go, and come again where they are asked
        for."""
        name = self._named(data)
        with self.connecting:
            if client is not self.client or name in self.sent:
                return name
            try:
                client.register_plugin(_Data(name, replace(data)))
                self.sent.append(name)
                if len(self.sent) > DATA_SETS:
                    client.unregister_worker_plugin(self.sent.popleft())
            except (ImportError, AttributeError, TypeError) as error:
                raise ClusterError(
                    f"scheduler {self.address}: its workers cannot read our data ({error}); "
                    "install the same lthnb there."
                ) from None
            except OSError as error:  # a worker that died at this moment
                raise CommClosedError(str(error)) from None
        return name

    def _named(self, data: Interactions) -> str:
        return f"lthnb {self.name} {digest_text(canonical(data.summary()))}"

    def _forget(self, client: Any, data: Interactions) -> None:
        """Data that a worker has not got are sent again."""
        with self.connecting, contextlib.suppress(ValueError):
            if client is self.client:
                self.sent.remove(self._named(data))
        time.sleep(POLL)

    def _again(self, lost: Any) -> None:
        """Connect again where a client has lost its scheduler; one thread does it for all."""
        with self.connecting:
            if self.client is not lost or lost.status == "running":
                return time.sleep(POLL)
            say(f"scheduler {self.address}: lost; trying again until it answers.")
            with contextlib.suppress(Exception):
                lost.close(timeout=1)
            while not self.why():
                with contextlib.suppress(ClusterError):
                    self.client, self.sent = self._connect(), deque[str]()
                    return None
                time.sleep(AGAIN)


def _train(
    task: Task,
    name: str,
    bits: tuple[np.ndarray, tuple[int, int]],
    keep: tuple[int | str, ...],
    device: str,
    driver: str,
) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[int | str, np.ndarray]]:
    """On a worker: a training in a store of its own → its row, nested part, and tables by epoch."""
    if driver != source():
        raise ClusterError(
            f"worker: found lthnb of the source {source()[:8]}, expected the driver's, "
            f"{driver[:8]}; install the same there."
        )
    if (held := distributed.get_worker().plugins.get(name)) is None:
        raise _NoData(name)
    data, (packed, shape) = held.data, bits
    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
    mask = Mask(np.unpackbits(packed, count=shape[0] * shape[1]).reshape(shape).astype(bool))
    with ONE, tempfile.TemporaryDirectory() as folder:
        control = Control(Store(folder, results=None), False, _checked(), keep=keep, device=device)
        start = task.start
        if start is None:
            init = init_from(json.loads(task.text)["init"])
            start = initialise(init, data, shape[1], control)
        record = compute(replace(task, data=data, mask=mask, start=start), control)
        weights = {}
        for path in Path(folder).glob("runs/*/weights-*.safetensors"):
            epoch = path.stem.removeprefix("weights-")
            epoch = int(epoch) if epoch.isdigit() else epoch
            weights[epoch] = control.store.get_weights(record.key, epoch)
    return record.row, record.nested, weights


@cache
def source() -> str:
    """A digest of the package's code: other code may come to other numbers."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return sha256(b"".join(path.read_bytes() for path in files))


def _checked() -> Callable[[str], None]:
    """On a worker: called after each epoch, it ends a training that nobody waits for any more."""
    worker, key = distributed.get_worker(), distributed.worker.thread_state.key

    def report(_: str) -> None:
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":
            raise Cancelled(key)

    return report
