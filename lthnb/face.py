"""What one holds in a notebook: a search for tickets, and a ticket.

`lthnb.imp`, `lthnb.omp` and `lthnb.random_pruning` search, and return a :class:`Search`; its
`best()` is a :class:`Ticket`, which recommends, and which `lthnb.open` reads back from one file.
"""

from __future__ import annotations

import html
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import scipy.sparse as sp
import torch
from tqdm import tqdm

from lthnb import packing, stats
from lthnb.config import ConfigError, Model, Schedule, Spec, Training, one_of
from lthnb.control import Control, stopped_in_order
from lthnb.data import DataError, Interactions, card
from lthnb.datasets import sources
from lthnb.experiments.selection import chosen_on, sparsest
from lthnb.kept import TrainedRun, final_mask
from lthnb.kernels import ranking
from lthnb.lottery import Criterion, Round, rounds_of, train_dense
from lthnb.models import BACKBONES
from lthnb.store.results import SCHEMAS, join, to_frame
from lthnb.store.runs import Store
from lthnb.thinning import thinned_search

FIRST = ("round", "density", "seed", "recall@20", "ndcg@20", "valid_recall@20")
FIRST += ("best_epoch", "epochs", "seconds")  # columns of a search's table, in front
METRIC = "recall@20"
SEARCHING = {f.name for f in fields(Schedule)} | {"scheduler"}  # settings that a search alone reads
SHOWN_EVERY = 0.5  # seconds between two looks at a training that is under way


def imp(data: Any, backbone: str = "mf", **settings: Any) -> Search:
    """Iterative magnitude pruning (Algorithm 1): train, prune the smallest entries, rewind, repeat.

    data: `lthnb.load`'s, or what it takes. backbone: ``mf`` or ``lightgcn``. settings:

    - rounds (8): prunings; round 0 is the dense model. rate (0.2): share of the kept entries that
      each prunes. densities: shares to keep instead, falling.
    - seeds (3): how many searches, or a list of seeds. A seed sets the initial table and the order
      of the data.
    - rewind: ``rewind`` (to the initial table), ``reinit``, ``continue`` or ``late`` with
      `rewind_epoch`. criterion: ``magnitude``, ``row_rank``, ``row_floor``, ``columns``, or one's
      own function from weights (users + items, F) and a seed to scores, of which the lowest are
      pruned. scope: ``join``, ``user``, ``item`` or ``user_item``. prune_from: ``best`` or ``last``
      epoch.
    - embedding_size (32), l2 (1e-4), learning_rate (1e-3), batch_size (2048), epochs (1000),
      patience (100), protocol (``validated``), and all other settings of `config.Model` and
      `config.Training`.
    - progress (True): a bar. store: where runs are kept; or in its place control: a
      `control.Control`, which has a store, for a device or a deadline. scheduler: the address of a
      Dask scheduler, whose workers train.

    What was trained before is not trained again, and a search that was stopped goes on. Raises
    ConfigError and DataError, which say what to do, and Stopped on Ctrl-C.
    """
    return _search("imp", data, backbone, settings)


def omp(data: Any, backbone: str = "mf", **settings: Any) -> Search:
    """One-shot magnitude pruning: the trained dense table is pruned to each density at once, and
    what is kept is trained from the initial table. Settings as of :func:`imp`; the densities are
    those that `rounds` and `rate` come by."""
    return _search("omp", data, backbone, settings)


def random_pruning(data: Any, backbone: str = "mf", **settings: Any) -> Search:
    """Random masks at the same densities, over an initial table of their own. Settings as of
    :func:`imp`."""
    return _search("rp", data, backbone, settings)


