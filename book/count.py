"""Count what a reader of the built book meets: words, figures and tables of each page; its size.

    python book/count.py [folder of the built HTML, by default _build/recorded/html]

Words are those of the article, tables and outputs among them; code, formulas and navigation are
not counted. kB are the page's file and the images that it shows.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bs4 import BeautifulSoup

SKIPPED = (
    ".cell_input, .highlight, .headerlink, .math, .prev-next-area, script, style, svg, nav, footer"
)
HEAD = ("page", "words", "figures", "tables", "kB")


def count(page: Path) -> tuple[int, int, int, int] | None:
    """Words, figures, tables and bytes of a page; None where it has no article."""
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
    return len(words), figures, tables, size


def main(words: list[str]) -> int:
    folder = Path(words[0]) if words else Path(__file__).parents[1] / "_build/recorded/html"
    pages = [*sorted(folder.glob("book/*.html")), *sorted(folder.glob("notebooks/*.html"))]
    found = {str(page.relative_to(folder).with_suffix("")): count(page) for page in pages}
    rows = {name: row for name, row in found.items() if row is not None}
    if not rows:
        print(f"{folder} has no pages of the book: run `make book` first", file=sys.stderr)
        return 1
    total = tuple(sum(column) for column in zip(*rows.values(), strict=True))
    print(f"{HEAD[0]:32}" + "".join(f"{name:>10}" for name in HEAD[1:]))
    for name, row in [*rows.items(), (f"{len(rows)} pages", total)]:
        print(f"{name:32}{row[0]:10,}{row[1]:10,}{row[2]:10,}{row[3] / 1000:10,.0f}")
    mean = f"{total[0] / len(rows):,.0f} words and {total[3] / len(rows) / 1000:,.0f} kB"
    print(f"A page has {mean} on the average.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
