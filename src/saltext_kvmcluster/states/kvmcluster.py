"""State module: keys, trust and client configuration of a node as the pillar wants them.

Every state reads the cluster from pillar ``kvmcluster``. Those of key, trust and readiness have no
argument besides their name.
Under ``test=True`` a state returns the ``changes`` that the real run makes.

What a highstate needs each time, the trust, is imported here; all else where it is used, since that
takes a fifth of a second.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import salt.loader
from salt.exceptions import SaltRenderError

from saltext_kvmcluster import doors
from saltext_kvmcluster.core.errors import InputError, KvmclusterError, WorldError
from saltext_kvmcluster.core.fileplan import Changes, FilePlan, Wanted, merged_changes, plan_file
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.pillar.ha import Ha
from saltext_kvmcluster.core.pillar.names import guest_name
from saltext_kvmcluster.core.text import listed
from saltext_kvmcluster.core.trust import (
    blocks,
    client_config,
    keyfile,
    pinned_hosts,
    sshd,
)
from saltext_kvmcluster.core.trust.identity import PublicKey
from saltext_kvmcluster.core.trust.rotation import SUFFIX
from saltext_kvmcluster.host import (
    accounts,
    files,
    keys,
    locks,
    login_file,
    proofs,
    ssh_client,
    sshd_settings,
)

if TYPE_CHECKING:
    from saltext_kvmcluster.core.drain.ledger import Ledger
    from saltext_kvmcluster.core.ha.difference import Difference

__virtualname__ = "kvmcluster"

# Set by Salt's loader.
__context__: dict[str, Any]
__lowstate__: list[dict[str, Any]]
__opts__: dict[str, Any]
__pillar__: dict[str, Any]
__salt__: dict[str, Callable[..., Any]]
__states__: dict[str, Callable[..., Any]]

_RUNNERS, _LEDGER = "kvmcluster.runners", "kvmcluster.ledger"
_INTERRUPTED = "kvmcluster.interrupted"


def __virtual__() -> str | tuple[bool, str]:
    return doors.virtual(__opts__)


def key_present(name: str) -> dict[str, Any]:
    """Make sure that the cluster key exists and is fit: a new one is made, none is ever replaced.

    A key with a passphrase, another owner, a mode that lets others in, another type than the
    pillar wants, or that is the login's everyday key makes the state fail, with the remedy.
    RSA keys are made with 4096 bits.

    .. code-block:: yaml

        kvmcluster-key:
          kvmcluster.key_present: []
    """
    return _state(name, _key_present)


def authorized_keys(name: str) -> dict[str, Any]:
    """Make sure that ``~login/.ssh/authorized_keys2`` lets every member in, and no former one.

    One owned block holds the keys; former keys go wherever in the file they stand, and so do
    keys commented ``login@name`` of a member that carry no options, since they were put there by
    hand before; all other lines stay byte for byte (with ``kvmcluster:ssh:exclusive`` they go,
    too). A member that never published has no entry: a warning says so. The keys of the block
    allow neither forwarding nor a terminal, and logins from ``kvmcluster:ssh:from`` alone; of a
    member that this would keep out, by its names' addresses or by where it logs in from now, the
    line lets in from where it did, too, and the state fails and says what to add. Where sshd does
    not read the file or refuses the login, the state fails with the remedy, or writes
    ``/etc/ssh/sshd_config.d/00-kvmcluster.conf`` if ``kvmcluster:ssh:manage_sshd`` is true.

    .. code-block:: yaml

        kvmcluster-authorized-keys:
          kvmcluster.authorized_keys: []
    """
    return _state(name, _authorized_keys)


def known_hosts(name: str) -> dict[str, Any]:
    """Make sure that every host key of every member is pinned under all the member's names.

    The file is our own, ``~/.ssh/kvmcluster_known_hosts``, for root (libvirt's daemon connects as
    root) and, if that is another account, for the login.

    .. code-block:: yaml

        kvmcluster-known-hosts:
          kvmcluster.known_hosts: []
    """
    return _state(name, _known_hosts)


def ssh_config(name: str) -> dict[str, Any]:
    """Make sure that ssh connects to every name of every member with our key and pinned host keys.

    The rules are in a file of our own, ``~/.ssh/kvmcluster_config``; ``~/.ssh/config`` gets one
    Include ahead of all else, and is otherwise left alone. For the same accounts as
    ``known_hosts``.

    .. code-block:: yaml

        kvmcluster-ssh-config:
          kvmcluster.ssh_config: []
    """
    return _state(name, _ssh_config)


def migration_ready(name: str) -> dict[str, Any]:
    """Succeed if every guest of this node can go to every peer; else say why not.

    It runs the same checks as ``kvmcluster.check`` and changes nothing, also without ``test=True``.
    Warnings do not make it fail.

    .. code-block:: yaml

        kvmcluster-ready:
          kvmcluster.migration_ready: []
    """
    from saltext_kvmcluster.core.output import tables
    from saltext_kvmcluster.host import examiner

    ret = {"name": name, "changes": {}, "result": False}
    try:
        cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
        identities = doors.mine_identities(cluster, __salt__["mine.get"], __context__)
        found = examiner.examine(cluster, __opts__["id"], identities=identities)
    except KvmclusterError as error:
        return {**ret, "comment": str(error)}
    return {**ret, "result": found.ok, "comment": tables.render(found.to_dict())}


def guest_placed(
    name: str,
    source: str | None = None,
    contents: str | None = None,
    template: str = "jinja",
    context: dict[str, Any] | None = None,
    defaults: dict[str, Any] | None = None,
    saltenv: str | None = None,
) -> dict[str, Any]:
    """Make sure that the definition of a guest is where the pillar says.

    With ``guests: {definitions: shared}`` it is a file on shared storage: the guest's
    ``xmlfile``, or where it is found along ``path``, or NAME.xml in the first folder of that.
    Any node may put it there, and several at once. With ``defined`` it is defined in this node's
    libvirt, without autostart; no daemon is restarted.

    The text has to follow libvirt's schema, and to name the guest and its UUID, which never
    changes. Of a guest that runs, the new definition takes effect at its next start, and the
    comment says so. ``changes`` are differences of meaning, not of text.

    name
        The guest's name.

    source
        Where the definition comes from, such as ``salt://guests/web1.xml``.

    contents
        The definition itself, in place of ``source``.

    template
        The engine that renders it; an empty one for none. Default: jinja.

    context, defaults
        Variables for the template; ``context`` wins.

    saltenv
        The environment to take ``source`` from. Default: that of the run.

    .. code-block:: yaml

        web1:
          kvmcluster.guest_placed:
            - source: salt://guests/web1.xml
    """

    def placed(cluster: Cluster) -> dict[str, Any]:
        text = _rendered(source, contents, template, context, defaults, saltenv)
        return _guest_placed(cluster, name, text)

    return _state(name, placed)


def disk_leases(name: str) -> dict[str, Any]:
    """Make sure that each guest of the list has a lease, so that it cannot run on two nodes.

    With ``guests: {leases: true}`` in the pillar. ``lock_manager`` in ``/etc/libvirt/qemu.conf``
    and two settings of ``qemu-lockd.conf`` are set, other lines stay as they are; libvirt's daemon
    is restarted if it has not read them, which leaves guests running, but never during a
    migration; each guest's definition, on shared storage or in this node's libvirt, gets a
    ``<lease>``, and ``guests:lease_folder`` its file. A guest that runs takes it at its next start,
    and until then the check ``guest.guard`` says so.

    The folder has to be on a file system that every node mounts and whose locks reach all nodes;
    otherwise the state fails and changes nothing. Apply it to every node: a node without lockd
    takes no lease.

    .. code-block:: yaml

        kvmcluster-disk-leases:
          kvmcluster.disk_leases: []
    """
    return _state(name, _disk_leases)


def ha_pillar(name: str) -> dict[str, Any]:
    """Make sure that high availability can be set up as the pillar describes it; change nothing.

    Every node needs a fence device that switches it off. A pillar that is not valid is refused as
    well, before any package is installed.

    .. code-block:: yaml

        kvmcluster-ha-pillar:
          kvmcluster.ha_pillar: []
    """
    return _shaped(name, lambda cluster: _ha_node(cluster, _ha_pillar))


def ha_fence_agents(name: str) -> dict[str, Any]:
    """Make sure that this node has the agents of the pillar's fence devices; change nothing.

    Packages bring them: fence-agents, or fence-agents-all. Every node may have to fence another.

    .. code-block:: yaml

        kvmcluster-ha-fence-agents:
          kvmcluster.ha_fence_agents: []
    """
    return _shaped(name, lambda cluster: _ha_node(cluster, _ha_fence_agents))


def ha_authkey(name: str) -> dict[str, Any]:
    """Make sure that this node has the cluster's key of Corosync, ``/etc/corosync/authkey``.

    It is made on the first node of the pillar, if no node has one, and fetched from a peer over the
    cluster's ssh by all others. It is never replaced, shown, or published. A peer that does not
    answer may have one: then none is made. ``kvmcluster.orch.ha`` applies it in that order.

    .. code-block:: yaml

        kvmcluster-ha-authkey:
          kvmcluster.ha_authkey: []
    """
    return _state(name, lambda cluster: _ha_node(cluster, _ha_authkey))


def ha_corosync(name: str) -> dict[str, Any]:
    """Make sure that ``/etc/corosync/corosync.conf`` is as the pillar wants it.

    Its rings are the minion ids and, if every node has one, the migration names; two nodes get
    ``two_node``, and all clusters without a quorum device ``wait_for_all``. A node's number is made
    of its minion id. A file that is not ours is replaced only while Corosync does not run with it.
    Where it runs, it reads the changed file again; guests are not touched.

    .. code-block:: yaml

        kvmcluster-ha-corosync:
          kvmcluster.ha_corosync: []
    """
    return _state(name, lambda cluster: _ha_node(cluster, _ha_corosync))


def ha_secrets(name: str) -> dict[str, Any]:
    """Make sure that this node has the secrets of the pillar's fence devices.

    Each is a file below ``/var/lib/pacemaker/lrm/secrets`` that Pacemaker's fencer reads, as
    ``cibsecret(8)`` keeps them, so that the secret is not in Pacemaker's configuration. It is shown
    nowhere. Those of ours that are no longer in the pillar are removed, unless Pacemaker still
    reads them: so ``kvmcluster.orch.ha`` applies this state again once Pacemaker has been changed.

    .. code-block:: yaml

        kvmcluster-ha-secrets:
          kvmcluster.ha_secrets: []
    """
    return _state(name, lambda cluster: _ha_node(cluster, _ha_secrets))


def ha_properties(name: str, timeout: float = 180) -> dict[str, Any]:
    """Make sure that Pacemaker has the properties without which guests would not come back.

    These are ``stonith-enabled``, ``start-failure-is-fatal`` and ``cluster-recheck-interval``. One
    that has another value was set by somebody: then the state fails, and nothing is changed. It
    is the cluster's: one node of it is enough.

    timeout
        Seconds to wait for Pacemaker to have a leader and quorum. Default: 180.

    .. code-block:: yaml

        kvmcluster-ha-properties:
          kvmcluster.ha_properties: []
    """
    return _shaped(name, lambda cluster: _ha_node(cluster, _ha_properties, timeout=timeout))


def ha_fencing(name: str, timeout: float = 120) -> dict[str, Any]:
    """Make sure that Pacemaker has the pillar's fence devices and levels, and that they respond.

    A device responds if its monitor has succeeded. What of Pacemaker's configuration does not bear
    our prefix, ``kvmcluster-``, stays as it is. One node of the cluster is enough. It is refused,
    with nothing changed, where a node would have no device, or only one that says that it fences,
    and where this node lacks an agent.

    timeout
        Seconds for the devices to respond. Default: 120.

    .. code-block:: yaml

        kvmcluster-ha-fencing:
          kvmcluster.ha_fencing: []
    """
    return _shaped(name, lambda cluster: _ha_node(cluster, _ha_fencing, timeout=timeout))


def ha_guests(name: str, timeout: float = 300) -> dict[str, Any]:
    """Make sure that Pacemaker has the guests with ``ha`` of the pillar, and their constraints.

    A guest that runs stays where it is; one that runs nowhere is started by Pacemaker. What
    somebody has set beside what is ours in a guest's resource stays: that it is to be stopped, or
    that it is held by a command of ours. A guest that has no ``ha`` any more is let go: it runs on,
    and Pacemaker forgets it. One node of the cluster is enough.

    Whatever ``kvmcluster.ha_preflight`` refuses is refused here as well, but for one thing: that a
    highstate starts a guest, of which only the master asks.

    A new guest is refused, with nothing changed, unless Pacemaker has every node of the cluster
    online and our agent is on each of them: what runs where it does not look would be started a
    second time. So is one that another resource of Pacemaker's manages.

    timeout
        Seconds for guests to run. Default: 300.

    .. code-block:: yaml

        kvmcluster-ha-guests:
          kvmcluster.ha_guests: []
    """
    return _shaped(name, lambda cluster: _ha_guests(cluster, timeout))


def guest_running(name: str, node: str | None = None, timeout: float = 300) -> dict[str, Any]:
    """Make sure that a guest runs somewhere in the cluster; its home starts it if it does not.

    For a highstate of all nodes: on every other node than the home the state succeeds and does
    nothing. At home it starts the guest only when every node has answered that it does not have
    it; it fails, and names the node, where one does not answer.

    name
        The guest's name.

    node
        The minion id of the node that is to start it. Default: its ``home`` in the pillar.

    timeout
        Seconds for a start. Default: 300.

    .. code-block:: yaml

        web1:
          kvmcluster.guest_running: []
    """
    return _shaped(name, lambda cluster: _guest_running(cluster, name, node, timeout))


def _state(name: str, function: Callable[[Cluster], dict[str, Any]]) -> dict[str, Any]:
    """Run a state's function under the lock, with the cluster, and shape what it returns."""

    def locked(cluster: Cluster) -> dict[str, Any]:
        with locks.lock():
            return function(cluster)

    return _shaped(name, locked)


