"""The command line: ``python -m lthnb --help``.

Exit codes: 0 done, 1 failed, 2 wrong usage, 75 stopped by its time budget (run the same command
again to go on), 130 interrupted (Ctrl-C), 143 terminated.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from lthnb.config import BACKBONES, PROTOCOLS, ConfigError

EXIT = {"interrupted": 130, "terminated": 143, "time budget": 75}
PROFILES = "recorded (default; trains nothing), smoke, quick, validated or paper"

EXAMPLES = """\
examples:
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


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="python -m lthnb",
        description="Find lottery tickets in recommender models.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_search_command, _data_command, _results_command):
        add(commands)
    _notebooks_command(commands)
    _book_command(commands)
    return top


# Options that several commands share


def _table_options(group: Any) -> None:
    """How a table of one's own is read and split."""
    group.add_argument("--user", default="user", help="the users' column (default: user)")
    group.add_argument("--item", default="item", help="the items' column (default: item)")
    group.add_argument("--rating", default="", help="the ratings' column, where there is one")
    group.add_argument(
        "--threshold", type=float, default=4.0, help="least rating that is positive (default: 4)"
    )
    group.add_argument("--time", default="", help="the times' column, where there is one")
    group.add_argument(
        "--split", default="random", choices=("random", "last", "time"),
        help="where no split is published: random, last (each user's last items), or time",
    )  # fmt: skip
    group.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE",
        help="another option of the data; again for more; `data describe` lists them",
    )  # fmt: skip
    group.add_argument(
        "--protocol", default="validated", choices=PROTOCOLS,
        help="what chooses epochs: the validation set (default), or test, as the paper did",
    )  # fmt: skip


def _running_options(group: Any) -> None:
    """Where trainings run and how they are watched."""
    group.add_argument(
        "--device", default="auto", help="auto (the CPU), cpu, cuda, or cuda:1; bits repeat on CPUs"
    )
    group.add_argument(
        "--time-budget", type=float, metavar="SECONDS", help="stop in order after so long (exit 75)"
    )
    group.add_argument("--quiet", action="store_true", help="no progress bars")


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def _load(source: str, args: argparse.Namespace):
    from lthnb import sources

    more = sources.options_of(args.option)
    return sources.load_told(source, args.protocol, args, progress=not args.quiet, **more)


def _control(args: argparse.Namespace):
    from lthnb.control import Control
    from lthnb.store.runs import Store

    deadline = None if args.time_budget is None else time.monotonic() + args.time_budget
    return Control(Store(), progress=not args.quiet, deadline=deadline, device=args.device)


# search


def _search_command(commands: Any) -> None:
    p = commands.add_parser(
        "search",
        help="train, prune, rewind: find tickets",
        description="Search for tickets, from the dense model down. What was trained before is not "
        "trained again; a search that was stopped goes on.",
    )
    p.add_argument(
        "--data", default="movielens",
        help="a name from `data list`, or the path of a table of your own (default: movielens)",
    )  # fmt: skip
    _table_options(p.add_argument_group("a table of your own"))
    group = p.add_argument_group("search")
    group.add_argument(
        "--method", default="imp", choices=("imp", "omp", "random"),
        help="prune in rounds (imp, default), once (omp), or at random",
    )  # fmt: skip
    group.add_argument("--backbone", default="mf", choices=BACKBONES)
    group.add_argument("--rounds", type=int, default=8, help="prunings (default: 8)")
    group.add_argument(
        "--rate", type=float, default=0.2, help="share that each round prunes (default: 0.2)"
    )
    group.add_argument("--seeds", type=_numbers, default=[0, 1, 2], help="default: 0,1,2")
    group.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE",
        help="another setting, such as embedding_size=64, l2=0.01, epochs=300 or rewind=reinit; "
        "again for more",
    )  # fmt: skip
    group.add_argument("--save", type=Path, metavar="FILE", help="write the best ticket")
    _running_options(p.add_argument_group("running"))
    p.set_defaults(do=do_search)


def do_search(args: argparse.Namespace) -> int:
    from lthnb import face, sources

    how = {"backbone": args.backbone, "rounds": args.rounds, "rate": args.rate, "seeds": args.seeds}
    how["protocol"] = args.protocol
    given = sources.options_of(args.set)
    for name in given.keys() & {*how, "data", "method", "progress", "store", "control"}:
        raise ConfigError(f"--set {name}: is no setting of a training; see `search --help`.")
    data, find = _load(args.data, args), {"omp": face.omp, "random": face.random_pruning}
    search = find.get(args.method, face.imp)(
        data, **how, **given, progress=not args.quiet, control=_control(args)
    )
    shown = ["seed", "round", "density", "recall@20", "ndcg@20", "best_epoch", "seconds", "key"]
    table = search.table[shown].assign(key=search.table["key"].str[:8])
    print(table.to_string(index=False, float_format="{:.4f}".format))
    print(f"\n{search.summary.to_string(float_format='{:.4f}'.format)}")
    if args.save:
        ticket = search.best()
        size = ticket.save(args.save).stat().st_size
        print(f"\n{ticket!r}\n{args.save}: {size:,} bytes; chosen: {ticket.about['chosen']}")
    return 0


