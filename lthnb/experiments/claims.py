"""What the recorded runs say to each claim of the paper: a row for each claim, data set and model.

A row is an estimate, its interval, how many seeds, a verdict code (:mod:`verdicts`) and the runs; a
person writes the sentence around it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lthnb import paper, stats
from lthnb.config import Model
from lthnb.experiments import beyond, masks, smallest_batches, table, verdicts
from lthnb.experiments.names import named
from lthnb.experiments.selection import SETTING, best, by_setting, highest_sparsity, sparsest
from lthnb.experiments.verdicts import COLUMNS, POINTS, RATIO, Read, keys, row, same, verdict
from lthnb.store.files import results_folder, write_file
from lthnb.store.results import Recorded, results

PAPER_SETS = ("yelp2018",)  # data sets of the paper that are public
NEAR = 0.25  # of two densities that may be compared, the most that their logarithms differ
SAME = 0.05  # curves, or sparsities, are the same where they differ by less than five points


def existence(read: Read) -> Iterator[dict[str, Any]]:
    """§4.2: at the density that is chosen, a ticket loses less than 1 % on test, and so does the
    best one of each seed; §4.5: so it does at every embedding size."""
    parts = [("existence", "", read("existence"), sparsest)]
    parts.append(("best-exists", "", read("existence"), best))
    for size, frame in read("sizes").groupby("embedding_size"):
        parts.append(("size-exists", f"F = {size}", frame, sparsest))
    for claim, about, frame, choose in parts:
        for names, rows in by_setting(frame):
            ticket = choose(rows)
            said = verdict(ticket["difference"], -stats.MARGIN)
            yield row(claim, names, ticket, said, about, ticket["density"])


def abstract_density(read: Read) -> Iterator[dict[str, Any]]:
    """Abstract: tickets of 29 and 48 % of the entries do as well as the dense model on Yelp2018."""
    for names, rows in by_setting(read("existence")):
        if names["dataset"] not in PAPER_SETS:
            continue
        for claimed in (0.29, 0.48):
            apart = np.log(rows["density"] / claimed).abs()
            if apart.min() > NEAR:
                continue
            ticket = rows[rows["round"] == rows.loc[apart.idxmin(), "round"]]
            said, about = verdict(ticket["difference"], -stats.MARGIN), f"claimed {claimed}"
            yield row("abstract-density", names, ticket, said, about, ticket["density"])


def omp(read: Read) -> Iterator[dict[str, Any]]:
    """§4.3: IMP's highest winning sparsity is above OMP's, at the densities that both have; and its
    best ticket is better than OMP's in Recall@20."""
    for names, imp, once in _imp_and(read, "omp"):
        # In points: OMP may find none.
        apart = (highest_sparsity(imp) - highest_sparsity(once)).dropna()
        yield row("omp-sparsity", names, pd.concat([imp, once]), verdict(apart), unit=POINTS)
        one, other = best(imp), best(once)
        difference = one[stats.RECALL] / other[stats.RECALL] - 1
        yield row("omp-recall", names, pd.concat([one, other]), verdict(difference))


def rp_finds(read: Read) -> Iterator[dict[str, Any]]:
    """§4.3: a random mask finds no ticket, but for LightGCN on the paper's TikTok; said of the
    paper's data, of which Yelp2018 is public."""
    for names, _, random in _imp_and(read, "random"):
        ticket = sparsest(random)
        said = verdict(ticket["difference"], -stats.MARGIN, at_least=False)
        if names["dataset"] not in PAPER_SETS:
            said["verdict"] = verdicts.NOT_APPLICABLE
        yield row("rp-finds", names, ticket, said, density=ticket["density"])


