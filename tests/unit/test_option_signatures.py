"""The doors' parameters for the options of a migration: declared once, and seen by Salt."""

import inspect

import pytest
import salt.utils.args

from saltext_kvmcluster import doors
from saltext_kvmcluster.core.pillar import options
from saltext_kvmcluster.modules import kvmcluster as node
from saltext_kvmcluster.runners import kvmcluster as master


@pytest.mark.parametrize(
    ("function", "rest"),
    [
        (node.migrate, ["wait", "patience"]),
        (master.migrate, ["wait", "patience", "cluster"]),
    ],
)
def test_salt_reads_every_option_in_signature_and_docstring(function, rest):
    spec = salt.utils.args.get_function_argspec(function)
    assert spec.args == ["guest", "destination", *options.ARGUMENTS, *rest]
    assert (spec.varargs, spec.keywords) == (None, doors.OTHERS)
    text = inspect.cleandoc(function.__doc__)
    assert all(f"\n{key}\n    " in text for key in options.ARGUMENTS)
    assert "|options|" not in text


@doors.takes_options
def asked(guest, destination, wait=True, **named):
    """Return what arrives.

    |options|
    """
    return guest, destination, wait, named


@pytest.mark.parametrize("margin", ["    ", ""], ids=["before Python 3.13", "since"])
def test_what_is_said_of_options_is_as_far_from_the_margin_as_its_place(margin):
    def plain(guest, destination):
        pass

    plain.__doc__ = f"Do it.\n\n{margin}|options|\n\n{margin}wait\n{margin}    Whether to.\n"
    lines = doors.takes_options(plain).__doc__.splitlines()
    assert lines[2] == f"{margin}live" and lines[3].startswith(f"{margin}    ")
    assert all(line.startswith(margin) for line in lines[1:] if line)
    assert all(f"{margin}{key}" in lines for key in options.ARGUMENTS)


def test_options_arrive_by_name_however_they_are_given():
    assert asked("a", "b") == ("a", "b", True, {})
    assert asked("a", "b", False, bandwidth=5) == ("a", "b", True, {"live": False, "bandwidth": 5})
    assert asked(guest="a", destination="b", wait=False, tls=None) == (
        "a",
        "b",
        False,
        {"tls": None},
    )
    for arguments, named in ((["a"], {}), (["a", "b"], {"banwidth": 5})):
        with pytest.raises(TypeError):
            asked(*arguments, **named)
