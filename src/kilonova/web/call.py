"""What a handler is given (`Call`) and what it may answer (`Reply`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from kilonova.db.engine import Database, Tx
from kilonova.web.validate import check

if TYPE_CHECKING:
    from kilonova.web.checks import Rule
    from kilonova.web.policy import Rules
    from kilonova.web.service import Service

Version = tuple[int, int]


@dataclass(frozen=True)
class Context:
    """Who asks: the token's user, and its scope. Empty ids where the token has none.

    `application_credential_id` and `trust_id` tell by what the token was delegated; `unrestricted` that it may manage
    further delegations; `methods` how its user proved to be that. `access_rules`: (service type, method, path pattern) of
    all that it may ask; None: anything.
    """

    user_id: str = ""
    user_name: str = ""
    user_domain_id: str = ""
    project_id: str = ""
    project_name: str = ""
    project_domain_id: str = ""
    domain_id: str = ""
    system: bool = False
    roles: frozenset[str] = frozenset()
    token: str = ""
    request_id: str = ""
    application_credential_id: str = ""
    unrestricted: bool = True
    trust_id: str = ""
    methods: tuple[str, ...] = ()
    access_rules: tuple[tuple[str, str, str], ...] | None = None
    admin: bool | None = None  # as an operator's context_is_admin has it; None: by the role
    row_rule: tuple["Service", str, "Rule"] | None = None  # an operator's, for rows: web/policy.py, check_row
    parts: Mapping[str, "Rule"] | None = None  # an operator's, for parts of requests: `may`

    @property
    def is_admin(self) -> bool:
        return "admin" in self.roles if self.admin is None else self.admin

    def may(self, part: str, usual: bool | None = None, **target: str) -> bool:
        """Whether a part of a request is the caller's to have, by its line of policy (`Service.parts`).

        `usual`: by its default; None: administrators alone. `target`: what an operator's rule may ask beside.
        """
        found = self.parts.get(part) if self.parts else None
        return found(self, target) if found else self.is_admin if usual is None else usual


@dataclass
class Call:
    """One request, inside its transaction.

    `params` are the path's `{names}`; `query` keeps repeated keys in order; `body` is the parsed JSON (None if there was
    none); `version` is the negotiated microversion; `base_url` is the service's public root without a trailing slash
    (`http://127.0.0.1:8080/compute/v2.1`'s service part: `http://127.0.0.1:8080/compute`); `legacy` says that an older
    version's name was asked for (`Service.legacy`).
    """

    method: str
    path: str
    params: Mapping[str, str]
    query: list[tuple[str, str]]
    headers: Mapping[str, str]
    body: Any
    context: Context
    version: Version
    base_url: str
    database: Database
    services: Any
    rules: "Rules"
    _tx: Tx | None = None
    legacy: bool = False
    path_project: str | None = None  # of an address that names a project (`Service.project_in_path`)
    client: str = ""  # the address that asks
    stream: Any = None  # an iterator over the request's bytes, for routes with body="stream"

    @property
    def tx(self) -> Tx:
        assert self._tx is not None, "this route opens its own transactions"
        return self._tx

    @property
    def api_url(self) -> str:
        """The root of the API version that was asked for: `http://127.0.0.1:8080/compute/v2.1`."""
        return f"{self.base_url}/{self.path.partition('/')[0]}"

    def check(self, value: Any, schema: Any) -> None:
        """BadRequest when `value` does not fit; older versions' unknown keys are dropped from it instead."""
        check(value, schema, relaxed=self.legacy)

    def arg(self, name: str, default: str | None = None) -> str | None:
        """The query parameter's last value."""
        for key, value in reversed(self.query):
            if key == name:
                return value
        return default

    def args(self, name: str) -> list[str]:
        return [value for key, value in self.query if key == name]

    def since(self, minor: int) -> bool:
        """Whether the negotiated microversion is at least (major.)`minor`."""
        return self.version[1] >= minor


@dataclass(frozen=True)
class Reply:
    """`body`: a JSON value, bytes, or an iterator of bytes; None for an empty answer. `status` None: the route's own."""

    body: Any = None
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[[Call], Any]


@dataclass(frozen=True)
class Route:
    """One operation. `policy` names its line in the service's policy table; "" needs no token.

    `tx`: "write" | "read" (the handler runs inside that transaction, and may be replayed: no I/O), or "none".
    `schema`: a JSON schema of the body, or a function from the microversion to one.
    Outside `since`…`until` (microversions) the operation answers 404, as OpenStack's do. `hidden`: who may not is told
    that nothing is there, 404, not 403 (Neutron: PolicyHook, of what may not be shown).
    `actions`: where a body's one key names what to do, that key → its line of policy, asked in place of `policy`.
    `query`: since which microversion a query may have these parameters alone; others are refused (400).
    """

    handler: Handler
    policy: str
    status: int = 200
    tx: Literal["write", "read", "none"] | None = None  # None: read for GET and HEAD, else write
    schema: Any = None
    since: Version | None = None
    until: Version | None = None
    body: Literal["json", "stream"] = "json"
    hidden: bool = False
    query: Mapping[Version, frozenset[str]] = field(default_factory=dict)
    actions: Mapping[str, str] = field(default_factory=dict)
