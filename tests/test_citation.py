"""The citation says what the package says of itself."""

import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_citation_has_the_package_s_version_licence_and_authors():
    assert CITATION["version"] == PROJECT["version"]
    assert CITATION["license"] == PROJECT["license"]
    assert CITATION["authors"] == PROJECT["authors"]


def test_introduction_names_the_same_version():
    page = (ROOT / "book" / "introduction.md").read_text(encoding="utf-8")
    assert f"version {PROJECT['version']} of *{CITATION['title']}*" in page


def test_citation_refers_to_the_paper_as_the_bibliography_does():
    entries = (ROOT / "book" / "references.bib").read_text(encoding="utf-8").split("\n@")
    [entry] = [entry for entry in entries if "{wang2022exploring," in entry]
    [reference] = CITATION["references"]
    for word in ("title", "journal", "year", "doi"):
        assert f"{{{reference[word]}}}" in entry
    for author in reference["authors"]:
        assert f"{author['family-names']}, {author['given-names']}" in entry
