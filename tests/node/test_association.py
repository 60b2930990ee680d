"""Associations that we request, against a peer that says more than it was asked for."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Thread
from typing import Any, BinaryIO

import pytest
from pynetdicom import acse
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance, Verification

from node.association import Peer, associate, entity
from node.scu import StorageScu
from node.sender import Outgoing, SendError
from tests.mr_slices import mr_slice
from tests.node.receive.raw_peer import ABORT, ASSOCIATE_AC, IMPLICIT, P_DATA, RELEASE_RP, RELEASE_RQ, item, pdu, value
from tests.node.receive.raw_peer import element as command_element
from tests.waiting import eventually


@pytest.fixture
def hasty(monkeypatch) -> Iterator[Callable[[bytes], Peer]]:
    """A peer that accepts three presentation contexts and in the same segment says more, which we hear before we have
    looked at what it accepts."""
    negotiate = acse.negotiate_as_requestor

    def slowly(*results: Any) -> Any:
        time.sleep(0.3)
        return negotiate(*results)

    monkeypatch.setattr(acse, "negotiate_as_requestor", slowly)
    contexts = b"".join(item(0x21, struct.pack(">B3x", n) + item(0x40, IMPLICIT.encode())) for n in (1, 3, 5))
    user = item(0x50, item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3.4"))
    accept = pdu(ASSOCIATE_AC, bytes([0, 1]) + bytes(66) + item(0x10, b"1.2.840.10008.3.1.1.1") + contexts + user)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer(early: bytes) -> None:
            connection, _ = server.accept()
            with connection, connection.makefile("rb") as received, suppress(ConnectionError):
                _next(received)
                connection.sendall(accept + early)
                while (kind := _next(received)) not in (0, ABORT):
                    if kind == RELEASE_RQ:
                        connection.sendall(pdu(RELEASE_RP, bytes(4)))

        def peer(early: bytes) -> Peer:
            Thread(target=answer, args=(early,), daemon=True).start()
            return Peer("PEER", "127.0.0.1", server.getsockname()[1], "NODE", 5.0)

        yield peer


def _next(received: BinaryIO) -> int:
    """The type of the PDU that is read whole; 0 at the end of the connection."""
    header = received.read(6)
    if len(header) < 6:
        return 0
    received.read(struct.unpack(">I", header[2:])[0])
    return header[0]


def test_a_report_that_comes_with_the_acceptance_is_heard(hasty, tmp_path):
    mr_slice("virtual", 1).save_as(tmp_path / "virtual.dcm", enforce_file_format=True)
    file, heard = Outgoing.of(tmp_path / "virtual.dcm"), list[str]()
    command = (
        command_element(0x0002, StorageCommitmentPushModel.encode()) + command_element(0x0100, b"\x00\x01")
        + command_element(0x0110, b"\x01\0") + command_element(0x0800, b"\0\0")
        + command_element(0x1000, StorageCommitmentPushModelInstance.encode() + b"\0")
        + command_element(0x1002, b"\x01\0")
    )  # fmt: skip
    report = struct.pack("<HHI", 0x0008, 0x1195, 6) + b"1.2.3\0"
    whole = command_element(0, struct.pack("<I", len(command))) + command
    peer = hasty(pdu(P_DATA, value(5, 3, whole) + value(5, 2, report)))
    with StorageScu(peer, [file], report=lambda one: heard.append(one.TransactionUID)):
        eventually(lambda: heard == ["1.2.3"], 5)


def test_a_message_that_cannot_be_read_ends_the_association_at_once(hasty, tmp_path):
    """A command of no known kind."""
    mr_slice("virtual", 1).save_as(tmp_path / "virtual.dcm", enforce_file_format=True)
    file = Outgoing.of(tmp_path / "virtual.dcm")
    command = command_element(0x0100, b"\x77\x77") + command_element(0x0800, b"\x01\x01")
    whole = command_element(0, struct.pack("<I", len(command))) + command
    peer, began = hasty(pdu(P_DATA, value(5, 3, whole))), time.monotonic()
    with pytest.raises(SendError, match=r"aborted|ended"), StorageScu(peer, [file], find=True) as scu:
        scu.store(file)
    assert time.monotonic() - began < peer.timeout_seconds / 2


def test_an_association_whose_reactor_has_ended_does_not_stand(hasty):
    """It would be waited for without end, by its release too."""
    peer = hasty(b"")
    ae = entity(peer)
    ae.add_requested_context(Verification)
    association = associate(ae, peer)
    association._kill = True
    eventually(lambda: not association.is_established, 5)
    association.release()
    with pytest.raises(RuntimeError):
        association.send_c_echo()
