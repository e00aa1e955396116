"""The routes of what Neutron calls service plugins: metering, QoS, trunks."""

from typing import Any

from kilonova.network import attributes as a
from kilonova.network import metering, qos_policies, qos_rules, query, trunks
from kilonova.network.handlers import body_of, creator, deleter, lister, shower, updater
from kilonova.web.call import Call, Route
from kilonova.web.policy import admin, project_manager, project_member, project_reader

LABEL, RULE = metering.label_bodies, metering.rule_bodies
LABELS, RULES = "/v2.0/metering/metering-labels", "/v2.0/metering/metering-label-rules"

METERING: dict[str, Route] = {
    f"GET {LABELS}": Route(lister("metering_labels", metering.list_labels, LABEL), "get_metering_label"),
    f"POST {LABELS}": Route(
        creator("metering_label", "metering_labels", metering.create_label, LABEL), "create_metering_label", status=201
    ),
    f"GET {LABELS}/{{id}}": Route(shower("metering_label", metering.get_label, LABEL), "get_metering_label"),
    f"DELETE {LABELS}/{{id}}": Route(deleter(metering.delete_label), "delete_metering_label", status=204),
    f"GET {RULES}": Route(lister("metering_label_rules", metering.list_rules, RULE), "get_metering_label_rule"),
    f"POST {RULES}": Route(
        creator("metering_label_rule", "metering_label_rules", metering.create_rule, RULE),
        "create_metering_label_rule",
        status=201,
    ),
    f"GET {RULES}/{{id}}": Route(shower("metering_label_rule", metering.get_rule, RULE), "get_metering_label_rule"),
    f"DELETE {RULES}/{{id}}": Route(deleter(metering.delete_rule), "delete_metering_label_rule", status=204),
}


def list_rule_types(call: Call) -> Any:
    """`all_rules`: those too that are not made true."""
    flags = {name: a.checked(name, a.boolean, call.arg(name, "false")) for name in ("all_rules", "all_supported")}
    return {"rule_types": [query.fields(call, each) for each in qos_rules.rule_types(every=flags["all_rules"])]}


def show_rule_type(call: Call) -> Any:
    return {"rule_type": query.fields(call, qos_rules.rule_type(call.params["id"]))}


def qos_rule_routes(kind: str) -> dict[str, Route]:
    """Rules below their policy, and by their own ids alone (extension qos-rules-alias)."""
    name = f"{kind}_rule"
    path, alias = f"/v2.0/qos/policies/{{policy_id}}/{name}s", f"/v2.0/qos/alias-{name.replace('_', '-')}s/{{id}}"

    def policy(call: Call) -> str:
        if "policy_id" in call.params:
            return call.params["policy_id"]
        return qos_rules.policy_of(call.tx, call.context, kind, call.params["id"])

    def many(call: Call) -> Any:
        found, links = qos_rules.list_page(call, call.params["policy_id"], kind)
        return {f"{name}s": [query.fields(call, qos_rules.body(row)) for row in found], **links}

    def make(call: Call) -> Any:
        row = qos_rules.create(call.tx, call.context, call.params["policy_id"], kind, body_of(call, name))
        return {name: qos_rules.body(row)}

    def show(call: Call) -> Any:
        policy_id = qos_policies.get_own(call.tx, call.context, policy(call))["id"]
        found = qos_rules.body(qos_rules.get(call.tx, policy_id, kind, call.params["id"]))
        return {name if "policy_id" in call.params else f"alias_{name}": query.fields(call, found)}

    def change(call: Call) -> Any:
        key = name if "policy_id" in call.params else f"alias_{name}"
        row = qos_rules.update(call.tx, call.context, policy(call), kind, call.params["id"], body_of(call, key))
        return {key: qos_rules.body(row)}

    def remove(call: Call) -> None:
        qos_rules.delete(call.tx, call.context, policy(call), kind, call.params["id"])

    return {
        f"GET {path}": Route(many, f"get_policy_{name}"),
        f"POST {path}": Route(make, f"create_policy_{name}", status=201),
        **{
            key: route
            for where, line in ((f"{path}/{{id}}", f"policy_{name}"), (alias, f"alias_{name}"))
            for key, route in {
                f"GET {where}": Route(show, f"get_{line}"),
                f"PUT {where}": Route(change, f"update_{line}"),
                f"DELETE {where}": Route(remove, f"delete_{line}", status=204),
            }.items()
        },
    }


