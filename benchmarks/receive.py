"""How fast the node receives, and in how much memory, beside what a site would run instead.

    python -m benchmarks.receive [--rounds 3] [--associations 1 4 16] [--only orthanc node] [--nagle] [--cold]
    python -m benchmarks.receive --instances 100000 --associations 4 --only node --every 10000
    python -m benchmarks.receive --gigabyte

592 MR instances of about 130 KB go from DCMTK's storescu over loopback to each receiver in turn, every time newly
started on an empty folder of the same disk. A cell is one such transfer, after as many other instances came the same
way: receivers run for months, and how they begin (databases, caches, places on the disk) is another question, which
``--cold`` asks. The cells of a round are interleaved, so that what else the machine does falls on all alike, and the
median over the rounds is printed: instances/s, the ratio to Orthanc's, CPU milliseconds of the receiver for each
instance, and the most memory it ever held (VmHWM). What was received is removed at the very end: ext4 passes over the
places of files deleted in the last seconds one by one for each new file, which took storescp's rate from 2600 to 1600
instances/s. A cell takes up to 350 MB of disk.

Debian's DCMTK leaves Nagle's algorithm on, which waits 40 ms for the other side's delayed acknowledgement, for each
instance; other builds turn it off. It is turned off here for the sender and every receiver (by a library loaded before
them), so that receivers are compared and not that wait; ``--nagle`` leaves all as Debian ships them.

* ``storescp``: DCMTK's, nothing durable
* ``orthanc``: Debian's Orthanc with its default settings
* ``pynetdicom``: as its own storescp does, the dataset decoded and saved, nothing durable
* ``node``: our receiver as `quarterdose run` starts it: fsynced files, committed rows
* ``stock``: the same with ``receiver.fast_lane = false``
* ``unsynced``: the node where fsync and fdatasync do nothing (by a library, too): what durability costs
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage

from benchmarks.receivers import AE_TITLE, CONTESTANTS, NODELAY, preloaded, running
from tests.conftest import require
from tests.mr_slices import mr_slice

_SETTLE_SECONDS = 3.0


@dataclass(frozen=True)
class Cell:
    """What one transfer showed. ``cpu_ms``: user and system time of the receiver for each instance."""

    rate: float
    cpu_ms: float
    peak_mb: float


def write_instances(folder: Path, numbers: range) -> list[Path]:
    """MR slices of 256 × 256 with the header of a usual scanner, about 130 KB each."""
    rng = np.random.default_rng(numbers.start)
    paths = []
    for number in numbers:
        pixels = rng.integers(0, 4096, (256, 256), np.uint16)
        dataset = mr_slice(f"series {number // 200}", number, Rows=256, Columns=256, PixelData=pixels.tobytes())
        _fill(dataset)
        path = folder / f"{number:06d}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _fill(dataset: Dataset) -> None:
    """What scanners write besides: some forty more elements, a code sequence and a private block."""
    for keyword in ("StationName", "InstitutionName", "ManufacturerModelName", "ProtocolName", "SequenceName",
                    "StudyDescription", "BodyPartExamined", "PatientPosition", "SoftwareVersions", "TransmitCoilName",
                    "DeviceSerialNumber", "ReceiveCoilName", "InPlanePhaseEncodingDirection"):  # fmt: skip
        setattr(dataset, keyword, "VALUE")
    for keyword in ("ImagingFrequency", "EchoNumbers", "MagneticFieldStrength", "SpacingBetweenSlices", "SAR",
                    "NumberOfPhaseEncodingSteps", "EchoTrainLength", "PercentSampling", "PercentPhaseFieldOfView",
                    "PixelBandwidth", "dBdt", "SliceLocation", "PatientWeight"):  # fmt: skip
        setattr(dataset, keyword, 3)
    for keyword in ("StudyTime", "SeriesTime", "ContentTime"):
        setattr(dataset, keyword, "101010.123")
    dataset.StudyID, dataset.SeriesNumber = "1", 1  # storescu complains where it cannot invent them
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "12738006", "SCT", "Brain"
    dataset.AnatomicRegionSequence = [code]
    block = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    for offset in range(8, 24):
        block.add_new(offset, "LO", "private value")


def send(port: int, files: list[Path], associations: int, environment: dict[str, str] | None = None) -> float:
    """Send the files over so many associations at once, one storescu each; returns the seconds it took."""
    storescu = require("storescu")
    shares = [files[n::associations] for n in range(associations)]
    begin = time.perf_counter()
    senders = [
        subprocess.Popen(
            [storescu, "-aec", AE_TITLE, "127.0.0.1", str(port), *map(str, share)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment,
        )
        for share in shares
    ]  # fmt: skip
    for sender in senders:
        _, error = sender.communicate()
        assert sender.returncode == 0 and b"E:" not in error, error.decode()[-2000:]
    return time.perf_counter() - begin


def measure(
    name: str, before: list[Path], files: list[Path], associations: int, space: Path, environment: dict[str, str]
) -> Cell:
    """One transfer to a receiver of its own, which got the files ``before`` already."""
    with running(name, Path(tempfile.mkdtemp(dir=space)), environment) as (port, process):
        if before:
            send(port, before, associations, environment)
            time.sleep(_SETTLE_SECONDS)
        os.sync()  # what the cell before wrote without waiting for the disk is not this one's to wait for
        begin = _cpu_seconds(process)
        seconds = send(port, files, associations, environment)
        # Children that ended (storescp forks one for each association) count once they are waited for.
        return Cell(len(files) / seconds, 1e3 * (_cpu_seconds(process) - begin) / len(files), _peak_mb(process))


def _cpu_seconds(process: int) -> float:
    numbers = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, numbers[11:15])) / os.sysconf("SC_CLK_TCK")


def _peak_mb(process: int) -> float:
    [line] = [line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def table(
    names: list[str], before: list[Path], files: list[Path], associations: list[int], rounds: int, space: Path,
    environment: dict[str, str],
) -> None:
    """Print the medians: a row for each contestant, its cells by the number of associations."""
    cells: dict[tuple[str, int], list[Cell]] = {}
    for number in range(rounds):
        for count in associations:
            for name in names:
                cells.setdefault((name, count), []).append(measure(name, before, files, count, space, environment))
                cell = cells[name, count][-1]
                print(f"round {number + 1}: {name} × {count}: {cell.rate:.0f}/s", file=sys.stderr, flush=True)
    print(f"{len(files)} instances of {files[0].stat().st_size / 1e3:.0f} KB, median of {rounds}")
    print(f"{'':12}" + "".join(f"{f'{count} association(s)':>44}" for count in associations))
    print(f"{'':12}" + f"{'inst/s':>11}{'× Orthanc':>11}{'CPU ms':>11}{'MB':>11}" * len(associations))
    for name in names:
        row = f"{name:12}"
        for count in associations:
            found = cells[name, count]
            rate = statistics.median(cell.rate for cell in found)
            rival = [cell.rate for cell in cells.get(("orthanc", count), [])]
            ratio = f"{rate / statistics.median(rival):.2f}" if rival else "-"
            cpu = statistics.median(cell.cpu_ms for cell in found)
            row += f"{rate:11.0f}{ratio:>11}{cpu:11.2f}{max(cell.peak_mb for cell in found):11.0f}"
        print(row)


def long_run(
    name: str, files: list[Path], associations: int, total: int, every: int, space: Path, environment: dict[str, str]
) -> None:
    """Print rate and memory after each ``every`` of ``total`` instances: both should stay flat.

    storescu gives every instance a new SOP Instance UID, every 50 a new series, and each association a new study. The
    node's studies are listed at the end.
    """
    with tempfile.TemporaryDirectory(dir=space) as folder, running(name, Path(folder)) as (port, process):
        done = 0
        while done < total:
            begin, sent = time.perf_counter(), 0
            while sent < every:
                _send_invented(port, files, associations, environment)
                sent += len(files)
            done += sent
            rate = sent / (time.perf_counter() - begin)
            print(f"{done:8d} instances: {rate:6.0f}/s, peak {_peak_mb(process):.0f} MB", flush=True)
        if name in ("node", "stock"):
            _list_studies(Path(folder) / "config.toml")


def _list_studies(config: Path) -> None:
    begin = time.perf_counter()
    command = [sys.executable, "-m", "node.cli", "studies", "list", "--json", "--config", str(config)]
    listed = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    print(f"{len(listed)} studies listed in {time.perf_counter() - begin:.1f} s, the start of the command included")


def _send_invented(port: int, files: list[Path], associations: int, environment: dict[str, str]) -> None:
    command = [require("storescu"), "-aec", AE_TITLE, "+IR", "50", "127.0.0.1", str(port)]
    shares = [files[n::associations] for n in range(associations)]
    senders = [
        subprocess.Popen([*command, *map(str, share)], stdout=subprocess.DEVNULL, env=environment) for share in shares
    ]
    assert [sender.wait() for sender in senders] == [0] * associations


def gigabyte(name: str, space: Path) -> None:
    """Print the peak memory while one Enhanced MR instance of 1 GB comes in."""
    with tempfile.TemporaryDirectory(dir=space) as folder, running(name, Path(folder)) as (port, process):
        path = Path(folder) / "large.dcm"
        frames = 1 << 11
        dataset = mr_slice("large", 1, Rows=512, Columns=512, PixelData=b"", NumberOfFrames=frames)
        dataset.SOPClassUID = EnhancedMRImageStorage
        dataset.PixelData = bytes(512 * 512 * 2 * frames)
        dataset.save_as(path, enforce_file_format=True)
        del dataset
        seconds = send(port, [path], 1)
        megabytes = path.stat().st_size / 1e6
        print(f"{name}: {megabytes:.0f} MB in {seconds:.1f} s, peak {_peak_mb(process):.0f} MB resident")


def main() -> None:
    """Parse the command line and print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=592)
    parser.add_argument("--associations", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--every", type=int, default=0, help="a long run: print after so many instances")
    parser.add_argument("--gigabyte", action="store_true", help="one Enhanced MR instance of 1 GB, and the memory")
    parser.add_argument("--cold", action="store_true", help="receivers that have received nothing before")
    parser.add_argument("--nagle", action="store_true", help="DCMTK as Debian ships it")
    parser.add_argument("--folder", type=Path, default=None, help="where to receive; the disk that is measured")
    chosen = parser.parse_args()
    space = Path(tempfile.mkdtemp(prefix="receive-", dir=chosen.folder))
    try:
        environment = dict(os.environ)
        if not chosen.nagle:
            environment = preloaded(NODELAY, space / "nodelay.so", environment)
        if chosen.gigabyte:
            for name in chosen.only:
                gigabyte(name, space)
            return
        sent = space / "sent"
        sent.mkdir()
        count = min(chosen.instances, 592)
        files = write_instances(sent, range(1, count + 1))
        if chosen.every:
            at_once = chosen.associations[0]
            long_run(chosen.only[0], files, at_once, chosen.instances, chosen.every, space, environment)
        else:
            before = [] if chosen.cold else write_instances(sent, range(count + 1, 2 * count + 1))
            table(chosen.only, before, files, chosen.associations, chosen.rounds, space, environment)
    finally:
        shutil.rmtree(space)


if __name__ == "__main__":
    main()
