"""What the paper says, as data: its tables, settings, claims, figures and slips.

Wang, Sui, Wang, Liu and He, *Exploring Lottery Ticket Hypothesis in Media Recommender Systems*,
International Journal of Intelligent Systems (2022), arXiv:2108.00944. Every entry names its table
and row, or its section; a test compares the tables with the paper's text cell by cell, and the
quotes word by word.

Two words are never mixed here, though the paper mixes them: *density* is the share of entries
kept, *sparsity* the share pruned. A number of percent says so in its name (`sparsity_percent`).
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

DATASETS = ("yelp2018", "tiktok", "kwai")
BACKBONES = ("mf", "lightgcn")
METRICS = ("recall@20", "ndcg@20")
TITLES = {  # as they are printed in the paper
    "yelp2018": "Yelp2018",
    "tiktok": "TikTok",
    "kwai": "Kwai",
    "mf": "MF",
    "lightgcn": "LightGCN",
    "lcm": "LCM",
    "ticket": "Winning Ticket",
    "recall@20": "Recall@20",
    "ndcg@20": "NDCG@20",
}


# --- §4.1: settings ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """The settings of §4.1. What the paper leaves out comes from the authors' commands, and says
    so."""

    optimizer: str = "Adam"  # §4.1
    learning_rate: float = 1e-3  # §4.1
    l2: float = 1e-4  # λ, §4.1
    batch_size: int = 2048  # §4.1
    epochs: int = 1000  # J, §4.1
    pruning_rate: float = 0.1  # pr, §4.1: "pr% is 0.1", read as 10 %
    prunings: int = 30  # I, §4.1
    k: int = 20  # K of Recall@K and NDCG@K, §4.1
    split: tuple[int, int, int] = (7, 1, 2)  # train : valid : test, §4.1
    layers: int = 3  # the authors' default, num_layer; the paper does not say
    embedding_size: int = 32  # F of Table 2: the authors' commands; the paper does not say
    patience: int = 100  # the authors' default, early_stop; the paper does not say
    code: str = "wangyf6891/LTH-MRS"  # the authors' public code


SETTINGS = Settings()


# --- Table 1: data sets --------------------------------------------------------------------------


@dataclass(frozen=True)
class DatasetRow:
    """One row of Table 1. `filled` is the column "Density": observed pairs over all pairs; renamed,
    since density means the share of table entries kept everywhere else."""

    dataset: str
    users: int
    items: int
    interactions: int
    filled: float


TABLE1 = (
    DatasetRow("yelp2018", 31_668, 38_048, 1_561_406, 0.00130),
    DatasetRow("tiktok", 36_638, 97_117, 746_546, 0.00021),
    DatasetRow("kwai", 7_010, 80_631, 292_042, 0.00052),
)


# --- Table 2: dense models and tickets -----------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One cell of Table 2."""

    dataset: str
    backbone: str
    metric: str
    sparsity_percent: float  # as printed in the column's head
    rung: int  # prunings at 10 % that give that sparsity: 1 - 0.9**rung
    value: float

    @property
    def density(self) -> float:
        """Share of entries kept, exact: 0.9**rung."""
        return (1 - SETTINGS.pruning_rate) ** self.rung

    @property
    def where(self) -> str:
        """Table, row and column, as a reader finds them."""
        return (
            f"Table 2, {TITLES[self.dataset]} {TITLES[self.backbone]}, {TITLES[self.metric]}, "
            f"sparsity {self.sparsity_percent:g} %"
        )


TABLE2_SPARSITIES_PERCENT = (0.0, 27.1, 65.13, 95.29)
TABLE2_RUNGS = (0, 3, 10, 29)

_TABLE2 = {  # (data set, backbone): Recall@20 in four columns, then NDCG@20 in four
    ("yelp2018", "mf"): (0.0459, 0.0487, 0.0468, 0.0395, 0.0372, 0.0396, 0.0378, 0.0320),
    ("yelp2018", "lightgcn"): (0.0600, 0.0602, 0.0584, 0.0510, 0.0488, 0.0491, 0.0476, 0.0418),
    ("tiktok", "mf"): (0.0851, 0.0955, 0.0961, 0.0638, 0.0500, 0.0552, 0.0557, 0.0354),
    ("tiktok", "lightgcn"): (0.1423, 0.1539, 0.1577, 0.1379, 0.0828, 0.0898, 0.0918, 0.0813),
    ("kwai", "mf"): (0.0411, 0.0464, 0.0525, 0.0529, 0.0318, 0.0353, 0.0393, 0.0431),
    ("kwai", "lightgcn"): (0.0779, 0.0847, 0.0857, 0.0751, 0.0638, 0.0679, 0.0689, 0.0614),
}

