"""What runs inside each peer's environment: ``PYTHON worker.py ADAPTER.py``, standard library only.

Commands come as JSON lines on standard input, answers go out on standard output; whatever the
peer's code prints goes to standard error. The end of the input ends it.

    {"do": "about"}                               versions of all packages, and the adapter's shims
    {"do": "prepare", "id", "task", "settings"}   load and build; answers with facts
    {"do": "repeat", "id"}                        do it once; answers with {measure: number}

An adapter has `SHIMS`, a list of sentences, and `TASKS`: name → a function of a :class:`Job` that
prepares and returns (facts, a function of nothing that does it once and returns the measures).
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import sys
import time
from importlib import metadata
from pathlib import Path


class Job:
    """What a task is told, and the data that ours has handed over.

    settings: plain data (see `plan.yaml`). folder: holds train.npy and test.npy (int32, 2 × n,
    users and items, sorted by user) and table.npy (float32, rows × size, users first); for the
    agreement more. clone: a peer's code.
    """

    def __init__(self, settings: dict) -> None:
        self.settings = settings
        self.folder = Path(settings.get("folder") or ".")
        self.clone = settings.get("clone")

    def __getattr__(self, name: str):
        try:
            return self.settings[name]
        except KeyError:
            raise AttributeError(name) from None

    def load(self, name: str):
        """One of the arrays."""
        import numpy

        return numpy.load(self.folder / f"{name}.npy")

    def lists(self, name: str) -> list:
        """The items of each user, as arrays; an empty one where there are none."""
        import numpy

        users, items = self.load(name)
        return numpy.split(items, numpy.searchsorted(users, numpy.arange(1, self.users)))

    def file(self, name: str, write) -> Path:
        """A file in a peer's own layout, written by `write(path)` unless it is there already; the
        folder is named by the digest of the data, so what is there is right."""
        path = self.folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_name(f"tmp-{os.getpid()}-{path.name}")
            write(unfinished)
            os.replace(unfinished, path)
        return path


def timed(action) -> float:
    """Wall seconds of an action. Rubbish is collected before, not during it."""
    gc.collect()
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def ranking(run) -> tuple:
    """A task's answer for a function that ranks and returns what it found: facts, and the clock."""
    return run(), lambda: {"ranking": timed(run)}


def serve(adapter, lines, out) -> None:
    """Answer commands until there are no more."""
    prepared = {}

    def answer(do: str, id: str = "", task: str = "", settings: dict | None = None):
        if do == "about":
            found = {d.metadata["Name"]: d.version for d in metadata.distributions()}
            versions = dict(sorted(found.items(), key=lambda pair: pair[0].lower()))
            return {"versions": versions, "shims": adapter.SHIMS}
        if do == "prepare":
            facts, prepared[id] = adapter.TASKS[task](Job(settings))
            return facts
        if do == "repeat":
            return prepared[id]()
        raise ValueError(f"unknown command {do!r}")

    for line in lines:
        try:
            reply = {"ok": answer(**json.loads(line))}
        except Exception as error:
            import traceback

            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}".strip()}
        print(json.dumps(reply), file=out, flush=True)


def main() -> None:
    """Keep standard output for answers, and load the adapter by its path: this folder must not be
    searched for modules, since it could hide a peer's own."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    path = Path(sys.argv[1]).resolve()
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    sys.modules["worker"] = sys.modules["__main__"]
    spec = importlib.util.spec_from_file_location("adapter", path)
    adapter = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(adapter)
    sys.argv = [str(path)]  # peers read their options from here
    serve(adapter, sys.stdin, out)


if __name__ == "__main__":
    main()
