"""One run of a command: its settings, where its peers are, and the record as it grows."""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks import peers, plan
from benchmarks.pool import Lane, Worker, WorkerError, say
from benchmarks.record import FORMAT, load_average, machine, short, write
from lthnb.experiments.measured import frame
from lthnb.store.records import commit

OURS = "ours"
WORKER = plan.ROOT / "benchmarks" / "worker.py"


def options(p: argparse.ArgumentParser) -> None:
    """Options of every command that writes a record."""
    p.add_argument("--quick", action="store_true", help="a toy, in a minute: does it run?")
    p.add_argument("--threads", type=int, default=os.cpu_count(), help="(default: one per core)")
    folder = plan.ROOT / ".bench"
    p.add_argument("--peers", type=Path, default=folder, help="their folder (default: .bench)")
    p.add_argument(
        "--out",
        type=Path,
        help="folder of the record (default: results/benchmarks; with --quick, the peers' folder)",
    )


class Run:
    """args: those of :func:`options`. name: of the record. settings: what the record says of them.
    only: who takes part; empty: everyone."""

    def __init__(self, args: argparse.Namespace, name: str, settings: dict, only: set[str]) -> None:
        self.settings, self.only, self.peers_folder = settings, only, args.peers.resolve()
        self.out = args.out or (args.peers if args.quick else plan.ROOT / "results" / "benchmarks")
        self.work = self.peers_folder / "work" / name
        self.work.mkdir(parents=True, exist_ok=True)
        if os.environ.get("LTHNB_DATA"):  # workers run elsewhere
            os.environ["LTHNB_DATA"] = os.path.abspath(os.environ["LTHNB_DATA"])
        self.handed: dict[str, Any] = {}  # settings that say where data are, and how many
        self.record: dict[str, Any] = {
            "format": FORMAT,
            "name": name,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "commit": commit("lthnb", "benchmarks"),
            "settings": settings,
            "machine": {**machine(), "load_before": load_average()},
            "data": {},
            "who": {},
            "absent": [],
            "rows": {},
            "scaling": None,
        }

    def worker(self, who: str, threads: int | None = None) -> Worker:
        """A fresh process of ours or of a peer. Raises WorkerError where there can be none."""
        python = Path(sys.executable)
        if who != OURS:
            if reason := peers.missing(self.peers_folder, who):
                raise WorkerError(reason)
            python = peers.python_of(self.peers_folder, who)
        command = [str(python), str(WORKER), str(plan.adapter_of(who))]
        threads = threads or self.settings["threads"]
        worker = Worker(command, self.work / who, threads, self.work / f"log-{who}-{threads}")
        if who not in self.record["who"]:
            try:
                about = worker.ask("about")
            except WorkerError:
                worker.close()
                raise
            peer = plan.PEERS.get(who)
            place = {"repository": peer and peer.repository, "commit": peer and peer.commit}
            self.record["who"][who] = {**place, **about}
        return worker

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

    def lane(self, row: str, who: str) -> Lane | None:
        """A prepared task in a fresh process, or None, with the reason noted."""
        say(f"{row}: preparing {who}")
        try:
            worker = self.worker(who)
        except (WorkerError, OSError) as error:
            self.absent(row, who, str(error))
            return None
        more = {**self.handed, "clone": str(self.peers_folder / who)}
        return Lane(who, worker, row, plan.settings_of(row, self.settings, **more))

    def put_row(self, name: str, lanes: list[Lane]) -> None:
        """Write what the lanes measured into the record."""
        about = plan.ROWS[name]
        who = {lane.who: entry(lane) for lane in lanes if lane.reason is None}
        self.record["rows"][name] = {"title": about.title, "unit": about.unit, "who": who}
        for lane in lanes:
            if lane.reason is not None:
                self.absent(name, lane.who, lane.reason)

    def finish(self) -> Path:
        """Write the record into its folder, under its name, show it, and return its path."""
        self.record["machine"]["load_after"] = load_average()
        shown = frame([self.record]).groupby(["row", "who", "measure", "at"], dropna=False)
        print(shown[["value", "ratio"]].median().dropna(how="all").to_string())
        path = self.out.resolve() / f"{self.record['name']}.json"
        write(path, self.record)
        say(f"written: {path}")
        return path


def entry(lane: Lane) -> dict[str, Any]:
    """What a lane came to, in the record's layout."""
    measures = {name: [short(v) for v in values] for name, values in lane.measures.items()}
    return {"measures": measures, "facts": lane.facts}