TABLE2 = tuple(
    Cell(dataset, backbone, metric, percent, rung, values[4 * m + c])
    for (dataset, backbone), values in _TABLE2.items()
    for m, metric in enumerate(METRICS)
    for c, (percent, rung) in enumerate(zip(TABLE2_SPARSITIES_PERCENT, TABLE2_RUNGS, strict=True))
)


# --- Table 3: tickets beside the linear compression model (LightGCN) ------------------------------


@dataclass(frozen=True)
class CompressionCell:
    """One cell of Table 3. The paper heads the column "Sparsity (%)"; 25 is the smaller model, so
    the number is a density, and is called one here."""

    dataset: str
    method: str  # "lcm" or "ticket"
    metric: str
    original_size: int  # embedding size of the dense table that is compressed
    density_percent: int  # printed under "Sparsity (%)"
    value: float

    @property
    def density(self) -> float:
        """Share of the dense table's entries that the model may keep."""
        return self.density_percent / 100

    @property
    def where(self) -> str:
        """Table, row and column, as a reader finds them."""
        return (
            f"Table 3, {TITLES[self.dataset]} {TITLES[self.method]}, {TITLES[self.metric]}, "
            f"original size {self.original_size}, density {self.density_percent} %"
        )


COMPRESSIONS = ("lcm", "ticket")
TABLE3_COLUMNS = ((64, 25), (64, 50), (128, 25), (128, 50))  # original size, density in percent

_TABLE3 = {  # (data set, method): Recall@20 in four columns, then NDCG@20 in four
    ("yelp2018", "lcm"): (0.0459, 0.0558, 0.0537, 0.0610, 0.0374, 0.0460, 0.0438, 0.0493),
    ("yelp2018", "ticket"): (0.0609, 0.0635, 0.0651, 0.0666, 0.0500, 0.0525, 0.0530, 0.0545),
    ("tiktok", "lcm"): (0.1341, 0.1508, 0.1500, 0.1594, 0.0791, 0.0895, 0.0885, 0.0941),
    ("tiktok", "ticket"): (0.1829, 0.1851, 0.1913, 0.1911, 0.1064, 0.1085, 0.1130, 0.1128),
    ("kwai", "lcm"): (0.0640, 0.0690, 0.0652, 0.0742, 0.0542, 0.0585, 0.0538, 0.0544),
    ("kwai", "ticket"): (0.0856, 0.0867, 0.0882, 0.0888, 0.0693, 0.0696, 0.0705, 0.0706),
}

TABLE3 = tuple(
    CompressionCell(dataset, method, metric, size, percent, values[4 * m + c])
    for (dataset, method), values in _TABLE3.items()
    for m, metric in enumerate(METRICS)
    for c, (size, percent) in enumerate(TABLE3_COLUMNS)
)


# --- Figures: curves without printed numbers ------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """A figure of the paper. None prints its numbers; those that can be compared are in claims."""

    number: int
    section: str
    shows: str
    datasets: tuple[str, ...] = ()
    backbones: tuple[str, ...] = ()


FIGURES = (
    Figure(1, "§3.4", "Overview of IMP: train, prune, rewind."),
    Figure(
        2,
        "§4.2, §4.3",
        "Recall@20 against sparsity for IMP, RP and OMP; a star marks the sparsest winning ticket.",
        DATASETS,
        BACKBONES,
    ),
    Figure(
        3,
        "§4.5",
        "Recall@20 against sparsity for several original embedding sizes.",
        DATASETS,
        BACKBONES,
    ),
    Figure(
        4,
        "§4.5",
        "Recall@20 against sparsity at pruning rates 5, 10 and 20 %.",
        ("yelp2018",),
        ("lightgcn",),
    ),
    Figure(
        5,
        "§4.5",
        "Recall@20 against sparsity, with and without rewinding.",
        ("yelp2018",),
        BACKBONES,
    ),
    Figure(
        6,
        "§4.6",
        "Training epochs of the dense table, with those of the winning ticket as the unit.",
    ),
    Figure(
        7,
        "§4.7",
        "Heat maps of the first 10 users and items: the dense table beside the ticket.",
        ("yelp2018",),
    ),
)


