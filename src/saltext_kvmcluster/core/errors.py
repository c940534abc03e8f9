"""Errors of two kinds: wrong input, and failures of the world."""


class KvmclusterError(Exception):
    """Base of every error here. The message says what was wrong, where, and what to do."""


class InputError(KvmclusterError):
    """The pillar or an argument is wrong; the user can fix it."""


class WorldError(KvmclusterError):
    """A file, a program, a daemon or a peer failed."""


class Answered(WorldError):
    """libvirt's QEMU driver reports that a migration failed: no answer between daemons was lost."""


class Unwanted(WorldError):
    """A migration that waited for a slot was not begun: nobody wants it any more."""


class AtWork(WorldError):
    """Another command holds the lock of the guest on a node; ``holder``: what is known of it."""

    def __init__(self, message: str, holder: str = "") -> None:
        super().__init__(message)
        self.holder = holder
