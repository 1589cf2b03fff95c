"""Notebooks through papermill, each in a kernel of its own, and the book through Jupyter Book.

The executed copy of ``notebooks/NAME.ipynb`` is ``_executed/PROFILE/NAME.ipynb``. It keeps a hash
of all that it depends on: its source, the package, its lock and the recorded tables. While that is
the same, the copy is fresh and is not executed again. Executed again, it comes out the same to the
byte. The book is ``_build/PROFILE/html``.

Ctrl-C and SIGTERM interrupt the kernels, so that a training can write its checkpoint. A kernel
whose command was killed sees it and ends (ipykernel does); the next command clears what it left.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock
from joblib import cpu_count
from tqdm import tqdm

from lthnb.book.clean import written
from lthnb.config import LthnbError, nearest
from lthnb.experiments.grid import RECORDED, entry
from lthnb.store.files import project_folder, results_folder, say
from lthnb.store.results import MANIFEST

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}(?=>)")  # in memory, as `<object object at 0x7f…>` has it


class BookError(LthnbError, RuntimeError):
    """A notebook or the book failed: says where, and what to do."""


def notebook_names(root: Path | None = None) -> list[str]:
    """The names of the notebooks in ``notebooks/``, sorted, without ``.ipynb``."""
    folder = (root or project_folder()) / "notebooks"
    if names := sorted(path.stem for path in folder.glob("*.ipynb")):
        return names
    raise BookError(f"{folder} has no notebooks: run this in a checkout of lthnb")


def book_notebooks(root: Path | None = None) -> list[str]:
    """The names of the notebooks that the table of contents lists, in its order."""
    text = ((root or project_folder()) / "_toc.yml").read_text(encoding="utf-8")
    return re.findall(r"^[ -]*file:\s*notebooks/([\w-]+)", text, flags=re.MULTILINE)


def declared_parameters(name: str, root: Path | None = None) -> dict[str, str]:
    """Parameter → annotation, as they stand in a notebook's cell of parameters."""
    notebook = (root or project_folder()) / "notebooks" / f"{name}.ipynb"
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
        body = ast.parse("".join(line for cell in tagged for line in cell["source"])).body
    except (ValueError, LookupError, TypeError, SyntaxError) as error:
        raise BookError(f"{notebook} cannot be read as a notebook: {error}") from error
    typed = [one for one in body if isinstance(one, ast.AnnAssign)]
    return {ast.unparse(one.target): ast.unparse(one.annotation) for one in typed}


