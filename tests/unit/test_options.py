"""How to migrate: what may be wanted, what is refused and why, and that each option is heeded."""

import re
from dataclasses import asdict, fields, replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from material import CASES

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.migration import handover, plans, queues
from saltext_kvmcluster.core.migration.migration import Abort, Move, Snapshot, Watch, act
from saltext_kvmcluster.core.migration.pacing import Pace
from saltext_kvmcluster.core.migration.progress import COPYING, Progress
from saltext_kvmcluster.core.pillar import options
from saltext_kvmcluster.core.pillar.clusters import Migration
from saltext_kvmcluster.core.pillar.options import Options
from saltext_kvmcluster.core.pillar.parser import from_pillar

NODES = {"node1": {}, "node2": {"migration": "node2-mig"}}
EXAMPLE = yaml.safe_load((CASES.parent.parent / "pillar.example").read_text())["kvmcluster"][
    "migration"
]
MOVE = Move("web1", "11111111-1111-1111-1111-111111111111", "node1", "node2")
MIB = 1024 * 1024


def cluster(**section):
    return from_pillar({"kvmcluster": {"name": "lab", "nodes": NODES, "migration": section}})


def plan(wanted, **more):
    found = cluster()
    return plans.plan(found, found.node("node2"), wanted, False, "192.0.2.2", **more)


def changed(**wanted):
    """Return by how much a plan differs from that of the defaults: flags gone, come, parameters."""
    before, after = plan(Options()), plan(Options(**wanted))
    return (
        set(before.flags) - set(after.flags),
        set(after.flags) - set(before.flags),
        {
            name: value
            for name, value in after.parameters.items()
            if before.parameters.get(name) != value
        },
    )


@pytest.mark.parametrize(
    ("wanted", "gone", "come", "parameters"),
    [
        ({"live": False}, {"LIVE"}, set(), {}),
        ({"live": False, "auto_converge": True}, {"LIVE"}, set(), {}),
        ({"auto_converge": True}, set(), {"AUTO_CONVERGE"}, {}),
        ({"bandwidth": 8}, set(), set(), {"BANDWIDTH": 8}),
        (
            {"bandwidth": 8, "post_copy": True},
            set(),
            {"POSTCOPY"},
            {"BANDWIDTH": 8, "BANDWIDTH_POSTCOPY": 8},
        ),
        ({"parallel": 4}, set(), {"PARALLEL"}, {"PARALLEL_CONNECTIONS": 4}),
        ({"compression": "xbzrle"}, set(), {"COMPRESSED"}, {"COMPRESSION": "xbzrle"}),
        (
            {"compression": "zstd", "parallel": 2},
            set(),
            {"COMPRESSED", "PARALLEL"},
            {"COMPRESSION": "zstd", "PARALLEL_CONNECTIONS": 2},
        ),
        ({"post_copy": True}, set(), {"POSTCOPY"}, {}),
        ({"tls": True}, set(), {"TLS"}, {}),
        ({"tunnelled": True}, set(), {"TUNNELLED"}, {}),
    ],
)
def test_an_option_is_told_to_libvirt_by_its_name(wanted, gone, come, parameters):
    assert changed(**wanted) == (gone, come, parameters)


def test_the_daemons_carry_it_out_whatever_is_wanted():
    for wanted in (Options(), Options(live=False), Options(tunnelled=True)):
        assert "PEER2PEER" in plan(wanted).flags


def test_what_is_tunnelled_has_no_way_of_its_own():
    assert set(plan(Options()).parameters) == {"URI", "LISTEN_ADDRESS"}
    assert plan(Options(tunnelled=True)).parameters == {}


def stuck(wanted, last=20_000.0):
    """Return the decisions on a guest that writes memory twice as fast as that is sent."""
    watch, decided = Watch(0.0, 0.0, Pace(0.0)), []
    for second in range(0, int(last), 20):
        progress = Progress(
            at=float(second),
            phase=COPYING,
            total=1024 * MIB,
            processed=8 * MIB * second,
            remaining=512 * MIB,
            rate=8 * MIB,
            dirty_rate=16 * MIB,
            iteration=2 + second // 60,
        )
        watch, found = act(watch, Snapshot(float(second), False, True, progress), wanted, 60.0)
        decided += [(second, found)] if found else []
        if isinstance(found, Abort):
            break
    return decided, watch.ending


