"""A guest's password: what libvirt is asked, and what becomes of its refusals."""

import libvirt
import pytest

from kilonova.host.libvirt.passwords import AGENT_SECONDS, set_password


class Domain:
    """What a domain with an agent would be asked: no image of ours has one."""

    def __init__(self, error: int | None = None, *, active: bool = True) -> None:
        self.error, self.active, self.asked = error, active, []

    def isActive(self) -> bool:
        return self.active

    def agentSetResponseTimeout(self, seconds: int) -> None:
        self.asked.append(seconds)

    def setUserPassword(self, user: str, password: str) -> None:
        if self.error is not None:
            error = libvirt.libvirtError("no")
            error.err = (self.error, 0, "it says no", 0, "", None, None, 0, 0)
            raise error
        self.asked.append((user, password))


def test_the_agent_is_told_the_password() -> None:
    guest = Domain()
    assert set_password(guest, "root", "s3cret") is None
    assert guest.asked == [AGENT_SECONDS, ("root", "s3cret")]


@pytest.mark.parametrize(
    ("guest", "why"),
    [
        (None, "gone"),
        (Domain(active=False), "does not run"),
        (Domain(libvirt.VIR_ERR_AGENT_UNRESPONSIVE), "agent does not answer"),
        (Domain(libvirt.VIR_ERR_INTERNAL_ERROR), "no"),
    ],
)
def test_why_it_was_not_set(guest: Domain | None, why: str) -> None:
    assert why in (set_password(guest, "root", "s3cret") or "")
