"""The node's configuration: one TOML file, read once into frozen typed settings.

An error names the key, the value and what would be right (DESIGN, Decisions).
"""

from __future__ import annotations

import re
import tomllib
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from node.quality.rules import QualityRules
from node.roles.rules import RoleRules
from node.routing.rules import Rule, check_rules
from preprocessing.role import Role

DEFAULT_CONFIG = "config.toml"

# DICOM PS3.5 section 6.2, VR AE: at most 16 characters, no backslash or control character, not all spaces.
AeTitle = Annotated[str, StringConstraints(pattern=r"^[!-\[\]-~](?:[ -\[\]-~]{0,14}[!-\[\]-~])?$")]
# An AE title, or an AE title and the one address it may call from: "PACS@10.0.0.5", "PACS@fd00::5".
Caller = Annotated[
    str, StringConstraints(pattern=r"^[!-?A-\[\]-~](?:[ -?A-\[\]-~]{0,14}[!-?A-\[\]-~])?(?:@[0-9A-Za-z.:-]+)?$")
]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(ge=0)]
DestinationName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,32}$")]


def _beside_the_configuration(path: str, info: ValidationInfo) -> str:
    """A relative file is taken from where config.toml lies; an empty one is none."""
    folder = (info.context or {}).get("folder")
    return str((folder / path).resolve()) if folder is not None and path else path


File = Annotated[str, AfterValidator(_beside_the_configuration)]

REQUIRABLE = (Role.T1, Role.FLAIR, Role.ADC, Role.LOW_DOSE)


