"""IPv4 and IPv6: where the listener listens, and who may call from where."""

from __future__ import annotations

import socket

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from node.association import Peer
from node.checks import check_receiver
from node.cli import app
from node.scu import StorageScu, echo
from node.sender import Outgoing
from node.settings import ConfigurationError, load_settings
from node.tables import Event, Instance
from tests.conftest import write_config
from tests.mr_slices import mr_slice
from tests.node.receive.conftest import Listening, StartReceiver
from tests.node.receive.raw_peer import ASSOCIATE_AC, ASSOCIATE_RJ, RawPeer, associate_request
from tests.node.receive.test_guards import data
from tests.waiting import eventually

_CALLERS = '["ANY", "FOUR@127.0.0.1", "SIX@0:0:0:0:0:0:0:1", "FAR@fd00::5"]'


@pytest.fixture(scope="module", params=["true", "false"], ids=["fast lane", "stock"])
def everywhere(start_receiver: StartReceiver, request: pytest.FixtureRequest) -> Listening:
    """Listens on every address of both kinds."""
    return start_receiver(receiver__host='"::"', calling_ae_titles=_CALLERS, fast_lane=request.param)


@pytest.mark.parametrize(
    ("calling", "host", "answer"),
    [
        ("ANY", "127.0.0.1", ASSOCIATE_AC),
        ("ANY", "::1", ASSOCIATE_AC),
        ("FOUR", "127.0.0.1", ASSOCIATE_AC),  # comes to a socket of IPv6 as ::ffff:127.0.0.1
        ("FOUR", "::1", ASSOCIATE_RJ),
        ("SIX", "::1", ASSOCIATE_AC),
        ("SIX", "127.0.0.1", ASSOCIATE_RJ),
        ("FAR", "::1", ASSOCIATE_RJ),
    ],
)
def test_who_may_call_from_where(everywhere, calling, host, answer):
    with RawPeer(everywhere.port, host) as peer:
        peer.send(associate_request(calling=calling))
        kind, content = peer.receive()
    assert kind == answer
    if answer == ASSOCIATE_RJ:
        assert tuple(content[1:]) == (1, 1, 3)
        eventually(lambda: any(f"{calling}@{host}" == who for who in _who(everywhere)))


def _who(node: Listening) -> list[str]:
    with node.reading() as session:
        return list(session.scalars(select(Event.who)))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_sender_is_written_with_its_own_address(everywhere, host):
    content, uid = data(1 if ":" in host else 2)
    with RawPeer(everywhere.port, host) as peer:
        peer.associate(calling="ANY")
        peer.store(content, instance=uid)
        assert peer.status() == 0
    with everywhere.reading() as session:
        sender = session.scalars(select(Instance.sender).where(Instance.sop_instance_uid == uid)).one()
    assert sender == f"ANY@{host}"


def test_loopback_of_ipv6_alone(start_receiver, tmp_path):
    node = start_receiver(receiver__host='"::1"', calling_ae_titles='["PACS@::1"]')
    mr_slice("six", 1).save_as(tmp_path / "slice.dcm", enforce_file_format=True)
    peer = Peer("QUARTERDOSE", "::1", node.port, "PACS", 10.0)
    file = Outgoing.of(tmp_path / "slice.dcm")
    echo(peer)
    said = CliRunner().invoke(app, ["echo", "--to", f"QUARTERDOSE@[::1]:{node.port}", "--as", "PACS"]).output
    assert f"{peer} answers" in said
    with StorageScu(peer, [file]) as scu:
        scu.store(file)
    with node.reading() as session:
        assert session.scalars(select(Instance.sender)).all() == ["PACS@::1"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", node.port), timeout=5)
    assert "answers C-ECHO" in check_receiver(node.settings).found


@pytest.mark.parametrize("address", ["pacs.example.org", "10.0.0.256", "fd00::5::1"])
def test_an_address_that_is_none_is_named(tmp_path, address):
    path = write_config(tmp_path, calling_ae_titles=f'["PACS@{address}"]')
    with pytest.raises(ConfigurationError, match=f"'{address}' is no IP address.*PACS@fd00::5"):
        load_settings(path)
