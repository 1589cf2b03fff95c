"""The command line: ``python -m lthnb --help``.

Exit codes: 0 done, 1 failed, 2 wrong usage, 75 stopped by its time budget (run the same command
again to go on), 130 interrupted (Ctrl-C), 143 terminated.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import typer
from typer import Argument, Option

from lthnb import commands
from lthnb.commands import Budget, Device, Quiet, Scheduler, control_of, group
from lthnb.config import BACKBONES, ConfigError

EXIT = {"interrupted": 130, "terminated": 143, "time budget": 75}
EXAMPLES = """\b
Examples:
  python -m lthnb doctor                        is all well on this machine?
  python -m lthnb data list                     what data there is
  python -m lthnb search --rounds 4             search on MovieLens: train, prune, rewind, repeat
  python -m lthnb search --data ratings.csv --user userId --item movieId --save ticket.safetensors
                                                a ticket of your own table, as one small file
  python -m lthnb search --data yelp2018 --set l2=0.01 --time-budget 600
                                                ten minutes of it; the same again goes on
  python -m lthnb results list                  what has been trained
  python -m lthnb results missing               what the book wants and nobody has recorded yet
  python -m lthnb book                          run the notebooks, build the book

`python -m lthnb COMMAND --help` explains every option. Runs are kept in .store (or $LTHNB_STORE);
published data are looked for in $LTHNB_DATA, then downloaded.
"""


app = group("Find lottery tickets in recommender models.", EXAMPLES)
data_app = group("Data sets: list, describe.")
notebooks_app = group("The notebooks: run.")
app.add_typer(data_app, name="data")
app.add_typer(commands.app, name="results")
app.add_typer(notebooks_app, name="notebooks")

# Options that several commands share.
User = Annotated[str, Option(help="The users' column.")]
Item = Annotated[str, Option(help="The items' column.")]
Rating = Annotated[str, Option(help="The ratings' column, where there is one.")]
Threshold = Annotated[float | None, Option(help="Least rating that is positive (4).")]
Time = Annotated[str, Option(help="The times' column, where there is one.")]
Split = Annotated[
    Literal["random", "last", "time"],
    Option(help="Where no split is published: last is each user's last items."),
]
More = Annotated[
    list[str] | None,
    Option(
        "--option",
        metavar="NAME=VALUE",
        help="Another option of the data; again for more. `data describe` lists them.",
    ),
]
Protocol = Annotated[
    Literal["validated", "paper"],
    Option(help="What chooses epochs: the validation set, or test, as the paper did."),
]
Profile = Annotated[
    str, Option(help="recorded (trains nothing), smoke, quick, validated or paper.")
]
Jobs = Annotated[int, Option(help="Notebooks at once (0: one a usable core).")]


@app.command()
def search(
    data: Annotated[
        str, Option(help="A name from `data list`, or the path of a table of your own.")
    ] = "movielens",
    user: User = "user",
    item: Item = "item",
    rating: Rating = "",
    threshold: Threshold = None,
    time: Time = "",
    split: Split = "random",
    option: More = None,
    protocol: Protocol = "validated",
    method: Annotated[
        Literal["imp", "omp", "random"],
        Option(help="Prune in rounds (imp), once (omp), or at random."),
    ] = "imp",
    backbone: Annotated[str, Option(help=f"One of {', '.join(BACKBONES)}.")] = "mf",
    rounds: Annotated[int, Option(help="Prunings.")] = 8,
    rate: Annotated[float, Option(help="Share that each round prunes.")] = 0.2,
    seeds: Annotated[str, Option(help="Numbers with commas between.")] = "0,1,2",
    settings: Annotated[
        list[str] | None,
        Option(
            "--set",
            metavar="NAME=VALUE",
            help="Another setting, such as embedding_size=64, l2=0.01, epochs=300 or "
            "rewind=reinit; again for more.",
        ),
    ] = None,
    save: Annotated[Path | None, Option(metavar="FILE", help="Write the best ticket.")] = None,
    scheduler: Scheduler = "",
    device: Device = "auto",
    time_budget: Budget = None,
    quiet: Quiet = False,
) -> None:
    """Search for tickets: train, prune, rewind, from the dense model down.

    What was trained before is not trained again; a search that was stopped goes on.
    """
    from lthnb import face
    from lthnb.datasets import sources
    from lthnb.store.files import say

    how = {"backbone": backbone, "rounds": rounds, "rate": rate, "protocol": protocol}
    how["seeds"] = _seeds(seeds)
    given = sources.options_of(settings or ())
    own = {"data", "method", "progress", "store", "control", "scheduler"}
    for name in given.keys() & {*how, *own}:
        raise ConfigError(f"--set {name}: is no setting of a training; has `search --help` it?")
    columns = {"user": user, "item": item, "rating": rating, "threshold": threshold, "time": time}
    loaded = _load(data, protocol, quiet, option, split=split, **columns)
    for said in () if quiet or data in sources.SOURCES else loaded.warnings():
        say(said)
    find = {"imp": face.imp, "omp": face.omp, "random": face.random_pruning}[method]
    how |= {"progress": not quiet, "control": control_of(time_budget, quiet, device)}
    found = find(loaded, **how, **given, scheduler=scheduler)
    shown = ["seed", "round", "density", "recall@20", "ndcg@20", "best_epoch", "seconds", "key"]
    table = found.table[shown].assign(key=found.table["key"].str[:8])
    print(table.to_string(index=False, float_format="{:.4f}".format))
    print(f"\n{found.summary.to_string(float_format='{:.4f}'.format)}")
    if save:
        ticket = found.best()
        size = ticket.save(save).stat().st_size
        print(f"\n{ticket!r}\n{save}: {size:,} bytes; chosen: {ticket.about['chosen']}")


def _seeds(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"found {text!r}, expected whole numbers with commas between, such as 0,1,2",
            param_hint="--seeds",
        ) from None


def _load(source: str, protocol: str, quiet: bool, options: list[str] | None, **given: Any) -> Any:
    from lthnb.datasets import sources

    more = sources.options_of(options or ())
    given["rating"] = given["rating"] or None  # a threshold without it is a mistake here
    return sources.load_with(source, protocol, SimpleNamespace(**given), progress=not quiet, **more)


# data


@data_app.command("list")
def data_list() -> None:
    """Every named source, with its terms."""
    from lthnb.datasets import sources

    for name, source in sources.SOURCES.items():
        print(f"{name:17} {source.title}\n{'':17} {source.terms}")


@data_app.command("describe")
def data_describe(
    source: Annotated[str, Argument(help="A name from `data list`, or a table's path.")],
    user: User = "user",
    item: Item = "item",
    rating: Rating = "",
    threshold: Threshold = None,
    time: Time = "",
    split: Split = "random",
    option: More = None,
    protocol: Protocol = "validated",
    quiet: Quiet = False,
) -> None:
    """Load a data set or a table of your own, count it, and say what is worth knowing first."""
    from lthnb.datasets import sources
    from lthnb.kernels.ranking import evaluate_popularity

    if known := sources.SOURCES.get(source):
        print(f"{known.title}\nterms: {known.terms}\ncitation: {known.citation}")
    given = {"user": user, "item": item, "rating": rating, "threshold": threshold, "time": time}
    data = _load(source, protocol, quiet, option, split=split, **given)
    for name, shown in data.described().items():
        print(f"{name.replace('_', ' ')}: {shown}")
    print(f"split: {json.dumps(data.origin['split'])}")
    print(f"counts: {json.dumps(data.origin['counts'])}")
    popular = evaluate_popularity(data, "test").means()["recall@20"]
    print(f"Recall@20 on test of what is most popular, for everyone: {popular:.4f}")
    print("\nworth knowing:")
    for said in data.warnings() or ["nothing out of the ordinary"]:
        print(f"- {said}")
    if options := sources.choosable(source).values():
        print("\noptions (--option NAME=VALUE):")
    for line in options:
        print(f"  {line}")


# notebooks, book, doctor


@notebooks_app.command("run")
def notebooks_run(
    name: Annotated[list[str] | None, Argument(help="Which; none: all.")] = None,
    profile: Profile = "recorded",
    jobs: Jobs = 0,
) -> None:
    """Execute notebooks into _executed/PROFILE; papermill takes their other parameters."""
    from lthnb.book import build

    done = build.run_notebooks(name or (), profile, jobs)
    print(f"{list(done.values()).count('fresh')} of {len(done)} notebooks were up to date.")


@app.command()
def book(profile: Profile = "recorded", jobs: Jobs = 0) -> None:
    """Execute the book's notebooks, build the book, and say where to open it."""
    from lthnb.book import build

    build.build_book(profile, jobs)


@app.command()
def doctor() -> None:
    """Look this machine and installation over; each line says fine, or what to do."""
    from lthnb import doctor as checks

    raise typer.Exit(checks.report())


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code. What a user can mend is one line, without traceback:
    our own errors, and what the operating system refuses, which names the file."""
    try:
        app(arguments, prog_name="python -m lthnb")
    except SystemExit as left:  # as every command ends, typer's own errors too
        if left.code == EXIT["interrupted"]:
            print("lthnb: interrupted.", file=sys.stderr)
        return left.code or 0
    except ModuleNotFoundError as error:
        print(
            f"lthnb: this needs the package {error.name}, which is not installed; "
            "pip install 'lthnb[book]' (in a checkout: pip install '.[book]') brings it.",
            file=sys.stderr,
        )
        return 1
    except Exception as error:
        if not isinstance(error, OSError) and not type(error).__module__.startswith("lthnb."):
            raise
        print(f"lthnb: {error}", file=sys.stderr)  # it says itself what to do about it
        return EXIT.get(getattr(error, "reason", ""), 1)  # of a training that was stopped
    return 0


if __name__ == "__main__":
    sys.exit(main())
