"""Issues of a node's part in the cluster's ssh trust, found on that node."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from saltext_kvmcluster.core.findings import Issue, unknown
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.trust import keyfile, login_keys
from saltext_kvmcluster.core.trust.identity import Identities
from saltext_kvmcluster.core.trust.keyfile import KeyFile
from saltext_kvmcluster.core.trust.sshd import Refusal, Settings

LABEL = "ssh_home_t"
TRUST = "apply the state kvmcluster.trust here"


def key(found: KeyFile, cluster: Cluster) -> list[Issue]:
    """Return the issues of the cluster key."""
    if not found.exists:
        return [Issue(f"{found.path} does not exist", "apply the state kvmcluster.key here")]
    problem = keyfile.key_problem(found, cluster)
    if not problem:
        return []
    what, _, how = problem.partition("; ")
    return [Issue(what, how.replace("this state", "the state kvmcluster.key"))]


def authorized(refusals: Iterable[Refusal]) -> list[Issue]:
    """Return why sshd would refuse the login with the file that we manage."""
    return [Issue(refusal.problem, refusal.remedy) for refusal in refusals]


def config(
    cluster: Cluster, settings: Mapping[str, Settings | None], key_path: str, known_hosts: str
) -> list[Issue]:
    """Return the names to which ssh would not connect with the cluster's settings, with the reason.

    settings
        What ``ssh -G`` prints for each name, None where it printed nothing.
    """
    wanted = {
        "user": (cluster.ssh.login,),
        "identityfile": (key_path,),
        "identitiesonly": ("yes",),
        "stricthostkeychecking": ("true", "yes"),
        "userknownhostsfile": (known_hosts,),
    }
    alike: dict[str, list[str]] = {}
    for name, found in settings.items():
        wrong = "; ".join(_differences(found, wanted))
        alike.setdefault(wrong, []).append(name)
    return [
        Issue(f"ssh to {', '.join(names)}: {wrong}", f"{TRUST}; 'ssh -G {names[0]}' shows it")
        for wrong, names in alike.items()
        if wrong
    ]


def _differences(found: Settings | None, wanted: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    if found is None:
        yield "ssh cannot read its configuration"
        return
    for keyword, values in wanted.items():
        first = (found.get(keyword) or ("not set",))[0]
        if first not in values:
            yield f"{keyword} is {first}, not {values[0]}"


def label(labels: Mapping[str, str | None]) -> list[Issue]:
    """Return the files that sshd may not read under SELinux.

    labels
        Each file's security context, None where it could not be read; empty where SELinux is off.
    """
    issues = []
    for path, context in labels.items():
        if context is None:
            sentence = f"the SELinux label of {path} cannot be read"
            issues.append(unknown(sentence, f"run here: ls -Z {path}"))
        elif LABEL not in context.split(":"):
            issues.append(Issue(f"{path} is labelled {context}", f"run: restorecon -v {path}"))
    return issues


def stale(cluster: Cluster, identities: Identities, texts: Mapping[str, str]) -> list[Issue]:
    """Return the keys of former members, and former keys of members, that still let in.

    texts
        The authorized_keys files of the login, by path.
    """
    return [
        Issue(
            f"{path}, line {number}: {why}",
            TRUST
            if path.endswith(login_keys.AUTHORIZED_KEYS)
            else f"delete line {number} of {path}",
        )
        for path, text in texts.items()
        for number, why in login_keys.stale(cluster, identities, text)
    ]


def names(cluster: Cluster, here: str) -> Sequence[str]:
    """Return every name by which the node reaches a peer."""
    return [name for peer in cluster.peers(here) for name in peer.names]
