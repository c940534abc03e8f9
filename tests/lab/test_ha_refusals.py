"""What high availability is refused for, on real parts: each mistake is named, and can be undone.

Corosync and Pacemaker are the lab's own, so for the pillar they are the user's (manage: false).
"""

import contextlib
import os

import ha_mistakes
import pytest
from ha_mistakes import CONF, GROUPS, PAIR, RIGHT, STOP, TWO
from labs import Lab, until

pytestmark = pytest.mark.nightly
COMMANDS = (
    ("salt-run", "--", "kvmcluster.ha_preflight"),
    ("salt-run", "--", "state.orchestrate", "kvmcluster.orch.ha"),
    ("salt", "--", "node1", "state.apply", "kvmcluster.ha.fencing"),
)


@contextlib.contextmanager
def lab_of(nodes, letter):
    """A lab with Pacemaker on so many nodes, prepared, with a guest that is to have ha."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    lab = Lab(os.environ.get("KVMCLUSTER_LAB", "test") + worker + letter)
    lab.nodes = lab.nodes[:nodes]
    lab.ctl("down")
    lab.ctl("up", "--pacemaker", "--nodes", nodes, timeout=600)
    try:
        failed = [name for name, state in lab.prepare().items() if not state["result"]]
        assert not failed, failed
        with lab.pillar() as pillar:
            pillar.cluster["ha"] = {"manage": False}
            pillar.cluster["guests"] = {"path": "/srv/guests", "list": {"web1": {"ha": True}}}
            pillar.save()
            lab.refresh_pillar()
            lab.guest("web1", "node1")
            yield lab
    finally:
        lab.ctl("down")


@pytest.fixture(scope="module")
def lab():
    with lab_of(3, "r") as lab:
        yield lab


def refused(lab, *words):
    data = lab.run("kvmcluster.ha_preflight", *words)
    assert "error" not in data, data["error"]
    assert data["ok"] == (not data["findings"])
    return data["findings"]


def the_state_refuses(lab, made):
    """The state refuses all of it as well, each with its remedy, and leaves Pacemaker as it is."""
    before = configuration(lab)
    state = lab.apply("node1", "kvmcluster.ha.guests")["kvmcluster-ha-guests"]
    assert state["result"] is False and not state["changes"], state
    lines = state["comment"].splitlines()
    for mistake in made:
        if "highstate" in mistake.words:
            continue  # Of highstates only the master asks.
        words = mistake.words.partition(",")[0]
        parts = (f"{mistake.check}: ", words, mistake.remedy)
        assert any(all(part in line for part in parts) for line in lines), (parts, lines)
    assert configuration(lab) == before


def the_check_finds(lab, made):
    """Whoever asks what is wrong is told of it, for all nodes and the guests that libvirt knows."""
    data = lab.run("kvmcluster.check")
    assert "error" not in data, data["error"]
    known = {"web1", *(guest for node in lab.nodes for guest in lab.listed(node, "--all"))}
    for mistake in made:
        if not known.issuperset(mistake.who.get("guests", ())):
            continue  # It judges the guests that a node's libvirt knows.
        found = [finding for finding in data["findings"] if mistake.is_in(finding)]
        assert found, (mistake.check, mistake.words, list(map(brief, data["findings"])))


def configuration(lab):
    return lab.exec("node1", "cibadmin", "--query", "--scope=configuration", check=False)


def brief(finding):
    return finding["id"], finding["guests"] or finding["nodes"], finding["sentence"]


@contextlib.contextmanager
def changed_pillar(lab, group):
    change, started = ha_mistakes.PILLARS.get(group), ha_mistakes.STARTED.get(group)
    if not (change or started):
        yield
        return
    try:
        with lab.pillar() as pillar:
            pillar.data["started"] = started or []
            if change:
                change(pillar.cluster)
            pillar.save()
            lab.refresh_pillar()
            yield
    finally:
        lab.refresh_pillar()


@pytest.mark.parametrize("group", GROUPS)
def test_each_mistake_is_refused_by_name_until_it_is_undone(lab, group):
    made = GROUPS[group]
    with contextlib.ExitStack() as afterwards:
        with changed_pillar(lab, group), contextlib.ExitStack() as remedies:
            for mistake in made:
                afterwards.callback(mistake.after, lab)
                remedies.callback(mistake.fix, lab)
                mistake.make(lab)
            findings = refused(lab, "installed=True")
            for mistake in made:
                found = [finding for finding in findings if mistake.is_in(finding)]
                assert len(found) == 1, (mistake.words, list(map(brief, findings)))
                assert mistake.remedy in found[0]["remedy"], (mistake, found[0])
            the_state_refuses(lab, made)
            the_check_finds(lab, made)
        assert refused(lab, "installed=True") == []
    assert refused(lab) == []


@pytest.mark.parametrize(
    "settings",
    [
        "pcmk_host_check -v dynamic-list",
        "pcmk_host_check -v status",
        "pcmk_host_check -v none",
    ],
)
def test_a_device_that_finds_its_nodes_by_itself_will_do(lab, settings):
    set_to = f"crm_resource -r fence -p {settings}"
    lab.exec("node1", "sh", "-ec", f"{set_to}; crm_resource --wait --timeout=60")
    try:
        assert refused(lab) == []
    finally:
        lab.exec("node1", "sh", "-ec", ha_mistakes.STATIC)


def test_a_node_that_does_not_respond_is_no_consent(lab):
    lab.ctl("kill", "node3", "minion")
    try:
        findings = refused(lab)
    finally:
        lab.ctl("start", "node3", "minion")
    assert {finding["outcome"] for finding in findings} == {"UNKNOWN"}
    assert ["node3"] in [finding["nodes"] for finding in findings]
    until(lambda: lab.ask(["node3"], "test.ping", patience=3), "an answer of node3")


def test_what_harms_guests_of_pacemaker_is_found_by_the_check(lab):
    ha_mistakes.write("harmed")(lab)
    try:
        ha_mistakes.HARM(lab)
        findings = lab.run("kvmcluster.check")["findings"]
        for check, (words, remedy) in ha_mistakes.ADVICE.items():
            found = [one for one in findings if one["id"] == check and words in one["sentence"]]
            assert found and remedy in found[0]["remedy"], (check, list(map(brief, findings)))
    finally:
        ha_mistakes.UNHARM(lab)
        ha_mistakes.remove("harmed")(lab)
    assert refused(lab) == []


@pytest.mark.parametrize("case", ha_mistakes.HOSTILE)
def test_a_pillar_that_is_half_wrong_begins_nothing(lab, case):
    wanted, words = ha_mistakes.HOSTILE[case]
    before = configuration(lab)
    try:
        with lab.pillar() as pillar:
            pillar.cluster["ha"] = wanted
            pillar.save()
            lab.refresh_pillar()
            for command in COMMANDS:
                done = lab.ctl(*command, check=False, timeout=300)
                told = done.stdout + done.stderr
                assert done.returncode and words in told and "Traceback" not in told, told
    finally:
        lab.refresh_pillar()
    assert configuration(lab) == before
    assert refused(lab) == []


def test_nodes_that_are_called_by_their_migration_names(lab):
    """Runs last of this lab: the old names stay in Pacemaker."""
    renaming = f"sed -i 's/name: node./&-mig/' {CONF}"
    for script in (STOP.format("pacemakerd"), STOP.format("corosync"), renaming):
        for node in lab.nodes:
            lab.exec(node, "sh", "-c", script)
    for service in ("corosync", "pacemaker"):
        for node in lab.nodes:
            lab.ctl("start", node, service)
    called = "crm_node -n"
    until(lambda: lab.exec("node1", *called.split(), check=False).strip() == "node1-mig", called)
    findings = refused(lab)
    said = {finding["sentence"]: finding["nodes"] for finding in findings}
    for node in lab.nodes:
        assert said[f"its name in Pacemaker is {node}-mig, not its minion id"] == [node]


@pytest.fixture(scope="module")
def pair():
    with lab_of(2, "s") as lab:
        yield lab


@pytest.mark.parametrize("settings", TWO)
def test_two_nodes_that_cannot_decide_which_of_them_goes_on(pair, settings):
    section, words, remedy = TWO[settings]
    ha_mistakes.quorum(section)(pair)
    try:
        findings = refused(pair)
    finally:
        ha_mistakes.quorum(RIGHT)(pair)
    (found,) = findings
    assert (found["id"], found["outcome"]) == ("ha.two_nodes", "PROBLEM")
    assert found["nodes"] == [*PAIR]
    assert words in found["sentence"] and remedy in found["remedy"]
    assert refused(pair) == []