def _shaped(name: str, function: Callable[[Cluster], dict[str, Any]]) -> dict[str, Any]:
    """Run a state's function with the cluster, and shape what it returns."""
    ret = {"name": name, "changes": {}, "result": False, "comment": ""}
    try:
        cluster = doors.member_cluster(__pillar__, __opts__["id"], __context__)
        ret.update(function(cluster))
    except KvmclusterError as error:
        ret["comment"] = str(error)
    return ret


def _disk_leases(cluster: Cluster) -> dict[str, Any]:
    from saltext_kvmcluster.host import lease_setup

    if not cluster.guests.leases:
        detail = "guests: leases is not true in the pillar; nothing is changed"
        return {"result": True, "comment": detail}
    planned = lease_setup.plan(cluster, __opts__["id"])
    changes, problems = planned.changes, [planned.blocked] if planned.blocked else []
    if not __opts__["test"]:
        changes, problems = lease_setup.carry_out(planned)
    pending = bool(changes) and __opts__["test"]
    done = [f"leases {'would be' if pending else 'are'} in {planned.folder}"]
    if planned.restart in changes:
        verb = "would be" if pending else "was"
        done.append(f"{planned.restart} {verb} restarted; guests keep running")
    return {
        "result": False if problems else None if pending else True,
        "changes": changes,
        "comment": "\n".join([*(problems or done), *planned.remarks]),
        **({"warnings": list(planned.warnings)} if planned.warnings else {}),
    }


