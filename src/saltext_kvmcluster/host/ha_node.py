"""What a node needs before Pacemaker starts there: Corosync's key and file, secrets of fencing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from saltext_kvmcluster.core.errors import InputError, WorldError
from saltext_kvmcluster.core.fileplan import Changes, FilePlan, FileState, Wanted, plan_file
from saltext_kvmcluster.core.ha import corosync_conf, secrets
from saltext_kvmcluster.core.pillar.clusters import ROOT, Cluster, Node
from saltext_kvmcluster.core.pillar.ha import Ha
from saltext_kvmcluster.core.text import listed
from saltext_kvmcluster.host import commands, files, ha_cib, ssh

_RUNS = ("pgrep", "-x", "corosync")
_SHOWN = ("base64", "--wrap=0", corosync_conf.AUTHKEY)
_MISSING = "No such file or directory"


def conf_plan(cluster: Cluster, ha: Ha) -> FilePlan:
    """Return the plan for corosync.conf; InputError if it is somebody's, and in use."""
    found = files.read(corosync_conf.PATH)
    present = found.text or ""
    if present and not corosync_conf.is_ours(present) and runs():
        raise InputError(
            f"{corosync_conf.PATH} is not ours, and Corosync runs with it: set {ROOT}:ha:manage to"
            " false to keep it, or stop Pacemaker and Corosync and move the file away"
        )
    wanted = corosync_conf.wanted(cluster, ha, present)
    return plan_file(corosync_conf.PATH, found, wanted, 0o644, "root")


def reload() -> None:
    """Have Corosync on all nodes read its file again, where it runs."""
    if runs():
        commands.checked(["corosync-cfgtool", "-R"])


def runs() -> bool:
    """Whether Corosync runs here."""
    return commands.run(_RUNS).code == 0


def key_plan(cluster: Cluster, here: str, test: bool) -> FilePlan:
    """Return the plan for Corosync's key: that of a peer, or, where no node has one, a new one.

    It is made on the first node of the pillar alone. InputError if nodes have different keys;
    WorldError if it is not known which one they have.

    test
        Whether it is only planned: then no peer need have one yet.
    """
    found = files.read(corosync_conf.AUTHKEY)
    theirs, silent = _keys_of(cluster.peers(here), cluster.ssh.becomes_root)
    kinds = {key: listed(nodes) for key, nodes in theirs.items()}
    if found.text is not None:
        own = found.text.encode("utf-8", "surrogateescape")
        if others := [nodes for key, nodes in kinds.items() if key != own]:
            raise InputError(
                f"{corosync_conf.AUTHKEY} is another one on {others[0]}: remove the wrong one, on"
                " nodes whose Corosync is stopped"
            )
        return _key(found, own)
    if len(kinds) > 1:
        raise InputError(
            f"{corosync_conf.AUTHKEY} differs between {' and '.join(kinds.values())}: remove the"
            " wrong one, on nodes whose Corosync is stopped"
        )
    if kinds:
        return _key(found, next(iter(kinds)))
    if silent:
        raise WorldError(
            f"not known whether {listed(silent)} has the key of Corosync:"
            f" {next(iter(silent.values()))}"
        )
    first = next(iter(cluster.nodes))
    if here != first and not test:
        raise WorldError(
            f"no node has the key of Corosync yet; it is made on {first}: apply kvmcluster.ha there"
            " first, as kvmcluster.orch.ha does"
        )
    return _key(found, os.urandom(corosync_conf.AUTHKEY_SIZE))


def _key(found: FileState, key: bytes) -> FilePlan:
    text = key.decode("utf-8", "surrogateescape")
    wanted = Wanted(text, Changes(added=("the key of Corosync",)))
    return plan_file(corosync_conf.AUTHKEY, found, wanted, 0o400, "root")


def _keys_of(
    peers: Sequence[Node], ahead: Sequence[str]
) -> tuple[dict[bytes, list[str]], dict[str, str]]:
    """Return which key peers have, and why it is not known of which."""
    keys: dict[bytes, list[str]] = {}
    silent = {}
    for peer in peers:
        try:
            done = ssh.run_all(peer.id, {"key": _SHOWN}, ahead=ahead)["key"]
        except WorldError as error:
            silent[peer.id] = str(error)
            continue
        if done.code == 0:
            try:
                keys.setdefault(corosync_conf.key(done.stdout), []).append(peer.id)
            except InputError as error:
                silent[peer.id] = f"on {peer.id}, {error}"
        elif _MISSING not in done.stderr:
            silent[peer.id] = done.stderr.strip()[:200] or "no answer"
    return keys, silent


def missing_agents(ha: Ha) -> list[str]:
    """Return the fence agents of the pillar that this node does not have."""
    wanted = dict.fromkeys(device.agent for device in ha.fencing.devices.values())
    try:
        installed = commands.run(["stonith_admin", "--list-installed"]).stdout.split()
    except commands.NotInstalled:
        installed = []
    return [agent for agent in wanted if agent not in installed]


def secret_plans(ha: Ha, pillar: Mapping[str, Any]) -> list[FilePlan]:
    """Return the plans for the files with secrets; their changes do not show them."""
    plans = []
    for one in secrets.kept(ha):
        if one.secret.file:
            found = files.read(one.secret.file)
            secret = secrets.of_file(one, found)
        else:
            secret = secrets.of_pillar(one, pillar)
        for path, content in secrets.files(one, secret).items():
            wanted = Wanted(content, Changes(replaced=("a secret, which is not shown",)))
            plans.append(plan_file(path, files.read(path), wanted, 0o600, secrets.OWNER))
    return plans


def secret_folders(ha: Ha) -> None:
    """Make the folders of secrets."""
    for folder in dict.fromkeys(one.folder for one in secrets.kept(ha)):
        parts = folder.split("/")
        for end in range(len(parts) - 2, len(parts) + 1):
            files.ensure_folder("/".join(parts[:end]), secrets.OWNER)


def remove_secrets(ha: Ha, test: bool) -> tuple[list[str], list[str]]:
    """Remove what is ours of secrets that are no longer in the pillar.

    What Pacemaker still reads stays: its configuration changes after the files of all nodes.

    test
        Whether nothing is removed: what would be is returned, once Pacemaker has changed.

    Returns the files that were removed, and those that stay.
    """
    folders = [path for path in files.listed(secrets.FOLDER) if secrets.is_ours(path)]
    found = secrets.left_over((path for one in folders for path in files.listed(one)), ha)
    if not found or test:
        return found, []
    staying = secrets.in_use(found, ha_cib.present(True))
    removed = [path for path in found if path not in staying]
    for path in removed:
        files.remove(path)
    for folder in {os.path.dirname(path) for path in removed}:
        files.remove_empty(folder)
    return removed, staying


def refuse_without_secrets(ha: Ha) -> None:
    """Raise WorldError if there are secrets, and Pacemaker here does not know them."""
    if not secrets.kept(ha):
        return
    try:
        known = commands.run(["pacemakerd", "--features"]).stdout.split()
    except commands.NotInstalled:
        return
    if secrets.FEATURE not in known:
        raise WorldError(
            "Pacemaker here was built without CIB secrets, so that passwords of fence devices would"
            " have to be in its configuration: use a fence agent's passwd_script under options"
        )
