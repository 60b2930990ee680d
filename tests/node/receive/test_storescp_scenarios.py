"""The scenarios of pynetdicom's own tests of its storescp application, held by this node's listener.

Of pynetdicom 3.0.4's apps/tests/test_storescp.py, in its order:

- default, quiet, verbose, debug (an association, C-ECHO): ``test_an_echo_and_a_store``; that they differ in what
  storescp prints does not apply, the node's log is one and goes to standard error.
- version, log_collision: flags of that command line.
- log_level, ta, td, tn: skipped there as untestable. Here tests/node/receive/test_guards.py holds the timeouts.
- max_pdu: ``test_the_maximum_pdu_is_announced``.
- xequal, xe, xb, xi (which transfer syntax is preferred): there is no such flag, the caller's first choice is taken,
  but Explicit VR before Implicit VR: ``test_which_of_several_transfer_syntaxes_is_taken``.
- output: ``test_an_echo_and_a_store``, and an SOP class besides those of a brain MRI: ``test_a_configured_sop_class``.
- ignore (success without keeping anything): never.
- store_deflated: ``test_what_is_stored_stays_as_it_was_sent``, with every other transfer syntax.
- all of it once more through the installed command: tests/system/test_dcmtk.py runs the node as a process.
- that the process ends with a code when it is told to stop: it ends with 0, as tests/system/node_process.py waits for.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    AllTransferSyntaxes,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    MRImageStorage,
    RLELossless,
)
from pynetdicom import AE
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import Verification
from sqlalchemy import select

from node.tables import Instance
from tests.mr_slices import mr_slice
from tests.node.receive.conftest import Listening, StartReceiver
from tests.node.receive.raw_peer import ASSOCIATE_AC, MR, RawPeer

# Papyrus 3, which PS3.6 retired and pydicom does not write; and JPIP, whose instances hold no pixels: not taken
_NOT_TAKEN = {"1.2.840.10008.1.20", *(f"1.2.840.10008.1.2.4.{number}" for number in (94, 95, 204, 205))}


@pytest.fixture(scope="module", params=["true", "false"], ids=["fast lane", "stock"])
def node(start_receiver: StartReceiver, request: pytest.FixtureRequest) -> Listening:
    return start_receiver(
        maximum_pdu=123456, extra_sop_classes=f'["{CTImageStorage}"]', fast_lane=request.param
    )  # fmt: skip


def caller(*contexts: tuple[str, list[str]]) -> AE:
    ae = AE("PACS")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 5
    ae.add_requested_context(Verification)
    for sop_class, syntaxes in contexts:
        ae.add_requested_context(sop_class, syntaxes)
    return ae


def stored(node: Listening, uid: str) -> Path:
    with node.reading() as session:
        path = session.scalars(select(Instance.path).where(Instance.sop_instance_uid == uid)).one()
    return node.settings.node.data / path


def test_an_echo_and_a_store(node):
    association = caller((MRImageStorage, [ExplicitVRLittleEndian])).associate(
        "127.0.0.1", node.port, ae_title="QUARTERDOSE"
    )
    assert association.is_established
    assert {context.abstract_syntax for context in association.accepted_contexts} == {Verification, MRImageStorage}
    assert association.send_c_echo().Status == 0x0000
    sent = mr_slice("scenario", 1)
    assert association.send_c_store(sent).Status == 0x0000
    association.release()
    assert association.is_released
    assert dcmread(stored(node, str(sent.SOPInstanceUID))) == sent


def test_the_maximum_pdu_is_announced(node):
    association = caller().associate("127.0.0.1", node.port, ae_title="QUARTERDOSE")
    assert association.is_established
    association.release()
    assert association.acceptor.maximum_length == 123456


@pytest.mark.parametrize(
    ("proposed", "taken"),
    [
        ([ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian], ExplicitVRLittleEndian),
        ([ImplicitVRLittleEndian, ExplicitVRBigEndian], ImplicitVRLittleEndian),
        ([ExplicitVRLittleEndian, ImplicitVRLittleEndian], ExplicitVRLittleEndian),
        ([ExplicitVRBigEndian, ImplicitVRLittleEndian], ExplicitVRBigEndian),
        ([JPEG2000Lossless, ImplicitVRLittleEndian, ExplicitVRLittleEndian], JPEG2000Lossless),
        (["1.2.3", RLELossless, ImplicitVRLittleEndian], RLELossless),
        ([ImplicitVRLittleEndian], ImplicitVRLittleEndian),
        (["1.2.3"], None),
    ],
)
def test_which_of_several_transfer_syntaxes_is_taken(node, proposed, taken):
    association = caller((MRImageStorage, proposed)).associate("127.0.0.1", node.port, ae_title="QUARTERDOSE")
    accepted = {context.abstract_syntax: context.transfer_syntax for context in association.accepted_contexts}
    association.release()
    assert accepted.get(MRImageStorage) == (None if taken is None else [taken])
    assert Verification in accepted


def test_a_configured_sop_class(node):
    association = caller((CTImageStorage, [ExplicitVRLittleEndian])).associate(
        "127.0.0.1", node.port, ae_title="QUARTERDOSE"
    )
    sent = mr_slice("scenario", 2, SOPClassUID=CTImageStorage, Modality="CT")
    sent.file_meta.MediaStorageSOPClassUID = CTImageStorage
    assert association.send_c_store(sent).Status == 0x0000
    association.release()
    assert dcmread(stored(node, str(sent.SOPInstanceUID))).SOPClassUID == CTImageStorage


def sent_as(syntax: UID, number: int) -> tuple[str, bytes]:
    """An instance's UID and its data set in a transfer syntax; pixels are compressed in name, nobody looks inside."""
    dataset = mr_slice("scenario", number)
    if syntax.is_compressed and syntax != DeflatedExplicitVRLittleEndian:
        dataset.PixelData = encapsulate([bytes(range(200)), b"end!"])
        dataset["PixelData"].is_undefined_length = True
        dataset["PixelData"].VR = "OB"
    content = encode(dataset, syntax.is_implicit_VR, syntax.is_little_endian)
    assert content is not None
    if syntax == DeflatedExplicitVRLittleEndian:
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        content = packer.compress(content) + packer.flush()
        content += b"\0" * (len(content) % 2)
    return str(dataset.SOPInstanceUID), content