def _ha_node(
    cluster: Cluster, function: Callable[..., dict[str, Any]], **given: Any
) -> dict[str, Any]:
    """Do what is done only where Corosync, Pacemaker and fencing are ours."""
    if not cluster.ha:
        return {"result": True, "comment": "no kvmcluster:ha in the pillar; nothing is changed"}
    if not cluster.ha.manage:
        detail = "ha: manage is false in the pillar: that is yours; nothing is changed"
        return {"result": True, "comment": detail}
    return function(cluster, cluster.ha, **given)


def _ha_pillar(cluster: Cluster, ha: Ha) -> dict[str, Any]:
    from saltext_kvmcluster.core.ha import refusals

    if found := refusals.by_pillar(cluster, ha):
        raise InputError("\n".join(found))
    return {"result": True, "comment": "the pillar has fencing for every node"}


def _ha_fence_agents(cluster: Cluster, ha: Ha) -> dict[str, Any]:
    from saltext_kvmcluster.host import ha_node

    missing = ha_node.missing_agents(ha)
    if missing and __opts__["test"]:
        detail = f"{listed(missing)} would have to come with the packages"
        return {"result": None, "comment": detail}
    _refuse_without_agents(missing)
    return {"result": True, "comment": "every fence agent of the pillar is installed"}


def _refuse_without_agents(missing: Sequence[str]) -> None:
    from saltext_kvmcluster.core.ha import refusals

    if missing:
        raise WorldError(
            f"this node has no fence agent {listed(missing)}: stonith_admin --list-installed shows"
            " those that it has; install the agent's package, or mend its name in"
            f" {refusals.DEVICES}"
        )


def _ha_authkey(cluster: Cluster, ha: Ha) -> dict[str, Any]:
    from saltext_kvmcluster.host import ha_node

    return _carry_out([ha_node.key_plan(cluster, __opts__["id"], __opts__["test"])])


def _ha_corosync(cluster: Cluster, ha: Ha) -> dict[str, Any]:
    from saltext_kvmcluster.host import ha_node

    plan = ha_node.conf_plan(cluster, ha)
    done = _carry_out([plan])
    if plan.changes and done["result"]:
        ha_node.reload()
    return done


def _ha_secrets(cluster: Cluster, ha: Ha) -> dict[str, Any]:
    from saltext_kvmcluster.host import ha_node

    ha_node.refuse_without_secrets(ha)
    test, plans = __opts__["test"], ha_node.secret_plans(ha, __pillar__)
    if plans and not test:
        ha_node.secret_folders(ha)
    none: dict[str, Any] = {"result": True, "changes": {}, "comment": "no fence device has secrets"}
    done = _carry_out(plans) if plans else none
    if done["result"] is False:
        return done
    removed, staying = ha_node.remove_secrets(ha, test)
    verb = "would be removed" if test else "was removed"
    remarks = [
        done["comment"],
        *(f"{path} {verb}: it is of no fence device of the pillar" for path in removed),
        *(f"{path} stays until Pacemaker no longer reads it" for path in staying),
    ]
    return {
        "result": None if removed and test else done["result"],
        "changes": done["changes"] | {path: {"removed": ["a secret"]} for path in removed},
        "comment": "\n".join(remarks),
    }


