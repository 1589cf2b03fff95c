"""The command line: ``python -m lthnb --help``.

Exit codes: 0 done, 1 failed, 2 wrong usage, 75 stopped by its time budget (run the same command
again to go on), 130 interrupted (Ctrl-C), 143 terminated.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

from lthnb.config import (
    BACKBONES,
    CRITERIA,
    METHODS,
    PROTOCOLS,
    REWINDS,
    SCOPES,
    Ladder,
    Model,
    Training,
    explain,
)
from lthnb.data import GROUPS, Split, popularity_groups

EXIT = {"interrupted": 130, "terminated": 143, "time budget": 75}

EXAMPLES = """\
examples:
  python -m lthnb data list                     what data there is
  python -m lthnb ladder --profile quick        a ladder on MovieLens, dense to sparse
  python -m lthnb ladder --source yelp2018 --protocol paper --plan
                                                what it will cost, before anything runs
  python -m lthnb ladder --source my.csv --seeds 0,1,2 --time-budget 600
                                                ten minutes of it; the same again goes on
  python -m lthnb results list                  what has been trained
  python -m lthnb wanted lastfm LightGCN        what the book wants recorded; --train trains it
  python -m lthnb export 1a2b3c ticket.safetensors --values float16
                                                a trained ticket as one small file
  python -m lthnb book --profile quick          run the notebooks, build the book

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
    _run_command(commands)
    _ladder_command(commands)
    _results_command(commands)
    _wanted_command(commands)
    _export_command(commands)
    _data_command(commands)
    _notebooks_command(commands)
    _book_command(commands)
    return top


# Options that several commands share


def _data_options(p: argparse.ArgumentParser) -> None:
    group = p.add_argument_group("data")
    group.add_argument(
        "--source",
        default="movielens",
        help="a name from `data list`, or the path of a table of your own, or of a folder with "
        "train and test (default: movielens)",
    )
    _source_arguments(group)


def _source_arguments(group) -> None:
    """How a source is read and split: what `ladder`, `run` and `data describe` share."""
    group.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the source, such as threshold=3.5 or user=customer_id; again for more; "
        "`data describe SOURCE` lists them",
    )
    meanings = explain(Split)
    for name, how in (
        ("split", {"default": "random", "choices": ("random", "last", "time")}),
        ("leave", {"default": 1, "type": int}),
        ("split_seed", {"default": 0, "type": int}),
    ):
        text = meanings[{"split": "how", "split_seed": "seed"}.get(name, name)]
        group.add_argument(
            f"--{name.replace('_', '-')}",
            help=f"where none is published: {text.partition(': ')[2]} Default {how['default']}.",
            **how,
        )


def _setting_options(p: argparse.ArgumentParser, title: str, cls: type, skip=()) -> None:
    """One option for each setting of a dataclass, explained by the setting itself."""
    group = p.add_argument_group(title)
    meanings = explain(cls)
    for f in dataclasses.fields(cls):
        if f.name in skip or f.name not in meanings:
            continue
        allowed = f.metadata["allowed"]
        choices = {"choices": allowed} if isinstance(allowed, tuple) else {"type": type(f.default)}
        text = meanings[f.name].partition(": ")[2].replace("%", "%%")
        group.add_argument(
            f"--{f.name.replace('_', '-')}",
            default=None,
            help=f"{text} Default: the profile's, else {f.default}.",
            **choices,
        )


def _spec_options(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--profile",
        default="quick",
        help="settings to start from: smoke, quick (default), or paper",
    )
    _setting_options(p, "model", Model, skip=("compression",))  # LCM wants a teacher as well
    _setting_options(p, "training", Training, skip=("order_seed",))
    _running_options(p.add_argument_group("running"))


def _running_options(group) -> None:
    """Where trainings run and how they are watched: what all commands that train share."""
    group.add_argument(
        "--device", default="auto", help="auto (a GPU where there is one), cpu, cuda, or cuda:1"
    )
    group.add_argument(
        "--time-budget", type=float, metavar="SECONDS", help="stop in order after so long (exit 75)"
    )
    group.add_argument("--quiet", action="store_true", help="no progress bars")


# run and ladder


