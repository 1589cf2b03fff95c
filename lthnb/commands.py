"""Commands on the recorded runs and one's own, and what all commands share."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer import Argument, Option

Device = Annotated[str, Option(help="auto (the CPU), cpu, cuda, or cuda:1. Bits repeat on CPUs.")]
Budget = Annotated[
    float | None, Option(metavar="SECONDS", help="Stop in order after so long (exit code 75).")
]
Scheduler = Annotated[
    str, Option(metavar="tcp://…", help="A Dask scheduler, whose workers train, not this machine.")
]
Quiet = Annotated[bool, Option("--quiet", help="No progress bars.")]
Run = Annotated[str, Argument(help="The first digits of its key.")]
Runs = Annotated[list[str], Argument(help="The first digits of each key.")]
Source = Annotated[str | None, Option(help="Where a table of one's own lies.")]


def group(text: str, epilog: str | None = None) -> typer.Typer:
    return typer.Typer(
        help=text,
        epilog=epilog,
        no_args_is_help=False,
        add_completion=False,
        rich_markup_mode=None,  # plain help, which costs no import
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )


app = group(
    "Recorded runs and one's own: list, add, verify, compact, findings, replay, ticket, missing."
)


def control_of(budget: float | None, quiet: bool, device: str) -> Any:
    from lthnb.control import Control
    from lthnb.store.runs import Store

    deadline = None if budget is None else time.monotonic() + budget
    return Control(Store(), progress=not quiet, deadline=deadline, device=device)


@app.command("list")
def list_runs() -> None:
    """Every finished training, one line each."""
    from lthnb.store.results import results
    from lthnb.store.runs import Store

    runs, store = results(unique=True, live=True), Store()
    shown = ["dataset", "backbone", "protocol", "l2", "seed", "density", "best_epoch"]
    shown += ["recall@20", "ndcg@20", "seconds"]
    print(runs[shown].set_index(runs["key"].str[:8]).to_string(float_format="{:.4g}".format))
    own = int(runs["live"].sum())
    print(f"{len(runs) - own} runs in {store.results}, {own} more in {store.folder}")


@app.command("add")
def add(
    run: Annotated[
        list[str] | None, Argument(help="The first digits of each key; none: all.")
    ] = None,
    table: Annotated[bool, Option("--table", help="Their trained tables instead (large).")] = False,
) -> None:
    """Copy one's own runs and their searches into results/, as the book's evidence."""
    from lthnb.store import adding
    from lthnb.store.runs import Store

    store = Store()
    keys = [store.resolve(prefix).key for prefix in run or ()] or store.own_keys()
    written = [adding.add_table(store, key) for key in keys] if table else adding.add(store, keys)
    for path in written:
        print(f"{path} ({path.stat().st_size / 1e3:.0f} kB)")
    print(f"{len(written)} files written")


@app.command("verify")
def verify() -> None:
    """Read every file; exit 1, naming it, where one is not good."""
    from lthnb.store import adding
    from lthnb.store.runs import Store

    store = Store()
    bad = [*adding.verify(store.results), *store.verify()]
    for what in bad:
        print(what)
    print(f"{len(store.run_keys())} runs, {len(bad)} things that are not good")
    raise typer.Exit(1 if bad else 0)


@app.command("compact")
def compact() -> None:
    """Merge the parts that `add` wrote."""
    from lthnb.store import adding
    from lthnb.store.files import results_folder

    print(f"{len(adding.compact(results_folder()))} files merged")


@app.command("findings")
def findings() -> None:
    """Work out what the runs say to each claim, into results/findings.csv and the README."""
    from lthnb.experiments import claims
    from lthnb.store.files import results_folder

    found = claims.write(results_folder() / "findings.csv")
    print(found["verdict"].value_counts().to_string())


@app.command("replay")
def replay(run: Runs, source: Source = None, device: Device = "auto", quiet: Quiet = False) -> None:
    """Train recorded runs again and compare; exit 1 where one does not agree."""
    from lthnb.experiments.replays import replay
    from lthnb.store.files import StoreError
    from lthnb.thinning import data_again

    control, agree = control_of(None, quiet, device), True
    for record in [control.store.resolve(prefix) for prefix in run]:
        data = data_again(record, control, source)
        try:
            done = replay(record, data, control)
        except StoreError as error:  # of this run alone: the others can be replayed all the same
            print(f"lthnb: {error}", file=sys.stderr, flush=True)
            agree = False
            continue
        print(done, flush=True)
        agree = agree and done.agrees
    raise typer.Exit(0 if agree else 1)


@app.command("ticket")
def ticket(
    run: Run,
    target: Annotated[Path, Argument(help="Such as ticket.safetensors.")],
    values: Literal["float32", "float16", "int8"] = "float32",
    source: Source = None,
) -> None:
    """Write a run's ticket as one file; weights that are not kept are trained again."""
    from lthnb.face import Ticket
    from lthnb.kept import TrainedRun
    from lthnb.thinning import data_again

    control = control_of(None, False, "auto")
    record = control.store.resolve(run)
    data = data_again(record, control, source)
    ticket = Ticket.of(TrainedRun(record, data, control))
    size = ticket.save(target, values).stat().st_size
    print(f"{ticket!r}\n{target}: {size:,} bytes")


@app.command("missing")
def missing(
    chapter: Annotated[list[str] | None, Argument(help="Of the grid; none: all.")] = None,
    dataset: Annotated[list[str] | None, Option(help="Again for more.")] = None,
    backbone: Annotated[list[str] | None, Option(help="Again for more.")] = None,
    train: Annotated[bool, Option("--train", help="Train it, into one's own store.")] = False,
    workers: Annotated[int, Option(help="Searches side by side.")] = 1,
    scheduler: Scheduler = "",
    device: Device = "auto",
    time_budget: Budget = None,
    quiet: Quiet = False,
) -> None:
    """List by chapter what the book wants and neither results/ nor one's own store has."""
    from lthnb import experiments
    from lthnb.config import one_of
    from lthnb.datasets import sources
    from lthnb.experiments import running
    from lthnb.experiments.grid import to_record

    for name in dataset or ():
        one_of("dataset", name, sources.SOURCES)
    where = {"dataset": dataset, "backbone": backbone}
    where = {name: values for name, values in where.items() if values}
    control = control_of(time_budget, quiet, device)  # one time budget for all chapters
    for name in chapter or experiments.chapters():
        rows = experiments.missing(name, live=True, **where)
        print(f"{name}: {len(rows)} trainings", flush=True)
        if rows.empty:
            continue
        by = ["dataset", "backbone", "protocol", "method", "l2", "embedding_size"]
        counts = rows.value_counts(by, sort=False, dropna=False)
        print(counts.reset_index(name="trainings").to_string(index=False), flush=True)
        if train:
            wanted = [
                one
                for one in to_record(name)
                if all(getattr(one, n) in values for n, values in where.items())
            ]
            running.run(wanted, control, workers, scheduler=scheduler)