def rewind_better(read: Read) -> Iterator[dict[str, Any]]:
    """§4.5: rewound, the best ticket has a higher Recall@20 than re-initialised or not rewound."""
    for names, rows in by_setting(read("rewinding")):
        ours = best(rows[rows["rewind"] == "rewind"])
        for other in ("reinit", "continue"):
            theirs = rows[rows["rewind"] == other]
            if len(theirs):
                one = best(theirs)
                difference = ours[stats.RECALL] / one[stats.RECALL] - 1
                yield row("rewind-better", names, one, verdict(difference), f"to {other}")


def rewind_stable(read: Read) -> Iterator[dict[str, Any]]:
    """§4.5: rewound, a winning ticket is found in more seeds than re-initialised. Three to five
    seeds of one data set and model cannot tell, so that a last row has all of these as its n."""
    apart, of = [], []
    for names, rows in by_setting(read("rewinding")):
        shares = {w: float((highest_sparsity(g) > 0).mean()) for w, g in rows.groupby("rewind")}
        if "reinit" in shares:
            n = rows.loc[rows["rewind"] == "reinit", "seed"].nunique()
            said = {"estimate": shares["rewind"] - shares["reinit"], "n": n}
            said["verdict"] = verdicts.ONE_RUN if n == 1 else verdicts.TOO_FEW.format(n)
            yield row("rewind-stable", names, rows, said, "to reinit", unit=verdicts.SHARE)
            apart.append(said["estimate"])
            of.append(rows[rows["rewind"].isin(["rewind", "reinit"])])
    if apart:
        everywhere = {"dataset": "all", "backbone": "", "protocol": "validated"}
        said, about = verdict(pd.Series(apart)), f"{len(apart)} data sets and models"
        said |= {name: np.clip(said[name], -1, 1) for name in ("low", "high") if name in said}
        yield row("rewind-stable", everywhere, pd.concat(of), said, about, unit=verdicts.SHARE)


def size_trend(read: Read) -> Iterator[dict[str, Any]]:
    """§4.5: curves of different sizes have almost the same trend: at no density do two of them
    differ by five points or more. Of the pair and density that differ most, on average."""
    for names, rows in by_setting(read("sizes")):
        sizes = sorted(rows["embedding_size"].unique())
        pairs = []
        tickets = rows[rows["round"] > 0]
        for small, large in itertools.pairwise(sizes):
            one, other = (tickets[tickets["embedding_size"] == s] for s in (small, large))
            joined = one.merge(other, on=["seed", "round"], suffixes=("", "_other"))
            joined["apart"] = joined["difference"] - joined["difference_other"]
            pairs += [
                (f"F = {small} and {large}, round {n}", g) for n, g in joined.groupby("round")
            ]
        about, most = max(pairs, key=lambda pair: abs(pair[1]["apart"].mean()))
        said = same(most["apart"], SAME)
        yield row("size-trend", names, most, said, about, most["density"], POINTS)


def rates(read: Read) -> Iterator[dict[str, Any]]:
    """§4.5, of the lowest and the highest pruning rate that were run: the highest winning sparsity
    is the same (to five points, of rounds at about the same densities); the lower rate has the
    better best ticket; the higher one needs fewer prunings to its sparsest winning ticket (a ratio,
    geometric mean)."""
    for names, rows in by_setting(read("rates")):
        ran = rows["rate"].isin(rows.loc[rows["round"] > 0, "rate"])
        by_rate = dict(list(rows[ran].groupby("rate")))
        if len(by_rate) < 2:
            continue
        low, high = by_rate[min(by_rate)], by_rate[max(by_rate)]
        about = f"rates {min(by_rate):.0%} and {max(by_rate):.0%}"
        one, other = highest_sparsity(low), highest_sparsity(high)
        # Small steps come nearer to the same limit, so both are asked at the large ones.
        steps = high.loc[high["round"] > 0, "density"].round(3).unique()
        near = [low.loc[(low["density"] - at).abs().idxmin(), "round"] for at in steps]
        apart = same(highest_sparsity(low[low["round"].isin([0, *near])]) - other, SAME)
        yield row("rate-sparsity", names, rows, apart, about, unit=POINTS)
        better = best(low)[stats.RECALL] / best(high)[stats.RECALL] - 1
        yield row("rate-recall", names, rows, verdict(better), about)
        found = ((one, min(by_rate)), (other, max(by_rate)))
        steps = [np.log(1 - s[s > 0]) / np.log(1 - rate) for s, rate in found]
        ratio = verdict(np.log(steps[0] / steps[1]))
        yield row("rate-steps", names, rows, _unlogged(ratio), about, unit=f"{RATIO} of prunings")


