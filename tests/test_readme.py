"""Every number of what the README says was found, worked out from the records again.

What must stand there is written anew from `results/`, letter for letter: a failing test shows it,
to be pasted. Nothing else there may be a result.
"""

import re
from pathlib import Path

import pytest

from lthnb import compression, paper, profiles
from lthnb.budget import measured_costs
from lthnb.plots.ladders import is_cell
from lthnb.profiles import SMALL_SETS
from lthnb.standings import BACKBONE_NAMES, beside_narrow, difference, recorded_fields, records_in
from lthnb.store import Store
from lthnb.tuning import beside_tuned, tunings
from lthnb.verdicts import LEAST_SEEDS, sign

ROOT = Path(__file__).resolve().parents[1]
SETS = {"yelp2018": "Yelp2018", "movielens": "MovieLens", "lastfm": "lastfm"} | {
    "tiktok-mmssl": "TikTok's subset"
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("none"))


@pytest.fixture(scope="module")
def readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text.partition("## What was found")[2].partition("\n## ")[0]


class Ran:
    """Recorded ladders with batches as the paper's."""

    def __init__(self, store):
        self.store = store

    def fields(self, chapter, backbone):
        found = recorded_fields(profiles.recorded_contests(chapter, [backbone]), self.store)
        return [one for one in found if one.has_usual_batches]

    def tunings(self, fields, backbone):
        tried = profiles.recorded_tried("l2", [backbone])
        return tunings("l2", fields, recorded_fields(tried, self.store, dense_alone=True))

    def validated(self, chapter, backbone):
        """(source, method, rewind) → ladder."""
        return {
            (one.published, one.ladder.method, one.ladder.rewind): one
            for one in self.fields(chapter, backbone)
            if one.spec.training.protocol == "validated"
        }

    def on_yelp2018(self, protocol):
        """method → ladder of MF."""
        return {
            one.ladder.method: one
            for one in self.fields("baselines", "mf")
            if (one.published, one.spec.training.protocol) == ("yelp2018", protocol)
        }


@pytest.fixture(scope="module")
def ran(store):
    return Ran(store)


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


def at(one, density):
    return min(
        (s for s in one.standings if s is not None and s.number),
        key=lambda s: abs(s.density - density),
    )


def lambda_table(ran):
    climbed = {
        (one.spec.model.backbone, one.published): at(one, 0.64).difference
        for one in recorded_fields(profiles.recorded_tuned(list(BACKBONE_NAMES)), ran.store)
        if len(one.seeds) >= LEAST_SEEDS
    }
    rows = []
    for backbone, name in BACKBONE_NAMES.items():
        found = ran.tunings(ran.fields("existence", backbone), backbone)
        tuned = {one.field.published: one for one in found}
        for source in (s for s in SETS if s in tuned):
            one = tuned[source]
            shown = one.gain, one.ticket.difference, one.lead, climbed.get((backbone, source))
            rows.append([f"{name}, {SETS[source]}", *map(said, shown)])
    head = "|dense, λ tuned, to dense|best ticket, to dense|the same, to dense, λ tuned"
    return table(f"{head}|ticket of 64 %, to dense, both tuned", rows)


def ways_table(ran):
    rows = []
    for backbone, name in BACKBONE_NAMES.items():
        ways = ran.validated("rewinds", backbone)
        random = ran.validated("baselines", backbone)
        for source in SMALL_SETS:
            rewound = at(ways[source, "imp", "rewind"], 0.21)
            others = [ways[source, "imp", way] for way in ("reinit", "continue", "late")]
            there = [at(one, 0.21) for one in (*others, random[source, "rp", "rewind"])]
            assert all(s.density == pytest.approx(rewound.density, rel=1e-3) for s in there)
            shown = rewound.difference, *(difference(s.records, rewound.records) for s in there)
            rows.append([f"{name}, {SETS[source]}", *map(said, shown)])
    head = "21 % of the entries|rewound, to dense|drawn anew, to rewound"
    return table(f"{head}|trained values kept|set back to epoch 5|random mask", rows)


def sizes_table(ran):
    rows = []
    for backbone, name in BACKBONE_NAMES.items():
        fields = ran.fields("sizes", backbone)
        tuned = ran.tunings(fields, backbone)
        found = {
            (one.narrow.published, one.narrow.spec.model.embedding_size): one
            for one in beside_narrow(fields)
            if one.wide.spec.model.embedding_size == 64
        }
        for source in SMALL_SETS:
            quarter, half = found[source, 16], found[source, 32]
            shown = quarter.difference, half.difference, beside_tuned(half, tuned)
            rows.append([f"{name}, {SETS[source]}", *map(said, shown)])
    return table("64 columns|26 %, to 16|51 %, to 32|51 %, to 32 with λ tuned", rows)


def compressed_table(ran):
    found = {
        (one.published, one.density): one
        for one in compression.recorded(profiles.recorded_matches(), ran.store)
        if one.complete and len(one.seeds) >= LEAST_SEEDS
    }
    rows = [
        [f"{SETS[source]}, {one.density:.0%}".replace("%", " %")]
        + [said(one.difference(*two)) for two in compression.PAIRS]
        for source in SMALL_SETS
        for density in (0.5, 0.25)
        if (one := found.get((source, density)))
    ]
    return table("LightGCN|ticket to LCM|ticket to small dense|LCM to small dense", rows)


def cells_said(ran):
    one = ran.on_yelp2018("paper")["imp"].with_seeds([0])
    for cell in paper.cells("yelp2018", "mf", "recall@20"):
        [record] = [r for r in records_in([one]) if is_cell(r, cell)]
        kept = f" at {percent(1 - cell.sparsity_percent / 100)}" if cell.sparsity_percent else ""
        yield f"{record.metric('recall@20'):.4f}{kept} ({cell.value:.4f})"


def search_said(ran):
    as_published = ran.on_yelp2018("paper")
    yield f"keeps {percent(as_published['imp'].sparsest.density)} by IMP"
    yield f"{percent(as_published['omp'].sparsest.density)} by OMP"
    last = as_published["omp"].standings[-1]
    yield f"Recall@20 {last.results['recall@20']:.4f} at {percent(last.density)}"
    winner = ran.on_yelp2018("validated")["imp"].sparsest
    yield f"{percent(winner.density)} of the entries stand at {said(winner.difference)} to dense"


def packed_said(ran):
    [costs] = [c for t, c in measured_costs(ran.store.measured()).items() if "yelp2018" in t]
    winner = ran.on_yelp2018("validated")["imp"].sparsest
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
SENTENCES = (cells_said, search_said, packed_said)


@pytest.mark.parametrize("made", TABLES)
def test_tables_stand_there_as_the_records_have_them(ran, readme, made):
    assert made(ran) in readme


@pytest.mark.parametrize("made", SENTENCES)
def test_sentences_have_the_numbers_of_the_records(ran, readme, made):
    assert [one for one in made(ran) if one not in readme] == []


def test_nothing_else_there_is_a_result(ran, readme):
    known = [made(ran) for made in TABLES] + [one for made in SENTENCES for one in made(ran)]
    for one in known:
        readme = readme.replace(one, "")
    assert re.findall(r".*\d\.\d.*", readme) == []
