"""The book as files: every page is there, shows the executed copies, and needs no network."""

import base64
import importlib.util
import json
import re
import shutil
from collections import Counter
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from conftest import toc_files

from lthnb import paper
from lthnb.book import build
from lthnb.book.clean import clean_notebook
from lthnb.experiments import claims

ROOT = Path(__file__).resolve().parents[1]
in_book = pytest.mark.xdist_group("book")  # one worker builds it


class Page:
    """What a page loads by itself (links that a reader may follow are not), its scripts, and all
    rows of its tables, each as the texts of its cells."""

    def __init__(self, path: Path) -> None:
        self.path, self.soup = path, BeautifulSoup(path.read_text("utf-8"), "html.parser")
        loaded = self.soup.select("script, img, iframe, source, video, audio, embed")
        self.loads = [tag.get("src") or "" for tag in loaded]
        for tag in self.soup.select("link"):
            if not {"canonical", "author", "search"} & set(tag.get("rel", [])):
                self.loads.append(tag.get("href") or "")
        linked = self.soup.select("article a[href]:not([download])")
        self.links = [tag["href"].partition("#")[0] for tag in linked]
        self.scripts = [tag.text for tag in self.soup.select("script")]
        rows = self.soup.select("tr")
        self.rows = [[cell.text.strip() for cell in row.select("td, th")] for row in rows]


def test_toc_and_notebooks_agree():
    listed = [Path(name).name for name in toc_files() if name.startswith("notebooks/")]
    assert build.book_notebooks() == listed
    assert sorted(listed) == build.notebook_names()


@in_book
def test_pages_load_what_exists_and_nothing_from_elsewhere(book):
    for name in [*toc_files(), "index"]:
        page = Page(book / f"{name}.html")
        for address in page.loads:
            assert not re.match(r"(?:https?:)?//", address), f"{name} loads {address}"
            path = address.partition("?")[0].partition("#")[0]
            if path and not path.startswith("data:"):
                assert (page.path.parent / path).exists(), f"{name}: {address}"
        for link in page.links:
            assert re.match(r"\w+:", link) or (page.path.parent / link).exists(), f"{name}: {link}"
        assert not re.search("unpkg|cdn", "".join(page.scripts), re.IGNORECASE), name


@in_book
def test_notebooks_are_shown_executed_and_offered_clean(book):
    for name in build.book_notebooks():
        page = (book / "notebooks" / f"{name}.html").read_text(encoding="utf-8")
        assert "cell_output" in page, f"{name} is shown without outputs"
        source = (ROOT / "notebooks" / f"{name}.ipynb").read_bytes()
        assert (book / "_sources" / "notebooks" / f"{name}.ipynb").read_bytes() == source


@in_book
def test_second_build_does_nothing(book):
    before = (book / "index.html").stat().st_mtime_ns
    assert build.build_book() == book / "index.html"
    assert (book / "index.html").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("source", "shown", "warns"),
    [
        ("notebooks/existence.ipynb", "executed", 0),
        ("notebooks/missing.ipynb", "clean", 1),
        ("book/introduction.md", "clean", 0),
    ],
)
def test_extension_swaps_in_the_copy_and_warns_of_a_missing_one(
    source, shown, warns, monkeypatch, tmp_path
):
    spec = importlib.util.spec_from_file_location("executed", ROOT / "book/_ext/executed.py")
    executed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(executed)
    (tmp_path / "existence.ipynb").write_text("executed", encoding="utf-8")
    monkeypatch.setenv("LTHNB_EXECUTED", str(tmp_path))
    noted, warned, content = [], [], ["clean"]
    logger = SimpleNamespace(warning=lambda *words, **_: warned.append(words))
    monkeypatch.setattr(executed.logging, "getLogger", lambda name: logger)
    env = SimpleNamespace(doc2path=lambda name: source, note_dependency=noted.append)
    executed.swap(SimpleNamespace(env=env, srcdir="."), "some/document", content)
    assert content == [shown]
    assert noted == ([str(tmp_path / "existence.ipynb")] if shown == "executed" else [])
    assert len(warned) == warns


@pytest.mark.slow
def test_warning_fails_the_build_and_keeps_the_old_book(tmp_path):
    """A book of one page and one notebook, with the project's own configuration."""
    for folder in ("book/_ext", "book/_static"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "_config.yml", tmp_path)
    (tmp_path / "book/references.bib").write_text("")
    page = tmp_path / "book/introduction.md"
    page.write_text("# Introduction\n\nSome words.\n")
    toc = "format: jb-book\nroot: book/introduction\nchapters:\n  - file: notebooks/one\n"
    (tmp_path / "_toc.yml").write_text(toc)
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": "# One"},
        {"cell_type": "code", "metadata": {}, "source": "print(6 * 7)"},
    ]
    (tmp_path / "notebooks").mkdir()
    notebook = tmp_path / "notebooks/one.ipynb"
    notebook.write_text(clean_notebook(json.dumps({"cells": cells})))

    index = build.build_book("smoke", root=tmp_path)
    assert index == tmp_path / "_build/smoke/html/index.html"
    assert "42" in (index.parent / "notebooks/one.html").read_text(encoding="utf-8")
    page.write_text("# Introduction\n\n[to nowhere](missing.md)\n")
    with pytest.raises(build.BookError, match=r"introduction\.md.*missing\.md"):
        build.build_book("smoke", root=tmp_path)
    assert index.exists()
    left = {path.name for path in (tmp_path / "_build/smoke").iterdir()}
    assert left == {"html", "build.log"}


@in_book
def test_scorecard_shows_every_cell_of_the_tables_and_every_claim(book):
    page = Page(book / "notebooks" / "scorecard.html")
    shown = [row for row in page.rows if {"recall@20", "ndcg@20"} & set(row)]
    values = Counter(cell.split(" (")[0] for row in shown for cell in row)
    every = [*paper.TABLE2, *paper.TABLE3]
    public = [cell for cell in every if cell.dataset == "yelp2018"]
    assert not Counter(f"{cell.value:.4f}" for cell in public) - values
    links = page.soup.select("a[download^=table-][download*=paper]")
    held = [base64.b64decode(link["href"].partition(",")[2]).decode() for link in links]
    whole = pd.concat([pd.read_csv(StringIO(text)) for text in held])
    assert sorted(whole["printed"].round(4)) == sorted(cell.value for cell in every)
    items = {item.strong.text: item.text for item in page.soup.select("li:has(> strong)")}
    found = claims.recorded()
    for claim in (claim for claim in paper.CLAIMS if not claim.open):
        verdicts = found.loc[found["claim"] == claim.id, "verdict"]
        assert len(verdicts), claim.id
        for word in (claim.section, claim.says, *verdicts):
            assert word in items[claim.id], (claim.id, word)
