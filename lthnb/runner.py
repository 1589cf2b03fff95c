"""Notebooks through papermill, and the book.

A notebook in ``notebooks/`` is a clean source; its executed copy for a profile is
``_executed/<profile>/<name>.ipynb``, and a small JSON file of the same name beside it says what the
copy depends on. A copy whose source, parameters, package, lock and recorded tables are unchanged is
fresh, and is not executed again; what is trained for it follows from these, bit by bit. Rerunning
writes the same bytes.

Every notebook runs with its own folder as working directory, as in JupyterLab, so that a relative
path means the same in both.

Processes stand in a row: the command, one child for each notebook, its kernel, and the workers that
a notebook may start. Asked to stop (Ctrl-C, SIGTERM), they stop from the end on, so that a training
can write its checkpoint. A command that is killed takes the rest with it: a child's standard input
is a pipe that ends when the command does, and a kernel watches its child. What they had under way
lies in places that the next command knows and clears.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import glob
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lthnb.config import nearest
from lthnb.experiments.grid import RECORDED, Grid
from lthnb.parameters import (
    assigned_names,
    coerce,
    declared_types,
    unknown_parameters,
    wrong_values,
)
from lthnb.store.files import TEMPORARY, StoreError, results_folder, write_file
from lthnb.store.results import MANIFEST

EXECUTED = "LTHNB_EXECUTED"  # tells book/_ext/executed.py where the executed copies are
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
KERNEL = "@kernel "  # what a child prints before its kernel's process id, its group's too
CELL_PATIENCE = 10.0  # seconds that a cell gets to end when asked to: an epoch's rest, a checkpoint
KERNEL_PATIENCE = 15.0  # seconds that a kernel gets thereafter
SOCKET_PATH = 103  # most bytes in the path of a socket, where systems allow least
ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}(?=>)")  # in memory, as `<object object at 0x7f…>` has it


class RunnerError(RuntimeError):
    """A notebook or the book failed; the text says where and what to do."""


@dataclass(frozen=True)
class Outcome:
    """What became of one notebook."""

    name: str
    copy: Path  # the executed copy
    status: str  # "fresh", "executed" or "failed"
    seconds: float = 0.0  # wall time, 0 for a fresh copy
    message: str = ""  # of a failure: file, cell, its first lines, the error, the failed copy


def project_root() -> Path:
    """Return the folder of the checkout: the one with ``_toc.yml``, above this package."""
    root = Path(__file__).resolve().parents[1]
    if not (root / "_toc.yml").exists():
        raise RunnerError(
            f"{root} has no _toc.yml: notebooks and the book are run from a checkout of lthnb, "
            "installed with `pip install -e .` (make does it)"
        )
    return root


def check_profile(profile: str) -> None:
    """Refuse, with a RunnerError, a profile that there is not."""
    known = [RECORDED, *Grid.read().profiles]
    if profile not in known:
        raise RunnerError(
            f"profile: found {profile!r}, expected one of {', '.join(known)}."
            + nearest(profile, known)
        )


# --- notebooks: reading, cleaning, parameters ------------------------------------------------


def notebook_names(root: Path | None = None) -> list[str]:
    """Return the names of the notebooks in ``notebooks/``, sorted, without ``.ipynb``."""
    folder = (root or project_root()) / "notebooks"
    return sorted(path.stem for path in folder.glob("*.ipynb"))


def declared_parameters(notebook: Path) -> dict[str, Any]:
    """Return the names that the cell tagged ``parameters`` assigns, with their default values.

    A default that is no literal is left as None. Raises RunnerError when the file is no notebook.
    """
    defaults = {}
    for statement in ast.parse(_parameters_cell(notebook)).body:
        for name in assigned_names([statement]):
            try:
                defaults[name] = ast.literal_eval(statement.value)
            except (ValueError, AttributeError, TypeError):
                defaults[name] = None
    return defaults


def _parameters_cell(notebook: Path) -> str:
    """The text of the cell tagged ``parameters``, empty where there is none."""
    for cell in _read(notebook)["cells"]:
        if cell["cell_type"] == "code" and "parameters" in cell["metadata"].get("tags", []):
            return "".join(cell["source"])
    return ""


def check_parameters(notebook: Path, given: Mapping[str, Any]) -> None:
    """Refuse names that the notebook does not declare, which papermill would only log, and values
    that are not of the declared type, before anything runs. Raises RunnerError naming them all."""
    problems = unknown_parameters(given, declared_parameters(notebook))
    problems += wrong_values(given, declared_types(_parameters_cell(notebook)))
    if problems:
        raise RunnerError(f"{notebook.name}: {'; '.join(problems)}")


def clean_notebook(text: str) -> str:
    """Return a notebook's text without what running it leaves behind.

    Outputs, execution counts and editors' metadata go; cell ids, tags and the kernel's name stay.
    A clean notebook comes back byte for byte.
    """
    nb = json.loads(text)
    nb["nbformat"], nb["nbformat_minor"] = 4, 5
    for number, cell in enumerate(nb["cells"]):
        cell.setdefault("id", f"cell-{number}")
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
        if isinstance(cell["source"], str):
            cell["source"] = cell["source"].splitlines(keepends=True)
    return _written(nb, language_info={"name": "python"})


def _written(nb: dict, **metadata: Any) -> str:
    """A notebook's text, with the metadata that a reader may need."""
    for cell in nb["cells"]:
        tags = cell["metadata"].get("tags")
        cell["metadata"] = {"tags": tags} if tags else {}
    # The name `python3` is what every Jupyter installation calls its own interpreter.
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nb["metadata"] = {"kernelspec": kernel, **metadata}
    return json.dumps(nb, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _read(notebook: Path) -> dict:
    try:
        nb = json.loads(notebook.read_text(encoding="utf-8"))
        nb["cells"]
    except FileNotFoundError:
        raise RunnerError(f"{notebook} does not exist") from None
    except (ValueError, KeyError, TypeError) as error:
        raise RunnerError(f"{notebook} is not a notebook of format 4: {error}") from error
    return nb


# --- one notebook ----------------------------------------------------------------------------


def execute(
    notebook: Path,
    output: Path,
    parameters: Mapping[str, Any],
    *,
    kernel: Callable[[int], None] | None = None,
) -> None:
    """Execute ``notebook`` in this process and write the copy to ``output``, whole or not at all.

    ``kernel`` is called once, with the process id of the kernel. The hashes of everything that the
    copy depends on go into ``output`` with the ending ``.json``. A signal that ends this process
    ends the cell first, so that a training can write its checkpoint.

    Raises RunnerError naming the file, the cell, its first lines and the error; the copy as far as
    it came is then in a folder ``failed`` beside ``output``. RunnerError, too, for parameters that
    do not fit, before anything runs, and for folders that cannot be written.
    """
    notebook, output = Path(notebook).resolve(), Path(output).resolve()
    check_parameters(notebook, parameters)
    dependencies = _dependencies(notebook, parameters)  # before, in case a file changes meanwhile
    with _writing(output.parent), _alone(output) as folder:
        unfinished = folder / "copy.ipynb"
        cell, failure = _run(notebook, unfinished, parameters, kernel)
        if failure is None:
            copy = _settled(unfinished, parameters, dependencies)
            sidecar = {**dependencies, "copy": _sha256(copy.encode())}
            write_file(output, copy.encode())
            write_file(
                _sidecar(output), (json.dumps(sidecar, indent=1, sort_keys=True) + "\n").encode()
            )
            _failed(output).unlink(missing_ok=True)
            return
        message = _where(notebook, parameters, cell, failure)
        if cell and unfinished.exists():
            write_file(_failed(output), unfinished.read_bytes())
            message += f"\n  failed copy: {_shown(_failed(output))}"
    raise RunnerError(message)


def _run(
    notebook: Path,
    unfinished: Path,
    parameters: Mapping[str, Any],
    kernel: Callable[[int], None] | None,
) -> tuple[str, str | None]:
    """Run a notebook's cells into the copy ``unfinished``, in whose folder all else lies meanwhile.

    Returns the id of the last cell that was begun, and the error that ended it, None where all
    went well.
    """
    # Here, not above: papermill is no dependency of the core.
    import papermill
    from jupyter_client import AsyncKernelManager
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    folder = str(unfinished.parent)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    main_thread = threading.current_thread() is threading.main_thread()
    begun = ""  # the id of the cell that runs
    group = 0  # the kernel's processes
    asked: list[int] = []  # signals that came
    again: list[threading.Timer] = []

    class Kernel(AsyncKernelManager):
        async def start_kernel(self, **how: Any) -> None:
            nonlocal group
            await super().start_kernel(**how, env=environment)
            group = self.provisioner.pid  # it leads a group of its own
            if kernel is not None:
                kernel(group)

    def stop(number: int, frame: object) -> None:
        """Ask the cell to end, and end it when asked again or when it takes too long."""
        asked.append(number)
        if len(asked) > 1:
            return obey()
        _signal_group(group, signal.SIGINT)
        again.append(threading.Timer(CELL_PATIENCE, os.kill, (os.getpid(), number)))
        again[0].daemon = True
        again[0].start()

    def obey() -> None:
        put_back()
        signal.raise_signal(asked[0])

    def put_back() -> None:
        for timer in again:
            timer.cancel()
        if main_thread:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def cell_started(cell, cell_index) -> None:
        nonlocal begun
        if asked:
            obey()
        injected = "injected-parameters" in cell["metadata"].get("tags", [])
        begun = "injected-parameters" if injected else cell.get("id", "")
        if main_thread:  # nbclient may have set its own, which make a stop look like a death
            for number in handlers:
                signal.signal(number, stop)

    if len(os.fsencode(f"{folder}/k-5")) > SOCKET_PATH:
        return "", f"{folder} is too long a path for a socket; set TMPDIR to a shorter one"
    # ipc instead of ports: two kernels that start at once can pick the same free port. Without
    # "ip" the sockets are ./kernel-ipc-1 and so on, and notebooks of one folder share them.
    connection = {"transport": "ipc", "ip": f"{folder}/k", "connection_file": f"{folder}/k.json"}
    # A user's IPython start-up files and Python's random hash order must not show in a copy. All
    # that is temporary goes into the one folder that is cleared, whatever happens.
    places = ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "JOBLIB_TEMP_FOLDER", "TMPDIR")
    environment = {**os.environ, **dict.fromkeys(places, folder), "PYTHONHASHSEED": "0"}
    failure = None
    try:
        papermill.execute_notebook(
            notebook,
            unfinished,
            parameters=dict(parameters),
            kernel_name="python3",
            kernel_manager_class=Kernel,
            cwd=notebook.parent,
            progress_bar=False,
            config=Config({"KernelManager": connection}),
            on_cell_start=cell_started,
        )
    except PapermillExecutionError as error:
        failure = f"{error.ename}: {error.evalue}"
    except DeadKernelError:
        failure = (
            "the kernel died: out of memory, most often, or it was killed. What was trained is "
            "kept: the same command goes on from there"
        )
    except RuntimeError as error:  # the kernel did not start
        failure = str(error)
    finally:
        put_back()
        _end_group(group)
    if asked:
        obey()
    return begun, failure


