"""The access rules of an application credential: what its tokens may ask of which service (keystonemiddleware's
`_BaseAuthProtocol.validate_allowed_request`)."""

import functools
import re

from kilonova.model.errors import Unauthorized
from kilonova.web.call import Call
from kilonova.web.service import Service

_PARTS = re.compile(r"(?P<some>\{[^}]*\}|\*(?!\*))|(?P<all>\*\*)|(?P<literal>.)", re.DOTALL)


@functools.lru_cache(maxsize=1024)
def pattern(path: str) -> re.Pattern[str]:
    """`*` and `{name}` are one segment of a path, or part of one; `**` is anything."""
    found = ""
    for part in _PARTS.finditer(path):
        found += "[^/]+" if part["some"] else ".*" if part["all"] else re.escape(part[0])
    return re.compile(found, re.DOTALL)


def check(service: Service, call: Call) -> None:
    """Unauthorized unless the token has no rules, or one of them allows this request.

    A rule's path is the service's own (`/v2.1/servers`), with or without the place where it is mounted (`/compute`).
    A token may always ask what it is itself.
    """
    rules = call.context.access_rules
    if rules is None:
        return
    path = "/" + call.path
    if service.prefix == "identity" and call.method == "GET" and path == "/v3/auth/tokens":
        return
    types = service.types or (service.prefix,)
    for kind, method, allowed in rules:
        if kind in types and method == call.method:
            expression = pattern(allowed)
            if expression.fullmatch(path) or expression.fullmatch(f"/{service.prefix}{path}"):
                return
    raise Unauthorized("The request you have made requires authentication.")
