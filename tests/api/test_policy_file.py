"""An operator's policy.yaml: the language, what a bad file says, and what changes at the door."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from compute_client import ADMIN, CONTEXTS, DEMO, DEMO_PROJECT, OTHER, READER, Nova, authenticate
from image_stores import file_stores
from starlette.testclient import TestClient
from typer.testing import CliRunner

from kilonova.app import SERVICES, Cloud
from kilonova.cli import app
from kilonova.compute.routes import SERVICE as COMPUTE
from kilonova.config import Config
from kilonova.db.engine import Database
from kilonova.identity.routes import SERVICE as IDENTITY
from kilonova.image.imports import Imports
from kilonova.image.routes import SERVICE as IMAGE
from kilonova.model.errors import KilonovaError
from kilonova.network.routes import SERVICE as NETWORK
from kilonova.policy_file import PolicyFile
from kilonova.web.call import Context
from kilonova.web.checks import BadCheck
from kilonova.web.policy import rule
from kilonova.web.router import Application

WHO = Context(user_id="u", project_id="p", user_domain_id="d", roles=frozenset({"member", "Reader"}))
DOMAIN = Context(user_id="u", domain_id="d", roles=frozenset({"manager"}))
SYSTEM = Context(user_id="u", system=True, roles=frozenset({"admin"}))
MINE, OTHERS = {"project_id": "p", "user_id": "u"}, {"project_id": "q", "user_id": "v"}


@pytest.mark.parametrize(("text", "who", "target", "let"), [
    ("", WHO, OTHERS, True), ("@", WHO, OTHERS, True), ("!", SYSTEM, MINE, False),
    ("role:member", WHO, OTHERS, True), ("role:admin", WHO, MINE, False), ("role:READER", WHO, OTHERS, True),
    ("not role:admin", WHO, MINE, True), ("not not role:admin", WHO, MINE, False), ("NOT role:member", WHO, MINE, False),
    ("role:admin or role:member", WHO, MINE, True), ("role:admin and role:member", WHO, MINE, False),
    ("role:member or role:reader and role:admin", WHO, MINE, True),  # and binds more tightly
    ("(role:member or role:reader) and role:admin", WHO, MINE, False),
    ("not role:admin and role:member", WHO, MINE, True), ("not (role:admin or role:member)", WHO, MINE, False),
    ("((role:member))and(role:reader)", WHO, MINE, True),
    ("project_id:%(project_id)s", WHO, MINE, True), ("project_id:%(project_id)s", WHO, OTHERS, False),
    ("project_id:%(project_id)s", WHO, {}, True), ("tenant_id:%(tenant_id)s", WHO, OTHERS, False),
    ("project_id:%(project_id)s", DOMAIN, {}, False), ("project_id:%(project_id)s", SYSTEM, {"project_id": ""}, False),
    ("user_id:%(user_id)s", WHO, MINE, True), ("user_id:%(user_id)s", WHO, OTHERS, False),
    ("user_id:u", WHO, OTHERS, True), ("user_id:v", WHO, OTHERS, False), ("user_domain_id:d", WHO, OTHERS, True),
    ("system_scope:all", SYSTEM, {}, True), ("system_scope:all", WHO, {}, False),
    ("domain_id:%(domain_id)s", DOMAIN, {}, True), ("domain_id:%(domain_id)s", DOMAIN, {"domain_id": "e"}, False),
    ("is_admin:True", SYSTEM, {}, True), ("is_admin:1", SYSTEM, {}, True), ("is_admin:True", WHO, {}, False),
    ("rule:project_member_or_admin", WHO, OTHERS, False), ("rule:project_member_or_admin", SYSTEM, OTHERS, True),
    ("rule:project_member_or_admin and not rule:context_is_admin", WHO, MINE, True),
])  # fmt: skip
def test_the_language(text: str, who: Context, target: dict[str, str], let: bool) -> None:
    assert rule(text)(who, target) is let


@pytest.mark.parametrize(("text", "said"), [
    ("role:", "is no check"), ("member", "is no check"), ("role:a role:b", "was not expected"), ("(role:a", "not closed"),
    ("role:a)", "was not expected"), ("role:a and", "ends where"), ("or role:a", "is no check"), ("not", "ends where"),
    ("rule:nowhere", "there is no rule"), ("http://example.org/", "http: is not known"),
    ("field:networks:shared=True", "field: is not known"), ("project_id:%(target.project.id)s", "is not known"),
    ("project_id:%(project_id)", "cannot be read"), ("role:%(role)s", "only a role's name"), ("colour:red", "is not known"),
    ("(" * 60 + "@" + ")" * 60, "more than 50 deep"),
])  # fmt: skip
def test_what_cannot_be_read_is_said(text: str, said: str) -> None:
    with pytest.raises(BadCheck, match="(?s)" + said.replace("(", r"\(")):
        rule(text)


@pytest.mark.parametrize(("text", "said"), [
    ('\n"os_compute_api:servers:stop": "role:"', r"line 2: os_compute_api:servers:stop: 'role:' is no check"),
    ('"os_compute_api:servers:halt": "role:member"', r"line 1: os_compute_api:servers:halt: no operation .* asks this rule"),
    ('"create_port": "rule:mine"', "line 1: create_port: there is no rule 'mine'"),
    ('"create_port": "rule:a"\n"a": "rule:b"\n"b": "rule:a"', "line 1: create_port: it leads back to itself: .*a → b → a"),
    ('"create_port": "@"\n"create_port": "!"', "line 2: create_port: the file has another rule of this name"),
    ('"create_port": "user_id:%(user_id)s"', "line 1: create_port: %.user_id.s is asked, and nothing .* has a user"),
    ('"create_network:shared": "user_id:%(user_id)s"', "line 1: create_network:shared: %.user_id.s is asked, and nothing"),
    ('"create_port": "rule:network_owner"', "line 1: create_port: %.network:project_id.s is asked, and nothing"),
    ('"create_network:colour": "@"', "line 1: create_network:colour: no operation of this cloud asks this rule"),
    ('"create_port": !', "line 1: create_port: a rule is a text in quotes"),
    ('"create_port":', "line 1: create_port: a rule is a text in quotes"),
    ('"create_port": true', "line 1: create_port: a rule is a text in quotes"),
    ('"create_port": @', "line 1: this is no YAML"), ('"create_port": "@', "this is no YAML"),
    ("- a", "line 1: a policy file has lines such as"), ("'create_port': [[[a]]]", "create_port: "),
])  # fmt: skip
def test_a_bad_file_is_refused_by_line_and_rule(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    with pytest.raises(KilonovaError, match=said):
        PolicyFile(file, SERVICES)


def test_up_refuses_a_bad_file_at_its_start(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text('"create_port": "role:"')
    with pytest.raises(KilonovaError, match=r"policy\.yaml, line 1: create_port: 'role:' is no check"):
        Cloud(Config(state=tmp_path, virt="fake"))
    assert [each.name for each in tmp_path.iterdir()] == ["policy.yaml"], "and nothing was begun"


class Ruled:
    """The services by an operator's file: `ruled("rules")` writes it while they run."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.file, self.lines = folder / "policy.yaml", 0
        self.nova = Nova(database)
        stores = file_stores(folder)
        shared = SimpleNamespace(**vars(self.nova.shared), images=stores, imports=Imports(database, stores))
        services = (COMPUTE, NETWORK, IDENTITY, IMAGE)
        self.policies = PolicyFile(self.file, services)
        application = Application(
            services, database, authenticate, shared, "http://testserver", policies=self.policies
        )
        self.http = TestClient(application, raise_server_exceptions=True)

    def __call__(self, text: str) -> None:
        self.lines += 1  # a different size, whatever the clock of the file system
        self.file.write_text(text + "\n" + "#" * self.lines)

    def ask(self, method: str, path: str, token: str = DEMO, body: object = None) -> int:
        headers = {"X-Auth-Token": token, "OpenStack-API-Version": "compute 2.104"}
        return self.http.request(method, path, json=body, headers=headers).status_code


