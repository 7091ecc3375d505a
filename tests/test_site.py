"""A browser opens every page of the built site: formulas, errors, tables, links, the search.

The tests need Chromium with its driver, selenium and the docs extra, and are skipped without them.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import pytest

ROOT = Path(__file__).parents[1]
NARROW, WIDE = 390, 1440
"""Widths of a telephone and of a screen, in pixels."""
WORDS = [
    *["batchnorm", "dropout", "lstm", "tied", "migrate", "mask"],
    *["muon", "adamw", "mass", "lift", "huggingface"],
]
"""What a newcomer looks for."""

pytest.importorskip("selenium", reason="selenium drives the browser")

from selenium import webdriver  # noqa: E402 - the tests are skipped without it
from selenium.webdriver.common.keys import Keys  # noqa: E402 - the same
from selenium.webdriver.remote.webelement import WebElement  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None, reason="neither Chromium nor its driver is installed"
    ),
    pytest.mark.skipif(
        find_spec("material") is None or find_spec("mathjax") is None,
        reason="the docs extra builds the site",
    ),
]


class Quiet(SimpleHTTPRequestHandler):
    """Serve files without a line for each."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("built") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    done = subprocess.run(
        [*command, "--site-dir", str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where the site is served meanwhile."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(180)
    driver.set_script_timeout(180)
    yield driver
    driver.quit()


def resize(browser: webdriver.Chrome, width: int) -> None:
    """Give the page a width, which a window cannot be narrow enough for."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == NARROW}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def errors(browser: webdriver.Chrome) -> list[str]:
    """Return what the console has reported since the last call as an error."""
    return [one["message"] for one in browser.get_log("browser") if one["level"] == "SEVERE"]


def requested(browser: webdriver.Chrome) -> list[str]:
    """Return the addresses that pages have asked for since the last call."""
    sent = [one["message"] for one in browser.get_log("performance")]
    sent = [one for one in sent if '"Network.requestWillBeSent"' in one]
    return [url for one in sent for url in re.findall(r'"url":"(https?:[^"]*)"', one)]


def pages(site: Path) -> list[str]:
    """Return the address of each page, below that of the site."""
    found = [path.relative_to(site) for path in sorted(site.rglob("*.html"))]
    return [str(path) for path in found if path.name != "404.html"]


TYPESET = """
const done = arguments[arguments.length - 1];
const wait = () => {
  const formulas = [...document.querySelectorAll(".arithmatex")];
  const left = formulas.filter((one) => !one.querySelector("mjx-container"));
  if (left.length) return setTimeout(wait, 50);
  const errors = [...document.querySelectorAll("mjx-merror, [data-mml-node=merror]")];
  const spoken = [...document.querySelectorAll("mjx-assistive-mml")];
  const raw = spoken.filter((one) => one.textContent.includes("\\\\"));
  done([formulas.length, [...errors, ...raw].map((one) => one.textContent)]);
};
wait();
"""
"""Waits for the formulas; returns their number, and those with an error or with raw TeX."""

RAW = r"""
const text = document.querySelector("article").cloneNode(true);
text.querySelectorAll("code, pre, mjx-container, script").forEach((one) => one.remove());
return text.textContent.match(/\\[a-zA-Z]{2,}|\$[^\s$][^$]*\$|\\\(|\\\[/g) || [];
"""
"""Returns the TeX that a reader would see."""

OVERFLOWING = """
const inside = (one) => {
  for (let up = one.parentElement; up; up = up.parentElement)
    if (["auto", "scroll", "hidden"].includes(getComputedStyle(up).overflowX)) return true;
  return false;
};
const wide = [...document.querySelectorAll("article *")].filter(
  (one) => one.getBoundingClientRect().right > innerWidth + 1 && !inside(one));
return wide.slice(0, 3).map((one) => one.tagName + ": " + one.textContent.slice(0, 60));
"""
"""Returns what reaches beyond the right edge of the page and cannot be scrolled to."""


SCROLLED = """
const tables = [...document.querySelectorAll("article table")];
return tables.filter((one) => one.scrollWidth > one.clientWidth).map((one) =>
  "a table scrolls: " + one.textContent.trim().slice(0, 60));
"""
"""Returns the tables that do not fit the width of the page."""


def test_every_page_is_shown_whole_and_without_an_error(
    site: Path, address: str, browser: webdriver.Chrome
) -> None:
    requested(browser)
    formulas = 0
    wrong: dict[str, object] = {}
    assert len(pages(site)) > 40
    for page in pages(site):
        resize(browser, WIDE)
        browser.get(address + page)
        assert browser.find_elements("css selector", "article h1"), page
        count, failed = browser.execute_async_script(TYPESET)
        formulas += count
        found = [*failed, *errors(browser), *browser.execute_script(RAW)]
        found += browser.execute_script(SCROLLED)
        for width in (WIDE, NARROW):
            resize(browser, width)
            found += browser.execute_script(OVERFLOWING)
        if found:
            wrong[page] = found
    assert not wrong
    assert formulas > 500
    asked = requested(browser)
    assert any(url.endswith("assets/mathjax/tex-chtml.js") for url in asked)
    assert [url for url in asked if not url.startswith(address)] == []


@pytest.mark.parametrize(
    ("content", "script", "expected"),
    [
        ("<script>throw new Error('no such thing')</script>", None, "no such thing"),
        ("<article>the norm \\(x\\)</article>", RAW, "\\("),
        ("<article>the norm $\\lVert x\\rVert$</article>", RAW, "\\lVert"),
        ("<article><p style='width: 9000px'>long</p></article>", OVERFLOWING, "P: long"),
        (
            "<article><table style='display: block; width: 9px; overflow: auto'>"
            "<tr><td>wide</td></tr></table></article>",
            SCROLLED,
            "a table scrolls: wide",
        ),
    ],
)
def test_a_page_with_a_defect_is_noticed(
    content: str,
    script: str | None,
    expected: str,
    site: Path,
    address: str,
    browser: webdriver.Chrome,
) -> None:
    broken = site / f"{uuid4()}.html"  # a name that the browser has no page of
    broken.write_text(f"<h1>broken</h1>{content}")
    try:
        errors(browser)
        browser.get(address + broken.name)
        found = errors(browser) if script is None else browser.execute_script(script)
        assert expected in "".join(found)
    finally:
        broken.unlink()


def test_a_formula_with_an_error_is_noticed(
    site: Path, address: str, browser: webdriver.Chrome
) -> None:
    page = site / "glossary" / "index.html"
    broken = page.with_name("broken.html")
    span = '<span class="arithmatex">'
    text = page.read_text(encoding="utf-8")
    broken.write_text(text.replace(rf"{span}\(", rf"{span}\(\nosuchcommand", 1), encoding="utf-8")
    try:
        browser.get(f"{address}glossary/broken.html")
        _, failed = browser.execute_async_script(TYPESET)
        assert len(failed) == 1
    finally:
        broken.unlink()


@pytest.fixture(scope="module")
def box(address: str, browser: webdriver.Chrome) -> WebElement:
    """The field of the search."""
    resize(browser, WIDE)
    browser.get(address)
    found = browser.find_element("css selector", "input.md-search__input")
    WebDriverWait(browser, 60).until(lambda _: found.is_displayed())
    found.click()
    return found


def search(browser: webdriver.Chrome, box: WebElement, words: str) -> list[str]:
    """Return the texts of what the search finds, or nothing if it says that it finds nothing."""
    meta = browser.find_element("css selector", ".md-search-result__meta")
    box.send_keys(Keys.CONTROL + "a", Keys.DELETE)
    WebDriverWait(browser, 60).until(lambda _: "Type to" in meta.text)
    box.send_keys(words)
    WebDriverWait(browser, 60).until(lambda _: "matching" in meta.text)
    found = browser.find_elements("css selector", ".md-search-result__item")
    return [one.get_attribute("textContent") or "" for one in found]


@pytest.mark.parametrize("word", WORDS)
def test_the_search_finds_a_word(word: str, box: WebElement, browser: webdriver.Chrome) -> None:
    assert any(word in text.lower() for text in search(browser, box, word))


def test_what_the_search_shows_of_a_formula_is_readable(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    texts = " ".join(entry["text"] for entry in index["docs"])
    assert re.findall(r"\\\(|\\\[|\\[a-zA-Z]{3,}", re.sub(r"<code>.*?</code>", "", texts)) == []
    assert "‖Δw‖" in texts


def test_the_search_does_not_find_what_is_on_no_page(
    box: WebElement, browser: webdriver.Chrome
) -> None:
    assert search(browser, box, "zyzzyvaquux") == []
