"""Issues of a node's part in the cluster's ssh trust, found on that node."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from saltext_kvmcluster.core.findings import Issue, unknown
from saltext_kvmcluster.core.pillar.clusters import Cluster
from saltext_kvmcluster.core.trust import client_settings, keyfile, login_keys
from saltext_kvmcluster.core.trust.identity import Identities
from saltext_kvmcluster.core.trust.keyfile import RSA_BITS, KeyFile
from saltext_kvmcluster.core.trust.sshd import ALGORITHMS, Refusal, Settings

LABEL = "ssh_home_t"
UNSET = "not set"
UNREAD = "unread"
HARMLESS = {
    "proxycommand": ("none", UNSET),
    "proxyjump": ("none", UNSET),
    "pubkeyauthentication": ("true", "yes", "unbound", "host-bound", UNSET),
    "preferredauthentications": ("publickey", UNSET),
    "controlpath": ("none", UNSET),
    "remotecommand": ("none", UNSET),
    "requesttty": ("auto", "no", "false", UNSET),
    "sessiontype": ("default", UNSET),
    "stdinnull": ("no", UNSET),
    "forkafterauthentication": ("no", UNSET),
    "permitlocalcommand": ("no", UNSET),
    "exitonforwardfailure": ("no", UNSET),
    "canonicalizehostname": ("false", "no", UNSET),
    "knownhostscommand": ("none", UNSET),
}
"""The values of settings with which a login runs its command there, and nothing else."""
THEIRS = ("pubkeyacceptedalgorithms", "pubkeyacceptedkeytypes", "requiredrsasize")
"""The settings that are the login's own even where our part comes first."""
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
    cluster: Cluster,
    settings: Mapping[str, Settings | str],
    texts: Callable[[str], Mapping[str, str]],
    key_path: str,
    known_hosts: str,
) -> list[Issue]:
    """Return the names to which ssh would not connect with the cluster's settings, with the reason.

    settings
        What ``ssh -G`` prints for each name; its error, or an empty one, where that is nothing.
    texts
        Returns the configuration files that ssh reads for a name, by path.
    """
    needed = {
        "user": (cluster.ssh.login,),
        "identityfile": (key_path,),
        "identitiesonly": ("yes",),
        "stricthostkeychecking": ("true", "yes"),
        "userknownhostsfile": (known_hosts,),
    }
    aliases = {name: node.id.lower() for node in cluster.nodes.values() for name in node.names}
    alike: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for name, found in settings.items():
        own = {"hostname": (name.lower(), UNSET), "hostkeyalias": (aliases.get(name, ""), UNSET)}
        wrong = tuple(_differences(found, {**needed, **own, **HARMLESS}, cluster.ssh.key_type))
        alike.setdefault(wrong, []).append(name)
    return [_wrong(names, wrong, texts(names[0])) for wrong, names in alike.items() if wrong]


def _wrong(
    names: Sequence[str], wrong: Sequence[tuple[str, str]], texts: Mapping[str, str]
) -> Issue:
    """Return the issue of names whose settings are wrong alike, with where those are set."""
    shown = f"'ssh -G {names[0]}' shows it"
    theirs = {keyword for keyword, _ in wrong} <= {*THEIRS, UNREAD}
    sentences = []
    for keyword, what in wrong:
        at = "; ".join(client_settings.places(texts, keyword))
        sentences.append(what + (f" ({at})" if at else ""))
    if wrong[0][0] == UNREAD:
        sentences = [client_settings.unread(texts, wrong[0][1])]
    remedy = f"correct that file; {shown}" if theirs else f"{TRUST}; {shown}"
    return Issue(f"ssh to {', '.join(names)}: {'; '.join(sentences)}", remedy)


def _differences(
    found: Settings | str, wanted: Mapping[str, tuple[str, ...]], key_type: str
) -> Iterator[tuple[str, str]]:
    """Yield each setting with which a login would fail or lead elsewhere, and how it is."""
    if isinstance(found, str):
        yield UNREAD, found
        return
    for keyword, values in wanted.items():
        first = (found.get(keyword) or (UNSET,))[0]
        if first not in values:
            yield keyword, f"{keyword} is {first}, not {values[0]}"
    for keyword in ("pubkeyacceptedalgorithms", "pubkeyacceptedkeytypes"):
        accepted = ",".join(found.get(keyword, ())).split(",")
        if accepted != [""] and not set(accepted) & set(ALGORITHMS[key_type]):
            yield keyword, f"{keyword} leaves out {key_type} keys"
    size = (found.get("requiredrsasize") or ("",))[0]
    if key_type == "rsa" and size.isdecimal() and int(size) > RSA_BITS:
        yield "requiredrsasize", f"requiredrsasize is {size}, and the cluster key has {RSA_BITS}"


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

    And those of members in other files than ours, where they may do more.

    texts
        The authorized_keys files of the login, by path.
    """
    issues = []
    own = "".join(text for path, text in texts.items() if _is_ours(path))
    for path, text in texts.items():
        ours = _is_ours(path)
        found = {} if ours else dict(login_keys.unrestricted(cluster, identities, text, own))
        found.update(login_keys.stale(cluster, identities, text))
        issues += [
            Issue(
                f"{path}, line {number}: {why}",
                TRUST if ours else f"delete line {number} of {path}",
            )
            for number, why in sorted(found.items())
        ]
    return issues


def _is_ours(path: str) -> bool:
    return path.endswith(login_keys.AUTHORIZED_KEYS)


def names(cluster: Cluster, here: str) -> Sequence[str]:
    """Return every name by which the node reaches a peer."""
    return [name for peer in cluster.peers(here) for name in peer.names]
