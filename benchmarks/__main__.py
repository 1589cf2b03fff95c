"""``python -m benchmarks [ROW …]``: measure ours beside its peers, and write one record."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import Any

import yaml

from benchmarks import plan
from benchmarks.pool import Lane, WorkerError, interleave
from benchmarks.record import slopes
from benchmarks.run import OURS, Run, entry, options

NAMES = (*plan.ROWS, "scaling")  # what a run without names measures


def measure_row(run: Run, name: str) -> None:
    """One comparison, repeats interleaved."""
    who = [who for who in (OURS, *plan.ROWS[name].peers) if not run.only or who in run.only]
    with contextlib.ExitStack() as workers:
        lanes = [lane for one in who if (lane := run.lane(name, one))]
        for lane in lanes:
            workers.enter_context(lane.worker)
        interleave(lanes, run.settings["repeats"], name)
        run.put_row(name, lanes)


def measure_scaling(run: Run, quick: bool) -> None:
    """Ours alone on planted data: sweeps over one setting each."""
    run.record["scaling"] = []
    for backbone in ("mf", "lightgcn"):
        for over in plan.PLAN["quick scaling" if quick else "scaling"]["sweeps"]:
            points = plan.points(quick, over, backbone, run.settings)
            if len(points) > 1:  # a machine with one core has no threads to sweep over
                run.record["scaling"].append(sweep(run, backbone, over, points))


def sweep(run: Run, backbone: str, over: str, points: dict) -> dict[str, Any]:
    """One sweep, in one process for each number of threads. All its points are prepared before the
    first repeat, so that they interleave as peers do."""
    what, found = f"scaling {backbone} over {over}", []
    with contextlib.ExitStack() as stack:
        threads = {point["threads"] for point in points.values()}
        workers = {count: stack.enter_context(run.worker(OURS, count)) for count in threads}
        lanes = {at: Lane(OURS, workers[p["threads"]], "scaling", p) for at, p in points.items()}
        interleave([*lanes.values()], run.settings["repeats"], what)
    for at, lane in lanes.items():
        if lane.reason is not None:
            raise WorkerError(f"{what}, {at}: {lane.reason}")
        found.append({"at": at, **entry(lane)})
    return {"backbone": backbone, "over": over, "points": found, "slopes": slopes(found)}


def setting(word: str) -> tuple[str, Any]:
    """NAME=VALUE, the value read as YAML."""
    name, _, value = word.partition("=")
    return plan.one_of(plan.PLAN["settings"])(name), yaml.safe_load(value)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure ours beside its peers, repeats interleaved, and write one record. "
        "Peers that are not here are noted as absent; python -m benchmarks.peers gets them. "
        "What each row means is in benchmarks/README.md.",
    )
    row, who = plan.one_of(NAMES), plan.one_of((OURS, *plan.PEERS))
    p.add_argument("rows", nargs="*", type=row, help=f"of {', '.join(NAMES)} (default: all)")
    told = f"NAME=VALUE of plan.yaml, several with spaces: {', '.join(plan.PLAN['settings'])}"
    p.add_argument("--set", nargs="+", action="extend", default=[], type=setting, help=told)
    p.add_argument("--only", nargs="+", default=[], type=who, help="ours, peers (default: all)")
    p.add_argument("--name", help="of the record (default: from source, size and rows)")
    options(p)
    return p


def settings_from(args: argparse.Namespace) -> dict[str, Any]:
    """All settings: those given, and for the rest those of a full or a quick run."""
    given, usual = dict(args.set), plan.PLAN["quick"] if args.quick else {}
    if "source" in given:  # the options of another source would not fit
        usual = {**usual, "options": {}}
    return {**plan.PLAN["settings"], **usual, "threads": args.threads, **given}


def main(words: list[str] | None = None) -> Path:
    """Measure, write the record, and return its path."""
    args = parser().parse_args(words)
    settings, rows = settings_from(args), args.rows or list(NAMES)
    alone = rows == ["scaling"]  # it makes its own data
    data = [] if alone else [settings["source"], str(settings["size"])]
    name = args.name or "-".join(["quick"] * args.quick + data + args.rows)
    run = Run(args, name, settings, set(args.only))
    try:
        if not alone:
            run.hand_over()
        for row in rows:
            if row in plan.ROWS:
                measure_row(run, row)
        if "scaling" in rows:
            measure_scaling(run, args.quick)
    except WorkerError as error:
        raise SystemExit(f"benchmarks: ours: {error}") from None
    return run.finish()


if __name__ == "__main__":
    main()