POLICIES, POLICY_BODY = "/v2.0/qos/policies", qos_policies.bodies
QOS: dict[str, Route] = {
    f"GET {POLICIES}": Route(lister("policies", qos_policies.list_page, POLICY_BODY), "get_policy"),
    f"POST {POLICIES}": Route(
        creator("policy", "policies", qos_policies.create, POLICY_BODY), "create_policy", status=201
    ),
    f"GET {POLICIES}/{{id}}": Route(shower("policy", qos_policies.get, POLICY_BODY), "get_policy"),
    f"PUT {POLICIES}/{{id}}": Route(updater("policy", qos_policies.update, POLICY_BODY), "update_policy"),
    f"DELETE {POLICIES}/{{id}}": Route(deleter(qos_policies.delete), "delete_policy", status=204),
    "GET /v2.0/qos/rule-types": Route(list_rule_types, "get_rule_types", tx="none"),
    "GET /v2.0/qos/rule-types/{id}": Route(show_rule_type, "get_rule_type", tx="none"),
    **{key: route for kind in qos_rules.TYPES for key, route in qos_rule_routes(kind).items()},
}


def add_subports(call: Call) -> Any:
    return trunks.bodies(call.tx, call.context, [trunks.add(call.tx, call.context, call.params["id"], call.body)])[0]


def remove_subports(call: Call) -> Any:
    return trunks.bodies(call.tx, call.context, [trunks.remove(call.tx, call.context, call.params["id"], call.body)])[0]


def get_subports(call: Call) -> Any:
    trunk = trunks.get(call.tx, call.context, call.params["id"])
    return {"sub_ports": trunks.members(call.tx, [trunk["id"]])[trunk["id"]]}


TRUNKS: dict[str, Route] = {
    "GET /v2.0/trunks": Route(lister("trunks", trunks.list_page, trunks.bodies), "get_trunk"),
    "POST /v2.0/trunks": Route(creator("trunk", "trunks", trunks.create, trunks.bodies), "create_trunk", status=201),
    "GET /v2.0/trunks/{id}": Route(shower("trunk", trunks.get, trunks.bodies), "get_trunk"),
    "PUT /v2.0/trunks/{id}": Route(updater("trunk", trunks.update, trunks.bodies), "update_trunk"),
    "DELETE /v2.0/trunks/{id}": Route(deleter(trunks.delete), "delete_trunk", status=204),
    "GET /v2.0/trunks/{id}/get_subports": Route(get_subports, "get_subports"),
    "PUT /v2.0/trunks/{id}/add_subports": Route(add_subports, "add_subports"),
    "PUT /v2.0/trunks/{id}/remove_subports": Route(remove_subports, "remove_subports"),
}

# What a router's flavor would name; there are no flavors, and one kind of router.
PROVIDER = {"service_type": "L3_ROUTER_NAT", "name": "single_node", "default": True}


def list_providers(call: Call) -> Any:
    wanted = [value == str(PROVIDER[name]) for name in PROVIDER for value in call.args(name)]
    return {"service_providers": [query.fields(call, PROVIDER)] if all(wanted) else []}


MEMBERS = ("create_trunk", "update_trunk", "delete_trunk", "add_subports", "remove_subports")
MANAGERS = (
    "create_metering_label", "delete_metering_label", "create_metering_label_rule", "delete_metering_label_rule",
    "create_policy", "update_policy", "delete_policy",
    *(f"create_policy_{kind}_rule" for kind in qos_rules.TYPES),
    *(f"{verb}_{of}_{kind}_rule" for verb in ("update", "delete") for of in ("policy", "alias") for kind in qos_rules.TYPES),
)  # fmt: skip
READERS = (
    "get_metering_label",
    "get_metering_label_rule",
    "get_policy",
    *(f"get_{of}_{kind}_rule" for of in ("policy", "alias") for kind in qos_rules.TYPES),
    "get_rule_types",
    "get_trunk",
    "get_subports",
    "get_service_provider",
)

ROUTES = {
    **METERING,
    **QOS,
    **TRUNKS,
    "GET /v2.0/service-providers": Route(list_providers, "get_service_provider", tx="none"),
}
POLICY = {
    "get_rule_type": admin,
    **dict.fromkeys(MANAGERS, project_manager),
    **dict.fromkeys(MEMBERS, project_member),
    **dict.fromkeys(READERS, project_reader),
}
