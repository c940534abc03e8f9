"""authorized_keys2: members get in, former ones do not, and nobody else's line is touched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from material import KEYS, cluster, ed25519, parameters, read, with_keys

from saltext_kvmcluster.core.fileplan import Changes
from saltext_kvmcluster.core.pillar import parser
from saltext_kvmcluster.core.trust import blocks, login_keys

MEMBERS = ("node1", "node2", "node3")
FOUND = cluster(*MEMBERS, names={node: [f"{node}.example.com"] for node in MEMBERS})
EXCLUSIVE = cluster(*MEMBERS, exclusive=True)


def parts_of(case):
    """Return a case's cluster, mine, and text before and after."""
    found = parser.from_pillar(case["pillar"])
    before, after = with_keys(case["before"]), with_keys(case["after"])
    mine = read(found, **with_keys(case["mine"]))
    return found, mine, before, before if after == "unchanged" else after


CASES = parameters("authorized_keys")


@pytest.mark.parametrize("case", CASES)
def test_the_file_becomes_what_the_case_wants(case):
    found, mine, before, after = parts_of(case)
    assert login_keys.wanted(found, mine, before, case["uncovered"]).text == after


@pytest.mark.parametrize("case", CASES)
def test_the_changes_are_told_as_the_case_says(case):
    found, mine, before, _ = parts_of(case)
    detail = with_keys(case["changes"])
    wanted = login_keys.wanted(found, mine, before, case["uncovered"])
    refused = {**mine.refused, **wanted.refused}
    assert {key: words for key, words in wanted.changes.to_dict().items() if words} == {
        key: words for key, words in detail.items() if key != "refused"
    }
    assert list(refused) == list(detail.get("refused", {}))
    for node, why in detail.get("refused", {}).items():
        assert why in refused[node]


@pytest.mark.parametrize("case", CASES)
def test_a_second_run_changes_nothing(case):
    found, mine, before, after = parts_of(case)
    again = login_keys.wanted(found, mine, after, case["uncovered"])
    assert (again.text, again.changes) == (after, Changes())
    assert list(again.refused) == list(
        login_keys.wanted(found, mine, before, case["uncovered"]).refused
    )


def test_a_key_that_two_members_always_had_stays_with_both():
    held = "".join(
        f"restrict {KEYS['other']} kvmcluster/marathon/{node}\n" for node in ("node1", "node2")
    )
    wanted = login_keys.wanted(FOUND, read(FOUND, node1=KEYS["other"]), held)
    assert wanted.refused == {} and wanted.text == f"{blocks.BEGIN}{held}{blocks.END}"


def test_words_about_a_file_that_is_not_utf_8_can_be_sent_by_salt():
    line = f"{KEYS['node1']} caf\udce9 \x1b[2J\n"
    held = f"{KEYS['node1']} kvmcluster/marathon/node1\n"
    words = login_keys.wanted(FOUND, read(FOUND, node1=KEYS["node1"]), line + held).changes
    assert words.removed[0].startswith("caf\udce9")
    assert all(word.isprintable() and word.encode() for word in words.to_dict()["removed"])


# What a file may hold. Foreign lines have keys that no node has and comments that name none.

CLAIMS = [KEYS[name] for name in ("node1", "node2", "node3", "node2-new", "other", "rsa1024")]
PEOPLE = [ed25519(number) for number in (1000, 1001, 1002)]
FOREIGN = [
    *("", "   ", "\t", "\r", "ssh-rsa", 'command="x', '"', "\\", "\udcff\udce9", "\x00#", "\u2028"),
    *(f"# {comment}" for comment in ("notes", "BEGIN kvmcluster-old", "END kvmclusters", "\x85")),
    *(f"{key} {comment}" for key in PEOPLE for comment in ("admin@laptop", "a@b@c", "node", "@")),
    *(
        f"  {key}{end}"
        for key in PEOPLE
        for end in ("", "\r", " ", " caf\udce9\r", "\troot@elsewhere")
    ),
    *(
        f"{options}{key} admin@laptop"
        for key in PEOPLE
        for options in ('command="a b \\" c" ', 'no-pty,from="*"\t', "cert-authority ")
    ),
]
HANDMADE = [
    f"{key} root@{name}{end}"
    for key in [*CLAIMS, KEYS["node4"]]
    for name in [*MEMBERS, "node2.example.com", "NODE3"]
    for end in ("", "\r")
]
TAGGED = [
    f"{options}{key} kvmcluster/{name}/{node}"
    for options in ("", "restrict ", 'restrict,from="192.0.2.0/24" ', 'pty,command="x \\" y" ')
    for key in [*CLAIMS, KEYS["dsa"], KEYS["node4"]]
    for name in ("marathon", "sprint")
    for node in [*MEMBERS, "node4"]
]
MARKERS = [blocks.BEGIN[:-1], blocks.END[:-1], "# BEGIN kvmcluster", "  # END kvmcluster\r"]

foreign, handmade, tagged, marker = map(st.sampled_from, (FOREIGN, HANDMADE, TAGGED, MARKERS))
block = st.lists(tagged | foreign | handmade, max_size=5).map(
    lambda lines: [blocks.BEGIN[:-1], *lines, blocks.END[:-1]]
)
pieces = st.lists(
    st.one_of(
        foreign.map(lambda line: ("foreign", [line])),
        handmade.map(lambda line: ("handmade", [line])),
        tagged.map(lambda line: ("ours", [line])),
        block.map(lambda lines: ("ours", lines)),
        st.just(("ours", ["# END kvmcluster\r"])),
    ),
    max_size=8,
)
whatever = st.lists(foreign | handmade | tagged | marker, max_size=10)
texts = st.builds(lambda lines, end: "\n".join(lines) + end, whatever, st.sampled_from(["", "\n"]))
claims = st.none() | st.sampled_from([*CLAIMS, *PEOPLE])
mines = st.fixed_dictionaries({}, optional=dict.fromkeys(MEMBERS, claims))