def prune_interactions(
    data: Any,
    share: float = 0.2,
    criterion: str = "user-loss",
    backbone: str = "mf",
    seed: int = 0,
    **settings: Any,
) -> Interactions:
    """The data without the training pairs that a model trained on all of them could do without.

    share: of the training pairs, dropped; each user keeps one. criterion: ``user-loss``, ``loss``,
    ``agreement``, ``learning``, ``rare`` or ``random`` (`thinning.CRITERIA`). Settings of model,
    training, store and control as of :func:`imp`; those of a search, such as `rounds` and `seeds`,
    are refused. `data.dropped_pairs` says which went, by label; they are neither trained on, nor
    drawn as negatives, nor recommended. Valid and test stay as they are. Raises ConfigError and
    DataError, which say what to do, and Stopped on Ctrl-C.
    """
    if not isinstance(share, int | float) or not 0 < share < 1:
        raise ConfigError(f"share: found {share!r}, expected a number between 0 and 1.")
    no_search("prune_interactions", settings, "seeds")
    own, _, spec, _ = settings_of("omp", backbone, settings | {"seeds": [seed]})
    spec = spec.with_training(order_seed=seed)
    data, _, control = prepared(data, spec, own)
    with stopped_in_order():
        dense = train_dense(spec, data, seed, replace(control, progress=own["progress"]))
        return list(thinned_search(dense, criterion, (1 - share,), seed))[-1].run.data


def evaluate(
    user_vectors: Any, item_vectors: Any, data: Interactions, part: str = "test"
) -> dict[str, float]:
    """Recall, NDCG and the rest at 5, 10 and 20 of any model whose scores are inner products.

    user_vectors: (users, F), item_vectors: (items, F), in the order of `data.user_labels` and
    `data.item_labels`. part: ``test`` or ``valid``. Every item is ranked for every user but those
    that the user has in train (and, for test, in valid). Raises DataError where the shapes do not
    fit, a vector is not finite or the part is empty, as in a ticket's file, and ConfigError for
    another part.
    """
    one_of("part", part, ("test", "valid"))
    if not isinstance(data, Interactions) or not getattr(data, part).nnz:
        found = "no pairs in it" if isinstance(data, Interactions) else f"a {type(data).__name__}"
        raise DataError(f"evaluate: found {found}, expected data with a {part} part (lthnb.load).")
    vectors = [np.asarray(v, np.float32) for v in (user_vectors, item_vectors)]
    shapes = tuple(v.shape for v in vectors)
    size = shapes[0][1] if vectors[0].ndim == 2 else 0
    if shapes != ((data.users, size), (data.items, size)):
        raise DataError(
            f"evaluate: found user vectors of shape {shapes[0]} and item vectors of {shapes[1]}, "
            f"expected ({data.users}, F) and ({data.items}, F), a row for each label of the data."
        )
    if not all(np.isfinite(one).all() for one in vectors):
        raise DataError("evaluate: found a vector that is not finite, expected numbers.")
    return ranking.evaluate(torch.from_numpy(np.concatenate(vectors)), data, part).means()


def open_ticket(path: Path | str) -> Ticket:
    """A ticket from the file that :meth:`Ticket.save` wrote. Raises PackingError for another."""
    found = packing.load(Path(path))
    about, known, labels = found["about"], found["known"], found["labels"]
    none = sp.csr_matrix(known["train"].shape, dtype=np.int8)
    data = Interactions(
        about["dataset"], known["train"], known["valid"], none, labels["users"], labels["items"]
    )
    return Ticket(found["table"], found["kept"], data, Model(**about["model"]), about)


def _search(method: str, data: Any, backbone: str, settings: dict[str, Any]) -> Search:
    scheduler = settings.pop("scheduler", "")
    own, schedule, spec, criterion = settings_of(method, backbone, settings)
    data, seeds, control = prepared(data, spec, own)

    def of(seed: int) -> tuple[Schedule, Spec, Interactions]:
        return replace(schedule, seed=seed), spec.with_training(order_seed=seed), data

    if scheduler:
        from lthnb.cluster import Cluster  # Dask takes a second to import

        work = [lambda c, s=s: deque(rounds_of(*of(s), c, criterion), 0) for s in seeds]
        Cluster(scheduler).side_by_side(work, replace(control, progress=own["progress"]))
    rounds: dict[int, list[Round]] = {}
    last = len(schedule.densities) or schedule.rounds
    with tqdm(total=(last + 1) * len(seeds), unit="run", disable=not own["progress"]) as bar:
        for seed in seeds:
            rounds[seed] = found = []
            report = shown(bar, f"seed {seed}, round {{}} of {last}", found)
            with stopped_in_order():
                for trained in rounds_of(*of(seed), replace(control, report=report), criterion):
                    found.append(trained)
                    bar.update()
        bar.set_postfix_str("")
    return Search(data, spec, schedule, {s: tuple(r) for s, r in rounds.items()})


