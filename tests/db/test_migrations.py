"""A cloud made by an older version is brought to this one's schema, its rows kept, on both databases."""

import datetime

import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from kilonova.db import migrate
from kilonova.db.engine import Database
from kilonova.db.schema import METADATA

LATER_TABLES = (
    "cloud",
    "image_ids",
    "image_metadef_resource_types",
    "image_metadef_definitions",
    "image_metadef_namespaces",
    "image_tasks",
    "identity_failed_logins",
    "identity_limits",
    "identity_registered_limits",
    "identity_policy_associations",
    "identity_project_endpoints",
    "identity_project_endpoint_groups",
    "identity_endpoint_groups",
    "identity_consumers",
    "identity_trusts",
    "identity_access_rules",
    "identity_application_credentials",
    "compute_console_tokens",
    "compute_block_devices",
    "compute_aggregate_hosts",
    "compute_aggregates",
    "compute_server_group_members",
    "compute_server_groups",
    "compute_migrations",
    "volume_quota_locks",
    "volume_quotas",
    "volume_services",
    "volume_messages",
    "volume_transfers",
    "volume_backups",
    "volume_attachments",
    "volume_group_snapshots",
    "volume_snapshots",
    "volumes",
    "volume_groups",
    "volume_group_types",
    "volume_default_types",
    "volume_type_access",
    "volume_types",
    "volume_qos_specs",
    "trunk_subports",
    "trunks",
    "qos_network_bindings",
    "qos_port_bindings",
    "qos_rules",
    "qos_policies",
    "auto_allocated_topologies",
    "default_security_group_rules",
    "address_groups",
    "subnetpools",
    "address_scopes",
    "rbac_policies",
    "metering_label_rules",
    "metering_labels",
    "port_forwardings",
    "floatingips",
    "router_ports",
    "routers",
    "dhcp_agent_bindings",
    "network_segments",
)
LATER_COLUMNS = {
    "identity_users": (
        "password_created_at",
        "password_expires_at",
        "password_self_service",
        "password_history",
        "last_active_at",
    ),
    "identity_revoked_tokens": ("revoked_at",),
    "networks": ("network_type", "physical_network", "segmentation_id", "is_default", "dns_domain"),
    "subnets": ("subnetpool_id", "service_types", "segment_id"),
    "ports": ("dns_domain",),
    "security_groups": ("stateful",),
    "security_group_rules": ("remote_address_group_id",),
    "compute_servers": ("guest_password", "system_metadata"),
    "compute_hosts": ("uptime",),
}
LATER_INDEXES = (
    "uq_networks_segment",
    "ix_subnets_subnetpool_id",
    "ix_security_group_rules_remote_address",
)


