"""Which nodes count as off since Pacemaker fenced them, by what its tools printed on a cluster."""

import json
from datetime import datetime, timedelta, timezone

import pacemakers
import pytest

from saltext_kvmcluster.core.ownership import contacts
from saltext_kvmcluster.core.pacemaker import fencing
from saltext_kvmcluster.core.pacemaker.pacemaker_tools import (
    CONFIGURATION,
    FENCING,
    HISTORY,
    LEFT,
    STATES,
    STATUS,
)

FENCED = datetime(2026, 11, 29, 9, 32, 57, tzinfo=timezone.utc)
NOW = FENCED + timedelta(minutes=3)
NODE1, NODE2 = {"node1", "node1-mig"}, {"node2", "node2-mig"}


def outputs(case, **changes):
    """What was printed; of crm_mon's and stonith_admin's history the events are the same."""
    crm_mon = pacemakers.printed(case, "crm_mon")
    return {
        STATUS: (0, crm_mon, ""),
        HISTORY: (0, crm_mon, ""),
        STATES: (0, pacemakers.printed(case, "states"), ""),
        LEFT: (0, pacemakers.printed(case, "left"), ""),
        CONFIGURATION: (0, pacemakers.printed(case, "cib"), ""),
        **changes,
    }


def view(case="fenced", **changes):
    return fencing.parse(outputs(case, **changes))


def rule(names, *views, now=NOW, up=(), unread=()):
    found = {f"witness{at}": one for at, one in enumerate(views)}
    return fencing.rule(names, found, now, up, unread)


def edited(old, new, kind=STATUS, case="fenced"):
    code, text, error = outputs(case)[kind]
    assert old in text
    return view(case, **{kind: (code, text.replace(old, new), error)})


def test_a_node_that_was_fenced_and_stays_away_is_off():
    found = rule(NODE1, view())
    assert found.off
    assert "fenced by Pacemaker (reboot, 2026-11-29 09:32:57 UTC, by node3)" in found.sentence
    assert rule({"NODE1"}, view(), view()).off


@pytest.mark.parametrize(
    ("case", "names", "why"),
    [
        ("fenced", NODE2, "has it as a member"),
        ("fenced-back", NODE1, "has it as a member"),
        ("fencing-fails", NODE2, "last fencing of it: reboot, pending"),
        ("confirmed", NODE2, "last fencing of it: reboot, failed"),
        ("stopped-cleanly", NODE2, ""),
        ("pacemaker-stopped", NODE2, "has it as a member"),
        ("fenced", {"node9"}, ""),
        ("fenced", {"node1", "node2"}, ""),
    ],
)
def test_any_other_silent_node_is_not(case, names, why):
    found = rule(names, view(case))
    assert not found.off and why in found.sentence


def test_one_that_was_fenced_once_rejoined_and_left_in_an_orderly_way_is_not_off():
    text = outputs("stopped-cleanly")[HISTORY][1]
    failed = 'client="pacemaker-controld.63" origin="node3" status="failed"'
    succeeded = text.replace(failed, failed.replace("failed", "success"))
    found = rule(NODE2, view("stopped-cleanly", **{HISTORY: (0, succeeded, "")}))
    assert not found.off and "since it was fenced" in found.sentence


def test_the_word_of_a_person_is_no_proof():
    text = outputs("confirmed")[HISTORY][1]
    lines = [line for line in text.splitlines() if 'status="failed"' not in line]
    found = rule(NODE2, view("confirmed", **{HISTORY: (0, "\n".join(lines), "")}))
    assert not found.off and "a person's word (stonith_admin --confirm, off" in found.sentence


def test_who_has_no_quorum_proves_nothing():
    alone = edited('with_quorum="true"', 'with_quorum="false"')
    assert not rule(NODE1, alone).off
    assert rule(NODE1, alone, view()).off


def test_any_view_that_contradicts_counts():
    back = view("fenced-back")
    assert not rule(NODE1, view(), back).off
    minority = edited('with_quorum="true"', 'with_quorum="false"', case="fenced-back")
    assert not rule(NODE1, view(), minority).off
    event = 'status="success" delegate="node3" completed="2026-11-29 09:32:57Z"'
    for now in ('status="pending" extended-status="1"', event.replace("success", "failed")):
        later = edited(event, now.replace("09:32:57", "09:33:57"), HISTORY)
        assert not rule(NODE1, view(), later).off


def test_a_history_that_was_cleared_proves_nothing_and_contradicts_nothing():
    cleared = view(**{HISTORY: (0, "<pacemaker-result><list count='0'/></pacemaker-result>", "")})
    found = rule(NODE1, cleared)
    assert not found.off and "shows no fencing of it" in found.sentence
    assert rule(NODE1, cleared, view()).off


def test_a_state_that_one_node_has_not_erased_contradicts():
    late = edited('expected="down"', 'expected="member"', STATES)
    assert not rule(NODE1, late).off and not rule(NODE1, view(), late).off
    history = view(**{LEFT: (0, '<lrm id="1"/>', "")})
    assert not rule(NODE1, history).off and not rule(NODE1, view(), history).off
    assert not rule(NODE1, edited('unclean="false"', 'unclean="true"')).off
    assert not rule(NODE1, edited('pending="false"', 'pending="true"')).off


