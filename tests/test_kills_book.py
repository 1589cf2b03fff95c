"""Notebooks and the book, stopped or killed at any moment: the same command again ends with the
same bits, and leaves no process and no file behind.

SIGKILL leaves no chance to tidy up. It meets the command alone, its process group, or all of its
descendants at once; the moments are spread over the whole of a run by a seeded generator.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest
from test_runner import write_notebook
from toys import PATIENCE, ROOT, environment

from lthnb.book import build
from lthnb.store.runs import Store

pytestmark = [
    pytest.mark.xdist_group("runner"),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks at /proc"),
]

PROGRAM = (
    "import pathlib, sys\nfrom lthnb import runner\n"
    "[one] = runner.execute_all(['one'], 'smoke', root=pathlib.Path.cwd())\n"
    "print(one.status, one.message)"
)
PARAMETERS = "checkpoint_seconds: float = {}  # between two\npause: float = {}  # seconds"
IMPORTS = """
import time
from lthnb import training
from lthnb.config import Ladder
from lthnb.lottery import climb
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
rungs = list(climb(Ladder("imp", 0.3, 3), spec, data, control))
"""
SHOW = "[(rung.run.key, rung.mask.digest, rung.record.results_digest) for rung in rungs]"


class Project:
    """A checkout, its store and its temporary folder, all below one folder."""

    def __init__(self, folder: Path, command: list[str]) -> None:
        self.folder, self.root, self.command = folder, folder / "checkout", command
        self.temporary, self.store = folder / "tmp", Store(folder / "store", results=None)
        for path in (self.root, self.temporary):
            path.mkdir(parents=True, exist_ok=True)

    def start(self, **settings) -> subprocess.Popen:
        """The command, in a session of its own."""
        given = {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT, **settings}
        with open(self.folder / "log", "a") as log:
            given.setdefault("stdout", log)
            return subprocess.Popen(
                [sys.executable, *self.command],
                cwd=self.root,
                env=self.environment(),
                start_new_session=True,
                **given,
            )

    def environment(self) -> dict[str, str]:
        places = [str(self.root), str(ROOT), str(ROOT / "tests")]
        more = {"TMPDIR": str(self.temporary), "PYTHONPATH": os.pathsep.join(places)}
        return environment(self.folder, **more)

    def finish(self) -> None:
        """Run the command to its end."""
        began = (self.folder / "log").stat().st_size if (self.folder / "log").exists() else 0
        code = self.start().wait(PATIENCE)
        assert code == 0, (self.folder / "log").read_text()[began:]

    def processes(self) -> list[int]:
        """All living processes with this project's environment: also those without a parent."""
        mark, found = f"LTHNB_STORE={self.folder / 'store'}".encode(), []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # gone meanwhile, or not ours
                if mark in path.read_bytes().split(b"\0"):  # empty for a zombie
                    found.append(int(path.parent.name))
        return found

    def wait_until_alone(self) -> float:
        """Wait for all processes to end by themselves; returns how long it took."""
        began = time.monotonic()
        while alive := self.processes():
            assert time.monotonic() - began < PATIENCE, shown(alive)
            time.sleep(0.05)
        return time.monotonic() - began

    def outcome(self) -> dict:
        """What must be the same: executed copies to the byte, and what trainings gave."""
        copies = sorted((self.root / "_executed" / "smoke").glob("*.*"))
        runs = {key: self.store.find(key) for key in self.store.run_keys()}
        masks = sorted((self.folder / "store" / "masks").glob("*"))
        return {
            **{path.name: path.read_bytes() for path in copies if path.suffix != ".lock"},
            **{key: (run.results_digest, run.mask["digest"]) for key, run in runs.items()},
            **{path.name: path.read_bytes() for path in masks},
        }

    def leftovers(self) -> list[Path]:
        """Files that nobody will ask for."""
        hidden = [
            path
            for place in (self.root / "_executed", self.root / "_build", self.folder / "store")
            for path in place.rglob(".*")
            if path.suffix != ".lock" and path.name != ".buildinfo"  # Sphinx's own
        ]
        checkpoints = [*(self.folder / "store").glob("runs/*/checkpoint-*.safetensors")]
        failed = [*(self.root / "_executed").glob("*/failed/*")]
        return [*self.temporary.iterdir(), *hidden, *checkpoints, *failed]

    def clear(self) -> None:
        """Back to a checkout in which nothing was run."""
        for path in (self.root / "_executed", self.root / "_build", self.folder / "store"):
            shutil.rmtree(path, ignore_errors=True)


