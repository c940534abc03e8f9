"""The documentation in a real browser: it fits a phone, the search leads to the row, copying works.

``make browser`` builds it first.
"""

import contextlib
import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytestmark = pytest.mark.nightly

SITE = Path(__file__).parent.parent.parent / "docs" / "_build"
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PAGES = sorted(str(path.relative_to(SITE)) for path in SITE.rglob("*.html"))

# What is wider than the screen, and in nothing that scrolls by itself.
WIDE = """() => {
  const width = document.documentElement.clientWidth;
  const scrolls = (one) => ["auto", "scroll", "hidden"].includes(getComputedStyle(one).overflowX);
  const held = (one) => {
    let up = one;
    while (up.tagName !== "ARTICLE" && !scrolls(up)) up = up.parentElement;
    return up.tagName !== "ARTICLE";
  };
  return [...document.querySelectorAll("article *, .mobile-header *:not(.toc-overlay-icon *)")]
    .filter((one) => one.getBoundingClientRect().right > width + 1 && one.getClientRects().length)
    .filter((one) => !one.closest("article") || !held(one))
    .map((one) => one.outerHTML.slice(0, 120));
}"""


@pytest.fixture(scope="module")
def served():
    """The address of the site."""
    assert PAGES, "run: make docs"
    handler = functools.partial(SimpleHTTPRequestHandler, directory=SITE)
    handler.log_message = lambda *_: None
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        found = play.chromium.launch(executable_path="/usr/bin/chromium", args=[*FLAGS])
        with contextlib.closing(found):
            yield found


@pytest.mark.parametrize("width", [390, 1440])
def test_every_page_fits(served, browser, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    wide = {}
    for name in PAGES:
        page.goto(f"{served}/{name}")
        wide[name] = page.evaluate(WIDE)
    page.close()
    assert {name: found for name, found in wide.items() if found} == {}


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("runs twice", "tasks.html#guest-runs-twice"),
        ("node will not drain", "tasks.html#node-will-not-drain"),
        ("kvmcluster:ssh:login", "pillar.html#kvmcluster-ssh-login"),
        ("drain", "ref/runner.html#runner.kvmcluster.drain"),
    ],
)
def test_the_search_finds_it_first(served, browser, query, place):
    page = browser.new_page()
    page.goto(f"{served}/search.html?q={query.replace(' ', '+')}")
    page.wait_for_selector("#search-results .search-summary:has-text('found')")
    first = page.get_attribute("#search-results li a >> nth=0", "href")
    page.close()
    assert first == place


def test_what_is_copied_of_a_session_is_what_was_typed(served, browser):
    context = browser.new_context()
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=served)
    page = context.new_page()
    page.goto(f"{served}/index.html")
    page.hover("div.highlight")
    page.click("button.copybtn")
    page.wait_for_selector("button.copybtn.success")
    copied = page.evaluate("navigator.clipboard.readText()")
    context.close()
    assert copied == "salt-run kvmcluster.status\n"