def lcm(read: Read) -> Iterator[dict[str, Any]]:
    """§4.4: the ticket is better than LCM at 50 and at 25 % of the teacher's entries."""
    for names, rows in by_setting(read("lcm")):
        for share in (0.5, 0.25):
            at = rows[(rows["density"] - share).abs() < 5e-3].set_index("seed")
            ours, theirs = (at.loc[at["method"] == m, stats.RECALL] for m in ("imp", "lcm"))
            about = f"embedding size {rows['embedding_size'].max()}"
            said = verdict(ours / theirs - 1)
            yield row(f"lcm-{share * 100:.0f}", names, at[at["method"] != "dense"], said, about)


def training_speed(read: Read) -> Iterator[dict[str, Any]]:
    """§4.6: the ticket's best epoch comes before the dense model's: the ratio of epochs, dense over
    ticket, is above 1 (a geometric mean; its interval is of logarithms)."""
    for names, rows in by_setting(read("existence")):
        ticket = sparsest(rows)
        dense = rows[rows["round"] == 0].drop_duplicates("seed").set_index("seed")["best_epoch"]
        ratio = np.log(ticket["seed"].map(dense) / ticket["best_epoch"])
        said = _unlogged(verdict(ratio))
        unit = f"{RATIO} of best epochs"
        yield row("training-speed", names, ticket, said, density=ticket["density"], unit=unit)


def complexity(read: Read) -> Iterator[dict[str, Any]]:
    """§3.5: by the formula of the fullest row a ticket takes fewer multiply-adds than the dense
    model. Of the selected density's first mask that is kept, so of one run."""
    tables = Recorded()
    for names, rows in by_setting(read("existence")):
        ticket = sparsest(rows).sort_values("seed")
        held = ticket[[d in tables.held("masks") for d in ticket["mask_digest"]]].head(1)
        for one in held.itertuples():
            model = Model(backbone=one.backbone)
            cost = masks.costs(tables.mask(one.mask_digest), one.users, model, one.train_pairs)
            needed = cost["work_needed"]
            about = "" if np.isnan(needed) else f"{needed:.3f} needed; by the formula"
            said = verdict(pd.Series([cost["work_paper"]]), 1.0, at_least=False)
            unit = f"{RATIO} of multiply-adds"
            yield row("complexity", names, held, said, about, held["density"], unit)


def _unlogged(said: dict[str, Any]) -> dict[str, Any]:
    """The row's numbers of a mean of logarithms, as ratios."""
    return said | {n: float(np.exp(said[n])) for n in ("estimate", "low", "high") if n in said}


def unanswered(_: Read) -> Iterator[dict[str, Any]]:
    """Claims for which there is nothing: data that are not public, runs that are owed, and
    what is true by construction: a mask that keeps the largest entries keeps the largest."""
    everywhere = {"dataset": "all", "backbone": "", "protocol": ""}
    said = {"n": 0, "verdict": verdicts.NOT_APPLICABLE}
    yield row("magnitude", everywhere, None, said, "true by construction")
    names = {"dataset": "kwai", "backbone": "", "protocol": "paper"}
    for claim in ("kwai-mf", "kwai-lightgcn"):
        yield row(claim, names, None, {"n": 0, "verdict": verdicts.NO_DATA})
    yield row(
        "rp-falls", {**names, "dataset": "tiktok"}, None, {"n": 0, "verdict": verdicts.NO_DATA}
    )
    names = {"dataset": "yelp2018", "backbone": "lightgcn", "protocol": "paper"}
    for claim in ("lcm-50", "lcm-25"):
        yield row(claim, names, None, {"n": 0, "verdict": verdicts.NOT_RUN}, "embedding size 128")
    for claim in ("rate-sparsity", "rate-recall", "rate-steps"):
        yield row(claim, names, None, {"n": 0, "verdict": verdicts.NOT_RUN})


