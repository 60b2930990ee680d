"""The whole of config.toml, and reading it: an error names the key, the value and what would be right."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from node.quality.rules import QualityRules
from node.roles.rules import RoleRules
from node.routing.rules import Rule, check_rules
from node.settings.peers import DeliverySettings, Destination, PeerSettings, RetrievalSettings, Source
from node.settings.processing import CompletenessSettings, DerivedSettings, ModelSettings, WorkSettings
from node.settings.receiving import HealthSettings, NodeSettings, ReceiverSettings
from node.settings.values import Table

DEFAULT_CONFIG = "config.toml"
_EVERY_ADDRESS = {"", "0.0.0.0", "::"}  # noqa: S104 - what such a host means; none is listened on here


class ConfigurationError(Exception):
    """The configuration cannot be used; the text says which key, its value, and what would be right."""


class Settings(Table):
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
    peer: tuple[PeerSettings, ...] = ()
    source: tuple[Annotated[Source, Field(discriminator="retrieve")], ...] = ()
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
    def _one_port_each(self) -> Settings:
        hosts = {self.receiver.host, self.health.host}
        if self.receiver.port == self.health.port and (len(hosts) == 1 or hosts & _EVERY_ADDRESS):
            raise ValueError(f"receiver.port and health.port are both {self.health.port}; each needs its own")
        return self

    @model_validator(mode="after")
    def _rules_fit_together(self) -> Settings:
        check_rules(self.rule, {place.name for place in self.destination})
        return self

    @property
    def database_file(self) -> Path:
        """The one SQLite file that holds the node's tables and the durable engine's."""
        return self.node.data / "node.sqlite"

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.database_file}"


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
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror}); --config names the file itself") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from error
    try:
        settings = Settings.model_validate(raw, context={"folder": path.parent})
    except ValidationError as error:
        raise ConfigurationError(_all(path, error, raw)) from error
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
            if place not in raw and place in (raw.get("kind"), raw.get("retrieve")):
                continue  # pydantic also names the kind of a destination or source, which is no key
            raw = raw.get(place)
        key += f".{place}"
    return key.removeprefix(".") or "the file"


def _all(path: Path, error: ValidationError, raw: object) -> str:
    """Every mistake, each on its own line; of a table with mistakes in it nothing is told but these."""
    places = [line["loc"] for line in error.errors()]
    told = [
        _explain(line, raw) for line in error.errors()
        if not any(len(place) > len(line["loc"]) and place[: len(line["loc"])] == line["loc"] for place in places)
    ]  # fmt: skip
    return f"{path}: {told[0]}" if len(told) == 1 else "\n  ".join((f"{path}:", *told))


def _explain(line: object, raw: object) -> str:
    assert isinstance(line, dict)  # noqa: S101 - pydantic's documented error shape
    key, message = _key(line["loc"], raw), line["msg"].removeprefix("Value error, ")
    if line["type"] == "missing":
        return f"{key} is missing; the shipped {DEFAULT_CONFIG} holds every key with its meaning"
    if line["type"] == "extra_forbidden":
        return f"{key} is not a key of ours; look for a misspelling against the shipped {DEFAULT_CONFIG}"
    if line["type"].startswith("union_tag") and line["loc"][0] == "source":
        return f'{key}.retrieve must be "c-move", "c-get" or "dicomweb"; docs/retrieving.md shows each'
    if line["type"].startswith("union_tag"):
        return f'{key}.kind must be "dimse", "dicomweb" or "folder"; docs/delivering.md shows each'
    if line["type"] == "tuple_type" and isinstance(line["input"], dict):
        return f"{key}: there may be several, so that each begins with [[{key}]] in double brackets"
    if line["type"] == "tuple_type":
        return f"{key} = {line['input']!r}: a list belongs here, in brackets, also of one"
    if line["type"] == "model_type":
        return f"{key} = {line['input']!r}: a table belongs here, such as the shipped {DEFAULT_CONFIG} has"
    if isinstance(line["input"], dict):  # a whole table: the message names what is wrong in it
        return f"{key}: {message}"
    return f"{key} = {line['input']!r}: {message}"