class ConfigurationError(Exception):
    """The configuration cannot be used; the text says which key, its value, and what would be right."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NodeSettings(_Table):
    """[node]: who we are and where our data live."""

    ae_title: AeTitle
    data: Path
    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")


class ReceiverTlsSettings(_Table):
    """[receiver.tls]: who we are, and whose certificates callers may or must show (PEM files)."""

    certificate: Annotated[File, Field(min_length=1)]
    key: File
    certificate_authority: File
    require_client_certificate: bool

    @model_validator(mode="after")
    def _somebody_vouches(self) -> ReceiverTlsSettings:
        if self.require_client_certificate and not self.certificate_authority:
            raise ValueError("require_client_certificate needs a certificate_authority that has signed the callers'")
        return self


class ReceiverSettings(_Table):
    """[receiver]: the Storage SCP."""

    host: str
    port: Port
    calling_ae_titles: tuple[Caller, ...]
    extra_sop_classes: tuple[str, ...]
    maximum_pdu: int = Field(ge=4096, le=1 << 20)
    maximum_associations: int = Field(ge=1, le=1000)
    maximum_associations_per_peer: int = Field(ge=1, le=1000)
    network_timeout_seconds: Annotated[float, Field(gt=0)]
    request_timeout_seconds: Annotated[float, Field(gt=0)]
    minimum_free_gb: Annotated[float, Field(ge=0)]
    fast_lane: bool
    user_identities: File
    tls: ReceiverTlsSettings | None = None

    @field_validator("calling_ae_titles")
    @classmethod
    def _addresses(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            title, at, address = value.partition("@")
            try:
                _ = ip_address(address) if at else None
            except ValueError:
                why = f"{address!r} is no IP address; names are not looked up"
                raise ValueError(f"{why}, write {title}@10.0.0.5 or {title}@fd00::5") from None
        return values

    @field_validator("extra_sop_classes")
    @classmethod
    def _uids(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            if not re.fullmatch(r"[0-9]+(\.[0-9]+)+", value) or len(value) > 64:
                raise ValueError(f"{value!r} is not a SOP Class UID such as 1.2.840.10008.5.1.4.1.1.4")
        return values


class HealthSettings(_Table):
    """[health]: the health probe. Port 0: none."""

    host: str
    port: int = Field(ge=0, le=65535)


class CompletenessSettings(_Table):
    """[completeness]: when a study may be processed."""

    required: tuple[Role, ...]
    optional: tuple[Role, ...]
    quiet_seconds: Seconds
    give_up_seconds: Seconds
    on_association_close: bool
    late_instances: Literal["process", "note"]

    @field_validator("required", "optional")
    @classmethod
    def _inputs(cls, roles: tuple[Role, ...]) -> tuple[Role, ...]:
        for role in roles:
            if role not in REQUIRABLE:
                raise ValueError(f"{role!s} cannot be waited for; choose among {', '.join(REQUIRABLE)}")
        return roles


class WorkSettings(_Table):
    """[work]: the numeric work of a study."""

    threads: int = Field(ge=1, le=256)
    recovery_attempts: int = Field(ge=1, le=100)
    device: Literal["auto", "cpu", "cuda"]
    preparation: Literal["fast", "reference"]
    brain_extraction: Literal["fast", "accurate"]


class ModelSettings(_Table):
    """[model]: the weights. An empty folder means those that ship with the product."""

    folder: str


Kind = Literal["enhanced_mr", "secondary_capture"]


class DerivedSettings(_Table):
    """[derived]: what the node makes of the result."""

    kinds: tuple[Kind, ...] = Field(min_length=1)


class TlsSettings(_Table):
    """[destination.tls]: whom we trust, and who we are (PEM files)."""

    certificate_authority: Annotated[File, Field(min_length=1)]
    certificate: File
    key: File


class DimseDestination(_Table):
    """[[destination]] of kind "dimse": by C-STORE, and what its success has to be followed by.

    ``kinds``: instead of every kind of [derived] the first of these that it accepts (node.fallback).
    """

    kind: Literal["dimse"]
    name: DestinationName
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


class DicomWebDestination(_Table):
    """[[destination]] of kind "dicomweb": by STOW-RS, found again by QIDO-RS.

    ``authorization_file`` holds the value of the HTTP header Authorization, so that no secret stands in config.toml.
    """

    kind: Literal["dicomweb"]
    name: DestinationName
    url: str = Field(pattern=r"^https?://[^\s]+$")
    confirm: Literal["find", "none"]
    find_after_crash: bool
    authorization_file: str
    certificate_authority: str


class FolderDestination(_Table):
    """[[destination]] of kind "folder": DICOM files below ``path``, written durably."""

    kind: Literal["folder"]
    name: DestinationName
    path: Path


Destination = DimseDestination | DicomWebDestination | FolderDestination


class PeerSettings(_Table):
    """[[peer]]: where an AE title listens that we answer, besides the destinations."""

    ae_title: AeTitle
    host: str
    port: Port
    tls: TlsSettings | None = None

    @property
    def name(self) -> str:
        """What it is called where something goes wrong."""
        return self.ae_title


Hour = Annotated[int, Field(ge=0, le=24)]


class Source(_Table):
    """[[source]]: a PACS that studies are fetched from, by C-FIND and C-MOVE."""

    name: DestinationName
    ae_title: AeTitle
    host: str
    port: Port
    hours: tuple[Hour, Hour] | tuple[()]
    tls: TlsSettings | None = None


class RetrievalSettings(_Table):
    """[retrieval]: what is fetched, and patience with a source."""

    modalities: tuple[str, ...] = Field(min_length=1)
    attempts: int = Field(ge=1, le=100)
    first_retry_seconds: Seconds
    longest_retry_seconds: Seconds
    timeout_seconds: Annotated[float, Field(gt=0)]
    total_seconds: Annotated[float, Field(gt=0)]
    complete_studies: bool

    def backoff(self, attempt: int) -> float:
        """Seconds to wait after failed attempt number ``attempt`` (1, 2, ...): doubled each time, capped."""
        return min(self.longest_retry_seconds, self.first_retry_seconds * 2.0 ** min(attempt - 1, 32))


class DeliverySettings(_Table):
    """[delivery]: patience with a destination that does not answer."""

    first_retry_seconds: Seconds
    longest_retry_seconds: Seconds
    give_up_hours: Annotated[float, Field(gt=0)]
    timeout_seconds: Annotated[float, Field(gt=0)]
    commitment_timeout_seconds: Seconds

    def backoff(self, attempt: int) -> float:
        """Seconds to wait after failed attempt number ``attempt`` (1, 2, ...): doubled each time, capped."""
        return min(self.longest_retry_seconds, self.first_retry_seconds * 2.0 ** min(attempt - 1, 32))


class Settings(_Table):
    """The whole of config.toml."""

    node: NodeSettings
    receiver: ReceiverSettings
    health: HealthSettings
    completeness: CompletenessSettings
    roles: RoleRules
    work: WorkSettings
    model: ModelSettings
    quality: QualityRules
    derived: DerivedSettings
    delivery: DeliverySettings
    peer: tuple[PeerSettings, ...]
    source: tuple[Source, ...]
    retrieval: RetrievalSettings
    destination: tuple[Annotated[Destination, Field(discriminator="kind")], ...] = Field(min_length=1)
    rule: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _unique_destinations(self) -> Settings:
        for kind, places in (("destinations", self.destination), ("sources", self.source)):
            names = [place.name for place in places]
            if len(set(names)) != len(names):
                raise ValueError(f"two {kind} share a name: {', '.join(names)}; each needs its own")
        return self

    @model_validator(mode="after")
    def _rules_fit_together(self) -> Settings:
        check_rules(self.rule, {place.name for place in self.destination})
        return self

    @property
    def database_url(self) -> str:
        """The one SQLite file that holds the node's tables and the durable engine's."""
        return f"sqlite:///{self.node.data / 'node.sqlite'}"


def load_settings(path: Path) -> Settings:
    """Read the configuration; relative folders are taken from where the file lies.

    Raises ConfigurationError naming the file, key, value and remedy.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path} does not exist; run in a folder that holds {DEFAULT_CONFIG}, or name the file with --config"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from error
    try:
        settings = Settings.model_validate(raw, context={"folder": path.parent})
    except ValidationError as error:
        raise ConfigurationError(f"{path}: " + "; ".join(_explain(line, raw) for line in error.errors())) from error
    node = settings.node.model_copy(update={"data": (path.parent / settings.node.data).resolve()})
    model = settings.model.model_copy(update={"folder": _beside(path, settings.model.folder)})
    rules = tuple(rule.model_copy(update={"model": _beside(path, rule.model)}) for rule in settings.rule)
    return settings.model_copy(update={"node": node, "model": model, "rule": rules})