def _run_command(commands) -> None:
    p = commands.add_parser(
        "run",
        help="train one dense model",
        description="Train the dense model of a spec, or show it when it was trained before.",
    )
    _data_options(p)
    _spec_options(p)
    p.add_argument("--seed", type=int, default=0, help="seed of X⁰ and of the order of triplets")
    p.set_defaults(do=do_run)


def _ladder_command(commands) -> None:
    p = commands.add_parser(
        "ladder",
        help="train, prune, rewind: find tickets",
        description="Climb a ladder (Algorithm 1, or its rivals) from the dense model down. "
        "What was trained before is not trained again; a ladder that was stopped goes on.",
    )
    _data_options(p)
    _spec_options(p)
    group = p.add_argument_group("ladder")
    meanings = explain(Ladder)

    def add(name: str, **how: Any) -> None:
        text = meanings.get(name, "").partition(": ")[2].replace("%", "%%")
        group.add_argument(f"--{name.replace('_', '-')}", default=None, help=text, **how)

    add("method", choices=METHODS)
    add("pruning_rate", type=float)
    add("rungs", type=int)
    group.add_argument(
        "--densities",
        type=_numbers(float),
        help="explicit densities instead of a rate, falling: 0.5,0.25,0.1",
    )
    add("criterion", choices=CRITERIA)
    add("scope", choices=SCOPES)
    add("rewind", choices=REWINDS)
    add("rewind_epoch", type=int)
    add("prune_from", choices=("best", "last"))
    group.add_argument(
        "--seeds", type=_numbers(int), help="one ladder a seed: 0,1,2 (default: the profile's)"
    )
    _workers_option(group)
    group.add_argument(
        "--plan",
        action="store_true",
        help="say what is recorded, what is missing and what it will cost; train nothing",
    )
    group.add_argument(
        "--figure", type=Path, metavar="FILE", help="draw Recall@20 against density into a .png"
    )
    p.set_defaults(do=do_ladder)


def _numbers(kind: type):
    def parse(text: str) -> tuple:
        return tuple(kind(word) for word in text.split(","))

    parse.__name__ = f"list of {kind.__name__}"
    return parse


def _workers_option(group) -> None:
    group.add_argument(
        "--workers", type=int, default=1, help="ladders side by side (0: one per core; default 1)"
    )


def _given(args: argparse.Namespace, cls: type) -> dict[str, Any]:
    """The settings of a dataclass that were given on the command line."""
    names = [f.name for f in dataclasses.fields(cls)]
    return {name: getattr(args, name) for name in names if getattr(args, name, None) is not None}


def _load(args: argparse.Namespace, protocol: str):
    from lthnb import sources

    return sources.load(
        args.source,
        protocol=protocol,
        split=args.split,
        leave=args.leave,
        split_seed=args.split_seed,
        progress=not args.quiet,
        **sources.options_of(args.option),
    )


def _prepared(args: argparse.Namespace):
    """Profile, spec, data and control, as the options have them."""
    from lthnb.profiles import profile

    base = profile(args.profile)
    spec = base.spec(args.backbone or "mf").with_model(**_given(args, Model))
    spec = spec.with_training(**_given(args, Training))
    data = _load(args, spec.training.protocol)
    return base, spec, data, _control(args)


def _control(args: argparse.Namespace):
    from lthnb.store.runs import Store
    from lthnb.training import Control

    deadline = None if args.time_budget is None else time.monotonic() + args.time_budget
    return Control(Store(), progress=not args.quiet, deadline=deadline, device=args.device)


def do_run(args: argparse.Namespace) -> int:
    from lthnb.lottery import train_dense

    _, spec, data, control = _prepared(args)
    spec = spec.with_training(order_seed=args.seed)
    _print_records([train_dense(spec, data, args.seed, control).record])
    return 0


def do_ladder(args: argparse.Namespace) -> int:
    from lthnb.standings import fields_of

    if args.figure:
        # First, so that a missing package is known before hours of training, not after.
        from lthnb.plots import ladder_figure
    base, spec, data, control = _prepared(args)
    ladder = base.ladder_of(**_given(args, Ladder))
    seeds = args.seeds if args.seeds is not None else base.seeds
    if args.plan:
        return _print_plan(ladder, spec, data, seeds, control)
    [field] = fields_of([(ladder, spec)], data, seeds, control, workers=args.workers)
    _print_records([rung.record for rungs in field.rungs for rung in rungs])
    print(field.finding)
    if base.name == "smoke":
        print("Profile smoke shows that everything runs, and proves nothing.")
    if args.figure:
        ladder_figure([field]).savefig(args.figure)
        print(f"drawn: {args.figure}")
    return 0


