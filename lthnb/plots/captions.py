"""What stands around a figure or table: its caption, an alternative text, and its numbers as CSV.

All of it is inside the cell's output, so that it is the same in JupyterLab and in the built book,
and works offline. The book's style sheet numbers figures and tables.
"""

from __future__ import annotations

import base64
from collections import defaultdict
from html import escape
from io import BytesIO

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import HTML

from lthnb import paper, stats
from lthnb.experiments.names import CLAIMS, DATA, named
from lthnb.store.records import RUN_COLUMNS, SEARCH_COLUMNS

RECORDED = {*RUN_COLUMNS, *SEARCH_COLUMNS}
SEEDS = "Means over seeds (of initial table and order of triplets, not of splits), 95 % intervals."
PUBLIC = DATA["yelp2018"]  # of the paper's data sets
IN_CSV = {  # of the columns of recorded runs
    *("dataset", "backbone", "embedding_size", "batch_size", "protocol", "l2", "method", "rate"),
    *("rewind", "criterion", "basis", "policy", "split", "noise", "seed", "round", "density"),
    *("entries", "recall@20", "ndcg@20", "valid_recall@20", "best_epoch", "epochs", "key"),
    "learning_rate",
}


def csv_link(frame: pd.DataFrame, name: str) -> str:
    """A link, as HTML, to a frame's rows as the file ``name.csv``, which the link itself holds. Of
    recorded runs, which have a `key`, the columns are :data:`IN_CSV` and a chapter's own."""
    left_out = RECORDED - IN_CSV if "key" in frame else ()
    wanted = [column for column in frame if column not in left_out]
    text = frame[wanted].to_csv(index=False, float_format="%.6g")
    held = base64.b64encode(text.encode()).decode()
    words = f"{name}.csv, {len(frame):,} rows"
    return f'<a download="{name}.csv" href="data:text/csv;base64,{held}">{words}</a>'


def csv(frame: pd.DataFrame, name: str) -> HTML:
    """A frame as a link to its CSV alone, where a table would only repeat a figure."""
    return HTML(f"<p>{csv_link(frame, name)}</p>")


def show(name: str, frame: pd.DataFrame, caption: str, alt: str) -> HTML:
    """The current figure as SVG, with a caption, and what is drawn as CSV.

    name: of the figure and its CSV. frame: the rows that are drawn. alt: what the figure shows, for
    whoever does not see it.
    """
    figure, drawn = plt.gcf(), BytesIO()
    # A fixed salt and no date: the same figure is the same bytes.
    with plt.rc_context({"svg.hashsalt": name}):
        figure.savefig(drawn, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    image = base64.b64encode(drawn.getvalue()).decode()
    source = f"data:image/svg+xml;base64,{image}"
    return HTML(
        f'<figure class="numbered" id="{name}"><img alt="{escape(alt)}" src="{source}" '
        f'style="max-width: 100%"/><figcaption>{escape(caption)} {csv_link(frame, name)}'
        "</figcaption></figure>"
    )


def claims(
    found: pd.DataFrame, name: str, *, brief: bool = False, of: pd.DataFrame | None = None
) -> HTML:
    """Rows of the findings as a list: what the paper says, or what is said here, then data and
    models by verdict, with estimates, or if `brief` their number, and how many of them are of the
    paper's public data; all numbers as CSV, or those of the frame `of` which they are a part."""
    found = named(found.assign(mean=found["estimate"], method="", rewind=""))
    said = {claim.id: f"{escape(claim.says)} ({claim.section})" for claim in paper.CLAIMS}
    items = []
    for claim, rows in found.groupby("claim", sort=False):
        verdicts = defaultdict(list)
        for row, estimate in zip(rows.itertuples(), stats.interval(rows), strict=True):
            where = ", ".join(word for word in (row.data, row.model) if isinstance(word, str))
            where += " on test" * (row.protocol == "paper" and row.n > 0)
            where += f" ({row.about})" if isinstance(row.about, str) else ""
            if "points" in row.unit:
                estimate = estimate.replace(" %", " points")
            if row.unit.startswith("ratio"):
                estimate = f"{row.estimate:.2f}"
                estimate += f" ({row.low:.2f} to {row.high:.2f})" * (row.low == row.low)
            verdicts[row.verdict].append(where + f" {estimate}" * (row.estimate == row.estimate))
        lines = [
            f"<em>{word}</em>: {_number(where) if brief else '; '.join(dict.fromkeys(where))}"
            for word, where in verdicts.items()
        ]
        about = said.get(claim) or f"{CLAIMS[claim]} (ours)"
        items.append(f"<li><strong>{claim}</strong>: {about}<br/>{'. '.join(lines)}.</li>")
    bounds = (
        "" if brief else "Intervals are two-sided; who matches is judged by a one-sided bound. "
    )
    return HTML(
        f"<ul>{''.join(items)}</ul><p>{bounds}{csv_link(found if of is None else of, name)}</p>"
    )


def _number(where: list[str]) -> str:
    public = sum(one.startswith(PUBLIC) for one in where)
    return f"{len(where)}" + f" ({public} on {PUBLIC})" * (public > 0)
