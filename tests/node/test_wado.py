"""QIDO-RS and WADO-RS against Orthanc's DICOMweb, and against servers that do it badly."""

from __future__ import annotations

import gzip
import json
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread

import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless
from sqlalchemy import select
from sqlalchemy.orm import Session

from node.associations import Associations
from node.dicomweb import WebServer
from node.files import DataFolder
from node.receive import STORAGE_CLASSES
from node.receive.store import Store
from node.sender import NotOfferedError, SendError
from node.source import InstanceFound, Part, RetrieveError, SeriesFound, StoppedError, StudyFound
from node.tables import Instance, Quarantined
from node.taker import Taker
from node.wado import QidoSearch, WadoSource
from simulator.orthanc import OrthancProcess
from tests.conftest import free_port, require
from tests.mr_slices import STUDY, mr_slice
from tests.waiting import eventually

SLICES = [mr_slice(series, number) for series in ("T1", "FLAIR") for number in (1, 2, 3, 4)]
T1 = SLICES[0].SeriesInstanceUID
CT = mr_slice("CT", 1, SOPClassUID="1.2.840.10008.5.1.4.1.1.2", Modality="CT")
OTHERS = mr_slice(
    "T1", 1, study="1.2.9", AccessionNumber="A9", PatientID="P9", IssuerOfPatientID="HOSPITAL"
)  # fmt: skip
Held = Callable[[], dict[str, Path]]
COMPRESSED = mr_slice("RLE", 1)
COMPRESSED.compress(RLELossless, generate_instance_uid=False)


