"""Trainings on a Dask cluster, with processes of its own on loopback."""

import contextlib
import itertools
import socket
import subprocess
import sys
import threading
import time
from functools import partial

import pytest
from filelock import FileLock
from test_running import parameters
from toys import PATIENCE, quiet, toy_data, toy_spec

import lthnb
from lthnb import cluster
from lthnb.cluster import Cluster, ClusterError
from lthnb.config import ConfigError
from lthnb.control import Stopped
from lthnb.experiments import running
from lthnb.lottery import train_dense
from lthnb.store.runs import Store

pytestmark = pytest.mark.xdist_group("cluster")
DATA = toy_data(60, 40)
BRIEF = {"embedding_size": 8, "epochs": 30, "patience": 30, "learning_rate": 1e-2}
BRIEF |= {"rounds": 3, "rate": 0.5, "seeds": [0, 1, 2], "progress": False}
LONG = BRIEF | {"epochs": 100_000, "patience": 100_000, "evaluate_every": 1000}


class Desktops:
    """A scheduler and its workers, each a process."""

    def __init__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address, self.names = f"tcp://127.0.0.1:{self.port}", itertools.count()
        self.processes = {}

    def start(self, name, *words):
        command = [sys.executable, "-m", "dask", *words]
        how = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.processes[name] = subprocess.Popen(command, **how)

    def scheduler(self):
        where = ["--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"]
        self.start("scheduler", "scheduler", *where)

    def workers(self, count):
        for _ in range(count):
            name = f"desktop-{next(self.names)}"
            how = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--name", name]
            self.start(name, "worker", self.address, *how, "--death-timeout", str(PATIENCE))

    def kill(self, name):
        process = self.processes.pop(name)
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def desktops():
    found = Desktops()
    found.scheduler()
    found.workers(2)
    for _ in range(PATIENCE):
        with contextlib.suppress(ClusterError):
            Cluster(found.address)
            break
        time.sleep(1)
    yield found
    for name in list(found.processes):
        found.kill(name)


@pytest.fixture
def alone(tmp_path):
    """The table of the search on this machine."""
    return bits(lthnb.imp(DATA, **BRIEF, store=tmp_path / "alone"))


def bits(search):
    table = search.table.sort_values(["seed", "round"])
    return table[["seed", "round", "key", "results_digest"]].to_numpy().tolist()


def when(ready, act):
    """Act once something is so."""

    def wait():
        while not ready():
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_a_cluster_gives_the_same_bits_and_keeps_what_later_rounds_ask_for(
    desktops, alone, tmp_path
):
    how = BRIEF | {"scheduler": desktops.address, "store": tmp_path / "store"}
    assert bits(lthnb.imp(DATA, **how)) == alone
    late = {"rewind": "late", "rewind_epoch": 2, "prune_from": "last"}
    here = lthnb.imp(DATA, **BRIEF, **late, store=tmp_path / "alone")
    assert bits(lthnb.imp(DATA, **how, **late)) == bits(here)


def test_a_chapter_has_the_same_rows(desktops, tmp_path, monkeypatch):
    monkeypatch.setenv("LTHNB_STORE", str(tmp_path / "alone"))
    here = running.chapter_rows("finders", parameters())
    monkeypatch.setenv("LTHNB_STORE", str(tmp_path / "store"))
    there = running.chapter_rows("finders", parameters(workers=desktops.address))
    assert here["results_digest"].tolist() == there["results_digest"].tolist()


def test_workers_that_are_killed_cost_what_they_were_at(desktops, alone, tmp_path, monkeypatch):
    store = Store(tmp_path / "store", results=None)
    put = []
    monkeypatch.setattr(
        Store, "put", lambda s, row, _, f=Store.put: (put.append(row), f(s, row, _))
    )
    names = [name for name in desktops.processes if name != "scheduler"]
    for count, name in enumerate(names, start=1):
        when(
            lambda n=count: len(put) >= 3 * n,
            lambda n=name: (desktops.workers(1), desktops.kill(n)),
        )
    how = BRIEF | {"scheduler": desktops.address, "store": store.folder}
    assert bits(lthnb.imp(DATA, **how)) == alone
    keys = [row["key"] for row in put]
    assert len(keys) == len(set(keys)) == len(alone)


