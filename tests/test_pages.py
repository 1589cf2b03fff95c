"""The pages of prose: what they name exists, and nothing of the paper is left out."""

import dataclasses
import importlib
import re
from pathlib import Path

import pytest
from conftest import toc_files

from lthnb import paper

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "book").glob("*.md"))
MODULES = {path.stem for path in (ROOT / "lthnb").glob("[a-z]*")}
# On these a code span such as `data.train` is a variable's attribute, not a module's.
VARIABLES = {"your-data.md"}


def text_of(name: str) -> str:
    return (ROOT / "book" / name).read_text(encoding="utf-8")


def named(text: str) -> set[str]:
    """What of the package is named in code spans: `module.function`, `lthnb.module.Class.field`."""
    spans = re.findall(r"(?<!`)`(?:lthnb\.)?([a-z_]+(?:\.\w+)+)(?:\(.*?\))?`(?!`)", text)
    files = (".py", ".md", ".json", ".txt", ".lock")
    return {s for s in spans if s.split(".")[0] in MODULES and not s.endswith(files)}


def find(name: str) -> object:
    """What a dotted name under lthnb stands for; fields of a dataclass count as being there."""
    found, path = importlib.import_module("lthnb"), "lthnb"
    for part in name.split("."):
        path += f".{part}"
        if dataclasses.is_dataclass(found) and part in {f.name for f in dataclasses.fields(found)}:
            return None
        if isinstance(found, type(re)) and not hasattr(found, part):
            importlib.import_module(path)
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_functions_that_a_page_names_exist(page):
    names = named(page.read_text(encoding="utf-8")) if page.name not in VARIABLES else ()
    for name in names:
        find(name)


def test_a_function_that_is_not_there_is_found():
    assert named("`pruning.prune`, `lthnb.config.NUMERICS`, `config.py`, ```pruning.x```") == {
        "pruning.prune",
        "config.NUMERICS",
    }
    for name in ("pruning.prone", "data.Interactions.tran", "steps.linear.Step", "prunning.prune"):
        with pytest.raises((AttributeError, ImportError)):
            find(name)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_to_pages_of_the_book(page):
    """Relative ones; the book's build finds the rest, but takes minutes."""
    text = page.read_text(encoding="utf-8")
    listed = {(ROOT / name).resolve() for name in toc_files()}
    for link in re.findall(r"\]\(([\w./-]+\.(?:md|ipynb))(?:#[\w-]+)?\)", text):
        target = (page.parent / link).resolve()
        assert target.with_suffix("") in listed, f"{page.name} links to {link}"


def test_the_data_page_says_what_share_of_pairs_occurs():
    """As Table 1 does, under another name."""
    rows = re.findall(
        r"^\| `([\w-]+)` \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d.]+) \|",
        text_of("data.md"),
        re.M,
    )
    shares = {name: share for name, *_, share in rows}
    assert {row.dataset: f"{row.filled:.5f}" for row in paper.TABLE1}.items() <= shares.items()
    for _, *counts, share in rows:
        users, items, pairs = (int(count.replace(",", "")) for count in counts)
        assert f"{pairs / (users * items):.5f}" == share


class TestMethod:
    TEXT = text_of("method.md")

    @pytest.mark.parametrize("number", range(1, 8))
    def test_each_equation_is_stated_explained_and_computed(self, number):
        """A heading, a formula, words, and at least one function."""
        headings = re.findall(rf"^### Eq\. {number}: [^\n]+\n(.*?)(?=^##)", self.TEXT, re.M | re.S)
        assert len(headings) == 1
        parts = headings[0].split("$$")
        assert len(parts) >= 3
        assert len(parts[2].split()) > 15
        assert named(headings[0])

    def test_algorithm_1_is_there_line_by_line(self):
        [algorithm] = re.findall(r"^## Algorithm 1\n(.*?)(?=^##)", self.TEXT, re.M | re.S)
        rows = re.findall(r"^\| (\d) \| .+ \| (.*?) ?\|$", algorithm, re.MULTILINE)
        assert [int(number) for number, _ in rows] == list(range(1, 9))
        assert all(named(function) for _, function in rows[:-1])  # the last ends the loop
        assert {"lottery.climb", "training.train", "pruning.prune"} <= named(algorithm)

    def test_the_protocol_says_nothing_twice(self):
        """What moved here is gone there: no paragraph of some length stands on both pages."""
        ours, theirs = (
            {part for part in text.split("\n\n") if len(part) > 80}
            for text in (self.TEXT, text_of("protocol.md"))
        )
        assert not ours & theirs


class TestPaperIndex:
    TEXT = text_of("paper-index.md")

    def rows(self, pattern: str) -> dict[str, str]:
        """First cell → the rest of its line, for the lines whose first cell fits."""
        found = re.findall(rf"^\| ({pattern}) \| (.*) \|$", self.TEXT, re.MULTILINE)
        assert len({first for first, _ in found}) == len(found)
        return dict(found)

    def test_every_figure_has_its_place(self):
        rows = self.rows(r"Figure \d \(.*?\)")
        assert set(rows) == {f"Figure {f.number} ({f.section})" for f in paper.FIGURES}
        assert all(re.search(r"\]\(\S+\)", rest) for rest in rows.values())

    def test_every_table_has_its_place(self):
        rows = self.rows(r"Table \d \(.*?\)")
        tables = {1: paper.TABLE1, 2: paper.TABLE2, 3: paper.TABLE3}
        assert [int(first[6]) for first in rows] == list(tables)
        assert all(re.search(r"\]\(\S+\)", rest) for rest in rows.values())

    def test_every_equation_has_its_place(self):
        rows = self.rows(r"(?:Eq\.|Algorithm) \d \(.*?\)")
        wanted = [*(f"Eq. {number}" for number in range(1, 8)), "Algorithm 1"]
        assert [first.partition(" (")[0] for first in rows] == wanted

    def test_every_claim_has_its_place(self):
        """With its section and our paraphrase, word by word, and a link to where it is examined."""
        rows = self.rows("`[a-z0-9-]+`")
        assert set(rows) == {f"`{c.id}`" for c in paper.CLAIMS}
        for c in paper.CLAIMS:
            section, says, where = rows[f"`{c.id}`"].split(" | ")
            assert (section, says) == (c.section, c.says)
            assert re.search(r"\]\(\S+\.ipynb\)", where)
            assert where.endswith(": open") is c.open