# --- Claims in words ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Number:
    """One number that a claim states. `unit` says of what: a percentage of what, or a ratio."""

    value: float
    unit: str
    what: str
    dataset: str = ""
    backbone: str = ""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper that wants a verdict.

    `quote` is verbatim, `says` is our paraphrase. `decided_by` names the quantities that would
    decide it; `note` says what we noticed while reading.
    """

    id: str
    section: str
    says: str
    quote: str
    decided_by: tuple[str, ...]
    numbers: tuple[Number, ...] = ()
    note: str = ""
    open: bool = False  # named by the paper as future work, not as a finding


def _each(unit: str, what: str, backbone: str, values: tuple[float, ...]) -> tuple[Number, ...]:
    """One number for each data set, in the order of DATASETS."""
    return tuple(
        Number(v, unit, what, dataset, backbone)
        for dataset, v in zip(DATASETS, values, strict=True)
    )


_KEPT = "density in percent"
_MORE = "percent above, relative"
_LESS = "percent below, relative"

CLAIMS = (
    Claim(
        "abstract-density",
        "Abstract, §1",
        "Winning tickets do as well as the dense model with 29 to 48 % (Yelp2018), 7 to 10 % "
        "(TikTok) and 3 to 17 % (Kwai) of the entries.",
        "with only 29% ~48%, 7% ~10% and 3% ~17% of parameters, respectively",
        ("density of the sparsest winning ticket, per data set and backbone",),
        (
            *_each(_KEPT, "sparsest winning ticket, sparser backbone", "", (29, 7, 3)),
            *_each(_KEPT, "sparsest winning ticket, denser backbone", "", (48, 10, 17)),
        ),
        "The range is over the two backbones. By Table 2 the sparser end is MF on Yelp2018 and "
        "Kwai: LightGCN already loses there, at 65.13 and at 95.29 %. 3 % is past I = 30 prunings "
        "at 10 %, which stop at 4.24 %; the public code loops on to 49 prunings.",
    ),
    Claim(
        "existence",
        "§4.2",
        "Winning tickets exist widely, on every data set and for both backbones.",
        "the winning tickets exist widely in media recommender systems",
        ("winning by the paper's definition, per data set and backbone", "the claim over seeds"),
    ),
    Claim(
        "kwai-mf",
        "§4.2",
        "On Kwai, a ticket of MF at 95.29 % sparsity is 28.7 % (Recall@20) and 35.5 % (NDCG@20) "
        "above the dense model.",
        "the winning ticket improves Recall@20 and NDCG@20 by 28.7% and 35.5%, respectively, "
        "while reducing 95.29% parameters",
        ("Recall@20 and NDCG@20 of rung 29 over rung 0, MF",),
        (
            Number(28.7, _MORE, "recall@20 at rung 29", "kwai", "mf"),
            Number(35.5, _MORE, "ndcg@20 at rung 29", "kwai", "mf"),
        ),
    ),
    Claim(
        "kwai-lightgcn",
        "§4.2",
        "On Kwai, a ticket of LightGCN at 65.13 % sparsity is 10.0 % (Recall@20) and 7.99 % "
        "(NDCG@20) above the dense model.",
        "the winning ticket improves Recall@20 and NDCG@20 by 10.0% and 7.99%, respectively, "
        "while reducing 65.13% parameters",
        ("Recall@20 and NDCG@20 of rung 10 over rung 0, LightGCN",),
        (
            Number(10.0, _MORE, "recall@20 at rung 10", "kwai", "lightgcn"),
            Number(7.99, _MORE, "ndcg@20 at rung 10", "kwai", "lightgcn"),
        ),
    ),
    Claim(
        "complexity",
        "§3.5",
        "A ticket's inference takes O(M·N·min(F_u*, F_i*)) for MF and "
        "O(K·‖A‖₀·min(F_u*, F_i*) + M·N·min(F_u*, F_i*)) for LightGCN, and memory "
        "O(M·F_u* + N·F_i*), where F* is the size of the fullest row.",
        "the winning tickets represent users and items with much smaller sparse vectors",
        (
            "F_u* and F_i*: most entries kept in a row, over users and over items",
            "mean entries kept in a row",
            "bytes of the packed ticket and time of scoring, beside the dense table's",
        ),
        (),
        "F* is a maximum over rows. Where a mask is scattered the fullest row keeps nearly all of "
        "F, and the bounds say nothing.",
    ),
    Claim(
        "omp-sparsity",
        "§4.3",
        "IMP's sparsest winning ticket is sparser than OMP's: by 30.8, 25.2 and 2.5 % for MF and "
        "22.0, 15.6 and 8.9 % for LightGCN (Yelp2018, TikTok, Kwai).",
        "the winning tickets of MF found by IMP achieve 30.8%, 25.2% and 2.5% improvements in "
        "highest sparsity",
        ("highest winning sparsity of IMP over that of OMP",),
        (
            *_each(_MORE, "highest winning sparsity, imp over omp", "mf", (30.8, 25.2, 2.5)),
            *_each(_MORE, "highest winning sparsity, imp over omp", "lightgcn", (22.0, 15.6, 8.9)),
        ),
        "Read as a ratio of sparsities: 1.308 times OMP's, not 30.8 points more.",
    ),
    Claim(
        "omp-recall",
        "§4.3",
        "IMP's best ticket beats OMP's in Recall@20: by 18.8, 8.8 and 1.1 % for MF and 6.6, 4.0 "
        "and 3.4 % for LightGCN (Yelp2018, TikTok, Kwai).",
        "achieve 18.8%, 8.8% and 1.1% improvements in highest Recall@20",
        ("best Recall@20 among IMP's tickets over that among OMP's",),
        (
            *_each(_MORE, "best recall@20, imp over omp", "mf", (18.8, 8.8, 1.1)),
            *_each(_MORE, "best recall@20, imp over omp", "lightgcn", (6.6, 4.0, 3.4)),
        ),
        "18.8 % (MF, Yelp2018) does not fit Table 2: see the slip `omp-18.8`.",
    ),
    Claim(
        "rp-finds",
        "§4.3",
        "Random pruning finds winning tickets for LightGCN on TikTok alone.",
        "RP merely found winning tickets of LightGCN on TikTok dataset",
        ("winning, per data set and backbone, of rp and rp_x0",),
        (),
        "Said of masks over a trained table; the code draws a fresh start, so two variants are "
        "run.",
    ),
    Claim(
        "rp-falls",
        "§4.3",
        "Where it finds any (LightGCN, TikTok), random pruning stays 40.7 and 27.3 % below IMP and "
        "OMP in highest sparsity, and 4.8 and 0.7 % below them in best Recall@20.",
        "achieved 40.7% and 27.3% declines in highest sparsity, and achieved 4.8% and 0.7% "
        "declines in highest Recall@20, compared with that by IMP and OMP, respectively",
        (
            "highest winning sparsity of RP over those of IMP and OMP",
            "best Recall@20 of RP over those of IMP and OMP",
        ),
        (
            Number(40.7, _LESS, "highest winning sparsity, rp under imp", "tiktok", "lightgcn"),
            Number(27.3, _LESS, "highest winning sparsity, rp under omp", "tiktok", "lightgcn"),
            Number(4.8, _LESS, "best recall@20, rp under imp", "tiktok", "lightgcn"),
            Number(0.7, _LESS, "best recall@20, rp under omp", "tiktok", "lightgcn"),
        ),
        "Does not fit `omp-sparsity` and `omp-recall`: see the slip `three-ways`.",
    ),
    Claim(
        "lcm-50",
        "§4.4",
        "On Yelp2018 with original size 128, tickets at density 50 % beat LCM by 9.18 % "
        "(Recall@20) and 10.54 % (NDCG@20).",
        "improves Recall@20 and NDCG@20 by 9.18% and 10.54% when the sparsity is 50%",
        ("Recall@20 and NDCG@20 of the ticket over LCM, and over a dense model of the same size",),
        (
            Number(9.18, _MORE, "recall@20, ticket over lcm", "yelp2018", "lightgcn"),
            Number(10.54, _MORE, "ndcg@20, ticket over lcm", "yelp2018", "lightgcn"),
        ),
        "Table 3's own cells, .0545 over .0493, give 10.55 %.",
    ),
    Claim(
        "lcm-25",
        "§4.4",
        "On Yelp2018 with original size 128, tickets at density 25 % beat LCM by 21.23 % "
        "(Recall@20) and 21.00 % (NDCG@20).",
        "improves that by 21.23% and 21.00% when the sparsity is 25%",
        ("Recall@20 and NDCG@20 of the ticket over LCM, and over a dense model of the same size",),
        (
            Number(21.23, _MORE, "recall@20, ticket over lcm", "yelp2018", "lightgcn"),
            Number(21.00, _MORE, "ndcg@20, ticket over lcm", "yelp2018", "lightgcn"),
        ),
    ),
    Claim(
        "size-trend",
        "§4.5",
        "Curves of different original sizes have almost the same trend.",
        "the performance trends of lottery tickets are almost consistent",
        ("relative Recall@20 against sparsity, by embedding size",),
    ),
    Claim(
        "size-exists",
        "§4.5",
        "Winning tickets exist at every original size.",
        "the winning tickets widely exist and always can be found by our used",
        ("winning, per embedding size",),
    ),
    Claim(
        "rate-sparsity",
        "§4.5",
        "The highest winning sparsity hardly depends on the pruning rate (5, 10, 20 %).",
        "the highest sparsity achieved with different $pr\\%$ is almost the same",
        ("highest winning sparsity, per pruning rate",),
    ),
    Claim(
        "rate-recall",
        "§4.5",
        "A lower pruning rate gives a higher best Recall@20.",
        "lower $pr\\%$ achieves higher best Recall@20",
        ("best Recall@20 on the ladder, per pruning rate",),
    ),
    Claim(
        "rate-steps",
        "§4.5",
        "A higher pruning rate needs fewer prunings to the sparsest winning ticket.",
        "higher $pr\\%$ takes fewer steps to reach the sparsest winning ticket",
        ("rung of the sparsest winning ticket, per pruning rate",),
    ),
    Claim(
        "rewind-stable",
        "§4.5",
        "With rewinding, winning tickets are found more stably.",
        "rewinding mechanism can find winning tickets more stably and reliably",
        ("share of seeds with a winning ticket: rewind, reinit, continue",),
        (),
        "The code's two scripts mean different things by `without rewinding`; see the slip "
        "`without-rewinding`.",
    ),
    Claim(
        "rewind-better",
        "§4.5",
        "With rewinding, tickets are better in Recall@20 and in sparsity.",
        "improves the performance in Recall@20 and sparsity significantly and consistently",
        ("best Recall@20 and highest winning sparsity: rewind, reinit, continue",),
    ),
    Claim(
        "training-speed",
        "§4.6",
        "Tickets reach the dense model's quality in fewer epochs, up to 8 times fewer for MF at "
        "size 32.",
        "reached comparable performance with a learning speed 8 times the original embedding table",
        (
            "best epoch of the dense model over best epoch of the winning ticket",
            "epochs until the ticket reaches the dense model's best Recall@20",
        ),
        (Number(8, "ratio of epochs", "dense over ticket, size 32", "", "mf"),),
        "A ratio of best epochs, of the last training alone: the ladder that found the mask is not "
        "counted.",
    ),
    Claim(
        "magnitude",
        "§4.7",
        "Tickets keep the critical features, those of high magnitude.",
        "tends to preserve more critical features (of high magnitude)",
        (
            "share of kept entries that are large in the dense table, beside chance",
            "quality after removing kept, and as many pruned, entries of the dense model",
        ),
        (),
        "For a mask cut by magnitude this is true by construction after one pruning. What is open "
        "is whether later rungs and other criteria keep the same entries.",
    ),
    Claim(
        "efficient-search",
        "§5",
        "Open: find tickets without the costly train, prune, retrain.",
        "efficient schemes for identifying winning tickets",
        ("total epochs of the search, beside the quality and density of what it finds",),
        open=True,
    ),
    Claim(
        "interaction-tickets",
        "§5",
        "Open: tickets of the interaction records, where feedback is noisy.",
        "winning tickets for implicit feedback interaction records",
        ("Recall@20 against the share of training pairs kept",),
        open=True,
    ),
)


# --- Slips ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Slip:
    """A place where the paper contradicts itself, its code, or arithmetic, and what we do."""

    id: str
    where: str
    printed: str
    problem: str
    ours: str


SLIPS = (
    Slip(
        "sparsity-defined",
        "§3.4",
        "sparsity is ‖Mⁱ‖₀ / ‖M⁰‖₀",
        "That is the share of ones, the density; two lines on, sparsity is 1 − (1 − pr)^I.",
        "density = share kept, sparsity = share pruned",
    ),
    Slip(
        "sparsity-25",
        "Table 3, §4.4",
        "sparsity 25 and 50 %",
        "The model at 25 is the smaller and worse one: these are densities.",
        "densities 25 and 50 %",
    ),
    Slip(
        "alpha",
        "Eq. 6",
        "α₀ … α_K are 1",
        "That sums the layers; LightGCN's paper and the authors' code average them.",
        "mean by default; the sum by a setting",
    ),
    Slip(
        "split",
        "§4.1",
        "training, validation and test at 7:1:2",
        "The code trains on everything outside test and picks epochs, and so masks, by test "
        "Recall@20. Table 1's Yelp2018 is exactly the public train and test files.",
        "two protocols, `validated` and `paper`",
    ),
    Slip(
        "l2-scope",
        "Eqs. 4, 7",
        "λ‖X‖² over the whole table",
        "The code takes half the squares of the batch's rows, divided by the batch size.",
        "the batch's rows by default; the whole table by a setting",
    ),
    Slip(
        "sum-or-epoch",
        "Eqs. 4, 7",
        "a sum over all users, positives and negatives; the first up to |M|",
        "M is a number of users, or a mask; and nobody sums over every triple: triplets are "
        "sampled.",
        "an epoch of as many sampled triplets as there are training pairs",
    ),
    Slip(
        "last-rung",
        "§4.1, Table 2",
        "I = 30, and a last column at 95.29 %",
        "30 prunings give 95.76 %; 95.29 % is 29, the thirtieth model counted from the dense one.",
        "round i = i prunings; the last column is round 29",
    ),
    Slip(
        "three-percent",
        "Abstract, §1",
        "3 % of the parameters on Kwai",
        "30 prunings at 10 % stop at 4.24 %. 3.1 % is round 33, and the code goes on to round "
        "49. 29 % on Yelp2018 is no round either: rounds 11 and 12 have 31.4 and 28.2 %.",
        "the density of a round is always the exact one",
    ),
    Slip(
        "rate-unit",
        "§4.1",
        "pr% is 0.1",
        "A tenth of a percent as written; 10 % by every other number.",
        "pruning rate 0.1, a share",
    ),
    Slip(
        "last-or-best",
        "Algorithm 1",
        "prune the weights after J epochs",
        "The code prunes those of the best epoch and stops after 100 epochs without a better one.",
        "best epoch by default; the last by a setting",
    ),
    Slip(
        "random-pruning",
        "§4.3",
        "random pruning of a trained table",
        "The code masks a new initial table at random and needs no trained table.",
        "`random` as in the code, and `random_x0`, the same mask over X⁰",
    ),
    Slip(
        "without-rewinding",
        "§4.5, Figure 5",
        "IMP without rewinding",
        "The LightGCN script uses new random values; the MF script reloads the snapshot taken "
        "before training, so it rewinds.",
        "three named variants: `rewind`, `reinit`, `continue`",
    ),
    Slip(
        "omp-18.8",
        "§4.3",
        "MF on Yelp2018: IMP's best Recall@20 is 18.8 % above OMP's",
        "OMP is said to find winning tickets, which reach the dense model's .0459; IMP's best "
        "would then be .0545 or more. Table 2's tickets have .0487 and .0468.",
        "measured afresh",
    ),
    Slip(
        "three-ways",
        "§4.3",
        "LightGCN on TikTok: RP 40.7 % under IMP, 27.3 % under OMP; IMP 15.6 % over OMP",
        "The first and third put RP 31 % under OMP. In Recall@20, 4.8 % and 4.0 % put it 1.0 % "
        "under OMP, not 0.7 %.",
        "measured afresh, all three from the same runs",
    ),
    Slip(
        "lcm-10.54",
        "§4.4",
        "NDCG@20 10.54 % above LCM",
        "Table 3's cells give 10.55 %; a difference of rounding.",
        "the table's cells",
    ),
)


# --- Numbers of others ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """A dense model's published Recall@20 and NDCG@20, from another source than the paper."""

    dataset: str
    backbone: str
    embedding_size: int
    layers: int
    epochs: int
    recall: float
    ndcg: float
    source: str