def consequences(**section):
    """Return all that follows from what the pillar says of migrations."""
    found = cluster(**section)
    wanted = found.migration.options
    return plan(wanted), stuck(wanted), queues.queues(found, MOVE), handover.is_strict(wanted, True)


OTHERWISE = {
    "live": False,
    "bandwidth": 8,
    "downtime": 5000,
    "timeout": 60.0,
    "parallel": 4,
    "compression": "xbzrle",
    "auto_converge": True,
    "post_copy": True,
    "tls": True,
    "tunnelled": True,
    "handover": "libvirt",
    "max_outgoing": 1,
    "max_incoming": 5,
}


@pytest.mark.parametrize("key", EXAMPLE)
def test_nothing_that_is_documented_is_without_consequence(key):
    assert consequences(**{key: OTHERWISE[key]}) != consequences()


def test_what_the_example_shows_is_all_there_is_and_the_default():
    limits = {field.name for field in fields(Migration)} - {"options"}
    assert set(EXAMPLE) == {*options.KEYS, *limits}
    assert cluster(**EXAMPLE).migration == Migration()
    for key, value in EXAMPLE.items():
        default = getattr(Migration(), key) if key in limits else getattr(Options(), key)
        assert value == default, key


def test_the_page_tells_of_every_option_with_its_default_and_of_no_other():
    page = (CASES.parent.parent / "docs" / "migrating.md").read_text(encoding="utf-8")
    table = page.split("| key |")[1].split("\n\n")[0]
    reported = dict(re.findall(r"^\| `(\w+)` \|.*?\| `([\w.]+)` \|", table, re.MULTILINE))
    assert {key: yaml.safe_load(value) for key, value in reported.items()} == asdict(Options())


def test_the_pillar_s_word_arrives():
    together = OTHERWISE | {"tls": False, "post_copy": False, "parallel": 0}
    limits = {key: together.pop(key) for key in ("max_outgoing", "max_incoming")}
    assert cluster(**together, **limits).migration == Migration(Options(**together), **limits)


def test_an_argument_goes_before_the_pillar_and_none_is_no_word():
    defaults = Options(bandwidth=8, post_copy=True, timeout=60.0)
    found = options.of_call(defaults, {"bandwidth": 0, "post_copy": None, "parallel": None})
    assert found == replace(defaults, bandwidth=0)
    assert options.of_call(defaults, {"timeout": 90}).timeout == 90.0
    assert isinstance(options.of_call(defaults, {"timeout": 90}).timeout, float)


BAD = [
    ("live", "yes", "want true or false, got 'yes'"),
    ("live", 1, "want true or false, got 1"),
    ("bandwidth", -1, "from 0 to 8796093022207, got -1"),
    ("bandwidth", 8.5, "want a whole number"),
    ("bandwidth", True, "want a whole number"),
    ("bandwidth", "8", "want a whole number"),
    ("bandwidth", 8796093022208, "from 0 to 8796093022207"),
    pytest.param("bandwidth", 1 << 100_000, "a number too long to be shown", id="huge"),
    ("downtime", 0, "from 1 to 2000000, got 0"),
    ("downtime", 2_000_001, "from 1 to 2000000"),
    ("timeout", 0, "want seconds, above 0 and at most 86400, got 0"),
    ("timeout", 86401, "above 0 and at most 86400"),
    ("timeout", float("nan"), "above 0 and at most 86400"),
    ("timeout", float("inf"), "above 0 and at most 86400"),
    ("timeout", True, "want seconds"),
    ("timeout", "1h", "want seconds"),
    ("parallel", 1, "for a single connection use 0"),
    ("parallel", 256, "from 0 to 255"),
    ("compression", "zlip", "or zlib or zstd, got 'zlip'; did you mean zlib?"),
    ("compression", True, "want none or xbzrle"),
    ("compression", ["zlib"], "want none or xbzrle"),
    ("auto_converge", 0, "want true or false"),
    ("post_copy", "false", "want true or false"),
    ("tls", {}, "want true or false"),
    ("tunnelled", [], "want true or false"),
]


@pytest.mark.parametrize(("key", "value", "words"), BAD)
def test_a_value_that_cannot_be_is_told_by_its_place(key, value, words):
    with pytest.raises(InputError) as in_pillar:
        cluster(**{key: value})
    with pytest.raises(InputError) as in_call:
        options.of_call(Options(), {key: value})
    assert words in str(in_pillar.value) and words in str(in_call.value)
    assert str(in_pillar.value).startswith("kvmcluster:migration:")
    assert str(in_call.value).startswith(f"{key}: ")