@pytest.fixture
def ruled(database: Database, tmp_path: Path) -> Ruled:
    return Ruled(database, tmp_path)


def test_a_file_narrows_and_widens_while_the_cloud_runs(ruled: Ruled) -> None:
    hosts, networks = "/compute/v2.1/os-hypervisors", "/network/v2.0/networks"
    make = {"network": {"name": "n"}}
    assert [ruled.ask("GET", hosts, READER), ruled.ask("POST", networks, DEMO, make)] == [403, 201]
    ruled('"os_compute_api:os-hypervisors:list": "rule:seers"\n"seers": "role:reader"\n"create_network": "!"')
    assert [ruled.ask("GET", hosts, READER), ruled.ask("POST", networks, DEMO, make)] == [200, 403]
    assert ruled.ask("POST", networks, ADMIN, make) == 403
    ruled('"os_compute_api:os-hypervisors:list": "role:')  # a bad one changes nothing
    assert [ruled.ask("GET", hosts, READER), ruled.ask("POST", networks, DEMO, make)] == [200, 403]
    ruled.file.unlink()  # nor does one that is gone
    assert [ruled.ask("GET", hosts, READER), ruled.ask("POST", networks, DEMO, make)] == [200, 403]
    ruled("")
    assert [ruled.ask("GET", hosts, READER), ruled.ask("POST", networks, DEMO, make)] == [403, 201]