def test_newer_releases_print_times_and_states_otherwise():
    event = edited("09:32:57Z", "10:32:57.123456 +01:00", HISTORY)
    assert rule(NODE1, event).off
    code, text, _ = outputs("fenced")[STATES]
    text = text.replace('in_ccm="false" crmd="offline"', 'in_ccm="0" crmd="0"')
    assert rule(NODE1, view(**{STATES: (code, text, "")})).off
    for time in ("2026-11-29 09:32:57", "yesterday", "2026-13-29 09:32:57Z", ""):
        assert not rule(NODE1, edited("2026-11-29 09:32:57Z", time, HISTORY)).off


def test_power_that_was_switched_on_again_is_not_off():
    for action, off in (("off", True), ("on", False), ("list", False)):
        code, text, _ = outputs("fenced")[HISTORY]
        text = text.replace('action="reboot" target="node1"', f'action="{action}" target="node1"')
        assert rule(NODE1, view(**{HISTORY: (code, text, "")})).off is off


def test_what_happened_since_counts_and_so_do_clocks():
    assert rule(NODE1, view(), up=[FENCED - timedelta(seconds=1)]).off
    assert not rule(NODE1, view(), up=[FENCED + timedelta(seconds=1)]).off
    assert not rule(NODE1, view(), now=FENCED + timedelta(days=1, seconds=1)).off
    assert rule(NODE1, view(), now=FENCED - timedelta(seconds=59)).off
    assert not rule(NODE1, view(), now=FENCED - timedelta(seconds=61)).off


@pytest.mark.parametrize("kind", [STATUS, HISTORY, STATES, LEFT, CONFIGURATION])
@pytest.mark.parametrize("output", [(102, "", ""), (124, "", ""), (None, "", ""), (0, "x", "")])
def test_what_cannot_be_read_proves_nothing(kind, output):
    assert view(**{kind: output}) is None
    assert not rule(NODE1, None).off and rule(NODE1, None, view()).off


def test_where_no_node_has_a_history_of_resources_all_are_erased():
    found = view(**{LEFT: (105, "", "No such device or address")})
    assert rule(NODE1, found).off


def test_the_history_is_asked_for_whole():
    """Without --verbose stonith_admin prints one event, the oldest success: seen on 2.1.5."""
    whole = fencing.parse(
        outputs(
            "fencing-fails", **{HISTORY: (0, pacemakers.printed("fencing-fails", "history"), "")}
        )
    )
    assert [event.status for event in whole.events] == [
        "pending",
        "failed",
        "failed",
        "success",
        "success",
    ]
    assert "--verbose" in FENCING[HISTORY]


def test_one_that_is_back_is_not_off():
    assert not fencing.back("node1 answers ping").off


@pytest.mark.parametrize(
    "agent", ["fence_scsi", "fence_mpath", "fence_brocade", "fence_dummy", "external/ssh", "null"]
)
def test_a_fencing_that_leaves_a_node_its_power_is_no_proof(agent):
    """Cut off from its SAN, a node without network may still run guests on other storage."""
    found = rule(NODE1, edited('type="fence_kvmlab"', f'type="{agent}"', CONFIGURATION))
    assert not found.off and f"may still have power: fence ({agent})" in found.sentence
    other = edited('type="fence_kvmlab"', f'type="{agent}"', CONFIGURATION)
    assert not rule(NODE1, view(), other).off


def test_a_device_that_has_to_unfence_is_no_proof():
    meta = '<meta_attributes id="m"><nvpair id="p" name="provides" value="unfencing"/>'
    text = 'type="fence_kvmlab">'
    found = rule(NODE1, edited(text, f"{text}{meta}</meta_attributes>", CONFIGURATION))
    assert not found.off and "fence (fence_kvmlab)" in found.sentence


def test_the_order_in_which_a_history_is_printed_does_not_count():
    events = pacemakers.printed("fencing-fails", "history").splitlines()
    at = [number for number, line in enumerate(events) if "<fence_event" in line]
    turned = [*events[: at[0]], *reversed(events[at[0] : at[-1] + 1]), *events[at[-1] + 1 :]]
    case = {HISTORY: (0, "\n".join(turned), "")}
    assert "reboot, pending" in rule(NODE2, view("fencing-fails", **case)).sentence


def test_what_others_noted_of_a_node_has_to_be_known():
    found = rule(NODE1, view(), unread=["node3"])
    assert not found.off and "the journal of node3 cannot be read" in found.sentence


RECORD = {"guest": "web1", "uuid": "u", "source": "node1", "destination": "node2"}
RECORD |= {"result": "moved", "started": "2026-11-29T09:33:00+00:00"}


def test_a_migration_that_ended_and_a_start_tell_that_a_node_was_up():
    later = datetime(2026, 11, 29, 9, 33, tzinfo=timezone.utc)
    odd = ["", "{", "[]", json.dumps({**RECORD, "started": "then"}), "[" * 100_000]
    text = "\n".join([*odd, json.dumps(RECORD)])
    assert contacts.of_history(text) == [("node1", later), ("node2", later)]
    claims = f"\n{later.timestamp():.9f} node2\n\n1e9 node3\n5 \n999999999999 node4\nnode5"
    assert contacts.of_claims(claims) == [("node2", later)]
    assert contacts.at("node1", RECORD["started"]) == [("node1", later)]
    assert contacts.at("node1", "2026-11-29T09:33:00") == contacts.at("node1", "") == []
    moments = [moment for node, moment in contacts.of_claims(claims)]
    assert not rule(NODE1, view(), up=moments).off
