"""What the tables of config.toml have in common: kinds of value, and how strict a table is."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo


def _written(pattern: str, what: str) -> AfterValidator:
    """A text that has to be written in one way, which is told in words where it is not."""

    def checked(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(f"should be {what}")
        return text

    return AfterValidator(checked)


_AE_TITLE = "an AE title: 1 to 16 characters of ASCII, no backslash, no space at either end (DICOM PS3.5 section 6.2)"
AeTitle = Annotated[str, _written(r"[!-\[\]-~](?:[ -\[\]-~]{0,14}[!-\[\]-~])?", _AE_TITLE)]
# An AE title, or an AE title and the one address it may call from: "PACS@10.0.0.5", "PACS@fd00::5".
Caller = Annotated[
    str,
    _written(
        r"[!-?A-\[\]-~](?:[ -?A-\[\]-~]{0,14}[!-?A-\[\]-~])?(?:@[0-9A-Za-z.:-]+)?",
        f"{_AE_TITLE}, or one and the address that it may call from, as PACS@10.0.0.5",
    ),
]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(ge=0)]
Name = Annotated[str, _written(r"[A-Za-z0-9_-]{1,32}", "1 to 32 letters, digits, - or _")]
Url = Annotated[str, _written(r"https?://[^\s]+", "an address that begins with http:// or https://")]


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
