"""What libvirt tells of a guest as it happens, each with the time at which it was heard."""

import contextlib
import threading
import time

import libvirt
from kvmlab import processes

SOCKET = "/run/libvirt/libvirt-sock"
# virDomainEventType: those that say where a guest runs.
STARTED, SUSPENDED, RESUMED, STOPPED = 2, 3, 4, 5
NAMES = {STARTED: "started", SUSPENDED: "suspended", RESUMED: "resumed", STOPPED: "stopped"}
# virDomainEventStoppedDetailType
MIGRATED = 3
# Seconds between two looks whether a daemon is there again.
AGAIN = 0.2


class Watch:
    """The events of one guest on some nodes; a daemon that was gone is watched again.

    first
        The first process of each node, by its name; a node that boots gets another.
    """

    def __init__(self, nodes, first, uuid):
        _run_loop()
        self.uuid, self.heard = uuid, []
        self._news, self._over = threading.Condition(), threading.Event()
        self._threads = [
            threading.Thread(target=self._keep, args=(node, first), daemon=True) for node in nodes
        ]
        self._ready = {node: threading.Event() for node in nodes}
        for thread in self._threads:
            thread.start()
        for node, ready in self._ready.items():
            if not ready.wait(30):
                raise TimeoutError(f"the events of {node} cannot be had")

    def _keep(self, node, first):
        while not self._over.is_set():
            connection, socket = None, processes.inside_path(first[node], SOCKET)
            with contextlib.suppress(libvirt.libvirtError):
                connection = libvirt.open(f"qemu+unix:///system?socket={socket}")
                kind = libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE
                connection.domainEventRegisterAny(None, kind, self._changed, node)
                self._ready[node].set()
                while connection.isAlive() and not self._over.wait(AGAIN):
                    pass
            with contextlib.suppress(libvirt.libvirtError):
                if connection:
                    connection.close()
            self._over.wait(AGAIN)

    def _changed(self, connection, domain, event, detail, node):
        if event in NAMES and domain.UUIDString() == self.uuid:
            with self._news:
                self.heard.append((time.monotonic(), node, event, detail))
                self._news.notify_all()

    def at(self, node, event, since=0.0):
        """Return when an event of a node was heard first, None if it was not."""
        found = [when for when, *what in self.heard if what[:2] == [node, event] and when >= since]
        return found[0] if found else None

    def last(self, node, before):
        """Return the last event of a node that was heard before a moment, None without one."""
        found = [what for when, place, what, _ in self.heard if place == node and when <= before]
        return found[-1] if found else None

    def wait(self, node, event, ended, seconds=60.0, since=0.0):
        """Wait for an event of a node; return when it was heard, None if it does not come.

        ended
            Whether nothing can bring it about any more.
        """
        end = time.monotonic() + seconds
        with self._news:
            while self.at(node, event, since) is None and time.monotonic() < end:
                if ended():
                    break
                self._news.wait(0.2)
        return self.at(node, event, since)

    def told(self, since):
        """Return all that was heard, in words, each with its seconds after a moment."""
        return [
            [round(when - since, 4), node, NAMES[event], detail]
            for when, node, event, detail in list(self.heard)
        ]

    def close(self):
        self._over.set()


def _loop():
    while True:
        libvirt.virEventRunDefaultImpl()


def _run_loop():
    """Run libvirt's event loop, once, for all connections that are made afterwards."""
    if not any(thread.name == _loop.__name__ for thread in threading.enumerate()):
        libvirt.virEventRegisterDefaultImpl()
        threading.Thread(target=_loop, name=_loop.__name__, daemon=True).start()
