"""The health probe: what it says when all is well, and when each part is not; what it must never say."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest
from sqlalchemy import text

from node.checks import check_everything
from node.health import HealthCheck, HealthServer
from node.receive import Receiver
from node.settings import Settings, load_settings
from node.worker import Worker
from tests.conftest import ConfigMaker, free_port
from tests.mr_slices import mr_slice
from tests.node.receive.raw_peer import ASSOCIATE_AC, RawPeer
from tests.node.test_receive import encoded
from tests.waiting import eventually


@pytest.fixture
def settings(make_config: ConfigMaker) -> Settings:
    return load_settings(make_config(health__port=free_port()))


@pytest.fixture
def health(settings: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The probe's port, with no answer kept and little patience."""
    monkeypatch.setattr("node.health._ANSWER_KEPT_SECONDS", 0.0)
    monkeypatch.setattr("node.health._LOCKED_SECONDS", 0.2)
    server = HealthServer(settings, HealthCheck(settings, receiver, Worker(settings)))
    server.start()
    yield settings.health.port
    server.stop()


def ask(port: int, path: str = "/health", method: str = "GET") -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def asked(port: int) -> tuple[int, dict[str, Any]]:
    status, content = ask(port)
    return status, json.loads(content)


def test_all_is_well_and_counted(health, settings):
    status, told = asked(health)
    assert (status, told["status"], told["studies"], told["associations"]) == (200, "ok", {}, 0)
    dataset = mr_slice("health", 1)
    with RawPeer(settings.receiver.port) as peer:
        assert peer.associate() == ASSOCIATE_AC
        peer.store(encoded(dataset), instance=str(dataset.SOPInstanceUID))
        assert peer.status() == 0
        eventually(lambda: asked(health)[1]["studies"] == {"RECEIVING": 1})
        assert asked(health)[1]["associations"] == 1
    eventually(lambda: asked(health)[1]["associations"] == 0)
    said = ask(health)[1].decode()
    for name in ("PatientName", "PatientID", "AccessionNumber", "StudyInstanceUID"):
        assert str(dataset[name].value) not in said, "nothing of a patient"


def test_a_worker_that_does_not_run_is_told_and_keeps_nobody_from_sending(health):
    status, told = asked(health)
    assert status == 200
    assert told["wrong"] == ["worker: does not run; started with the next step"]


def test_a_full_disk(health, settings, receiver, monkeypatch):
    little = settings.receiver.model_copy(update={"minimum_free_gb": 1e6})
    check = HealthCheck(settings.model_copy(update={"receiver": little}), receiver, Worker(settings))
    assert not check.look().ok
    assert "1e+06 wanted" in check.look().parts["disk"].found


def test_a_locked_database_is_told_while_it_lasts(health, engine):
    with engine.connect() as other:
        other.execute(text("BEGIN IMMEDIATE"))
        status, told = asked(health)
        assert (status, told["parts"]["database"]["found"]) == (503, "database is locked")
    assert asked(health)[0] == 200


def test_a_lost_data_folder(health, settings, engine):
    engine.dispose()
    shutil.rmtree(settings.node.data)
    status, told = asked(health)
    assert status == 503
    assert {"database: unable to open database file", "disk: the data folder: No such file or directory"} <= set(
        told["wrong"]
    )


def test_a_listener_that_has_ended_or_stands_still(health, receiver, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(type(receiver), "silence", property(lambda _: 60.0))
        status, told = asked(health)
    assert (status, told["parts"]["listener"]["found"]) == (503, "has not looked for callers for 60 s")
    assert receiver.silence is not None
    assert receiver.silence < 2
    receiver.stop()
    status, told = asked(health)
    assert (status, told["parts"]["listener"]["found"]) == (503, "does not run")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("HEAD", "/health", 200), ("GET", "/", 404), ("GET", "/../../etc/passwd", 404), ("POST", "/health", 501)],
)
def test_nothing_else_is_there(health, method, path, status):
    answer, content = ask(health, path, method)
    assert answer == status
    assert b"Python" not in content
    assert b"root:" not in content


def test_a_silent_caller_holds_up_nobody_and_many_are_not_served(health):
    silent = [socket.create_connection(("127.0.0.1", health)) for _ in range(15)]
    begin = time.monotonic()
    assert ask(health)[0] == 200
    assert time.monotonic() - begin < 3
    silent += [socket.create_connection(("127.0.0.1", health)) for _ in range(5)]
    silent[-1].settimeout(3)
    assert silent[-1].recv(1) == b"", "one too many"
    for one in silent:
        one.close()
    eventually(lambda: _is_served(health))


def _is_served(port: int) -> bool:
    try:
        return ask(port)[0] == 200
    except OSError:
        return False


def test_a_port_that_is_taken_is_named(health, settings, receiver):
    with pytest.raises(OSError, match=f"health.port, 127.0.0.1:{health}: Address already in use"):
        HealthServer(settings, HealthCheck(settings, receiver, Worker(settings))).start()


def test_check_looks_at_its_port(settings, request):
    def told() -> tuple[bool, str]:
        [finding] = [finding for finding in check_everything(settings) if finding.what == "health probe"]
        return finding.ok, finding.found

    assert told() == (True, f"http://127.0.0.1:{settings.health.port}/health is free")
    with socket.create_server(("127.0.0.1", settings.health.port)) as another:
        another.settimeout(0)
        threading.Timer(0.2, lambda: another.accept()[0].close()).start()
        ok, found = told()
        assert not ok
        assert "health.host and health.port" in found and "another program" in found
    request.getfixturevalue("health")
    assert told() == (True, "a node answers already")


def test_off_unless_configured(make_config, receiver):
    settings = load_settings(make_config())
    assert settings.health.port == 0
    assert settings.health.host == "127.0.0.1"
    HealthServer(settings, HealthCheck(settings, receiver, Worker(settings))).start()