def _signal_group(group: int, number: int) -> bool:
    """Send a signal to a group of processes; returns whether there is one. Group 0 is none."""
    if not group or not hasattr(os, "killpg"):
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False


def _end_group(group: int) -> None:
    """End what a kernel that is gone has left: its workers would wait minutes for more to do.

    Those that train get five seconds for the rest of their epoch and a checkpoint.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        there = _signal_group(group, number)
        until = time.monotonic() + 5
        while there and time.monotonic() < until:
            time.sleep(0.05)
            there = _signal_group(group, 0)
        if not there:
            return


@contextlib.contextmanager
def _alone(output: Path) -> Iterator[Path]:
    """Hold the lock of an executed copy, and yield an empty folder for what is under way."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with _lock(output):
        _clear(output)
        folder = _scratch(output)
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            _clear(output)


def _lock(output: Path, **settings: Any) -> contextlib.AbstractContextManager:
    from filelock import FileLock

    return FileLock(output.with_name(f".{output.stem}.lock"), **settings)


def _scratch(output: Path) -> Path:
    """The folder of what is under way for a copy: the same each time, so that it can be cleared.

    Its path is short, since sockets lie in it.
    """
    whose = _sha256(f"{Path.home()} {output}".encode())[:12]
    return Path(tempfile.gettempdir(), f"lthnb-{whose}")


