"""What keeps a second writer off the disks of a definition, as this host sees them."""

from __future__ import annotations

from saltext_kvmcluster.core.facts import parsers
from saltext_kvmcluster.core.facts.parsers import NOTHING, CommandOutput
from saltext_kvmcluster.core.guest import domainxml
from saltext_kvmcluster.core.guest.domainxml import Guest
from saltext_kvmcluster.core.storage import disk_guards, inventory, lock_manager
from saltext_kvmcluster.host import commands
from saltext_kvmcluster.host.paths import links_found, realpath_commands


def unguarded(definition: str) -> list[str]:
    """Return the disks of a definition that are not known to be guarded, a sentence each.

    InputError if the definition is not valid.
    """
    guest = domainxml.parse(definition)
    asked = {"settings": parsers.COMMANDS["settings"], **lock_manager.COMMANDS}
    paths = [*_paths(guest)]
    found = commands.run_all({**asked, **inventory.COMMANDS, **realpath_commands(paths)})
    outputs = {key: (one.code, one.stdout) for key, one in found.items()}
    code, links = outputs["links"]
    outputs["links"] = code, links + links_found(paths, found)
    manager = parsers.locks(lambda key: CommandOutput(*outputs[key]) if key in outputs else NOTHING)
    storage = inventory.parse({key: outputs[key] for key in inventory.COMMANDS})
    return [
        f"{target}, {name}: {missing}"
        for target, name, subject in disk_guards.written(guest)
        if (missing := disk_guards.of_node(subject, storage, manager).missing)
    ]


def _paths(guest: Guest) -> list[str]:
    disks = [disk.source.path for disk in guest.disks]
    return [path for path in (*disks, *(lease.target for lease in guest.leases)) if path]