def _print_plan(ladder, spec, data, seeds, control) -> int:
    from lthnb.standings import fields_of
    from lthnb.steps import resolve
    from lthnb.training import seconds_per_epoch

    [field] = fields_of([(ladder, spec)], data, seeds, control, train_missing=False)
    print(f"{field!r}\n")
    print("rung  density  sparsity  " + "  ".join(f"seed {s}" for s in seeds))
    for rungs in zip(*field.rungs, strict=True):
        states = "  ".join(f"{r.record.key[:8] if r.record else 'missing':8}" for r in rungs)
        print(
            f"{rungs[0].number:4}  {rungs[0].density:7.4f}  {1 - rungs[0].density:8.4f}  {states}"
        )
    if not field.missing:
        print("\nEverything is recorded; nothing would be trained.")
        return 0
    each = seconds_per_epoch(resolve(spec, control.device), data, control)
    done = [r.record.epochs for rungs in field.rungs for r in rungs if r.record]
    t = spec.training
    low, high = _bill(each, spec, field.missing)
    print(
        f"\n{field.missing} trainings are missing, at about {each:.3g} s an epoch here "
        f"(measured now, evaluation included):\n"
        f"  at least {low} (patience {t.patience}), at most {high} (J = {t.epochs})"
    )
    if done:
        mean = sum(done) / len(done)
        print(
            f"  {_duration(mean * each * field.missing)} if they run as long as the {len(done)} "
            f"recorded ones ({mean:.0f} epochs)"
        )
    return 0


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _print_records(records) -> None:
    print("run       data        backbone  seed  density  epoch  Recall@20  NDCG@20  seconds")
    for r in records:
        print(
            f"{r.key[:8]}  {r.row['dataset'][:10]:10}  {r.row['backbone']:8}  "
            f"{r.row['seed']:4}  {r.density:7.4f}  {r.best_epoch:5}  "
            f"{r.metric('recall@20'):9.4f}  {r.metric('ndcg@20'):7.4f}  {r.seconds:7.1f}"
        )


# results


