"""The page of a cluster: what it shows is what was told, names stay text, it can be read by all."""

import copy
import itertools
import re
from html.parser import HTMLParser

import page_cases
import pytest
from lxml import html as parser
from page_cases import finding, observed

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.fileplan import FileState
from saltext_kvmcluster.core.page import destinations, figures, plot, target
from saltext_kvmcluster.core.page.view import view
from saltext_kvmcluster.master import page

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</style><script>alert(1)</script>",
    "\"' onmouseover=alert(1) x='",
    "{{ 7 * 7 }}{% raw %}",
    "db\u202e1\u0007\x1b[31m\ud800",
    "javascript:alert(1)",
    "&lt;b&gt;",
)
CHECKS = [f"node.c{number}" for number in range(20)]
VOID = {"meta", "br", "link", "hr", "img", "input"}
CASES = {
    "usual": observed(),
    "a silent node": observed(silent=[2]),
    "all silent": observed(nodes=3, silent=[1, 2, 3]),
    "no guest": observed(guests=0, moves=0),
    "one node": observed(nodes=1, guests=2, moves=0),
    "no node": observed(nodes=0, guests=0, moves=0),
    "hostile": observed(names=HOSTILE, guests=len(HOSTILE)),
    "large": observed(nodes=50, guests=1000, moves=1000),
}


def shown(data):
    return parser.document_fromstring(page.html(view(data)).encode())


def text(element):
    return " ".join(" ".join(element.itertext()).split())


def rows(document, table):
    """Return the cells of a table's body as text, a title in place of what has one."""
    return [[text(cell) for cell in row] for row in document.xpath(f"//table{table}/tbody/tr")]


