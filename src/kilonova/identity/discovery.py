"""Version discovery: GET / answers 300 with the choices, GET /v3 the one."""

from typing import Any

from kilonova.web.call import Call, Reply


def _version(call: Call) -> dict[str, Any]:
    return {
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": f"{call.base_url}/v3/"}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    }


def versions(call: Call) -> Reply:
    return Reply({"versions": {"values": [_version(call)]}}, 300, {"Location": f"{call.base_url}/v3/"})


def version(call: Call) -> dict[str, Any]:
    return {"version": _version(call)}
