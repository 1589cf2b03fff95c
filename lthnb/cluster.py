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
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from concurrent.futures import CancelledError as Cancelled
from dataclasses import replace
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from tqdm import tqdm

from lthnb import __version__
from lthnb.config import NUMERICS, ConfigError, LthnbError, Spec, digest_text, init_from
from lthnb.control import Control, Stopped
from lthnb.data import Interactions
from lthnb.kept import initialise
from lthnb.models import LinearStart
from lthnb.pruning import Mask
from lthnb.store.files import say
from lthnb.store.records import Record
from lthnb.store.runs import Store
from lthnb.training import compute

try:
    import distributed
    from distributed import WorkerPlugin
    from distributed.client import FutureCancelledError
    from distributed.comm import CommClosedError
except ImportError:
    distributed, WorkerPlugin = None, object

POLL, AGAIN = 0.2, 5.0  # seconds between two looks at a training; until a lost scheduler is tried
AT_ONCE = 1000  # searches whose trainings wait for workers at the same time


class _Data(WorkerPlugin):
    """Data on each worker, one that comes later too; sent to it once."""

    def __init__(self, data: Interactions) -> None:
        self.name, self.data = f"lthnb {data.digest}", data


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
        self.address, self.turn, self.connecting = address, threading.Lock(), threading.Lock()
        self.keys: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self.why: Callable[[], str | None] = lambda: None
        self.client, self.sent = self._connect(), set()

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
        """Call each with the control, side by side; what one raises is raised once the others have
        come to the end of the training they are at. Raises Stopped on a signal."""
        ended, apart = threading.Event(), replace(control, cluster=self, progress=False)

        def one(search: Callable[[Control], Any]) -> None:
            with self.turn:
                if not self.why():
                    search(apart)

        bar = tqdm(total=len(work), unit="search", disable=not control.progress)
        with control.stopping() as why_stop, bar:
            self.why = lambda: "interrupted" if ended.is_set() else why_stop()
            with ThreadPoolExecutor(min(AT_ONCE, max(1, len(work)))) as pool:
                left = {pool.submit(one, search) for search in work}
                try:
                    while left:
                        done, left = wait(left, POLL * 5, FIRST_EXCEPTION)
                        for search in done:
                            search.result()
                        bar.update(len(done))
                        bar.set_postfix_str(self.where())
                except BaseException:
                    ended.set()
                    raise
            if reason := why_stop():
                raise Stopped(reason, "", None)

    def where(self) -> str:
        """What is trained where, in a few words."""
        with contextlib.suppress(Exception):  # between two schedulers there is nothing to say
            busy = self.client.processing().items()
            names = self.client.scheduler_info()["workers"]
            return "; ".join(f"{names[w]['name']}: {tasks[0]}" for w, tasks in busy if tasks)
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
    def alone(self, key: str) -> Iterator[None]:
        """One of the searches at a time has a run's key."""
        with self.aside():
            while not self.keys[key].acquire(timeout=POLL):
                if reason := self.why():
                    raise Stopped(reason, key, None)
        try:
            yield
        finally:
            self.keys[key].release()

    # One training

    def compute(
        self,
        text: str,
        spec: Spec,
        data: Interactions,
        start: np.ndarray | LinearStart,
        mask: Mask,
        about: dict[str, Any] | None,
        control: Control,
        seed: int,
    ) -> Record:
        """As :func:`training.compute`, on a worker. A worker or a scheduler that is lost costs the
        training it was at. Raises ClusterError where a training takes its workers down."""
        init = json.loads(text)["init"]
        given = None if init["init"] == "seeded" else start  # which the worker draws itself
        bits = np.packbits(mask.kept), mask.shape
        label = f"{data.name} {spec.model.backbone} {mask.density:.3f} seed {seed}"
        with self.aside():
            while True:
                client, future = self.client, None
                try:
                    self._send(client, data)
                    future = client.submit(
                        _train,
                        *(text, spec, data.digest, given, bits, about, seed),
                        *(control.keep, control.device, (__version__, NUMERICS)),
                        key=f"{label} {time.time_ns():x}",
                        pure=False,
                    )
                    while not future.done():
                        if reason := self.why():
                            raise Stopped(reason, digest_text(text), None)
                        time.sleep(POLL)
                    row, nested, weights = future.result()
                    break
                except distributed.KilledWorker as error:
                    raise ClusterError(
                        f"{label}: took down {error.allowed_failures + 1} workers, one after the "
                        "other; most likely it does not fit into their memory."
                    ) from None
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
            control.store.put_weights(row["key"], epoch, table)
        control.store.put(row, nested)
        return Record(row, lambda: nested)

    def _send(self, client: Any, data: Interactions) -> None:
        """Send the data to every worker, those that come later too, once."""
        with self.connecting:
            if client is self.client and data.digest not in self.sent:
                client.register_plugin(_Data(replace(data)))
                self.sent.add(data.digest)

    def _again(self, lost: Any) -> None:
        """Connect again where a client has lost its scheduler; one thread does it for all."""
        with self.connecting:
            if self.client is not lost or lost.status == "running":
                return time.sleep(POLL)
            say(f"scheduler {self.address}: lost; trying again until it answers.")
            lost.close(timeout=1)
            while not self.why():
                with contextlib.suppress(ClusterError):
                    self.client, self.sent = self._connect(), set()
                    return None
                time.sleep(AGAIN)


def _train(
    text: str,
    spec: Spec,
    digest: str,
    start: np.ndarray | LinearStart | None,
    bits: tuple[np.ndarray, tuple[int, int]],
    about: dict[str, Any] | None,
    seed: int,
    keep: tuple[int | str, ...],
    device: str,
    version: tuple[Any, ...],
) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[int | str, np.ndarray]]:
    """On a worker: a training in a store of its own → its row, nested part, and tables by epoch."""
    if version != (__version__, NUMERICS):
        found = f"worker: found lthnb {__version__} {NUMERICS}"
        raise ClusterError(f"{found}, expected the driver's, {version}; install the same there.")
    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
    data, (packed, shape) = distributed.get_worker().plugins[f"lthnb {digest}"].data, bits
    mask = Mask(np.unpackbits(packed, count=shape[0] * shape[1]).reshape(shape).astype(bool))
    with tempfile.TemporaryDirectory() as folder:
        control = Control(Store(folder, results=None), False, _checked(), keep=keep, device=device)
        if start is None:
            init = init_from(json.loads(text)["init"])
            start = initialise(init, data, spec.model.embedding_size, control)
        record = compute(text, spec, data, start, mask, about, control, seed)
        weights = {}
        for path in Path(folder).glob("runs/*/weights-*.safetensors"):
            epoch = path.stem.removeprefix("weights-")
            epoch = int(epoch) if epoch.isdigit() else epoch
            weights[epoch] = control.store.get_weights(record.key, epoch)
    return record.row, record.nested, weights


def _checked() -> Callable[[str], None]:
    """On a worker: called after each epoch, it ends a training that nobody waits for any more."""
    worker, key = distributed.get_worker(), distributed.worker.thread_state.key

    def report(_: str) -> None:
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":
            raise Cancelled(key)

    return report