def no_search(call: str, settings: dict[str, Any], *more: str) -> None:
    """Refuse settings of a search, and more of its kind, which a call would not read."""
    if ignored := sorted(settings.keys() & {*SEARCHING, *more}):
        raise ConfigError(f"{call}: found the setting {ignored[0]!r}, which is a search's.")


def settings_of(
    method: str, backbone: str, settings: dict[str, Any]
) -> tuple[dict[str, Any], Schedule, Spec, Criterion | None]:
    """What the settings of a call come to: those that are the call's own, then schedule, spec and
    criterion. Raises ConfigError for a name that is no setting."""
    own = {"seeds": 3, "progress": True, "store": None, "control": None}
    named = {cls: {f.name for f in fields(cls)} for cls in (Model, Training, Schedule)}
    hidden = {"order_seed", "seed", "method", "backbone", "compression"}
    known = sorted({*own}.union(*named.values()) - hidden)
    for name in settings:
        if name in sources.PARAMETERS:
            found = f"setting: found {name!r}, which is an option of the data"
            raise ConfigError(f"{found}: data = lthnb.load(…, {name}=…), then pass that.")
        one_of("setting", name, known)
    given, criterion = own | {"rounds": 8, "rate": 0.2} | settings, None
    if callable(given.get("criterion")):
        criterion = Criterion.of(given.pop("criterion"))
    parts = {cls: {k: v for k, v in given.items() if k in named[cls]} for cls in named}
    spec = Spec(Model(backbone=backbone, **parts[Model]), Training(**parts[Training]))
    schedule = Schedule(method=method, **parts[Schedule])
    return {name: given[name] for name in own}, schedule, spec, criterion


def prepared(data: Any, spec: Spec, own: dict[str, Any]) -> tuple[Interactions, list[int], Control]:
    """Data, seeds and control of a call: what `data`, and `seeds`, `store` and `control` of `own`
    come to. Raises ConfigError for no seeds, or one twice, and for two stores."""
    if own["store"] is not None and own["control"] is not None:
        raise ConfigError("store: found both `store` and `control`, whose store is used; give one.")
    if not isinstance(data, Interactions):
        data = sources.load(data, protocol=spec.training.protocol)
    data = data.for_protocol(spec.training.protocol) if data.valid.nnz else data
    seeds = range(own["seeds"]) if isinstance(own["seeds"], int) else own["seeds"]
    seeds = list(seeds) if isinstance(seeds, Iterable) else []
    if not seeds or len(set(seeds)) != len(seeds):
        raise ConfigError(f"seeds: found {own['seeds']!r}, expected one or more, each once.")
    return data, seeds, replace(own["control"] or Control(Store(own["store"])), progress=False)


def shown(bar: tqdm, where: str, done: list[Round]) -> Callable[[str], None]:
    """What puts into a bar which round a search is at, and now and then how its training does."""
    last = 0.0

    def report(text: str) -> None:
        nonlocal last
        if time.monotonic() - last > SHOWN_EVERY:
            bar.set_description_str(where.format(len(done)), refresh=False)
            bar.set_postfix_str(text)
            last = time.monotonic()

    return report