def _clear(output: Path) -> None:
    """Remove what is or was under way for a copy; for the holder of its lock alone.

    Whoever left something there was killed: a living process holds the lock.
    """
    shutil.rmtree(_scratch(output), ignore_errors=True)
    for folder in (output.parent, _failed(output).parent):
        for path in folder.glob(f"{TEMPORARY}{glob.escape(output.stem)}.*"):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Say of a failure of the file system where it was and what to do."""
    try:
        yield
    except (OSError, StoreError) as error:
        # write_file raises an error of its own, whose advice is for a store.
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError):
            raise
        raise RunnerError(
            f"{_shown(folder)} could not be written ({cause}). Free space there, or make the "
            "folder writable."
        ) from cause


def is_fresh(notebook: Path, output: Path, parameters: Mapping[str, Any]) -> bool:
    """Return whether the executed copy is whole and nothing that it depends on has changed."""
    notebook, output = Path(notebook).resolve(), Path(output).resolve()
    try:
        sidecar = json.loads(_sidecar(output).read_text())
        whole = sidecar.pop("copy") == _sha256(output.read_bytes())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False
    return whole and sidecar == _dependencies(notebook, parameters)


def _dependencies(notebook: Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hashes of what a copy depends on; those of recorded runs are in the manifest."""
    package = Path(__file__).resolve().parent
    code = hashlib.sha256()
    for path in sorted([*package.rglob("*.py"), *package.rglob("*.yaml")]):
        code.update(f"{path.relative_to(package).as_posix()}\0".encode())
        code.update(path.read_bytes())
    known = [package.parent / "requirements.lock"]
    known += [results_folder() / name for name in (MANIFEST, "findings.csv")]
    files = {path.name: path for path in known} | _files_named(notebook, parameters)
    return {
        "source": _sha256(notebook.read_bytes()),
        # through JSON, so that the dictionary compares equal to the one that is read back
        "parameters": json.loads(json.dumps(dict(parameters), sort_keys=True)),
        "package": code.hexdigest(),
        "files": {n: _sha256(path.read_bytes()) for n, path in files.items() if path.is_file()},
    }