# results


def _results_command(commands) -> None:
    p = commands.add_parser(
        "results", help="recorded runs and one's own: list, show, add, verify, replay, missing, …"
    )
    verbs = p.add_subparsers(dest="verb", required=True, metavar="VERB")
    p.set_defaults(do=do_results)
    verbs.add_parser("list", help="every finished training, one line each")
    show = verbs.add_parser("show", help="one run: all columns of its row")
    show.add_argument("run", help="the first digits of its key")
    show.add_argument("--json", action="store_true", help="as JSON")
    remove = verbs.add_parser("remove", help="remove trainings from one's own store")
    remove.add_argument("run", nargs="+", help="the first digits of each key")
    add = verbs.add_parser(
        "add", help="copy one's own runs and their searches into results/, as the book's evidence"
    )
    add.add_argument("run", nargs="*", help="the first digits of each key (default: all)")
    add.add_argument("--without-masks", action="store_true", help="smaller; replays take longer")
    add.add_argument("--table", action="store_true", help="their trained tables instead (large)")
    verbs.add_parser("verify", help="read every file; exit 1, naming it, where one is not good")
    verbs.add_parser("compact", help="merge the parts that `add` wrote")
    verbs.add_parser(
        "findings", help="work out what the runs say to each claim, into results/findings.csv"
    )
    again = verbs.add_parser(
        "replay", help="train recorded runs again and compare; exit 1 where one does not agree"
    )
    again.add_argument("run", nargs="+", help="the first digits of each key")
    again.add_argument("--source", help="where a table of one's own lies")
    again.add_argument("--device", default="auto", help="auto, cpu, cuda, or cuda:1")
    again.add_argument("--quiet", action="store_true", help="no progress bars")
    ticket = verbs.add_parser(
        "ticket", help="write a run's ticket as one file; weights that are not kept are made again"
    )
    ticket.add_argument("run", help="the first digits of its key")
    ticket.add_argument("target", type=Path, help="such as ticket.safetensors")
    ticket.add_argument("--values", default="float32", choices=("float32", "float16", "int8"))
    ticket.add_argument("--source", help="where a table of one's own lies")
    wanted = verbs.add_parser(
        "missing", help="what the book wants recorded and is not; with --train, train it"
    )
    wanted.add_argument("chapter", nargs="*", help="of the grid (default: all)")
    wanted.add_argument("--dataset", action="append", default=[], help="again for more")
    wanted.add_argument("--backbone", action="append", default=[], choices=BACKBONES)
    wanted.add_argument("--train", action="store_true", help="into one's own store")
    wanted.add_argument("--workers", type=int, default=1, help="searches side by side (default: 1)")
    _running_options(wanted)


def do_results(args: argparse.Namespace) -> int:
    from lthnb.store import adding
    from lthnb.store.results import results
    from lthnb.store.runs import Store

    store = Store()
    if args.verb == "list":
        runs = results(unique=True, live=True)
        shown = ["dataset", "backbone", "protocol", "l2", "seed", "density", "best_epoch"]
        shown += ["recall@20", "ndcg@20", "seconds"]
        print(runs[shown].set_index(runs["key"].str[:8]).to_string(float_format="{:.4g}".format))
        own = int(runs["live"].sum())
        print(f"{len(runs) - own} runs in {store.results}, {own} more in {store.folder}")
    elif args.verb == "show":
        _show(_found(store, args.run), args.json)
    elif args.verb == "remove":
        for prefix in args.run:
            key = store.resolve(prefix)
            store.remove(key)
            print(f"removed {key}")
    elif args.verb == "add":
        keys = [store.resolve(prefix) for prefix in args.run] or store.own_keys()
        if args.table:
            written = [adding.add_table(store, key) for key in keys]
        else:
            written = adding.add(store, keys, masks=not args.without_masks)
        for path in written:
            print(f"{path} ({path.stat().st_size / 1e3:.0f} kB)")
        print(f"{len(written)} files written")
    elif args.verb == "compact":
        print(f"{len(adding.compact(store.results))} files merged")
    elif args.verb == "findings":
        from lthnb.experiments import claims

        found = claims.write(store.results / "findings.csv")
        print(found["verdict"].value_counts().to_string())
    elif args.verb == "verify":
        bad = [*adding.verify(store.results), *store.verify()]
        for what in bad:
            print(what)
        print(f"{len(store.run_keys())} runs, {len(bad)} things that are not good")
        return 1 if bad else 0
    elif args.verb == "ticket":
        _write_ticket(args, store)
    elif args.verb == "missing":
        _missing(args)
    else:
        return _replay(args, store)
    return 0


