"""The pages of prose: what they name exists, and nothing of the paper is left out."""

import dataclasses
import importlib
import re
from pathlib import Path

import pytest
from conftest import toc_files

from lthnb import paper
from lthnb.datasets.sources import SOURCES

ROOT = Path(__file__).resolve().parents[1]
PAGES = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "book").glob("*.md")}
MODULES = {path.stem for path in (ROOT / "lthnb").glob("[a-z]*")}
INDEX = re.findall(r"^- (.+?): (.*)\.$", PAGES["paper-index.md"], re.MULTILINE)  # an item, links


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


# On your-data.md a code span such as `data.train` is a variable's attribute, not a module's.
@pytest.mark.parametrize("page", sorted(PAGES.keys() - {"your-data.md"}))
def test_functions_that_a_page_names_exist(page):
    for name in named(PAGES[page]):
        find(name)


def test_function_that_is_not_there_is_found():
    assert named("`pruning.prune`, `config.py`, ```pruning.x```") == {"pruning.prune"}
    for name in ("pruning.prone", "data.Interactions.tran", "prunning.prune"):
        with pytest.raises((AttributeError, ImportError)):
            find(name)


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_lead_to_pages_of_the_book(page):
    """Relative ones; the book's build finds the rest, but takes minutes."""
    listed = {(ROOT / name).resolve() for name in toc_files()}
    for link in re.findall(r"\]\(([\w./-]+\.(?:md|ipynb))(?:#[\w-]+)?\)", PAGES[page]):
        target = (ROOT / "book" / link).resolve()
        assert target.with_suffix("") in listed, f"{page} links to {link}"


def test_data_page_has_the_counts_that_loading_verifies_and_their_share():
    """Each row: the counts of Table 1, or those that a published file must have."""
    row = r"^\| `([\w-]+)` \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d.]+) \|"
    shown = {
        name: (*(int(count.replace(",", "")) for count in counts), share)
        for name, *counts, share in re.findall(row, PAGES["data.md"], re.MULTILINE)
    }
    for users, items, pairs, share in shown.values():
        assert f"{pairs / (users * items):.5f}" == share
    for one in paper.TABLE1:
        row = (one.users, one.items, one.interactions, f"{one.filled:.5f}")
        assert shown[one.dataset] == row
    for name, source in SOURCES.items():
        assert name in PAGES["data.md"]
        if e := source.expected:
            pairs = e["train"] + e.get("valid", 0) + e["test"]
            assert shown[name][:3] == (e["users"], e["items"], pairs)


@pytest.mark.parametrize("number", range(1, 8))
def test_each_equation_is_stated_explained_and_computed(number):
    """A heading, a formula, words, and at least one function."""
    heading = rf"^### Eq\. {number}: [^\n]+\n(.*?)(?=^##)"
    [text] = re.findall(heading, PAGES["method.md"], re.MULTILINE | re.DOTALL)
    _, _, words, *_ = text.split("$$")
    assert len(words.split()) > 15
    assert named(text)


def test_algorithm_1_is_there_line_by_line():
    whole = r"^## Algorithm 1\n(.*?)(?=^##)"
    [algorithm] = re.findall(whole, PAGES["method.md"], re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| (\d) \| .+ \| (.*?) ?\|$", algorithm, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 9))
    assert all(named(function) for _, function in rows[:-1])  # the last ends the loop


def test_figures_tables_and_equations_have_their_place_in_the_index():
    items = "; ".join(item for item, where in INDEX if re.search(r"\]\(\S+\)", where))
    seven = [f"{kind} {number}" for kind in ("Figure", "Eq.") for number in range(1, 8)]
    for one in ("Table 1", "Table 2", "Table 3", *seven, "Algorithm 1"):
        assert len(re.findall(rf"{re.escape(one)}\b", items)) == 1, one


def test_every_claim_has_its_place_in_the_index():
    """With its section, and a link to where it is examined; the scorecard has it in words."""
    rows = {item: where for item, where in INDEX if item.startswith("`")}
    wanted = {f"`{c.id}` ({c.section}){', open' * c.open}": c for c in paper.CLAIMS}
    assert set(rows) == set(wanted)
    for item, claim in wanted.items():
        if claim.open:
            assert claim.says.removeprefix("Open: ") in rows[item]
        else:
            assert re.search(r"\]\(\S+\.ipynb\)", rows[item])
