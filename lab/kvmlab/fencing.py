"""The nodes' power as Pacemaker's fencing switches it: a process outside them, and its client.

A fence agent runs on a node and cannot end another one. It asks, through a socket that every node
sees and no cut cable takes away, the process that can: like a management board, it answers only
when all that ran on the node is over.
"""

import socket
import socketserver
import sys
from pathlib import Path

from . import power
from .plan import CHECKOUT, Lab, LabError, lab_name
from .processes import INSIDE, find, launch, wait_until

PROGRAMS = Path("/usr/sbin")
AGENT = CHECKOUT / "lab" / "fence_kvmlab"
ROLE = "board"
# Of a board that does not answer.
PATIENCE = 10
METADATA = """<?xml version="1.0"?>
<resource-agent name="fence_kvmlab" shortdesc="Power of the lab's nodes">
  <longdesc>Asks the lab to end a node, or to boot it.</longdesc>
  <parameters>
    <parameter name="action" required="1">
      <content type="string" default="reboot"/>
      <shortdesc lang="en">what to do</shortdesc>
    </parameter>
    <parameter name="plug" required="0">
      <content type="string"/>
      <shortdesc lang="en">the node's name</shortdesc>
    </parameter>
  </parameters>
  <actions>
    <action name="on" automatic="0"/>
    <action name="off"/>
    <action name="reboot"/>
    <action name="status"/>
    <action name="list"/>
    <action name="monitor"/>
    <action name="metadata"/>
  </actions>
</resource-agent>
"""


def install():
    """Put the agent where Pacemaker looks for it, into a node's private view."""
    (PROGRAMS / AGENT.name).symlink_to(AGENT)


# ---- outside the nodes ----


def start(lab):
    """Start the process that answers, and wait until it does; it ends with the lab."""
    with open(lab.logs / ROLE, "wb") as log:
        launch([sys.executable, "-B", INSIDE, ROLE, lab.name, str(lab.size)], stderr=log)
    wait_until(address(lab).exists, 10, f"no fencing; see {lab.logs / ROLE}")


def address(lab):
    return lab.board / "socket"


def serve(lab):
    """Answer requests, as long as the lab lives."""
    with socketserver.ThreadingUnixStreamServer(str(address(lab)), Board) as server:
        server.lab = lab
        server.serve_forever()


class Board(socketserver.StreamRequestHandler):
    """Answers one request, ``ACTION NODE``: with a word, or with why not."""

    def handle(self):
        lab = self.server.lab
        action, _, node = self.rfile.readline().decode().strip().partition(" ")
        if node and lab.deaf(node).exists():
            self.rfile.read()
            return
        try:
            text = ACTIONS[action](lab, node)
        except LabError as error:
            text = f"error: {error}"
        self.wfile.write(f"{text}\n".encode())


def off(lab, node):
    lab.off(node).touch()
    return reboot(lab, node)


def reboot(lab, node):
    if pid := find(lab, node):
        power.switch_off(pid)
    return "done"


def on(lab, node):
    lab.off(node).unlink(missing_ok=True)
    wait_until(lambda: find(lab, node), 30, f"{node} does not boot")
    return "done"


def status(lab, node):
    return "on" if find(lab, node) else "off"


def names(lab, node):
    return " ".join(lab.nodes)


ACTIONS = {
    "off": off,
    "reboot": reboot,
    "on": on,
    "status": status,
    "list": names,
    "monitor": names,
}


# ---- on a node ----


def agent(lines):
    """Be a fence agent: lines of ``name=value``; return its exit code, or why it failed."""
    options = dict(line.strip().split("=", 1) for line in lines if "=" in line)
    action = options.get("action", "reboot")
    if action == "metadata":
        print(METADATA, end="")
        return 0
    if action not in ACTIONS:
        return f"unknown action {action}"
    text = request(action, options.get("plug", ""))
    if action == "list":
        print(*text.split(), sep="\n")
    if action == "status":
        return 0 if text == "on" else 2
    return text if text.startswith("error") else 0


def request(action, node):
    path = address(Lab(lab_name()))
    try:
        with socket.socket(socket.AF_UNIX) as board:
            board.settimeout(PATIENCE)
            board.connect(str(path))
            board.sendall(f"{action} {node}\n".encode())
            return board.makefile().readline().strip() or "error: no answer"
    except OSError as error:
        return f"error: {path}: {error}"
