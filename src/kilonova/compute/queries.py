"""Which parameters a query may have: since when Nova refuses others (its `query_schema` with additionalProperties False).

Since 2.75 the lists that filter are strict, since 2.102 every other GET is.
"""

from collections.abc import Mapping
from dataclasses import replace

from kilonova.compute import listing
from kilonova.web.call import Route, Version

Known = Mapping[Version, frozenset[str]]


def _since(*steps: tuple[int, str]) -> Known:
    """(minor version, the names that it adds to those before it)…"""
    known: dict[Version, frozenset[str]] = {}
    names: frozenset[str] = frozenset()
    for minor, more in steps:
        names |= frozenset(more.split())
        known[2, minor] = names
    return known


_ALL_SERVERS: Known = {(2, 75): listing.NAMES}
_FLAVORS = _since((75, "limit marker is_public minRam minDisk sort_key sort_dir"), (102, "name"))
_QUOTAS = _since((75, "user_id"))
_HYPERVISORS = _since((53, "limit marker hypervisor_hostname_pattern with_servers"))
_PAGE = _since((75, "limit offset"))
_PERIOD = "start end limit marker"
_MIGRATIONS = "hidden host instance_uuid source_compute status migration_type limit marker changes-since"

KNOWN: dict[str, Known] = {
    "GET /servers": _ALL_SERVERS,
    "GET /servers/detail": _ALL_SERVERS,
    "GET /servers/{server_id}/os-instance-actions": _since((58, "limit marker changes-since"), (66, "changes-before")),
    "GET /servers/{server_id}/os-volume_attachments": _PAGE,
    "GET /servers/{server_id}/shares": _since((97, "")),
    "GET /servers/{server_id}/shares/{id}": _since((97, "")),
    "GET /os-migrations": _since((59, _MIGRATIONS), (66, "changes-before"), (80, "user_id project_id")),
    "GET /flavors": _FLAVORS,
    "GET /flavors/detail": _FLAVORS,
    "GET /os-keypairs": _since((75, "user_id limit marker")),
    "GET /os-keypairs/{id}": _since((75, "user_id")),
    "DELETE /os-keypairs/{id}": _since((75, "user_id")),
    "GET /os-services": _since((75, "host binary")),
    "GET /os-hypervisors": _HYPERVISORS,
    "GET /os-hypervisors/detail": _HYPERVISORS,
    "GET /os-hypervisors/{id}": _since((53, "with_servers")),
    "GET /os-server-groups": _since((75, "all_projects limit offset")),
    "GET /os-simple-tenant-usage": _since((75, f"{_PERIOD} detailed")),
    "GET /os-simple-tenant-usage/{id}": _since((75, _PERIOD)),
    "GET /limits": _since((75, "tenant_id")),
    "GET /os-quota-sets/{id}": _QUOTAS,
    "GET /os-quota-sets/{id}/detail": _QUOTAS,
    "PUT /os-quota-sets/{id}": _QUOTAS,
    "DELETE /os-quota-sets/{id}": _QUOTAS,
    "DELETE /os-assisted-volume-snapshots/{id}": _since((75, "delete_info")),
    "GET /os-console-auth-tokens/{id}": _since((99, "")),
}
NO_OTHERS = _since((102, ""))


def strict(routes: Mapping[str, Route]) -> dict[str, Route]:
    """The routes, each with what its query may have."""
    return {key: replace(route, query=_known(key)) if route.policy else route for key, route in routes.items()}


def _known(key: str) -> Known:
    method, path = key.split()
    return KNOWN.get(f"{method} {path.removeprefix('/v2.1')}", NO_OTHERS if method == "GET" else {})