def _ha_properties(cluster: Cluster, ha: Ha, timeout: float) -> dict[str, Any]:
    from saltext_kvmcluster.core.ha import content, difference
    from saltext_kvmcluster.host import ha_cib

    if not __opts__["test"]:
        ha_cib.await_decisions(timeout)

    def work_out(present: str) -> Difference:
        found = difference.of_properties(present, content.PROPERTIES)
        if found.differing:
            raise WorldError("; ".join(found.differing))
        return found

    return _ha_changed("properties", work_out)


def _ha_fencing(cluster: Cluster, ha: Ha, timeout: float) -> dict[str, Any]:
    from saltext_kvmcluster.core.ha import content, difference
    from saltext_kvmcluster.host import ha_node

    _ha_pillar(cluster, ha)
    if not __opts__["test"]:
        _refuse_without_agents(ha_node.missing_agents(ha))
    pieces = content.fencing(cluster)

    def work_out(present: str) -> Difference:
        return difference.of_pieces(present, content.FENCING, pieces)

    devices = map(content.device, ha.fencing.devices)
    return _ha_changed(content.FENCING, work_out, devices, timeout)


def _ha_guests(cluster: Cluster, timeout: float) -> dict[str, Any]:
    from saltext_kvmcluster.core.ha import content, difference, newcomers
    from saltext_kvmcluster.core.readiness import ha_refusals
    from saltext_kvmcluster.host import examiner, ha_cib, ha_newcomers

    if not cluster.ha:
        return {"result": True, "comment": "no kvmcluster:ha in the pillar; nothing is changed"}
    here = __opts__["id"]
    world = examiner.observe(cluster, here, cluster.peers(here))
    if found := ha_refusals.refused(world, installed=not __opts__["test"]):
        raise WorldError("\n".join(map(ha_refusals.sentence, found)))
    pieces = content.guests(cluster, ha_cib.definitions(cluster))
    guests = [guest.name for guest in cluster.guests.list.values() if guest.ha]

    def work_out(present: str) -> Difference:
        found = difference.of_pieces(present, content.GUESTS, pieces)
        if (new := newcomers.of(found, guests)) and not __opts__["test"]:
            ha_newcomers.refuse(cluster, __opts__["id"], new)
        return found

    return _ha_changed(content.GUESTS, work_out, map(content.resource, guests), timeout)


def _ha_changed(
    part: str, work_out: Callable[[str], Difference], names: Iterable[str] = (), timeout: float = 0
) -> dict[str, Any]:
    """Change Pacemaker's configuration, or only say how, and see that resources run then."""
    from saltext_kvmcluster.core.ha import content
    from saltext_kvmcluster.host import ha_cib

    if __opts__["test"]:
        changes = dict(work_out(ha_cib.present(True)).changes)
        detail = "Pacemaker's configuration would be changed" if changes else "it is as wanted"
        return {"result": None if changes else True, "changes": changes, "comment": detail}
    with locks.lock("kvmcluster-cib"):
        changes = dict(ha_cib.change(work_out).changes)
        if part == content.GUESTS:
            ha_cib.let_go(timeout)
    problems = ha_cib.unsettled(names, timeout)
    detail = "Pacemaker's configuration was changed" if changes else "it is as wanted"
    return {"result": not problems, "changes": changes, "comment": "\n".join([*problems, detail])}


def _guest_placed(cluster: Cluster, name: str, text: str) -> dict[str, Any]:
    from saltext_kvmcluster.host import definitions, lease_setup

    guest = guest_name(name, "name")
    text = lease_setup.with_lease(cluster, guest, text, make=not __opts__["test"])
    if cluster.guests.definitions == "shared":
        placing = definitions.plan_shared(cluster, __opts__["id"], guest, text)
        done = _carry_out([placing.plan], (), placing.warnings)
        return {**done, "comment": "\n".join([done["comment"], *placing.remarks])}
    defining = definitions.plan_defined(cluster, __opts__["id"], guest, text)
    pending, changes, problems = bool(defining.changes), defining.changes, []
    if pending and not __opts__["test"]:
        changes, failed = definitions.define(defining)
        problems = [failed] if failed else []
    verb = "would be defined" if __opts__["test"] else "was defined"
    detail = f"{name} {verb if pending else 'is defined as wanted'} on {__opts__['id']}"
    return {
        "result": False if problems else None if pending and __opts__["test"] else True,
        "changes": changes,
        "comment": "\n".join([*problems, detail, *defining.remarks]),
        **({"warnings": list(defining.warnings)} if defining.warnings else {}),
    }


def _rendered(
    source: str | None,
    contents: str | None,
    template: str,
    context: dict[str, Any] | None,
    defaults: dict[str, Any] | None,
    saltenv: str | None,
) -> str:
    """Return a definition as text, from the file server or the pillar, rendered."""
    if (source is None) == (contents is None):
        raise InputError("give either source or contents")
    env = saltenv or __opts__.get("saltenv") or "base"
    if source is not None:
        cached = __salt__["cp.cache_file"](source, env)
        contents = files.read(cached).text if cached else None
        if contents is None:
            raise InputError(f"source: {source} is not found in saltenv {env}")
    if not isinstance(contents, str):
        raise InputError(f"contents: want text, got {type(contents).__name__}")
    if template:
        render = __salt__["file.apply_template_on_contents"]
        try:
            contents = render(contents, template, context, defaults, env)
        except SaltRenderError as error:
            raise InputError(f"the definition does not render: {error}") from None
        if isinstance(contents, dict):
            raise InputError(f"template: {contents['comment']}")
    return contents if contents.endswith("\n") else f"{contents}\n"


