"""How a node that is declared offline shows that it is not: by any response."""

import pytest

from saltext_kvmcluster.core.trust import logins
from saltext_kvmcluster.core.trust.logins import LoginProbe, response


@pytest.mark.parametrize(
    ("code", "error", "found"),
    [
        (0, "", "accepts ssh logins"),
        (1, "", "accepts ssh logins"),
        (255, "connect to host x port 22: Connection refused", "refuses connections"),
        (255, "Permission denied (publickey)", "refuses ssh logins"),
        (255, "REMOTE HOST IDENTIFICATION HAS CHANGED", "another host key"),
        (255, "Host key verification failed.", "unknown host key"),
        (255, "Connection timed out during banner exchange", "accepts connections"),
        (255, "kex_exchange_identification: read: Connection reset", "drops"),
    ],
)
def test_a_response_is_told_with_its_name(code, error, found):
    told = response("x-mig", LoginProbe(code, "", error, 0.1), echoes=False)
    assert told.startswith("x-mig ") and found in told


@pytest.mark.parametrize(
    "error",
    [
        "connect to host x port 22: Connection timed out",
        "connect to host x port 22: No route to host",
        "Could not resolve hostname x",
        "something else",
        "",
    ],
)
@pytest.mark.parametrize("code", [None, 255])
def test_silence_is_none_unless_it_echoes(code, error):
    silent = LoginProbe(code, "", error, 5.0)
    assert response("x", silent, echoes=False) == ""
    assert response("x", silent, echoes=True) == "x responds to ping"


def test_every_response_is_a_cause():
    assert set(logins.RESPONSES) <= {logins.OK, *logins.REMEDIES}
