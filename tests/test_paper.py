"""The paper's numbers as data, compared with the paper's own text.

The text is not ours to ship. Where it lies beside the checkout (``../shared/paper.txt``, or the
file that LTHNB_PAPER names), every cell of Tables 1 to 3 and every quote is compared with it;
elsewhere those tests are skipped, and what can be checked without the text still is.
"""

import os
import re
from pathlib import Path

import pytest

from lthnb import paper

ROOT = Path(__file__).resolve().parents[1]
TEXT = Path(os.environ.get("LTHNB_PAPER") or ROOT.parent / "shared" / "paper.txt")
DATASET = {"Yelp2018": "yelp2018", "TikTok": "tiktok", "Kwai": "kwai"}
ROW = {"MF": "mf", "LightGCN": "lightgcn", "LCM": "lcm", "Winning Ticket": "ticket"}


def only(entries, **where):
    """The one entry with these values."""
    [found] = [e for e in entries if all(getattr(e, k) == v for k, v in where.items())]
    return found


def cells(dataset, backbone, metric):
    """The cells of Table 2, dense first."""
    key = (dataset, backbone, metric)
    return [c for c in paper.TABLE2 if (c.dataset, c.backbone, c.metric) == key]


@pytest.fixture(scope="module")
def text() -> str:
    if not TEXT.is_file():
        pytest.skip(f"the paper's text is not at {TEXT}; set LTHNB_PAPER to compare with it")
    return TEXT.read_text(encoding="utf-8")


# Each parser gives {key: number}; ours gives the same shape, so one comparison serves all tables.


def block(text: str, caption: str) -> list[list[str]]:
    """The lines of the table under a caption, cut at tabs."""
    assert text.count(caption) == 1, f"{caption!r} stands {text.count(caption)} times in the text"
    lines = text[text.index(caption) :].splitlines()[1:]
    while not lines[0].strip():
        lines.pop(0)
    return [line.split("\t") for line in lines[: [not x.strip() for x in lines].index(True)]]


def printed_table1(text: str) -> dict:
    out = {}
    for row in block(text, "TABLE 1 Statistics"):
        if row[0] in DATASET:
            for column, cell in zip(
                ("users", "items", "interactions", "filled"), row[1:], strict=True
            ):
                out[DATASET[row[0]], column] = float(cell.replace(",", ""))
    return out


def printed_cells(rows: list[list[str]], columns: list[tuple]) -> dict:
    """Rows of (data set, name, values), the data set printed on the first row of its group only."""
    out, dataset = {}, None
    for row in rows:
        if len(row) != 2 + len(columns) or row[1] not in ROW:
            continue
        dataset = DATASET[row[0]] if row[0] else dataset
        for column, cell in zip(columns, row[2:], strict=True):
            out[(dataset, ROW[row[1]], *column)] = float(cell)
    return out


def printed_table2(text: str) -> dict:
    rows = block(text, "TABLE 2 The Recall@20")
    # The head is one column short in the text: "Sparsity (%)" stands over the rows' names.
    (head,) = [row for row in rows if "Sparsity (%)" in row]
    at = head.index("Sparsity (%)") + 1
    sparsities = [float(cell) for cell in head[at : at + 4]]
    return printed_cells(rows, [(m, s) for m in paper.METRICS for s in sparsities])