def _files_named(notebook: Path, parameters: Mapping[str, Any]) -> dict[str, Path]:
    """The files that parameters name, such as tables of one's own, also those of a folder, by what
    names them: a copy is the same in another checkout."""
    kinds, found = declared_types(_parameters_cell(notebook)), {}
    for name in parameters.keys() & kinds.keys():
        value = coerce(parameters[name], kinds[name])
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and text:
                path = notebook.parent / text
                found[text] = path
                found |= {f"{text}/{one.name}": one for one in path.glob("*")}
    return found


def _settled(path: Path, parameters: Mapping[str, Any], dependencies: Mapping[str, Any]) -> str:
    """Return the executed notebook's text without times, warnings, addresses and random ids."""
    nb = _read(path)
    for cell in nb["cells"]:
        if "injected-parameters" in cell["metadata"].get("tags", []):
            cell["id"] = "injected-parameters"  # random otherwise
        if cell["cell_type"] == "code":
            # Warnings name paths and line numbers of the machine, and stderr holds progress bars.
            outputs = [out for out in cell["outputs"] if out.get("name") != "stderr"]
            cell["outputs"] = json.loads(ADDRESS.sub("", json.dumps(outputs)))
    language = nb["metadata"].get("language_info", {})
    language.pop("version", None)
    depends_on = _sha256(json.dumps(dependencies, sort_keys=True).encode())
    ours = {"parameters": dict(parameters), "depends_on": depends_on}
    return _written(nb, language_info=language, lthnb=ours)


