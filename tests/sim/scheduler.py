"""Pacemaker's scheduler on a CIB of ours: crm_simulate plays what it decides."""

import re
import subprocess

from lxml import etree

from saltext_kvmcluster.core.ha import content

STARTED = re.compile(r"^\s*\* (\S+)\s+\(\S+:kvmcluster:VirtualDomain\):\s+Started (\S+)", re.M)
MEMBER = {"in_ccm": "true", "crmd": "online", "join": "member", "expected": "member"}
LOST = {"in_ccm": "false", "crmd": "offline", "join": "down", "expected": "member"}
# One that both Pacemaker 2.1 and what came after it take for no newer than their own.
FEATURES = "3.13.0"


class Scheduler:
    """A cluster of Pacemaker's with the guests of a pillar; all nodes are online at first."""

    def __init__(self, cluster, folder):
        self.file, self.out = folder / "cib.xml", folder / "out.xml"
        self.guests = [guest.name for guest in cluster.guests.list.values() if guest.ha]
        self.cib = etree.fromstring(text(cluster))
        self.members(cluster.nodes)

    def members(self, nodes):
        for node in nodes:
            state = self._state(node)
            state.attrib.update(MEMBER)

    def lose(self, nodes):
        """Lose nodes at once; return by guest where it runs then."""
        for node in nodes:
            self._state(node).attrib.update(LOST)
        return self.play()

    def join(self, node):
        """Have a node back that runs nothing; return by guest where it runs then."""
        state = self._state(node)
        del state[:]
        state.attrib.update(MEMBER)
        return self.play()

    def play(self, *words):
        """Play what is decided to its end; return by guest where it runs then, None if nowhere."""
        self.file.write_bytes(etree.tostring(self.cib))
        self.out.unlink(missing_ok=True)
        argv = ("crm_simulate", "--xml-file", str(self.file), "--simulate", "--save-output")
        done = subprocess.run(
            [*argv, str(self.out), *words], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0 and self.out.exists(), done.stdout + done.stderr
        self.cib = etree.parse(self.out).getroot()
        running = dict(STARTED.findall(done.stdout.partition("Revised Cluster Status")[2]))
        return {guest: running.get(content.resource(guest)) for guest in self.guests}

    def fail(self, guest, node):
        """Have a guest's monitor find that it runs no more; return by guest where it runs then."""
        return self.play("--op-inject", f"{content.resource(guest)}_monitor_10000@{node}=7")

    def stop(self, guest):
        """Have a guest shut down; return by guest where it runs then."""
        name = f"{content.resource(guest)}-meta"
        meta = self.cib.find(f".//meta_attributes[@id='{name}']")
        pair = {"id": f"{name}-target-role", "name": "target-role", "value": "Stopped"}
        etree.SubElement(meta, "nvpair", pair)
        return self.play()

    def _state(self, node):
        status = self.cib.find("status")
        found = status.find(f"node_state[@uname='{node}']")
        if found is None:
            known = self.cib.find(f"configuration/nodes/node[@uname='{node}']")
            found = etree.SubElement(status, "node_state", id=known.get("id"), uname=node)
        return found


def text(cluster):
    """Return the CIB of a cluster that can fence, and never lacks a quorum."""
    pieces = content.guests(cluster, {name: f"/guests/{name}" for name in cluster.guests.list})
    of = {
        section: "".join(piece.xml for piece in pieces if piece.section == section)
        for section in (content.RESOURCES, content.CONSTRAINTS)
    }
    properties = "".join(
        f'<nvpair id="p-{name}" name="{name}" value="{value}"/>'
        for name, value in content.PROPERTIES.items()
    )
    nodes = "".join(
        f'<node id="{number}" uname="{node}"/>' for number, node in enumerate(cluster.nodes, 1)
    )
    return f"""
<cib crm_feature_set="{FEATURES}" validate-with="pacemaker-3.0" have-quorum="1" dc-uuid="1"
     admin_epoch="0" epoch="1" num_updates="0">
 <configuration>
  <crm_config>
   <cluster_property_set id="cib-bootstrap-options">{properties}</cluster_property_set>
  </crm_config>
  <nodes>{nodes}</nodes>
  <resources>
   <primitive id="fence" class="stonith" type="fence_any"/>{of[content.RESOURCES]}
  </resources>
  <constraints>{of[content.CONSTRAINTS]}</constraints>
 </configuration>
 <status/>
</cib>"""