def printed_table3(text: str) -> dict:
    rows = block(text, "TABLE 3 The Recall@20")
    (sizes,) = [row for row in rows if "Original Size" in row]
    (shares,) = [row for row in rows if "Sparsity (%)" in row]
    sizes = [int(cell) for cell in sizes if cell.isdigit()]
    shares = [int(cell) for cell in shares if cell.isdigit()]
    columns = [
        (paper.METRICS[i // 4], sizes[i // 2], share) for i, share in enumerate(shares)
    ]  # a size heads two shares, a metric two sizes
    return printed_cells(rows, columns)


def our_table1() -> dict:
    return {
        (row.dataset, column): getattr(row, column)
        for row in paper.TABLE1
        for column in ("users", "items", "interactions", "filled")
    }


def our_table2() -> dict:
    return {(c.dataset, c.backbone, c.metric, c.sparsity_percent): c.value for c in paper.TABLE2}


def our_table3() -> dict:
    return {
        (c.dataset, c.method, c.metric, c.original_size, c.density_percent): c.value
        for c in paper.TABLE3
    }


TABLES = {
    "1": (printed_table1, our_table1, 3 * 4),
    "2": (printed_table2, our_table2, 3 * 2 * 8),
    "3": (printed_table3, our_table3, 3 * 2 * 8),
}


@pytest.mark.parametrize("table", TABLES)
def test_every_cell_is_the_printed_one(text, table):
    read, ours, size = TABLES[table]
    assert len(ours()) == size
    assert read(text) == ours()


def test_quotes_stand_in_the_text(text):
    def plain(s: str) -> str:
        return re.sub(r"\s+", " ", s.replace("*", ""))

    missing = [c.id for c in paper.CLAIMS if plain(c.quote) not in plain(text)]
    assert missing == []


@pytest.mark.parametrize(
    ("id", "what"), [("omp-sparsity", "sparsity"), ("omp-recall", "Recall@20")]
)
def test_numbers_of_imp_over_omp_stand_in_the_text_in_order(text, id, what):
    values = [n.value for n in only(paper.CLAIMS, id=id).numbers]
    assert [n.backbone for n in only(paper.CLAIMS, id=id).numbers] == ["mf"] * 3 + ["lightgcn"] * 3
    phrases = [
        f"{a}%, {b}% and {c}% improvements in highest {what}"
        for a, b, c in (values[:3], values[3:])
    ]
    assert 0 < text.find(phrases[0]) < text.find(phrases[1]), phrases


class TestWithoutTheText:
    def test_a_sparsity_is_its_rounds(self):
        for c in paper.TABLE2:
            assert round(100 * (1 - 0.9**c.round), 2) == c.sparsity_percent
            assert c.density == pytest.approx(1 - c.sparsity_percent / 100, abs=6e-5)

    def test_every_cell_stands_once(self):
        assert len(our_table2()) == len(paper.TABLE2) == 48
        assert len(our_table3()) == len(paper.TABLE3) == 48

    def test_table_1_agrees_with_itself(self):
        for row in paper.TABLE1:
            assert round(row.interactions / (row.users * row.items), 5) == row.filled

    def test_yelp2018_is_the_public_train_and_test_pairs(self):
        assert only(paper.TABLE1, dataset="yelp2018").interactions == 1_237_259 + 324_147

    @pytest.mark.parametrize(
        ("id", "number"), [("kwai-mf", 29), ("kwai-lightgcn", 10)], ids=["mf", "lightgcn"]
    )
    def test_gains_in_words_follow_from_table_2(self, id, number):
        for n, metric in zip(only(paper.CLAIMS, id=id).numbers, paper.METRICS, strict=True):
            by_round = {c.round: c.value for c in cells(n.dataset, n.backbone, metric)}
            assert 100 * (by_round[number] / by_round[0] - 1) == pytest.approx(n.value, abs=0.06)

    @pytest.mark.parametrize("density", [50, 25])
    def test_gains_over_lcm_follow_from_table_3(self, density):
        for n, metric in zip(
            only(paper.CLAIMS, id=f"lcm-{density}").numbers, paper.METRICS, strict=True
        ):
            ticket, lcm = (
                only(
                    paper.TABLE3,
                    dataset="yelp2018",
                    method=m,
                    metric=metric,
                    original_size=128,
                    density_percent=density,
                ).value
                for m in ("ticket", "lcm")
            )
            # 10.54 is printed where the cells give 10.548
            assert 100 * (ticket / lcm - 1) == pytest.approx(n.value, abs=0.0101)

    def test_slips_about_numbers_are_slips(self):
        assert 0.9**30 > 0.04 > 0.9**33 > 0.03  # three-percent
        assert [round(0.9**i, 3) for i in (11, 12)] == [0.314, 0.282]
        best = cells("yelp2018", "mf", "recall@20")[0].value * 1.188  # omp-18.8
        assert best > max(c.value for c in cells("yelp2018", "mf", "recall@20")) + 0.005
        falls = {n.what: n.value for n in only(paper.CLAIMS, id="rp-falls").numbers}  # three-ways
        over = {
            id: next(
                n.value
                for n in only(paper.CLAIMS, id=id).numbers
                if (n.dataset, n.backbone) == ("tiktok", "lightgcn")
            )
            for id in ("omp-sparsity", "omp-recall")
        }
        for id, what, stated in (
            ("omp-sparsity", "highest winning sparsity, rp under imp", 27.3),
            ("omp-recall", "best recall@20, rp under imp", 0.7),
        ):
            implied = 100 * (1 - (1 - falls[what] / 100) * (1 + over[id] / 100))
            assert implied > stated + 0.15

    def test_ids_are_unique_and_every_claim_can_be_decided(self):
        assert len({c.id for c in paper.CLAIMS}) == len(paper.CLAIMS)
        assert all(c.decided_by and c.quote and c.section for c in paper.CLAIMS)
        assert {c.id for c in paper.CLAIMS if c.open} == {"efficient-search", "interaction-tickets"}

    def test_numbers_of_claims_stand_in_their_quotes(self):
        for c in paper.CLAIMS:
            quoted = {float(x) for x in re.findall(r"\d+(?:\.\d+)?", c.quote)}
            for n in c.numbers:
                if c.id.startswith("omp-") and n.backbone == "lightgcn":
                    continue  # another sentence; compared with the text above
                assert n.value in quoted, (c.id, n)
