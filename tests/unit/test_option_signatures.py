"""The doors' parameters for the options of a migration: declared once, and seen by Salt."""

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
    assert all(f"\n    {key}\n        " in function.__doc__ for key in options.ARGUMENTS)
    assert "|options|" not in function.__doc__


@doors.takes_options
def asked(guest, destination, wait=True, **named):
    """Return what arrives.

    |options|
    """
    return guest, destination, wait, named


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
