"""A search that is killed again and again ends with the same bits as one left alone.

SIGKILL leaves no chance to tidy up: whatever is half done then must be found and done again. The
moments are spread over the whole of a search by a seeded generator.
"""

import os
import shutil
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
from toys import PATIENCE, count_epochs, processes, quiet, toy_data, toy_spec, trained

from lthnb.config import Ladder
from lthnb.control import Stopped
from lthnb.lottery import climb
from lthnb.store.files import write_file
from lthnb.store.runs import Store

KEY = "0123456789abcdef0123456789abcdef"


def search(folder: str, begun, out, die_at: int = 0) -> None:
    """Search, in a process of its own; put the number of files written into `out` at the end.

    die_at: kill this process where that file, from 1, would get its name.
    """
    original, count, at = os.replace, 0, Path(folder)

    def replace(source, target):
        nonlocal count
        count += Path(target).is_relative_to(at)
        if count == die_at and Path(target).is_relative_to(at):
            os.kill(os.getpid(), signal.SIGKILL)
        original(source, target)

    os.replace = replace
    # A checkpoint of 2 MB after each epoch, so that writing takes a good part of the time.
    data, spec = toy_data(600, 800, 0.02), toy_spec(size=64, batch_size=2048, step="cpu")
    with tempfile.TemporaryDirectory() as away:  # loads all that is compiled
        for _ in climb(Ladder("imp", 0.3, 1), spec, data, quiet(Store(away, results=None))):
            pass
    begun.set()
    control = quiet(Store(folder, results=None), checkpoint_seconds=0)
    for _ in climb(Ladder("imp", 0.3, 3), spec, data, control):
        pass
    out.send(count)


class Searcher:
    """A process that searches in a folder's store."""

    def __init__(self, folder: Path, die_at: int = 0) -> None:
        context = processes()
        begun, (self.out, out) = context.Event(), context.Pipe(duplex=False)
        self.process = context.Process(target=search, args=(str(folder), begun, out, die_at))
        self.process.start()
        out.close()
        assert begun.wait(PATIENCE)

    def written(self) -> int:
        """How many files it wrote, once it is through."""
        self.process.join(PATIENCE)
        assert self.process.exitcode == 0
        return self.out.recv()

    def killed(self) -> bool:
        """Whether it was killed before it was through."""
        self.process.join(PATIENCE)
        return self.process.exitcode == -signal.SIGKILL


def outcome(folder: Path) -> dict[str, tuple]:
    """Results digest, mask and best weights of every run of a store, and its search's rows."""
    store = Store(folder, results=None)
    runs = {key: (store.find(key), store.find_weights(key, "best")) for key in store.own_keys()}
    out = {
        key: (record.results_digest, record.row["mask_digest"], table.tobytes())
        for key, (record, table) in runs.items()
    }
    return {
        **out,
        "searches": sorted((r["method"], r["round"], r["key"]) for r in store.searches()),
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What an undisturbed search comes to, and how many files it writes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    written = Searcher(folder).written()
    found = outcome(folder)
    assert len(found) == 4 + 1
    return found, written


def compare(folder: Path, expected: dict[str, tuple]) -> None:
    """The same runs to the bit, every file whole, and nothing half written left behind."""
    assert outcome(folder) == expected
    assert list(Store(folder, results=None).verify()) == []
    assert list(folder.rglob("*checkpoint*")) == []


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_and_resumed_to_the_same_bits(tmp_path, undisturbed, kills):
    """Every other kill comes in the middle of a write, the others at any moment."""
    expected, written = undisturbed
    rng, done = np.random.default_rng(kills), 0
    while done < kills:
        searcher = Searcher(tmp_path, die_at=int(rng.integers(1, written // 2)) if done % 2 else 0)
        if done % 2 == 0:
            searcher.process.join(rng.uniform(0, 0.5))
            searcher.process.kill()
        if searcher.killed():
            done += 1
        else:  # it was through: what it did is right, and the next one starts over
            compare(tmp_path, expected)
            shutil.rmtree(tmp_path / "runs")
    Searcher(tmp_path).written()
    compare(tmp_path, expected)


@pytest.mark.parametrize("backbone", ["mf", "lightgcn"])
@pytest.mark.parametrize("step", ["reference", "cpu"])
def test_stopped_after_each_epoch_a_training_goes_on_to_the_same_bits(
    tmp_path, monkeypatch, backbone, step
):
    data, spec = toy_data(), toy_spec(backbone, step=step)
    whole = trained(Store(tmp_path / "whole", results=None), data, spec)
    store, stops, ran = Store(tmp_path / "store", results=None), [], count_epochs(monkeypatch)
    while True:
        try:
            run = trained(store, data, spec, deadline=0.0)
            break
        except Stopped as stopped:
            stops.append(stopped.epoch)
    assert (stops, ran) == ([1, 2, 3, 4], [0, 1, 2, 3])
    assert run.record.results_digest == whole.record.results_digest
    assert np.array_equal(run.weights(), whole.weights())


@pytest.mark.parametrize("name", ["runs/{}/.tmp-row-x", "searches/{}/.tmp-0", "masks/.tmp-{}-x"])
def test_what_a_killed_writer_left_goes_with_the_next_holder_of_the_key(tmp_path, name):
    store, path = Store(tmp_path, results=None), tmp_path / name.format(KEY)
    write_file(path, b"half a row")
    assert [what.startswith(str(path)) for what in store.verify()] == [True]
    with store.lock("f" * 32):
        assert path.exists()
    with store.lock(KEY):
        assert not path.exists()