def run_notebooks(
    names: Sequence[str] = (),
    profile: str = RECORDED,
    jobs: int = 0,
    root: Path | None = None,
) -> dict[str, str]:
    """Execute notebooks, ``jobs`` at once (0: one a core), and return what became of each.

    names: those of ``notebooks/`` without ``.ipynb``; none means all. profile: passed to every
    notebook that has one. Returns name → "fresh" or "executed". Before anything runs, raises
    BookError for an unknown name and ConfigError for an unknown profile; when the others are
    through, BookError for what has failed.
    """
    if profile != RECORDED:
        entry("profiles", profile)
    root = (root or project_folder()).resolve()
    known, folder = notebook_names(root), root / "_executed" / profile
    if unknown := [name for name in names if name not in known]:
        raise BookError(f"unknown notebook {unknown[0]}.{nearest(unknown[0], known)}")
    given = {}
    for name in names or known:
        declared = declared_parameters(name, root)
        given[name] = {"profile": profile} if "profile" in declared else {}
    cores = cpu_count()
    jobs = max(1, min(jobs or cores, len(given)))
    kernels = Kernels(threads=max(1, cores // jobs))
    done, failed = {}, []
    stop_in_order()
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        for name in sorted(given):  # another command may be at one of them: wait for it
            stack.enter_context(FileLock(folder / f".{name}.lock"))
        pool, futures = stack.enter_context(ThreadPoolExecutor(jobs)), {}
        for name, values in given.items():
            source, copy = root / "notebooks" / f"{name}.ipynb", folder / f"{name}.ipynb"
            futures[pool.submit(_update, source, copy, values, kernels)] = name
        try:
            for one in tqdm(as_completed(futures), total=len(futures), unit="notebook", delay=1):
                try:
                    done[futures[one]] = one.result()
                except (BookError, OSError) as error:  # such as of a full disk
                    failed.append(f"{futures[one]}.ipynb: {error}")
        except BaseException:  # asked to stop
            pool.shutdown(wait=False, cancel_futures=True)
            kernels.stop()
            raise
    if failed:
        raise BookError("\n".join(failed))
    return done


def stop_in_order() -> None:
    """From here on let SIGTERM and the end of the terminal unwind this process, as Ctrl-C does."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # under nohup the second is ignored
            signal.signal(number, lambda number, _: sys.exit(128 + number))


@dataclass
class Kernels:
    """The kernels that run. Each leads a group of processes: its own and its workers'."""

    threads: int  # of each kernel
    groups: set[int] = field(default_factory=set)
    stopping: bool = False

    def stop(self) -> None:
        """Interrupt all, so that trainings write their checkpoints. A second Ctrl-C ends this
        process at once, and the kernels with it."""
        self.stopping = True
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        for group in list(self.groups):
            self.send(group, signal.SIGINT)
        with contextlib.suppress(OSError):  # the terminal is gone
            say("stopping; a training ends its epoch first (Ctrl-C again: at once) …")

    @staticmethod
    def send(group: int, number: int) -> None:
        """Send a signal to a group of processes, where there is any left."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)


def _update(source: Path, copy: Path, parameters: dict[str, str], kernels: Kernels) -> str:
    """Bring a copy up to date, whole or not at all. Raises BookError with the error of the cell
    that failed; the copy as far as it came is then in the folder ``failed`` beside it."""
    began, expected = time.monotonic(), _depends_on(source)
    # All that is temporary: the same folder each time, so that what a killed command left is found.
    # Its path is short, since sockets lie in it.
    whose = hashlib.sha256(f"{Path.home()} {copy}".encode()).hexdigest()[:12]
    scratch = Path(tempfile.gettempdir(), f"lthnb-{whose}")
    shutil.rmtree(scratch, ignore_errors=True)
    if _is_fresh(copy, expected):
        return "fresh"
    scratch.mkdir(mode=0o700)
    unfinished, failed = scratch / copy.name, copy.parent / "failed" / copy.name
    try:
        if error := _run(source, unfinished, parameters, kernels):
            if unfinished.exists() and not kernels.stopping:
                failed.parent.mkdir(exist_ok=True)
                shutil.copyfile(unfinished, failed)
            raise BookError(f"{error}\n  failed copy: {failed}")
        new = copy.with_name(f".{copy.name}")
        new.write_text(_settled(unfinished, expected), encoding="utf-8")
        new.replace(copy)
        failed.unlink(missing_ok=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    tqdm.write(f"  {copy.stem}: executed in {time.monotonic() - began:.0f} s")
    return "executed"


def _run(
    source: Path, unfinished: Path, parameters: dict[str, str], kernels: Kernels
) -> str | None:
    """Run a notebook's cells into the copy ``unfinished``, and all else that is temporary into its
    folder; return what ended it, None where all went well."""
    # Here, not above: they take a second to load, and a book that is up to date needs none.
    import papermill
    from jupyter_client import AsyncKernelManager
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    folder, group = str(unfinished.parent), 0
    environment = {**os.environ, **dict.fromkeys(THREADS, str(kernels.threads))}
    # A user's IPython start-up files and Python's random hash order must not show in a copy.
    places = ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JOBLIB_TEMP_FOLDER", "TMPDIR")
    environment |= {**dict.fromkeys(places, folder), "PYTHONHASHSEED": "0"}

    class Kernel(AsyncKernelManager):
        async def start_kernel(self, **how: Any) -> None:
            nonlocal group
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            # Not papermill's cwd, which it changes for all threads.
            await super().start_kernel(**how, **quiet, cwd=source.parent, env=environment)
            group = self.provisioner.pid
            kernels.groups.add(group)

    def go_on(**_: Any) -> None:
        if kernels.stopping:
            raise RuntimeError("stopped")

    # ipc instead of ports: two kernels that start at once can pick the same free port. Without
    # "ip" the sockets are ./kernel-ipc-1 and so on, and notebooks of one folder share them.
    connection = {"transport": "ipc", "ip": f"{folder}/k", "connection_file": f"{folder}/k.json"}
    try:
        papermill.execute_notebook(
            source,
            unfinished,
            parameters,
            kernel_name="python3",
            kernel_manager_class=Kernel,
            progress_bar=False,
            config=Config({"KernelManager": connection}),
            on_cell_start=go_on,
        )
    except PapermillExecutionError as error:
        cell = error.source.strip().partition("\n")[0]
        return f"cell [{error.exec_count}] `{cell}`: {error.ename}: {error.evalue}"
    except RuntimeError as error:  # the kernel died, or did not start
        return f"{error}: out of memory, most often. What was trained is kept: run it again"
    finally:
        if group:  # workers of a kernel that is gone would wait for minutes for more to do
            kernels.send(group, signal.SIGTERM)
        kernels.groups.discard(group)
    return None


def _settled(path: Path, expected: str) -> str:
    """An executed notebook's text without times, warnings, addresses and random ids."""
    nb = json.loads(path.read_text(encoding="utf-8"))
    for cell in nb["cells"]:
        if "injected-parameters" in cell["metadata"].get("tags", []):
            cell["id"] = "injected-parameters"  # random otherwise
            cell["metadata"]["tags"].append("remove-cell")  # the book says its profile once
        if cell["cell_type"] == "code":
            # Warnings name paths and line numbers of the machine, and stderr holds progress bars.
            outputs = [out for out in cell["outputs"] if out.get("name") != "stderr"]
            cell["outputs"] = json.loads(ADDRESS.sub("", json.dumps(outputs)))
    return written(nb, lthnb=_stamp(nb, expected))


def _is_fresh(copy: Path, expected: str) -> bool:
    """Whether an executed copy is as it was written, and depends on what is still the same."""
    try:
        nb = json.loads(copy.read_text(encoding="utf-8"))
        return nb["metadata"]["lthnb"] == _stamp(nb, expected)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _stamp(nb: dict, expected: str) -> str:
    """What a copy keeps: the hash of what it depends on and of its outputs."""
    outputs = [cell.get("outputs") for cell in nb["cells"]]
    return hashlib.sha256(f"{expected} {json.dumps(outputs)}".encode()).hexdigest()


def _depends_on(notebook: Path) -> str:
    """The hash of all that a notebook's executed copy depends on, but its profile, which its folder
    is called by."""
    package = Path(__file__).resolve().parents[1]
    files = [notebook, package.parent / "requirements.lock"]
    files += [results_folder() / name for name in (MANIFEST, "findings.csv")]
    files += results_folder().glob("benchmarks/*.json")  # the manifest lists only the project's
    return _digest([*files, *package.rglob("*.py"), *package.rglob("*.yaml")])


def _digest(files: Iterable[Path]) -> str:
    """The hash of the names and the content of those files that there are."""
    found = hashlib.sha256()
    for path in sorted(set(files)):
        if path.is_file() and "__pycache__" not in path.parts:
            found.update(f"{path.name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def build_book(profile: str = RECORDED, jobs: int = 0, root: Path | None = None) -> Path:
    """Execute the book's notebooks, build the book, and return the path of its ``index.html``.

    Arguments and errors are those of :func:`run_notebooks`. Nothing is built when nothing changed.
    A warning is an error: BookError with the last lines of the log. The book of before stays until
    the new one is there.
    """
    root = (root or project_folder()).resolve()
    notebook_names(root)  # says so where this is no checkout
    names = book_notebooks(root)
    run_notebooks(names, profile, jobs, root)
    folder, executed = root / "_build" / profile, root / "_executed" / profile
    files = [root / name for name in ("_config.yml", "_toc.yml", "requirements.lock")]
    files += (root / "book").rglob("*")
    files += [one / f"{name}.ipynb" for one in (root / "notebooks", executed) for name in names]
    index, stamp = folder / "html" / "index.html", folder / "html" / "built-from.sha256"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(root / "_build" / f".{profile}.lock"):
        built = _digest(files)
        for left in folder.glob(".new-*"):  # a killed command's; its Jupyter Book may still write
            shutil.rmtree(left, ignore_errors=True)
        if stamp.exists() and stamp.read_text() == built:
            print(f"The book is up to date: {index.as_uri()}")
            return index
        print("Building the book")
        with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as new:
            _jupyter_book(root, new, executed, folder / "build.log")
            made = Path(new, "_build", "html")
            (made / stamp.name).write_text(built)
            if index.parent.exists():
                index.parent.rename(Path(new, "before"))
            made.rename(index.parent)
    print(f"The book is built: {index.as_uri()}")
    return index


def _jupyter_book(root: Path, output: str, executed: Path, log: Path) -> None:
    """Run ``jupyter-book build``, always from nothing: glue goes stale in an incremental build."""
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build"]
    command += [str(root), "-q", "-W", "-n", "--keep-going", "--all", "--path-output", output]
    settings = {"TMPDIR": output, "PYTHONUTF8": "1", "NO_COLOR": "1"}
    settings |= {"LTHNB_EXECUTED": str(executed)}  # read by book/_ext/executed.py
    with open(log, "w", encoding="utf-8") as file:
        streams = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": subprocess.STDOUT}
        done = subprocess.run(command, cwd=root, env={**os.environ, **settings}, **streams)
    if done.returncode:
        lines = log.read_text(encoding="utf-8").replace(f"{root}{os.sep}", "").splitlines()
        raise BookError("\n".join(["the book was not built:", *lines[-20:], f"log: {log}"]))
