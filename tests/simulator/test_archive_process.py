"""The archive as a process, and what its command line says of faults."""

from __future__ import annotations

import hashlib
import re
import signal
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest

from simulator.archive.__main__ import main
from simulator.archive.fault_text import parse_faults
from simulator.archive.faults import Faults
from tests.simulator.archive_peers import dcmtk, instance, listening
from tests.waiting import eventually


def test_with_dcmtk_as_scanner_and_faults_on_the_command_line(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(4):
        instance(number).save_as(source / f"{number}.dcm", enforce_file_format=True)
    with listening() as node:
        process = subprocess.Popen(
            [sys.executable, "-m", "simulator.archive", "--port", "0", "--folder", str(tmp_path / "kept"),
             "--route", f"NODE@127.0.0.1:{node.peer.port}", "--quiet-seconds", "1",
             "--fault", "late=1:0.5", "--fault", "split=2"],
            stdout=subprocess.PIPE, text=True,
        )
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            match = re.fullmatch(r"archive PACS ready on 127\.0\.0\.1:(\d+)\n", ready)
            assert match is not None
            dcmtk("storescu", "-aec", "PACS", "+sd", "127.0.0.1", match[1], str(source))
            eventually(lambda: len(node.received) == 4)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0
    assert [len(sent) for sent in node.by_association.values()] == [2, 1, 1]
    kept = {hashlib.sha256(pydicom.dcmread(path).PixelData).hexdigest() for path in (tmp_path / "kept").rglob("*.dcm")}
    assert kept == {hashlib.sha256(instance(number).PixelData).hexdigest() for number in range(4)}


@pytest.mark.parametrize("texts,faults", [
    ([], Faults()),
    (["refuse=2", "full=3", "abort=0", "hang=1.5"],
     Faults(refuse_associations=2, out_of_resources=3, abort_after=0, hang_seconds=1.5)),
    (["lose=1", "late=3:5", "split=10", "feign=4"],
     Faults(lose=1, late_slices=3, late_seconds=5.0, instances_per_association=10, feign_moves=4)),
    (["withhold=1", "uncommit=2", "uncommit=3"], Faults(withhold_commitments=1, fail_commitments=3)),
])
def test_faults_are_read_as_written(texts: list[str], faults: Faults) -> None:
    assert parse_faults(texts) == faults


@pytest.mark.parametrize("text,right", [
    ("late=3", "late=N:SECONDS"), ("late=3:5:1", "late=N:SECONDS"), ("lose=-1", "lose=N"), ("split=1.5", "split=N"),
    ("hang=inf", "hang=SECONDS"), ("feign", "feign=N"), ("explode=1", "refuse=N, full=N"),
])
def test_a_wrong_fault_ends_the_command_with_the_right_form(
    text: str, right: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--folder", str(tmp_path), "--fault", text])
    message = capsys.readouterr().err.splitlines()[-1]
    assert right in message
    assert repr(text) in message
