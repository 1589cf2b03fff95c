"""What columns of the tables are called for people, in titles, legends and tables."""

from __future__ import annotations

import re

import pandas as pd

from lthnb.experiments import selection

PAPER_BATCH = 2048  # §4.1
DATA = {  # how data sets are called in titles
    "movielens": "MovieLens",
    "lastfm": "LastFM",
    "tiktok-mmssl": "TikTok (MMSSL subset)",
    "yelp2018": "Yelp2018",
    "gowalla": "Gowalla",
}
MODELS = {"mf": "MF", "lightgcn": "LightGCN"}
METHODS = {
    "dense": "dense model",
    "imp": "IMP",
    "omp": "one-shot (OMP)",
    "random": "random mask",
    "random_x0": "random mask over X⁰",
    "lcm": "LCM",
    "other_start": "another start",
    "other_order": "another order",
}
WAYS = {  # to a mask of a trained table, by method, basis and criterion, and what follows
    ("imp", "", "magnitude"): "IMP",
    ("imp", "pca", "magnitude"): "IMP, rotated at every round",
    ("cut", "", "magnitude"): "own axes",
    ("cut", "", "row_floor"): "own axes, an entry a row",
    ("cut", "pca", "magnitude"): "principal axes",
    ("cut", "varimax", "magnitude"): "varimax axes",
    ("cut", "pca", "columns"): "first principal columns",
    ("finetune", "", "magnitude"): "own axes, fine-tuned",
    ("finetune", "pca", "magnitude"): "principal axes, fine-tuned",
    ("finetune", "varimax", "magnitude"): "varimax axes, fine-tuned",
    ("omp", "", "magnitude"): "own axes, from X⁰",
    ("omp", "", "row_floor"): "own axes, an entry a row, from X⁰",
    ("omp", "pca", "magnitude"): "principal axes, from X⁰",
    ("omp", "varimax", "magnitude"): "varimax axes, from X⁰",
    ("omp", "", "svd"): "SVD mask",
    ("omp", "", "degree"): "degree budgets",
    ("carried", "", ""): "another seed's mask",
    ("carried", "aligned", ""): "another seed's mask, aligned",
    ("carried", "pca", ""): "another seed's mask, in principal axes",
    ("early", "", ""): "early-bird",
    ("dynamic", "", "random"): "dynamic",
    ("pep", "", ""): "PEP, then cut",
}
MARKS = {  # of the ways that a figure of all of them shows
    "SVD mask": "o",
    "degree budgets": "X",
    "early-bird": "s",
    "dynamic": "^",
    "PEP, then cut": "P",
    "own axes": "D",
    "own axes, from X⁰": "o",
    "principal axes": "v",
    "principal axes, fine-tuned": "h",
    "principal axes, from X⁰": "o",
    "IMP": "*",
}
PAIRS = {  # what says which training pairs go first
    "random": "random",
    "rare": "rare items",
    "loss": "loss",
    "user-loss": "loss in the user",
    "agreement": "three seeds agree",
    "learning": "learnt late",
}
REWINDS = {
    "rewind": "rewound",
    "late": "rewound to an early epoch",
    "reinit": "re-initialised",
    "continue": "not rewound",
}
CLAIMS = {  # in a few words; to match is to be non-inferior
    "abstract-density": "tickets of 29 and 48 % match",
    "existence": "the selected ticket matches its dense model",
    "best-exists": "the best ticket matches its dense model",
    "complexity": "fewer multiply-adds, by the formula",
    "omp-sparsity": "IMP wins at a higher sparsity than one-shot",
    "omp-recall": "IMP's best ticket beats one-shot's",
    "rp-finds": "a random mask finds no ticket",
    "rewind-better": "rewound beats re-initialised and not rewound",
    "rewind-stable": "rewound wins in more seeds",
    "size-exists": "a ticket matches at every embedding size",
    "size-trend": "all embedding sizes have the same curve",
    "rate-sparsity": "all pruning rates reach the same sparsity",
    "rate-recall": "a lower pruning rate has the better ticket",
    "rate-steps": "a higher pruning rate needs fewer prunings",
    "lcm-50": "a ticket beats LCM at 50 %",
    "lcm-25": "a ticket beats LCM at 25 %",
    "training-speed": "a ticket's best epoch comes earlier",
    "tuned-dense": "the dense model gains by a tuned λ",
    "ticket-to-tuned": "the selected ticket at λ = 1e−4 matches the tuned model",
    "best-to-tuned": "the best ticket at λ = 1e−4 matches the tuned model",
    "tuned-ticket": "the selected ticket of the tuned model matches it",
    "sparse-ticket": "a ticket of half or less matches the tuned model",
    "ticket-to-narrow": "a ticket of half beats a table of half the width",
    "axes-dense": "a cut to 64 % in other axes matches the dense model",
    "axes-cut": "a cut to 33 % is better in other axes",
    "axes-search": "a cut to 33 % in other axes matches IMP",
    "axes-half": "a cut to 50 % in other axes matches IMP",
    "axes-finetuned": "a cut to 33 % in principal axes, fine-tuned, matches IMP",
    "axes-rival": "a cut to 33 % in other axes matches dynamic and PEP, then cut",
    "axes-adam": "without Adam, own axes come nearer to random ones",
    "pairs-fewer": "80 % of the training pairs match all",
    "pairs-noise": "dropping as many pairs as were planted helps",
}
OPTIMIZERS = {"adam": "Adam", "rowwise-adam": "row-wise Adam", "sgd": "gradient descent"}
PROTOCOLS = {"validated": "chosen on the validation set", "paper": "chosen on test"}
ORDER = [*DATA.values(), *MODELS.values(), *METHODS.values(), *WAYS.values(), *REWINDS.values()]
ORDER += PROTOCOLS.values()


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """With columns of names for people: `data`, `model`, `how` (method), `start` (rewinding),
    `chosen` (by which part epochs are chosen). Batches larger than the paper's are named with the
    data."""
    size = frame["batch_size"] if "batch_size" in frame else pd.Series(PAPER_BATCH, frame.index)
    return frame.assign(
        data=frame["dataset"].map(DATA).fillna(frame["dataset"]) + batches(size),
        model=frame["backbone"].map(MODELS).fillna(frame["backbone"]),
        how=frame["method"].map(METHODS).fillna(frame["method"]),
        start=frame["rewind"].map(REWINDS).fillna("–"),
        chosen=frame["protocol"].map(PROTOCOLS),
    )


