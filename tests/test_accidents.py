"""What can happen to a store: full and read-only disks, no locks, a wrong clock, strangers, damage.

After each accident nothing wrong is believed, nothing that was good is lost, the message says what
to do, and the same command comes to the same bits. What needs a disk of its own is mounted, and
skipped where that is not allowed; the same is then tested with what the operating system would
answer. Kills are in test_kills.py.
"""

import contextlib
import datetime
import errno
import io
import itertools
import json
import lzma
import os
import platform
import shutil
import signal
import stat
import subprocess
import threading
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from toys import (
    PATIENCE,
    TINY,
    count_trainings,
    processes,
    quiet,
    toy_data,
    toy_spec,
    trained,
)

from lthnb import store as store_module
from lthnb import training
from lthnb.__main__ import main
from lthnb.config import Ladder, Rotated, Seeded
from lthnb.lottery import climb
from lthnb.old_store import canonical, pack_arrays, seal, unpack_arrays, unseal
from lthnb.store.files import DamagedFile, StoreError, write_file
from lthnb.store.runs import Store
from lthnb.training import Stopped

resource = pytest.importorskip("resource", reason="limits of a process are those of Unix")

LADDER = Ladder("imp", 0.5, 2, rewind="late", rewind_epoch=1)
STOPPED_SEED = 7  # order seed of a training that a checkpoint is there for


def tale(store: Store, **settings) -> dict[str, object]:
    """All that a user may ask of a store: a ladder, masks, weights, an array, a training from it
    that goes on from its checkpoint where there is one. Trains what is missing."""
    data, spec, control = toy_data(), toy_spec(), quiet(store, checkpoint_seconds=0, **settings)
    out = {}
    for rung in climb(LADDER, spec, data, control):
        out[rung.record.key] = (
            rung.record.results_digest,
            rung.mask.digest,
            rung.mask.kept.tobytes(),
            rung.run.weights().tobytes(),
            rung.run.weights(1).tobytes(),
        )
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0].astype("f4")
    init = Rotated(Seeded(0), store.put_array(rotation))
    out["array"] = store.get_array(init.rotation).tobytes()
    stopped = trained(store, data, toy_spec(order_seed=STOPPED_SEED), init=init)
    out[stopped.key] = (stopped.record.results_digest, stopped.weights().tobytes())
    return out


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, locks left out, and what it holds."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parent.name != "locks"
    }


def need(files: dict[str, bytes], name: str) -> list[str]:
    """The recorded files that are not whole without one: masks that are told by what is left of a
    mask, directly or not, and records that have a text in common."""
    found = []
    for other, content in files.items():
        if name.startswith("texts/") and other.endswith("/record"):
            text = lzma.decompress(unseal("record", content, other)).decode()
            found += [other] * (name.removeprefix("texts/") in text)
        if other.endswith(".bits"):
            within = str(unpack_arrays(unseal("mask", content, other)).get("within", ""))
            if within and f"masks/{within}.bits" == name:
                found += [other, *need(files, other)]
    return found


def half_written(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".tmp-*")]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A store in which the tale was told, and what it came to. Not to be changed."""
    store = Store(tmp_path_factory.mktemp("told") / "store", results=None)
    return store, tale(store)


@pytest.fixture
def copy(told, tmp_path):
    """A copy of that store, to be spoiled."""
    shutil.copytree(told[0].folder, tmp_path / "copy")
    return Store(tmp_path / "copy", results=None)


def mount(*words: str) -> None:
    """Mount, or skip the test and say so."""
    try:
        done = subprocess.run(["mount", *words], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("needs `mount`, which is not installed")
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 256 kB of its own."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder))
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave not one free byte on a disk."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
        while True:
            file.write(bytes(512))
    return filler


@contextlib.contextmanager
def largest_file(size: int):
    """The operating system refuses to this process any byte of a file behind its first `size`."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


FULL = r"bytes are needed, [\d,]+ are free in .*Free space there.*LTHNB_STORE.*last checkpoint"


