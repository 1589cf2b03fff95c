"""The columns of the two tables, each with its type and what it means; `results/README.md` is made
from here."""

from __future__ import annotations

from lthnb.metrics import KS, METRICS

METRIC_NAMES = [f"{metric}@{k}" for k in KS for metric in METRICS]
METRIC_MEANING = {
    "recall": "share of a user's items that are among the first {k}",
    "precision": "share of the first {k} places that are hits",
    "hitrate": "share of users with a hit among the first {k}",
    "mrr": "1 / place of the first hit among {k}, or 0",
    "ndcg": "discounted gain of the first {k} places, over the best possible",
}


def _meaning(name: str) -> str:
    metric, _, k = name.partition("@")
    return METRIC_MEANING[metric].format(k=k)


PACKAGES = ("numpy", "scipy", "numba", "torch")

# Name → (type, meaning). Types: str, int (may be empty), float, bool.
RUN_COLUMNS: dict[str, tuple[str, str]] = {
    "key": ("str", "the run: the first 128 bits of SHA-256 of `key_text`, in hex"),
    "dataset": ("str", "name of the data; a label, `data_digest` identifies them"),
    "split": (
        "str",
        "how the pairs were split; a label. `random-0`: 7:1:2 of each user's items, split seed 0; "
        "`published`: as published; `published-0`: the same, and 1/8 of each user's train pairs "
        "are the validation set; `last-1-0`: each user's last item; `time`: one moment for all",
    ),
    "backbone": ("str", "`mf` or `lightgcn` (§3.2 of the paper)"),
    "embedding_size": ("int", "F, embedding dimension of the table that is trained"),
    "protocol": (
        "str",
        "`validated`: epochs are chosen on the validation set; `paper`: on test, as in the "
        "authors' code, and the validation set is trained on",
    ),
    "l2": ("float", "λ, weight of the L2 term"),
    "learning_rate": ("float", "Adam's step size"),
    "batch_size": ("int", "triplets in a step"),
    "seed": (
        "int",
        "replicate: the seed of the search, from which `init_seed`, `data_seed` and `mask_seed` "
        "follow",
    ),
    "density": (
        "float",
        "share of the table's entries that are kept. In the join it is the search's: for `lcm` the "
        "share of the teacher's entries",
    ),
    "entries": ("int", "entries of the table that are kept"),
    "best_epoch": ("int", "the epoch with the best Recall@20 on the part that chooses, from 1"),
    "epochs": ("int", "epochs run"),
    **{name: ("float", f"on test: {_meaning(name)}") for name in METRIC_NAMES},
    **{
        f"valid_{name}": ("float", "the same on the validation set; empty under `paper`")
        for name in METRIC_NAMES
    },
    "seconds": ("float", "wall time of the training, evaluations included"),
    "mask_digest": ("str", "identifies the mask; `dense` where every entry is kept"),
    "mask_from": ("str", "key of the run whose weights were pruned; empty: none were"),
    "start_from": (
        "str",
        "key of the run whose weights this one starts from; empty: it starts from `init_seed`",
    ),
    "start_epoch": ("str", "the epoch of those weights: a number, or `best`"),
    "teacher": ("str", "LCM: key of the dense run whose table is compressed"),
    "init_seed": ("int", "seed of the initial table; empty with `start_from`"),
    "data_seed": ("int", "seed of the order of triplets"),
    "mask_seed": ("int", "seed of a random mask"),
    "layers": ("int", "K, propagation layers; LightGCN alone"),
    "layer_combination": ("str", "how the layers become one: `mean` or `sum`; LightGCN alone"),
    "compression": ("str", "`none`, or `linear`: LCM (§4.4)"),
    "max_epochs": ("int", "J, most epochs"),
    "patience": ("int", "epochs without a better Recall@20 after which training ends"),
    "evaluate_every": ("int", "epochs from one evaluation to the next"),
    "l2_scope": ("str", "rows that the L2 term covers: `batch` or `table`"),
    "dtype": ("str", "type of the table"),
    "step": ("str", "what computed a step: `cpu` (by hand) or `reference` (autograd)"),
    "device": ("str", "`cpu`, or a GPU"),
    "users": ("int", "users"),
    "items": ("int", "items"),
    "train_pairs": ("int", "pairs that are trained on"),
    "valid_pairs": ("int", "pairs of the validation set"),
    "test_pairs": ("int", "pairs of the test set"),
    "users_tested": ("int", "users with a test item"),
    "data_digest": ("str", "SHA-256 over the three parts, first 128 bits"),
    "source": ("str", "the registered data set, or `table`"),
    "results_digest": ("str", "equal digests: all results are equal, bit for bit"),
    "written": ("str", "when, UTC"),
    "threads": ("int", "threads that computed"),
    "processor": ("str", "processor"),
    "cores": ("int", "its cores"),
    "system": ("str", "operating system and machine type"),
    "commit": ("str", "of the project; `+`: the package was changed since"),
    **{f"{p}_version": ("str", f"of {p}") for p in ("lthnb", "python", *PACKAGES)},
    "key_text": ("str", "all that the run depends on, as JSON: settings, data, start, mask"),
    "pruning": ("str", "how the mask was made, as JSON; `keep`: entries to keep"),
    "origin": ("str", "where the data come from, as JSON: files, options, what was merged"),
}

SEARCH_COLUMNS: dict[str, tuple[str, str]] = {
    "search": ("str", "names the search: one method with one seed, dense model first"),
    "method": (
        "str",
        "`dense`: the dense model alone; `imp`: iterative magnitude pruning; `omp`: pruned once; "
        "`random`: a random mask over a start of its own; `random_x0`: the same over X⁰; `lcm`; "
        "`other_start`, `other_order`: a ticket trained again with another initialisation seed, or "
        "another data-order seed, under its own mask",
    ),
    "rate": ("float", "share of the kept entries that a round prunes; empty: by densities"),
    "rewind": (
        "str",
        "where a round starts: `rewind` (X⁰), `reinit` (a fresh one), `continue` (the trained "
        "weights), `late` (the dense model's after `rewind_epoch`)",
    ),
    "rewind_epoch": ("int", "of late rewinding"),
    "criterion": ("str", "what is pruned first: `magnitude`, `row_rank`, `random`, or one's own"),
    "prune_from": ("str", "weights that are pruned: those of the `best` or the `last` epoch"),
    "scope": ("str", "`join`: one threshold over users and items; `user`, `item`, `user_item`"),
    "densities": ("str", "the densities of an IMP search that goes by densities, as JSON"),
    "seed": ("int", "replicate"),
    "round": ("int", "how often the table was pruned: 0 is dense, and `omp` prunes once"),
    "density": ("float", "share of the dense table's entries that are kept"),
    "key": ("str", "the run"),
}


def explained() -> str:
    """The columns of both tables as Markdown."""
    lines = []
    for title, columns in (("runs", RUN_COLUMNS), ("searches", SEARCH_COLUMNS)):
        lines += [f"\n### {title}\n", "| column | type | meaning |", "|---|---|---|"]
        lines += [f"| `{name}` | {kind} | {text} |" for name, (kind, text) in columns.items()]
    return "\n".join(lines) + "\n"
