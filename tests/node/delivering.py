"""What the tests of delivery share: a study whose result is made, and how far it has come (real tables)."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from node.settings import Settings
from node.states import State
from node.tables import Delivery, DerivedSeriesRow, Study, now
from tests.mr_slices import mr_slice


def to_deliver(settings: Settings, engine: Engine, count: int = 3) -> int:
    """A study in DELIVERING with a derived series of so many instances for "pacs"; its row id."""
    datasets = [mr_slice("virtual", number) for number in range(1, count + 1)]
    settings.node.data.mkdir(parents=True, exist_ok=True)
    with Session(engine) as session, session.begin():
        row = Study(
            key="k", study_instance_uid=datasets[0].StudyInstanceUID, patient_id="", accession_number="",
            study_date="", state=State.DELIVERING, reason="", inputs_digest="of run 1",
        )  # fmt: skip
        session.add(row)
        session.flush()
        series = DerivedSeriesRow(
            study_id=row.id, series_instance_uid=datasets[0].SeriesInstanceUID, kind="enhanced_mr", model_digest="",
            inputs_digest="of run 1", made=now(),
        )  # fmt: skip
        session.add(series)
        session.flush()
        for dataset in datasets:
            path = Path(f"{dataset.InstanceNumber}.dcm")
            dataset.save_as(settings.node.data / path, enforce_file_format=True)
            session.add(
                Delivery(
                    derived_series_id=series.id, destination="pacs", sop_class_uid=dataset.SOPClassUID,
                    sop_instance_uid=dataset.SOPInstanceUID, path=str(path),
                )
            )  # fmt: skip
        return row.id


def ledger(engine: Engine) -> list[tuple[str, int]]:
    with Session(engine) as session:
        return [(row.state, row.attempts) for row in session.scalars(select(Delivery).order_by(Delivery.id))]


def state(engine: Engine) -> str:
    with Session(engine) as session:
        return session.scalars(select(Study.state)).one()
