"""How many migrations run at once: the pillar's limits, and what libvirt shows of them."""

import collections
import contextlib
import threading

# Seconds between two looks; a migration lasts for several.
PAUSE = 0.3


@contextlib.contextmanager
def limits(lab, outgoing, incoming):
    with lab.pillar() as pillar:
        limits = {"max_outgoing": outgoing, "max_incoming": incoming}
        pillar.cluster["migration"] = {**pillar.cluster.get("migration", {}), **limits}
        pillar.save()
        lab.refresh_pillar()
        yield
    lab.refresh_pillar()


class Watch:
    """What libvirt shows under way on all nodes, looked at again and again."""

    def __init__(self, lab):
        self.lab, self.over = lab, threading.Event()
        self.most = collections.Counter()
        self.threads = [threading.Thread(target=self.observe, args=[node]) for node in lab.nodes]

    def observe(self, node):
        while not self.over.is_set():
            sides = [half for _, half in self.lab.guests(node).values()]
            for side in ("outgoing", "incoming"):
                count = sides.count(side)
                self.most[node, side] = max(self.most[node, side], count)
            self.over.wait(PAUSE)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join(60)
