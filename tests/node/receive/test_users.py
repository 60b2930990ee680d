"""User identity negotiation (PS3.7 section D.3.3.7): nobody's business unless configured, then checked."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from node.checks import check_receiver
from node.cli import app
from node.receive.users import line_for
from node.settings import ConfigurationError, load_settings
from node.tables import Event
from tests.conftest import require, write_config
from tests.mr_slices import mr_slice
from tests.node.receive.conftest import Listening, StartReceiver
from tests.node.receive.raw_peer import ASSOCIATE_AC, ASSOCIATE_RJ, RawPeer, associate_request, item
from tests.waiting import eventually

_NAME, _BOTH, _KERBEROS, _SAML, _TOKEN = 1, 2, 3, 4, 5


def identity(kind: int, primary: bytes, secondary: bytes = b"", *, answer: bool = False) -> bytes:
    """The sub-item of an A-ASSOCIATE-RQ (table D.3-14)."""
    fields = struct.pack(">H", len(primary)) + primary + struct.pack(">H", len(secondary)) + secondary
    return item(0x58, bytes((kind, answer)) + fields)


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("users") / "users"
    lines = [line_for("scanner:3", "tight 1ps"), line_for("Jürgen", "geheim")]
    path.write_text("# who may send\n\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module", params=["true", "false"], ids=["fast lane", "stock"])
def strict(start_receiver: StartReceiver, users: Path, request: pytest.FixtureRequest) -> Listening:
    return start_receiver(user_identities=f'"{users}"', fast_lane=request.param)


@pytest.fixture(scope="module", params=["true", "false"], ids=["fast lane", "stock"])
def lax(start_receiver: StartReceiver, request: pytest.FixtureRequest) -> Listening:
    return start_receiver(fast_lane=request.param)


def ask(node: Listening, user_items: bytes) -> tuple[int, bytes]:
    with RawPeer(node.port) as peer:
        peer.send(associate_request(user_items=user_items))
        return peer.receive()


@pytest.mark.parametrize("kind", [_NAME, _BOTH, _KERBEROS, _SAML, _TOKEN])
def test_unless_configured_every_identity_is_let_in_without_an_answer(lax, kind):
    answer, content = ask(lax, identity(kind, b"whoever", b"whatever", answer=True))
    assert answer == ASSOCIATE_AC
    assert b"\x59\x00" not in content[68:], "a node that does not look makes no positive response"


@pytest.mark.parametrize(("name", "passcode"), [("scanner:3", "tight 1ps"), ("Jürgen", "geheim")])
@pytest.mark.parametrize("answer", [True, False])
def test_a_user_with_the_right_passcode_is_let_in_and_told_so_when_it_asks(strict, name, passcode, answer):
    kind, content = ask(strict, identity(_BOTH, name.encode(), passcode.encode(), answer=answer))
    assert kind == ASSOCIATE_AC
    assert (item(0x59, struct.pack(">H", 0)) in content) == answer


@pytest.mark.parametrize(
    ("items", "why"),
    [
        (b"", "no user identity"),
        (identity(_BOTH, b"scanner:3", b"guess"), "unknown, or the passcode"),
        (identity(_BOTH, b"scanner:3", b""), ""),  # a passcode must not be empty; pynetdicom may find it first
        (identity(_BOTH, b"nobody", b"tight 1ps"), "'nobody' is unknown, or the passcode"),
        (identity(_BOTH, b"", b""), ""),
        (identity(_BOTH, b"\xff\xfe\n", b"x"), "unknown, or the passcode"),
        (identity(_NAME, b"scanner:3"), "a name without a passcode"),
        (identity(_KERBEROS, b"ticket"), "a Kerberos ticket"),
        (identity(_SAML, b"<saml/>"), "a SAML assertion"),
        (identity(_TOKEN, b"a.b.c"), "a JSON Web Token"),
    ],
)
def test_everybody_else_is_refused_for_good_and_noted_without_the_passcode(strict, items, why):
    kind, content = ask(strict, items)
    assert kind != ASSOCIATE_AC
    if why:
        assert (kind, tuple(content[1:])) == (ASSOCIATE_RJ, (1, 2, 1)), "permanent, by ACSE, no reason given"
        noted = eventually(lambda: [said for said in _reasons(strict) if why in said])
        assert not any("guess" in said or "tight" in said or "\n" in said for said in noted)


def _reasons(node: Listening) -> list[str]:
    with Session(node.engine) as session:
        return list(session.scalars(select(Event.why)))


def test_dcmtk_as_a_user(strict, slice_file):
    assert storescu(strict, slice_file, "-usr", "scanner:3", "-pwd", "tight 1ps", "-rsp") == 0
    assert storescu(strict, slice_file, "-usr", "scanner:3", "-pwd", "tight") != 0
    assert storescu(strict, slice_file) != 0


def test_dcmtk_as_a_user_of_a_node_that_does_not_look(lax, slice_file):
    assert storescu(lax, slice_file, "-usr", "scanner:3", "-pwd", "tight") == 0
    assert storescu(lax, slice_file, "-usr", "scanner:3", "-rsp") != 0, "it insists on an answer; that is its decision"


@pytest.fixture
def slice_file(tmp_path: Path) -> Path:
    mr_slice("user", 1).save_as(tmp_path / "slice.dcm", enforce_file_format=True)
    return tmp_path / "slice.dcm"


def storescu(node: Listening, file: Path, *options: str) -> int:
    called = ["-aet", "PACS", "-aec", "QUARTERDOSE", *options, "127.0.0.1", str(node.port), str(file)]
    return subprocess.run([require("storescu"), *called], timeout=30, check=False, capture_output=True).returncode


def test_the_command_makes_a_line_that_works(start_receiver, tmp_path):
    assert "[required]" not in CliRunner().invoke(app, ["user", "--help"]).output.split("--passcode")[1]
    assert CliRunner().invoke(app, ["user", "ct7"], input="\n\n").exit_code == 2
    done = CliRunner().invoke(app, ["user", "ct7"], input="secret\nsecret\n")
    assert done.exit_code == 0
    line = done.output.strip().splitlines()[-1]
    assert line.startswith("ct7:")
    assert "secret" not in line
    (tmp_path / "users").write_text(line)
    node = start_receiver(user_identities=f'"{tmp_path / "users"}"')
    assert ask(node, identity(_BOTH, b"ct7", b"secret"))[0] == ASSOCIATE_AC


def test_check_reads_the_file(tmp_path, users):
    settings = load_settings(write_config(tmp_path, user_identities=f'"{users}"'))
    assert "users are checked, whose passcodes anybody can read without TLS" in check_receiver(settings).found
    settings = load_settings(write_config(tmp_path, user_identities='"none"'))
    assert not check_receiver(settings).ok
    assert str(tmp_path / "none") in check_receiver(settings).found


@pytest.mark.parametrize(
    ("content", "said"),
    [("scanner", "line 1 of .* is not name:salt:hash"), (None, "No such file.*quarterdose user NAME")],
)
def test_a_file_that_cannot_be_read_is_named(start_receiver, tmp_path, content, said):
    if content is not None:
        (tmp_path / "users").write_text(content)
    with pytest.raises(ConfigurationError, match=said):
        start_receiver(user_identities=f'"{tmp_path / "users"}"')