def _beside(path: Path, folder: str) -> str:
    """A folder as the configuration names it, from where that file lies; empty stays empty."""
    return str((path.parent / folder).resolve()) if folder else ""


def _key(places: tuple[str | int, ...], raw: object) -> str:
    """Where an error lies; of several tables one that has a name goes by it: rule "night".modality."""
    key = ""
    for place in places:
        if isinstance(place, int) and isinstance(raw, list):
            raw = raw[place]
            name = raw.get("name") if isinstance(raw, dict) else None
            key += f' "{name}"' if isinstance(name, str) else f".{place}"
            continue
        if isinstance(raw, dict):
            raw = raw.get(place, raw)  # pydantic also names the kind of a destination, which is no key
        key += f".{place}"
    return key.removeprefix(".") or "the file"


def _explain(line: object, raw: object) -> str:
    assert isinstance(line, dict)  # noqa: S101 - pydantic's documented error shape
    key, message = _key(line["loc"], raw), line["msg"].removeprefix("Value error, ")
    if line["type"] == "missing":
        return f"{key} is missing; the shipped {DEFAULT_CONFIG} holds every key with its meaning"
    if line["type"] == "extra_forbidden":
        return f"{key} is not a key of ours; look for a misspelling against the shipped {DEFAULT_CONFIG}"
    if line["type"].startswith("union_tag"):
        return f'{key}.kind must be "dimse", "dicomweb" or "folder"; docs/delivering.md shows each'
    if isinstance(line["input"], dict):  # a whole table: the message names what is wrong in it
        return f"{key}: {message}"
    return f"{key} = {line['input']!r}: {message}"