def _where(notebook: Path, parameters: Mapping[str, Any], cell_id: str, error: str) -> str:
    """Say in which cell of the source (counted from 1, text cells too) which error arose."""
    cells = _read(notebook)["cells"]
    place = f"{_shown(notebook)}, before the first cell"
    lines = ""
    if cell_id == "injected-parameters":
        place = f"{_shown(notebook)}, the injected parameters {dict(parameters)}"
    for number, cell in enumerate(cells, start=1):
        if cell_id and cell.get("id") == cell_id:
            place = f"{_shown(notebook)}, cell {number} of {len(cells)}"
            source = "".join(cell["source"]).strip().splitlines()
            lines = "\n".join(f"    {line}" for line in source[:4])
            lines = "\n" + lines + ("\n    …" if len(source) > 4 else "")
    error = re.sub(r"\x1b\[[0-9;]*m", "", error).strip()
    return f"{place}:{lines}\n  {textwrap.shorten(error, 600, placeholder=' …')}"


def _sidecar(output: Path) -> Path:
    return output.with_suffix(".json")


def _failed(output: Path) -> Path:
    return output.parent / "failed" / output.name


def _shown(path: Path) -> str:
    """Return a path as a person would type it: relative to where they stand, if below."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- many notebooks --------------------------------------------------------------------------


def executed_folder(profile: str, root: Path | None = None) -> Path:
    """Return the folder of the executed copies of a profile."""
    return (root or project_root()) / "_executed" / profile


def execute_all(
    names: Iterable[str],
    profile: str,
    jobs: int = 0,
    parameters: Mapping[str, Any] | None = None,
    force: bool = False,
    root: Path | None = None,
) -> list[Outcome]:
    """Execute the named notebooks, ``jobs`` at once (0: one per core), each in its own process.

    Names are those of ``notebooks/`` without ``.ipynb``. ``parameters`` are passed to every
    notebook; unknown names are refused before anything runs. Fresh copies are left as they are
    unless ``force``. Returns one Outcome per name, in order; a failure is an Outcome,
    and the other notebooks go on. Interrupted (Ctrl-C, SIGTERM), it stops the children and leaves
    no half file.
    """
    check_profile(profile)
    root = root or project_root()
    names, known = list(names), notebook_names(root)
    problems = unknown_parameters(names, known)
    if problems:
        raise RunnerError("; ".join(problems).replace("parameter", "notebook"))
    sources = {name: root / "notebooks" / f"{name}.ipynb" for name in names}
    given = {}  # with the profile, where the notebook asks for one
    for name, source in sources.items():
        asks = {"profile": profile} if "profile" in declared_parameters(source) else {}
        given[name] = asks | dict(parameters or {})
        check_parameters(source, given[name])
    copies = {name: executed_folder(profile, root) / f"{name}.ipynb" for name in names}
    for copy in copies.values():
        # What a killed command left, also where nothing is to be done now. It may be in the hands
        # of another command, or in a folder that is not there or can only be read.
        with contextlib.suppress(OSError), _lock(copy.resolve(), timeout=0):
            _clear(copy.resolve())

    def stale(name: str) -> bool:
        return force or not is_fresh(sources[name], copies[name], given[name])

    outcomes = {name: Outcome(name, copies[name], "fresh") for name in names}
    todo = [name for name in names if stale(name)]
    if todo:
        cores = os.cpu_count() or 1
        jobs = max(1, min(jobs or cores, len(todo)))
        threads = {name: str(max(1, cores // jobs)) for name in THREADS}
        waiting = list(todo)
        often = 0.1 if sys.stderr.isatty() else 15  # a log file gets a line now and then
        bar = tqdm(total=len(todo), unit="notebook", mininterval=often, dynamic_ncols=True)
        with _Children() as children, bar:
            while waiting or children.running:
                while waiting and len(children.running) < jobs:
                    name = waiting.pop(0)
                    command = [
                        *(sys.executable, "-m", "lthnb.runner", "execute"),
                        *(str(sources[name]), str(copies[name]), "--owned"),
                        *("--parameters", json.dumps(given[name])),
                    ]
                    children.start(name, command, {**os.environ, **threads})
                bar.set_postfix_str(", ".join(children.running), refresh=sys.stderr.isatty())
                for name, code, seconds, message in children.finished():
                    status = "executed" if code == 0 else "failed"
                    message = "" if code == 0 else message
                    outcomes[name] = Outcome(name, copies[name], status, seconds, message)
                    bar.update()
    return [outcomes[name] for name in names]


@dataclass
class _Child:
    """A child process, and the thread that reads what it prints."""

    process: subprocess.Popen
    thread: threading.Thread | None = None
    lines: list[str] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)
    group: int = 0  # of its kernel's processes


class _Children:
    """Child processes by name, all stopped at the end."""

    def __init__(self) -> None:
        self.running: dict[str, _Child] = {}
        self._before: Any = None

    def __enter__(self) -> _Children:
        if threading.current_thread() is threading.main_thread():
            # SIGTERM unwinds like Ctrl-C, so that the children are stopped on the way out.
            self._before = signal.signal(signal.SIGTERM, _exit_on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        children = list(self.running.values())
        for child in children:
            child.process.terminate()
        if children:
            print(
                "\nlthnb: stopping; a training ends its epoch first (Ctrl-C again: at once) …",
                file=sys.stderr,
            )
        until = time.monotonic() + CELL_PATIENCE + KERNEL_PATIENCE
        try:
            for child in children:
                child.process.wait(timeout=max(0.0, until - time.monotonic()))
        except (subprocess.TimeoutExpired, KeyboardInterrupt, SystemExit):
            pass  # asked again, or it takes too long
        for child in children:
            if child.process.poll() is None:
                child.process.kill()
                child.process.wait()
                _signal_group(child.group, signal.SIGKILL)
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def start(self, name: str, command: list[str], environment: dict) -> None:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,  # ends when this process does, see _end_with_owner
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches the parent only, which then stops the rest
        )
        child = self.running[name] = _Child(process)

        def listen() -> None:
            for line in process.stdout:
                if line.startswith(KERNEL):
                    child.group = int(line.removeprefix(KERNEL))
                else:
                    child.lines.append(line.rstrip())

        child.thread = threading.Thread(target=listen, daemon=True)
        child.thread.start()

    def finished(self) -> list[tuple[str, int, float, str]]:
        """Wait until a child has ended, or a fifth of a second; return those that have."""
        time.sleep(0.2)
        ended = []
        for name, child in list(self.running.items()):
            code = child.process.poll()
            if code is not None:
                child.thread.join()
                child.process.stdout.close()
                child.process.stdin.close()
                del self.running[name]
                text = "\n".join(child.lines[-30:]) or f"{name}: ended with code {code}"
                if code < 0:
                    _end_group(child.group)  # it could not see to its kernel
                    text = (
                        f"{name}: its process was killed by signal {-code}: out of memory, most "
                        "often. What was trained is kept: the same command goes on from there"
                    )
                ended.append((name, code, time.monotonic() - child.begun, text))
        return ended


def _exit_on_signal(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def _end_with_owner() -> None:
    """Send this process a SIGTERM when its standard input ends, a pipe from the one that waits for
    it: that one is gone then, however it ended."""

    def watch() -> None:
        os.read(sys.stdin.fileno(), 1)  # not sys.stdin, whose lock a waiting thread would keep
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


# --- the book --------------------------------------------------------------------------------


def book_notebooks(root: Path | None = None) -> list[str]:
    """Return the names of the notebooks that the table of contents lists, in its order."""
    text = ((root or project_root()) / "_toc.yml").read_text(encoding="utf-8")
    return re.findall(r"^[ -]*file:\s*notebooks/([\w-]+)", text, flags=re.MULTILINE)


def build_book(
    profile: str = RECORDED,
    jobs: int = 0,
    parameters: Mapping[str, Any] | None = None,
    force: bool = False,
    root: Path | None = None,
) -> Path:
    """Execute the book's notebooks, build the book, and return the path of its ``index.html``.

    The book of a profile is ``_build/<profile>/html``, its log ``_build/<profile>/build.log``.
    Nothing is built when nothing changed. A warning is an error, and a failed build leaves the book
    of before in its place. Raises RunnerError with the lines that matter.
    """
    from filelock import FileLock

    root = root or project_root()
    check_profile(profile)
    folder = root / "_build" / profile
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(root / "_build" / f".{profile}.lock"):  # a second build waits, and then finds
            # everything up to date. What lies here unfinished is a killed command's.
            for path in folder.glob(".*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            return _build_book(profile, jobs, parameters, force, root)


def _build_book(
    profile: str, jobs: int, parameters: Mapping[str, Any] | None, force: bool, root: Path
) -> Path:
    started = time.monotonic()
    outcomes = execute_all(book_notebooks(root), profile, jobs, parameters, force, root)
    for outcome in outcomes:
        took = f" in {outcome.seconds:.0f} s" if outcome.seconds else ""
        print(f"  {outcome.name}: {outcome.status}{took}")
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if failed:
        raise RunnerError("\n".join(outcome.message for outcome in failed))

    folder = root / "_build" / profile
    index, log, stamp = folder / "html" / "index.html", folder / "build.log", folder / "built.json"
    inputs = _book_inputs(root, profile)
    built = json.loads(stamp.read_text()) if stamp.exists() and index.exists() else {}
    changed = sorted(name for name in built | inputs if built.get(name) != inputs.get(name))
    if not force and not changed:
        print(f"The book is up to date: {index.as_uri()}")
        return index
    if built and changed:
        print(f"Changed since the last build: {textwrap.shorten(', '.join(changed), 300)}")
    print(f"Building the book (log: {_shown(log)})")
    # Always from nothing, and into a folder of its own: glue goes stale in an incremental build.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as new:
        code = _jupyter_book(root, Path(new), executed_folder(profile, root), log)
        made = Path(new, "_build", "html")
        if code != 0 or not (made / "index.html").exists():
            lines = "\n".join(
                f"  {line}" for line in _essential(log.read_text(encoding="utf-8"), root)
            )
            raise RunnerError(f"the book was not built:\n{lines}\n  log: {_shown(log)}")
        stamp.unlink(missing_ok=True)
        if (folder / "html").exists():
            (folder / "html").rename(Path(new, "before"))
        made.rename(folder / "html")
        write_file(stamp, json.dumps(inputs, sort_keys=True).encode())
    print(f"Book built in {time.monotonic() - started:.0f} s. Open {_shown(index)}")
    print(f"  {index.as_uri()}")
    return index


def _book_inputs(root: Path, profile: str) -> dict[str, str]:
    """Return path → hash of every file that goes into the book."""
    files = [root / "_config.yml", root / "_toc.yml", root / "requirements.lock"]
    files += [path for path in (root / "book").rglob("*") if "__pycache__" not in path.parts]
    for name in book_notebooks(root):
        files += [root / "notebooks" / f"{name}.ipynb"]
        files += [executed_folder(profile, root) / f"{name}.ipynb"]
    return {
        path.relative_to(root).as_posix(): _sha256(path.read_bytes())
        for path in sorted(files)
        if path.is_file()
    }


def _jupyter_book(root: Path, output: Path, executed: Path, log: Path) -> int:
    """Run ``jupyter-book build`` and return its exit code; its words go to ``log``."""
    command = [
        *(sys.executable, "-m", "lthnb.runner", "jupyter-book", "build", str(root)),
        *("-W", "-n", "--keep-going", "--all", "--path-output", str(output)),
    ]
    settings = {EXECUTED: str(executed), "TMPDIR": str(output), "PYTHONUTF8": "1", "NO_COLOR": "1"}
    with _Children(), open(log, "w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command, cwd=root, env={**os.environ, **settings}, stdin=subprocess.PIPE,
            stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise


def _essential(log: str, root: Path, limit: int = 20) -> list[str]:
    """Return the log's warnings and errors, each once and with short paths; else its end."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", log).replace(f"{root}{os.sep}", "")
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"\b(WARNING|ERROR|CRITICAL)\b|Error:", line)]
    found = list(dict.fromkeys(telling or lines[-limit:]))
    more = [f"… and {len(found) - limit} more"] if len(found) > limit else []
    return found[:limit] + more


