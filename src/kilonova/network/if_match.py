"""`If-Match: revision_number=N`: a change that is made only if the row is as the client saw it.

Neutron: the extension revision-if-match, check_request_for_revision_constraint and _enforce_if_match_constraints.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kilonova.model.errors import BadRequest, PreconditionFailed
from kilonova.web.call import Call, Route

TAG = "revision_number="


def obeyed(routes: Mapping[str, Route]) -> dict[str, Route]:
    """The routes; those that change one row, or what is below it, obey the header. Its revision is what GET shows."""
    found = dict(routes)
    for key, route in routes.items():
        method, path = key.split()
        above, below, _ = path.partition("{id}")
        shown = routes.get(f"GET {above}{below}")
        if method in ("PUT", "DELETE") and below and shown is not None and shown.tx is None:
            found[key] = conditional(route, shown, above.strip("/").rpartition("/")[2])
    return found


def conditional(route: Route, shown: Route, collection: str) -> Route:
    def handler(call: Call) -> Any:
        wanted = asked(call.headers.get("if-match", ""))
        if wanted is not None:
            check(call, shown, collection, wanted)
        return route.handler(call)

    return replace(route, handler=handler)


def bad_request(resource: str, reason: str) -> BadRequest:
    return BadRequest(f"Bad {resource} request: {reason}.", type="BadRequest")


def asked(header: str) -> int | None:
    """The revision that the row must have; None when the header names none."""
    tags = [tag.strip().strip('"') for tag in header.split(",")]
    wanted = [tag.removeprefix(TAG) for tag in tags if tag.startswith(TAG)]
    if len(wanted) > 1:
        raise bad_request("if-match", "Multiple revision_number etags are not supported")
    if wanted and not (wanted[0].isascii() and wanted[0].isdecimal() and len(wanted[0]) < 19):
        raise bad_request("if-match", "Revision number etag must be in the format of revision_number=<int>")
    return int(wanted[0]) if wanted else None


def check(call: Call, shown: Route, collection: str, wanted: int) -> None:
    """In the transaction of the change: of two that ask for one revision at once, one starts again and is refused."""
    (body,) = shown.handler(replace(call, query=[])).values()
    if "revision_number" not in body:
        raise bad_request(collection, "Revision matching not supported for this resource")
    if body["revision_number"] != wanted:
        raise PreconditionFailed(
            f"Constrained to {wanted}, but current revision is {body['revision_number']}",
            type="RevisionNumberConstraintFailed",
        )
