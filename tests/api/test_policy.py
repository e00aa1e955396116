"""Every operation of every service, asked by each persona: who is let in is who the policy table says."""

from pathlib import Path

import pytest
from compute_client import ADMIN_PROJECT, CONTEXTS, DEMO_PROJECT, OTHER_PROJECT
from test_isolation import Everything

from kilonova.app import SERVICES
from kilonova.db.engine import Database
from kilonova.model.ids import new_id
from kilonova.web.call import Context
from kilonova.web.policy import with_implied
from kilonova.web.service import Service


def persona(*roles: str, project: str = "", domain: str = "", system: bool = False) -> Context:
    held = with_implied(frozenset(roles))
    return Context(user_id="e" * 32, project_id=project, domain_id=domain, system=system, roles=held)


PERSONAS = {
    "no role": persona(project=DEMO_PROJECT), "other role": persona("painter", project=DEMO_PROJECT),
    "unscoped": persona("member"),
    "reader": persona("reader", project=DEMO_PROJECT),
    "member": persona("member", project=DEMO_PROJECT), "manager": persona("manager", project=DEMO_PROJECT),
    "admin": persona("admin", project=ADMIN_PROJECT), "service": persona("service", project=ADMIN_PROJECT),
    "other's member": persona("member", project=OTHER_PROJECT),
    "domain reader": persona("reader", domain="default"), "domain manager": persona("manager", domain="default"),
    "domain admin": persona("admin", domain="default"),
    "system reader": persona("reader", system=True), "system admin": persona("admin", system=True),
}  # fmt: skip
ADMINS = {"admin", "domain admin", "system admin"}
MANAGERS = ADMINS | {"manager"}
MEMBERS = MANAGERS | {"member", "other's member"}
READERS = MEMBERS | {"reader"}
# Where services enforce scopes, test_isolation.py asks all with these: they are never let in.
SCOPED = {name for name in PERSONAS if name.startswith(("domain", "system"))}
# A default, as `kilonova policy list` tells it → whom it lets in, each in their own project or domain.
LETS_IN = {
    "@": set(PERSONAS),
    "rule:context_is_admin": ADMINS,
    "rule:context_is_admin or user_id:%(user_id)s": set(PERSONAS),
    "rule:service_api": {"service"},
    "rule:service_or_admin": ADMINS | {"service"},
    "rule:project_manager_or_admin": MANAGERS,
    "rule:project_member_or_admin": MEMBERS,
    "rule:project_member_or_admin or rule:service_api": MEMBERS | {"service"},
    "rule:project_reader_or_admin": READERS,
    "rule:service_or_admin or rule:project_reader_api": READERS | {"service"},
    "rule:admin_required or (role:reader and system_scope:all)": ADMINS | {"system reader"},
    "rule:admin_required or (role:reader and system_scope:all) or (role:reader and domain_id:%(domain_id)s)":
        ADMINS | {"system reader", "domain reader", "domain manager"},
    "rule:admin_required or (role:manager and domain_id:%(domain_id)s)": ADMINS | {"domain manager"},
}  # fmt: skip


@pytest.fixture
def everything(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Everything:
    for name, context in PERSONAS.items():
        monkeypatch.setitem(CONTEXTS, name, context)
    return Everything(database, tmp_path / "images")


def address(service: Service, path: str, project: str = "") -> str:
    """With ids that nobody has; but where the path names a project, with that."""
    id = project if project and ("os-quota-sets" in path or "os-simple-tenant-usage" in path) else new_id()
    return f"/{service.prefix}" + "/".join(id if word.startswith("{") else word for word in path.split("/"))


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.prefix)
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_each_operation_lets_in_whom_its_line_lets_in(everything: Everything, service: Service) -> None:
    wrong, seen = [], 0
    for operation, policy in service.operations():
        method, path, *action = operation.split(maxsplit=2)
        if not policy or "/{project_id}" in path:
            continue
        route = service.routes[f"{method} {path}"]
        expected = LETS_IN[service.policy[policy].text]
        newest = route.until or (service.microversions.maximum if service.microversions else (1, 0))
        headers = {"OpenStack-API-Version": f"{service.prefix} {newest[0]}.{newest[1]}"}
        body = {action[0].strip("()"): None} if action else None
        refusal = (
            service.rule_name(policy)
            if service.prefix == "identity"
            else f"Policy doesn't allow {service.rule_name(policy)} to"
        )
        answer = everything.http.request(method, address(service, path), json=body, headers=headers)
        if answer.status_code != 401:
            wrong.append((operation, "anonymous", answer.status_code, answer.text[:150]))
        for name in PERSONAS.keys() - (set() if service.any_scope else SCOPED):
            seen += 1
            url = address(service, path, PERSONAS[name].project_id)
            answer = everything.http.request(method, url, json=body, headers={**headers, "X-Auth-Token": name})
            refused = answer.status_code == (404 if route.hidden else 403) and (route.hidden or refusal in answer.text)
            # Keystone says the same words of a row that is another's, and Neutron of what it hides: then only administrators,
            # and who may list at all, are known to be let in.
            sure = name in ADMINS or (method == "GET" and "{" not in path and "trusts" not in path)
            wrongly = refused and (sure if service.prefix == "identity" else not route.hidden)
            if (wrongly if name in expected else not refused) or answer.status_code in (401, 500):
                wrong.append((operation, name, answer.status_code, answer.text[:150]))
    assert not wrong, f"{len(wrong)} of {seen}:\n" + "\n".join(map(str, wrong[:40]))
    assert seen > 200
