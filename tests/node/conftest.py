"""A real database with the node's tables and the durable engine's, and the starter of work on it."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from node.database import open_database, ready
from node.engine import WorkStarter
from node.settings import Settings


@pytest.fixture
def engine(settings: Settings) -> Engine:
    engine = open_database(settings)
    ready(engine)
    return engine


@pytest.fixture
def starter(engine: Engine) -> WorkStarter:
    return WorkStarter(engine)
