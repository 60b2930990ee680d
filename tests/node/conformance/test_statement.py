"""The conformance statement: the page in docs/ is what the code says, and a running listener does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pynetdicom.sop_class
import pytest
from pydicom.uid import CTImageStorage, MRImageStorage
from pynetdicom import AE, build_role
from pynetdicom.sop_class import StorageCommitmentPushModel

from node.conformance import statement
from node.settings import load_settings
from tests.conftest import ROOT, ConfigMaker
from tests.node.receive.conftest import Listening, StartReceiver, start_receiver
from tests.node.receive.raw_peer import ASSOCIATE_RJ, RawPeer, associate_request

__all__ = ["start_receiver"]  # the fixture

_KNOWN = sorted({str(uid) for uid in vars(pynetdicom.sop_class).values() if re.fullmatch(r"1\.2\.840\.10008\.[\d.]+",
                                                                                         str(uid))})  # fmt: skip


@pytest.fixture(scope="module")
def node(start_receiver: StartReceiver) -> Listening:
    return start_receiver(extra_sop_classes=f'["{CTImageStorage}"]', maximum_associations=3)


def column(page: str, heading: str, wanted: int) -> dict[str, str]:
    """UIDs of a chapter's first column of UIDs, and what stands ``wanted`` columns behind each."""
    chapter = page.partition(heading)[2].partition("\n#")[0]
    rows = [row.strip("| ").split(" | ") for row in chapter.splitlines() if re.search(r"\| `[\d.]+` \|", row)]
    return {row[1].strip("`"): row[1 + wanted] for row in rows}


def test_the_page_is_what_the_code_says() -> None:
    """`quarterdose conformance > docs/conformance.md` makes it again."""
    assert (ROOT / "docs" / "conformance.md").read_text("utf-8") == statement(load_settings(ROOT / "config.toml"))


def test_the_listener_takes_what_the_statement_says_and_nothing_else(node: Listening) -> None:
    said = {uid for uid, as_scp in column(statement(node.settings), "## 1 Overview", 2).items() if as_scp == "yes"}
    assert {CTImageStorage, MRImageStorage} < said < set(_KNOWN) and len(_KNOWN) > 250
    taken = set()
    for start in range(0, len(_KNOWN), 128):
        caller = AE("PACS")
        for uid in _KNOWN[start : start + 128]:
            caller.add_requested_context(uid)
        association = caller.associate("127.0.0.1", node.port, ae_title="QUARTERDOSE")
        taken |= {str(context.abstract_syntax) for context in association.accepted_contexts}
        if association.is_established:
            association.release()
    assert taken == said
    told = association.acceptor
    for ours in (str(told.implementation_class_uid), told.implementation_version_name):
        assert f"| `{ours}` |" in statement(node.settings)


def test_every_transfer_syntax_that_it_lists_is_taken(node: Listening) -> None:
    page = statement(node.settings).partition("The transfer syntaxes of storage")[2].partition("Refused")[0]
    said = re.findall(r"`([\d.]+)`", page)
    caller = AE("PACS")
    for uid in said:
        caller.add_requested_context(MRImageStorage, uid)
    association = caller.associate("127.0.0.1", node.port, ae_title="QUARTERDOSE")
    assert {context.transfer_syntax[0] for context in association.accepted_contexts} == set(said)
    association.release()


def test_both_roles_of_storage_commitment_are_negotiated(node: Listening) -> None:
    assert "| SCU and SCP |" in next(
        row for row in statement(node.settings).partition("## 3")[2].splitlines() if StorageCommitmentPushModel in row
    )
    caller = AE("PACS")
    caller.add_requested_context(StorageCommitmentPushModel)
    as_provider = [build_role(StorageCommitmentPushModel, scp_role=True)]
    association = caller.associate("127.0.0.1", node.port, ae_title="QUARTERDOSE", ext_neg=as_provider)
    (context,) = association.accepted_contexts
    assert context.as_scp
    association.release()


@pytest.mark.parametrize(("called", "calling", "row"), [
    ("OTHER", "PACS", "the called AE title is not ours"), ("QUARTERDOSE", "OTHER", "the calling AE title"),
])  # fmt: skip
def test_refusals_are_those_of_the_table(node: Listening, called: str, calling: str, row: str) -> None:
    (told,) = [line for line in statement(node.settings).splitlines() if line.startswith(f"| {row}")]
    with RawPeer(node.port) as peer:  # pynetdicom's requestor may lose an answer under load
        peer.send(associate_request(calling=calling, called=called))
        kind, content = peer.receive()
    assert (kind, list(content[-3:])) == (ASSOCIATE_RJ, [int(one) for one in re.findall(r"\| (\d)(?= )", told)])


def test_it_tells_the_settings_and_no_path_or_secret(make_config: ConfigMaker, tmp_path: Path) -> None:
    users = tmp_path / "secret-users"
    users.write_text("")
    page = statement(load_settings(make_config(maximum_pdu=54321, user_identities=f'"{users}"')))
    assert "54321" in page and "has to name a user with a passcode" in " ".join(page.split())
    assert str(tmp_path) not in page and "secret-users" not in page
