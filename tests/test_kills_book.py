"""Notebooks and the book, stopped or killed at any moment: the same command again ends with the
same bits, and leaves no process and no file behind.

SIGKILL leaves no chance to tidy up. It meets the command alone, its process group, or all of its
descendants at once; the moments are spread over the whole of a run by a seeded generator.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from test_build import write_notebook
from toys import PATIENCE, ROOT, environment

from lthnb.store.runs import Store

pytestmark = [
    pytest.mark.xdist_group("build"),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks at /proc"),
]

PROGRAM = (
    "import pathlib\nfrom lthnb.book import build\n"
    "build.run_notebooks(['one'], 'smoke', root=pathlib.Path.cwd())"
)
PARAMETERS = "checkpoint_seconds: float = {}  # between two\npause: float = {}  # seconds"
IMPORTS = """
import time
from lthnb import training
from lthnb.config import Schedule
from lthnb.lottery import rounds_of
from toys import Store, quiet, toy_data, toy_spec
"""
PAUSES = """
evaluate = training.evaluate
training.evaluate = lambda *words: time.sleep(pause) or evaluate(*words)  # once an epoch
"""
CLIMB = """
data = toy_data(600, 800, 0.02)
spec = toy_spec(size=64, batch_size=2048, step="cpu", epochs=30, patience=30)
control = quiet(Store(), checkpoint_seconds=checkpoint_seconds)
rounds = list(rounds_of(Schedule("imp", 0.3, 3), spec, data, control))
"""
SHOW = "[(run.key, run.record.mask_digest, run.record.results_digest) for _, run, _ in rounds]"


class Project:
    """A checkout, its store and its temporary folder, all below one folder."""

    def __init__(self, folder: Path, command: list[str]) -> None:
        self.folder, self.root, self.command = folder, folder / "checkout", command
        self.temporary, self.store = folder / "tmp", Store(folder / "store", results=None)
        self.executed = self.root / "_executed" / "smoke"
        for path in (self.root, self.temporary):
            path.mkdir(parents=True, exist_ok=True)

    def start(self) -> subprocess.Popen:
        """The command, in a session of its own."""
        places = [str(self.root), str(ROOT), str(ROOT / "tests")]
        more = {"TMPDIR": str(self.temporary), "PYTHONPATH": os.pathsep.join(places)}
        with open(self.folder / "log", "a") as log:
            return subprocess.Popen(
                [sys.executable, *self.command],
                cwd=self.root,
                env=environment(self.folder, **more),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def finish(self) -> None:
        """Run the command to its end."""
        assert self.start().wait(PATIENCE) == 0, (self.folder / "log").read_text()[-3000:]

    def processes(self) -> list[int]:
        """All living processes with this project's environment: also those without a parent."""
        mark, found = f"LTHNB_STORE={self.folder / 'store'}".encode(), []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # gone meanwhile, or not ours
                if mark in path.read_bytes().split(b"\0"):  # empty for a zombie
                    found.append(int(path.parent.name))
        return found

    def wait_until_alone(self) -> None:
        """Wait for all processes to end by themselves."""
        until = time.monotonic() + PATIENCE
        while alive := self.processes():
            assert time.monotonic() < until, alive
            time.sleep(0.05)

    def kill(self, process: subprocess.Popen, what: str) -> None:
        """SIGKILL to the command alone, to its process group, or to all that it has started."""
        if what == "group":
            os.killpg(process.pid, signal.SIGKILL)
        for pid in self.processes() if what == "all" else [process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()

    def outcome(self) -> dict:
        """What must be the same: executed copies to the byte, and what trainings gave."""
        runs = {key: self.store.find(key) for key in self.store.run_keys()}
        return {
            **{path.name: path.read_bytes() for path in self.executed.glob("*.ipynb")},
            **{key: (run.results_digest, run.row["mask_digest"]) for key, run in runs.items()},
        }

    def checkpoints(self) -> list[Path]:
        return list(self.folder.glob("store/runs/*/checkpoint-*.safetensors"))

    def leftovers(self) -> list[Path]:
        """Files that nobody will ask for, checkpoints apart."""
        places = (self.root / "_executed", self.root / "_build", self.folder / "store")
        hidden = [path for place in places for path in place.rglob(".*")]
        hidden = [path for path in hidden if path.suffix != ".lock" and path.name != ".buildinfo"]
        return [*self.temporary.iterdir(), *hidden, *self.executed.glob("failed/*")]

    def clear(self) -> None:
        """Back to a checkout in which nothing was run."""
        for path in (self.root / "_executed", self.root / "_build", self.folder / "store"):
            shutil.rmtree(path, ignore_errors=True)

    def check(self, expected: dict) -> None:
        """The same bits, no process and no file left. A killed command's Jupyter Book goes on for
        some seconds; what it writes the next command clears."""
        self.wait_until_alone()
        self.finish()
        assert self.outcome() == expected
        assert list(self.store.verify()) == []
        assert [*self.leftovers(), *self.checkpoints()] == []


def notebook_project(folder: Path, checkpoint_seconds: float = 0.0, pause: float = 0.0) -> Project:
    """A project of one notebook, which climbs a schedule, and a copy of the package."""
    project = Project(folder, ["-c", PROGRAM])
    shutil.copytree(ROOT / "lthnb", project.root / "lthnb")  # it may be edited meanwhile
    cells = [cell.strip() for cell in (IMPORTS, PAUSES, CLIMB, SHOW)]
    parameters = PARAMETERS.format(checkpoint_seconds, pause)
    write_notebook(project.root / "notebooks" / "one.ipynb", *cells, parameters=parameters)
    return project


def kill_again_and_again(project: Project, kills: int) -> set[str]:
    """Kill a command `kills` times, starting over where it is through; compare each that is.

    After every other kill the next command comes at once, and may meet what is still ending.
    Returns what kills have met.
    """
    project.finish()  # the first time, numba compiles
    project.clear()
    began = time.monotonic()
    project.finish()
    expected, seconds = project.outcome(), time.monotonic() - began
    project.clear()
    rng, met, done = np.random.default_rng(50), set(), 0
    while done < kills:
        process = project.start()
        # Less than all of it, since what is done stays done and is not met again.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0, 0.8 * seconds))
        if process.poll() is not None:
            assert process.returncode == 0, (project.folder / "log").read_text()[-3000:]
            project.check(expected)
            project.clear()
            continue
        met |= {"building"} if list(project.root.glob("_build/*/.new-*")) else set()
        met |= {"executing"} if list(project.temporary.glob("lthnb-*")) else set()
        met |= {"checkpoint"} if project.checkpoints() else set()
        project.kill(process, ("command", "group", "all")[done % 3])
        done += 1
        if done % 2:
            project.wait_until_alone()
    project.finish()
    project.check(expected)
    return met


@pytest.mark.slow
def test_notebook_killed_again_and_again(tmp_path_factory):
    project = notebook_project(tmp_path_factory.mktemp("n"), pause=0.03)  # training is half of it
    assert {"executing", "checkpoint"} <= kill_again_and_again(project, 50)


@pytest.mark.slow
def test_book_killed_again_and_again(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("b"), ["-m", "lthnb", "book", "--profile", "smoke"])
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (project.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, project.root / name)
    (project.folder / "results").symlink_to(project.root / "results")
    assert {"executing", "building"} <= kill_again_and_again(project, 50)
    folder = project.root / "_build" / "smoke"
    assert {path.name for path in folder.iterdir()} == {"html", "build.log"}


def stop(project: Project, number: int) -> None:
    """Stop a command while it trains: a checkpoint is written first, and all end by themselves."""
    process = project.start()
    wait_for_training(project, process)
    os.killpg(process.pid, number)  # as Ctrl-C and a closed terminal do
    code = -number if number == signal.SIGINT else 128 + number
    assert process.wait(PATIENCE) == code
    project.wait_until_alone()
    [checkpoint] = project.checkpoints()
    _, state = project.store.find_checkpoint(checkpoint.parent.name)
    assert 0 < state["epoch"] < 30
    assert project.leftovers() == []
    assert list(project.executed.rglob("*.ipynb")) == []
    said = (project.folder / "log").read_text()
    assert "lthnb: stopping; a training ends its epoch first (Ctrl-C again: at once)" in said


def wait_for_training(project: Project, process: subprocess.Popen) -> None:
    """Wait until a training begins that is not the first of its store."""
    locks = len(list(project.folder.glob("store/locks/*.lock"))) + 1
    until = time.monotonic() + PATIENCE
    while len(list(project.folder.glob("store/locks/*.lock"))) < max(locks, 3):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    time.sleep(0.3)  # its first epochs


def undisturbed(folder: Path) -> dict:
    """What comes of the notebook's search, in this process."""
    project, settings = Project(folder, []), {"checkpoint_seconds": 1e9}
    exec(IMPORTS + CLIMB.replace("Store()", "store"), {"store": project.store, **settings})
    return project.outcome()


SLOW = [pytest.param(number, marks=pytest.mark.slow) for number in (signal.SIGTERM, signal.SIGHUP)]


@pytest.mark.parametrize("number", [signal.SIGINT, *SLOW])
def test_notebook_stopped_and_killed(number, tmp_path_factory):
    """Stopped while it trains, killed while it trains, then killed at a random moment."""
    place = tmp_path_factory.mktemp("p")  # short, for sockets: `tmp_path` has the test's name
    expected = undisturbed(place / "here")  # and the copy finds it compiled
    project = notebook_project(place, checkpoint_seconds=1e9, pause=0.03)
    stop(project, number)
    process = project.start()
    wait_for_training(project, process)
    project.kill(process, "command")
    process = project.start()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(np.random.default_rng().uniform(0, 6))
    project.kill(process, "all")
    project.finish()
    project.check({**project.outcome(), **expected})
