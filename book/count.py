"""Count what a reader of the built book meets: words, figures and tables of each page; its size.

    python book/count.py [folder of the built HTML, by default _build/recorded/html]

Words are those of the article, tables and outputs among them; code, formulas and navigation are
not counted. kB are the page's file and the images that it shows.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from bs4 import BeautifulSoup

SKIPPED = (
    ".cell_input, .highlight, .headerlink, .math, .prev-next-area, script, style, svg, nav, footer"
)
HEAD = ["words", "figures", "tables", "kB"]


def count(page: Path) -> tuple[int, int, int, float] | None:
    """Words, figures, tables and kB of a page; None where it has no article."""
    soup = BeautifulSoup(page.read_text("utf-8"), "html.parser")
    article = soup.select_one("article")
    if article is None:
        return None
    figures = len(article.select("img, svg:not(.sd-octicon)"))  # those are the icons of folds
    tables = len(article.select("table"))
    images = {page.parent / img["src"] for img in article.select("img[src]:not([src^=data])")}
    size = sum(file.stat().st_size for file in [page, *images] if file.is_file())
    for part in article.select(SKIPPED):
        part.extract()
    words = [word for word in article.get_text(" ").split() if any(map(str.isalnum, word))]
    return len(words), figures, tables, size / 1000


def main(words: list[str]) -> int:
    folder = Path(words[0]) if words else Path(__file__).parents[1] / "_build/recorded/html"
    pages = [*sorted(folder.glob("book/*.html")), *sorted(folder.glob("notebooks/*.html"))]
    found = {str(page.relative_to(folder).with_suffix("")): count(page) for page in pages}
    rows = {name: row for name, row in found.items() if row is not None}
    if not rows:
        print(f"{folder} has no pages of the book: run `make book` first", file=sys.stderr)
        return 1
    table = pd.DataFrame.from_dict(rows, "index", columns=HEAD, dtype=float)
    table.loc[f"{len(rows)} pages"] = table.sum()
    table.loc["a page, on the average"] = table.iloc[-1] / len(rows)
    print(table.to_string(float_format="{:,.0f}".format))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