_LIGHTGCN_README = "README of gusye1234/LightGCN-PyTorch, 3 layers, 1000 epochs"

REFERENCES = (
    Reference("yelp2018", "lightgcn", 64, 3, 1000, 0.06347, 0.05238, _LIGHTGCN_README),
    Reference("gowalla", "lightgcn", 64, 3, 1000, 0.1824, 0.1547, _LIGHTGCN_README),
)


# --- Look-ups -------------------------------------------------------------------------------------


def _known(name: str, found: object, known: tuple) -> None:
    """Refuse an unknown value: its name, what was found, what is known."""
    if found in known and not isinstance(found, bool):
        return
    close = difflib.get_close_matches(str(found), [str(k) for k in known], n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise LookupError(f"{name}: found {found!r}, the paper has {', '.join(map(str, known))}.{hint}")


def table1(dataset: str) -> DatasetRow:
    """The row of Table 1 for a data set."""
    _known("dataset", dataset, DATASETS)
    return next(row for row in TABLE1 if row.dataset == dataset)


def cells(dataset: str, backbone: str, metric: str | None = None) -> tuple[Cell, ...]:
    """Table 2's cells for a data set and a backbone, dense first; one metric's, or both."""
    _known("dataset", dataset, DATASETS)
    _known("backbone", backbone, BACKBONES)
    if metric is not None:
        _known("metric", metric, METRICS)
    return tuple(
        c
        for c in TABLE2
        if (c.dataset, c.backbone) == (dataset, backbone) and metric in (None, c.metric)
    )


def table2(dataset: str, backbone: str, metric: str, sparsity_percent: float) -> Cell:
    """One cell of Table 2; the sparsity in percent, as printed: 0, 27.1, 65.13 or 95.29."""
    row = cells(dataset, backbone, metric)
    _known("metric", metric, METRICS)
    _known("sparsity_percent", sparsity_percent, TABLE2_SPARSITIES_PERCENT)
    return next(c for c in row if c.sparsity_percent == sparsity_percent)


def table3(
    dataset: str, method: str, metric: str, original_size: int, density_percent: int
) -> CompressionCell:
    """One cell of Table 3; `density_percent` is what the paper prints under sparsity: 25 or 50."""
    _known("dataset", dataset, DATASETS)
    _known("method", method, COMPRESSIONS)
    _known("metric", metric, METRICS)
    _known("original_size", original_size, (64, 128))
    _known("density_percent", density_percent, (25, 50))
    key = (dataset, method, metric, original_size, density_percent)
    return next(
        c
        for c in TABLE3
        if (c.dataset, c.method, c.metric, c.original_size, c.density_percent) == key
    )


def claim(id: str) -> Claim:
    """A claim by its id."""
    _known("claim", id, tuple(c.id for c in CLAIMS))
    return next(c for c in CLAIMS if c.id == id)


def slip(id: str) -> Slip:
    """A slip by its id."""
    _known("slip", id, tuple(s.id for s in SLIPS))
    return next(s for s in SLIPS if s.id == id)


def figure(number: int) -> Figure:
    """A figure by its number."""
    _known("figure", number, tuple(f.number for f in FIGURES))
    return next(f for f in FIGURES if f.number == number)


def references(dataset: str, backbone: str) -> tuple[Reference, ...]:
    """Published dense results of others for a data set and a backbone; empty where we know none.

    Raises LookupError for a data set or a backbone that no source names at all.
    """
    _known("dataset", dataset, tuple(sorted({*DATASETS, *(r.dataset for r in REFERENCES)})))
    _known("backbone", backbone, BACKBONES)
    return tuple(r for r in REFERENCES if (r.dataset, r.backbone) == (dataset, backbone))