class TestFullDisk:
    @pytest.mark.parametrize(
        ("file", "needed", "write"),
        [
            ("record", 500, lambda s, r: s.put(r)),
            ("weights-2", 800, lambda s, r: s.put_weights(r.key, 2, np.zeros(100))),
            ("checkpoint", 800, lambda s, r: s.put_checkpoint(r.key, {"a": np.zeros(100)}, {})),
            ("bits", 300, lambda s, r: s.put_mask(r.key, np.eye(9, dtype=bool), {"digest": "d"})),
            ("locks", 1, lambda s, r: s.put_array(np.arange(9.0))),
            ("out-01.tar", 9000, lambda s, r: s.export(s.run_keys(), s.folder / "out")),
            ("lock", 1, lambda s, r: s.lock(r.key).__enter__()),
        ],
    )
    def test_every_write_says_so_and_leaves_nothing(self, copy, file, needed, write):
        record = copy.find(copy.run_keys()[0])
        before = snapshot(copy.folder)
        with largest_file(0), pytest.raises(StoreError, match=FULL) as refused:
            write(copy, record)
        said = str(refused.value)
        path, bytes_needed = said.partition(": ")[0], said.partition("; ")[2].split()[0]
        assert file in path
        assert path.startswith(str(copy.folder))
        assert int(bytes_needed.replace(",", "")) >= needed
        assert "File too large" in said
        assert "ulimit -f" in said
        assert snapshot(copy.folder) == before
        assert half_written(copy.folder) == []
        with copy.lock(record.key, lambda: "is still held"):
            pass

    def test_the_log_of_what_was_read_too(self, copy, tmp_path, monkeypatch):
        monkeypatch.setenv("LTHNB_READ_LOG", str(tmp_path / "log"))
        with largest_file(0), pytest.raises(StoreError, match=f"log: File too large; .*{FULL}"):
            copy.find(copy.run_keys()[0])

    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
    def test_wherever_it_happens_the_same_command_goes_on(self, told, tmp_path, monkeypatch, code):
        """The first attempt finds the disk full at its first write, the second at its second, and
        so on, each going on from where the one before was stopped."""
        store = Store(tmp_path / "store", results=None)
        original, state = os.fsync, {"writes": 0, "fail at": 0}

        def fsync(handle):
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                return original(handle)  # a folder's; a write is counted once
            state["writes"] += 1
            if state["writes"] == state["fail at"]:
                raise OSError(code, os.strerror(code))
            return original(handle)

        monkeypatch.setattr(os, "fsync", fsync)
        for attempt in itertools.count(1):
            state.update({"writes": 0, "fail at": attempt})
            refused = out = None
            try:
                out = tale(store)
            except StoreError as error:
                refused = str(error)
            if refused is None:
                break
            assert os.strerror(code) in refused
            assert half_written(store.folder) == []
            assert list(store.verify()) == []
        assert attempt > 5
        assert out == told[1]

    def test_a_real_one(self, small_disk, told, monkeypatch):
        """Full at the third checkpoint; the second stays, and is gone on from."""
        store, data = Store(small_disk / "store", results=None), toy_data()
        whole = trained(told[0], data, toy_spec())
        original, saves = training._save, []

        def save(*arguments):
            saves.append(arguments)
            if len(saves) == 3:
                fill(small_disk)
            original(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(training, "_save", save)
            with pytest.raises(StoreError, match=FULL) as refused:
                trained(store, data, toy_spec(), checkpoint_seconds=0)
        checkpoint = store.folder / "runs" / whole.key / "checkpoint"
        assert str(refused.value).startswith(f"{checkpoint}: No space left on device; ")
        assert half_written(small_disk) == []
        assert store.find_checkpoint(whole.key)[1]["epoch"] == 2
        with pytest.raises(StoreError, match=FULL):
            trained(store, data, toy_spec())  # while it is full
        (small_disk / "filler").unlink()
        run = trained(store, data, toy_spec())
        assert run.record.results_digest == whole.record.results_digest
        assert np.array_equal(run.weights(), whole.weights())
        assert list(store.verify()) == []

    def test_from_the_command_line(self, tmp_path, monkeypatch, capsys):
        """One line that says what to do, code 1; and the same command again."""
        digests = []
        monkeypatch.setenv("LTHNB_RESULTS", str(tmp_path / "results"))
        for name in ("whole", "limited"):
            monkeypatch.setenv("LTHNB_STORE", str(tmp_path / name))
            if name == "limited":
                with largest_file(1024):
                    assert main(["run", *TINY]) == 1
                said = capsys.readouterr().err
                assert said.startswith(f"lthnb: {tmp_path / name}")
                assert said.count("\n") == 1
                assert "File too large" in said
                assert half_written(tmp_path) == []
            assert main(["run", *TINY]) == 0
            capsys.readouterr()
            [key] = Store().run_keys()
            digests.append(Store().find(key).results_digest)
        assert digests[0] == digests[1]


@pytest.fixture(params=["mounted", "EROFS", "EACCES", "EPERM"])
def freeze(request, monkeypatch):
    """A function that makes a folder read-only: by a mount, or by what the system answers."""
    mounted = []

    def by_mount(folder: Path) -> None:
        mount("--bind", str(folder), str(folder))
        mounted.append(folder)
        mount("-o", "remount,bind,ro", str(folder))

    def by_answer(folder: Path) -> None:
        code = getattr(errno, request.param)

        def refusing(original, writes):
            def call(path, *rest, **more):
                inside = not isinstance(path, int) and Path(path).is_relative_to(folder)
                if inside and writes(*rest, **more):
                    if original is os.mkdir and os.path.lexists(path):
                        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
                    raise OSError(code, os.strerror(code), str(path))
                return original(path, *rest, **more)

            return call

        for name in ("mkdir", "unlink", "replace", "rename", "rmdir"):
            always = refusing(getattr(os, name), lambda *a, **k: True)
            monkeypatch.setattr(os, name, always)
        to_write = os.O_WRONLY | os.O_RDWR | os.O_CREAT
        monkeypatch.setattr(os, "open", refusing(os.open, lambda flags, *a, **k: flags & to_write))
        with_mode = refusing(open, lambda mode="r", *a, **k: set(mode) & set("wax+"))
        monkeypatch.setattr(store_module, "open", with_mode, raising=False)

    yield by_mount if request.param == "mounted" else by_answer
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


class TestReadOnly:
    WRITE = r"cannot be written: .*point LTHNB_STORE to one that can be written.*runs export"

    def test_what_is_there_is_read_without_a_lock(self, copy, told, freeze, monkeypatch):
        """Records, weights, masks and arrays; also beside a checkpoint that a kill left behind."""
        for key in copy.run_keys():
            copy.put_checkpoint(key, {}, {"epoch": 4})
        shutil.rmtree(copy.folder / "locks")
        before = snapshot(copy.folder)
        freeze(copy.folder)
        keys = count_trainings(monkeypatch)
        assert tale(copy) == told[1]
        assert keys == []
        assert snapshot(copy.folder) == before
        assert not (copy.folder / "locks").exists()
        assert list(copy.verify()) == []

    def test_what_must_write_says_so_at_once(self, copy, freeze, monkeypatch):
        key = copy.run_keys()[0]
        freeze(copy.folder)
        keys = count_trainings(monkeypatch)
        for ask in (
            lambda: trained(copy, toy_data(), toy_spec(order_seed=3)),
            lambda: copy.put_array(np.arange(3)),
            lambda: copy.put_weights(key, 3, np.zeros(3)),
            lambda: copy.remove(key),
            lambda: copy.export([key], copy.folder / "out"),
        ):
            with pytest.raises(StoreError, match=self.WRITE) as refused:
                ask()
            assert str(refused.value).startswith(str(copy.folder))
        assert keys == []

    def test_damage_in_it_is_not_believed(self, copy, freeze, capsys):
        key = copy.run_keys()[0]
        path = copy.folder / "runs" / key / "record"
        path.write_bytes(path.read_bytes()[:-1])
        freeze(copy.folder)
        assert copy.find(key) is None
        assert "passed over, since it cannot be set aside" in capsys.readouterr().err
        with pytest.raises(StoreError, match=self.WRITE):
            tale(copy)

    def test_a_store_that_does_not_exist_yet(self, tmp_path, freeze):
        freeze(tmp_path)
        store = Store(tmp_path / "a" / "store", results=None)
        assert store.run_keys() == []
        with pytest.raises(StoreError, match=self.WRITE):
            trained(store, toy_data(), toy_spec())


def test_a_file_that_must_not_be_read_is_not_set_aside(copy, monkeypatch):
    """It may be whole: only its rights are wrong."""
    key = copy.run_keys()[0]
    path = copy.folder / "runs" / key / "record"
    refused = PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    def read_bytes(self):
        raise refused

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", read_bytes)
        with pytest.raises(StoreError, match=r"record: cannot be read: .*Make it readable"):
            copy.find(key)
    assert copy.find(key) is not None


def test_a_folder_that_must_not_be_listed_is_not_empty(copy, tmp_path, monkeypatch):
    def iterdir(self):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    keys = copy.run_keys()
    monkeypatch.setattr(Path, "iterdir", iterdir)
    for ask in (
        copy.run_keys,
        lambda: copy.export(keys, tmp_path / "out"),
        lambda: [*copy.verify()],
    ):
        with pytest.raises(StoreError, match=f"{copy.folder}.*cannot be read: Permission denied"):
            ask()


class TestClock:
    """Nothing that counts asks what time of the day it is."""

    @pytest.fixture(params=["back", "forth", "to and fro"])
    def wrong_clock(self, request, monkeypatch):
        steps = {"back": [-86400.0], "forth": [86400.0], "to and fro": [7e7, -7e7]}[request.param]
        jumps, now = itertools.cycle(steps), [time.time()]

        def jump() -> float:
            now[0] += next(jumps)
            return now[0]

        class Wrong(datetime.datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.datetime.fromtimestamp(jump(), tz)

        monkeypatch.setattr(time, "time", jump)
        monkeypatch.setattr(time, "time_ns", lambda: int(jump() * 1e9))
        monkeypatch.setattr(datetime, "datetime", Wrong)

    def test_that_jumps_changes_no_bit(self, told, tmp_path, wrong_clock):
        """Between trainings and within each, which is stopped and goes on again and again."""
        store = Store(tmp_path / "store", results=None)
        out, stops = None, 0
        while out is None:
            try:
                out = tale(store, deadline=0.0)
            except Stopped:
                stops += 1
        assert stops > 4
        assert out == told[1]
        for key in store.run_keys():
            assert 0 < store.find(key).seconds < PATIENCE

    def test_that_jumps_does_not_stop_the_bar(self, tmp_path, wrong_clock, capsys):
        store = Store(tmp_path, results=None)
        control = training.Control(store, progress=True, checkpoint_seconds=0)
        for _ in climb(LADDER, toy_spec(), toy_data(), control):
            pass
        assert len(store.run_keys()) == 1 + LADDER.rungs

    @pytest.mark.parametrize("year", [1971, 2106])
    def test_the_age_of_a_file_means_nothing(self, copy, told, year, monkeypatch):
        moment = datetime.datetime(year, 1, 1).timestamp()
        for path in copy.folder.rglob("*"):
            os.utime(path, (moment, moment))
        keys = count_trainings(monkeypatch)
        assert tale(copy) == told[1]
        assert keys == []

    def test_checkpoints_come_by_the_time_that_passes(self, tmp_path, monkeypatch, wrong_clock):
        saved = []
        monkeypatch.setattr(training, "_save", lambda *arguments: saved.append(arguments))
        trained(Store(tmp_path, results=None), toy_data(), toy_spec(), checkpoint_seconds=3600)
        assert saved == []


def hold(folder: str, key: str, pipe) -> None:
    with Store(folder, results=None).lock(key):
        pipe.send("held")
        pipe.poll(PATIENCE)


class TestWaiting:
    @pytest.fixture
    def other(self, tmp_path):
        """Another process, which holds the key of a training that is not recorded here."""
        key = trained(Store(tmp_path / "whole", results=None), toy_data(), toy_spec()).key
        context = processes()
        mine, its = context.Pipe()
        process = context.Process(target=hold, args=(str(tmp_path / "store"), key, its))
        process.start()
        its.close()
        assert mine.poll(PATIENCE)
        process.key, process.store = key, Store(tmp_path / "store", results=None)
        process.release = mine.close
        yield process
        mine.close()
        process.join(PATIENCE)

    def test_is_said_and_comes_to_its_end(self, other, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(store_module, "SAY_AFTER", 0.2)
        threading.Timer(0.6, other.release).start()
        run = trained(other.store, toy_data(), toy_spec())
        assert run.key == other.key
        said = capsys.readouterr().err.splitlines()
        assert said == [
            f"lthnb: run {other.key[:8]}: another process ({other.pid} on {platform.node()}) is "
            "training it; waiting for its end (Ctrl-C stops waiting)."
        ]
        whole = Store(tmp_path / "whole", results=None).find(run.key)
        assert run.record.results_digest == whole.results_digest

    def test_a_short_one_is_not_worth_a_word(self, other, capsys):
        threading.Timer(0.3, other.release).start()
        trained(other.store, toy_data(), toy_spec())
        assert capsys.readouterr().err == ""
        assert store_module.SAY_AFTER == 2

    def test_ends_with_the_process_that_is_waited_for(self, other):
        threading.Timer(0.3, other.kill).start()
        run = trained(other.store, toy_data(), toy_spec())
        assert run.key == other.key

    def test_ends_at_the_deadline(self, other):
        began = time.monotonic()
        with pytest.raises(Stopped) as stopped:
            trained(other.store, toy_data(), toy_spec(), deadline=began + 0.3)
        assert time.monotonic() - began >= 0.3
        assert stopped.value.reason == "time budget"
        assert stopped.value.epoch is None
        assert str(stopped.value) == (
            f"stopped (time budget) while another process trains run {other.key[:8]}; run the same "
            "command again to go on."
        )
        other.release()
        trained(other.store, toy_data(), toy_spec())

    def test_ends_without_its_owner(self, other):
        with pytest.raises(Stopped, match="terminated"):
            trained(other.store, toy_data(), toy_spec(), owner=-1)

    @pytest.mark.parametrize(
        ("number", "reason"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")]
    )
    def test_ends_at_a_signal(self, other, capsys, number, reason):
        before = signal.getsignal(number)
        threading.Timer(0.3, os.kill, (os.getpid(), number)).start()
        with pytest.raises(Stopped, match=reason):
            trained(other.store, toy_data(), toy_spec())
        assert signal.getsignal(number) == before
        assert capsys.readouterr().err == "\nlthnb: stopping …\n"

    def test_for_weights_too(self, other, tmp_path):
        """They are replayed under the lock; the record is here already."""
        record = Store(tmp_path / "whole", results=None).find(other.key)
        other.store.put(record)
        run = trained(other.store, toy_data(), toy_spec(), deadline=time.monotonic() + 0.2)
        with pytest.raises(Stopped, match="while another process trains"):
            run.weights()
        other.release()
        assert trained(other.store, toy_data(), toy_spec()).weights().shape == (70, 4)

    def test_exit_code(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv("LTHNB_RESULTS", str(tmp_path / "results"))
        monkeypatch.setenv("LTHNB_STORE", str(tmp_path / "whole"))
        assert main(["run", *TINY]) == 0
        [key] = Store(tmp_path / "whole", results=None).run_keys()
        monkeypatch.setenv("LTHNB_STORE", str(tmp_path / "store"))
        capsys.readouterr()
        with Store().lock(key):
            assert main(["run", *TINY, "--time-budget", "0.1"]) == 75
        assert "while another process trains run" in capsys.readouterr().err


class TestLocks:
    NO_LOCKS = r"locks do not work.*\({}\).*local disk; `runs export` and `runs import`"

    @pytest.mark.parametrize(
        ("code", "call"),
        [
            *((code, 1) for code in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)),
            (errno.ENOLCK, 3),
        ],
    )
    def test_that_a_folder_lacks_are_refused(self, copy, told, monkeypatch, code, call):
        """Found when locks are tried out (call 1), or only when one is wanted (3)."""
        import fcntl

        original, calls = fcntl.flock, itertools.count(1)

        def flock(*arguments):
            if next(calls) >= call:
                raise OSError(code, os.strerror(code))
            return original(*arguments)

        monkeypatch.setattr(fcntl, "flock", flock)
        keys = count_trainings(monkeypatch)
        says = self.NO_LOCKS.format(os.strerror(code))
        with pytest.raises(StoreError, match=says) as refused:
            trained(copy, toy_data(), toy_spec(order_seed=3))
        assert str(refused.value).startswith(str(copy.folder / "locks"))
        assert keys == []
        assert tale(copy) == told[1]  # what is there needs none

    def test_that_are_given_to_everybody_are_refused(self, copy, monkeypatch):
        import fcntl

        monkeypatch.setattr(fcntl, "flock", lambda *arguments: None)
        keys = count_trainings(monkeypatch)
        with pytest.raises(StoreError, match=self.NO_LOCKS.format(".*given out twice")):
            trained(copy, toy_data(), toy_spec(order_seed=3))
        assert keys == []

    def test_are_tried_out_once_by_a_store(self, copy, monkeypatch):
        tried, original = [], store_module._prove_locks
        monkeypatch.setattr(
            store_module, "_prove_locks", lambda folder: (tried.append(folder), original(folder))
        )
        for key in copy.run_keys():
            with copy.lock(key):
                pass
        assert tried == [copy.folder / "locks"]

    def test_that_another_process_tries_out_at_the_same_time(self, copy):
        import fcntl

        folder = copy.folder / "locks"
        with open(folder / "probe", "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            store_module._prove_locks(folder)


class TestLaterVersions:
    def test_of_each_kind_are_refused_and_kept(self, copy, told, monkeypatch):
        """Neither damaged, nor set aside, nor trained over."""
        interrupt(copy)
        for kind, path in files_of(copy).items():
            good = path.read_bytes()
            monkeypatch.setattr(store_module, "FORMAT", 2)
            newer = seal(kind.partition("-")[0], good.partition(b"\n")[2])
            monkeypatch.setattr(store_module, "FORMAT", 1)
            path.write_bytes(newer)
            with monkeypatch.context() as patch:
                keys = count_trainings(patch)
                says = f"{path}: written in format 2, this version reads 1; update lthnb"
                with pytest.raises(StoreError, match=says) as refused:
                    tale(copy)
                assert keys == ([] if kind != "checkpoint" else [interrupted_key(copy)])
            assert not isinstance(refused.value, DamagedFile)
            assert path.read_bytes() == newer
            assert [str(refused.value)] == [what for _, what in copy.verify()]
            path.write_bytes(good)
        assert tale(copy) == told[1]


class TestStrangers:
    NAMES = ("README.txt", ".DS_Store", "Thumbs.db", "record.bak", "a folder", "a loop")

    @pytest.mark.parametrize("folder", ["", "runs", "runs/KEY", "masks", "arrays"])
    def test_are_named_and_left_alone(self, copy, told, tmp_path, folder, monkeypatch):
        key = copy.run_keys()[0]
        here = copy.folder / folder.replace("KEY", key)
        for name in self.NAMES[:-2]:
            (here / name).write_text("not ours")
        (here / "a folder").mkdir()
        (here / "a loop").symlink_to("a loop")
        found = dict(copy.verify())
        assert {path.name for path in found} == set(self.NAMES)
        for path, what in found.items():
            assert what == f"{path}: no file of a store has this name. Move it away."
        keys = count_trainings(monkeypatch)
        assert tale(copy) == told[1]
        assert keys == []
        other = Store(tmp_path / "other", results=None)
        other.import_(copy.export(copy.run_keys(), tmp_path / "out", weights=True))
        assert other.run_keys() == copy.run_keys()
        assert list(other.verify()) == []
        for name in self.NAMES:
            assert os.path.lexists(here / name)

    @pytest.mark.parametrize("what", ["a folder", "a loop", "a link to nothing"])
    def test_in_the_place_of_a_record(self, copy, told, what, capsys):
        key = copy.run_keys()[0]
        path = copy.folder / "runs" / key / "record"
        path.unlink()
        if what == "a folder":
            path.mkdir()
            (path / "mine").write_text("x")
        else:
            path.symlink_to(path if what == "a loop" else path.with_name("nothing"))
        assert f"{path}: a folder, or a link that leads to no file" in dict(copy.verify())[path]
        assert key not in copy.run_keys()
        assert tale(copy) == told[1]
        assert "set aside as record.damaged" in capsys.readouterr().err
        if what == "a folder":
            assert (path.with_name("record.damaged") / "mine").exists()

    def test_in_the_place_of_a_folder(self, tmp_path):
        for name in ("runs", "locks"):
            store = Store(tmp_path / name, results=None)
            store.folder.mkdir()
            (store.folder / name).write_text("mine")
            assert store.run_keys() == []
            with pytest.raises(StoreError, match=f"{store.folder / name} is not what the store"):
                trained(store, toy_data(), toy_spec())
            assert (store.folder / name).read_text() == "mine"

    def test_a_record_under_another_key_is_not_believed(self, copy, told, capsys):
        one, other = (copy.folder / "runs" / key / "record" for key in copy.run_keys()[:2])
        good = other.read_bytes()
        other.write_bytes(one.read_bytes())
        says = f"{other}: is the record of {one.parent.name}."
        assert dict(copy.verify())[other].startswith(says)
        assert copy.find(other.parent.name) is None
        assert f"{says} It is set aside as record.damaged" in capsys.readouterr().err
        assert tale(copy) == told[1]
        assert unseal("record", good, "x") != unseal("record", one.read_bytes(), "x")

    def test_a_folder_copied_by_hand_is_no_run(self, copy, told):
        key = copy.run_keys()[0]
        for name in ("f" * 32, f"{key} (copy)"):
            shutil.copytree(copy.folder / "runs" / key, copy.folder / "runs" / name)
        assert copy.find("f" * 32) is None
        assert any("(copy)" in str(path) for path, _ in copy.verify())
        assert tale(copy) == told[1]

    @pytest.mark.parametrize("ending", ["", ".bits"])
    def test_a_mask_under_another_key_is_not_believed(self, copy, told, ending, capsys):
        one, other = sorted(p for p in (copy.folder / "masks").iterdir() if p.suffix == ending)
        one.write_bytes(other.read_bytes())
        says = "other bits than the pruning beside it" if ending else "is the pruning of "
        assert says in dict(copy.verify())[one]
        assert tale(copy) == told[1]
        assert says in capsys.readouterr().err
        assert one.with_name(f"{one.name}.damaged").exists()

    def test_an_array_under_another_digest_is_not_believed(self, copy):
        name = copy.put_array(np.arange(4))
        path = copy.folder / "arrays" / name
        path.write_bytes(seal("array", pack_arrays({"values": np.arange(5)})))
        with pytest.raises(StoreError, match="put it there first"):
            copy.get_array(name)
        assert copy.put_array(np.arange(4)) == name
        assert np.array_equal(copy.get_array(name), np.arange(4))


def interrupted_key(store: Store) -> str:
    """The key of the training for which :func:`interrupt` leaves a checkpoint."""
    return next(
        key
        for path in (store.folder / "runs").iterdir()
        for key in [path.name]
        if not (path / "record").exists()
    )


def interrupt(store: Store) -> None:
    """Put the tale's last training back to where it was after two epochs."""
    data, spec = toy_data(), toy_spec(order_seed=STOPPED_SEED)
    [name] = [path.name for path in (store.folder / "arrays").iterdir()]
    init = Rotated(Seeded(0), name)
    key = trained(store, data, spec, init=init).key
    store.remove(key)
    for _ in range(2):
        with pytest.raises(Stopped):
            trained(store, data, spec, init=init, deadline=0.0)


def files_of(store: Store) -> dict[str, Path]:
    """A file of each kind, by kind; a numbered table beside the best one."""
    folder, [dense] = store.folder, [k for k in store.run_keys() if store.find(k).density == 1][:1]
    runs, masks = folder / "runs", sorted((folder / "masks").iterdir())
    [array] = (folder / "arrays").iterdir()
    return {
        "record": runs / dense / "record",
        "weights-best": runs / dense / "weights-best",
        "weights-1": runs / dense / "weights-1",
        "pruning": masks[0],
        "mask": masks[1],
        "array": array,
        "checkpoint": runs / interrupted_key(store) / "checkpoint",
    }


def readers(store: Store, path: Path):
    """A function that reads a file as the rest of the package does."""
    match path.parent.name, path.name.partition("-"):
        case "masks", (name, _, _):
            key = name.removesuffix(".bits")
            bits = name.endswith(".bits")
            return lambda: (store.find_mask_bits if bits else store.find_pruning)(key)
        case "arrays", _:
            return lambda: store._first("arrays", path.name)
        case key, ("record", _, _):
            return lambda: store.find(key)
        case key, ("checkpoint", _, _):
            return lambda: store.find_checkpoint(key)
        case key, (_, _, epoch):
            return lambda: store.find_weights(key, epoch)


def damages(store: Store, each: int = 200, seed: int = 0):
    """(file, what to do to its bytes) for `each` flipped bytes and as many truncations, at random
    places, over all kinds in turn."""
    rng = np.random.default_rng(seed)
    files = list(files_of(store).values())
    for number in range(2 * each):
        path = files[number // 2 % len(files)]
        place = int(rng.integers(path.stat().st_size))
        flip = int(rng.integers(1, 256))
        if number % 2:
            yield path, lambda content, place=place: content[:place]
        else:
            yield (
                path,
                lambda content, place=place, flip=flip: (
                    content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :]
                ),
            )


class TestDamage:
    def test_is_always_seen(self, copy, capsys):
        """200 flipped bytes and 200 truncations, over every kind of file: none is read as good."""
        interrupt(copy)
        capsys.readouterr()
        count = 0
        for path, spoil in damages(copy):
            good, read = path.read_bytes(), readers(copy, path)
            assert read() is not None
            bad = spoil(good)
            path.write_bytes(bad)
            assert read() is None
            said = capsys.readouterr().err
            assert said.startswith(f"lthnb: {path}: ")
            assert f"set aside as {path.name}.damaged" in said
            assert not path.exists()
            aside = path.with_name(f"{path.name}.damaged")
            assert aside.read_bytes() == bad
            aside.unlink()
            path.write_bytes(good)
            count += 1
        assert count == 400
        assert list(copy.verify()) == []

    @pytest.mark.parametrize("each", [10, pytest.param(200, marks=pytest.mark.slow)])
    def test_is_computed_anew_to_the_same_bits(self, copy, told, each, capsys, record_property):
        counts = {"flipped or cut": 0, "set aside": 0, "same bits": 0}
        interrupt(copy)
        kept = snapshot(copy.folder)
        for path, spoil in damages(copy, each, seed=each):
            path.write_bytes(spoil(path.read_bytes()))
            counts["flipped or cut"] += 1
            out = tale(copy)
            aside = list(copy.folder.rglob("*.damaged"))
            assert [p.name for p in aside] == [f"{path.name}.damaged"]
            assert str(path) in capsys.readouterr().err
            counts["set aside"] += 1
            assert out == told[1]
            counts["same bits"] += 1
            aside[0].unlink()
            assert list(copy.verify()) == []
            now = snapshot(copy.folder)
            # All but records, which say when they were made, are the same files again.
            same = [n for n in kept.keys() & now.keys() if not n.endswith("/record")]
            assert [n for n in same if now[n] != kept[n]] == []
            for name in kept.keys() | now.keys():  # the checkpoint among them
                if name in kept:
                    (copy.folder / name).write_bytes(kept[name])
                else:
                    (copy.folder / name).unlink()
        for name, number in counts.items():
            record_property(name, number)
        print(json.dumps(counts))
        assert set(counts.values()) == {2 * each}

    def test_in_results_is_passed_over_and_left_alone(self, told, tmp_path, capsys):
        results = tmp_path / "results"
        evidence = Store(told[0].folder, results)
        for key in evidence.run_keys():
            evidence.record_result(key)
        kept = snapshot(results)
        rng = np.random.default_rng(0)
        for number, (name, good) in enumerate(kept.items()):
            path, place = results / name, int(rng.integers(len(good)))
            bad = good[:place] if number % 2 else good[:place] + b"\0\0" + good[place + 2 :]
            path.write_bytes(bad)
            store = Store(tmp_path / f"store {number}", results)
            capsys.readouterr()
            assert tale(store) == told[1]
            store.recorded()
            said = capsys.readouterr().err
            needed = (
                f" are in {path}, which is not good itself." in said
            )  # nobody reads a text alone
            assert needed if name.startswith("texts/") else f"lthnb: {path}: " in said
            assert "passed over" in said
            wrong = dict(store.verify())
            assert wrong.pop(path).endswith("Take it anew from where the project came from.")
            # What is not whole without a damaged one cannot be read either; nothing else is named.
            assert set(wrong) == {results / other for other in need(kept, name)}
            assert all("which is not good itself. " in what for what in wrong.values())
            assert path.read_bytes() == bad
            assert sorted(snapshot(results)) == sorted(kept)
            path.write_bytes(good)

    def test_again_and_again_keeps_what_was_set_aside(self, copy, capsys):
        key = copy.run_keys()[0]
        path = copy.folder / "runs" / key / "record"
        good = path.read_bytes()
        for content in (b"one", b"two", b"three"):
            path.write_bytes(content)
            assert copy.find(key) is None
        path.write_bytes(good)
        said = capsys.readouterr().err
        for name, content in (
            ("record.damaged", b"one"),
            ("record.2.damaged", b"two"),
            ("record.3.damaged", b"three"),
        ):
            assert f"set aside as {name}," in said
            assert path.with_name(name).read_bytes() == content
        found = dict(copy.verify())
        assert len(found) == 3
        assert all("delete it once you have no use for it" in what for what in found.values())

    @staticmethod
    def forged(record) -> dict[str, list[tuple[bytes, str]]]:
        """Kind → payloads that are not of it, and what is said of each."""
        fields = asdict(record)
        short = {name: value for name, value in fields.items() if name != "results"}
        hollow = {**fields, "results": {"test": {}}}
        buffer = io.BytesIO()
        np.savez(buffer, table=np.array([{}], object))
        no_pickle = buffer.getvalue()
        other = pack_arrays({"other": np.arange(3)})
        arrays = {"_state": np.frombuffer(b"[1]", np.uint8)}
        return {
            "record": [
                (b"", "JSONDecodeError"),
                (b"[]", "TypeError"),
                (lzma.compress(b"{}")[:-1], "Compressed data ended before"),
                (lzma.compress(b"{}")[:6] + b"?", "LZMAError"),
                (canonical(short).encode(), "missing 1 required positional argument: 'results'"),
                (canonical({**fields, "more": 1}).encode(), "unexpected keyword argument 'more'"),
                (canonical(hollow).encode(), "results lacks best_epoch, epochs, valid"),
                (canonical({**fields, "mask": None}).encode(), "TypeError"),
            ],
            "weights-best": [
                (b"", "EOFError|ValueError"),
                (other, "'table"),
                (no_pickle, "pickle"),
            ],
            "weights-1": [(other[:200], "BadZipFile")],
            "pruning": [
                (b"{}", "'digest'"),
                (b"[1]", "TypeError"),
                (b"\xff", "UnicodeDecode"),
            ],
            "mask": [(other, "'shape"), (pack_arrays({"shape": np.arange(3)}), "ValueError")],
            "array": [(other, "'values"), (b"PK", "ValueError|BadZipFile")],
            "checkpoint": [(other, "'_state'"), (pack_arrays(arrays), "TypeError")],
        }

    def test_a_right_checksum_is_not_enough(self, copy, told, capsys):
        """A file whose content is not of its kind is named like a damaged one."""
        interrupt(copy)
        files = files_of(copy)
        for kind, payloads in self.forged(copy.find(files["record"].parent.name)).items():
            path = files[kind]
            good = path.read_bytes()
            for payload, says in payloads:
                path.write_bytes(seal(kind.partition("-")[0], payload))
                [(named, what)] = copy.verify()
                assert named == path
                assert readers(copy, path)() is None
                said = capsys.readouterr().err
                assert f"{path}: its checksum is right, but it is no whole" in said
                assert said.split("It is set aside")[0].strip("lthnb: \n") in what
                assert any(word in said for word in says.split("|")), said
                path.with_name(f"{path.name}.damaged").unlink()
                path.write_bytes(good)
        assert tale(copy) == told[1]

    @pytest.mark.parametrize("change", ["field less", "field more", "shape", "array less"])
    def test_a_checkpoint_that_does_not_fit_starts_over(self, copy, told, change, capsys):
        interrupt(copy)
        key = interrupted_key(copy)
        arrays, state = copy.find_checkpoint(key)
        if change == "field less":
            del state["losses"]
        elif change == "field more":
            state["mood"] = 1
        elif change == "shape":
            arrays["table"] = arrays["table"][:-1]
        else:
            del arrays["first"]
        copy.put_checkpoint(key, arrays, state)
        assert tale(copy) == told[1]
        said = capsys.readouterr().err
        assert "checkpoint: not what this version writes for this run. It is set aside" in said


def test_an_import_waits_for_who_is_at_work(copy, tmp_path):
    """Else it would write beside a training, and its half-written file could be swept away."""
    pieces = copy.export(copy.run_keys(), tmp_path / "out")
    other = Store(tmp_path / "other", results=None)
    key, done = copy.run_keys()[0], []
    with other.lock(key):
        reader = threading.Thread(target=lambda: done.append(other.import_(pieces)))
        reader.start()
        time.sleep(0.3)
        assert other.find(key) is None
        write_file(other.folder / "runs" / key / "record", b"")  # what the holder writes
        (other.folder / "runs" / key / "record").unlink()
    reader.join(PATIENCE)
    assert done
    assert other.run_keys() == copy.run_keys()