def shown(pids: list[int]) -> str:
    """The commands of processes."""
    lines = []
    for pid in pids:
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            lines.append(f"{pid}: {words[:200]}")
    return "\n".join(["processes that go on:", *lines])


def notebook_project(folder: Path, checkpoint_seconds: float = 0.0, pause: float = 0.0) -> Project:
    """A project of one notebook, which climbs a ladder, and a copy of the package."""
    project = Project(folder, ["-c", PROGRAM])
    shutil.copytree(ROOT / "lthnb", project.root / "lthnb")  # it may be edited meanwhile
    cells = [cell.strip() for cell in (IMPORTS, PAUSES, CLIMB, SHOW)]
    parameters = PARAMETERS.format(checkpoint_seconds, pause)
    write_notebook(project.root / "notebooks" / "one.ipynb", *cells, parameters=parameters)
    return project


def runs_of(outcome: dict) -> dict:
    """Of an outcome, what trainings gave."""
    return {name: value for name, value in outcome.items() if not name.startswith("one.")}


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """The project, what comes of it undisturbed, and the seconds that it takes."""
    project = notebook_project(tmp_path_factory.mktemp("n"), pause=0.03)  # training is half of it
    began = time.monotonic()
    project.finish()
    seconds = time.monotonic() - began
    expected = project.outcome()
    assert {"one.ipynb", "one.json"} <= set(expected)
    assert len(project.store.run_keys()) == 4
    return project, expected, seconds


def kill(project: Project, process: subprocess.Popen, what: str) -> None:
    """SIGKILL to the command alone, to its process group, or to all that it has started."""
    if what == "all":
        for pid in project.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    elif what == "group":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def kill_again_and_again(project, expected, seconds, kills: int, seed: int) -> dict[str, int]:
    """Kill `kills` times, starting over where a command is through; compare each that is through.

    After every other kill the next command comes at once, and may meet what is still ending.
    """
    rng = np.random.default_rng(seed)
    seen = dict.fromkeys(("kills", "command", "group", "all", "through", "starting"), 0)
    seen.update(dict.fromkeys(("executing", "with a checkpoint", "building", "slowest end"), 0))
    project.clear()
    fresh = True
    while seen["kills"] < kills:
        process, began = project.start(), time.monotonic()
        # Less than all of it, since what is done stays done and is not met again.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0, 0.8 * seconds))
        if process.poll() is not None:
            assert process.returncode == 0, (project.folder / "log").read_text()[-3000:]
            if fresh:  # the machine has become less busy
                seconds = min(seconds, time.monotonic() - began)
            seen["slowest end"] = max(seen["slowest end"], check(project, expected))
            seen["through"] += 1
            project.clear()
            fresh = True
            continue
        fresh = False
        building = list(project.root.glob("_build/*/.new-*"))
        executing = list(project.temporary.glob("lthnb-*"))
        seen["building" if building else "executing" if executing else "starting"] += 1
        seen["with a checkpoint"] += bool(
            list(project.folder.glob("store/runs/*/checkpoint-*.safetensors"))
        )
        what = ("command", "group", "all")[seen["kills"] % 3]
        kill(project, process, what)
        seen["kills"] += 1
        seen[what] += 1
        if seen["kills"] % 2:
            seen["slowest end"] = max(seen["slowest end"], project.wait_until_alone())
    project.finish()
    seen["slowest end"] = round(max(seen["slowest end"], check(project, expected)), 1)
    seen["through"] += 1
    return seen


def check(project: Project, expected: dict) -> float:
    """The same bits, no process and no file left; returns how long the last process took to end."""
    waited = project.wait_until_alone()
    found = project.outcome()
    assert sorted(found) == sorted(expected)
    assert [name for name in found if found[name] != expected[name]] == []
    assert list(project.store.verify()) == []
    assert project.leftovers() == []
    return waited


@pytest.mark.slow
def test_notebook_killed_again_and_again(notebook, record_property):
    project, expected, seconds = notebook
    began = time.monotonic()
    seen = kill_again_and_again(project, expected, seconds, 50, seed=50)
    report(seen, time.monotonic() - began, record_property)
    assert seen["executing"] > 0
    assert seen["with a checkpoint"] > 0


def report(seen: dict, seconds: float, record_property) -> None:
    seen["minutes"] = round(seconds / 60, 1)
    for name, number in seen.items():
        record_property(name, number)
    print(json.dumps(seen))


