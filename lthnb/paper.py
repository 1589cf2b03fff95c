"""What the paper says, as data: its tables, settings, claims, figures and slips, in `paper.yaml`.

Wang, Sui, Wang, Liu and He, *Exploring Lottery Ticket Hypothesis in Media Recommender Systems*,
International Journal of Intelligent Systems (2022), arXiv:2108.00944. A test compares the tables
with the paper's text cell by cell, and the quotes word by word.

Two words are never mixed here, though the paper mixes them: *density* is the share of entries
kept, *sparsity* the share pruned. A number of percent says so in its name (`sparsity_percent`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

DATASETS = ("yelp2018", "tiktok", "kwai")
BACKBONES = ("mf", "lightgcn")
METRICS = ("recall@20", "ndcg@20")


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


@dataclass(frozen=True)
class DatasetRow:
    """One row of Table 1. `filled` is the column "Density": observed pairs over all pairs; renamed,
    since density means the share of table entries kept everywhere else."""

    dataset: str
    users: int
    items: int
    interactions: int
    filled: float


@dataclass(frozen=True)
class Cell:
    """One cell of Table 2."""

    dataset: str
    backbone: str
    metric: str
    sparsity_percent: float  # as printed in the column's head
    round: int  # prunings at 10 % that give that sparsity: 1 - 0.9**round
    value: float

    @property
    def density(self) -> float:
        """Share of entries kept, exact: 0.9**round."""
        return (1 - SETTINGS.pruning_rate) ** self.round

    @property
    def where(self) -> str:
        """Table, row and column, as a reader finds them."""
        return (
            f"Table 2, {TITLES[self.dataset]} {TITLES[self.backbone]}, {TITLES[self.metric]}, "
            f"sparsity {self.sparsity_percent:g} %"
        )


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


@dataclass(frozen=True)
class Figure:
    """A figure of the paper. None prints its numbers; those that can be compared are in claims."""

    number: int
    section: str
    shows: str
    datasets: tuple[str, ...] = ()
    backbones: tuple[str, ...] = ()


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


@dataclass(frozen=True)
class Slip:
    """A place where the paper contradicts itself, its code, or arithmetic, and what we do."""

    id: str
    where: str
    printed: str
    problem: str
    ours: str


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


SETTINGS = Settings()
_SAID = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
TITLES: dict[str, str] = _SAID["titles"]  # as they are printed in the paper
TABLE1 = tuple(DatasetRow(**row) for row in _SAID["table1"])
# In each row: data set, backbone, Recall@20 in four columns, then NDCG@20 in four.
TABLE2 = tuple(
    Cell(dataset, backbone, metric, percent, number, values[4 * m + c])
    for dataset, backbone, *values in _SAID["table2"]["values"]
    for m, metric in enumerate(METRICS)
    for c, (percent, number) in enumerate(
        zip(_SAID["table2"]["sparsities_percent"], _SAID["table2"]["rounds"], strict=True)
    )
)
# In each row: data set, method, Recall@20 in four columns (size, density), then NDCG@20 in four.
TABLE3 = tuple(
    CompressionCell(dataset, method, metric, size, percent, values[4 * m + c])
    for dataset, method, *values in _SAID["table3"]["values"]
    for m, metric in enumerate(METRICS)
    for c, (size, percent) in enumerate(_SAID["table3"]["columns"])
)
FIGURES = tuple(Figure(**one) for one in _SAID["figures"])
CLAIMS = tuple(
    Claim(**{**one, "numbers": tuple(Number(**n) for n in one.get("numbers", ()))})
    for one in _SAID["claims"]
)
SLIPS = tuple(Slip(**one) for one in _SAID["slips"])
REFERENCES = tuple(Reference(**one) for one in _SAID["references"])
