"""What runs inside each peer's environment: ``PYTHON worker.py ADAPTER.py``, standard library only.

Commands come as JSON lines on standard input, answers go out on standard output; whatever the
peer's code prints goes to standard error. The end of the input ends it.

    {"do": "about"}                               versions of all packages, and the adapter's shims
    {"do": "prepare", "id", "task", "settings"}   load and build; answers with facts
    {"do": "repeat", "id"}                        do it once; answers with {measure: number}
    {"do": "drop", "id"}                          forget what was prepared
    {"do": "memory"}                              peak resident bytes: self, and largest child

An adapter has `SHIMS`, a list of sentences, and `TASKS`: name → a function of a :class:`Job` that
prepares and returns (facts, a function of nothing that does it once and returns the measures).
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import resource
import sys
import time
from importlib import metadata
from pathlib import Path


class Job:
    """What a task is told, and the data that ours has handed over.

    settings: plain data (see `rows.settings`). folder: holds train.npy and test.npy (int32, 2 × n,
    users and items, sorted by user), triplets.npy (int64, 3 × n: users, positives, negatives, the
    first of our stream) and table.npy (float32, rows × size, users first). clone: a peer's code.
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

    def predrawn(self):
        """`batches` batches of our triplets: an iterator of int64 arrays (3, batch)."""
        triplets = self.load("triplets")
        for k in range(self.batches):
            yield triplets[:, k * self.batch : (k + 1) * self.batch]

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


class Catalogue:
    """What every serving engine reads: users.npy and items.npy (float32, rows × size, zeros where
    pruned) and liked.npz (CSR without its values), from the folder of a job."""

    def __init__(self, job: Job) -> None:
        import numpy

        self.job, self.csr = job, dict(numpy.load(job.folder / "liked.npz"))

    def table(self, side: str):
        """A side, dense and mapped from its file: what is read is in memory as if it were read."""
        import numpy

        return numpy.load(self.job.folder / f"{side}.npy", mmap_mode="c")

    def sparse(self, side: str):
        """A side as CSR, made in blocks of rows."""
        import scipy.sparse

        rows = self.table(side)
        blocks = [scipy.sparse.csr_matrix(rows[n : n + 65536]) for n in range(0, len(rows), 65536)]
        return scipy.sparse.vstack(blocks, format="csr")

    def singles(self):
        """The users who are asked for one by one."""
        import numpy

        return numpy.linspace(0, self.job.users - 1, self.job.ask).astype(numpy.int64)

    def liked(self, users):
        """What some users have, as a CSR of their rows."""
        import numpy
        import scipy.sparse

        indptr, indices = self.csr["indptr"], self.csr["indices"]
        ends = numpy.cumsum(indptr[users + 1] - indptr[users])
        parts = [indices[indptr[u] : indptr[u + 1]] for u in users]
        offsets = numpy.concatenate(([0], ends)).astype(numpy.int32)
        columns = numpy.concatenate(parts)
        ones = numpy.ones(len(columns), numpy.float32)
        shape = len(users), self.job.items
        return scipy.sparse.csr_matrix((ones, columns, offsets), shape)


def served(build):
    """A task from `build(job, catalogue)`, which gives (ask, facts) of a serving engine; `ask`
    takes an int64 array of users and returns the ids of the `k` best items of each.

    Facts, beside the engine's own: `load`, seconds until it can be asked, first compilations
    included; `resident`, bytes that the process grew by meanwhile; `agreement`, the share of the
    best items of some users that are those of float64 scores, ties aside. Measures: `one`, seconds
    a question for one user, of `ask` in turn; `bulk`, seconds for `bulk` users in one question.
    """

    def task(job: Job):
        import numpy

        catalogue = Catalogue(job)
        before, start = resident(), time.perf_counter()
        ask, facts = build(job, catalogue)
        some = numpy.arange(min(job.bulk, job.users))
        singles = catalogue.singles()
        ask(singles[:1])
        facts = {**facts, "load": time.perf_counter() - start, "resident": resident() - before}
        few = singles[: job.checked]
        facts["agreement"] = agreement(catalogue, ask(few), few)

        def one():
            for user in singles:
                ask(numpy.array([user]))

        def repeat():
            found = {}
            if "one" in job.measures:
                found["one"] = timed(one) / len(singles)
            if "bulk" in job.measures:
                found["bulk"] = timed(lambda: ask(some))
            return found

        return facts, repeat

    return task


def agreement(catalogue: Catalogue, found, users) -> float:
    """The share of the items found that reach the k-th best score of their user in float64, which
    least.npy holds. Reads no other items, so that it adds nothing to the peak."""
    import numpy

    least = numpy.load(catalogue.job.folder / "least.npy")[:, None]
    items, queries = catalogue.table("items"), catalogue.table("users")[users].astype(float)
    scores = numpy.einsum("nf,nkf->nk", queries, items[numpy.maximum(found, 0)].astype(float))
    return float(((found >= 0) & (scores >= least - 1e-5 * numpy.abs(least))).mean())


def resident() -> int:
    """Bytes of this process in memory now; 0 where the system does not say."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * resource.getpagesize()


def peak(who: int) -> int:
    """Peak resident bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(who).ru_maxrss * unit


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
        if do == "drop":
            prepared.pop(id, None)
            gc.collect()
            return None
        if do == "memory":
            return {
                "peak": peak(resource.RUSAGE_SELF),
                "children": peak(resource.RUSAGE_CHILDREN),
            }
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