# --- python -m lthnb.runner: what the parent process and make call ------------------------------


def main(arguments: list[str] | None = None) -> int:
    """``execute`` one notebook in this process, run ``jupyter-book``, or ``clean`` sources; return
    the exit code."""
    parser = argparse.ArgumentParser(prog="python -m lthnb.runner", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("execute", help="execute one notebook; used by execute_all")
    one.add_argument("notebook", type=Path)
    one.add_argument("output", type=Path)
    one.add_argument("--parameters", type=json.loads, default={}, help="a JSON object")
    one.add_argument("--owned", action="store_true", help="end when standard input does")
    book = commands.add_parser("jupyter-book", help="as itself, and ends when standard input does")
    book.add_argument("words", nargs=argparse.REMAINDER)
    clean = commands.add_parser("clean", help="remove outputs and editors' metadata")
    clean.add_argument("notebooks", type=Path, nargs="*")
    clean.add_argument("--check", action="store_true", help="only say which are not clean")
    options = parser.parse_args(arguments)
    if options.command == "clean":
        return _clean(options.notebooks, options.check)
    # jsonschema, which nbformat loads, looks for a checker of web addresses, and that compiles its
    # grammar anew in each process, for longer than all else takes. No notebook's schema needs it.
    sys.modules.setdefault("rfc3987_syntax", None)
    if options.command == "jupyter-book":
        from jupyter_book.cli.main import main as jupyter_book

        _end_with_owner()
        return jupyter_book(options.words)
    signal.signal(signal.SIGTERM, _exit_on_signal)
    if options.owned:
        _end_with_owner()
    try:
        execute(
            options.notebook,
            options.output,
            options.parameters,
            kernel=lambda number: print(f"{KERNEL}{number}", flush=True),
        )
    except RunnerError as error:
        print(error)
        return 1
    return 0


def _clean(notebooks: list[Path], check: bool) -> int:
    dirty = 0
    for path in notebooks:
        if not path.exists():  # a pattern that matched nothing
            continue
        text = path.read_text(encoding="utf-8")
        cleaned = clean_notebook(text)
        if cleaned != text:
            dirty += 1
            print(
                f"{path}: {'has outputs or noise; `make format` cleans it' if check else 'cleaned'}"
            )
            if not check:
                path.write_text(cleaned, encoding="utf-8")
    return 1 if check and dirty else 0


if __name__ == "__main__":
    sys.exit(main())