CLAIMS: tuple[Callable[[Read], Iterator[dict[str, Any]]], ...] = (
    abstract_density,
    existence,
    omp,
    rp_finds,
    rewind_better,
    rewind_stable,
    size_trend,
    rates,
    lcm,
    complexity,
    training_speed,
    beyond.tuned,
    beyond.sparse,
    beyond.narrow,
    beyond.axes,
    beyond.optimizers,
    beyond.fewer_pairs,
    unanswered,
)


def findings() -> pd.DataFrame:
    """All rows, in a fixed order: :data:`COLUMNS`. `by ndcg` is the verdict on the same runs by
    NDCG@20 on test, where the validation set chose them and the estimate is a relative difference
    in Recall@20."""
    frame = results()

    @cache
    def read(chapter: str) -> pd.DataFrame:
        rows = table(chapter, frame=frame)
        # A search that was stopped before its first ticket says nothing yet.
        begun = rows.groupby("search")["round"].transform("max") == 0
        return smallest_batches(rows[~begun | (rows["method"] == "dense")])

    def by_ndcg(chapter: str) -> pd.DataFrame:
        rows = read(chapter)
        return rows.assign(**{stats.RECALL: rows["ndcg@20"]})

    found, other = (
        pd.DataFrame([row for claim in CLAIMS for row in claim(one)]) for one in (read, by_ndcg)
    )
    on = ["claim", *SETTING, "about"]
    other = other[(other["unit"] == verdicts.DIFFERENCE) & (other["protocol"] == "validated")]
    other = other[[*on, "verdict"]].rename(columns={"verdict": "by ndcg"})
    found = found.merge(other, on=on, how="left", validate="one_to_one").reindex(columns=COLUMNS)
    return found.sort_values(on, ignore_index=True)


def cells() -> pd.DataFrame:
    """The cells of Tables 2 and 3, 48 each, as printed, beside recorded runs of their setting.

    `setting` and `density` tell a cell apart; `printed`, `ours` (a mean over seeds), `difference`,
    `n`, `verdict` (of what was not run or has no data; else empty), `keys`.
    """
    ran = table("existence", protocol="paper")
    printed = [{**vars(cell), "table": 2, "setting": "IMP"} for cell in paper.TABLE2]
    for cell in paper.TABLE3:
        how = {"backbone": "lightgcn", "setting": f"{cell.method}, from {cell.original_size}"}
        printed.append({**vars(cell), "table": 3, **how})
    rows = []
    for cell in printed:
        same = (ran["dataset"] == cell["dataset"]) & (ran["backbone"] == cell["backbone"])
        same &= ((ran["density"] - cell["density"]).abs() < 5e-4) & (cell["table"] == 2)
        here = ran[same]
        ours = here[cell["metric"]].mean()
        missing = verdicts.NOT_RUN if cell["dataset"] in PAPER_SETS else verdicts.NO_DATA
        about = {n: cell[n] for n in ("table", "dataset", "backbone", "metric", "setting")}
        about |= {"density": round(cell["density"], 3), "printed": cell["value"], "ours": ours}
        about |= {"difference": ours - cell["value"], "n": len(here)}
        rows.append(about | {"verdict": "" if len(here) else missing, "keys": keys(here)})
    return pd.DataFrame(rows)


def recorded(*claims: str) -> pd.DataFrame:
    """The findings file's rows of some claims; of all where none is named."""
    path = results_folder() / "findings.csv"
    found = pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=COLUMNS)
    return found[found["claim"].isin(claims or found["claim"])].reset_index(drop=True)