def _guest_running(cluster: Cluster, name: str, node: str | None, timeout: float) -> dict[str, Any]:
    from saltext_kvmcluster.core.output import tables
    from saltext_kvmcluster.core.ownership import locations, startup
    from saltext_kvmcluster.core.ownership.startup import May
    from saltext_kvmcluster.engine import lifecycle
    from saltext_kvmcluster.host import this_node

    here = __opts__["id"]
    home = locations.home(cluster, guest_name(name, "name"), node)
    limit = doors.seconds(timeout, "timeout")
    if home != here:
        return {"result": True, "comment": f"the home of {name} is {home}, which starts it"}
    changes = {name: {"old": "runs nowhere", "new": f"runs on {here}"}}
    if __opts__["test"]:
        with this_node.environment(cluster, here) as env:
            found = lifecycle.runs(env, name)
        placed = found.may is May.UNDEFINED and _is_to_be_placed(name)
        starts = placed or found.may is May.START
        result = {May.RUNS: True, May.REFUSED: False, May.UNDEFINED: False}.get(found.may)
        return {
            "result": None if starts else result,
            "changes": changes if starts else {},
            "comment": f"{name} would be started on {here}" if starts else found.sentence,
        }
    with this_node.environment(cluster, here) as env:
        done = lifecycle.start(env, name, timeout=limit, by_hand=False).to_dict()
    started = done["result"] == startup.STARTED
    return {
        "result": started or done["result"] == startup.RUNNING,
        "changes": changes if started else {},
        "comment": tables.render(done),
    }


def _is_to_be_placed(guest: str) -> bool:
    """Whether this run has a state that puts the guest's definition where it is to be."""
    return any(
        (low["state"], low["fun"], low["name"]) == ("kvmcluster", "guest_placed", guest)
        for low in __lowstate__
    )


def _key_present(cluster: Cluster) -> dict[str, Any]:
    login = cluster.ssh.login
    account = accounts.account(login)
    path = keyfile.key_path(cluster, account.home)
    found = keys.key_file(path, account)
    if found.exists:
        return _carry_out([_public_half(cluster, found, keyfile.parsed(found, cluster))])
    problem = keyfile.creation_problem(found)
    if problem:
        raise InputError(problem)
    changes = {os.path.basename(path): {"added": [f"{cluster.ssh.key_type} key for {login}"]}}
    if __opts__["test"]:
        return {"result": None, "changes": changes, "comment": f"{path} would be made"}
    files.sweep(path)
    keys.make_key(path, cluster.ssh.key_type, blocks.tag(cluster, __opts__["id"]), login)
    key = keyfile.parsed(keys.key_file(path, account), cluster)
    return {"result": True, "changes": changes, "comment": f"{path} was made: {key.fingerprint}"}


def _public_half(cluster: Cluster, found: keyfile.KeyFile, key: PublicKey) -> FilePlan:
    """Plan the .pub file beside a fit key; one that is there was found to match."""
    path = f"{found.path}.pub"
    text = found.public_file or f"{key} {blocks.tag(cluster, __opts__['id'])}\n"
    wanted = Wanted(text, Changes(added=(key.fingerprint,)))
    state = files.read(path, cluster.ssh.login)
    mode = 0o644 if state.mode is None else state.mode
    return plan_file(path, state, wanted, mode, state.owner or cluster.ssh.login)


def _authorized_keys(cluster: Cluster) -> dict[str, Any]:
    account = accounts.account(cluster.ssh.login)
    identities = doors.mine_identities(cluster, __salt__["mine.get"], __context__)
    found = login_file.plan(cluster, __opts__["id"], account, identities, not __opts__["test"])
    drop_ins, problems = sshd_settings.plan_drop_in(cluster, account, __opts__["id"])
    done = _carry_out(
        [found.plan, *drop_ins],
        [*problems, *found.kept_out, *blocks.refusals(found.refused)],
        [*blocks.absences(cluster, identities, found.plan.text), *found.unasked],
    )
    if not __opts__["test"]:
        try:
            sshd_settings.reload_sshd_if_due()
        except WorldError as error:
            done = {**done, "result": False, "comment": f"{error}\n{done['comment']}"}
    return done


def _known_hosts(cluster: Cluster) -> dict[str, Any]:
    identities = doors.mine_identities(cluster, __salt__["mine.get"], __context__)
    plans = []
    for account in _client_accounts(cluster):
        path = os.path.join(account.home, ".ssh", pinned_hosts.KNOWN_HOSTS)
        found = files.read(path, account.login)
        text = found.text or ""
        wanted = pinned_hosts.wanted(cluster, identities, text)
        if wanted.text != text:
            asked = pinned_hosts.unproven(identities, text)
            identities = proofs.judged(cluster, identities, asked, not __opts__["test"])
            wanted = pinned_hosts.wanted(cluster, identities, text)
        plans.append(plan_file(path, found, wanted, 0o600, account.login))
    absences = blocks.absences(cluster, identities, plans[0].text)
    return _carry_out(plans, blocks.refusals(identities.refused), absences)


def _ssh_config(cluster: Cluster) -> dict[str, Any]:
    key = keyfile.key_path(cluster, accounts.account(cluster.ssh.login).home)
    newer = ssh_client.known(client_config.NEWER)
    both = os.path.lexists(key + SUFFIX)
    plans = []
    for account in _client_accounts(cluster):
        folder = os.path.join(account.home, ".ssh")
        hosts, rules, own = (
            os.path.join(folder, name)
            for name in (pinned_hosts.KNOWN_HOSTS, client_config.CONFIG, client_config.USER_CONFIG)
        )
        found = files.read(rules, account.login)
        wanted = client_config.wanted(cluster, key, hosts, found.text or "", newer, both)
        plans.append(plan_file(rules, found, wanted, 0o600, account.login))
        found = files.read(own, account.login)
        wanted = client_config.with_include(found.text or "", rules)
        mode = 0o600 if found.mode is None else found.mode & ~0o022
        plans.append(plan_file(own, found, wanted, mode, account.login))
    return _carry_out(plans)


def _client_accounts(cluster: Cluster) -> list[sshd.Account]:
    """Return the accounts that connect to peers: root, as libvirt's daemon does, and the login."""
    return [accounts.account(login) for login in dict.fromkeys(["root", cluster.ssh.login])]


def _carry_out(
    plans: list[FilePlan], problems: Iterable[str] = (), warnings: Iterable[str] = ()
) -> dict[str, Any]:
    """Carry out plans, or only say what they would do under test, and shape the result."""
    pending = [plan for plan in plans if plan.changes]
    failed = {} if __opts__["test"] else _apply(pending)
    plans = [plan for plan in plans if plan.path not in failed]
    problems = [*problems, *failed.values()]
    verb = "would be changed" if __opts__["test"] else "changed"
    done = [f"{plan.path} {verb if plan.changes else 'is as wanted'}" for plan in plans]
    result = False if problems else None if pending and __opts__["test"] else True
    comment = "\n".join([*problems, *done])
    shaped = {"result": result, "changes": merged_changes(plans), "comment": comment}
    if not __opts__["test"]:
        for plan in plans:
            files.sweep(plan.path)
    return {**shaped, "warnings": list(warnings)} if warnings else shaped


