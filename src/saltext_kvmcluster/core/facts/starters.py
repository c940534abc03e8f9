"""What starts guests on a node at its next boot, besides libvirt's autostart.

libvirt-guests starts those that ran when the node was shut down, by UUID, from a list that it then
wrote; see libvirt-guests(8) and ``tools/libvirt-guests.sh.in`` of libvirt. libvirt's daemon does
the same where it stops guests itself: ``auto_shutdown_*`` in qemu.conf, libvirt 11.2 and newer.
Both start only what libvirt has a definition of, and neither asks whether it runs elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from saltext_kvmcluster.core.facts.parsers import CommandOutput
from saltext_kvmcluster.core.findings import WARN, Issue, unknown
from saltext_kvmcluster.core.text import printable
from saltext_kvmcluster.core.verdicts import Observation, Sighting

UNIT = "libvirt-guests.service"
LIST = "/var/lib/libvirt/libvirt-guests"
QEMU_CONF = "/etc/libvirt/qemu.conf"
SCRIPTS = ("/usr/lib/libvirt/libvirt-guests.sh", "/usr/libexec/libvirt-guests.sh")
CONFIGS = (
    "/etc/default/libvirt-guests",
    "/etc/sysconfig/libvirt-guests",
    "/etc/conf.d/libvirt-guests",
)
ACTIONS = ("auto_shutdown_try_save", "auto_shutdown_try_shutdown", "auto_shutdown_poweroff")

_UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "guests_unit": ("systemctl", "is-enabled", UNIT),
    "guests_files": (
        *("grep", "-sHE"),
        r"ON_BOOT|^[[:space:]]*(\.|source)[[:space:]]|/(default|sysconfig|conf\.d)/"
        rf"|^[[:space:]]*(if|case|for|while|until)[[:space:]]|[({{][[:space:]]*$|^[^ ]+( {_UUID})+",
        *(*SCRIPTS, *CONFIGS, LIST),
    ),
    "started_once": (
        *("find", "/etc/libvirt/qemu/autostart", "-maxdepth", "1"),
        *("-name", "*.xml.once", "-printf", "%f\\n"),
    ),
}

_NOT_AT_BOOT = re.compile(r"(disabled|masked|linked|static|indirect|not-found|transient)\b")
_NO_UNIT = re.compile(r"No such file or directory|not found|does not exist", re.I)
_ON_BOOT = re.compile(
    r"(\s*)(?:export\s+)?ON_BOOT="
    r"(?:\"([^\"$`\\]*)\"|'([^']*)'|([^\s\"'$`\\;&|<>(){}#]*))\s*;?\s*(?:(?<=[\s;])#.*)?"
)
_COMPUTED = re.compile(r"ON_BOOT|^\s*(?:\.|source)\s")
_BRANCH = re.compile(r"^\s*(?:if|case|for|while|until)\s|[({]\s*$")
_COMMENT = re.compile(r"(?:^|(?<=[\s;]))#.*")


@dataclass(frozen=True)
class Starters:
    """What starts guests on a node at its next boot.

    ``service``, ``daemon``: the setting by which libvirt-guests, or libvirt's daemon, starts those
    that run when the node shuts down; empty if it does not. ``remedy``: what keeps libvirt-guests
    from it. ``listed``: the UUIDs of those that it starts already. ``once``: the names of those
    that have ``virsh autostart --once``. ``detail``: why it is not known what libvirt-guests does.
    """

    service: str = ""
    remedy: str = ""
    listed: frozenset[str] = frozenset()
    daemon: str = ""
    once: frozenset[str] = frozenset()
    detail: str = ""


def parse(output: Callable[[str], CommandOutput], settings: Mapping[str, str]) -> Starters:
    """Return what starts guests on a node at its next boot.

    output
        The output of each of COMMANDS.
    settings
        Those of qemu.conf.
    """
    files = output("guests_files")
    once = frozenset(
        line.removesuffix(".xml.once") for line in output("started_once").out.splitlines()
    )
    others = Starters(daemon=_daemon(settings), once=once)
    # grep's code is 2 wherever one of the files is missing.
    if files.code not in (0, 1, 2):
        detail = f"the settings of libvirt-guests could not be read: {_error(files)}"
        return Starters(daemon=others.daemon, once=once, detail=detail)
    values, path = _on_boot(files.out)
    runs_at_boot = _is_enabled(output("guests_unit"))
    if values == {"start"} and runs_at_boot:
        return Starters(
            f"libvirt-guests, ON_BOOT=start in {path}",
            f"ON_BOOT=ignore in {path if path in CONFIGS else _config(files.out)}",
            _listed(files.out),
            others.daemon,
            once,
        )
    detail = ""
    if runs_at_boot is None and values & {"start", None}:
        detail = f"systemctl is-enabled {UNIT}: {_error(output('guests_unit'))}"
    elif runs_at_boot and values & {"start", None}:
        detail = f"ON_BOOT in {path} is no plain word, or set under a condition"
    elif runs_at_boot and not values:
        detail = f"its script is neither {' nor '.join(SCRIPTS)}, and ON_BOOT in no {path}"
    return Starters(daemon=others.daemon, once=once, detail=detail)


def issues(node: str, found: Observation, starters: Starters | None) -> Iterator[Issue]:
    """Yield what starts a guest at a node's next boot, wherever it runs by then.

    found
        The guest as it was observed there. Only one of which libvirt keeps a definition is started.
    starters
        None where they are not known.
    """
    if not found.persistent or found.sighting in (Sighting.ABSENT, Sighting.UNREACHABLE):
        return
    name, is_active = printable(found.name[:100]), found.sighting is not Sighting.SHUT_OFF
    if starters is None or starters.detail:
        detail = starters.detail if starters else "no facts of it"
        yield unknown(
            f"whether {node} starts it at its next boot by libvirt-guests is not known: {detail}",
            f"on {node}: systemctl disable {UNIT}, or find out why",
        )
    if starters is None:
        return
    if found.uuid in starters.listed:
        yield Issue(
            f"{node} starts it at its next boot, wherever it runs by then: it is on the list of"
            f" libvirt-guests, {LIST} ({starters.service})",
            f"on {node}: {starters.remedy}",
        )
    elif is_active and starters.service:
        yield _if_it_runs_there(node, starters.service, starters.remedy)
    if found.name in starters.once:
        yield Issue(
            f"{node} starts it at its next boot, wherever it runs by then: autostart --once",
            f"on {node}: virsh autostart --once --disable {name}",
        )
    if is_active and starters.daemon:
        remedy = f"auto_shutdown_restore = 0 in {QEMU_CONF}, and restart the daemon"
        yield _if_it_runs_there(node, starters.daemon, remedy)


def _if_it_runs_there(node: str, cause: str, remedy: str) -> Issue:
    """Return a warning: moving the guest away is what ends it."""
    return Issue(
        f"if it runs on {node} when {node} shuts down, {node} starts it at its next boot, wherever"
        f" it runs by then: {cause}",
        f"on {node}: {remedy}",
        severity=WARN,
    )


def _on_boot(text: str) -> tuple[set[str | None], str]:
    """Return what ON_BOOT may be, and the file that sets it; None where a file computes it.

    The script sets its default, which distributions change, and reads one of the configurations, in
    which what is indented may depend on a condition. Empty where the script was not found, and no
    configuration sets it.
    """
    config = _config(text)
    values: set[str | None] = set()
    path = config
    # Within the script, what is indented is no default.
    for file in SCRIPTS:
        for line in _lines(text, file):
            match = _ON_BOOT.fullmatch(line)
            if match and not match[1]:
                values, path = {_word(match)}, file
    lines = [(line, _COMMENT.sub("", line)) for line in _lines(text, config)]
    branches = any(_BRANCH.search(code) for _, code in lines)
    for line, code in lines:
        match = _ON_BOOT.fullmatch(line)
        if match:
            values = {*(values if match[1] or branches else ()), _word(match)}
        elif _COMPUTED.search(code):
            values = {*values, None}
        else:
            continue
        path = config
    return values, path


def _word(match: re.Match[str]) -> str:
    return next((one for one in match.groups()[1:] if one is not None), "")


def _config(text: str) -> str:
    """Return the configuration that the script names, or else the one that there is."""
    script = "\n".join(line for file in SCRIPTS for line in _lines(text, file))
    named = [path for path in CONFIGS if path.removeprefix("/etc") in script]
    there = [path for path in CONFIGS if _lines(text, path)]
    return [*named, *there, CONFIGS[0]][0]


def _listed(text: str) -> frozenset[str]:
    return frozenset(word for line in _lines(text, LIST) for word in line.split()[1:])


def _lines(text: str, path: str) -> list[str]:
    """Return the lines of one file in grep's output."""
    prefix = f"{path}:"
    return [line[len(prefix) :] for line in text.splitlines() if line.startswith(prefix)]


def _is_enabled(output: CommandOutput) -> bool | None:
    """Whether the service runs at boot, by ``systemctl is-enabled``; see systemctl(1)."""
    word = output.out.strip()
    if output.code == 0 and word:
        return not _NOT_AT_BOOT.match(word)
    if output.code in (None, 127):
        return None
    return False if _NOT_AT_BOOT.match(word) or _NO_UNIT.search(output.error) else None


def _daemon(settings: Mapping[str, str]) -> str:
    actions = [name for name in ACTIONS if settings.get(name, "none") not in ("none", "")]
    if not actions or settings.get("auto_shutdown_restore", "1") == "0":
        return ""
    return f"libvirt's daemon, {actions[0]} with auto_shutdown_restore in {QEMU_CONF}"


def _error(output: CommandOutput) -> str:
    return output.error or ("it was ended" if output.code is None else f"exit code {output.code}")
