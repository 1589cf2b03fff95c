"""The book as a reader sees it: Debian's Chromium, headless, from file://, without a network."""

import json
import time
from pathlib import Path

import pytest
from conftest import toc_files
from toys import PATIENCE

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("book")]

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # no name resolves: the network is off
]
WIDTHS = {"screen": 1280, "phone": 390}

# What a page looks like, asked in the page itself. Code may show raw dollars; prose may not.
LOOK = """
const article = document.querySelector("article") || document.body;
const prose = article.cloneNode(true);
prose.querySelectorAll("pre, code, script, mjx-container").forEach((node) => node.remove());
const page = document.documentElement;
const wide = [...document.querySelectorAll("body *")].filter((node) => {
  const box = node.getBoundingClientRect();
  if (box.right <= page.clientWidth + 1 || box.width === 0) return false;
  for (let up = node.parentElement; up && up !== document.body; up = up.parentElement)
    if (getComputedStyle(up).overflowX !== "visible") return false;
  return true;
});
return {
  math: article.querySelectorAll(".math").length,
  // one svg a formula: a tall bracket is another one inside
  typeset: article.querySelectorAll(".math > mjx-container > svg").length,
  mathErrors: article.querySelectorAll("[data-mjx-error]").length,
  prose: prose.textContent,
  images: [...article.querySelectorAll("img")].map((i) => [i.getAttribute("src").slice(0, 80),
                                                            i.complete && i.naturalWidth]),
  scroll: page.scrollWidth,
  client: page.clientWidth,
  wide: wide.slice(0, 5).map((node) => node.tagName + "." + node.className),
};
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    driver.set_page_load_timeout(PATIENCE)
    driver.set_script_timeout(PATIENCE)
    driver.get("about:blank")  # ends the browser's own start page, which may still be loading
    yield driver
    driver.quit()


def visit(driver, page: Path, width: int, query: str = "") -> dict:
    """A page at a width: what it looks like, what the console said, what it asked for."""
    # The window of a desktop Chromium is never narrower than 500 px: set the page's own width.
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    for log in ("browser", "performance"):  # what an earlier page left
        driver.get_log(log)
    driver.get(page.as_uri() + query)
    driver.execute_async_script(
        "const done = arguments[0];"
        "window.MathJax && MathJax.startup ? MathJax.startup.promise.then(() => done()) : done();"
    )
    # Lazy images load when they come into view.
    driver.execute_script("document.querySelectorAll('img').forEach((i) => (i.loading = 'eager'))")
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and not driver.execute_script(
        "return [...document.images].every((i) => i.complete)"
    ):
        time.sleep(0.05)
    console = [one["message"] for one in driver.get_log("browser") if one["level"] == "SEVERE"]
    requests = []
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            requests.append(message["params"]["request"]["url"])
        elif message["method"] == "Network.webSocketCreated":
            requests.append(message["params"]["url"])
    return {**driver.execute_script(LOOK), "console": console, "requests": requests}


@pytest.fixture(scope="module")
def visits(driver, book) -> dict[tuple[str, str], dict]:
    """Every page at every width."""
    return {
        (name, size): visit(driver, book / f"{name}.html", width)
        for name in toc_files()
        for size, width in WIDTHS.items()
    }


def test_pages_are_whole_and_ask_for_nothing(visits):
    for (name, size), look in visits.items():
        assert look["typeset"] == look["math"], f"{name}: {look['math']} formulas"
        assert look["mathErrors"] == 0, name
        for raw in ("$$", "\\(", "\\begin{"):
            assert raw not in look["prose"], name
        for source, width in look["images"]:
            assert width, f"{name}: {source} is not shown"
        away = [url for url in look["requests"] if not url.startswith(("file:", "data:", "blob:"))]
        assert not away, f"{name} asks for {away}"
        assert look["requests"], "the log of requests is empty: nothing was checked"
        assert not look["console"], f"{name}: {look['console']}"
        assert look["scroll"] <= look["client"], f"{name}, {size}: {look['wide']} stick out"
    assert any(look["math"] for look in visits.values()), "no page has a formula"
    assert visits["notebooks/existence", "screen"]["images"], "the chapter shows no figure"


def test_search_finds_a_word(driver, book):
    found = visit(driver, book / "search.html", WIDTHS["screen"], "?q=ticket")
    links = "return [...document.querySelectorAll('#search-results li a')].map((a) => a.href)"
    until = time.monotonic() + PATIENCE
    while not (titles := driver.execute_script(links)) and time.monotonic() < until:
        time.sleep(0.1)
    assert any("/book/" in title or "/notebooks/" in title for title in titles), titles
    assert not found["console"]
