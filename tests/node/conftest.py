"""A real database with the node's tables and the durable engine's, and the parts of a node that work on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from node.associations import Associations
from node.collect import Collector
from node.commit import Reports
from node.database import open_database, ready
from node.deliver import Deliverer
from node.engine import WorkStarter
from node.files import DataFolder
from node.receive import Receiver
from node.receive.store import Store
from node.settings import Settings
from node.tables import Instance
from simulator.archive.server import Archive
from tests.node.telling import telling


@pytest.fixture
def engine(settings: Settings) -> Engine:
    engine = open_database(settings)
    ready(engine)
    return engine


@pytest.fixture
def starter(engine: Engine) -> WorkStarter:
    return WorkStarter(engine)


@pytest.fixture
def associations() -> Associations:
    return Associations()


@pytest.fixture
def receiver(settings: Settings, engine: Engine, associations: Associations) -> Iterator[Receiver]:
    receiver = Receiver(
        settings, engine, associations, on_closed=lambda: None, reports=Reports(settings, engine),
        tell=telling(settings, engine),
    )  # fmt: skip
    receiver.start()
    yield receiver
    receiver.stop()


@pytest.fixture
def store(settings: Settings, engine: Engine) -> Iterator[Store]:
    store = Store(engine, DataFolder(settings.node.data), 0)
    yield store
    store.close()


@pytest.fixture
def held(settings: Settings, engine: Engine, store: Store) -> Callable[[], dict[str, Path]]:
    """The files of all instances by SOP Instance UID."""

    def now() -> dict[str, Path]:
        assert store.settle(10)
        with Session(engine) as session:
            rows = session.execute(select(Instance.sop_instance_uid, Instance.path)).all()
        return {uid: settings.node.data / path for uid, path in rows}

    return now


@pytest.fixture
def collector(settings: Settings, engine: Engine, starter: WorkStarter, associations: Associations) -> Collector:
    return Collector(settings, engine, starter, associations)


@pytest.fixture
def deliverer(settings: Settings, engine: Engine) -> Deliverer:
    return Deliverer(settings, engine, Reports(settings, engine))


@pytest.fixture
def archive(settings: Settings, tmp_path: Path) -> Iterator[Archive]:
    """The PACS that results go to."""
    with Archive("PACS", settings.destination[0].port, tmp_path / "archive") as archive:
        yield archive