@dataclass(frozen=True, eq=False)
class Search:
    """A finished search, with all its seeds: `table`, `summary`, `plot()` and `best()`."""

    data: Interactions
    spec: Spec
    schedule: Schedule
    rounds: dict[int, tuple[Round, ...]]

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a run, by seed and round; the columns are those of `results/README.md`."""
        rounds = [one for found in self.rounds.values() for one in found]
        runs = {one.run.key: one.run.record.row for one in rounds}
        searches = pa.Table.from_pylist([one.row for one in rounds], SCHEMAS["searches"])
        found = pa.Table.from_pylist([*runs.values()], SCHEMAS["runs"])
        frame = join(to_frame(searches), to_frame(found))
        rest = [name for name in frame.columns if name not in FIRST]
        return frame[[*FIRST, *rest]]

    @property
    def summary(self) -> pd.DataFrame:
        """One row for each density, over seeds: Recall@20 on test, its relative difference to the
        dense model of the same seed with a 95 % interval, and whether the ticket is non-inferior on
        the part that chooses; both are missing below three seeds."""
        means = self.table.groupby(self._by)[["density", METRIC]].mean()
        shown = means.join(self._differences(METRIC)[["n", "mean", "low", "high"]])
        lower = self._differences(chosen_on(self.table))["lower"]
        fine = stats.non_inferior(lower).astype("boolean").mask(lower.isna())
        return shown.rename(columns={"mean": "difference"}).assign(non_inferior=fine)

    def _differences(self, column: str) -> pd.DataFrame:
        """The paired relative differences of each round to the dense model, over seeds."""
        frame = self.table.assign(difference=stats.to_dense(self.table, column))
        return stats.summary(frame, self._by).set_index(self._by)

    @property
    def _by(self) -> str:
        """IMP's rounds; what is pruned once has densities alone."""
        return "round" if self.schedule.method == "imp" else "density"

    def best(self) -> Ticket:
        """The ticket to use: of the sparsest density that is non-inferior to the dense model on the
        validation set (one-sided 95 %, margin 1 %, from three seeds on), else of the density with
        the best mean there; and of its seeds the one that is best there. `ticket.about["chosen"]`
        says which of the two it was.

        Weights that are not kept, as of recorded runs, are trained again first.
        """
        rows, why = self.table, "there is no ticket, only the dense model"
        on = chosen_on(rows)
        if (rows["round"] > 0).any():
            rows = sparsest(rows.assign(choice=stats.to_dense(rows, on)))
            part = "test" if on == METRIC else "the validation set"
            why = f"no density is non-inferior on {part}; the best mean there"
            if len(self.rounds) < stats.LEAST_SEEDS:
                why = f"the best mean on {part}; three seeds would tell what is non-inferior"
            if rows["sure"].all():
                why = f"the sparsest density that is non-inferior on {part}"
        key = rows.loc[rows[on].idxmax(), "key"]
        run = next(r.run for rounds in self.rounds.values() for r in rounds if r.run.key == key)
        return Ticket.of(run, why)

    def plot(self) -> Any:
        """Recall@20 on test against density, a mean over seeds with its 95 % interval (from three
        seeds on), beside the dense model. Returns matplotlib's Axes."""
        try:
            import matplotlib.pyplot as plt
            import seaborn as sns
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"plot: needs {error.name}, which is not installed; `pip install 'lthnb[book]'`."
            ) from error

        _, axes = plt.subplots(figsize=(7, 4))
        means = self.table.groupby(self._by)["density"].mean()
        frame = self.table.assign(density=self.table[self._by].map(means))
        sns.lineplot(
            frame, x="density", y=METRIC, marker="o", errorbar=stats.t95, err_style="bars", ax=axes
        )
        dense = frame[frame["round"] == 0][METRIC].mean()
        axes.axhline(dense, ls=":", color="0.4", label="dense model")
        axes.invert_xaxis()
        axes.set(xlabel="density: share of entries that are kept", ylabel="Recall@20 on test")
        axes.set_title(f"{self!r}", fontsize=10)
        axes.legend()
        return axes

    def __repr__(self) -> str:
        model, seeds = self.spec.model, len(self.rounds)
        how = {"rp": "random masks"}.get(self.schedule.method, self.schedule.method.upper())
        return (
            f"{how} on {self.data.name}, {model.backbone}, F = {model.embedding_size}, "
            f"{seeds} seed" + "s" * (seeds > 1)
        )

    def _repr_html_(self) -> str:
        share, relative = "{:.1%}".format, "{:+.1%}".format
        formats = {"density": share, METRIC: "{:.4f}".format}
        formats |= dict.fromkeys(("difference", "low", "high"), relative)
        shown = self.summary.reset_index().to_html(formatters=formats, na_rep="–", index=False)
        return f"<b>{html.escape(repr(self))}</b>, Recall@20 on test{shown}"


