"""One call from data to a small ticket: :func:`compress`."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from lthnb import stats
from lthnb.config import ConfigError, one_of
from lthnb.control import stopped_in_order
from lthnb.cutting import cuts
from lthnb.data import Interactions
from lthnb.face import (
    METRIC,
    Search,
    Ticket,
    no_search,
    prepared,
    settings_of,
    shown,
)
from lthnb.finders.bases import BASES, rotation
from lthnb.kept import TrainedRun
from lthnb.lottery import train_dense
from lthnb.packing import VALUES, table_bytes
from lthnb.pruning import Mask, prune
from lthnb.training import score_rounded

VALID = f"valid_{METRIC}"
L2S = (1e-4, 1e-3, 1e-2, 1e-1)
STEPS = 1000  # densities that are looked at for a number of bytes: one thousandth after another


def compress(
    data: Any,
    density: float | None = None,
    bytes: int | None = None,
    basis: str | Sequence[str] = ("pca", "varimax"),
    finetune: bool = False,
    values: str | None = None,
    l2s: Sequence[float] | None = None,
    backbone: str | None = None,
    **settings: Any,
) -> Ticket:
    """A small ticket without a search: dense models are trained, with the L2 weight that is best on
    the validation set, turned into other axes, in which fewer entries matter, and cut there.

    data: what `lthnb.imp` takes; or a finished search, whose dense models are cut as they are. Give
    one of

    - density: share of the entries that stay, up to 1, which rounds alone;
    - bytes: what the table may take in the ticket's file, the mask and the values with their
      scales; how many entries stay, and in which of `values`, is chosen on the validation set.

    basis: axes, or several to choose from on the validation set: ``pca``, ``varimax``, another of
    `finders.bases.BASES`, or empty for the table's own. finetune: train what is left on, from its
    trained values. values: ``float32``, ``float16`` or ``int8``; None: ``float32``, or with `bytes`
    whichever is best. l2s (1e-4, 1e-3, 1e-2, 1e-1): L2 weights to choose from, with the first seed;
    `l2` is one that is given. backbone (``mf``), seeds (3) and settings of model, training, store
    and control as of `lthnb.imp`; those of a search, such as `rounds` and `scheduler`, are refused.

    The ticket is that of the seed that is best on the validation set. Its `about` has `change`,
    what cutting does to the dense model's Recall@20 on test: the relative difference over all
    seeds, paired, with `low` and `high` of its 95 % interval from three seeds on; and `bytes`,
    `values` and `l2`.
    Raises ConfigError and DataError, which say what to do, and Stopped on Ctrl-C.
    """
    if (density is None) == (bytes is None):
        raise ConfigError(f"compress: found {density = } and {bytes = }, expected one of the two.")
    if density is not None and not (isinstance(density, int | float) and 0 < density <= 1):
        raise ConfigError(f"density: found {density!r}, expected a number above 0, at most 1.")
    if values is not None:
        one_of("values", values, VALUES)
    bases = [basis or ""] if basis is None or isinstance(basis, str) else list(basis)
    for name in filter(None, bases):
        one_of("basis", name, BASES)
    if not bases or not (bytes is None or (isinstance(bytes, int | float) and bytes > 0)):
        found = f"{bases} for basis and {bytes!r} for bytes"
        raise ConfigError(f"compress: found {found}, expected axes, and a number above 0.")
    no_search("compress", settings)
    given = {"backbone": backbone, "l2s": l2s}
    settings |= {name: value for name, value in given.items() if value is not None}
    quiet = not settings.get("progress", True)
    with tqdm(unit="run", delay=1, disable=quiet) as bar, stopped_in_order():
        dense = _dense(data, settings, bar)
        kinds = [values] if values else list(VALUES) if bytes is not None else ["float32"]
        chosen = _chosen(dense, kinds, bases, density, bytes)
        return _best([_cut(run, *chosen, finetune) for run in dense], dense, chosen[-1])


def _dense(data: Any, settings: dict[str, Any], bar: tqdm) -> list[TrainedRun]:
    """The dense models, one a seed."""
    if isinstance(data, Search):
        if rest := sorted(settings.keys() - {"progress"}):
            found = f"compress: found the setting {rest[0]!r} beside a search"
            raise ConfigError(f"{found}, whose dense models are cut as they are.")
        found = [rounds[0].run for rounds in data.rounds.values()]
        if found[0].spec.training.protocol != "validated":
            raise ConfigError("compress: found a search under 'paper', expected 'validated'.")
        return found
    l2s = settings.pop("l2s", L2S)
    l2s = [settings.pop("l2")] if "l2" in settings else l2s
    if not isinstance(l2s, Sequence):
        raise ConfigError(f"l2s: found {l2s!r}, expected several L2 weights; or give one as `l2`.")
    own, _, spec, _ = settings_of("omp", settings.pop("backbone", "mf"), settings)
    if spec.training.protocol != "validated" or not l2s:
        found = f"{spec.training.protocol!r} and {len(l2s)} of `l2s`"
        raise ConfigError(f"compress: found {found}, expected 'validated' and one or more.")
    data, seeds, control = prepared(data, spec, own)
    bar.total = len(l2s) + len(seeds) - 1

    def trained(l2: float, seed: int) -> TrainedRun:
        report = shown(bar, f"dense model, λ = {l2:g}, seed {seed}", [])
        one = spec.with_training(l2=float(l2), order_seed=seed)
        run = train_dense(one, data, seed, replace(control, report=report))
        bar.update()
        return run

    first = max((trained(l2, seeds[0]) for l2 in l2s), key=lambda run: run.record.row[VALID])
    return [first, *(trained(first.spec.training.l2, seed) for seed in seeds[1:])]


def _chosen(
    dense: Sequence[TrainedRun],
    kinds: Sequence[str],
    bases: Sequence[str],
    density: float | None,
    limit: int | None,
) -> tuple[float, str, str]:
    """The density, the kind of values and the axes with the best mean Recall@20 on the validation
    set, before any training: of the given density, or of the largest one, in steps of
    1/:data:`STEPS`, that fits into so many bytes."""
    found, least = [], []
    for basis in bases:
        tables = [_turned(run, basis) for run in dense]

        def size(step: int, kind: str, tables: Sequence[np.ndarray] = tables) -> int:
            kept = (_kept(table, dense[0].data, step / STEPS) for table in tables)
            return max(table_bytes(*both, kind) for both in zip(tables, kept, strict=True))

        for kind in kinds:
            at = density
            if limit is not None:
                least.append(size(1, kind))
                fits = partial(size, kind=kind)  # near 1 the mask shrinks, and bytes may fall
                steps = range(1, STEPS)
                whole = fits(STEPS) <= limit
                at = 1.0 if whole else bisect_right(steps, limit, key=fits) / STEPS
            if at:
                recall = []
                for run, table in zip(dense, tables, strict=True):
                    part = run.spec, run.data, table, _kept(table, run.data, at), kind, run.control
                    recall.append(score_rounded(*part, "valid")[METRIC])
                found.append((float(np.mean(recall)), at, kind, basis))
    if not found:
        raise ConfigError(
            f"bytes: found {limit:,}, expected at least {min(least):,}, for a thousandth of the "
            "entries; or a smaller embedding_size."
        )
    return max(found)[1:]


def _turned(run: TrainedRun, basis: str) -> np.ndarray:
    """The table of a run, float32 (rows, F), in some axes."""
    table = run.ensure_weights()
    return (table @ rotation(basis, table, run.data)).astype(np.float32) if basis else table


def _kept(table: np.ndarray, data: Interactions, density: float) -> np.ndarray:
    """The mask, bool (rows, F), of the largest entries of a table."""
    whole, keep = Mask.dense(*table.shape), (round(density * table.size),)
    return prune(whole, np.abs(table), keep, users=data.users).kept


def _cut(run: TrainedRun, density: float, values: str, basis: str, finetune: bool) -> Ticket:
    """The ticket of one dense model."""
    seed, method = run.record.row["seed"], "finetune" if finetune else "cut"
    [trained] = cuts(run, method, [density], seed, basis)
    return Ticket.of(trained).rounded(values)


def _best(tickets: Sequence[Ticket], dense: Sequence[TrainedRun], basis: str) -> Ticket:
    """The ticket of the seed that is best on the validation set, with what all of them lose."""
    both = zip(tickets, dense, strict=True)
    recall = [(ticket.about[METRIC], run.record.row[METRIC]) for ticket, run in both]
    if not all(dense > 0 for _, dense in recall):
        raise ConfigError(
            "compress: found a dense model with a Recall@20 of 0 on test, or no test pairs; so "
            "nothing can be said of what is lost. Bring more data, or train it longer."
        )
    changes = np.array([ours / dense - 1 for ours, dense in recall])
    found = stats.over_seeds(changes)
    text = stats.interval(pd.DataFrame([found])).item()
    plain = {n: None if np.isnan(found[n]) else found[n] for n in ("n", "mean", "low", "high")}
    ticket = max(tickets, key=lambda one: one.about[VALID])
    axes = f"{basis} axes" if basis else "its own axes"
    chosen = f"a dense table cut in {axes}; of the seeds the best on the validation set"
    beside = f"{text} in Recall@20 on test, {len(changes)} seed" + "s" * (len(changes) > 1)
    about = {"chosen": chosen, "change": plain, "against the dense model": beside}
    return replace(ticket, about={**ticket.about, **about})
