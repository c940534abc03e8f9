"""A page that shows the cluster: observed, rendered, written."""

from __future__ import annotations

import functools
import os
import posixpath
from collections.abc import Mapping
from typing import Any

import jinja2

from saltext_kvmcluster.core.errors import InputError
from saltext_kvmcluster.core.fileplan import FilePlan
from saltext_kvmcluster.core.page import migrations, target
from saltext_kvmcluster.core.page.view import view
from saltext_kvmcluster.host import descriptors, files
from saltext_kvmcluster.master import survey
from saltext_kvmcluster.master.nodes import SaltNodes
from saltext_kvmcluster.master.pillars import Functions


def checked(value: object) -> str:
    """Return the path of a page; InputError if none can be put there, or something else is."""
    path = target.path(value)
    folder = posixpath.dirname(path)
    if not files.exists(folder):
        raise InputError(f"path: there is no folder {folder}; make it first")
    target.refuse_other(path, files.read(path))
    return path


def write(path: str, nodes: SaltNodes, functions: Functions) -> dict[str, Any]:
    """Put a page of the cluster as it is now at a path that was checked; return what it shows.

    A reader finds the old page, or the new one as a whole.

    functions
        ``__salt__`` of a runner.
    """
    found = survey.observed(nodes, functions, migrations.MOST_ROWS, readiness=True).to_dict()
    text = html(view(found))
    owner = descriptors.owner_name(os.geteuid())
    files.apply(FilePlan(path, text, target.MODE, owner, {}))
    return {
        "ok": True,
        "path": path,
        "bytes": len(text.encode()),
        "observed": found["began"],
        "problems": len(found["status"]["problems"]),
        "silent": found["status"]["silent"],
    }


def html(shown: Mapping[str, Any]) -> str:
    """Return what a view holds as a page, all of it escaped."""
    return _template().render(shown)


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("saltext_kvmcluster.master"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")