# The book


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """A copy of the checkout, its smoke book undisturbed, and the seconds that it takes."""
    project = Project(tmp_path_factory.mktemp("b"), ["-m", "lthnb", "book", "--profile", "smoke"])
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (project.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, project.root / name)
    (project.folder / "results").symlink_to(project.root / "results")
    project.finish()  # the first time, numba compiles
    project.clear()
    began = time.monotonic()
    project.finish()
    return project, project.outcome(), time.monotonic() - began


@pytest.mark.slow
def test_book_killed_again_and_again(book, record_property):
    project, expected, seconds = book
    began = time.monotonic()
    seen = kill_again_and_again(project, expected, seconds, 50, seed=50)
    report(seen, time.monotonic() - began, record_property)
    assert seen["building"] > 0
    assert seen["executing"] > 0
    folder = project.root / "_build" / "smoke"
    assert {path.name for path in folder.iterdir()} == {"html", "build.log", "built.json"}
    for name in build.book_notebooks(project.root):
        assert (folder / "html" / "notebooks" / f"{name}.html").exists()


# Stopped in order


def terminal() -> tuple[int, dict]:
    """A terminal of its own for a process: our end, and what Popen needs."""
    ours, theirs = os.openpty()

    def take() -> None:
        for number in (signal.SIGINT, signal.SIGHUP):  # a shell or nohup may ignore them
            signal.signal(number, signal.SIG_DFL)
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    return ours, {"stdin": theirs, "stdout": theirs, "stderr": theirs, "preexec_fn": take}


def read_all(ours: int) -> str:
    """What was said to a terminal that nobody else has open any more, which is closed then. One
    read gives 4 KB at most, and a slow start draws many progress bars."""
    said = b""
    with contextlib.suppress(OSError):  # its end
        while piece := os.read(ours, 2**12):
            said += piece
    os.close(ours)
    return said.decode()


def stop(project: Project, how: str) -> None:
    """Stop a command while it trains: a checkpoint is written first, and all end by themselves."""
    ours, settings = terminal()
    process = project.start(**settings)
    os.close(settings["stdin"])
    wait_for_training(project, process)
    if how == "SIGTERM":
        process.terminate()
    elif how == "Ctrl-C":
        os.write(ours, b"\x03")
    else:
        os.close(ours)
    codes = {"SIGTERM": 143, "Ctrl-C": -signal.SIGINT, "closed terminal": -signal.SIGHUP}
    assert process.wait(PATIENCE) == codes[how]
    project.wait_until_alone()
    [checkpoint] = project.folder.glob("store/runs/*/checkpoint-*.safetensors")
    _, state = project.store.find_checkpoint(checkpoint.parent.name)
    assert 0 < state["epoch"] < 30
    assert [path for path in project.leftovers() if path != checkpoint] == []
    assert list((project.root / "_executed").rglob("*.ipynb")) == []
    if how != "closed terminal":
        said = read_all(ours)
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


@pytest.fixture
def place(tmp_path_factory):
    """A folder with a short path, as sockets need it: that of `tmp_path` has the test's name."""
    return tmp_path_factory.mktemp("p")


def test_notebook_stopped_and_killed(place):
    """Ctrl-C while it trains, killed while it trains, then killed at a random moment."""
    expected = runs_of(undisturbed(place / "here").outcome())  # and the copy finds it compiled
    project = notebook_project(place, checkpoint_seconds=1e9, pause=0.03)
    stop(project, "Ctrl-C")
    process = project.start()
    wait_for_training(project, process)
    kill(project, process, "command")
    process = project.start()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(np.random.default_rng().uniform(0, 6))
    kill(project, process, "all")
    project.finish()
    check(project, project.outcome())
    assert runs_of(project.outcome()) == expected


def undisturbed(folder: Path) -> Project:
    """The notebook's ladder, climbed in this process."""
    project, settings = Project(folder, []), {"checkpoint_seconds": 1e9}
    exec(IMPORTS + CLIMB.replace("Store()", "store"), {"store": project.store, **settings})
    return project


@pytest.mark.slow
@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", "closed terminal"])
def test_stopped_while_it_trains(place, notebook, how):
    _, expected, _ = notebook
    project = notebook_project(place, checkpoint_seconds=1e9, pause=0.05)
    stop(project, how)
    project.finish()
    check(project, project.outcome())
    assert runs_of(project.outcome()) == runs_of(expected)
