"""What the routes below /flavors and /os-keypairs do."""

from typing import Any

from kilonova.compute import flavors, keypairs, views
from kilonova.compute.patterns import Pattern
from kilonova.compute.quotas import check_project
from kilonova.model.errors import BadRequest, Forbidden, NotFound
from kilonova.web import paging
from kilonova.web.call import Call, Reply
from kilonova.web.validate import whole


def _rows(call: Call) -> list[Any]:
    public: bool | None = True
    text = call.arg("is_public")
    if call.context.is_admin and text is not None:
        public = None if text.lower() == "none" else _boolean(text)
    sort = call.arg("sort_key", "flavorid") or "flavorid"
    direction = call.arg("sort_dir", "asc") or "asc"
    gone = sort == "rxtx_factor" and call.since(102)
    if gone or sort not in flavors.SORT_KEYS or direction not in ("asc", "desc"):
        raise BadRequest(f"Invalid input for query parameters sort_key, sort_dir. Value: {sort}, {direction}.")
    name = call.arg("name")
    wanted = flavors.Wanted(
        is_public=public, min_ram=_number(call, "minRam"), min_disk=_number(call, "minDisk"),
        name=None if name is None or not call.since(102) else Pattern("name", name), sort=(sort, direction),
    )  # fmt: skip
    return flavors.list_flavors(call.tx, call.context, wanted, paging.limit(call), call.arg("marker"))


def _boolean(text: str) -> bool:
    if text.lower() in ("1", "t", "true", "on", "y", "yes"):
        return True
    if text.lower() in ("0", "f", "false", "off", "n", "no"):
        return False
    raise BadRequest(f"Invalid is_public filter [{text}]")


def _number(call: Call, name: str) -> int:
    text = call.arg(name, "0") or "0"
    number = whole(text)
    if number is None or number > flavors.MAX_INT:
        raise BadRequest(f"Invalid {name} filter [{text[:80]}]")
    return number


def index(call: Call) -> dict[str, Any]:
    rows = _rows(call)
    return _collection(call, rows, [views.flavor_basic(call, row) for row in rows], "flavors")


def detail(call: Call) -> dict[str, Any]:
    rows = _rows(call)
    return _collection(call, rows, [views.flavor(call, row) for row in rows], "flavors/detail")


def _collection(call: Call, rows: list[Any], bodies: list[Any], path: str) -> dict[str, Any]:
    out: dict[str, Any] = {"flavors": bodies}
    url = f"{call.api_url}/{path}"
    if rows and (links := paging.next_link(call, rows, paging.limit(call), url, rows[-1]["id"])):
        out["flavors_links"] = links
    return out


def show(call: Call) -> dict[str, Any]:
    return {"flavor": views.flavor(call, flavors.get(call.tx, call.context, call.params["id"]))}


def create(call: Call) -> dict[str, Any]:
    return {"flavor": views.flavor(call, flavors.create(call.tx, call.body["flavor"]))}


def update(call: Call) -> dict[str, Any]:
    description = call.body["flavor"]["description"]
    row = flavors.update(call.tx, call.context, call.params["id"], description=description)
    return {"flavor": views.flavor(call, row)}


def delete(call: Call) -> None:
    flavors.delete(call.tx, call.context, call.params["id"])


def extra_specs(call: Call) -> dict[str, Any]:
    return {"extra_specs": flavors.get(call.tx, call.context, call.params["flavor_id"])["extra_specs"]}


def set_extra_specs(call: Call) -> dict[str, Any]:
    specs = flavors.set_extra_specs(call.tx, call.context, call.params["flavor_id"], call.body["extra_specs"])
    return {"extra_specs": specs}


def extra_spec(call: Call) -> dict[str, str]:
    key = call.params["id"]
    return {key: flavors.extra_spec(call.tx, call.context, call.params["flavor_id"], key)}


def set_extra_spec(call: Call) -> dict[str, str]:
    if call.params["id"] not in call.body:
        raise BadRequest("Request body and URI mismatch")
    return flavors.set_extra_specs(call.tx, call.context, call.params["flavor_id"], call.body)


def delete_extra_spec(call: Call) -> None:
    flavors.delete_extra_spec(call.tx, call.context, call.params["flavor_id"], call.params["id"])


def access(call: Call) -> dict[str, Any]:
    flavor = flavors.get(call.tx, call.context, call.params["flavor_id"])
    if flavor["is_public"]:
        raise NotFound("Access list not available for public flavors.")
    return _access(call, flavor["id"])


def _access(call: Call, id: str) -> dict[str, Any]:
    return {"flavor_access": [{"flavor_id": id, "tenant_id": project} for project in flavors.access(call.tx, id)]}


def action(call: Call) -> dict[str, Any]:
    id = call.params["id"]
    name, argument = next(iter(call.body.items()))
    if name == "addTenantAccess":
        check_project(call.tx, argument["tenant"])
        flavors.add_access(call.tx, call.context, id, argument["tenant"])
    else:  # also of a project that is gone
        flavors.remove_access(call.tx, call.context, id, argument["tenant"])
    return _access(call, id)


# --- keypairs ----------------------------------------------------------------------------------------------------------


def _user(call: Call, asked: str | None) -> str:
    """The caller, or since 2.10 another user when an administrator asks."""
    if not call.since(10) or asked is None or asked == call.context.user_id:
        return call.context.user_id
    if not call.context.is_admin:
        raise Forbidden("Policy doesn't allow os_compute_api:os-keypairs to be performed.")
    return asked


def list_keypairs(call: Call) -> dict[str, Any]:
    user, size = _user(call, call.arg("user_id")), None
    if call.since(35):
        size = paging.limit(call)
    rows = keypairs.list_keypairs(call.tx, user, size, call.arg("marker") if call.since(35) else None)
    out: dict[str, Any] = {"keypairs": [{"keypair": views.keypair(call, row)} for row in rows]}
    url = f"{call.api_url}/os-keypairs"
    if size and rows and (links := paging.next_link(call, rows, size, url, rows[-1]["name"])):
        out["keypairs_links"] = links
    return out


def show_keypair(call: Call) -> dict[str, Any]:
    row = keypairs.get(call.tx, _user(call, call.arg("user_id")), call.params["id"])
    return {"keypair": views.keypair_show(call, row)}


def create_keypair(call: Call) -> Reply:
    asked = call.body["keypair"]
    user, name = _user(call, asked.get("user_id")), keypairs.checked_name(asked["name"], wide=call.since(92))
    kind, public = asked.get("type", "ssh"), asked.get("public_key")
    row, private = keypairs.create(call.tx, call.context, user, name, kind, public)
    body = views.keypair(call, row, "user_id") | ({"private_key": private} if private else {})
    return Reply({"keypair": body}, status=201 if call.since(2) else 200)


def delete_keypair(call: Call) -> Reply:
    keypairs.delete(call.tx, _user(call, call.arg("user_id")), call.params["id"])
    return Reply(status=204 if call.since(2) else 202)