@pytest.mark.parametrize(
    "syntax", [uid for uid in AllTransferSyntaxes if uid not in _NOT_TAKEN], ids=lambda uid: uid.name
)
def test_what_is_stored_stays_as_it_was_sent(node, syntax):
    number = 100 + AllTransferSyntaxes.index(syntax)
    uid, content = sent_as(syntax, number)
    with RawPeer(node.port) as peer:
        assert peer.associate(contexts=((MR, str(syntax)),)) == ASSOCIATE_AC
        peer.store(content, instance=uid)
        assert peer.status() == 0x0000
    kept = stored(node, uid).read_bytes()
    assert kept[144 + struct.unpack_from("<I", kept, 140)[0] :] == content
    assert dcmread(stored(node, uid), stop_before_pixels=True).file_meta.TransferSyntaxUID == syntax


@pytest.mark.parametrize("app", ["echoscu", "storescu"])
def test_pynetdicoms_own_applications(node, tmp_path, app):
    mr_slice("scenario", 3).save_as(tmp_path / "slice.dcm", enforce_file_format=True)
    files = [str(tmp_path / "slice.dcm")] if app == "storescu" else []
    command = [sys.executable, "-m", "pynetdicom", app, "127.0.0.1", str(node.port), *files]
    done = subprocess.run(
        [*command, "-aet", "PACS", "-aec", "QUARTERDOSE", "-v"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Association Accepted" in done.stderr
    assert f"{'Echo' if app == 'echoscu' else 'Store'} Response (Status: 0x0000" in done.stderr
