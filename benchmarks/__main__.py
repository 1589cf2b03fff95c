"""``python -m benchmarks [ROW …]``: measure ours beside its peers, and write one record."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.pool import Lane, Worker, WorkerError, interleave, say
from benchmarks.record import ROOT, commit, load_average, machine, write
from benchmarks.rows import (
    BASE,
    FULL,
    NAMES,
    OWN,
    QUICK,
    QUICK_BASE,
    QUICK_SWEEPS,
    ROWS,
    SWEEPS,
    Row,
    point,
    settings_of,
)
from lthnb.measured import FORMAT, ratios, short, slopes, spreads

OURS = "ours"
WORKER = Path(__file__).resolve().parent / "worker.py"


class Run:
    """One run: its settings, where its peers are, and the record as it grows."""

    def __init__(self, name: str, settings: dict, peers_folder: Path, only: set[str]) -> None:
        self.settings, self.peers_folder, self.only = settings, peers_folder, only
        self.work = peers_folder / "work" / name
        self.work.mkdir(parents=True, exist_ok=True)
        self.handed: dict[str, Any] = {}  # settings that say where data are, and how many
        self.record: dict[str, Any] = {
            "format": FORMAT,
            "name": name,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "settings": settings,
            "machine": {**machine(), "load_before": load_average()},
            "data": {},
            "who": {},
            "absent": [],
            "rows": {},
            "scaling": None,
        }

    def worker(self, who: str, threads: int | None = None, adapter: str = "ours.py") -> Worker:
        """A fresh process of a peer, or of ours with an adapter. Raises WorkerError where there
        can be none."""
        if who == OURS:
            python, adapter = Path(sys.executable), peers.ADAPTERS / adapter
        else:
            if reason := peers.missing(self.peers_folder, who):
                raise WorkerError(reason)
            python, adapter = peers.python_of(self.peers_folder, who), peers.PEERS[who].adapter
        command = [str(python), str(WORKER), str(adapter)]
        threads = threads or self.settings["threads"]
        worker = Worker(command, self.work / who, threads, self.work / f"log-{who}-{threads}")
        try:
            self._describe(who, worker)
        except WorkerError:
            worker.close()
            raise
        return worker

    def _describe(self, who: str, worker: Worker) -> None:
        if who in self.record["who"]:
            return
        about = worker.ask("about")
        peer = peers.PEERS.get(who)
        place = {"repository": peer and peer.repository, "commit": peer and peer.commit}
        self.record["who"][who] = {**place, **about}

    def absent(self, row: str, who: str, reason: str) -> None:
        """Note that someone was not measured, and go on."""
        self.record["absent"].append({"row": row, "who": who, "reason": reason})
        say(f"{row}: {who} is absent: {reason}")

    def hand_over(self) -> None:
        """Let ours write the data that everyone uses."""
        say("ours writes the data and trains the table to rank with")
        with self.worker(OURS) as worker:
            settings = {**self.settings, "folder": str(self.work)}
            handed = worker.ask("prepare", id="data", task="hand over", settings=settings)
        self.record["data"] = data = handed["data"]
        counts = {"users": data["users"], "items": data["items"]}
        self.handed = {"folder": handed["folder"], **counts}

    def lane(self, row: str, who: str, task: str | None = None) -> Lane | None:
        """A prepared task in a fresh process, or None, with the reason noted."""
        say(f"{row}: preparing {who}")
        try:
            worker = self.worker(who)
        except (WorkerError, OSError) as error:
            self.absent(row, who, str(error))
            return None
        more = {**self.handed, "clone": str(self.peers_folder / who)}
        task = task or row
        return Lane(who, worker, task, settings_of(task, self.settings, **more))

    def wanted(self, row: Row) -> list[str]:
        """Who takes part in a row, ours first."""
        return [who for who in (OURS, *row.peers) if not self.only or who in self.only]

    def measure_row(self, name: str) -> None:
        """One comparison, repeats interleaved."""
        row = {**ROWS, **OWN}[name]
        lanes = [lane for who in self.wanted(row) if (lane := self.lane(name, who))]
        try:
            interleave(lanes, self.settings["repeats"], lambda text: say(f"{name}: {text}"))
        finally:
            for lane in lanes:
                lane.worker.close()
        self.put_row(name, row.title, row.unit, lanes)

    def measure_memory(self, name: str) -> None:
        """Peak memory of whole processes that load, prepare and do a row's task twice."""
        lanes = []
        for who in self.wanted(ROWS[name]):
            lane = self.lane(f"memory {name}", who, task=name)
            if lane is None:
                continue
            lanes.append(lane)
            lane.repeat()
            if lane.reason is None:
                worker = lane.worker
                lane.measures = {k: [v] for k, v in worker.ask("memory").items()}
            lane.worker.close()
        self.put_row(f"memory {name}", f"peak memory: {ROWS[name].title}", "bytes", lanes)

    def finish(self, folder: Path) -> Path:
        """Write the record into a folder, under its name, and return its path."""
        self.record["machine"]["load_after"] = load_average()
        path = folder.resolve() / f"{self.record['name']}.json"
        write(path, self.record)
        say(f"written: {path}")
        return path

    def put_row(self, name: str, title: str, unit: str, lanes: list[Lane]) -> None:
        """Write what the lanes measured into the record, and show it."""
        row: dict[str, Any] = {"title": title, "unit": unit, "who": {}, "ratios": {}}
        for lane in lanes:
            if lane.reason is not None:
                self.absent(name, lane.who, lane.reason)
                continue
            row["who"][lane.who] = entry(lane)
        ours = row["who"].get(OURS)
        for who, theirs in row["who"].items():
            if ours and who != OURS:
                row["ratios"][who] = ratios(theirs["measures"], ours["measures"])
        self.record["rows"][name] = row
        for who, theirs in row["who"].items():
            for measure, of in theirs["spread"].items():
                ratio = row["ratios"].get(who, {}).get(measure)
                times = f"   {ratio['median']:.3g} × ours" if ratio else ""
                say(f"{name:16} {who:18} {measure:9} {of['median']:.4g} {unit}{times}")

    def measure_scaling(self, base: dict[str, Any], sweeps: dict[str, tuple]) -> None:
        """Ours alone on planted data, in one process for each number of threads."""
        self.record["scaling"] = []
        workers: dict[int, Worker] = {}
        try:
            for backbone in ("mf", "lightgcn"):
                for over, values in sweeps.items():
                    if len(values) > 1:  # a machine with one core has no threads to sweep over
                        say(f"scaling: {backbone} over {over}")
                        points = [point(base, over, v, backbone, self.settings) for v in values]
                        for threads in {p["threads"] for p in points} - set(workers):
                            workers[threads] = self.worker(OURS, threads)
                        self._sweep(backbone, over, points, workers)
        finally:
            for worker in workers.values():
                worker.close()

    def _sweep(self, backbone: str, over: str, points: list[dict], workers: dict) -> None:
        """One sweep. All its points are prepared before the first repeat, so that they interleave
        as peers do."""
        values = [p["options"].get(over, p.get(over)) for p in points]
        lanes = [Lane(OURS, workers[p["threads"]], "scaling", p) for p in points]
        interleave(lanes, self.settings["repeats"])
        found = []
        for lane, at in zip(lanes, values, strict=True):
            if lane.reason is not None:
                raise WorkerError(f"scaling: {backbone}, {over} {at}: {lane.reason}")
            lane.worker.ask("drop", id=lane.id)
            found.append({"at": at, **entry(lane)})
        fitted = slopes(found)
        for measure, of in fitted.items():
            text = f"{backbone:8} {measure:6} over {over:12}"
            say(f"scaling: {text} slope {of['median']:.3f} ({of['min']:.3f} … {of['max']:.3f})")
        sweep = {"backbone": backbone, "over": over, "points": found, "slopes": fitted}
        self.record["scaling"].append(sweep)


