"""The node's tables. The database holds identity, state and history; pixels are on disk."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import JSON, DateTime, Dialect, ForeignKey, Index, TypeDecorator, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC. SQLite forgets the time zone, so it is put back on reading."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone; moments are kept in UTC")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


def now() -> datetime:
    """This moment, in UTC."""
    return datetime.now(UTC)


class Table(DeclarativeBase):
    """Root of the mapped tables."""

    type_annotation_map: ClassVar = {
        datetime: UtcDateTime, dict[str, Any]: JSON, dict[str, list[int]]: JSON, list[str]: JSON,
        list[dict[str, Any]]: JSON,
    }  # fmt: skip


class Study(Table):
    """One DICOM study and where it stands. ``key`` is its safe name on disk and on the command line."""

    __tablename__ = "studies"

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)
    study_instance_uid: Mapped[str] = mapped_column(unique=True)
    patient_id: Mapped[str]
    accession_number: Mapped[str]
    study_date: Mapped[str]
    state: Mapped[str] = mapped_column(index=True)
    reason: Mapped[str] = mapped_column(default="")
    missing: Mapped[list[str]] = mapped_column(default=list)
    missing_optional: Mapped[list[str]] = mapped_column(default=list)
    held: Mapped[list[str]] = mapped_column(default=list)
    doing: Mapped[str] = mapped_column(default="")
    progress: Mapped[float] = mapped_column(default=0.0)
    run: Mapped[int] = mapped_column(default=0)
    inputs_digest: Mapped[str] = mapped_column(default="")
    first_received: Mapped[datetime] = mapped_column(default=now)
    last_received: Mapped[datetime] = mapped_column(default=now)
    # Raised by every new instance, lowered by the collector once it has judged the study.
    unjudged: Mapped[bool] = mapped_column(default=True)

    series: Mapped[list[Series]] = relationship(back_populates="study", order_by="Series.id")
    events: Mapped[list[Event]] = relationship(order_by="Event.id")
    routes: Mapped[list[RouteRow]] = relationship(order_by="RouteRow.id")
    derived: Mapped[list[DerivedSeriesRow]] = relationship(back_populates="study", order_by="DerivedSeriesRow.id")


class Series(Table):
    """One received series, its role and why it has it."""

    __tablename__ = "series"
    __table_args__ = (UniqueConstraint("study_id", "series_instance_uid"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    key: Mapped[str]
    series_instance_uid: Mapped[str]
    description: Mapped[str]
    number: Mapped[int | None]
    modality: Mapped[str]
    role: Mapped[str | None]
    because: Mapped[str] = mapped_column(default="")

    study: Mapped[Study] = relationship(back_populates="series")
    instances: Mapped[list[Instance]] = relationship(back_populates="series", order_by="Instance.id")


class Instance(Table):
    """One version of one SOP instance, as received. ``current`` is false for versions a later one replaced."""

    __tablename__ = "instances"
    __table_args__ = (UniqueConstraint("series_id", "sop_instance_uid", "digest"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"), index=True)
    sop_instance_uid: Mapped[str]
    version: Mapped[int]
    current: Mapped[bool] = mapped_column(default=True)
    digest: Mapped[str]
    path: Mapped[str]
    size: Mapped[int]
    sender: Mapped[str]
    received: Mapped[datetime] = mapped_column(default=now)
    header: Mapped[dict[str, Any]]

    series: Mapped[Series] = relationship(back_populates="instances")


class Quarantined(Table):
    """Something received that could not be taken as an instance of a study: kept, with the reason."""

    __tablename__ = "quarantine"

    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(unique=True)
    path: Mapped[str]
    size: Mapped[int]
    sender: Mapped[str]
    reason: Mapped[str]
    # The study it claims to belong to, as the raw text from the wire, when that much could be read.
    claimed_study: Mapped[str] = mapped_column(default="", index=True)
    received: Mapped[datetime] = mapped_column(default=now)


class Run(Table):
    """One run of the workflow over a study: the instances (``Instance.id``) by role that it works on (node.inputs)."""

    __tablename__ = "runs"
    __table_args__ = (UniqueConstraint("study_id", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"))
    number: Mapped[int]
    inputs_digest: Mapped[str]
    inputs: Mapped[dict[str, list[int]]]
    begun: Mapped[datetime] = mapped_column(default=now)


class DerivedSeriesRow(Table):
    """One series this node made of a study; ``superseded_by`` is the one that stands for the study instead."""

    __tablename__ = "derived_series"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    series_instance_uid: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    model_digest: Mapped[str]
    inputs_digest: Mapped[str]
    made: Mapped[datetime] = mapped_column(default=now)
    superseded_by: Mapped[int | None] = mapped_column(ForeignKey("derived_series.id"))

    study: Mapped[Study] = relationship(back_populates="derived")
    deliveries: Mapped[list[Delivery]] = relationship(order_by="Delivery.id")


class Delivery(Table):
    """The ledger: one derived instance for one place, and how far it has come (node.ledger)."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("destination", "sop_instance_uid"),
        Index("deliveries_open", "destination", "settled"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    derived_series_id: Mapped[int] = mapped_column(ForeignKey("derived_series.id"), index=True)
    destination: Mapped[str]
    sop_class_uid: Mapped[str]
    sop_instance_uid: Mapped[str]
    path: Mapped[str]
    state: Mapped[str] = mapped_column(default="QUEUED")
    attempts: Mapped[int] = mapped_column(default=0)
    error: Mapped[str] = mapped_column(default="")
    sent: Mapped[datetime | None]
    asked: Mapped[datetime | None]
    transaction_uid: Mapped[str | None] = mapped_column(index=True)
    settled: Mapped[datetime | None]


class QualityCheck(Table):
    """The verdict on what a study held (``inputs_digest``), every measure, and who accepted it in spite of that."""

    __tablename__ = "quality_checks"
    __table_args__ = (UniqueConstraint("study_id", "inputs_digest"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    run: Mapped[int]
    inputs_digest: Mapped[str]
    verdict: Mapped[str]
    reasons: Mapped[list[str]]
    warnings: Mapped[list[str]]
    measures: Mapped[list[dict[str, Any]]]
    checked: Mapped[datetime] = mapped_column(default=now)
    accepted_by: Mapped[str] = mapped_column(default="")
    accepted_because: Mapped[str] = mapped_column(default="")
    accepted: Mapped[datetime | None]


class Pull(Table):
    """A study to be fetched from a source: how many instances it holds there, and how many have arrived. ``prior_of``:
    the key of the study that it is a prior of, where it is fetched as that, else empty (node.priors)."""

    __tablename__ = "pulls"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(index=True)
    source: Mapped[str]
    asked_by: Mapped[str]
    prior_of: Mapped[str] = mapped_column(default="")
    state: Mapped[str] = mapped_column(index=True)
    reason: Mapped[str] = mapped_column(default="")
    expected: Mapped[int] = mapped_column(default=0)
    arrived: Mapped[int] = mapped_column(default=0)
    attempts: Mapped[int] = mapped_column(default=0)
    asked: Mapped[datetime] = mapped_column(default=now)
    ended: Mapped[datetime | None]


class ProcedureStep(Table):
    """A Modality Performed Procedure Step, as far as it is of one study (node.mpps). ``performed``: the SOP Class UIDs
    of what was made, by SOP Instance UID, by Series Instance UID. ``reason``: why it was discontinued."""

    __tablename__ = "procedure_steps"
    __table_args__ = (UniqueConstraint("sop_instance_uid", "study_instance_uid"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    sop_instance_uid: Mapped[str]
    study_instance_uid: Mapped[str] = mapped_column(index=True)
    status: Mapped[str]
    reason: Mapped[str] = mapped_column(default="")
    sender: Mapped[str]
    station: Mapped[str]
    performed: Mapped[dict[str, Any]]
    begun: Mapped[datetime] = mapped_column(default=now)
    updated: Mapped[datetime] = mapped_column(default=now)


class RouteRow(Table):
    """What the rules said of a study before a run, or instead of one (node.routing); the newest of a run holds."""

    __tablename__ = "routes"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    run: Mapped[int]
    rule: Mapped[str]
    because: Mapped[str]
    process: Mapped[bool]
    reason: Mapped[str]
    model: Mapped[str]
    destinations: Mapped[list[str] | None]
    priority: Mapped[str]
    decided: Mapped[datetime] = mapped_column(default=now)


class ModelRow(Table):
    """What a person decided about a model (node.models.registry)."""

    __tablename__ = "models"

    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    roles: Mapped[list[str]]
    standing: Mapped[str]
    who: Mapped[str]
    why: Mapped[str]
    since: Mapped[datetime] = mapped_column(default=now)


class ShadowResult(Table):
    """How far a shadow's image of a study lies from the one that was sent (node.models.shadow)."""

    __tablename__ = "shadow_results"
    __table_args__ = (UniqueConstraint("study_id", "run", "digest"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"))
    run: Mapped[int]
    digest: Mapped[str] = mapped_column(index=True)
    against: Mapped[str]
    psnr: Mapped[float | None]
    ssim: Mapped[float]
    difference: Mapped[float]
    largest: Mapped[float]
    seconds: Mapped[float]
    made: Mapped[datetime] = mapped_column(default=now)


class Event(Table):
    """Who did what, when and why."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int | None] = mapped_column(ForeignKey("studies.id"), index=True)
    at: Mapped[datetime] = mapped_column(default=now)
    who: Mapped[str]
    what: Mapped[str]
    why: Mapped[str] = mapped_column(default="")