def age(database: Database) -> None:
    """Take away what came after the first version."""
    with database.engine.begin() as connection:
        for table in LATER_TABLES:
            connection.execute(sa.text(f"DROP TABLE {table}"))
        for index in LATER_INDEXES:
            connection.execute(sa.text(f"DROP INDEX {index}"))
        for table, columns in LATER_COLUMNS.items():
            for column in columns:
                connection.execute(sa.text(f"ALTER TABLE {table} DROP COLUMN {column}"))
        connection.execute(sa.text("ALTER TABLE ports RENAME COLUMN dns_name TO hostname"))
        connection.execute(sa.text("ALTER TABLE networks ADD COLUMN shared BOOLEAN NOT NULL DEFAULT false"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0001'"))


def shape(database: Database) -> dict[str, tuple[set[str], set[str]]]:
    """table → (columns, unique indexes)"""
    inspector = sa.inspect(database.engine)
    return {
        table: (
            {column["name"] for column in inspector.get_columns(table)},
            {str(index["name"]) for index in inspector.get_indexes(table) if index["unique"]},
        )
        for table in METADATA.tables
    }


def add_network(database: Database, name: str, external: bool, shared: bool) -> None:
    when = datetime.datetime(2026, 1, 2)
    values = {
        "id": name, "project_id": "p", "name": name, "admin_state_up": True, "status": "ACTIVE", "shared": shared,
        "external": external, "mtu": 1500, "port_security_enabled": True, "description": "", "revision_number": 3,
        "created_at": when, "updated_at": when, "tags": "[]",
    }  # fmt: skip
    with database.engine.begin() as connection:
        connection.execute(
            sa.text(f"INSERT INTO networks ({', '.join(values)}) VALUES ({', '.join(f':{key}' for key in values)})"),
            values,
        )


def test_an_older_cloud_is_upgraded_and_keeps_its_rows(database: Database) -> None:
    today = shape(database)
    age(database)
    for name, external, shared in (
        ("demo", False, True),
        ("public", True, True),
        ("more", True, False),
        ("other", False, False),
    ):
        add_network(database, name, external, shared)
    database.migrate()
    assert shape(database) == today
    networks = METADATA.tables["networks"]
    found = {row["name"]: row for row in database.read(lambda tx: tx.all(sa.select(networks)))}
    assert {row["mtu"] for row in found.values()} == {1500}
    public = found.pop("public")
    assert (public["network_type"], public["physical_network"], public["segmentation_id"]) == ("flat", "public", 0)
    assert {row["network_type"] for row in found.values()} == {"vxlan"}
    assert len({row["segmentation_id"] for row in found.values()}) == 3
    assert all(row["segmentation_id"] > 0 for row in found.values())
    segments = METADATA.tables["network_segments"]
    carried = {row["network_id"]: row for row in database.read(lambda tx: tx.all(sa.select(segments)))}
    same = ("network_type", "physical_network", "segmentation_id")
    assert carried.keys() == {"public", *found}
    for name, row in {"public": public, **found}.items():
        assert [carried[name][key] for key in same] == [row[key] for key in same]


def test_names_of_ports_and_sharing_of_qos_policies_are_kept(database: Database) -> None:
    """From the revision before that in which names became DNS names, and sharing an RBAC policy."""
    when, tables = datetime.datetime(2026, 1, 2), METADATA.tables
    stamps = {"created_at": when, "updated_at": when}
    with database.engine.begin() as connection:
        connection.execute(tables["networks"].insert().values(id="n", project_id="p", **stamps))
        port = {"id": "p", "network_id": "n", "project_id": "p", "mac_address": "m", "dns_name": "vm"}
        connection.execute(tables["ports"].insert().values(**port, **stamps))
        for name in ("open", "closed"):
            connection.execute(tables["qos_policies"].insert().values(id=name, project_id="p", **stamps))
        connection.execute(sa.text("DROP TABLE network_segments"))
        connection.execute(sa.text("ALTER TABLE ports RENAME COLUMN dns_name TO hostname"))
        connection.execute(sa.text("ALTER TABLE qos_policies ADD COLUMN shared BOOLEAN NOT NULL DEFAULT false"))
        connection.execute(sa.text("UPDATE qos_policies SET shared = true WHERE id = 'open'"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0007'"))
    database.migrate()
    assert database.read(lambda tx: tx.scalar(sa.select(tables["ports"].c.dns_name))) == "vm"
    (made,) = database.read(lambda tx: tx.all(sa.select(tables["rbac_policies"])))
    assert (made["object_type"], made["object_id"], made["target_project"]) == ("qos_policy", "open", "*")


def test_a_delete_goes_on_that_stood_before_a_step_that_is_no_more(database: Database) -> None:
    flows, when = METADATA.tables["flows"], datetime.datetime(2026, 1, 2)
    row = {
        "project_id": "p", "user_id": "u", "request_id": "r", "state": "running", "queue": "control", "wake_at": 0.0,
        "created_at": when, "updated_at": when,
    }  # fmt: skip
    with database.engine.begin() as connection:
        for kind, step in (("delete", "end_migration"), ("delete", "unbind_ports"), ("create", "set_active")):
            connection.execute(flows.insert().values(**row, id=step, kind=kind, subject_id=step, step=step))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0022'"))
    database.migrate()
    found = {row["id"]: row["step"] for row in database.read(lambda tx: tx.all(sa.select(flows)))}
    assert found == {"end_migration": "set_deleted", "unbind_ports": "unbind_ports", "set_active": "set_active"}


def test_ids_of_images_that_there_are_are_not_given_again(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO images (id, status, visibility, protected, os_hidden, min_disk, min_ram, properties, tags, "
                "created_at, updated_at) VALUES ('old', 'queued', 'shared', false, false, 0, 0, '{}', '[]', "
                "'2026-01-02', '2026-01-02')"
            )
        )
        connection.execute(sa.text("DROP TABLE image_ids"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0025'"))
    database.migrate()
    assert database.read(lambda tx: [row["id"] for row in tx.all(sa.select(METADATA.tables["image_ids"]))]) == ["old"]


def test_upgrading_again_changes_nothing(database: Database) -> None:
    before = shape(database)
    with database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0001'"))
    database.migrate()
    database.migrate()
    assert shape(database) == before


def test_networks_shared_and_external_before_are_so_by_policies(database: Database) -> None:
    age(database)
    for name, external, shared in (("a", False, True), ("b", True, True), ("c", True, False), ("d", False, False)):
        add_network(database, name, external, shared)
    database.migrate()
    policies = METADATA.tables["rbac_policies"]
    found = {
        (row["object_id"], row["action"], row["target_project"], row["project_id"])
        for row in database.read(lambda tx: tx.all(sa.select(policies)))
    }
    shared, external = "access_as_shared", "access_as_external"
    assert found == {
        (name, action, "*", "p") for name, action in (("a", shared), ("b", shared), ("b", external), ("c", external))
    }


def test_new_and_upgraded_clouds_have_the_rules_that_groups_begin_with(database: Database) -> None:
    rules = METADATA.tables["default_security_group_rules"]

    def found() -> list[tuple[str, str]]:
        return sorted(
            (row["direction"], row["ethertype"]) for row in database.read(lambda tx: tx.all(sa.select(rules)))
        )

    before = found()
    age(database)
    database.migrate()
    assert found() == before == [(way, kind) for way in ("egress", "ingress") for kind in ("IPv4", "IPv6")]


def test_a_new_cloud_is_at_the_revision_where_the_revisions_end(database: Database) -> None:
    """A new database is stamped by the newest file's name, and its tables are what all revisions together make."""
    config = Config()
    config.set_main_option("script_location", str(migrate.MIGRATIONS))
    script = ScriptDirectory.from_config(config)
    assert [migrate.newest()] == script.get_heads()
    assert database.read(lambda tx: tx.all(sa.select(migrate.VERSION))) == [{"version_num": migrate.newest()}]
    made = shape(database)
    with database.engine.begin() as connection:
        METADATA.drop_all(connection)
        connection.execute(sa.text("DELETE FROM alembic_version"))
    database.migrate()
    assert shape(database) == made
    assert database.read(lambda tx: tx.all(sa.select(migrate.VERSION))) == [{"version_num": migrate.newest()}]
