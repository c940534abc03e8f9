"""What can go wrong, in two kinds: what somebody asked for, and what the world answered."""


class KvmclusterError(Exception):
    """Base of every error of ours. The message says what was wrong, where, and what to do."""


class InputError(KvmclusterError):
    """The pillar or an argument is wrong; the remedy is in the reader's own hands."""


class WorldError(KvmclusterError):
    """A file, a program, a daemon or a peer did not do what was needed."""


class AtWork(WorldError):
    """Another command of ours has the guest to itself on a node."""
