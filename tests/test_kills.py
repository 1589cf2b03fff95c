"""Killed again and again, a search ends with the same bits as one left alone, and so does `add`.

SIGKILL leaves no chance to tidy up: whatever is half done then must be found and done again.
"""

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toys import PATIENCE, half, processes, quiet, toy_data, toy_spec, trained

from lthnb.config import Dynamic, Schedule
from lthnb.lottery import rounds_of
from lthnb.store import adding
from lthnb.store.results import results
from lthnb.store.runs import Store


def search(store: Store) -> None:
    """A checkpoint of 2 MB after each epoch, so that writing takes a good part of the time."""
    data, spec = toy_data(600, 800, 0.02), toy_spec(size=64, batch_size=2048, step="cpu")
    list(rounds_of(Schedule("imp", 0.3, 3), spec, data, quiet(store, checkpoint_seconds=0)))


def moving(store: Store) -> None:
    """A training whose mask moves after every epoch."""
    data, spec = toy_data(600, 800, 0.02), toy_spec(size=64, batch_size=2048, step="cpu")
    spec = replace(spec, policy=Dynamic(0.5, every=1, until=4))
    trained(store, data, spec, half(data, spec), checkpoint_seconds=0)


def add(store: Store) -> None:
    adding.add(store, store.own_keys())


def work(do, folder: str, begun, out, die_at: int) -> None:
    """Do it in a process of its own; put the number of files written into `out` at the end.

    die_at: kill this process where that file, from 1, would get its name.
    """
    original, count, at = os.replace, 0, Path(folder)

    def replace(source, target):
        nonlocal count
        inside = Path(target).is_relative_to(at)
        count += inside
        if inside and count == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        original(source, target)

    os.replace = replace
    trained(Store(at.with_name("away"), None), toy_data(), toy_spec(step="cpu"))  # all is loaded
    begun.set()
    do(Store(at / "store", at / "results"))
    out.send(count)


def run(do, folder: Path, die_at: int = 0, after: float | None = None) -> int:
    """Files written by a process; 0 where it was killed before it was through. after: seconds after
    which it is killed."""
    context = processes()
    begun, (receive, out) = context.Event(), context.Pipe(duplex=False)
    process = context.Process(target=work, args=(do, str(folder), begun, out, die_at))
    process.start()
    out.close()
    assert begun.wait(PATIENCE)
    process.join(PATIENCE if after is None else after)
    if after is not None:
        process.kill()
        process.join(PATIENCE)
    assert process.exitcode in (0, -signal.SIGKILL)
    return receive.recv() if process.exitcode == 0 else 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A folder with a search that nobody disturbed, and how many files it wrote."""
    folder = tmp_path_factory.mktemp("undisturbed") / "here"
    return folder, run(search, folder)


def compare(folder: Path, other: Path) -> None:
    """The same runs and searches to the bit, every file whole, and nothing left behind."""
    stores = [Store(one / "store", None) for one in (folder, other)]
    for store in stores:
        assert list(store.verify()) == []
        assert list(store.folder.rglob("*checkpoint*")) == []
    a, b = stores
    assert a.own_keys() == b.own_keys()
    assert a.searches() == b.searches()
    for key in a.own_keys():
        assert a.find(key).results_digest == b.find(key).results_digest
        assert np.array_equal(*(store.find_weights(key, "best") for store in stores))


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_search_is_resumed_to_the_same_bits(tmp_path, undisturbed, kills):
    """Every other kill comes in the middle of a write, the others at any moment."""
    whole, written = undisturbed
    folder, rng, done = tmp_path / "here", np.random.default_rng(kills), 0
    while done < kills:
        at_random = {"after": rng.uniform(0, 0.5)} if done % 2 else {}
        if not run(search, folder, 0 if at_random else rng.integers(1, written // 2), **at_random):
            done += 1
        else:  # it was through: what it did is right, and the next one starts over
            compare(folder, whole)
            shutil.rmtree(folder / "store" / "runs")
    run(search, folder)
    compare(folder, whole)


def test_killed_while_its_mask_moves_it_is_resumed_to_the_same_bits(tmp_path):
    written = run(moving, tmp_path / "whole")
    for die_at in (written // 3, written // 2):
        assert run(moving, tmp_path / "here", die_at) == 0
    run(moving, tmp_path / "here")
    compare(tmp_path / "here", tmp_path / "whole")


def test_addition_killed_at_any_write_changes_no_result_and_can_be_done_again(
    tmp_path, undisturbed
):
    folder = tmp_path / "here"
    shutil.copytree(undisturbed[0], tmp_path / "whole")
    written = run(add, tmp_path / "whole")
    expected = results(folder=tmp_path / "whole" / "results", nested=True)
    assert len(expected) == 5
    shutil.copytree(undisturbed[0], folder)
    for die_at in range(1, written + 1):
        assert run(add, folder, die_at) == 0
        assert results(folder=folder / "results").empty
    assert run(add, folder) == written
    pd.testing.assert_frame_equal(results(folder=folder / "results", nested=True), expected)
    left = list(adding.verify(folder / "results"))
    assert left
    assert all("does not list it" in what for what in left)
