"""A ladder that is killed again and again ends with the same bits as one left alone.

SIGKILL leaves no chance to tidy up: whatever is half done then must be found and done again. The
moments are spread over the whole of a run by a seeded generator; every other one is put off until a
checkpoint, weights, a mask or a record is being written.
"""

import json
import os
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from toys import PATIENCE, processes, quiet, toy_data, toy_spec

from lthnb.config import Ladder
from lthnb.lottery import climb
from lthnb.store.runs import Store


def ladder(folder: str, begun, out, die_at: str = "") -> None:
    """Climb a ladder, in a process of its own; put key and mask of every rung into `out`.

    die_at: kill this process where a file of that name would get its name.
    """
    original, at = os.replace, Path(folder)

    def replace(source, target):
        if Path(target).name == die_at and Path(target).is_relative_to(at):
            os.kill(os.getpid(), signal.SIGKILL)
        original(source, target)

    os.replace = replace
    # A checkpoint of 2 MB after each epoch, so that writing takes a good part of the time.
    data, spec = toy_data(600, 800, 0.02), toy_spec(size=64, batch_size=2048, step="cpu")
    control = quiet(Store(folder, results=None), checkpoint_seconds=0)
    with tempfile.TemporaryDirectory() as away:  # loads all that is compiled
        for _ in climb(Ladder("imp", 0.3, 1), spec, data, quiet(Store(away, results=None))):
            pass
    begun.set()
    out.send(
        [(r.run.key, r.mask.digest) for r in climb(Ladder("imp", 0.3, 3), spec, data, control)]
    )


class Climber:
    """A process that climbs the ladder in a folder's store."""

    def __init__(self, folder: Path, die_at: str = "") -> None:
        context = processes()
        begun, (self.out, out) = context.Event(), context.Pipe(duplex=False)
        arguments = (str(folder / "store"), begun, out, die_at)
        self.process = context.Process(target=ladder, args=arguments)
        self.process.start()
        out.close()
        assert begun.wait(PATIENCE)

    def rungs(self) -> list[tuple[str, str]]:
        """Key and mask of every rung, once the process is through."""
        self.process.join(PATIENCE)
        assert self.process.exitcode == 0
        return self.out.recv()


def outcome(folder: Path) -> dict[str, tuple]:
    """Results digest, mask and best weights of every run of a store."""
    store = Store(folder / "store", results=None)
    out = {}
    for key in store.run_keys():
        record = store.find(key)
        table = store.find_weights(key, "best")
        out[key] = (record.results_digest, record.mask["digest"], table.tobytes())
    return out


def half_written(folder: Path) -> list[Path]:
    return [*folder.glob("store/*/.tmp-*"), *folder.glob("store/*/*/.tmp-*")]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What an undisturbed ladder gives, and how long it climbs once it has begun to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    climber, began = Climber(folder), time.monotonic()
    rungs = climber.rungs()
    assert len(rungs) == 4
    return rungs, outcome(folder), time.monotonic() - began


def kill_again_and_again(folder: Path, undisturbed, kills: int, seed: int) -> dict[str, int]:
    """Kill `kills` times, starting over where a ladder is through; compare each that is through."""
    rungs, expected, seconds = undisturbed
    rng = np.random.default_rng(seed)
    seen = {"kills": 0, "ladders": 0, "while a file was written": 0, "with a checkpoint": 0}
    here = folder / "0"
    while True:
        climber = Climber(here)
        if seen["kills"] == kills:
            assert climber.rungs() == rungs
            break
        before = set(half_written(here))
        # What is done stays done, so that halves of a run take the moments through all of it.
        climber.process.join(rng.uniform(0, seconds / 2))
        # Every other kill comes as soon as a file is being written, whichever that is.
        while seen["kills"] % 2 and climber.process.is_alive():
            if set(half_written(here)) - before:
                break
        if climber.process.exitcode is None:
            climber.process.kill()
            climber.process.join()
        if climber.process.exitcode == -signal.SIGKILL:
            seen["kills"] += 1
            seen["while a file was written"] += bool(set(half_written(here)) - before)
            seen["with a checkpoint"] += bool(list(here.glob("store/runs/*/checkpoint")))
            continue
        assert climber.rungs() == rungs
        compare(here, expected)
        seen["ladders"] += 1
        here = folder / str(seen["ladders"])
    compare(here, expected)
    seen["ladders"] += 1
    return seen


def compare(folder: Path, expected: dict[str, tuple]) -> None:
    """The same runs to the bit, every file whole, and nothing half written left behind."""
    assert outcome(folder) == expected
    store = Store(folder / "store", results=None)
    assert list(store.verify()) == []
    assert half_written(folder) == []
    assert list(folder.glob("store/runs/*/checkpoint")) == []


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_and_resumed_to_the_same_bits(tmp_path, undisturbed, kills, record_property):
    seen = kill_again_and_again(tmp_path, undisturbed, kills, seed=kills)
    for name, number in seen.items():
        record_property(name, number)
    print(json.dumps(seen))
    assert seen["kills"] == kills
    assert seen["with a checkpoint"] > 0, "every kill came before the first checkpoint"
    assert seen["while a file was written"] > 0


@pytest.mark.parametrize("name", ["checkpoint", "weights-best", "record"])
def test_killed_in_the_middle_of_a_write(tmp_path, undisturbed, name):
    """Written in full, but not renamed yet: the file that was there before still counts, and the
    one that has no name goes when its run goes on."""
    rungs, expected, _ = undisturbed
    climber = Climber(tmp_path, die_at=name)
    climber.process.join(PATIENCE)
    assert climber.process.exitcode == -signal.SIGKILL
    [left] = half_written(tmp_path)
    assert left.name.startswith(f".tmp-{name}")
    assert Climber(tmp_path).rungs() == rungs
    compare(tmp_path, expected)
