"""The hand-run clouds of these tests, one a database: a test that leaves its cloud clean leaves it to the next."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from handcloud import HandCloud

from kilonova.db.engine import Database
from kilonova.host.contract import Host

WHOLE = ("create", "delete", "attach_volume", "create_volume", "delete_volume")  # tried at each point on both databases
USES = 50  # tests that one cloud is for: what they leave in its journal slows those that read it
TRIED = ("test_every_flow_has_a_story_and_ends_well", "test_an_error_is_undone_or_owed", "test_a_crash_is_resumed")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of the other flows, PostgreSQL is tried where the database has a part: a CONTROL step fails or dies at its end."""
    left_out = [item for item in items if on_sqlite_alone(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def on_sqlite_alone(item: pytest.Item) -> bool:
    params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    if params.get("clouds") != "postgresql" or params.get("flow") in (None, *WHOLE):
        return False
    if item.name.partition("[")[0] not in TRIED:
        return True
    return params.get("when") == "before" or hasattr(Host, params.get("step", ""))


class Clouds:
    def __init__(self, make: Callable[[], HandCloud], drop: Callable[[str], None]) -> None:
        """`drop`: the database of that URL."""
        self._make, self._drop = make, drop
        self.cloud: HandCloud | None = None
        self.uses = 0

    def get(self) -> HandCloud:
        if self.uses >= USES:
            self.drop()
        self.cloud = self.cloud or self._make()
        self.uses += 1
        return self.cloud

    def drop(self) -> None:
        if self.cloud is not None:
            self.cloud.database.close()
            self._drop(self.cloud.database.url)
        self.cloud, self.uses = None, 0


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def clouds(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    databases: Any,
) -> Iterator[Clouds]:
    def make() -> HandCloud:
        folder = tmp_path_factory.mktemp("cloud")
        database = Database(databases.migrated(request.param))
        cloud = HandCloud(database, folder)
        cloud.furnish()
        return cloud

    made = Clouds(make, databases.drop)
    yield made
    made.drop()


@pytest.fixture
def cloud(clouds: Clouds) -> Iterator[HandCloud]:
    cloud = clouds.get()
    yield cloud
    if cloud.faults or cloud.left() or cloud.unfinished():
        clouds.drop()
