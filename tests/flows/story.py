"""What a story says of its flow, and what is common to all flows on one kind of subject."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from handcloud import HandCloud


class Life(Protocol):
    """How one kind of subject is deleted, and how it looks then."""

    def delete(self, cloud: HandCloud, id: str) -> bool:
        """As a user or an administrator may at any time; whether it was accepted."""

    def is_gone(self, cloud: HandCloud, id: str) -> bool: ...

    def clear(self, cloud: HandCloud, id: str) -> None:
        """All that the story has made goes; what it left on the host stays to be found."""

    def failed_in(self, cloud: HandCloud, id: str, state: str) -> None:
        """Its flow was unwound, and it is in `state`; "injected here" is told to whom it concerns."""


class ServerLife:
    def delete(self, cloud: HandCloud, id: str) -> bool:
        cloud.delete(id)
        return True

    def is_gone(self, cloud: HandCloud, id: str) -> bool:
        return bool(cloud.server(id)["vm_state"] == "deleted")

    def clear(self, cloud: HandCloud, id: str) -> None:
        if not self.is_gone(cloud, id):
            cloud.delete(id)
            cloud.run()
        assert self.is_gone(cloud, id)

    def failed_in(self, cloud: HandCloud, id: str, state: str) -> None:
        server = cloud.server(id)
        assert (server["vm_state"], server["task_state"]) == (state, None)
        assert "injected here" in server["fault"]["message"]


SERVER = ServerLife()


@dataclass(frozen=True)
class Story:
    """`prepare` gives the subject that the flow needs, or None; `start` begins the flow and gives its subject.

    `done` and `failed` hold what must be true when the flow ended well or unwound; a flow that is owed never fails.
    `failed_in` is the vm_state (the status) of a subject whose flow has failed, or gives it by the step that did.
    """

    prepare: Callable[[HandCloud], str | None]
    start: Callable[[HandCloud, str | None], str]
    done: Callable[[HandCloud, str], None]
    failed: Callable[[HandCloud, str], None] | None = None
    failed_in: str | Callable[[str], str] = "error"
    life: Life = SERVER