def _results_command(commands) -> None:
    p = commands.add_parser(
        "results", help="recorded runs and one's own: list, show, add, verify, replay, …"
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
    add.add_argument(
        "--without-masks",
        action="store_true",
        help="smaller; a replay trains first what they came of",
    )
    add.add_argument(
        "--table", action="store_true", help="their trained tables instead, which are large"
    )
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


def do_results(args: argparse.Namespace) -> int:
    from lthnb.store import adding
    from lthnb.store.runs import Store

    store = Store()
    if args.verb == "list":
        _print_records([store.find(key) for key in store.run_keys()])
        own = [key for key in store.own_keys() if not store.is_recorded_result(key)]
        print(
            f"{len(store.recorded_tables.keys)} runs in {store.results}, {len(own)} more in "
            f"{store.folder}"
        )
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
    else:
        return _replay(args, store)
    return 0


def _replay(args: argparse.Namespace, store) -> int:
    from lthnb.replays import replay
    from lthnb.sources import load_again
    from lthnb.store.files import StoreError
    from lthnb.training import Control

    control = Control(store, progress=not args.quiet, device=args.device)
    agree = True
    for record in [_found(store, prefix) for prefix in args.run]:
        protocol = record.spec["training"]["protocol"]
        data = load_again(record.data, protocol, not args.quiet, args.source)
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


# wanted


def _wanted_command(commands) -> None:
    p = commands.add_parser(
        "wanted",
        help="ladders that the book wants recorded; what is missing, and its training",
        description="List the ladders that the book wants recorded, what is missing of each and "
        "about how long that takes; with --train, train it. What was stopped goes on. Runs of the "
        "step that --device means are counted: cpu and cuda have runs of their own.",
    )
    p.add_argument(
        "word",
        nargs="*",
        help="only lines that hold all of these words, such as: lastfm LightGCN sizes",
    )
    p.add_argument("--all", action="store_true", help="complete lines, too")
    p.add_argument("--train", action="store_true", help="train what is missing, line by line")
    p.add_argument(
        "--record",
        action="store_true",
        help="copy what is finished into results/, bits of masks of the first seed alone; after "
        "training, also where that was stopped",
    )
    _workers_option(p)
    _running_options(p)
    p.set_defaults(do=do_wanted)


def do_wanted(args: argparse.Namespace) -> int:
    from lthnb import wanted
    from lthnb.config import ConfigError

    control = _control(args)
    store = control.store
    words = [word.lower() for word in args.word]
    lines = [
        one
        for one in wanted.everything()
        if all(word in wanted.line_said(one).lower() for word in words)
    ]
    if not lines:
        raise ConfigError(
            f"wanted: found no line that holds all of {', '.join(args.word)}; "
            "`python -m lthnb wanted --all` shows every line, with its data, model and purpose."
        )
    records = wanted.known(store)
    counted = [(one, len(wanted.there(one, records, store, [args.device]))) for one in lines]
    missing = [(one, count) for one, count in counted if count < one.trainings]
    recorded = [r for r in records if store.is_recorded_result(r.key)]
    _print_wanted(counted if args.all else missing, recorded)
    done, every = sum(count for _, count in counted), sum(one.trainings for one in lines)
    print(
        f"{done:,} of {every:,} trainings, lines that share one count it each; {len(missing)} of "
        f"{len(lines)} lines are not complete"
    )
    try:
        return _train_wanted([one for one, _ in missing] if args.train else [], control, args)
    finally:
        if args.record:
            from lthnb.store import adding

            keys = wanted.to_record(lines, store)
            adding.add(store, keys)
            print(f"{len(keys)} runs copied into {store.results}")


def _train_wanted(lines, control, args: argparse.Namespace) -> int:
    """Train line by line; one that fails is named, and the next one trained. Returns the exit
    code."""
    from lthnb import sources
    from lthnb.training import Stopped
    from lthnb.wanted import line_said

    failed, loaded = 0, {}
    for one in lines:
        print(f"training: {line_said(one)}", flush=True)
        which = one.source, one.spec.training.protocol
        try:
            if which not in loaded:
                loaded[which] = sources.load(one.source, protocol=which[1], progress=not args.quiet)
            one.train(loaded[which], control, args.workers)
        except Exception as error:
            if isinstance(error, Stopped) or not _is_ours(error):
                raise
            failed += 1
            print(f"lthnb: {line_said(one)}: {error}", file=sys.stderr)
    return 1 if failed else 0


def _print_wanted(counted, records) -> None:
    from lthnb.wanted import line_said, rest

    print("recorded     the rest, about  ladders")
    for one, count in counted:
        missing = one.trainings - count
        left = rest(missing, one, records).said(_duration) if missing else ""
        print(f"{count:4} of {one.trainings:3}  {left:>15}  {line_said(one)}")


# export


def _export_command(commands) -> None:
    p = commands.add_parser(
        "export",
        help="write the ticket of a finished run into a file to serve from",
        description="Write the ticket of a finished run: .safetensors packs it, .npz holds a scipy "
        "CSR matrix, .parquet a long table. Labels come along, so the run's data are read again; "
        "weights that the store lacks, as of a run in results/, are trained again and kept there.",
    )
    p.add_argument("run", help="the first digits of its key, as `results list` has it")
    p.add_argument("target", type=Path, help="name.safetensors, name.npz or name.parquet")
    group = p.add_argument_group("of .safetensors")
    group.add_argument(
        "--form",
        help="how the support is written: auto (default: the smallest), ids, bitmap, packed_ids, "
        "deltas, ragged, enumerative",
    )
    group.add_argument(
        "--values",
        help="float32 (default: every bit is kept), float16, bfloat16, or int8 with a scale a row",
    )
    group.add_argument(
        "--budget",
        help="what auto saves: bytes (default), or speed: read fastest at up to 1.3 times as many",
    )
    p.add_argument("--source", help="where a table of one's own lies")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, or cuda:1")
    p.add_argument("--quiet", action="store_true", help="no progress bars")
    p.set_defaults(do=do_export)


def do_export(args: argparse.Namespace) -> int:
    from lthnb.packing import Ticket, export, load
    from lthnb.packing.exports import check
    from lthnb.replays import reopen
    from lthnb.sources import load_again
    from lthnb.store.runs import Store
    from lthnb.training import Control

    given = {name: getattr(args, name) for name in ("form", "values", "budget")}
    how = {name: value for name, value in given.items() if value is not None}
    check(args.target, how)  # before a large table is read
    store = Store()
    record = _found(store, args.run)
    protocol = record.spec["training"]["protocol"]
    data = load_again(record.data, protocol, not args.quiet, args.source)
    run = reopen(record, data, Control(store, progress=not args.quiet, device=args.device))
    ticket = Ticket.of(run)
    path = export(ticket, args.target, **how)
    size, dense = path.stat().st_size, 4 * ticket.kept.size
    print(
        f"{path}: {size:,} bytes, labels included; the dense float32 table has {dense:,} "
        f"({dense / size:.1f} times as many)"
    )
    if path.suffix == ".safetensors":
        packed = load(path)
        for side in (packed.users, packed.items):
            print(f"  {side.rows:,} {side.name}: {side.form}, {side.value_kind}")
    print(f"scores: {ticket.about['scores']}")
    return 0


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
        help="load a source or a table: counts, warnings, and what a ladder costs here",
        description="Load a source or a table of your own, count it, and say what is worth knowing "
        "before anything is trained, and what a ladder will cost on this machine.",
    )
    describe.add_argument("source", help="a name from `data list`, or the path of a table")
    _source_arguments(describe)
    describe.add_argument(
        "--protocol", default="validated", choices=PROTOCOLS, help="default validated"
    )
    describe.add_argument("--profile", default="quick", help="whose ladder is priced: quick")
    describe.add_argument("--no-cost", action="store_true", help="do not measure what it costs")
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
    from lthnb.evaluation import evaluate_popularity
    from lthnb.profiles import profile

    base = profile(args.profile)  # refused before a large table is read
    if args.source in sources.SOURCES:
        known = sources.describe(args.source)
        print(f"{known['title']}\nterms: {known['terms']}\ncitation: {known['citation']}")
    data = _load(args, args.protocol)
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
    if not args.no_cost:
        print(f"\nwhat a ladder costs here, measured now (profile {base.name}):")
        for backbone in BACKBONES:
            print(f"  {backbone:9} {_price(base, backbone, data, args.protocol)}")
    if options := sources.option_help(args.source):
        print("\noptions (--option NAME=VALUE):")
    for line in options:
        print(f"  {line}")


