"""Training what a chapter compares, on any data; and training again what is recorded."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, cpu_count, delayed, parallel_config
from tqdm import tqdm

from lthnb.config import BACKBONES, Compressed, ConfigError, Dynamic, Schedule, Seeded, one_of
from lthnb.control import Control, Stopped
from lthnb.cutting import carried, cuts, dynamic, early, learned, turning_search
from lthnb.data import DataError, Interactions
from lthnb.datasets import sources
from lthnb.experiments import complete, on_data, rows_of, table, tuned
from lthnb.experiments.grid import AGAIN, RECORDED, Search, grid, of_profile
from lthnb.experiments.replays import replay
from lthnb.finders.interactions import UNTRAINED
from lthnb.finders.pairs import noisy
from lthnb.kept import TrainedRun
from lthnb.lottery import derived_seed, rounds_of, start_of, tags_of, train_dense
from lthnb.store.files import say
from lthnb.store.records import search_row, search_tags
from lthnb.store.results import results
from lthnb.store.runs import Store
from lthnb.thinning import data_again, derived, thinned_search
from lthnb.training import train

# Methods that `lottery` has not.
FINDERS = ("cut", "finetune", "dynamic", "early", "carried", "pep", "pairs")
UNRECORDED = "quick"  # the profile of data that are not recorded


def chapter_rows(chapter: str, p: Any) -> pd.DataFrame:
    """The rows that a chapter's notebook shows, by its parameters.

    p: `dataset` and `backbone`, lists (empty: all that is recorded, or where something is trained
    MovieLens and MF); `embedding_size` (0: the settings'), `seeds` (empty: the settings'),
    `protocol` (empty: the settings'); `profile`: ``recorded`` shows what is recorded and trains
    nothing, the others train what is missing and show that; `fresh`: train again what is shown;
    `workers`: searches side by side (empty: one a core), or the address of a Dask scheduler whose
    workers train; :data:`sources.PARAMETERS` and `split`, of your own table. Data that are not
    recorded are trained under ``quick``. Raises ConfigError for a wrong value.
    """
    one_of("profile", p.profile, [RECORDED, *grid()["profiles"]])
    for name in p.backbone:
        one_of("backbone", name, BACKBONES)
    profile = p.profile
    if profile == RECORDED:
        recorded = results()
        known = set(table(chapter, frame=recorded)["dataset"]) if p.dataset else set()
        if others := [name for name in p.dataset if name not in known]:
            say(f"{', '.join(others)}: not recorded; trained under profile {UNRECORDED!r}.")
            profile = UNRECORDED
    where = {"dataset": p.dataset, "backbone": p.backbone, "seed": p.seeds}
    where |= {"embedding_size": p.embedding_size, "protocol": p.protocol}
    where = {name: value for name, value in where.items() if value}
    control = Control(Store())
    if profile == RECORDED:
        frame = table(chapter, frame=recorded, **where)
    else:
        changes = {n: v for n, v in where.items() if n in ("embedding_size", "protocol")}
        changes |= {"seeds": p.seeds} if p.seeds else {}
        on = p.dataset or ["movielens"], p.backbone or ["mf"]
        searches = of_profile(chapter, profile, *on, **changes)
        frame = run(searches, control, *_places(p.workers), p)
    if not len(frame):
        say(f"{chapter}: nothing is recorded of {', '.join(map(str, where.values()))}.")
    if p.fresh:
        for one in reopened(frame.drop_duplicates("key"), p):
            print(replay(one.record, one.data, one.control), flush=True)
    return frame


def _places(workers: str) -> tuple[int, str]:
    """How many searches side by side (0: one a core), and the address of a scheduler."""
    if "://" in workers:
        return 1, workers
    if not workers.isdecimal() and workers:
        raise ConfigError(
            f"workers: found {workers!r}, expected a number, or tcp://… of a scheduler."
        )
    return int(workers or 0), ""


def run(
    searches: Sequence[Search],
    control: Control,
    workers: int = 1,
    scheduler: str = "",
    p: Any = None,
) -> pd.DataFrame:
    """Train what is missing of some searches, and return their rows; those whose λ is to be tuned
    come last. workers: processes that share the cores (0: one a core); they meet in the store
    alone, so that the rows are the same. scheduler: address of a Dask scheduler whose workers train
    in their place, to the same rows. p: as of :func:`chapter_rows`."""
    data: dict[tuple[str, str, int, str], Interactions] = {}
    for one in searches:
        if _which(one) not in data:
            name, protocol, seed, noise = _which(one)
            found = sources.load_with(name, protocol, p, progress=control.progress, split_seed=seed)
            data[_which(one)] = noisy(found, noise)
    digests = [one.digest for one in data.values()]
    own = {one: replace(one, dataset=data[_which(one)].name) for one in searches}
    found: list[Search] = []
    for last in (False, True):
        group = {one: own[one] for one in own if (one.settings["l2"] == "tuned") == last}
        frame = on_data(results(live=True), digests)
        named = dict(zip(group, tuned(list(group.values()), frame), strict=True))
        done = complete(list(named.values()), frame) if named else []
        todo = {a: b for (a, b), whole in zip(named.items(), done, strict=True) if not whole}
        _announce(list(todo.values()), frame)
        work = [partial(train_search, one, data[_which(asked)]) for asked, one in todo.items()]
        _side_by_side(work, control, workers, scheduler)
        found += named.values()
    return rows_of(found, on_data(results(live=True), digests))


def _which(one: Search) -> tuple[str, str, int, str]:
    return one.dataset, one.settings["protocol"], one.split_seed, one.noise


def _announce(todo: Sequence[Search], frame: pd.DataFrame) -> None:
    """Say what will be trained and about how long that takes, told from rows alike."""
    count = sum(len(one.rows()) for one in todo)
    if not count:
        return
    seconds = 0.0
    for one in todo:
        alike = frame[(frame["dataset"] == one.dataset) & (frame["backbone"] == one.backbone)]
        for name in ("embedding_size", "batch_size", "max_epochs"):
            alike = alike[alike[name] == one.settings[name]]
        seconds += alike["seconds"].median() * len(one.rows()) if len(alike) else 0.0
    about = f"about {seconds / 60:.0f} min by runs alike" if seconds else "nothing alike is known"
    say(f"up to {count} trainings in {len(todo)} searches: {about}.")


def train_search(one: Search, data: Interactions, control: Control) -> None:
    """Train a search for what it leaves in the store."""
    if one.method == "dense":
        train_dense(one.spec, data, one.seed, control)
    elif one.method == "lcm":
        _train_lcm(one, data, control)
    elif one.method in AGAIN:
        _train_changed(one, data, control)
    else:
        for _ in _found(one, data, control):
            pass


def _found(one: Search, data: Interactions, control: Control) -> Iterator[Any]:
    """The trainings of a search, one after the other, as they are done."""
    if not one.basis and one.method not in FINDERS and one.criterion not in UNTRAINED:
        return rounds_of(one.schedule, one.spec, data, control)
    dense = train_dense(one.spec, data, one.seed, control)
    match one.method:
        case "dynamic":
            return dynamic(dense, one.densities, one.seed, Dynamic(**one.policy))
        case "early":
            return early(dense, one.densities, one.seed)
        case "carried":
            spec = one.spec.with_training(order_seed=one.of["seed"])
            other = train_dense(spec, data, one.of["seed"], control)
            return carried(dense, other, one.densities, one.seed, one.basis)
        case "pep":
            return learned(dense, one.densities, one.seed)
        case "pairs":
            if "rate" in one.policy:
                imp = Schedule("imp", one.policy["rate"], one.policy["round"], seed=one.seed)
                *_, last = rounds_of(imp, one.spec, data, control)
                dense = last.run
            return thinned_search(dense, one.criterion, one.densities, one.seed, one.policy)
        case "imp":
            return turning_search(dense, one.rate, max(one.rounds), one.seed, one.basis)
    return cuts(dense, one.method, one.densities, one.seed, one.basis, one.criterion)


def _train_lcm(one: Search, data: Interactions, control: Control) -> None:
    """LCM (§4.4): maps from a dense teacher's frozen table to a small one."""
    large = one.spec.with_model(embedding_size=one.of["embedding_size"])
    large = large.with_training(learning_rate=one.of["learning_rate"])
    teacher = train_dense(large, data, one.seed, control)
    spec = one.spec.with_model(compression="linear")
    lcm = train(spec, data, Compressed(teacher.key, one.seed), None, control, one.seed)
    tags, put = search_tags("lcm", one.seed), control.store.put_search
    put(search_row(tags, teacher.key, 0, 1.0, teacher.key))
    put(search_row(tags, teacher.key, 1, one.densities[0], lcm.key))


def _train_changed(one: Search, data: Interactions, control: Control) -> None:
    """A search's tickets again, under their own masks, with half of their seed changed."""
    tags, put = {**tags_of(one.schedule), "method": one.method}, control.store.put_search
    dense, *rounds = rounds_of(one.schedule, one.spec, data, control)
    for number, run, _ in rounds:
        if number not in one.rounds:
            continue
        spec, init = one.spec, Seeded(one.seed)
        if one.method == "other_start":  # the one that `reinit` has at this round
            init = start_of(replace(one.schedule, rewind="reinit"), number, "", "")
        else:
            spec = spec.with_training(order_seed=derived_seed(one.seed, "another order"))
        ticket = train(spec, data, init, run.record.pruning, control, one.seed)
        put(search_row(tags, dense.run.key, 0, 1.0, dense.run.key))
        put(search_row(tags, dense.run.key, number, ticket.record.density, ticket.key))


def data_of(rows: pd.DataFrame, p: Any) -> dict[str, Interactions]:
    """The data of some rows, by `data_digest`, split as theirs were."""
    store, found = Store(), {}
    for row in rows.drop_duplicates("data_digest").itertuples():
        if row.source == "table":
            for name in [name for name in p.dataset if name not in sources.SOURCES]:
                base = sources.load_with(name, row.protocol, p)
                with contextlib.suppress(DataError):  # pairs of another table
                    one = derived(base, store.find(row.key), Control(store))
                    found[one.digest] = one
        else:
            found[row.data_digest] = data_again(store.find(row.key), Control(store))
    return found


def reopened(rows: pd.DataFrame, p: Any) -> list[TrainedRun]:
    """The finished runs of some rows, one a row: `ensure_mask()` and `ensure_weights()` train again
    what is not kept."""
    control, data = Control(Store()), data_of(rows, p)
    both = zip(rows["key"], rows["data_digest"], strict=True)
    return [TrainedRun(control.store.find(key), data[digest], control) for key, digest in both]


def masks_of(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Key → mask, bool (users + items, F), of the runs whose masks are kept: recorded ones of first
    seeds, and all of one's own."""
    store, found = Store(), {}
    for key in dict.fromkeys(rows["key"]):
        record = store.find(key)
        mask = store.find_mask(record.pruning, record.shape)
        if mask is not None:
            found[key] = mask.kept
    return found


def _done_or_stopped(work: Callable[[Control], Any], control: Control) -> Stopped | None:
    """In a worker: a stop is returned, not raised, so that the others come to their own ends."""
    try:
        work(control)
    except Stopped as stop:
        return stop
    return None


def _side_by_side(work: Sequence[Callable], control: Control, workers: int, scheduler: str) -> None:
    """Call each with the control, in this process, side by side, or on a cluster."""
    if scheduler and work:
        from lthnb.cluster import Cluster  # Dask takes a second to import

        return Cluster(scheduler).side_by_side(work, control)
    workers = min(workers or cpu_count(), len(work))
    if workers <= 1:
        for one in work:
            one(control)
        return
    threads, me = max(1, cpu_count() // workers), os.getpid()
    with parallel_config("loky", n_jobs=workers, inner_max_num_threads=threads):
        # A worker whose parent was killed stops at the next epoch's end.
        apart = replace(control, progress=False, owner=me)
        done = Parallel(return_as="generator_unordered")(
            delayed(_done_or_stopped)(one, apart) for one in work
        )
        bar = tqdm(done, total=len(work), unit="search", disable=not control.progress)
        stopped = [stop for stop in bar if stop is not None]
    if stopped:
        raise stopped[0]
