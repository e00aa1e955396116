"""The hand-run clouds of these tests, one a database: each test begins with a state of it that is kept."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from handcloud import HandCloud, furnished

from kilonova.db.engine import Database
from kilonova.flow.step import Step
from kilonova.host.contract import Host

WHOLE = ("create", "delete", "attach_volume", "create_volume", "delete_volume")  # tried at each point on both databases
TRIED = ("test_every_flow_has_a_story_and_ends_well", "test_an_error_is_undone_or_owed", "test_a_crash_is_resumed")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of the flows that are not tried whole, what would say nothing that the rest does not say."""
    left_out = [item for item in items if is_left_out(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def is_left_out(item: pytest.Item) -> bool:
    params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    if "clouds" not in params or params.get("flow") in (None, *WHOLE):
        return False
    if params.get("when") == "before" and not on_host(params.get("step") or params["undo"]):
        # The end of a CONTROL step says it too: its transaction is rolled back, so the rows are those of its beginning;
        # and there, besides, whatever the step did outside its transaction has been done.
        return True
    if params["clouds"] == "sqlite":
        return False
    # PostgreSQL is tried where the database has a part: a CONTROL step fails or dies at its end.
    return item.name.partition("[")[0] not in TRIED or on_host(params.get("step", ""))


def on_host(step: str | Step) -> bool:
    """Whether that is what a HOST step does, or undoes."""
    return isinstance(step, str) and hasattr(Host, step.removesuffix(" again"))


class Clouds:
    """One hand-run cloud at a time, and with it the states of it that tests begin with."""

    def __init__(self, make: Callable[[], HandCloud], drop: Callable[[str], None]) -> None:
        """`drop`: the database of that URL."""
        self._make, self._drop = make, drop
        self.cloud: HandCloud | None = None

    def get(self) -> HandCloud:
        self.cloud = self.cloud or self._make()
        return self.cloud

    def drop(self) -> None:
        if self.cloud is not None:
            self.cloud.close()
            self._drop(self.cloud.database.url)
        self.cloud = None


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def clouds(request: pytest.FixtureRequest, memory_dir: Path, databases: Any) -> Iterator[Clouds]:
    def make() -> HandCloud:
        folder = Path(tempfile.mkdtemp(dir=memory_dir)) / "cloud"
        folder.mkdir()
        return HandCloud(Database(databases.migrated(request.param)), folder)

    made = Clouds(make, databases.drop)
    yield made
    made.drop()


@pytest.fixture
def used_cloud(request: pytest.FixtureRequest, clouds: Clouds) -> Iterator[HandCloud]:
    """As the test before left it, for one that begins with `prepared`; a test that fails leaves it to none."""
    failed = request.session.testsfailed
    yield clouds.get()
    if request.session.testsfailed > failed:
        clouds.drop()


@pytest.fixture
def cloud(used_cloud: HandCloud) -> HandCloud:
    """With what `furnish` makes, and no more."""
    used_cloud.prepared(furnished)
    return used_cloud