def _apply(plans: Iterable[FilePlan]) -> dict[str, str]:
    """Carry out what can be; return why the other files, by path, are as they were."""
    failed = {}
    for plan in plans:
        try:
            files.apply(plan)
            _verify(plan)
        except WorldError as error:
            failed[plan.path] = str(error)
    return failed


def _verify(plan: FilePlan) -> None:
    found = files.read(plan.path)
    if (found.text, found.mode, found.owner) != (plan.text, plan.mode, plan.owner):
        raise WorldError(f"{plan.path} is not what was just written; does another tool manage it?")


def applied(
    name: str,
    sls: str | list[str],
    nodes: list[str] | None = None,
    cluster: str | None = None,
    brief: bool = False,
) -> dict[str, Any]:
    """Apply an SLS on nodes where nothing else of Salt's runs or waits. For orchestrations.

    As ``salt-run kvmcluster.apply`` does it.

    sls
        The SLS to apply, or a list of several.

    nodes
        The minion ids of the nodes. Default: all of the cluster.

    cluster
        The cluster's name; needed only where the master has several.

    brief
        Whether to tell of each node only what states that changed something say, with what was
        replaced or removed in files, unless one failed. Default: false.

    .. code-block:: yaml

        trust:
          kvmcluster.applied:
            - sls: kvmcluster.trust
    """
    from saltext_kvmcluster.core.applying import outcome

    test = __opts__["test"]
    node = nodes[0] if nodes and len(nodes) == 1 and nodes[0] in _ledger().nodes else None
    if node and not _ledger().of(node).todo["update"]:
        return _skipped(name, f"{node}: nothing to update")
    data = _run("kvmcluster.apply", sls=sls, nodes=nodes, test=test, cluster=cluster)
    if "nodes" not in data:
        done = {"name": name, "changes": {}, "result": False, "comment": data["error"]}
    else:
        done = outcome.state_return(name, outcome.outcomes(data), test, brief)
    return _noted(done, node) if node else _unless_interrupted(done)


def refused(name: str, reason: str) -> dict[str, Any]:
    """Fail with a reason, before anything is begun. For orchestrations, in place of their states.

    reason
        What is wrong with what was asked for, and what to do.

    .. code-block:: yaml

        request:
          kvmcluster.refused:
            - reason: 'node: want one node, got nothing'
    """
    detail = f"PROBLEM: {reason}; nothing was done"
    return {"name": name, "changes": {}, "result": False, "comment": detail}