def number(claim: str, dataset: str = "yelp2018", backbone: str = "mf", about: str = "") -> str:
    """One of the file's rows in words: estimate, interval and n, and the density where it has one.
    about: how that column ends, where a claim has several rows."""
    rows = _in_words(recorded(claim))
    rows = rows[(rows["dataset"] == dataset) & (rows["backbone"] == backbone)]
    [row] = rows[rows["about"].fillna("").str.endswith(about)].itertuples()
    said = row.said.replace(")", f"; n = {row.n})")
    return said + (f"{row.at} of the entries" if row.at else "")


def count(*names: str) -> str:
    """How often some claims are supported, of how many data sets and models with seeds enough."""
    ran = _in_words(recorded(*names)).dropna(subset="low")
    return f"{(ran['verdict'] == verdicts.SUPPORTED).sum()} of {len(ran)}"


def _in_words(found: pd.DataFrame) -> pd.DataFrame:
    """What was chosen on the validation set, with `said`, the estimate and its interval, and `at`,
    the density, or empty."""
    found = found[found["protocol"] == "validated"]
    at = found["density"].map(" at {:.0%}".format).str.replace("%", " %")
    at = at.where(found["density"].notna(), "")
    return found.assign(said=stats.interval(found.rename(columns={"estimate": "mean"})), at=at)


def write(path: Path) -> pd.DataFrame:
    """Write the findings as a table of text, which a reader can compare with the one before; and
    those that the README beside its folder shows."""
    found = findings()
    write_file(path, found.to_csv(index=False, float_format="%.6f").encode())
    readme = path.absolute().parents[1] / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    before, mark, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if mark and end:
        write_file(readme, f"{before}{BEGIN}\n{overview(pd.read_csv(path))}\n{END}{after}".encode())
    return found


BEGIN, END = "<!-- findings: made by `python -m lthnb results findings` -->", "<!-- end -->"
SHOWN = {  # claim → heading in the README
    "existence": "selected ticket against the dense model, both at λ = 1e−4",
    "tuned-dense": "dense model with λ tuned against that at λ = 1e−4",
    "ticket-to-tuned": "selected ticket at λ = 1e−4 against the tuned dense model",
    "tuned-ticket": "selected ticket of the tuned model against that",
}


def overview(found: pd.DataFrame) -> str:
    """The findings that the README shows, as a Markdown table: Recall@20 on test, paired by seed,
    with 95 % intervals over seeds, and each ticket's density."""
    found = _in_words(found[found["claim"].isin(SHOWN)])
    cells = named(found.assign(said=found["said"] + found["at"], method="", rewind=""))
    cells["data"] += (", " + found["about"].str.extract(r"(batches of [\d,]+)$")[0]).fillna("")
    wide = cells.pivot(index=["model", "data"], columns="claim", values="said")[[*SHOWN]]
    wide = wide.reindex(sorted(wide.index, key=lambda i: (i[0] != "MF", i[1])))
    lines = ["| " + " | ".join(["", *SHOWN.values()]) + " |", "|---" * (len(SHOWN) + 1) + "|"]
    lines += [
        "| " + " | ".join([f"{model}, {data}", *row.fillna("–")]) + " |"
        for (model, data), row in wide.iterrows()
    ]
    return "\n".join(lines)


def _imp_and(
    read: Read, method: str
) -> Iterator[tuple[dict[str, str], pd.DataFrame, pd.DataFrame]]:
    """Rows of IMP at the densities of another method, and that method's, with the seeds of both."""
    for names, rows in by_setting(read("baselines")):
        other = rows[rows["method"] == method]
        imp = rows[(rows["method"] == "imp") & rows["seed"].isin(other["seed"])]
        near = imp["density"].round(2).isin(other["density"].round(2))
        if len(other) and len(imp):
            yield names, imp[near], other[other["seed"].isin(imp["seed"])]
