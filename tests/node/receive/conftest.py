"""Receivers on free ports, each with a folder and a database of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from node.associations import Associations
from node.commit import Reports
from node.database import open_database, ready
from node.receive import Receiver
from node.settings import Settings, load_settings
from tests.conftest import write_config
from tests.node.telling import telling

StartReceiver = Callable[..., "Listening"]


@dataclass(frozen=True)
class Listening:
    settings: Settings
    engine: Engine
    associations: Associations
    receiver: Receiver

    def reading(self) -> Session:
        """A session that sees the rows of all that was acknowledged."""
        assert self.receiver.store.settle(20)
        return Session(self.engine)

    @property
    def port(self) -> int:
        return self.settings.receiver.port


@pytest.fixture(scope="module")
def start_receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartReceiver]:
    """Starts a receiver; ``key = value`` lines of config.toml may be given. They are stopped at the module's end."""
    numbers = count()
    with ExitStack() as stack:

        def start(**lines: object) -> Listening:
            folder: Path = tmp_path_factory.mktemp(f"receiver{next(numbers)}")
            settings = load_settings(write_config(folder, **lines))
            engine = open_database(settings)
            ready(engine)
            associations = Associations()
            receiver = Receiver(
                settings, engine, associations, lambda: None, Reports(settings, engine), telling(settings, engine)
            )
            receiver.start()
            stack.callback(receiver.stop)
            return Listening(settings, engine, associations, receiver)

        yield start


@dataclass(frozen=True)
class Pair:
    """The same receiver twice: with the fast lane, and with pynetdicom's own machinery."""

    fast: Listening
    stock: Listening


@pytest.fixture(scope="module")
def pair(start_receiver: StartReceiver) -> Pair:
    return Pair(start_receiver(fast_lane="true"), start_receiver(fast_lane="false"))
