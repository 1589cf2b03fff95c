"""``python -m benchmarks [ROW …]``: measure ours beside its peers, and write one record."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import Any

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
    """Ours alone on planted data, in one process for each number of threads."""
    run.record["scaling"], workers = [], {}
    with contextlib.ExitStack() as stack:
        for backbone in ("mf", "lightgcn"):
            for over in plan.PLAN["quick scaling" if quick else "scaling"]["sweeps"]:
                points = plan.points(quick, over, backbone, run.settings)
                if len(points) < 2:  # a machine with one core has no threads to sweep over
                    continue
                for threads in {p["threads"] for p in points.values()} - set(workers):
                    workers[threads] = stack.enter_context(run.worker(OURS, threads))
                run.record["scaling"].append(sweep(run, backbone, over, points, workers))


def sweep(run: Run, backbone: str, over: str, points: dict, workers: dict) -> dict[str, Any]:
    """One sweep. All its points are prepared before the first repeat, so that they interleave as
    peers do."""
    what, found = f"scaling {backbone} over {over}", []
    lanes = {at: Lane(OURS, workers[p["threads"]], "scaling", p) for at, p in points.items()}
    interleave([*lanes.values()], run.settings["repeats"], what)
    for at, lane in lanes.items():
        if lane.reason is not None:
            raise WorkerError(f"{what}, {at}: {lane.reason}")
        lane.worker.ask("drop", id=lane.id)
        found.append({"at": at, **entry(lane)})
    return {"backbone": backbone, "over": over, "points": found, "slopes": slopes(found)}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure ours beside its peers, repeats interleaved, and write one record. "
        "Peers that are not here are noted as absent; python -m benchmarks.peers gets them. "
        "What each row means is in benchmarks/README.md.",
    )
    p.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(NAMES)} (default: all)")
    p.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"a setting of plan.yaml: {', '.join(plan.PLAN['settings'])}; again for more",
    )
    p.add_argument("--only", default="", help="comma-separated: ours and peers (default: everyone)")
    p.add_argument("--name", help="of the record (default: from source, size and rows)")
    options(p)
    return p


def settings_from(args: argparse.Namespace) -> dict[str, Any]:
    """All settings: those given, and for the rest those of a full or a quick run. Raises ValueError
    for one that there is not."""
    settings = {**plan.PLAN["settings"], **(plan.PLAN["quick"] if args.quick else {})}
    settings["threads"], given = args.threads, {}
    for word in args.set:
        name, _, value = word.partition("=")
        if name not in plan.PLAN["settings"]:
            known = ", ".join(plan.PLAN["settings"])
            raise ValueError(f"--set: found {name!r}, expected one of {known}.")
        try:
            given[name] = json.loads(value)
        except ValueError:
            given[name] = value
    if "source" in given:  # the options of another source would not fit
        settings["options"] = {}
    return {**settings, **given}


def main(words: list[str] | None = None) -> Path:
    """Measure, write the record, and return its path."""
    p = parser()
    args = p.parse_args(words)
    only = set(args.only.split(",")) if args.only else set()
    for what, given, allowed in (
        ("ROW", args.rows, NAMES),
        ("--only", only, (OURS, *plan.PEERS)),
    ):
        for word in given:
            if word not in allowed:
                p.error(f"{what}: found {word!r}, expected one of {', '.join(allowed)}.")
    try:
        settings = settings_from(args)
    except ValueError as error:
        p.error(str(error))
    rows = args.rows or list(NAMES)
    alone = rows == ["scaling"]  # it makes its own data
    data = [] if alone else [settings["source"], str(settings["size"])]
    name = args.name or "-".join(["quick"] * args.quick + data + args.rows)
    run = Run(args, name, settings, only)
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
