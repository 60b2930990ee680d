"""Who the node is and what it listens to: [node], [receiver], [health]."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from node.settings.values import AeTitle, Caller, File, Name, Port, Table


class NodeSettings(Table):
    """[node]: who we are and where our data live."""

    ae_title: AeTitle
    data: Path
    name: Name


class ReceiverTlsSettings(Table):
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


class ReceiverSettings(Table):
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


class HealthSettings(Table):
    """[health]: the health probe. Port 0: none."""

    host: str
    port: int = Field(ge=0, le=65535)