@dataclass(frozen=True, eq=False)
class Ticket:
    """A trained ticket that recommends.

    table: float32 (users + items, F), pruned entries zero; kept: bool, its mask. data: labels, and
    the pairs that are known already. about: plain data: where it comes from, how good it is.
    """

    table: np.ndarray
    kept: np.ndarray
    data: Interactions
    model: Model
    about: dict[str, Any]

    @classmethod
    def of(cls, run: TrainedRun, chosen: str = "") -> Ticket:
        """The ticket of a finished run; weights and mask that are not kept are made again."""
        weights, row = run.ensure_weights(), run.record.row
        kept = final_mask(run.spec, run.ensure_mask().kept, weights)
        table = np.where(kept, weights, 0).astype(np.float32)
        names = ("key", "dataset", "density", "seed", "l2", METRIC, "ndcg@20", f"valid_{METRIC}")
        about = {name: row[name] for name in names}
        model = run.spec.model
        about |= {"chosen": chosen, "model": model.described()}
        return cls(table, kept, run.data, model, about)

    @property
    def density(self) -> float:
        """Share of the entries that are kept."""
        return float(self.kept.mean())

    @cached_property
    def vectors(self) -> torch.Tensor:
        """What scores are inner products of, (users + items, F): the table, propagated over the
        training graph for LightGCN."""
        backbone = BACKBONES[self.model.backbone](self.model, self.data, torch.float32, "cpu")
        with torch.no_grad():
            return backbone.outputs(torch.from_numpy(self.table))

    def recommend(self, user: Any, n: int = 10) -> pd.DataFrame:
        """The n best items for a user, best first, without those that the user has in train or
        valid: `item` (its label), `score`, and what else is known of the item.

        user: a label, also as text where labels are numbers. Raises DataError, with the nearest
        label, where there is no such user, and for an n that the catalogue does not have.
        """
        data = self.data
        row = data.user_row(user)
        if not isinstance(n, int | np.integer) or not 1 <= n <= data.items:
            raise DataError(
                f"n: found {n!r}, expected a whole number, 1 to {data.items}, the items there are."
            )
        vectors = self.vectors
        best = ranking.rank(vectors[[row]], vectors[data.users :], data.known[[row]], n)[0]
        best = best[best >= 0]
        scores = (vectors[data.users :][best] @ vectors[row]).numpy()
        more = {name: values[best] for name, values in data.item_info.items()}
        return pd.DataFrame({"item": data.item_labels[best], "score": scores, **more})

    def save(self, path: Path | str, values: str | None = None) -> Path:
        """Write the ticket, its labels and the known pairs as one safetensors file.

        values: ``float32`` (every bit is kept), ``float16``, or ``int8`` with a scale for each row;
        None: as :func:`compress` chose, else ``float32``. The file's `about` has the Recall of what
        is in it, where the data have a test part. Returns the path. Raises StoreError where the
        operating system refuses.
        """
        if Path(path).is_dir():
            raise DataError(f"{path}: found a folder, expected a file, such as ticket.safetensors.")
        usual = self.about.get("values", "float32")
        ticket = self if values in (None, usual) else self.rounded(values)
        labels = {"users": self.data.user_labels, "items": self.data.item_labels}
        known = {"train": self.data.train, "valid": self.data.known - self.data.train}
        contents = self.table, self.kept, known, labels, ticket.about, values or usual
        return packing.save(Path(path), *contents)

    def rounded(self, values: str) -> Ticket:
        """The ticket as a file with such `values` (see :meth:`save`) gives it back. Its `about` has
        the Recall of that where the data have a test part, the kind of values, and the bytes of the
        table in the file."""
        table = packing.decode(packing.encode(self.table, self.kept, values), self.kept)
        size = packing.table_bytes(self.table, self.kept, values)
        about, ticket = {**self.about, "values": values, "bytes": size}, replace(self, table=table)
        if values != "float32" and self.data.test.nnz:
            for part, before in (("test", ""), ("valid", "valid_")):
                means = ranking.evaluate(ticket.vectors, self.data, part).means()
                found = {before + name: value for name, value in means.items()}
                about |= {name: found[name] for name in found if name in about}
        return replace(ticket, about=about)

    def __repr__(self) -> str:
        about = self.about
        return (
            f"Ticket({about['dataset']}, {self.model.backbone}, density {self.density:.3f}, "
            f"Recall@20 {about[METRIC]:.4f} on test, seed {about['seed']}, run {about['key'][:8]})"
        )

    def _repr_html_(self) -> str:
        about = {"chosen": self.about["chosen"], "density": f"{self.density:.2%}"}
        about |= {"entries kept": f"{self.kept.sum():,} of {self.kept.size:,}"}
        about |= {"Recall@20 on test": f"{self.about[METRIC]:.4f}", "seed": self.about["seed"]}
        for name in ("against the dense model", "values", "bytes"):  # of `compress`
            about |= {name: self.about[name]} if name in self.about else {}
        return card(f"Ticket of {self.about['dataset']}", {n: str(v) for n, v in about.items()})
