"""Which policy document an endpoint is to use (OS-ENDPOINT-POLICY): its own, else its service's in its region or in the
regions above, else its service's."""

import sqlalchemy as sa

from kilonova.db.dialect import insert_new
from kilonova.db.engine import Tx
from kilonova.identity import policies, views
from kilonova.identity.records import Row, get, hold, row_of
from kilonova.identity.tables import ENDPOINTS, POLICIES, POLICY_ASSOCIATIONS, REGIONS, SERVICES
from kilonova.model.errors import NotFound
from kilonova.web.call import Call

A = POLICY_ASSOCIATIONS.c
KINDS = (("endpoint_id", ENDPOINTS, "endpoint"), ("service_id", SERVICES, "service"), ("region_id", REGIONS, "region"))


def _target(call: Call) -> tuple[str, Row]:
    """The path's policy, and what it is for: "" for what the path does not name."""
    policy = get(call.tx, POLICIES, "policy", call.params["id"])["id"]
    target = {name: "" for name, _, _ in KINDS}
    for name, table, kind in KINDS:
        if name in call.params:
            target[name] = get(call.tx, table, kind, call.params[name])["id"]
    return policy, target


def _same(target: Row) -> list[sa.ColumnElement[bool]]:
    return [A[name] == value for name, value in target.items()]


def create(call: Call) -> None:
    """PUT: in place of the policy that the target had."""
    policy, target = _target(call)
    hold(call.tx, POLICIES, "policy", policy)
    for name, table, kind in KINDS:
        if target[name]:
            hold(call.tx, table, kind, target[name])
    call.tx.execute(sa.delete(POLICY_ASSOCIATIONS).where(*_same(target)))
    insert_new(call.tx.connection, POLICY_ASSOCIATIONS, {"policy_id": policy, **target})


def check(call: Call) -> None:
    policy, target = _target(call)
    if not call.tx.first(sa.select(POLICY_ASSOCIATIONS).where(A.policy_id == policy, *_same(target))):
        raise NotFound("Could not find policy association.")


def delete(call: Call) -> None:
    check(call)
    policy, target = _target(call)
    call.tx.execute(sa.delete(POLICY_ASSOCIATIONS).where(A.policy_id == policy, *_same(target)))


def list_endpoints(call: Call) -> Row:
    policy = get(call.tx, POLICIES, "policy", call.params["id"])["id"]
    rows = call.tx.all(sa.select(POLICY_ASSOCIATIONS).where(A.policy_id == policy))
    every = [row_of(row) for row in call.tx.all(sa.select(ENDPOINTS).order_by(ENDPOINTS.c.id))]
    above = {row["id"]: row["parent_region_id"] for row in call.tx.all(sa.select(REGIONS))}
    found = [each for each in every if any(_fits(each, row_of(row), above) for row in rows)]
    return views.collection(call, "endpoints", found, views.endpoint)


def _fits(endpoint: Row, association: Row, above: Row) -> bool:
    if association["endpoint_id"]:
        return bool(association["endpoint_id"] == endpoint["id"])
    if association["service_id"] != endpoint["service_id"]:
        return False
    return not association["region_id"] or association["region_id"] in _regions(endpoint["region_id"], above)


def _regions(region: str | None, above: Row) -> list[str]:
    """The region and those above it."""
    found: list[str] = []
    while region and region not in found:
        found.append(region)
        region = above.get(region)
    return found


def show(call: Call) -> Row:
    """GET /v3/endpoints/{id}/OS-ENDPOINT-POLICY/policy."""
    endpoint = get(call.tx, ENDPOINTS, "endpoint", call.params["id"])
    above = {row["id"]: row["parent_region_id"] for row in call.tx.all(sa.select(REGIONS))}
    service = endpoint["service_id"]
    tries = [{"endpoint_id": endpoint["id"], "service_id": "", "region_id": ""}]
    for region in [*_regions(endpoint["region_id"], above), ""]:
        tries.append({"endpoint_id": "", "service_id": service, "region_id": region})
    for target in tries:
        row = call.tx.first(sa.select(A.policy_id).where(*_same(target)))
        if row:
            return {"policy": views.policy(call, policies.told(get(call.tx, POLICIES, "policy", row["policy_id"])))}
    raise NotFound(f"No policy is associated with endpoint {endpoint['id']}.")


def forget(tx: Tx, column: str, keys: list[str]) -> None:
    """Associations of what is being deleted: `column` names what it is."""
    tx.execute(sa.delete(POLICY_ASSOCIATIONS).where(A[column].in_(keys)))
