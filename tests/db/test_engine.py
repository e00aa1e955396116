"""What one transaction offers, on both databases."""

from identity_client import Keystone

from kilonova.db.engine import Database
from kilonova.identity.tables import PROJECTS


def test_more_values_than_a_statement_has_parameters(database: Database) -> None:
    known = set(Keystone(database).ids["projects"].values())
    values = [f"{number:032x}" for number in range(70_000)]
    assert database.read(lambda tx: tx.present(PROJECTS.c.id, [*values, *known])) == known