def _price(base, backbone: str, data, protocol: str) -> str:
    """What the ladders of a profile cost on this machine, in a line."""
    from lthnb.steps import resolve
    from lthnb.store.runs import Store
    from lthnb.training import Control, seconds_per_epoch

    spec = base.spec(backbone, protocol=protocol)
    each = seconds_per_epoch(resolve(spec, "auto"), data, Control(Store(), progress=False))
    rungs = base.ladder_of("imp").trainings
    low, high = _bill(each, spec, rungs * len(base.seeds))
    return f"{each:.2g} s an epoch; {len(base.seeds)} seeds × {rungs} trainings: {low} to {high}"


def _bill(each: float, spec, trainings: int) -> tuple[str, str]:
    """The least and the most that so many trainings take, by patience and by J."""
    t = spec.training
    return (
        _duration(min(t.patience, t.epochs) * each * trainings),
        _duration(t.epochs * each * trainings),
    )


# notebooks and book


def _notebook_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("--profile", default="quick", help="smoke, quick (default) or paper")
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


def _is_ours(error: Exception) -> bool:
    """Whether an error says itself what a user can do about it."""
    return type(error).__module__.startswith("lthnb.")


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
    except Exception as error:
        from lthnb.training import Stopped

        if isinstance(error, Stopped):
            print(f"lthnb: {error}", file=sys.stderr)
            return EXIT[error.reason]
        if isinstance(error, ModuleNotFoundError):
            print(
                f"lthnb: this needs the package {error.name}, which is not installed; "
                "pip install 'lthnb[book]' (in a checkout: pip install '.[book]') brings it.",
                file=sys.stderr,
            )
            return 1
        if _is_ours(error):
            print(f"lthnb: {error}", file=sys.stderr)
            return 1
        raise


if __name__ == "__main__":
    sys.exit(main())
