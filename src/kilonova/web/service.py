"""A service as one value: its routes, policy, manners. `web/router.py` serves it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kilonova.web.call import Context, Route, Version
from kilonova.web.checks import Rule


@dataclass(frozen=True)
class Microversions:
    """`type` as in `OpenStack-API-Version: compute 2.90`, `also` what is taken for it; `legacy_header` is Nova's older."""

    type: str
    minimum: Version
    maximum: Version
    default: Version
    legacy_header: str | None = None
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Service:
    """`prefix` is where it is mounted (`compute`); keys of `routes` are `"METHOD /path/{name}"` below it.

    `fault(status, error_type, message, code, request_id)` gives the body of an error in this service's form.
    `context_hook`: sees who asks before all else, and may refuse.
    `legacy`: an older version's name → the one that serves it, without microversions and forgiving unknown keys.
    `exact_paths`: below a version's root a slash at the end is an empty name, which nothing has.
    `project_in_path`: a version's root may be followed by the project's id, as of old: `/v2.1/{project_id}/servers`.
    `types`: its service types, by which access rules name it; the prefix alone when there are none.
    `namespace`: what goes before a line's name in public: Nova's `os_compute_api:`, but for names of another space.
    `users_rows`: below which paths rows have a user, whom a rule may ask for.
    `parts`: lines of policy that ask of a part of a request, and the operation that it is a part of (`Context.may`).
    `any_scope`: tokens of a domain or of the system are served too; else they get 403 (oslo.policy: enforce_scope).
    """

    prefix: str
    routes: Mapping[str, Route]
    policy: Mapping[str, Rule]
    fault: Callable[["Fault"], Any]
    microversions: Microversions | None = None
    context_hook: Callable[[Context], Context] | None = None
    legacy: Mapping[str, str] = field(default_factory=dict)
    exact_paths: bool = False
    any_scope: bool = False
    project_in_path: bool = False
    types: tuple[str, ...] = ()
    namespace: str = ""
    users_rows: tuple[str, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)

    def rule_name(self, name: str) -> str:
        """A line of `policy` by the name that OpenStack's users and policy files know."""
        return name if name.startswith(f"{self.prefix}:") else self.namespace + name

    def operations(self) -> Iterator[tuple[str, str]]:
        """Each operation and its line of policy, "" where no token is needed."""
        for key, route in self.routes.items():
            if not route.actions:
                yield key, route.policy
            for action, name in route.actions.items():
                yield f"{key} ({action})", name


@dataclass(frozen=True)
class Fault:
    """An error on its way to a client."""

    status: int
    message: str
    type: str
    code: str | None
    request_id: str
    version: Version = (0, 0)
    headers: dict[str, str] = field(default_factory=dict)