def entry(lane: Lane) -> dict[str, Any]:
    """What a lane came to, in the record's layout."""
    measures = {name: [short(v) for v in values] for name, values in lane.measures.items()}
    return {"measures": measures, "spread": spreads(measures), "facts": lane.facts}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure ours beside its peers, repeats interleaved, and write one record. "
        "Peers that are not here are noted as absent; python -m benchmarks.peers gets them. "
        "What each row means is in benchmarks/README.md.",
    )
    p.add_argument(
        "rows",
        nargs="*",
        metavar="ROW",
        help=f"of {', '.join(NAMES)} (default: all)",
    )
    p.add_argument("--quick", action="store_true", help="a tiny set and few repeats: does it work?")
    group = p.add_argument_group("what is measured")
    for name, kind, text in (
        ("source", str, "data set, as `python -m lthnb data list` has it; not for scaling"),
        ("size", int, "embedding size"),
        ("layers", int, "LightGCN's layers"),
        ("batch", int, "triplets in a step"),
        ("repeats", int, "of each measurement"),
        ("batches", int, "in one repeat of a peer's MF step"),
        ("lightgcn_batches", int, "in one repeat of a LightGCN step"),
        ("trained", int, "epochs that ours trains the table for a ranking"),
        ("step", str, "our step: auto, reference, cpu"),
    ):
        told = f"{text} (default: {FULL[name]})"
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, help=told)
    group.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="of the source"
    )
    group.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="for all (default: one per core)"
    )
    group = p.add_argument_group("who and where")
    group.add_argument("--only", help="comma-separated: ours and peers (default: everyone)")
    group.add_argument(
        "--peers", type=Path, default=ROOT / ".bench", help="their folder (default: .bench)"
    )
    group.add_argument("--name", help="of the record (default: from source, size and rows)")
    group.add_argument(
        "--out",
        type=Path,
        help="folder of the record (default: results/benchmarks; with --quick, the peers' folder)",
    )
    return p


