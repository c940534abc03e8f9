"""What Pacemaker 2.1.5 printed on a cluster of three nodes, and what is parsed of it.

tests/cases/pacemaker holds it by situation: NAME.cib.xml, NAME.crm_mon.xml, NAME.history.xml. Of
web1 the resource web1 is the manager unless the name says otherwise.
"""

import functools

from material import CASES

from saltext_kvmcluster.core.pacemaker import pacemaker_facts
from saltext_kvmcluster.core.pacemaker.pacemaker_tools import (
    CONFIGURATION,
    KEPT,
    NAME,
    PROCESS,
    STARTS,
    STATUS,
    config_key,
    fencers_key,
)

FOLDER = CASES / "pacemaker"
RUNS, RESTS = (0, "812\n", ""), (1, "", "")
UNREAD = (1, "", "head: cannot open: Permission denied")
WANTED = "/etc/systemd/system/multi-user.target.wants/pacemaker.service\n"
NO_CIB = (1, "", "head: cannot open '/var/lib/pacemaker/cib/cib.xml': No such file or directory")


def printed(case, kind):
    return (FOLDER / f"{case}.{kind}.xml").read_text()


def definition(name):
    return (0, f"<domain type='kvm'><name>{name}</name><memory>1</memory></domain>", "")


def fencers(*devices):
    """Return what a fencer prints of the devices that can fence a node."""
    items = "".join(f'<item name="device">{one}</item>' for one in devices)
    return (0, f"<pacemaker-result><list>{items}</list><status code='0'/></pacemaker-result>", "")


def outputs(case="running", node="node1", guests=None, **changes):
    """Return what was run on a node; ``guests``: the output for the path of each definition."""
    guests = {"/srv/guests/web1.xml": definition("web1")} if guests is None else guests
    return {
        PROCESS: RUNS,
        STARTS: (0, WANTED, ""),
        KEPT: (0, printed(case, "cib"), ""),
        NAME: (0, f"{node}\n", ""),
        STATUS: (0, printed(case, "crm_mon"), ""),
        CONFIGURATION: (0, printed(case, "cib"), ""),
        **{fencers_key(one): fencers("fence") for one in ("node1", "node2", "node3")},
        **{config_key(path): text for path, text in guests.items()},
        **changes,
    }


@functools.cache
def view(case="running", node="node1"):
    """Return Pacemaker as a node knows it in a situation."""
    return pacemaker_facts.parse(outputs(case, node))


def at_rest(case="running", **changes):
    """Return a Pacemaker that does not run and starts with its node."""
    rest = {PROCESS: RESTS, STATUS: (102, "", ""), CONFIGURATION: (102, "", "")}
    return pacemaker_facts.parse(outputs(case, **{**rest, **changes}))


def others():
    """Return a Pacemaker that manages another guest than web1."""
    return pacemaker_facts.parse(outputs(guests={"/srv/guests/web1.xml": definition("mail")}))


def edited(old, new, case="running"):
    """Return Pacemaker with something else in its configuration, or in what it shows."""
    found = outputs(case)
    assert any(old in text for _, text, _ in found.values())
    return pacemaker_facts.parse(
        {key: (code, text.replace(old, new), error) for key, (code, text, error) in found.items()}
    )


def of_our_agent(guests=None, **parameters):
    """Return Pacemaker whose resource has the agent of our own, with these parameters."""
    pairs = "".join(
        f'<nvpair id="web1-our-{name}" name="{name}" value="{value}"/>'
        for name, value in parameters.items()
    )
    text = printed("running", "cib").replace('provider="heartbeat"', 'provider="kvmcluster"')
    old = '<nvpair id="web1-suffix" name="migration_network_suffix" value="-mig"/>'
    assert old in text and 'provider="kvmcluster"' in text
    return pacemaker_facts.parse(
        outputs(guests=guests, **{CONFIGURATION: (0, text.replace(old, pairs), "")})
    )


def set_to(case, name, value):
    """Return Pacemaker with a further property of the cluster."""
    return edited(
        '<nvpair id="lab-name"',
        f'<nvpair id="n" name="{name}" value="{value}"/><nvpair id="m"',
        case,
    )


def good():
    """Return Pacemaker as it should be."""
    return set_to("running", "start-failure-is-fatal", "false")


def ours():
    """Return Pacemaker whose guest has the agent of our own."""
    return edited('provider="heartbeat"', 'provider="kvmcluster"')


def without_guests():
    found = outputs("moved", guests={})
    return pacemaker_facts.parse(
        {
            key: (code, text.replace('type="VirtualDomain"', 'type="Dummy"'), error)
            for key, (code, text, error) in found.items()
        }
    )
