"""What the tables of config.toml have in common: kinds of value, and how strict a table is."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo

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


class Table(BaseModel):
    """A table of config.toml: no key but ours, and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Retries(Table):
    """How long to wait for a peer that does not answer."""

    first_retry_seconds: Seconds
    longest_retry_seconds: Seconds

    def backoff(self, attempt: int) -> float:
        """Seconds to wait after failed attempt number ``attempt`` (1, 2, ...): doubled each time, capped."""
        return min(self.longest_retry_seconds, self.first_retry_seconds * 2.0 ** min(attempt - 1, 32))