def settings_from(args: argparse.Namespace) -> dict[str, Any]:
    """All settings: those given, and for the rest those of a full or a quick run."""
    given = {name: getattr(args, name, None) for name in FULL}
    settings = {**(QUICK if args.quick else FULL), "threads": args.threads}
    if args.source or args.option:  # the options of another source would not fit
        settings["options"] = {}
    for word in args.option:
        name, _, value = word.partition("=")
        try:
            settings["options"][name] = json.loads(value)
        except ValueError:
            settings["options"][name] = value
    return {**settings, **{name: value for name, value in given.items() if value is not None}}


def main(words: list[str] | None = None) -> Path:
    """Measure, write the record, and return its path."""
    p = parser()
    args = p.parse_args(words)
    known = (OURS, *peers.PEERS)
    only = set(args.only.split(",")) if args.only else set()
    for what, given, allowed in (("ROW", args.rows, NAMES), ("--only", only, known)):
        for word in given:
            if word not in allowed:
                p.error(f"{what}: found {word!r}, expected one of {', '.join(allowed)}.")
    rows = args.rows or list(NAMES)
    settings = settings_from(args)
    alone = set(rows) <= {"scaling"}  # it makes its own data
    data = [] if alone else [settings["source"], str(settings["size"])]
    name = args.name or "-".join(["quick"] * args.quick + data + args.rows)
    if os.environ.get("LTHNB_DATA"):  # workers run elsewhere
        os.environ["LTHNB_DATA"] = os.path.abspath(os.environ["LTHNB_DATA"])
    folder = args.out or (args.peers if args.quick else ROOT / "results" / "benchmarks")
    run = Run(name, settings, args.peers.resolve(), only)
    try:
        if not alone:
            run.hand_over()
        for row in rows:
            if row in ROWS or row in OWN:
                run.measure_row(row)
        if "memory" in rows:
            for row in ROWS:
                run.measure_memory(row)
        if "scaling" in rows:
            shape = (QUICK_BASE, QUICK_SWEEPS) if args.quick else (BASE, SWEEPS)
            run.measure_scaling(*shape)
    except WorkerError as error:
        raise SystemExit(f"benchmarks: ours: {error}") from None
    return run.finish(folder)


if __name__ == "__main__":
    main()
