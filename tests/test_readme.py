"""Every number of what the README says was found, worked out from the records again.

What must stand there is written anew from `results/`, letter for letter: a failing test shows it,
to be pasted. Nothing else there may be a result.
"""

import re
from pathlib import Path

import pytest
from recorded import at

from lthnb import compression, measured, paper
from lthnb.budget import measured_costs
from lthnb.plots.ladders import is_cell
from lthnb.profiles import SMALL_SETS
from lthnb.standings import BACKBONE_NAMES, beside_narrow, difference, records_in
from lthnb.tuning import beside_tuned
from lthnb.verdicts import sign

ROOT = Path(__file__).resolve().parents[1]
SETS = {"yelp2018": "Yelp2018", "movielens": "MovieLens", "lastfm": "lastfm"} | {
    "tiktok-mmssl": "TikTok's subset"
}


@pytest.fixture(scope="module")
def readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text.partition("## What was found")[2].partition("\n## ")[0]


def percent(value):
    return f"{100 * value:.1f} %"


def said(d):
    """A difference and its interval; bold where that lies on one side of zero."""
    if d is None:
        return "–"
    text = f"{100 * d.mean:+.1f} % ({100 * d.low:+.1f} to {100 * d.high:+.1f})".replace("-", "−")
    return f"**{text}**" if sign(d) else text


def table(head, rows):
    head = head.split("|")
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))


def lambda_table(recorded):
    rows = []
    for backbone, name in BACKBONE_NAMES.items():
        tuned, climbed = recorded.tuned(backbone), recorded.climbed(backbone)
        for source in (s for s in SETS if s in tuned):
            one = tuned[source]
            own = at(climbed[source], 0.64).difference if source in climbed else None
            shown = one.gain, one.ticket.difference, one.lead, own
            rows.append([f"{name}, {SETS[source]}", *map(said, shown)])
    head = "|dense, λ tuned, to dense|best ticket, to dense|the same, to dense, λ tuned"
    return table(f"{head}|ticket of 64 %, to dense, both tuned", rows)


def ways_table(recorded):
    rows = []
    for backbone, name in BACKBONE_NAMES.items():
        ways = recorded.ways("rewinds", backbone)
        random = recorded.ways("baselines", backbone)
        for source in SMALL_SETS:
            rewound = at(ways[source, "imp", "rewind"], 0.21)
            others = [ways[source, "imp", way] for way in ("reinit", "continue", "late")]
            there = [at(one, 0.21) for one in (*others, random[source, "rp", "rewind"])]
            assert all(s.density == pytest.approx(rewound.density, rel=1e-3) for s in there)
            shown = rewound.difference, *(difference(s.records, rewound.records) for s in there)
            rows.append([f"{name}, {SETS[source]}", *map(said, shown)])
    head = "21 % of the entries|rewound, to dense|drawn anew, to rewound"
    return table(f"{head}|trained values kept|set back to epoch 5|random mask", rows)


def sizes_table(recorded):
    rows = []
    for backbone, name in BACKBONE_NAMES.items():
        tuned = recorded.tunings(backbone, "sizes")
        found = {
            (one.narrow.published, one.narrow.spec.model.embedding_size): one
            for one in beside_narrow(recorded.fields("sizes", backbone))
            if one.wide.spec.model.embedding_size == 64
        }
        for source in SMALL_SETS:
            quarter, half = found[source, 16], found[source, 32]
            shown = quarter.difference, half.difference, beside_tuned(half, tuned)
            rows.append([f"{name}, {SETS[source]}", *map(said, shown)])
    return table("64 columns|26 %, to 16|51 %, to 32|51 %, to 32 with λ tuned", rows)


def compressed_table(recorded):
    found = recorded.compressed()
    rows = [
        [f"{SETS[source]}, {one.density:.0%}".replace("%", " %")]
        + [said(one.difference(*two)) for two in compression.PAIRS]
        for source in SMALL_SETS
        for density in (0.5, 0.25)
        if (one := found.get((source, density)))
    ]
    return table("LightGCN|ticket to LCM|ticket to small dense|LCM to small dense", rows)


def on_yelp2018(recorded, protocol):
    """Method → ladder of MF."""
    return {
        one.ladder.method: one
        for one in recorded.fields("baselines", "mf")
        if (one.published, one.spec.training.protocol) == ("yelp2018", protocol)
    }


def cells_said(recorded):
    one = on_yelp2018(recorded, "paper")["imp"].with_seeds([0])
    for cell in paper.cells("yelp2018", "mf", "recall@20"):
        [record] = [r for r in records_in([one]) if is_cell(r, cell)]
        kept = f" at {percent(1 - cell.sparsity_percent / 100)}" if cell.sparsity_percent else ""
        yield f"{record.metric('recall@20'):.4f}{kept} ({cell.value:.4f})"


def search_said(recorded):
    as_published = on_yelp2018(recorded, "paper")
    yield f"keeps {percent(as_published['imp'].sparsest.density)} by IMP"
    yield f"{percent(as_published['omp'].sparsest.density)} by OMP"
    last = as_published["omp"].standings[-1]
    yield f"Recall@20 {last.results['recall@20']:.4f} at {percent(last.density)}"
    winner = on_yelp2018(recorded, "validated")["imp"].sparsest
    yield f"{percent(winner.density)} of the entries stand at {said(winner.difference)} to dense"


def anew_said(recorded):
    ways = recorded.ways("rewinds", "mf")
    anew = ways["yelp2018", "imp", "reinit"]
    rewound = ways["yelp2018", "imp", "rewind"].with_seeds(anew.seeds)
    tickets = [s.number for s in anew.standings if s.number]
    fall = [-difference(anew.records(n), rewound.records(n)).mean for n in tickets]
    assert len(anew.seeds) == 1
    yield f"by {percent(min(fall))} to {percent(max(fall))} on Yelp2018, where one seed was run"


def packed_said(recorded):
    [costs] = [c for t, c in measured_costs(measured.recorded()).items() if "yelp2018" in t]
    winner = on_yelp2018(recorded, "validated")["imp"].sparsest
    size = {
        (c.density == 1, c.values): f"{c.file / 1e6:.2f} MB"
        for c in costs
        if c.density == 1 or c.run in winner.keys
    }
    yield f"{size[True, 'float32']} dense"
    yield f"{size[False, 'float32']} as a ticket"
    yield f"{size[False, 'int8']} with values of 8 bits"
    yield f"{size[True, 'int8']}"


TABLES = (lambda_table, ways_table, sizes_table, compressed_table)
SENTENCES = (cells_said, search_said, anew_said, packed_said)


@pytest.fixture(scope="module")
def made(recorded):
    """Name of a table or of a sentence → what it must say."""
    tables = {one.__name__: [one(recorded)] for one in TABLES}
    return tables | {one.__name__: list(one(recorded)) for one in SENTENCES}


@pytest.mark.parametrize("what", TABLES + SENTENCES)
def test_it_says_what_the_records_have(made, readme, what):
    assert made[what.__name__]
    assert [one for one in made[what.__name__] if one not in readme] == []


def test_nothing_else_there_is_a_result(made, readme):
    for one in (text for texts in made.values() for text in texts):
        readme = readme.replace(one, "")
    assert re.findall(r".*\d\.\d.*", readme) == []
