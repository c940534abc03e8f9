"""The page of a cluster in a real browser: what it shows, that it fits, and that it is quiet."""

import contextlib
import copy
import functools
import json
import pathlib
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import page_cases
import pytest

from saltext_kvmcluster.core.page.view import view
from saltext_kvmcluster.master import page

pytestmark = pytest.mark.nightly

CASES = pathlib.Path(__file__).parent.parent / "cases" / "page"
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
HOSTILE = "<img src=x onerror=alert(1)>"
WIDTHS, SCHEMES = (360, 1280), ("light", "dark")
READABLE = 4.5

CONTRASTS = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (color) => {
    const [r, g, b] = color.slice(0, 3).map((value) => value / 255)
      .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const color = rgb(getComputedStyle(one).backgroundColor);
      if (color.length < 4 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const color = rgb(element.closest("svg") ? style.fill : style.color);
    const [one, two] = [light(color), light(behind(element))].sort((a, b) => b - a);
    found.push([text, (one + 0.05) / (two + 0.05)]);
  }
  return found;
}"""

# What is wider than the screen and no part of what scrolls by itself.
OVERFLOWS = """() => [
  document.documentElement.scrollWidth - document.documentElement.clientWidth,
  [...document.querySelectorAll("body *")]
    .filter((one) => !one.closest(".scroll, .skip, svg, title"))
    .filter((one) => one.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
    .map((one) => one.outerHTML.slice(0, 200)),
]"""

# Texts of boxes and cells that are wider than what holds them.
SPILLED = """() => [...document.querySelectorAll(".boxes li, td, th, .figures div, .tag, .list li")]
  .filter((one) => one.scrollWidth > one.clientWidth + 1 && one.clientWidth)
  .map((one) => one.outerHTML.slice(0, 200))"""

TABLE = """(table) => [...table.querySelectorAll(":scope > tbody > tr")]
  .map((row) => [...row.cells].map((cell) => cell.innerText.replace(/\\s+/g, " ").trim()))"""


@functools.cache
def lab():
    """Return what was observed of a lab of 4 nodes, 12 guests and 30 migrations, and more."""
    return json.loads((CASES / "lab.json").read_text())


def renamed(data, old, new):
    return json.loads(json.dumps(data).replace(json.dumps(old), json.dumps(new)))


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    assert program, "no chromium; install it: lab/ctl install --browser"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield started
        started.close()


class Reader:
    """Opens pages, and fails at the end if one wrote to the console or asked for anything."""

    def __init__(self, browser, folder):
        self.browser, self.folder, self.wrong = browser, folder, []
        self.contexts = contextlib.ExitStack()

    def open(self, data, width=1280, scheme="light", address=None):
        file = self.folder / "cluster.html"
        file.write_text(page.html(view(data)))
        context = self.browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme
        )
        self.contexts.callback(context.close)
        tab = context.new_page()
        tab.on("console", lambda message: self.wrong.append(f"console: {message.text}"))
        tab.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        tab.on("dialog", lambda dialog: self.wrong.append(f"dialog: {dialog.message}"))
        wanted = address or file.as_uri()
        tab.on(
            "request",
            lambda request: request.url == wanted or self.wrong.append(f"asked for {request.url}"),
        )
        tab.goto(wanted)
        return tab


@pytest.fixture
def reader(browser, tmp_path):
    found = Reader(browser, tmp_path)
    with found.contexts:
        yield found
    assert found.wrong == []


@pytest.fixture
def served(tmp_path):
    """The address of a web server that shows the folder of pages."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/cluster.html"
        server.shutdown()
        thread.join()


def table(tab, name):
    return tab.eval_on_selector(f"table.{name}", TABLE)


def test_it_is_quiet_from_a_web_server_too(reader, served):
    tab = reader.open(lab(), address=served)
    assert tab.title().startswith("lab: ")


def test_the_matrix_shows_what_the_checks_said(reader):
    data = lab()
    nodes = data["check"]["nodes"]
    tab = reader.open(data)
    head = tab.eval_on_selector_all("table.matrix thead th", "all => all.map((th) => th.innerText)")
    assert head == ["Guest", "is on", *(f"to {node}" for node in nodes)]
    shown = {}
    for guests, node, *cells in table(tab, "matrix"):
        assert "guests" not in guests
        for guest in guests.split(", "):
            shown[guest] = (node, [cell.split()[1] for cell in cells])
    assert shown == {
        row["guest"]: (
            row["node"],
            [
                "yes" if node in row["movable_to"] else "here" if node == row["node"] else "no"
                for node in nodes
            ],
        )
        for row in data["check"]["guests"]
    }


def test_each_reason_is_text_and_is_where_its_number_leads(reader):
    data = lab()
    tab = reader.open(data)
    sentences = {one["sentence"] for one in data["check"]["findings"]}
    cells = tab.query_selector_all("td.no")
    assert cells
    for cell in cells:
        title = cell.get_attribute("title")
        for link in cell.query_selector_all("a"):
            link.click()
            target = tab.query_selector(":target")
            texts = [one.inner_text() for one in target.query_selector_all("p")]
            assert texts[1] in sentences and texts[1] in title
            assert target.is_visible()


def test_table_and_timeline_show_what_the_history_said(reader):
    data = lab()
    history = data["history"]
    assert len(history) >= 30
    tab = reader.open(data)
    found = table(tab, "moves")
    assert len(found) == len(history)
    for row, record in zip(reversed(found), history, strict=True):
        assert row[1:4] == [record["guest"], record["source"], record["destination"]]
        assert row[4].startswith(record["result"].upper().replace("_", " "))
        assert float(row[5].removesuffix(" s")) == pytest.approx(record["elapsed"], abs=0.051)
        assert row[6] == (
            "–" if record["downtime_ms"] is None else f"{record['downtime_ms']:.0f} ms"
        )
    lanes = tab.evaluate(
        """() => {
          const texts = [...document.querySelectorAll("svg text[text-anchor=end]")];
          const name = (y) => texts.find((one) => Math.abs(one.y.baseVal[0].value - 4 - y) < 1)
            .textContent;
          return [...document.querySelectorAll("svg line.way")].map((way) =>
            [name(way.y1.baseVal.value), name(way.y2.baseVal.value)]);
        }"""
    )
    assert lanes == [[one["source"], one["destination"]] for one in history]
    heights = tab.eval_on_selector_all(
        "svg rect.column", "all => all.map((one) => one.height.baseVal.value)"
    )
    durations = [one["elapsed"] for one in history]
    scale = heights[0] / durations[0]
    assert heights[: len(durations)] == pytest.approx([one * scale for one in durations], abs=1.1)


def test_a_hostile_name_stays_text(reader):
    data = renamed(lab(), "web1", HOSTILE)
    tab = reader.open(data)
    names = tab.eval_on_selector_all(".boxes .name", "all => all.map((one) => one.innerText)")
    assert HOSTILE in names
    assert tab.query_selector_all("img, script") == []
    assert any(HOSTILE in row[0] for row in table(tab, "matrix"))
    assert any(row[1] == HOSTILE for row in table(tab, "moves"))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", ["lab", "silent", "long names", "large"])
def test_it_fits_and_can_be_read(reader, kind, width, scheme):
    data = copy.deepcopy(lab())
    if kind == "silent":
        data = json.loads((CASES / "silent.json").read_text())
    if kind == "large":
        data = page_cases.observed(nodes=50, guests=1000, moves=1000, silent=[7])
    if kind == "long names":
        data = renamed(renamed(data, "db1", "x" * 200), "node4", "n" * 60 + ".example.com")
    tab = reader.open(data, width, scheme)
    assert tab.evaluate(OVERFLOWS) == [0, []]
    assert tab.evaluate(SPILLED) == []
    for text, contrast in tab.evaluate(CONTRASTS):
        assert contrast >= READABLE, (text, contrast)


def test_it_can_be_used_by_keyboard(reader):
    tab = reader.open(lab(), 360)
    seen = []
    for _ in range(40):
        tab.keyboard.press("Tab")
        seen.append(
            tab.evaluate(
                """() => [document.activeElement.className,
                          getComputedStyle(document.activeElement).outlineStyle]"""
            )
        )
    assert seen[0][0] == "skip"
    assert {"scroll"} <= {name for name, _ in seen}
    assert all(outline != "none" for name, outline in seen if name == "scroll")
