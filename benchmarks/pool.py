"""Workers: processes that stay alive, hold what was prepared, and compute one at a time."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.plan import ROOT
from benchmarks.record import without_paths

THREAD_VARIABLES = ("OMP", "MKL", "NUMBA", "OPENBLAS")


class WorkerError(RuntimeError):
    """A worker could not do what was asked: says why, in a line."""


class Worker:
    """One process: ``PYTHON worker.py ADAPTER``, spoken to in JSON lines.

    command: its words. folder: where it runs and may write. log: where all that it prints goes.
    """

    def __init__(self, command: list[str], folder: Path, threads: int, log: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log = log
        numbers = {f"{name}_NUM_THREADS": str(threads) for name in THREAD_VARIABLES}
        # Ours runs this checkout, of which an environment of its own must see nothing.
        ours = {"PYTHONPATH": str(ROOT)} if command[0] == sys.executable else {}
        apart = ("PYTHONPATH", "PYTHONHOME")
        kept = {name: value for name, value in os.environ.items() if name not in apart}
        with log.open("w") as printed:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env={**kept, **ours, **numbers, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=printed,
                text=True,
            )

    def ask(self, do: str, **message: Any) -> Any:
        """The answer to one command. Raises WorkerError; a worker that died stays dead."""
        try:
            self.process.stdin.write(json.dumps({"do": do, **message}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except (OSError, ValueError):
            line = ""
        if not line:
            lines = self.log.read_text(errors="replace").strip().splitlines() or ["nothing printed"]
            died = f"died during {do!r} (exit {self.process.wait()}): {lines[-1][:300]}"
            raise WorkerError(without_paths(died))
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(without_paths(answer["error"][:600]))
        return answer["ok"]

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, in order if it still listens."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()  # the end of its input is the end of its work
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Lane:
    """One thing that is measured: a prepared task of a worker, and what its repeats gave."""

    def __init__(self, who: str, worker: Worker, task: str, settings: dict[str, Any]) -> None:
        self.who, self.worker, self.id = who, worker, f"{task} {id(self):x}"
        self.measures: dict[str, list[float]] = {}
        self.reason: str | None = None  # why it was given up
        self.facts: dict[str, Any] = {}
        try:
            self.facts = worker.ask("prepare", id=self.id, task=task, settings=settings)
            worker.ask("repeat", id=self.id)  # not counted: compilers and caches warm up
        except WorkerError as error:
            self.reason = str(error)

    def repeat(self) -> None:
        """Measure once more, unless it was given up."""
        if self.reason is None:
            try:
                for name, value in self.worker.ask("repeat", id=self.id).items():
                    self.measures.setdefault(name, []).append(value)
            except WorkerError as error:
                self.reason = str(error)


def interleave(lanes: list[Lane], repeats: int, what: str) -> None:
    """Round robin: each lane once, then each again, so that a busy minute hits all alike."""
    for number in range(1, repeats + 1):
        for lane in lanes:
            lane.repeat()
        say(f"{what}: repeat {number} of {repeats}")


def say(text: str) -> None:
    """A line on standard error, which is for people."""
    print(f"benchmarks: {text}", file=sys.stderr, flush=True)
