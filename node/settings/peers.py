"""Those the node calls: [[destination]], [delivery], [[peer]], [[source]], [retrieval]."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator, model_validator

from node.roles.rules import Pattern
from node.settings.processing import Kind
from node.settings.values import AeTitle, File, Name, Port, Retries, Seconds, Table, Url


class TlsSettings(Table):
    """[destination.tls]: whom we trust, and who we are (PEM files). Without ``certificate_authority`` we trust those
    that the system does, without ``certificate`` we show none.
    """

    certificate_authority: File
    certificate: File
    key: File


class DimseDestination(Table):
    """[[destination]] of kind "dimse": by C-STORE, and what its success has to be followed by.

    ``kinds``: instead of every kind of [derived] the first of these that it accepts (node.fallback).
    """

    kind: Literal["dimse"]
    name: Name
    ae_title: AeTitle
    host: str
    port: Port
    confirm: Literal["commitment", "find", "none"]
    find_after_crash: bool
    kinds: tuple[Kind, ...] = ()
    tls: TlsSettings | None = None

    @field_validator("kinds")
    @classmethod
    def _each_once(cls, kinds: tuple[Kind, ...]) -> tuple[Kind, ...]:
        if len(set(kinds)) != len(kinds):
            raise ValueError("the same kind stands twice; each is tried once, the best first")
        return kinds


class _DicomWeb(Table):
    """A DICOMweb server. ``authorization_file`` holds the value of the HTTP header Authorization, so that no secret
    stands in config.toml. Without ``tls`` an https url's certificate is checked against the system's authorities.
    """

    name: Name
    url: Url
    authorization_file: File
    tls: TlsSettings | None = None

    @model_validator(mode="before")
    @classmethod
    def _authority_stands_in_tls(cls, table: Any) -> Any:
        """It stood beside the url until tables of this kind had ``tls``."""
        if not isinstance(table, dict) or "certificate_authority" not in table:
            return table
        if not (authority := table["certificate_authority"]):
            raise ValueError("leave certificate_authority out; without tls the system's authorities are trusted")
        raise ValueError(
            "certificate_authority stands in the table tls now; "
            f'write tls = {{ certificate_authority = "{authority}", certificate = "", key = "" }}'
        )

    @model_validator(mode="after")  # of the table, so that the message does not repeat the url
    def _url_fits(self) -> Self:
        parts = urlsplit(self.url)
        if "@" in parts.netloc:
            raise ValueError(
                "the url holds a user and would be seen in logs; name the server alone, and in authorization_file a "
                'file with the header ("Basic " and the base64 of user:password)'
            )
        if self.tls is not None and parts.scheme != "https":
            raise ValueError(f"{self.url} is not encrypted, so tls has no meaning; write https:// or leave tls out")
        return self


class DicomWebDestination(_DicomWeb):
    """[[destination]] of kind "dicomweb": by STOW-RS, found again by QIDO-RS."""

    kind: Literal["dicomweb"]
    confirm: Literal["find", "none"]
    find_after_crash: bool


class FolderDestination(Table):
    """[[destination]] of kind "folder": DICOM files below ``path``, written durably."""

    kind: Literal["folder"]
    name: Name
    path: Path


Destination = DimseDestination | DicomWebDestination | FolderDestination


class PeerSettings(Table):
    """[[peer]]: where an AE title listens that we answer, besides the destinations."""

    ae_title: AeTitle
    host: str
    port: Port
    tls: TlsSettings | None = None

    @property
    def name(self) -> str:
        """What it is called where something goes wrong."""
        return self.ae_title



def _hours(given: object) -> tuple[int, ...]:
    """The hour from which and the one until which, or none."""
    hours = tuple(given) if isinstance(given, list | tuple) else (None,)
    if len(hours) in (0, 2) and all(type(hour) is int and 0 <= hour <= 24 for hour in hours):
        return hours
    raise ValueError("should be two whole hours of 0 to 24, as [19, 6], or [] for any time")


Hours = Annotated[tuple[int, ...], BeforeValidator(_hours)]


class PriorSettings(Table):
    """[[source]] priors: the ``newest`` earlier studies of a patient, of at most so many ``years`` before, whose Study
    Description has ``study_description`` (a regular expression, found anywhere) in it."""

    newest: int = Field(ge=1, le=20)
    years: Annotated[float, Field(gt=0, le=150)]
    study_description: Pattern = ""


class DimseSource(Table):
    """[[source]]: a PACS that studies are fetched from, asked by C-FIND. After C-MOVE it sends them to our receiver, by
    C-GET over the association that we opened."""

    retrieve: Literal["c-move", "c-get"]
    name: Name
    ae_title: AeTitle
    host: str
    port: Port
    hours: Hours
    priors: PriorSettings | None = None
    tls: TlsSettings | None = None

    @property
    def sender(self) -> str:
        """Who has sent what came over a connection of ours."""
        return f"{self.ae_title}@{self.host}"


class DicomWebSource(_DicomWeb):
    """[[source]]: a DICOMweb server that studies are fetched from, asked by QIDO-RS, by WADO-RS."""

    retrieve: Literal["dicomweb"]
    hours: Hours
    priors: PriorSettings | None = None

    @property
    def sender(self) -> str:
        """Who has sent what came from there; it has no AE title, its name stands for that."""
        return f"{self.name}@{urlsplit(self.url).hostname}"


Source = DimseSource | DicomWebSource


class RetrievalSettings(Retries):
    """[retrieval]: what is fetched, and patience with a source."""

    modalities: tuple[str, ...] = Field(min_length=1)
    attempts: int = Field(ge=1, le=100)
    timeout_seconds: Annotated[float, Field(gt=0)]
    total_seconds: Annotated[float, Field(gt=0)]
    complete_studies: bool


class DeliverySettings(Retries):
    """[delivery]: patience with a destination that does not answer."""

    give_up_hours: Annotated[float, Field(gt=0)]
    timeout_seconds: Annotated[float, Field(gt=0)]
    commitment_timeout_seconds: Seconds

    def is_over(self, attempt: int) -> bool:
        """Whether no other attempt follows failed attempt number ``attempt``: so long was waited before it."""
        return sum(self.backoff(earlier) for earlier in range(1, attempt)) > self.give_up_hours * 3600
