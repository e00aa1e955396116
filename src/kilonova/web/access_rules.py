"""The access rules of an application credential: what its tokens may ask of which service (keystonemiddleware's
`_BaseAuthProtocol.validate_allowed_request`)."""

import functools
import re

from kilonova.model.errors import Unauthorized
from kilonova.web.call import Call
from kilonova.web.service import Service

_PARTS = re.compile(r"(?P<some>\{[^}]*\}|\*(?!\*))|(?P<all>\*\*)|(?P<literal>.)", re.DOTALL)


@functools.lru_cache(maxsize=1024)
def parts_of(rule: str) -> tuple[str, ...]:
    """`*` and `{name}` are one segment of a path, or part of one: "*"; `**` is anything; the rest are letters."""
    return tuple("*" if part["some"] else part[0] for part in _PARTS.finditer(rule))


def fits(rule: str, path: str) -> bool:
    """Whether all of the path is as the rule's.

    Not by a regular expression: users write the rules, and one of many `*` would take it years to refuse a path, with all
    other threads waiting. Here bit i of `reached` says that the parts so far may end before the path's letter i: one step
    a part (R. Baeza-Yates, G. Gonnet: A new approach to text searching; MatchStar of Parabix).
    """
    where: dict[str, int] = {}
    for place, letter in enumerate(path):
        where[letter] = where.get(letter, 0) | 1 << place
    end = 1 << len(path)
    within, reached = (end - 1) & ~where.get("/", 0), 1
    for part in parts_of(rule):
        if part == "**":
            reached = (2 * end - 1) & -(reached & -reached)
        elif part == "*":
            begun = (reached & within) << 1
            reached = (((begun & within) + within) ^ within) | begun
        else:
            reached = (reached & where.get(part, 0)) << 1
        if not reached:
            return False
    return bool(reached & end)


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
        asked = kind in types and method == call.method
        if asked and (fits(allowed, path) or fits(allowed, f"/{service.prefix}{path}")):
            return
    raise Unauthorized("The request you have made requires authentication.")