@pytest.mark.parametrize("key", ["max_outgoing", "max_incoming"])
@pytest.mark.parametrize("value", [0, 65, True, "2", None, 1.0])
def test_a_limit_is_a_number_of_guests(key, value):
    with pytest.raises(InputError, match=f"kvmcluster:migration:{key}: want a whole number from 1"):
        cluster(**{key: value})


def test_limits_are_the_cluster_s_and_no_call_s():
    with pytest.raises(InputError, match=r"options: unknown key 'max_outgoing'; known keys are"):
        options.of_call(Options(), {"max_outgoing": 3})


def test_an_unknown_key_is_told_with_the_nearest():
    with pytest.raises(InputError, match=r"kvmcluster:migration: .*did you mean bandwidth\?"):
        cluster(bandwith=8)
    with pytest.raises(InputError, match=r"kvmcluster:migration: want a mapping, got 8"):
        from_pillar({"kvmcluster": {"name": "lab", "nodes": NODES, "migration": 8}})


UNFIT = [
    ({"post_copy": True, "live": False}, "from it (post_copy is true, live is false)"),
    ({"post_copy": True, "tunnelled": True}, "does not have"),
    ({"post_copy": True, "parallel": 2}, "over parallel connections"),
    ({"tunnelled": True, "parallel": 2}, "a single connection, that of ssh"),
    ({"tunnelled": True, "tls": True}, "tunnelled memory is encrypted by ssh"),
    ({"compression": "zlib"}, "parallel connections only (compression is zlib, parallel is 0 by"),
    ({"compression": "zstd"}, "parallel connections only"),
    ({"compression": "xbzrle", "parallel": 2}, "xbzrle on a single connection only"),
]


@pytest.mark.parametrize(("wanted", "words"), UNFIT)
def test_options_that_do_not_go_together(wanted, words):
    with pytest.raises(InputError) as in_pillar:
        cluster(**wanted)
    with pytest.raises(InputError) as in_call:
        options.of_call(Options(), wanted)
    assert words in str(in_pillar.value) and words in str(in_call.value)
    assert str(in_pillar.value).startswith("kvmcluster:migration: ")
    assert all(key in str(in_call.value).split(":")[0] for key in wanted)


def test_every_rule_is_broken_by_some_case():
    broken = [
        rule
        for rule in options.RULES
        if any(
            rule.broken(Options(**wanted))
            for wanted in [*(w for w, _ in UNFIT), {"parallel": 1}, {"force_post_copy": True}]
        )
    ]
    assert broken == list(options.RULES)


def test_post_copy_is_forced_in_a_call_that_may_use_it_alone():
    forced = {"force_post_copy": True}
    words = r"add post_copy=true \(force_post_copy is true, post_copy is false by default\)"
    with pytest.raises(InputError, match=f"^force_post_copy, post_copy: .*{words}"):
        options.of_call(Options(), forced)
    with pytest.raises(InputError, match=r"post_copy is false\)"):
        options.of_call(Options(post_copy=True), forced | {"post_copy": False})
    assert options.of_call(Options(post_copy=True), forced).force_post_copy
    assert options.of_call(Options(), forced | {"post_copy": True}).force_post_copy
    with pytest.raises(InputError, match="unknown key 'force_post_copy'"):
        cluster(post_copy=True, **forced)


def test_what_comes_from_the_pillar_is_said_to_a_call():
    with pytest.raises(InputError, match=r"post_copy is true by the pillar, tunnelled is true\)"):
        options.of_call(Options(post_copy=True), {"tunnelled": True})
    assert options.of_call(Options(post_copy=True), {"tunnelled": True, "post_copy": False})


anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=9),
    st.sampled_from(options.COMPRESSIONS),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@given(raw=st.dictionaries(st.sampled_from([*options.KEYS, "max_outgoing"]), anything, max_size=4))
def test_any_section_is_options_that_can_be_planned_or_an_input_error(raw):
    try:
        found = cluster(**raw).migration.options
    except InputError as error:
        assert str(error).isprintable()
        return
    assert plan(found).flags
    assert options.of_call(found, asdict(found)) == found
    assert not any(rule.broken(found) for rule in options.RULES)