def test_a_scheduler_that_is_killed_and_started_again_goes_on(
    desktops, alone, tmp_path, monkeypatch
):
    monkeypatch.setattr(cluster, "AGAIN", 1.0)
    said, put = [], []
    monkeypatch.setattr(cluster, "say", said.append)
    monkeypatch.setattr(
        Store, "put", lambda s, row, _, f=Store.put: (put.append(row), f(s, row, _))
    )

    def again():
        for name in list(desktops.processes):
            desktops.kill(name)
        when(lambda: said, lambda: (desktops.scheduler(), desktops.workers(2)))

    when(lambda: len(put) >= 4, again)
    how = BRIEF | {"scheduler": desktops.address, "store": tmp_path / "store"}
    assert bits(lthnb.imp(DATA, **how)) == alone
    assert len(put) == len({row["key"] for row in put}) == len(alone)
    assert any("lost; trying again until it answers" in line for line in said)


def test_stopped_it_frees_the_workers(desktops, tmp_path):
    cluster = Cluster(desktops.address)
    control = quiet(Store(tmp_path / "store", results=None), deadline=time.monotonic() + 5)
    with pytest.raises(Stopped, match="time budget"):
        lthnb.imp(DATA, **LONG, control=control, scheduler=desktops.address)
    how = BRIEF | {"scheduler": desktops.address, "store": tmp_path / "other"}
    assert len(lthnb.imp(DATA, **how).table) == 12  # on the same two threads
    assert not any(cluster.client.processing().values())


def test_a_search_that_fails_lets_the_others_end_their_trainings_and_says_why(
    desktops, tmp_path, capsys
):
    store = Store(tmp_path / "store", results=None)

    def fails(control):
        with control.cluster.aside():
            while not control.cluster.client.processing():
                time.sleep(0.02)
            time.sleep(0.5)
        raise ConfigError("no such thing")

    spec = toy_spec(epochs=2000, patience=2000, evaluate_every=500)

    def trains(control):
        for seed in (0, 1):
            train_dense(spec, DATA, seed, control)

    with pytest.raises(ConfigError, match="no such thing"):
        Cluster(desktops.address).side_by_side([fails, trains, fails], quiet(store))
    assert len(store.own_keys()) == 1  # the one that was under way
    assert "and in another search: no such thing" in capsys.readouterr().err


def test_another_process_that_has_a_key_holds_up_no_other_search(desktops, tmp_path):
    store = Store(tmp_path / "store", results=None)
    done = []

    def waits(control):
        with control.locked("k" * 32):
            raise AssertionError("it has it")

    def trains(control):
        done.append(train_dense(toy_spec(), DATA, 0, control))

    control = quiet(store, deadline=time.monotonic() + 8)
    with FileLock(store.folder / "locks" / f"{'k' * 32}.lock"), pytest.raises(Stopped):
        Cluster(desktops.address).side_by_side([waits, trains], control)
    assert len(done) == 1


def test_data_that_went_from_the_workers_are_sent_again(desktops, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "DATA_SETS", 1)
    store = Store(tmp_path / "store", results=None)

    def trains(seed, control):
        for turn in range(3):
            train_dense(toy_spec(), toy_data(60, 40, seed=seed), turn, control)

    work = [partial(trains, seed) for seed in (0, 1, 2)]
    Cluster(desktops.address).side_by_side(work, quiet(store))
    assert len(store.own_keys()) == 9


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setattr(cluster, "AGAIN", 0.5)
    with pytest.raises(
        ClusterError, match=r"tcp://127.0.0.1:9: does not answer .* `dask scheduler`"
    ):
        Cluster("tcp://127.0.0.1:9")
    monkeypatch.setattr(cluster, "distributed", None)
    with pytest.raises(ConfigError, match=r"pip install 'lthnb\[cluster\]'"):
        Cluster("tcp://127.0.0.1:9")


def test_a_worker_of_another_version_is_refused():
    with pytest.raises(ClusterError, match=r"expected the driver's.*install the same there"):
        cluster._train(*[None, None, None, (), "cpu", "0" * 64])