def _replay(args: argparse.Namespace, store) -> int:
    from lthnb.control import Control
    from lthnb.replays import replay
    from lthnb.sources import load_again
    from lthnb.store.files import StoreError

    control = Control(store, progress=not args.quiet, device=args.device)
    agree = True
    for record in [_found(store, prefix) for prefix in args.run]:
        data = load_again(record.data, record.row["protocol"], not args.quiet, args.source)
        try:
            done = replay(record, data, control)
        except StoreError as error:  # of this run alone: the others can be replayed all the same
            print(f"lthnb: {error}", file=sys.stderr, flush=True)
            agree = False
            continue
        print(done, flush=True)
        agree = agree and done.agrees
    return 0 if agree else 1


def _found(store, prefix: str):
    """The record of the one run whose key starts with `prefix`."""
    from lthnb.store.files import StoreError

    key = store.resolve(prefix)
    record = store.find(key)
    if record is None:
        raise StoreError(f"run {key}: its record cannot be read; train it again.")
    return record


def _show(record, as_json: bool) -> None:
    if as_json:
        print(json.dumps(record.row, indent=1))
        return
    for name, value in record.row.items():
        if value is not None:
            print(f"{name:24} {value}")


def _write_ticket(args: argparse.Namespace, store) -> None:
    from lthnb.control import Control
    from lthnb.face import Ticket
    from lthnb.replays import reopen
    from lthnb.sources import load_again

    record = _found(store, args.run)
    data = load_again(record.data, record.row["protocol"], source=args.source)
    ticket = Ticket.of(reopen(record, data, Control(store)))
    size = ticket.save(args.target, args.values).stat().st_size
    print(f"{ticket!r}\n{args.target}: {size:,} bytes")


def _missing(args: argparse.Namespace) -> None:
    """List by chapter what is not recorded, in one's own store neither; train it where asked."""
    from lthnb import experiments, sources
    from lthnb.experiments import running
    from lthnb.experiments.grid import Grid

    for name in args.dataset:
        sources.describe(name)  # refuses one that there is not
    where = {n: getattr(args, n) for n in ("dataset", "backbone") if getattr(args, n)}
    control = _control(args)  # one time budget for all chapters
    for chapter in args.chapter or experiments.chapters():
        rows = experiments.missing(chapter, live=True, **where)
        print(f"{chapter}: {len(rows)} trainings", flush=True)
        if rows.empty:
            continue
        by = ["dataset", "backbone", "protocol", "method", "l2", "embedding_size"]
        counts = rows.value_counts(by, sort=False, dropna=False)
        print(counts.reset_index(name="trainings").to_string(index=False), flush=True)
        if args.train:
            wanted = [
                one
                for one in Grid.read().recorded(chapter)
                if all(getattr(one, name) in values for name, values in where.items())
            ]
            running.run(wanted, control, args.workers)


# data


def _data_command(commands) -> None:
    p = commands.add_parser("data", help="data sets: list, fetch, describe")
    verbs = p.add_subparsers(dest="verb", required=True, metavar="VERB")
    p.set_defaults(do=do_data)
    verbs.add_parser("list", help="every named source, with its terms")
    fetch = verbs.add_parser("fetch", help="download a source's files, checksums verified")
    fetch.add_argument("name", nargs="+")
    describe = verbs.add_parser(
        "describe",
        help="load a data set or a table: counts, and what is worth knowing",
        description="Load a data set or a table of your own, count it, and say what is worth "
        "knowing before anything is trained.",
    )
    describe.add_argument("source", help="a name from `data list`, or the path of a table")
    _table_options(describe)
    describe.add_argument("--quiet", action="store_true", help="no progress bars")


def do_data(args: argparse.Namespace) -> int:
    from lthnb import sources

    if args.verb == "list":
        for name, source in sources.describe().items():
            print(f"{name:17} {source['title']}\n{'':17} {source['terms']}")
    elif args.verb == "fetch":
        for name in args.name:
            for file, path in sources.fetch(name).items():
                print(f"{name}/{file}: {path}")
    else:
        _describe(args)
    return 0