def test_an_alias_changes_all_defaults_that_name_it(ruled: Ruled) -> None:
    ruled('"project_member_or_admin": "((rule:context_is_admin))and(rule:mine)"\n"mine": "@"')
    assert ruled.ask("POST", "/network/v2.0/networks", DEMO, {"network": {}}) == 403
    assert ruled.ask("POST", "/network/v2.0/networks", ADMIN, {"network": {}}) == 201
    assert ruled.ask("GET", "/network/v2.0/ports", READER) == 200


def test_an_action_has_its_own_line(ruled: Ruled) -> None:
    path = f"/compute/v2.1/servers/{ruled.nova.active()}/action"
    ruled('"os_compute_api:servers:stop": "role:manager"')
    assert ruled.ask("POST", path, DEMO, {"os-stop": None}) == 403
    assert ruled.ask("POST", path, DEMO, {"reboot": {"type": "HARD"}}) == 202


def test_a_rule_may_ask_whose_server_it_is(ruled: Ruled, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two members of a project each deletes their own; a list of lists says it, too."""
    monkeypatch.setitem(CONTEXTS, "mate", replace(CONTEXTS[DEMO], user_id="f" * 32))
    server = f"/compute/v2.1/servers/{ruled.nova.active()}"
    ruled('"os_compute_api:servers:delete": [["rule:project_member_api", "user_id:%(user_id)s"], "role:janitor"]')
    assert ruled.ask("GET", server, "mate") == 200
    assert ruled.ask("DELETE", server, "mate") == 403
    assert ruled.ask("DELETE", server, OTHER) == 404
    assert ruled.ask("DELETE", server, DEMO) == 204


def test_a_rule_may_keep_administrators_to_their_own_project(ruled: Ruled) -> None:
    server = f"/compute/v2.1/servers/{ruled.nova.active()}"
    network = f"/network/v2.0/networks/{ruled.nova.network()}"
    own = "project_id:%(project_id)s"
    ruled(f'"os_compute_api:servers:delete": "role:member and {own}"\n"delete_network": "role:member and {own}"')
    assert [ruled.ask("GET", path, ADMIN) for path in (server, network)] == [200, 200]
    assert [ruled.ask("DELETE", path, ADMIN) for path in (server, network)] == [404, 404]
    assert ruled.ask("DELETE", network, DEMO) == 204


def test_who_is_an_administrator_is_the_operators_to_say(ruled: Ruled, monkeypatch: pytest.MonkeyPatch) -> None:
    seer = Context(user_id="f" * 32, project_id=DEMO_PROJECT[::-1] + "x", roles=frozenset({"overseer", "reader"}))
    monkeypatch.setitem(CONTEXTS, "seer", seer)
    server = f"/compute/v2.1/servers/{ruled.nova.active()}"
    assert ruled.ask("GET", server, "seer") == 404
    ruled('"context_is_admin": "role:overseer"')
    assert ruled.ask("GET", server, "seer") == 200
    assert ruled.ask("GET", "/compute/v2.1/os-hypervisors", "seer") == 200
    assert ruled.ask("GET", "/identity/v3/services", "seer") == 200
    assert ruled.ask("GET", server, ADMIN) == 404
    assert ruled.ask("GET", "/compute/v2.1/os-hypervisors", ADMIN) == 403


def test_a_part_of_a_request_is_who_the_operator_says(ruled: Ruled) -> None:
    networks, make = "/network/v2.0/networks", {"network": {"shared": True}}
    kept = {"network": {"shared": False}}
    assert [ruled.ask("POST", networks, token, make) for token in (DEMO, ADMIN)] == [403, 201]
    ruled('"create_network:shared": "rule:sharers"\n"sharers": "role:member and not role:admin"')
    assert [ruled.ask("POST", networks, token, make) for token in (DEMO, ADMIN, READER)] == [201, 403, 403]
    assert [ruled.ask("POST", networks, token, kept) for token in (DEMO, ADMIN)] == [201, 201]  # what it would be anyway
    mine = f"{networks}/{ruled.nova.network()}"
    assert ruled.ask("PUT", mine, DEMO, make) == 403  # a line of its own
    ruled('"update_network:shared": "@"\n"create_router:external_gateway_info:enable_snat": "!"')
    assert [ruled.ask("PUT", mine, DEMO, make), ruled.ask("POST", networks, DEMO, make)] == [200, 403]
    gateway = {"external_gateway_info": {"network_id": mine.rpartition("/")[2], "enable_snat": False}}
    assert ruled.ask("POST", "/network/v2.0/routers", ADMIN, {"router": gateway}) == 403


def test_which_role_sees_its_project_s_networks_is_the_operator_s_to_say(
    ruled: Ruled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CONTEXTS, "painter", replace(CONTEXTS[DEMO], roles=frozenset({"painter"})))
    path = f"/network/v2.0/networks/{ruled.nova.network()}"
    assert [ruled.ask("GET", path, who) for who in (DEMO, "painter")] == [200, 404]
    ruled('"get_network": "role:painter"')
    assert [ruled.ask("GET", path, who) for who in (DEMO, "painter")] == [403, 200]


def test_what_owners_of_networks_may_ask_of_ports_is_the_operator_s_to_say(ruled: Ruled) -> None:
    network, path = ruled.nova.network(), "/network/v2.0/ports"
    assert ruled.ask("PUT", f"/network/v2.0/networks/{network}", ADMIN, {"network": {"shared": True}}) == 200

    def asked(token: str, **more: object) -> int:
        return ruled.ask("POST", path, token, {"port": {"network_id": network, **more}})

    def mac(number: int) -> dict[str, str]:
        return {"mac_address": f"fa:16:3e:00:00:{number:02x}"}

    assert [asked(DEMO, **mac(1)), asked(OTHER, **mac(2)), asked(OTHER)] == [201, 403, 201]
    ruled('"create_port:mac_address": "role:member"\n"create_port:port_security_enabled": "rule:admin_only"')
    assert [asked(OTHER, **mac(2)), asked(DEMO, port_security_enabled=False)] == [201, 403]
    ruled('"create_port:mac_address": "rule:network_owner"')
    assert [asked(DEMO, **mac(3)), asked(OTHER, **mac(4)), asked(ADMIN, **mac(5))] == [201, 403, 403]
    assert asked(DEMO, port_security_enabled=False) == 201


def test_nova_s_parts_are_the_operator_s_to_give(ruled: Ruled) -> None:
    id = ruled.nova.active()
    server, forced = f"/compute/v2.1/servers/{id}", ruled.nova.body(availability_zone="nova:host-1")
    headers = {"X-Auth-Token": OTHER, "OpenStack-API-Version": "compute 2.104"}

    def seen() -> set[str]:
        listed = ruled.http.get("/compute/v2.1/servers?all_tenants=1", headers=headers)
        return {each["id"] for each in listed.json()["servers"]} if listed.status_code == 200 else set()

    def shown() -> set[str]:
        found = ruled.http.get(server, headers={**headers, "X-Auth-Token": DEMO}).json()["server"]
        return {"OS-EXT-SRV-ATTR:host", "host_status"} & found.keys()

    assert (ruled.ask("POST", "/compute/v2.1/servers", DEMO, forced), seen(), shown()) == (403, set(), set())
    ruled("\n".join(
        f'"os_compute_api:{part}": "role:member"'
        for part in ("servers:create:forced_host", "servers:index:get_all_tenants", "os-extended-server-attributes",
                     "servers:show:host_status")
    ))  # fmt: skip
    assert ruled.ask("POST", "/compute/v2.1/servers", DEMO, forced) == 202
    assert id in seen()
    assert shown() == {"OS-EXT-SRV-ATTR:host", "host_status"}
    assert ruled.ask("GET", server, OTHER) == 404  # seen in the list, and no more than that


def test_who_makes_an_image_everybody_s_is_the_operator_s_to_say(ruled: Ruled) -> None:
    images = "/image/v2/images"

    def asked(token: str) -> list[int]:
        return [ruled.ask("POST", images, token, {"visibility": each}) for each in ("public", "community", "shared")]

    assert [asked(DEMO), asked(ADMIN), asked(READER)] == [[403, 201, 201], [201, 201, 201], [403, 403, 403]]
    ruled('"publicize_image": "role:member"\n"communitize_image": "rule:context_is_admin"')
    assert [asked(DEMO), asked(READER)] == [[201, 403, 201], [403, 403, 403]]


def test_policy_list_tells_what_holds(tmp_path: Path) -> None:
    def told(*more: str) -> list[list[str]]:
        done = CliRunner().invoke(app, ["policy", "list", "--state", str(tmp_path), *more], catch_exceptions=False)
        return [line.split("\t") for line in done.stdout.splitlines()[1:]]

    stop = ["compute", "POST /v2.1/servers/{id}/action (os-stop)", "os_compute_api:servers:stop"]
    usual = "rule:project_member_or_admin"
    assert [*stop, usual, usual] in told()
    part = ["network", "POST /v2.0/networks (part of it)", "create_network:shared", *["rule:context_is_admin"] * 2]
    assert part in told()
    assert told("--changed") == []
    (tmp_path / "policy.yaml").write_text('"os_compute_api:servers:stop": "role:manager"')
    assert told("--changed") == [[*stop, usual, "role:manager"], [stop[0], stop[1].replace("servers", "os-volumes_boot"),
                                                                  stop[2], usual, "role:manager"]]  # fmt: skip
    (tmp_path / "other.yaml").write_text('"get_agent": "!"')
    assert [line[2:] for line in told("--changed", "--policy", str(tmp_path / "other.yaml"))] == [
        ["get_agent", "rule:context_is_admin", "!"]
    ]
    # What a rule names is told, too: with another administrator, no operation's own text is another.
    assert ["-", "named by other rules", "context_is_admin", "role:admin", "role:admin"] in told()
    (tmp_path / "policy.yaml").write_text('"context_is_admin": "rule:boss"\n"boss": "role:boss"')
    assert [line[2:] for line in told("--changed")] == [
        ["context_is_admin", "role:admin", "rule:boss"], ["boss", "-", "role:boss"]
    ]  # fmt: skip


def test_each_name_is_of_one_service() -> None:
    names = [service.rule_name(name) for service in SERVICES for name in service.policy]
    assert len(names) == len(set(names))
    for service in SERVICES:
        operations = {operation.partition(" (")[0] for operation, _ in service.operations()}
        assert {name for _, name in service.operations() if name} <= service.policy.keys()
        assert service.parts.keys() <= service.policy.keys() and set(service.parts.values()) <= operations