def named_pairs(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of searches over training pairs, :func:`named`: `criterion` as :data:`PAIRS` calls
    it, `noise` as :func:`planted` does ("none": none was planted), and `kept`, the share of the
    pairs that a row is trained on, to two digits."""
    frame = named(frame[frame["method"] == "pairs"])
    kept, noise = selection.pairs_kept(frame).round(2), frame["noise"].fillna("none").map(planted)
    return frame.assign(criterion=frame["criterion"].map(PAIRS), noise=noise, kept=kept)


def planted(noise: str) -> str:
    """The name of a noise as way and share, such as "uniform, 30 %"; another name as it is."""
    found = re.fullmatch(r"(\w+)-([\d.]+)-\d+", noise)
    return f"{found[1]}, {100 * float(found[2]):g} %" if found else noise


def batches(size: pd.Series) -> pd.Series:
    """What is said of batches of more than the paper's 2,048 triplets; of others nothing."""
    return size.map(", batches of {:,.0f}".format).where(size > PAPER_BATCH, "").astype(str)


def level(density: pd.Series) -> pd.Series:
    """Densities as those at which cuts are made, to which rounds of 20 % come near: 0.512 as 0.5,
    others to two digits."""
    return density.round(2).replace({0.51: 0.5, 0.21: 0.2, 0.11: 0.1})


def ways(frame: pd.DataFrame) -> pd.Series:
    """The name of each row's way to its mask, of :data:`WAYS`; empty for another."""
    columns = (frame[name].fillna("") for name in ("method", "basis", "criterion"))
    return pd.Series(list(zip(*columns, strict=True)), frame.index, object).map(WAYS)