def _bytes(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where Orthanc answers, which holds one study."""
    require("Orthanc")
    folder = tmp_path_factory.mktemp("orthanc")
    with OrthancProcess(folder, "PACS", free_port(), free_port(), free_port(), dicomweb=True) as orthanc:
        for dataset in (*SLICES, CT, COMPRESSED, OTHERS):
            orthanc.post("/instances", _bytes(dataset))
        yield f"http://127.0.0.1:{orthanc.http_port}/dicom-web"


@pytest.fixture
def taker(store: Store) -> Iterator[Taker]:
    with Taker(store, Associations(), "web@127.0.0.1") as taker:
        yield taker


def source(url: str, taker: Taker, total_seconds: float = 20.0, timeout_seconds: float = 10.0) -> WadoSource:
    return WadoSource(WebServer(url, timeout_seconds), total_seconds, STORAGE_CLASSES, taker)


def search(url: str, total_seconds: float = 5.0, authorization_file: str = "") -> QidoSearch:
    return QidoSearch(WebServer(url, 5.0, authorization_file), total_seconds)


def test_what_the_server_holds(url):
    with search(url) as place:
        keys = Dataset()
        keys.AccessionNumber = "A1"
        assert place.studies(keys) == [StudyFound(STUDY, "A1", "20260102", "", ("CT", "MR"), "P1")]
        keys.AccessionNumber = "A9"
        assert [(one.patient_id, one.issuer) for one in place.studies(keys)] == [("P9", "HOSPITAL")]
        keys.AccessionNumber = "A2"
        assert place.studies(keys) == []
        found = {series.series_instance_uid: series for series in place.series(STUDY)}
        assert found[T1] == SeriesFound(T1, "MR", 4)
        assert len(found) == 4
        assert place.series("1.2.3.4") == []
        assert set(place.instances(STUDY, T1)) == {
            InstanceFound(one.SOPInstanceUID, one.SOPClassUID) for one in SLICES[:4]
        }


def test_a_study_a_series_and_instances(url, taker, engine, held):
    with source(url, taker) as place:
        two = tuple(one.SOPInstanceUID for one in SLICES[:2])
        assert place.retrieve(Part(STUDY, T1, two)) == ""
        assert set(held()) == set(two)
        assert place.retrieve(Part(STUDY, T1)) == ""
        assert set(held()) == {one.SOPInstanceUID for one in SLICES[:4]}
        assert place.retrieve(Part(STUDY)) == ""
    kept = {uid: dcmread(path) for uid, path in held().items()}
    assert kept == {one.SOPInstanceUID: one for one in (*SLICES, COMPRESSED)}, "all but what this node does not take"
    assert kept[COMPRESSED.SOPInstanceUID].file_meta.TransferSyntaxUID == RLELossless, "as it is stored there"
    with Session(engine) as session:
        assert set(session.scalars(select(Instance.sender))) == {"web@127.0.0.1"}


def test_one_instance_that_is_not_there_keeps_no_other_away(url, taker, engine, held):
    with source(url, taker) as place:
        said = place.retrieve(Part(STUDY, T1, ("1.2.3.4", SLICES[0].SOPInstanceUID)))
    assert "404" in said
    assert set(held()) == {SLICES[0].SOPInstanceUID}


def test_somebody_calls_it_off(url, taker, engine, held):
    with source(url, taker) as place, pytest.raises(StoppedError):
        place.retrieve(Part(STUDY), lambda: len(held()) >= 3)
    assert len(held()) == 3


def test_what_cannot_be_stored_is_told(url, settings, engine):
    full = Store(engine, DataFolder(settings.node.data), 1 << 60)  # more than any disk has free
    with Taker(full, Associations(), "web") as taker, source(url, taker) as place:
        assert "was not stored" in place.retrieve(Part(STUDY))
    full.close()
    with Session(engine) as session:
        assert session.scalars(select(Instance)).all() == []


def test_a_server_that_is_down_and_one_that_is_something_else(url, taker):
    with search(f"http://127.0.0.1:{free_port()}") as place, pytest.raises(
        RetrieveError, match="cannot be reached: Connection refused"
    ):  # fmt: skip
        place.series(STUDY)
    with search(url.replace("dicom-web", "nothing")) as place, pytest.raises(
        NotOfferedError, match="offers no search: it answered 404"
    ):  # fmt: skip
        place.series(STUDY)
    with source(url, taker) as place:
        with pytest.raises(RetrieveError):
            place.series("../../instances")
        with pytest.raises(RetrieveError, match="is not a UID"):
            place.retrieve(Part("../../instances"))
    with pytest.raises(SendError, match="authorization"), search(url, authorization_file="/no/secret"):
        pass


Reply = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def server(reply: Reply) -> Iterator[str]:
    """The URL of a server that answers every GET by ``reply``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reply(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        thread = Thread(target=http.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_address[1]}"
        finally:
            http.shutdown()
            thread.join()


def answer(handler: BaseHTTPRequestHandler, body: bytes, kind: str, length: int | None = None) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


MULTIPART = 'multipart/related; type="application/dicom"; boundary=edge'


def parts(*contents: bytes) -> bytes:
    head = b"--edge\r\nContent-Type: application/dicom\r\n\r\n"
    return b"\r\n".join([*(head + content for content in contents), b"--edge--\r\n"])


def test_pages_are_turned_until_there_is_nothing_new(taker):
    """A server may answer with some of the results, and one that does not know ``offset`` always with the same."""
    def rows(first: int, last: int) -> bytes:
        return json.dumps([{"0020000E": {"vr": "UI", "Value": [f"1.2.{n}"]}} for n in range(first, last)]).encode()

    def paged(handler: BaseHTTPRequestHandler) -> None:
        offset = int(handler.path.partition("offset=")[2].partition("&")[0] or 0)
        answer(handler, rows(offset, min(offset + 3, 8)), "application/dicom+json")

    with server(paged) as url, search(url) as place:
        assert [one.series_instance_uid for one in place.series(STUDY)] == [f"1.2.{n}" for n in range(8)]
    same: Reply = lambda handler: answer(handler, rows(0, 3), "application/dicom+json")  # noqa: E731
    with server(same) as url, search(url) as place:
        assert len(place.series(STUDY)) == 3


@pytest.mark.parametrize(
    ("warning", "knows_offset", "said"),
    [
        ("299 pacs: There are 5 additional results that can be requested", True, ""),
        ("299 pacs: There are 5 additional results that can be requested", False, "tells 3 results and keeps back"),
        ("299 pacs: The fuzzymatching parameter is not supported.", False, ""),
    ],
)  # fmt: skip
def test_a_part_of_the_results_is_never_taken_for_all(warning, knows_offset, said):
    """PS3.18 section 8.3.4.4."""

    def cut(handler: BaseHTTPRequestHandler) -> None:
        first = int(handler.path.partition("offset=")[2].partition("&")[0] or 0) if knows_offset else 0
        last = min(first + 3, 8)
        rows = [{"0020000E": {"vr": "UI", "Value": [f"1.2.{n}"]}} for n in range(first, last)]
        body = json.dumps(rows).encode()
        handler.send_response(200)
        if last < 8:
            handler.send_header("Warning", warning)
        handler.send_header("Content-Type", "application/dicom+json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    with server(cut) as url, search(url) as place:
        if said:
            with pytest.raises(RetrieveError, match=said):
                place.series(STUDY)
        else:
            assert len(place.series(STUDY)) == (8 if knows_offset else 3)


@pytest.mark.parametrize("body", [
    b"<html>", b"[" * 100_000, b'["no rows"]', b'[null]', b'[{"0020000E": "x"}]', b'[{"0020000E": {"Value": "1.2.3"}}]',
    b'[{"0020000E": {"Value": ["1.2"]}, "00080060": 5}]',
])  # fmt: skip
def test_an_answer_that_is_no_qido(body):
    with (
        server(lambda handler: answer(handler, body, "application/dicom+json")) as url, search(url) as place,
        pytest.raises(RetrieveError),
    ):  # fmt: skip
        place.series(STUDY)


@pytest.mark.parametrize(
    ("told", "count"),
    [("[4]", 4), ('["4"]', 4), ("[12.0]", None), ('["9999999999999"]', None), ("null", None), ("[null]", None),
     ("[]", None)],
)  # fmt: skip
def test_what_a_row_says_of_nothing_is_nothing(told, count):
    """A value may be null (PS3.18 section F.2.5), and need not be what the standard has it be."""
    series = f'[{{"0020000E": {{"vr": "UI", "Value": ["1.2"]}}, "00201209": {{"vr": "IS", "Value": {told}}}}}]'
    with (
        server(lambda handler: answer(handler, series.encode(), "application/dicom+json")) as url, search(url) as place
    ):
        assert place.series(STUDY) == [SeriesFound("1.2", "", count)]
    study = (
        '[{"0020000D": {"vr": "UI", "Value": ["1.3"]}, "00080061": {"vr": "CS", "Value": [null, "MR"]},'
        ' "00100020": {"vr": "LO", "Value": [null]}, "00080050": {"vr": "SH", "Value": null}}]'
    )
    with (
        server(lambda handler: answer(handler, study.encode(), "application/dicom+json")) as url, search(url) as place
    ):
        assert place.studies(Dataset()) == [StudyFound("1.3", "", "", "", ("MR",))]


@pytest.mark.parametrize(
    "body",
    [b'{"Message": "database is down"}', b"{}", b'[{"00080060": {"vr": "CS", "Value": ["MR"]}}]',
     b'[{"0020000E": {"vr": "UI", "Value": ["1.2"]}}, {"0020000E": {"vr": "UI", "Value": [null]}}]'],
)  # fmt: skip
def test_a_result_of_nothing_is_told_not_left_out(body):
    with (
        server(lambda handler: answer(handler, body, "application/dicom+json")) as url, search(url) as place,
        pytest.raises(RetrieveError, match="has no value of 0020000E"),
    ):  # fmt: skip
        place.series(STUDY)


def test_padding_belongs_to_no_value():
    body = b'[{"0020000E": {"vr": "UI", "Value": ["1.2\\u0000"]}, "00080060": {"vr": "CS", "Value": ["MR "]}}]'
    with server(lambda handler: answer(handler, body, "application/dicom+json")) as url, search(url) as place:
        assert place.series(STUDY) == [SeriesFound("1.2", "MR", None)]


@pytest.mark.parametrize("location", [b"https://[bad/x", b"\xff\xfe", b"//[::1", b"http://h:99999/"])
def test_a_redirection_to_nowhere_is_told(taker, location):
    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 301 Moved\r\nContent-Length: 0\r\nLocation: " + location + b"\r\n\r\n")

    with server(reply) as url, source(url, taker) as place:
        with pytest.raises(RetrieveError):
            place.series(STUDY)
        with pytest.raises(RetrieveError):
            place.retrieve(Part(STUDY))


def test_the_page_that_explains_an_error_is_told(taker):
    def refuse(handler: BaseHTTPRequestHandler) -> None:
        page = b"<html><title>Quota of the day is used up</title></html>"
        handler.send_response(503)
        handler.send_header("Content-Length", str(len(page)))
        handler.end_headers()
        handler.wfile.write(page)

    with server(refuse) as url, source(url, taker) as place:
        assert "503 Service Unavailable (Quota of the day is used up)" in place.retrieve(Part(STUDY))


def test_instances_come_uncompressed_or_not_at_all(taker, engine, held):
    """A few kilobytes of gzip may be gigabytes."""
    asked: list[str] = []

    def compressed(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.headers["Accept-Encoding"])
        body = gzip.compress(parts(_bytes(SLICES[0])))
        handler.send_response(200)
        handler.send_header("Content-Type", MULTIPART)
        handler.send_header("Content-Encoding", "gzip")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    with (
        server(compressed) as url, source(url, taker) as place,
        pytest.raises(RetrieveError, match="Content-Encoding 'gzip'"),
    ):
        place.retrieve(Part(STUDY))
    assert asked == ["identity"]
    assert held() == {}


@pytest.mark.parametrize(
    ("how", "said"),
    [("told", "more than 64 MB"), ("untold", "more than 64 MB"), ("gzip", "more than 64 MB"),
     ("redirecting", "redirects to http://127.0.0.1")],
)  # fmt: skip
def test_an_answer_to_a_search_has_an_end(how, said):
    """One that is far larger than any that is of use is not read to its end."""
    sent: list[bool] = []
    body = b"[" + b" " * (96 << 20) + b"]"
    if how == "gzip":
        body = gzip.compress(body, 1)

    def large(handler: BaseHTTPRequestHandler) -> None:
        status = "301 Moved" if how == "redirecting" else "200 OK"
        head = f"HTTP/1.1 {status}\r\nConnection: close\r\nLocation: /x\r\n"
        if how == "gzip":
            head += "Content-Encoding: gzip\r\n"
        if how == "told":
            head += f"Content-Length: {len(body)}\r\n"
        try:
            handler.wfile.write(head.encode() + b"\r\n" + body)
            sent.append(True)
        except OSError:
            sent.append(False)
        handler.close_connection = True

    with server(large) as url, search(url, 20.0) as place, pytest.raises(RetrieveError, match=said):
        place.series(STUDY)
    eventually(lambda: bool(sent), 5)
    assert sent == [how == "gzip"]


def _in_the_status_line(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 ")


def _in_a_header(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nServer: ")


def _in_the_content(handler: BaseHTTPRequestHandler) -> None:
    answer(handler, b"--edge\r\n", MULTIPART, length=1 << 20)


def _in_content_of_unknown_length(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Type: application/dicom\r\n\r\n")


@pytest.mark.parametrize(
    "begin", [_in_the_status_line, _in_a_header, _in_the_content, _in_content_of_unknown_length]
)
def test_bytes_that_drip_are_no_silence_but_end(taker, begin):
    def drip(handler: BaseHTTPRequestHandler) -> None:
        begin(handler)
        for _ in range(200):
            time.sleep(0.05)
            try:
                handler.wfile.write(b"x")
                handler.wfile.flush()
            except OSError:
                return

    with server(drip) as url, source(url, taker, total_seconds=0.5) as place:
        began = time.monotonic()
        with pytest.raises(RetrieveError, match=r"did not finish within 0\.5 s"):
            place.retrieve(Part(STUDY))
        with pytest.raises(RetrieveError, match=r"did not finish within 0\.5 s"):
            place.series(STUDY)
        assert time.monotonic() - began < 5


def test_silence_ends(taker):
    with (
        server(lambda handler: time.sleep(2)) as url, source(url, taker, timeout_seconds=0.3) as place,
        pytest.raises(RetrieveError, match="ReadTimeout"),
    ):  # fmt: skip
        place.retrieve(Part(STUDY))


def test_what_came_before_the_connection_broke_is_kept(taker, engine, held):
    large = {"Rows": 256, "Columns": 256, "PixelData": bytes(2 * 256 * 256)}
    first, second = _bytes(mr_slice("T1", 1, **large)), _bytes(mr_slice("T1", 2, **large))
    whole = parts(first, second)
    cut = whole[: len(whole) - len(second) // 2]
    with (
        server(lambda handler: answer(handler, cut, MULTIPART, length=len(whole))) as url, source(url, taker) as place,
        pytest.raises(RetrieveError, match="failed: ChunkedEncodingError"),
    ):  # fmt: skip
        place.retrieve(Part(STUDY))
    assert set(held()) == {SLICES[0].SOPInstanceUID}


def test_the_bytes_are_those_that_came(taker, engine, held):
    """Whatever pydicom would make of them: here an element out of order, and a private one of odd length."""
    content = _bytes(SLICES[0]) + b"\x09\x00\x10\x00LO\x03\x00abc"
    with server(lambda handler: answer(handler, parts(content), MULTIPART)) as url, source(url, taker) as place:
        assert place.retrieve(Part(STUDY)) == ""
    [path] = held().values()
    assert path.read_bytes().endswith(content[-2000:])


def test_a_large_instance_is_never_in_memory_whole(taker, engine, held):
    pixels = 32 << 20
    large = _bytes(mr_slice("T1", 1, Rows=4096, Columns=4096, PixelData=bytes(pixels)))
    body = parts(large)
    with server(lambda handler: answer(handler, body, MULTIPART)) as url, source(url, taker) as place:
        tracemalloc.start()
        assert place.retrieve(Part(STUDY)) == ""
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < pixels / 8
    [path] = held().values()
    assert path.read_bytes().endswith(large[-pixels:])


def test_broken_instances_and_what_is_none(taker, engine, held):
    truncated = _bytes(SLICES[0])[:-100]
    with server(lambda handler: answer(handler, parts(truncated), MULTIPART)) as url, source(url, taker) as place:
        assert "truncated" in place.retrieve(Part(STUDY))
    with Session(engine) as session:
        assert session.scalars(select(Quarantined.sender)).all() == ["web@127.0.0.1"]
    assert held() == {}
    whole = _bytes(SLICES[1])
    for broken in (b"no DICOM", whole[:140], whole[:160], bytes(128) + b"DICM" + whole[144:]):
        body = parts(broken, whole)
        with server(lambda handler, body=body: answer(handler, body, MULTIPART)) as url, source(url, taker) as place:
            assert "cannot be read" in place.retrieve(Part(STUDY))
        assert set(held()) == {SLICES[1].SOPInstanceUID}, "what is broken keeps no other away"


def test_an_answer_that_is_no_multipart(taker, engine, held):
    """Some servers send a single instance as it is."""
    with (
        server(lambda handler: answer(handler, _bytes(SLICES[0]), "application/dicom")) as url,
        source(url, taker) as place,
    ):
        assert place.retrieve(Part(STUDY, T1, (SLICES[0].SOPInstanceUID,))) == ""
    assert set(held()) == {SLICES[0].SOPInstanceUID}
    with (
        server(lambda handler: answer(handler, b"--edge--", "multipart/related")) as url, source(url, taker) as place,
        pytest.raises(RetrieveError, match="multipart without a boundary"),
    ):  # fmt: skip
        place.retrieve(Part(STUDY))
