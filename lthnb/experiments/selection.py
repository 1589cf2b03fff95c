"""Which ticket of a search is chosen: on the validation set, or under `paper`, which has none, on
test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from lthnb import stats

SETTING = ["dataset", "backbone", "protocol"]


def chosen_on(frame: pd.DataFrame) -> str:
    """The column by which a ticket is chosen."""
    return stats.RECALL if (frame["protocol"] == "paper").all() else f"valid_{stats.RECALL}"


def by_setting(frame: pd.DataFrame) -> Iterator[tuple[dict[str, str], pd.DataFrame]]:
    """The rows of each data set, backbone and protocol, with their differences to the dense model
    on the part that chooses (`choice`) and on test (`difference`)."""
    for names, rows in frame.groupby(SETTING):
        choice, test = (stats.to_dense(rows, c) for c in (chosen_on(rows), stats.RECALL))
        yield dict(zip(SETTING, names, strict=True)), rows.assign(choice=choice, difference=test)


def best_of(rows: pd.DataFrame, by: Sequence[str], column: str) -> tuple | None:
    """The values of some columns whose rows have the best mean of another, over the seeds that all
    values have; None where there is no such seed. Values with one or two seeds are left out where
    others have more."""
    found = rows.groupby(["seed", *by])[column].mean().unstack(list(by))
    counts = found.notna().sum()
    means = found.loc[:, counts >= min(stats.LEAST_SEEDS, counts.max())].dropna().mean().dropna()
    best = means.idxmax() if len(means) else None
    return best if best is None or isinstance(best, tuple) else (best,)


def pairs_kept(rows: pd.DataFrame) -> pd.Series:
    """The share of its search's training pairs that each row is trained on."""
    return rows["train_pairs"] / rows.groupby("search")["train_pairs"].transform("max")


def sparsest(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the sparsest density that is non-inferior on the part that chooses; where none
    is, or there are too few seeds to say, of the density with the best mean there. `sure` tells
    which of the two it was."""
    tickets = rows[rows["round"] > 0].assign(at=rows["density"].map("{:.3g}".format).astype(float))
    found = stats.summary(tickets, "at", "choice")
    fine = found[stats.non_inferior(found["lower"])]
    at = fine["at"].min() if len(fine) else found.loc[found["mean"].idxmax(), "at"]
    return tickets[tickets["at"] == at].assign(sure=len(fine) > 0)


def selected(rows: pd.DataFrame, by: Sequence[str] = ("batch_size",)) -> pd.DataFrame:
    """The rows of the selected density (:func:`sparsest`) of each data set, backbone and protocol,
    with `difference`, relative to the dense model on test; no rows where there is no ticket. by:
    further columns that tell searches apart."""
    found = [
        sparsest(one).assign(**names)
        for _, group in rows.groupby(list(by))
        for names, one in by_setting(group)
        if (one["round"] > 0).any()
    ]
    none = rows[:0].assign(choice=0.0, difference=0.0, at=0.0, sure=False)
    return pd.concat(found or [none]).assign(density=lambda f: f.pop("at"))


def best(rows: pd.DataFrame) -> pd.DataFrame:
    """The ticket of each seed that is best on the part that chooses."""
    tickets = rows[rows["round"] > 0]
    return tickets.loc[tickets.groupby("seed")[chosen_on(rows)].idxmax()].set_index("seed")


def highest_sparsity(rows: pd.DataFrame) -> pd.Series:
    """By seed, the sparsity of the sparsest ticket that wins by the paper's definition (§3.3), on
    the part that chooses: a′ ≥ a and j′ ≤ j; 0 where none does."""
    dense = rows[rows["round"] == 0].drop_duplicates("seed").set_index("seed")["best_epoch"]
    won = (rows["choice"] >= 0) & (rows["best_epoch"] <= rows["seed"].map(dense))
    tickets = rows[rows["round"] > 0]
    return (1 - tickets["density"].where(won)).groupby(tickets["seed"]).max().fillna(0.0)
