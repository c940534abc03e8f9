"""Sphinx: the reference of the doors, and links from every name that is typed to what it is.

``kvmcluster-door`` puts the functions of a door into a page, as ``tools/docs_reference.py`` groups
them. A literal in any page that is a command, a state, an SLS, a check or a key of the pillar
becomes a link, so the pages need no markup for that.
"""

from __future__ import annotations

import re
from typing import ClassVar

import docs_reference
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx import addnodes
from sphinx.domains.python import PyFunction, PythonDomain
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

# What the search shows beside a function that it finds.
PythonDomain.label = "Salt"

FUNCTION = re.compile(
    r"^(?:(salt-run)\s+(?:-\S+\s+)*|(salt(?:-call)?)\s+(?:\S+\s+)*?)?kvmcluster\.(\w+)(?=[\s(]|$)"
)
SLS = re.compile(r"^(?:salt.*\bstate\.\w+\s+)?(kvmcluster(?:\.\w+)+)(?=\s|$)")
ON_A_NODE = re.compile(r"^ (on (a|its|their|the) nodes?|there)\b")
KINDS = ("runner", "module", "state")


class Function(PyFunction):
    """A function of a door, with what is typed before it."""

    option_spec: ClassVar = PyFunction.option_spec | {"plumbing": directives.flag}

    def run(self):
        self.name = "py:function"
        return super().run()

    def handle_signature(self, sig, signode):
        name = super().handle_signature(sig, signode)
        if "plumbing" in self.options:
            signode["classes"].append("plumbing")
            signode += nodes.inline("", "plumbing", classes=["badge"])
        return name

    def get_signature_prefix(self, sig):
        return [nodes.Text(docs_reference.DOORS[self.options["module"]].command)]

    def add_target_and_index(self, name_cls, sig, signode):
        self.options["no-index-entry"] = True
        super().add_target_and_index(name_cls, sig, signode)
        name = name_cls[0].removeprefix("kvmcluster.")
        entry = f"{name} ({self.options['module']})"
        self.indexnode["entries"].append(("single", entry, signode["ids"][0], "", None))


class Door(SphinxDirective):
    """All groups of functions of a door: ``.. kvmcluster-door:: DOOR``."""

    required_arguments = 1

    def run(self):
        text = docs_reference.document(self.arguments[0])
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def index_keys(app, doctree):
    """Give each key of the pillar's page an anchor, its path, and put it into the index."""
    if app.env.docname != "pillar":
        return
    for section in doctree.findall(nodes.section):
        for term in section.findall(nodes.term):
            if term.parent.parent.parent is section:
                _index(app, term, f"{section[0].astext()}:{term.astext()}")


def index_tasks(app, doctree):
    """Put what somebody sees into the index, so that the search leads to its row."""
    if app.env.docname != "tasks":
        return
    for body in doctree.findall(nodes.tbody):
        for row in body.children:
            seen = row[0].astext().partition(":")[0]
            _index(app, row, re.sub(r"^(an?|the) ", "", seen))


def _index(app, node, name):
    """Make a node a place to go to, of the index and of what the search finds first."""
    anchor = nodes.make_id(name)
    node["ids"].append(anchor)
    entry = ("single", name, anchor, "main", None)
    # The index has gathered its entries before, the search does so later.
    app.env.get_domain("index").entries[app.env.docname].append(entry)
    _section(node).append(addnodes.index(entries=[entry]))


def _section(node):
    return next(one for one in _above(node) if isinstance(one, nodes.section))


class Links(SphinxPostTransform):
    """Makes links of literals."""

    default_priority = 5

    def run(self, **kwargs):
        for literal in list(self.document.findall(nodes.literal)):
            if not any(
                isinstance(one, nodes.reference | nodes.title | addnodes.pending_xref)
                for one in _above(literal)
            ):
                self._link(literal)

    def _link(self, literal):
        text = literal.astext()
        if self.env.docname == "commands" and _is_in_last_column(literal):
            # What stands before each of them is said above the table.
            text = f"salt-run kvmcluster.{text}"
        before = _neighbour(literal, -1)
        sls = self._sls(text) if "state." in text or before.endswith("SLS ") else None
        found = sls or self._function(literal, text) or self._sls(text) or self._place(text)
        if found:
            builder, here = self.app.builder, self.env.docname
            literal.replace_self(make_refnode(builder, here, *found, literal.deepcopy()))

    def _function(self, literal, text):
        match = FUNCTION.match(text)
        if not match:
            return None
        run, node, name = match.groups()
        objects = self.env.get_domain("py").objects
        for kind in self._kinds(literal, run, node):
            full = f"{kind}.kvmcluster.{name}"
            if full in objects and not _is_inside(literal, full):
                return objects[full].docname, objects[full].node_id
        return None

    def _kinds(self, literal, run, node):
        """Return the doors to look at, the one that is meant first."""
        if run or node:
            return ("runner",) if run else ("module",)
        if ON_A_NODE.match(_neighbour(literal, 1)):
            return ("module",)
        own = self.env.docname.removeprefix("ref/")
        return sorted(KINDS, key=lambda kind: kind != own)

    def _sls(self, text):
        match = SLS.match(text)
        return self.env.doors_places.get(match.group(1)) if match else None

    def _place(self, text):
        """Return where a check or a key of the pillar is described."""
        places = self.env.doors_places
        path = text.split(": ")[0]
        while ":" in path:
            if path in places:
                return places[path]
            path = path.rpartition(":")[0]
        # The bare name of all of it may mean anything.
        return places.get(text) if text != "kvmcluster" else None


def _neighbour(literal, step):
    """Return the text right before or after a literal."""
    beside = literal.parent.children
    at = beside.index(literal) + step
    return beside[at].astext() if 0 <= at < len(beside) else ""


def _is_in_last_column(literal):
    entries = [one for one in _above(literal) if isinstance(one, nodes.entry)]
    return any(one is one.parent.children[-1] for one in entries)


def _above(node):
    while node.parent is not None:
        node = node.parent
        yield node


def _is_inside(literal, full):
    """Return whether a literal is in the description of the function that it names."""
    return any(
        isinstance(one, addnodes.desc)
        and any(full in sig["ids"] for sig in one.findall(addnodes.desc_signature))
        for one in _above(literal)
    )


TYPED = re.compile(r"(salt|salt-run|salt-call|make|virsh|python3?|pip|salt-pip|apt-get|dnf) ")


def mark_languages(app, doctree):
    """Colour what is typed: a session has prompts, in a list of commands every line is one."""
    for block in doctree.findall(nodes.literal_block):
        lines = block.astext().splitlines()
        if block.get("language") in (None, "none", "default"):
            if any(line.startswith("$ ") for line in lines):
                block["language"] = "console"
            elif all(TYPED.match(line) for line in lines):
                block["language"] = "bash"


def gather(app, env):
    """Gather the places to which literals lead, by what is typed."""
    places = {}
    for docname in ("checks", "pillar", "ref/sls"):
        for section in env.get_doctree(docname).findall(nodes.section):
            title = section[0].astext()
            places[title] = (docname, section["ids"][0])
            for term in section.findall(nodes.term):
                if docname == "pillar" and term["ids"]:
                    places.setdefault(f"{title}:{term.astext()}", (docname, term["ids"][-1]))
    env.doors_places = places


def setup(app):
    app.add_directive("kvmcluster-function", Function)
    app.add_directive("kvmcluster-door", Door)
    app.connect("doctree-read", index_keys)
    app.connect("doctree-read", index_tasks)
    app.connect("doctree-read", mark_languages)
    app.connect("env-updated", gather)
    app.add_post_transform(Links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