def _describe(args: argparse.Namespace) -> None:
    from lthnb import sources
    from lthnb.data import GROUPS, popularity_groups
    from lthnb.evaluation import evaluate_popularity

    if args.source in sources.SOURCES:
        known = sources.describe(args.source)
        print(f"{known['title']}\nterms: {known['terms']}\ncitation: {known['citation']}")
    data = _load(args.source, args)
    for name, shown in data.described().items():
        print(f"{name.replace('_', ' ')}: {shown}")
    print(f"split: {json.dumps(data.origin['split'])}")
    print(f"counts: {json.dumps(data.origin['counts'])}")
    popular = evaluate_popularity(data, "test").means()["recall@20"]
    print(f"Recall@20 on test of what is most popular, for everyone: {popular:.4f}")
    for what, degree in (("items", data.item_degree), ("users", data.user_degree)):
        print(f"\n{what} in ten groups with about as many training pairs each, the rarest first:")
        print("group    number   share   pairs of each")
        group = popularity_groups(degree)
        for number in range(GROUPS):
            inside = degree[group == number]
            between = f"{inside.min():,} to {inside.max():,}" if inside.size else "-"
            share = inside.size / len(degree)
            print(f"{number + 1:5}  {inside.size:8,}  {share:6.2%}   {between}")
    print("\nworth knowing:")
    for said in data.warnings() or ["nothing out of the ordinary"]:
        print(f"- {said}")
    if options := sources.option_help(args.source):
        print("\noptions (--option NAME=VALUE):")
    for line in options:
        print(f"  {line}")


# notebooks and book


def _notebook_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("--profile", default="recorded", help=PROFILES)
    p.add_argument("--jobs", type=int, default=0, help="notebooks at once (0: one per core)")
    p.add_argument("--force", action="store_true", help="execute also what is fresh")
    p.add_argument(
        "-p",
        "--parameter",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="a parameter of the notebooks, as papermill takes it; again for more",
    )


def _notebooks_command(commands) -> None:
    p = commands.add_parser("notebooks", help="list the notebooks, or execute them")
    verbs = p.add_subparsers(dest="verb", required=True, metavar="VERB")
    p.set_defaults(do=do_notebooks)
    verbs.add_parser("list", help="every notebook with its parameters")
    run = verbs.add_parser("run", help="execute notebooks into _executed/PROFILE")
    run.add_argument("name", nargs="*", help="which (default: all)")
    _notebook_options(run)


def _book_command(commands) -> None:
    p = commands.add_parser(
        "book",
        help="execute the notebooks and build the book",
        description="Execute the book's notebooks, build the book, and say where to open it.",
    )
    _notebook_options(p)
    p.set_defaults(do=do_book)


def do_notebooks(args: argparse.Namespace) -> int:
    from lthnb import runner

    if args.verb == "list":
        for name in runner.notebook_names():
            path = runner.project_root() / "notebooks" / f"{name}.ipynb"
            print(name)
            for parameter, default in runner.declared_parameters(path).items():
                print(f"  {parameter} = {default!r}")
        return 0
    outcomes = runner.execute_all(
        args.name or runner.notebook_names(),
        args.profile,
        args.jobs,
        dict(args.parameter),
        args.force,
    )
    for outcome in outcomes:
        print(f"{outcome.name}: {outcome.status}  {outcome.message}".rstrip())
    return 1 if any(outcome.status == "failed" for outcome in outcomes) else 0


def do_book(args: argparse.Namespace) -> int:
    from lthnb import runner

    runner.build_book(args.profile, args.jobs, dict(args.parameter), args.force)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code. What a user can mend is one line, without traceback."""
    args = parser().parse_args(arguments)
    try:
        return args.do(args)
    except KeyboardInterrupt:
        print("lthnb: interrupted.", file=sys.stderr)
        return EXIT["interrupted"]
    except BrokenPipeError:  # `… | head` closed its end
        sys.stderr.close()
        return 0
    except ModuleNotFoundError as error:
        print(
            f"lthnb: this needs the package {error.name}, which is not installed; "
            "pip install 'lthnb[book]' (in a checkout: pip install '.[book]') brings it.",
            file=sys.stderr,
        )
        return 1
    except Exception as error:
        if not type(error).__module__.startswith("lthnb."):
            raise
        print(f"lthnb: {error}", file=sys.stderr)  # it says itself what to do about it
        return EXIT.get(getattr(error, "reason", ""), 1)  # of a training that was stopped


if __name__ == "__main__":
    sys.exit(main())