def block_of(text):
    """Return the lines of the one block, by node, and the text around it."""
    head, _, rest = text.partition(blocks.BEGIN)
    inside, _, tail = rest.partition(blocks.END)
    lines = [line.rsplit(" kvmcluster/marathon/", 1) for line in inside.splitlines()]
    assert all(key.startswith("restrict ssh-") for key, _ in lines)
    lines = [(key.removeprefix("restrict "), node) for key, node in lines]
    return {node: key for key, node in lines}, head, tail


@given(before=pieces, final=st.booleans(), lone_begin=st.booleans(), mine=mines)
def test_foreign_lines_survive_byte_for_byte_and_in_order(before, final, lone_begin, mine):
    kept = [lines[0] for kind, lines in before if kind == "foreign"]
    lines = [line for _, lines in before for line in lines]
    if lone_begin:
        lines += [blocks.BEGIN[:-1], "a line behind a begin without an end"]
        kept += ["a line behind a begin without an end"]
    text = "\n".join(lines) + ("\n" if lines and (final or not lines[-1]) else "")
    _, head, tail = block_of(login_keys.wanted(FOUND, read(FOUND, **mine), text).text)
    around = (head + tail).split("\n")[: None if tail and not tail.endswith("\n") else -1]
    assert [line for line in around if " root@node" not in line.lower()] == kept


@given(text=st.text(st.characters(exclude_categories=())))
def test_any_text_without_our_marks_stands_whole_before_the_block(text):
    _, head, tail = block_of(login_keys.wanted(FOUND, read(FOUND), text).text)
    assert head == (text if text.endswith("\n") or not text else text + "\n") and tail == ""


@given(text=texts, mine=mines, exclusive=st.booleans())
def test_applying_twice_is_applying_once(text, mine, exclusive):
    found = EXCLUSIVE if exclusive else FOUND
    once = login_keys.wanted(found, read(found, **mine), text)
    twice = login_keys.wanted(found, read(found, **mine), once.text)
    assert twice.text == once.text
    assert twice.changes == Changes()
    assert list(twice.refused) == list(once.refused)


@given(text=texts, mine=mines)
def test_there_is_one_block_with_one_line_for_each_node(text, mine):
    after = login_keys.wanted(FOUND, read(FOUND, **mine), text).text
    assert [after.count(mark) for mark in (blocks.BEGIN, blocks.END)] == [1, 1]
    assert "# BEGIN kvmcluster\n" not in after and "# END kvmcluster\r" not in after
    inside, head, tail = block_of(after)
    assert " kvmcluster/" not in head + tail
    assert list(inside) == [node for node in MEMBERS if node in inside]


@given(text=texts, mine=mines, more=mines)
def test_no_member_loses_its_entry_while_it_is_in_the_pillar(text, mine, more):
    first = login_keys.wanted(FOUND, read(FOUND, **mine), text).text
    identities = read(FOUND, **more)
    second = login_keys.wanted(FOUND, identities, first)
    before, after = block_of(first)[0], block_of(second.text)[0]
    for node, key in before.items():
        new = identities.accepted.get(node)
        assert after[node] == (str(new.cluster_key) if new and node not in second.refused else key)


@given(text=texts, mine=mines, exclusive=st.booleans())
def test_a_member_whose_key_is_not_known_is_let_in_by_all_that_let_it_in(text, mine, exclusive):
    found = EXCLUSIVE if exclusive else FOUND
    start = login_keys.wanted(FOUND, read(FOUND), text).text
    identities = read(found, **mine)
    wanted = login_keys.wanted(found, identities, start)
    unknown = {node for node in MEMBERS if node not in identities.accepted} | set(wanted.refused)
    for line in start.splitlines():
        for node in unknown:
            if line.endswith((f" kvmcluster/marathon/{node}", f" root@{node}")):
                key = " ".join(line.split()[:2])
                assert key in wanted.text or (exclusive and " root@" in line)


@given(text=texts, mine=mines)
def test_what_keeps_a_node_out_is_told_and_its_claim_is_not_written(text, mine):
    identities = read(FOUND, **mine)
    wanted = login_keys.wanted(FOUND, identities, text)
    inside = block_of(wanted.text)[0]
    for node, identity in identities.accepted.items():
        if node not in wanted.refused:
            assert inside[node] == str(identity.cluster_key)
        else:
            assert identity.cluster_key.fingerprint in wanted.refused[node]


@given(text=texts, mine=mines)
def test_no_two_nodes_come_to_share_a_key(text, mine):
    start = login_keys.wanted(FOUND, read(FOUND), text).text
    before = list(block_of(start)[0].values())
    after = list(block_of(login_keys.wanted(FOUND, read(FOUND, **mine), start).text)[0].values())
    for key in after:
        assert after.count(key) <= max(1, before.count(key))


@given(text=texts)
def test_an_exclusive_file_is_the_block_alone(text):
    after = login_keys.wanted(EXCLUSIVE, read(EXCLUSIVE, node1=KEYS["node1"]), text).text
    assert after.startswith(blocks.BEGIN) and after.endswith(blocks.END)
    assert all("kvmcluster" in line for line in after.splitlines())


@given(text=texts)
def test_who_leaves_the_pillar_leaves_no_trace(text):
    everybody = {node: KEYS[node] for node in MEMBERS}
    joined = login_keys.wanted(FOUND, read(FOUND, **everybody), text).text
    rest = cluster("node1", "node3")
    left = login_keys.wanted(rest, read(rest, **everybody), joined).text
    assert KEYS["node2"] not in left
    assert "node2" not in left