class Balance(HTMLParser):
    """Fails where a tag is not closed, or another one is closed."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        assert len({key for key, _ in attrs}) == len(attrs), (tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """Of SVG."""

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, (self.getpos(), tag)


@pytest.fixture(scope="module", params=CASES)
def document(request):
    return page.html(view(CASES[request.param]))


def test_a_page_is_well_formed_and_its_ids_are_unique(document):
    balance = Balance()
    balance.feed(document)
    assert balance.open == []
    tree = parser.document_fromstring(document.encode())
    ids = tree.xpath("//@id")
    assert len(ids) == len(set(ids))
    for reference in tree.xpath("//@href"):
        assert reference.startswith("#") and reference[1:] in ids
    for named in tree.xpath("//@aria-labelledby"):
        assert set(named.split()) <= set(ids)


def test_a_page_can_be_read_without_seeing_it(document):
    tree = parser.document_fromstring(document.encode())
    levels = [int(heading.tag[1]) for heading in tree.xpath("//h1|//h2|//h3|//h4|//h5|//h6")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(later <= sooner + 1 for sooner, later in itertools.pairwise(levels))
    assert tree.xpath("/html/@lang") == ["en"] and tree.xpath("//title/text()")
    for table in tree.xpath("//table"):
        assert {th.get("scope") for th in table.xpath("./thead//th")} == {"col"}
        assert all(len(row.xpath("./th[@scope='row']")) == 1 for row in table.xpath("./tbody/tr"))
        widths = {len(row) for row in table.xpath(".//tr")}
        assert len(widths) == 1, widths
        assert table.getparent().get("tabindex") == "0" and table.getparent().get("aria-label")
    assert all(svg.get("role") == "img" for svg in tree.xpath("//svg"))


def test_a_page_loads_nothing_and_runs_nothing(document):
    tree = parser.document_fromstring(document.encode())
    policy = tree.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")[0]
    assert policy.startswith("default-src 'none';") and "script" not in policy
    assert not tree.xpath("//script|//img|//iframe|//object|//embed|//link|//form|//base|//@src")
    assert not [key for element in tree.iter() for key in element.attrib if key.startswith("on")]
    assert not re.search(r"url\(|@import|https?:", document)
    assert all(
        re.fullmatch(r"--share: \d+(; --name: \d+)?", style) for style in tree.xpath("//@style")
    )


def test_hostile_names_are_shown_as_they_are_or_as_replaced_characters():
    tree = shown(CASES["hostile"])
    names = {text(name) for name in tree.xpath("//ul[@class='boxes']//span[@class='name']")}
    assert set(HOSTILE[:4]) <= names and set(HOSTILE[5:]) <= names
    assert "db\ufffd1\ufffd\ufffd[31m\ufffd" in names
    everything = page.html(view(CASES["hostile"]))
    assert all(char.isprintable() or char == "\n" for char in everything)


def test_every_text_of_what_was_observed_stays_text():
    """Wherever a name or reason may come from, it is put there, and must add no element."""
    data = observed(silent=[4])
    data["jobs"] = [dict.fromkeys(("source", "destination", "phase", "guest"), "x")]
    data["jobs"][0] |= {"percentage": 40.0, "elapsed": 3.0}
    data["unsettled"] = [dict.fromkeys(("guest", "source", "destination", "began"), "x")]
    data["drifted"] = {"node1": ["x"]}
    data["status"]["notes"] = ["x"]
    data["status"]["nodes"]["node2"] |= {"cordoned": "x", "cordon": {"since": "", "reason": "x"}}
    data["status"]["status"][0] |= {"state": "x", "frozen": "x", "manager": "x"}
    data["check"]["findings"] += [finding("x", guests=["x"], severity="WARN")]
    plain = copy.deepcopy(data)
    hurt = spoilt(data, keep={"uuid", "result", "severity", "outcome", "node", "where", "id"})
    tags = [element.tag for element in shown(plain).iter()]
    assert [element.tag for element in shown(hurt).iter()] == tags


def spoilt(value, keep, key=""):
    """Return data with markup at the end of every text that is not compared with another one."""
    if isinstance(value, dict):
        return {name: spoilt(item, keep, name) for name, item in value.items()}
    if isinstance(value, list):
        return [spoilt(item, keep, key) for item in value]
    compared = key in keep or (isinstance(value, str) and re.match(r"node|running|20\d\d", value))
    return f"{value}{HOSTILE[0]}" if isinstance(value, str) and not compared else value


def test_a_box_is_as_wide_as_its_guests_memory():
    tree = shown(observed(nodes=1, guests=6, moves=0))
    boxes = {
        text(box.xpath("./span[@class='size']")[0]): box.get("style")
        for box in tree.xpath("//ul[@class='boxes']/li")
    }
    assert list(boxes) == ["640 MiB", "512 MiB", "384 MiB", "256 MiB", "160 MiB", "128 MiB"]
    assert list(boxes.values()) == [
        f"--share: {share}; --name: 8" for share in (100, 80, 60, 40, 25, 20)
    ]


def test_the_matrix_says_what_the_checks_said():
    data = observed(nodes=3, guests=3, moves=0)
    guests = data["check"]["guests"]
    guests[0] |= {"movable_to": [], "blocked": {"node2": ["storage.kind"], "node3": ["x", "y"]}}
    data["check"]["findings"] = [
        finding("storage.kind", guests=["web0"], destinations=["node2"], sentence="it is local"),
        finding("x", nodes=["node1"], destinations=["node3"], sentence="no path"),
        finding("y", guests=["web0"], everywhere=True, sentence="is it?", outcome="UNKNOWN"),
        finding("z", nodes=["node2"], sentence="clocks differ", severity="WARN"),
    ]
    tree = shown(data)
    assert rows(tree, "[@class='matrix']") == [
        ["web0", "node1", "● here", "✗ no 1", "✗ no 2 3"],
        ["web1", "node2", "✓ yes", "● here", "✓ yes"],
        ["web2", "node3", "✓ yes", "✓ yes", "● here"],
    ]
    titles = tree.xpath("//td[@class='no']/@title")
    assert titles[0] == "it is local; move it to shared storage" and "no path" in titles[1]
    reasons = [text(one) for one in tree.xpath("//ol[@class='reasons']/li")]
    assert [one.split(" check ")[1].split()[0] for one in reasons] == ["storage.kind", "x", "y"]
    assert [text(one) for one in tree.xpath("//ul[@class='reasons']/li")] == [
        "· WARNING node2; check z clocks differ What to do: move it to shared storage"
    ]


def test_a_destination_that_is_not_known_is_not_called_bad():
    tree = shown(observed(nodes=3, guests=3, moves=0, silent=[3]))
    cells = [cell for row in rows(tree, "[@class='matrix']") for cell in row]
    assert "? not known 1" in cells and not [cell for cell in cells if "✗" in cell]


def test_a_reason_that_cannot_be_found_leaves_the_name_of_its_check():
    data = observed(nodes=2, guests=1, moves=0)
    data["check"]["guests"][0] |= {"movable_to": [], "blocked": {"node2": ["guest.odd"]}}
    assert rows(shown(data), "[@class='matrix']")[0][-1] == "✗ no guest.odd"


def test_guests_that_are_alike_share_a_row_and_the_worst_are_first():
    data = observed(nodes=50, guests=1000, moves=0)
    stuck = data["check"]["guests"][731]
    stuck |= {"movable_to": [], "blocked": {node: ["guest.x"] for node in stuck["movable_to"]}}
    data["check"]["findings"] = [finding("guest.x", guests=[stuck["guest"]], everywhere=True)]
    matrix = destinations.matrix(data["check"])
    assert [row["count"] for row in matrix["rows"]] == [1, *[20] * 31, 19, *[20] * 18]
    assert matrix["rows"][0]["guests"] == [stuck["guest"]] and not matrix["left_out"]


def test_a_page_is_bounded_and_says_what_it_leaves_out():
    data = observed(nodes=60, guests=400, moves=400)
    for number, row in enumerate(data["check"]["guests"]):
        row["blocked"] = {f"node{n}": [f"guest.c{number}", *CHECKS] for n in range(1, 61)}
        row["movable_to"] = []
    data["check"]["findings"] = [
        finding(
            one, sentence=f"{one} {'long ' * 200}", everywhere=True, nodes=data["check"]["nodes"]
        )
        for one in CHECKS
    ]
    data["status"]["problems"] = [f"problem {number}" for number in range(1000)]
    found = page.html(view(data))
    assert len(found) < 3_000_000
    for sentence in (
        "317 more guests not shown",
        "200 older ones",
        "800 more problems",
    ):
        assert sentence in found, sentence
    assert "and 150 smaller guests, not drawn" in page.html(view(observed(nodes=2, guests=2300)))


def test_silence_is_shown_as_silence():
    tree = shown(CASES["all silent"])
    cards = [text(card) for card in tree.xpath("//article")]
    assert len(cards) == 3 and all("guests not known" in card for card in cards)
    assert all("What runs there is not known:" in card for card in cards)
    figures_ = {text(one[0]): text(one[1]) for one in tree.xpath("//dl[@class='figures']/div")}
    assert figures_.pop("Nodes that told their guests") == "0 of 3"
    assert set(figures_.values()) == {"none seen"}
    assert "No active guest is known." in text(tree)


def test_room_elsewhere_is_said_as_far_as_it_is_known():
    data = observed(nodes=3, guests=4)
    for unplaced, expected in (
        ({"node1": 0, "node2": 1, "node3": 0}, ["for all its guests", "not for 1 of 1 guest"]),
        (None, ["not known"] * 2),
    ):
        cards = shown({**data, "unplaced": unplaced}).xpath("//article")[:2]
        for card, words in zip(cards, expected, strict=True):
            assert words in text(card) and ("NO ROOM" in text(card)) is words.startswith("not for")


def test_what_some_nodes_told_is_a_lower_bound():
    tree = shown(observed(silent=[4]))
    figures_ = {text(one[0]): text(one[1]) for one in tree.xpath("//dl[@class='figures']/div")}
    assert figures_["Active guests"] == "at least 9"
    assert "node4 did not tell its migrations" in text(tree)


def test_the_table_of_migrations_says_what_the_history_said():
    data = observed()
    tree = shown(data)
    found = rows(tree, "[@class='moves']")
    assert len(found) == 30
    for row, record in zip(reversed(found), data["history"], strict=True):
        assert row[1:4] == [record["guest"], record["source"], record["destination"]]
        assert row[4].startswith(record["result"].upper().replace("_", " "))
        assert row[5] == f"{record['elapsed']:.1f} s"
        assert row[6] == (f"{record['downtime_ms']} ms" if record["downtime_ms"] else figures.NONE)
    drawn = [text(one).split(": ")[1] for one in tree.xpath("//svg//g/title")]
    assert [one.split(", ")[:2] for one in drawn] == [
        [f"{one['source']} → {one['destination']}", one["result"].replace("_", " ")]
        for one in data["history"]
    ]
    assert len(tree.xpath("//svg//rect")) == 30 + 28


def test_a_plot_keeps_neighbours_apart_and_shortens_pauses():
    drawn = plot.of(
        [{**one, "number": n} for n, one in enumerate(observed()["history"], 1)],
        [f"node{n}" for n in range(1, 5)],
    )
    places = [mark["x"] for mark in drawn["marks"]]
    gaps = [later - sooner for sooner, later in itertools.pairwise(places)]
    assert min(gaps) >= 10 and max(gaps) < 5 * min(gaps)
    assert places[0] > plot.LEFT and places[-1] < plot.WIDTH - plot.RIGHT
    assert [one["text"] for one in drawn["breaks"]] == ["5 h 0 min"]


@pytest.mark.parametrize("count", [1, 2, 60, 200])
def test_a_plot_of_any_number_lies_within_its_frame(count):
    history = page_cases.history(["node1", "node2"], count)
    drawn = plot.of([{**one, "number": 1} for one in history], ["node1", "node2"])
    assert drawn["count"] == min(count, plot.MOST)
    for panel in drawn["panels"]:
        for column in panel["columns"]:
            assert drawn["left"] <= column["x"] <= drawn["right"] - column["width"]
            assert panel["top"] - 0.1 <= column["y"] <= panel["bottom"]


def test_records_that_are_no_moves_between_nodes_are_not_drawn():
    data = observed(moves=2)
    data["history"].append(
        {**data["history"][0], "source": "node2, node3", "result": "started", "elapsed": None}
    )
    tree = shown(data)
    assert len(tree.xpath("//svg//g")) == 2
    assert rows(tree, "[@class='moves']")[0][4].startswith("STARTED")


def test_a_problem_is_parted_into_its_clauses():
    data = observed()
    data["status"]["problems"] = ["node3: silent (no response; stopped), by ssh: x; on node3: y; z"]
    (problem,) = shown(data).xpath("//section[@id='problems']//li")
    assert text(problem.xpath("strong")[0]) == "node3: silent (no response; stopped), by ssh: x"
    assert [text(one) for one in problem.xpath("p")] == ["on node3: y", "z"]


def test_guests_whose_node_was_seen_by_a_peer_alone_are_not_left_out_of_the_matrix_in_silence():
    data = observed(nodes=3, guests=3)
    data["check"]["guests"] = data["check"]["guests"][:2]
    found = text(shown(data))
    assert "Where these guests on node3 can go, since what this needs was not told: web2." in found


@pytest.mark.parametrize(
    ("kib", "as_text"),
    [(None, "–"), (0, "0 KiB"), (1000, "1 MiB"), (163840, "160 MiB"), (24 << 20, "24 GiB"),
     (25_268_224, "24.1 GiB"), (1 << 30, "1 TiB"), (5 << 40, "5120 TiB")],
)  # fmt: skip
def test_memory_is_short(kib, as_text):
    assert figures.memory(kib) == as_text


@pytest.mark.parametrize(
    ("number", "as_text"),
    [(None, "–"), (0.04, "0.0 s"), (3.44, "3.4 s"), (59.96, "1 min 0 s"), (61, "1 min 1 s"),
     (3599.7, "1 h 0 min"), (90061, "1 d 1 h")],
)  # fmt: skip
def test_durations_are_short(number, as_text):
    assert figures.seconds(number) == as_text


@pytest.mark.parametrize(
    "path",
    [None, 7, ["/srv/x.html"], "", "x.html", "./x.html", "/srv/", "/srv", "/srv/x.txt",
     "/srv/x.html/", "/srv/x\n.html", "/srv/\u202ex.html", "/proc/self/x.html",
     "/srv/../dev/x.html", "//sys/x.html", "/srv/x\0.html"],
)  # fmt: skip
def test_an_odd_path_is_refused_by_what_is_wanted(path):
    with pytest.raises(InputError, match=r"^path: "):
        target.path(path)


@pytest.mark.parametrize("path", ["/srv/x.html", "/srv/a b/c.HTM", "//srv/x/../x.html"])
def test_a_path_is_made_plain(path):
    assert target.path(path).startswith("/srv/")


def test_only_a_page_of_ours_is_replaced():
    target.refuse_other("/srv/x.html", FileState())
    target.refuse_other("/srv/x.html", FileState("", 0o644, "root"))
    target.refuse_other("/srv/x.html", FileState(page.html(view(observed())), 0o644, "root"))
    with pytest.raises(InputError, match="exists and is no report"):
        target.refuse_other("/srv/x.html", FileState("<html>mine</html>", 0o644, "root"))
