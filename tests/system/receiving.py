"""The receiving half of a node in this process: what peers talk to, without the numeric work that makes a node slow."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from pydicom.dataset import Dataset
from sqlalchemy import select
from sqlalchemy.orm import Session

from node.association import Peer
from node.associations import Associations
from node.commit import Reports
from node.database import open_database, ready, writing
from node.engine import WorkStarter
from node.receive import Receiver
from node.retrieve import Retriever, request
from node.settings import DimseSource, Source, load_settings
from node.source import StudyFound
from node.tables import Instance, Pull
from node.ways import way_to_ask
from tests.node.telling import telling


class ReceivingNode:
    """Listener, database and retriever of a configuration; a context manager."""

    def __init__(self, config: Path) -> None:
        self.settings = load_settings(config)
        self.engine = open_database(self.settings)
        ready(self.engine)
        self._associations = Associations()
        self._receiver = Receiver(
            self.settings, self.engine, self._associations, lambda: None, Reports(self.settings, self.engine),
            telling(self.settings, self.engine),
        )  # fmt: skip

    def __enter__(self) -> Self:
        self._receiver.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._receiver.stop()

    @property
    def port(self) -> int:
        return self.settings.receiver.port

    @property
    def pacs(self) -> Peer:
        """The shipped configuration's PACS, as a destination and as a source."""
        source = self.settings.source[0]
        assert isinstance(source, DimseSource)
        return Peer(source.ae_title, source.host, source.port, self.settings.node.ae_title, 10.0)

    def fetch_from(self, source: Source) -> None:
        """Have another source than the configuration's; to be said before anything is asked of it."""
        self.settings = self.settings.model_copy(update={"source": (source,)})

    def pull(self, study_instance_uid: str) -> Pull:
        """One attempt to fetch a study from the PACS; what it came to."""
        with writing(self.engine) as session:
            asked = request(session, WorkStarter(self.engine), study_instance_uid, "pacs", "a test", "asked for").id
        Retriever(self.settings, self.engine, self._receiver.store, self._associations).attempt(asked, 1)
        with Session(self.engine) as session:
            return session.get_one(Pull, asked)

    def earlier(self, patient_id: str, days: str) -> list[StudyFound]:
        """What the PACS says when it is asked as for a patient's priors."""
        keys = Dataset()
        keys.PatientID, keys.StudyDate = patient_id, days
        with way_to_ask(self.settings.source[0], self.settings) as place:
            return list(place.studies(keys))

    def held(self) -> dict[str, Path]:
        """The files of all instances by SOP Instance UID."""
        assert self._receiver.store.settle(20)
        with Session(self.engine) as session:
            rows = session.execute(select(Instance.sop_instance_uid, Instance.path)).all()
        return {uid: self.settings.node.data / path for uid, path in rows}

    def senders(self) -> set[str]:
        """Who sent them."""
        assert self._receiver.store.settle(20)
        with Session(self.engine) as session:
            return set(session.scalars(select(Instance.sender)))
