"""What the collector's tests share: instances that arrive, senders that finish, time that passes (real tables)."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from io import BytesIO
from pathlib import Path

from pydicom.dataset import Dataset
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from node.associations import Associations
from node.database import writing
from node.receive import Arrival, record
from node.receive.header_scan import identify_with_pydicom
from node.tables import Study
from tests.mr_slices import mr_slice


def receive(engine: Engine, folder: Path, *datasets: Dataset) -> None:
    """What the receiver does, without the network."""
    batch = []
    for dataset in datasets:
        buffer = BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        path = folder / f"{digest}.dcm"
        path.write_bytes(buffer.getvalue())
        identity = identify_with_pydicom(buffer.getvalue())
        batch.append(Arrival(identity, digest, str(path), 1, "PACS@there"))
    with writing(engine) as session:
        record(session.connection(), batch, {})


class Association:
    """Stands for pynetdicom's in the book of associations, where only its identity counts."""


def finish(associations: Associations, engine: Engine) -> None:
    """The sender released its association: it has nothing more to say."""
    association = Association()
    associations.opened(association)
    with Session(engine) as session:
        for study in session.query(Study):
            associations.brings(association, study.key)
    associations.released(association)
    associations.closed(association)


def t1(count: int = 24, **elements: object) -> list[Dataset]:
    return [mr_slice("t1", n, SeriesNumber=1, **elements) for n in range(1, count + 1)]


def low_dose(**elements: object) -> list[Dataset]:
    elements = {"AcquisitionTime": "101500", "ContrastBolusAgent": "gadoterate", **elements}
    return [mr_slice("low", n, SeriesNumber=2, **elements) for n in range(1, 25)]


def flair(**elements: object) -> list[Dataset]:
    spin_echo = {"ScanningSequence": ["SE", "IR"], "SequenceVariant": "SK", "MRAcquisitionType": "2D"}
    times = {"RepetitionTime": 9000, "EchoTime": 120, "InversionTime": 2500, "FlipAngle": 150}
    return [mr_slice("flair", n, SeriesNumber=3, **{**spin_echo, **times, **elements}) for n in range(1, 25)]


def quiet_for(engine: Engine, seconds: float) -> None:
    with Session(engine) as session, session.begin():
        for study in session.query(Study):
            study.last_received -= timedelta(seconds=seconds)


def study_of(engine: Engine) -> Study:
    with Session(engine) as session:
        study = session.query(Study).one()
        _ = study.series, study.events, study.derived
        return study