def sls_ready(
    name: str,
    sls: str | list[str],
    nodes: list[str] | None = None,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Succeed if SLS files can be applied to nodes: they exist, and compile. For orchestrations.

    It does not fail for a node that does not respond: the step that applies them does. It changes
    nothing, and runs under ``test=True`` as well.

    sls
        The SLS, or a list of several.

    nodes
        The nodes' minion ids. Default: all.

    cluster
        The cluster's name; needed only where the master has several.

    .. code-block:: yaml

        updates:
          kvmcluster.sls_ready:
            - sls: updates
    """
    data = _run("kvmcluster.sls_check", sls=sls, nodes=nodes, cluster=cluster)
    done = _step(name, data, {}, False)
    return {**done, "result": "error" not in data and not data["problems"]}


def identities_published(
    name: str, cluster: str | None = None, nodes: list[str] | None = None
) -> dict[str, Any]:
    """Make sure that the mine holds every node's identity. For orchestrations.

    cluster
        The cluster's name; needed only where the master has several.

    nodes
        The minion ids of the nodes. Default: all of the cluster.

    .. code-block:: yaml

        identities:
          kvmcluster.identities_published: []
    """
    test = __opts__["test"]
    return _orchestrated(name, _run("kvmcluster.publish", cluster=cluster, nodes=nodes, test=test))


def ssh_ready(name: str, cluster: str | None = None, wait: float = 660) -> dict[str, Any]:
    """Succeed if every node reaches every node by every name. For orchestrations.

    It changes nothing, and runs under ``test=True`` as well, without waiting.

    cluster
        The cluster's name; needed only where the master has several.

    wait
        Seconds to wait while nothing is wrong but that sshd refuses logins for a time, as it does
        after failed ones, by default for 600 s at most (PerSourcePenalties of OpenSSH 9.8 and
        newer). Default: 660.

    .. code-block:: yaml

        ssh:
          kvmcluster.ssh_ready: []
    """
    patience = None if __opts__["test"] else wait
    return _orchestrated(name, _run("kvmcluster.ssh_matrix", cluster=cluster, wait=patience))


def migration_settled(name: str, cluster: str | None = None) -> dict[str, Any]:
    """Settle a guest's last migration, as far as all observations allow. For orchestrations.

    name
        The guest's name.

    cluster
        The cluster's name; needed only where the master has several.

    .. code-block:: yaml

        web1:
          kvmcluster.migration_settled: []
    """
    if __opts__["test"]:
        detail = f"the last migration of {name} would be settled"
        return {"name": name, "changes": {}, "result": None, "comment": detail}
    data = _run("kvmcluster.recover", guest=name, cluster=cluster)
    done = [f"{one['step']}: {one['node']}" for one in data.get("actions", []) if one["ok"]]
    return {**_orchestrated(name, data), "changes": {name: {"done": done}} if done else {}}


def preflight(
    name: str,
    nodes: list[str],
    sls: str | list[str] | None = None,
    stuck: str = "refuse",
    reboot: str = "needed",
    drain: str = "always",
    reason: str | None = None,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Succeed if maintenance of nodes can start. For orchestrations.

    It changes nothing, and runs under ``test=True`` as well.

    nodes
        The minion ids of the nodes to be maintained: they must not be cordoned by others, and their
        peers have to be ready.

    sls, stuck, reboot, drain, reason
        As ``salt-run kvmcluster.preflight`` has them.

    cluster
        The cluster's name; needed only where the master has several.

    .. code-block:: yaml

        preflight:
          kvmcluster.preflight:
            - nodes: [node1, node2, node3]
    """
    _ledger().expect(nodes)
    given = {"sls": sls, "stuck": stuck, "reboot": reboot, "drain": drain, "reason": reason}
    data = _run("kvmcluster.preflight", nodes=nodes, cluster=cluster, **given)
    _ledger().name(data.get("stuck", {}))
    return _noted(_step(name, data, {}, False))


def ha_preflight(name: str, installed: bool = False, cluster: str | None = None) -> dict[str, Any]:
    """Succeed if the guests with ``ha`` may be given to Pacemaker. For orchestrations.

    It refreshes the nodes' pillars and changes nothing else, so it runs under ``test=True`` as
    well, then as if nothing were installed yet.

    installed, cluster
        As ``salt-run kvmcluster.ha_preflight`` has them.

    .. code-block:: yaml

        ha-preflight:
          kvmcluster.ha_preflight: []
    """
    installed = installed and not __opts__["test"]
    data = _run("kvmcluster.ha_preflight", installed=installed, cluster=cluster)
    return _step(name, data, {}, False)


def assessed(
    name: str,
    node: str,
    sls: str | list[str] | None = None,
    reboot: str = "needed",
    drain: str = "always",
    cluster: str | None = None,
) -> dict[str, Any]:
    """Find out what there is to do on a node; the next steps do no more. For orchestrations.

    It changes nothing, and runs under ``test=True`` as well.

    node
        The node's minion id.

    sls, reboot, drain
        As ``salt-run kvmcluster.assess`` has them.

    cluster
        The cluster's name; needed only where the master has several.

    .. code-block:: yaml

        node1 assessed:
          kvmcluster.assessed:
            - node: node1
            - sls: updates
    """
    from saltext_kvmcluster.core.drain import ledger

    given = {"sls": sls, "reboot": reboot, "drain": drain}
    data = _run("kvmcluster.assess", node=node, cluster=cluster, **given)
    one = _ledger().of(node)
    if data["ok"]:
        one.todo = data
        one.state = ledger.SKIPPED if data["skip"] else one.state
        one.detail = ledger.NOTHING if data["skip"] else ""
    return _noted(_step(name, data, {}, False), node)


def drained(
    name: str,
    node: str,
    reason: str,
    stuck: str = "refuse",
    before_reboot: str | None = None,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Make sure that a node is cordoned and has no guests. For orchestrations.

    node
        The node's minion id.

    reason
        Why it is cordoned.

    stuck
        What becomes of guests that cannot be moved, as ``salt-run kvmcluster.evacuate`` has it.
        After ``preflight`` only those are shut down, or stay, that it named. Default: refuse.

    before_reboot
        Drain it only if it is due for a reboot by this word, ``needed`` or ``always``, and was not
        drained before. Default: drain it, unless ``assessed`` found that it need not be.

    cluster
        The cluster's name; needed only where the master has several.

    .. code-block:: yaml

        node1 drained:
          kvmcluster.drained:
            - node: node1
            - reason: new memory
    """
    from saltext_kvmcluster.core.drain import maintenance

    test, todo = __opts__["test"], _ledger().of(node).todo
    if before_reboot is None and not todo["drain"]:
        return _skipped(name, f"{node} is not drained")
    if before_reboot is not None:
        if todo["drain"] or todo["skip"]:
            return _skipped(name, f"{node}: nothing more to drain")
        data = _run("kvmcluster.reboot", node=node, when=before_reboot, test=True, cluster=cluster)
        if not data["ok"] or not data["rebooted"]:
            return _noted(_step(name, data, {}, False), node)
    given = {"reason": reason, "stuck": stuck, "guests": _ledger().named(node), "test": test}
    data = _run("kvmcluster.evacuate", node=node, cluster=cluster, **given)
    _ledger().evacuated(node, data)
    _ledger().of(node).todo = {**todo, "drain": True}
    moves = data.get("plan" if test else "moved", [])
    reported = maintenance.ours(node, reason, data)
    away = {move["guest"]: {"old": node, "new": move["destination"]} for move in moves}
    off = {row["guest"]: {"old": node, "new": "shut down"} for row in data.get("shut_down", ())}
    changes = {node: {"new": "cordoned and empty"}, **away, **off}
    return _noted(_step(name, reported, changes), node)


def reboot(
    name: str, node: str, when: str = "needed", timeout: float = 900, cluster: str | None = None
) -> dict[str, Any]:
    """Reboot a node if that is needed, and wait until it is ready. For orchestrations.

    Under ``test=True`` it says whether the node would be rebooted as it is now.

    node
        The node's minion id.

    when
        ``needed``, ``always`` or ``never``. Default: needed.

    timeout
        Seconds to wait until it is back and ready. Default: 900.

    cluster
        The cluster's name; needed only where the master has several.

    .. code-block:: yaml

        node1 reboot:
          kvmcluster.reboot:
            - node: node1
            - when: always
    """
    if _ledger().of(node).todo["skip"]:
        return _skipped(name, f"{node}: no reboot is due")
    test, wait = __opts__["test"], {"when": when, "timeout": timeout}
    data = _run("kvmcluster.reboot", node=node, test=test, cluster=cluster, **wait)
    changes = {node: {"old": "up", "new": "rebooted"}} if data.get("rebooted") else {}
    _ledger().of(node).rebooted = bool(changes) and not test
    return _noted(_step(name, data, changes), node)


def undrained(
    name: str, node: str, home: bool = False, reason: str | None = None, cluster: str | None = None
) -> dict[str, Any]:
    """Uncordon a node. For orchestrations.

    node
        The node's minion id.

    home
        Whether to bring home the guests that live there. Default: false.

    reason
        Uncordon it only if that is why it is cordoned. Default: whatever cordons it.

    cluster
        The cluster's name; needed only where the master has several.

    .. code-block:: yaml

        node1 undrained:
          kvmcluster.undrained:
            - node: node1
    """
    from saltext_kvmcluster.core.applying import course

    changes = {node: {"old": "cordoned", "new": "open"}}
    todo = _ledger().of(node).todo
    if not (todo["drain"] or todo["left"]):
        return _skipped(name, f"{node} was not cordoned")
    if __opts__["test"]:
        detail = f"{node} would be uncordoned"
        return {"name": name, "changes": changes, "result": None, "comment": detail}
    given = {"home": home, "reason": reason, "patience": course.WAIT}
    data = _run("kvmcluster.undrain", node=node, cluster=cluster, **given)
    changes = changes if data.get("uncordoned") else {}
    # A guest that cannot move home is reported, but does not keep the node cordoned.
    return _noted(_step(name, {**data, "ok": data["ok"] or "uncordoned" in data}, changes), node)


def restored(name: str, node: str, cluster: str | None = None) -> dict[str, Any]:
    """Start a node's guests again that were shut down for its maintenance. For orchestrations.

    node
        The node's minion id.

    cluster
        The cluster's name; needed only where the master has several.

    .. code-block:: yaml

        node1 restored:
          kvmcluster.restored:
            - node: node1
    """
    from saltext_kvmcluster.core.ownership import startup

    if __opts__["test"]:
        return _skipped(name, f"guests of {node} that were shut down would be started again")
    data = _run("kvmcluster.restore", node=node, cluster=cluster)
    _ledger().restored(node, data)
    changes = {
        row["guest"]: {"old": "shut down", "new": f"runs on {node}"}
        for row in data.get("started", ())
        if row["result"] == startup.STARTED
    }
    return _noted({**_step(name, data, changes), "changes": changes}, node)


def reported(name: str, cluster: str | None = None) -> dict[str, Any]:
    """Report what became of each node of this run of maintenance. For orchestrations.

    cluster
        The cluster's name.

    .. code-block:: yaml

        report:
          kvmcluster.reported: []
    """
    for one in _ledger().nodes.values():
        one.finish(__opts__["test"])
    comment = _ledger().text()
    doors.progress(__opts__, f"{name}:\n{comment}")
    return {"name": name, "changes": {}, "result": True, "comment": comment}


def rolling(
    name: str,
    sls: str | list[str] | None = None,
    reboot: str = "needed",
    anew: bool = False,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Record that a rolling run begins, or continues. For ``kvmcluster.orch.rolling``.

    sls, reboot, anew
        As ``salt-run kvmcluster.rolling`` has them.

    cluster
        The cluster's name; needed only where the master has several.

    .. code-block:: yaml

        rolling:
          kvmcluster.rolling:
            - sls: updates
    """
    run = {"sls": sls, "reboot": reboot, "anew": anew, "test": __opts__["test"]}
    data = _run("kvmcluster.rolling", cluster=cluster, **run)
    _ledger().before(data.get("reports", {}))
    return _noted(_step(name, data, {}, False))


def rolling_done(name: str, node: str, cluster: str | None = None) -> dict[str, Any]:
    """Record that a rolling run is done with a node. For ``kvmcluster.orch.rolling``.

    node
        The node's minion id.

    cluster
        The cluster's name; needed only where the master has several.

    .. code-block:: yaml

        node1 done:
          kvmcluster.rolling_done:
            - node: node1
    """
    changes = {node: {"old": "to do", "new": "done"}}
    if __opts__["test"]:
        detail = f"{node} would be done"
        return {"name": name, "changes": changes, "result": None, "comment": detail}
    one = _ledger().of(node)
    one.finish()
    report = f"{one.state}: {one.summary()}".removesuffix(": ")
    data = _run("kvmcluster.rolling_done", node=node, report=report, cluster=cluster)
    return _noted(_step(name, data, changes), node)


def _ledger() -> Ledger:
    """Return what this run of maintenance has done so far."""
    from saltext_kvmcluster.core.drain.ledger import Ledger

    found: Ledger = __context__.setdefault(_LEDGER, Ledger())
    return found


def _skipped(name: str, detail: str) -> dict[str, Any]:
    """Return a step that has nothing to do."""
    return {"name": name, "changes": {}, "result": True, "comment": detail}


def _noted(done: dict[str, Any], node: str = "") -> dict[str, Any]:
    """Show how a step ended; one that failed ends the run, so it has the report."""
    done = _unless_interrupted(done)
    lines = str(done["comment"]).splitlines() or [""]
    doors.progress(__opts__, f"{done['name']}: {lines[-1]}")
    if done["result"] is not False:
        return done
    if node:
        _ledger().of(node).fail(str(done["name"]))
    report = _ledger().text()
    doors.progress(__opts__, report)
    return {**done, "comment": "\n".join([*lines, *([f"\n{report}"] if report else [])])}


def _unless_interrupted(done: dict[str, Any]) -> dict[str, Any]:
    """Have a step fail during which Ctrl-C came, though it ended well: nothing is to follow."""
    if not __context__.pop(_INTERRUPTED, False) or done["result"] is False:
        return done
    detail = "PROBLEM: interrupted; no further step is begun; the same command continues"
    return {**done, "result": False, "comment": f"{done['comment']}\n{detail}"}


def _step(
    name: str, data: Mapping[str, Any], changes: dict[str, Any], acts: bool = True
) -> dict[str, Any]:
    """Shape what a step of maintenance returned; one that ``acts`` has done nothing under test."""
    from saltext_kvmcluster.core.output import tables

    changes = changes if data["ok"] else {}
    pending = acts and changes and __opts__["test"]
    return {
        "name": name,
        "changes": changes,
        "result": None if pending else data["ok"],
        "comment": tables.render(data) or str(data),
    }


def _orchestrated(name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Shape what one of our runner functions returned as a state's return."""
    from saltext_kvmcluster.core.output import tables

    published = data.get("published")
    pending = __opts__["test"] and "error" not in data and (published or not data["ok"])
    done = {
        "name": name,
        "changes": {"mine": {"published": published}} if published else {},
        "result": None if pending else data["ok"],
        "comment": tables.render(data),
    }
    return _unless_interrupted(done)


def _run(runner: str, **arguments: Any) -> dict[str, Any]:
    """Return what one of our runner functions returned, or its failure as such data."""
    if "master_job_cache" not in __opts__:
        error = "only for orchestrations: salt-run state.orchestrate"
        return {"kind": "error", "ok": False, "error": error}
    # Past RunnerClient: it walks every function of every runner for each call, which takes long and
    # fails now and then (https://github.com/saltstack/salt/issues/65082).
    if _RUNNERS not in __context__:
        __context__[_RUNNERS] = salt.loader.runner(__opts__, utils=salt.loader.utils(__opts__))
    data: dict[str, Any] = __context__[_RUNNERS][runner](**arguments)["data"]
    if data.pop("interrupted", False):
        __context__[_INTERRUPTED] = True
    return data
