"""The paper's claims and numbers beside ours, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from lthnb import paper
from lthnb.answers import NO_DATA, NOT_RUN, Answer, Evidence, answers
from lthnb.plots.style import small_keys, table
from lthnb.profiles import literature
from lthnb.standings import BACKBONE_NAMES, has_setting
from lthnb.store.records import Record


def verdicts_table(evidence: Mapping[str, Evidence]):
    """A line a claim, a column each body of evidence, in it a verdict for each backbone and data
    set; equal ones are said once."""
    rows = []
    for claim in paper.CLAIMS:
        row = {"claim": claim.id, "section": claim.section, "the paper says": claim.says}
        for name, one in evidence.items():
            row[name] = _in_short(answers(claim.id, one)) + _not_run(claim, answers(claim.id, one))
        rows.append(row)
    return table(
        pd.DataFrame(rows),
        "Every claim of the paper, and what our runs say",
        "Details and runs of each follow below.",
    ).cols_width({"the paper says": "45%"})


def _in_short(found: Sequence[Answer]) -> str:
    several = len({_parts(one)[1] for one in found}) > 1
    by_verdict: dict[str, list[str]] = {}
    for one in found:
        names = by_verdict.setdefault(one.verdict, [])
        name = _short_name(one, several)
        if name and name not in names:
            names.append(name)
    return "; ".join(
        f"{', '.join(names)}: {verdict}" if names else verdict
        for verdict, names in by_verdict.items()
    )


def _not_run(claim: paper.Claim, found: Sequence[Answer]) -> str:
    """The backbones that a claim is about and that nothing was run of."""
    about = {n.backbone for n in claim.numbers} - {""} or set(paper.BACKBONES)
    names = [BACKBONE_NAMES[b] for b in paper.BACKBONES if b in about]
    missing = [n for n in names if not any(a.about.startswith(f"{n} ") for a in found)]
    return f"; {', '.join(missing)}: {NOT_RUN}" if any(a.about for a in found) and missing else ""


def _short_name(answer: Answer, several: bool) -> str:
    """The title without what the column's head says already, but with the protocol; with the data
    set where the column has several."""
    backbone, data = _parts(answer)
    name = f"{backbone} on {data}" if several else backbone
    also = [part for part in answer.about.split(", ") if part.startswith("batches ")]
    also += ["chosen on test"] * ("chosen on test" in answer.about)
    return f"{name} ({', '.join(also)})" if also else name


def _parts(answer: Answer) -> tuple[str, str]:
    """Backbone and data set of an answer."""
    backbone, _, rest = answer.about.partition(" on ")
    return backbone, rest.partition(",")[0]


def numbers_table(evidence: Evidence):
    """Every number that a claim states, beside ours where a recorded run has the same data set and
    backbone, else with the reason why there is none."""
    ours: dict[tuple[str, paper.Number], list[tuple[Answer, float]]] = {}
    for claim in paper.CLAIMS:
        for answer in [] if claim.open else answers(claim.id, evidence):
            for number, value in answer.numbers:
                ours.setdefault((claim.id, number), []).append((answer, value))
    rows = []
    for claim in paper.CLAIMS:
        for number in claim.numbers:
            found = ours.get((claim.id, number), [])
            missing = NOT_RUN if number.dataset in ("", *PUBLIC) else NO_DATA
            for answer, value in found or [(None, None)]:
                rows.append(
                    {
                        "claim": claim.id,
                        "section": claim.section,
                        "data set": paper.TITLES.get(number.dataset, "any"),
                        "backbone": paper.TITLES.get(number.backbone, "both"),
                        "quantity": f"{number.what}, {number.unit}",
                        "paper": number.value,
                        "ours": value,
                        "difference": None if value is None else value - number.value,
                        "our run": missing if answer is None else _protocol(answer),
                        "runs": answer and ", ".join(key[:8] for key in answer.keys),
                    }
                )
    return small_keys(
        table(
            pd.DataFrame(rows),
            "Numbers of the text, the paper's and ours",
            "«no data»: TikTok and Kwai were never released. «not run»: no recorded run yet.",
        )
        .fmt_number(["paper", "ours"], decimals=2, drop_trailing_zeros=True)
        .fmt_number("difference", decimals=2, force_sign=True)
    )


PUBLIC = ("yelp2018",)  # the paper's data sets that are public


def _protocol(answer: Answer) -> str:
    return "chosen on test" if "chosen on test" in answer.about else "chosen on valid"


def references_table(records: Sequence[Record]):
    """Dense results that others publish, beside recorded dense runs of the same model and data."""
    rows = []
    for one, wanted in literature():
        ours = [
            r
            for r in records
            if r.data["origin"].get("source") == one.dataset
            and r.density == 1
            and has_setting(r, wanted)
        ]
        for metric, printed in (("recall@20", one.recall), ("ndcg@20", one.ndcg)):
            values = [r.metric(metric) for r in ours]
            mean = sum(values) / len(values) if values else None
            rows.append(
                {
                    "data set": paper.TITLES.get(one.dataset, one.dataset),
                    "model": f"{BACKBONE_NAMES[one.backbone]}, F = {one.embedding_size}",
                    "metric": paper.TITLES[metric],
                    "published": printed,
                    "ours": mean,
                    "difference": None if mean is None else mean - printed,
                    "source": one.source,
                    "runs": ", ".join(r.key[:8] for r in ours) or NOT_RUN,
                }
            )
    return small_keys(
        table(pd.DataFrame(rows), "Dense results that others publish, and ours")
        .fmt_number(["published", "ours"], decimals=4)
        .fmt_number("difference", decimals=4, force_sign=True)
    )
