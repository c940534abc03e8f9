"""What of the output of Pacemaker's tools may leave a node: facts are kept in Salt's job cache.

A CIB holds the passwords of fence devices and of alerts, a definition those of graphics.
"""

from __future__ import annotations

from lxml import etree

from saltext_kvmcluster.core import xmltext
from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.pacemaker.cib import STANDBY_MARK, is_definition
from saltext_kvmcluster.core.pacemaker.pacemaker_facts import Output
from saltext_kvmcluster.core.pacemaker.pacemaker_tools import CONFIGURATION, KEPT, is_config

_NO_XML = 65
"""EX_DATAERR of sysexits.h."""
_SETTINGS = ("cluster_property_set", "meta_attributes")
"""Sets of which all values are sent: they are Pacemaker's own."""
_PARAMETERS = (
    *("config", "guest", "maintenance", "migration_hosts", "migration_network_suffix"),
    *("standby", STANDBY_MARK),
)
"""Parameters of agents, and attributes of nodes, whose values are sent besides paths."""


def without_secrets(key: str, output: Output) -> Output:
    """Return the output of a program of pacemaker_tools.py without what nobody has to know.

    What was to be XML and is not may hold anything: the error is returned in its place.
    """
    code, text, detail = output
    if key not in (CONFIGURATION, KEPT) and not is_config(key):
        return output
    try:
        root = xmltext.parse_xml(text)
    except InputError as error:
        return (code, "", detail) if code != 0 else (_NO_XML, "", str(error))
    bare = _named(root) if is_config(key) else _settings(root)
    return code, etree.tostring(bare, encoding="unicode"), detail


def _named(definition: etree._Element) -> etree._Element:
    """Return a definition with nothing in it but its name."""
    bare = etree.Element(definition.tag)
    if name := definition.findtext("name"):
        etree.SubElement(bare, "name").text = name
    return bare


def _settings(root: etree._Element) -> etree._Element:
    for pair in root.iter("nvpair"):
        parent, value = pair.getparent(), pair.get("value", "")
        is_setting = parent is not None and parent.tag in _SETTINGS
        if not (is_setting or pair.get("name") in _PARAMETERS or is_definition(value)):
            pair.set("value", "")
    return root
