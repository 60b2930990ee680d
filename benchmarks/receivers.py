"""The receivers that benchmarks.receive compares, and how each is started into an empty folder on a port."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from node.database import open_database, ready
from node.settings import load_settings
from tests.conftest import free_port, require, write_config

AE_TITLE = "QUARTERDOSE"
CONTESTANTS = ("storescp", "orthanc", "pynetdicom", "stock", "node", "unsynced")
_START_SECONDS = 30.0
_ANY_NUMBER = 1000


def storescp(folder: Path, port: int) -> list[str]:
    return [require("storescp"), "-od", str(folder), "+xa", "--fork", "-pdu", "131072", str(port)]


def orthanc(folder: Path, port: int) -> list[str]:
    settings = {
        "StorageDirectory": str(folder), "IndexDirectory": str(folder), "DicomPort": port, "DicomAet": AE_TITLE,
        "HttpServerEnabled": False,
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    return [require("Orthanc"), str(folder / "orthanc.json")]


def pynetdicom(folder: Path, port: int) -> list[str]:
    return [sys.executable, "-m", "benchmarks.stock_pynetdicom", str(folder), str(port)]


def node(folder: Path, port: int, fast_lane: str = "true") -> list[str]:
    config = write_config(
        folder, fast_lane=fast_lane, calling_ae_titles='["STORESCU"]', maximum_associations=_ANY_NUMBER,
        maximum_associations_per_peer=_ANY_NUMBER,
    )  # fmt: skip
    lines = config.read_text().splitlines()
    place = next(n for n, line in enumerate(lines) if line.startswith("port ="))
    lines[place] = f"port = {port}"
    config.write_text("\n".join(lines))
    ready(open_database(load_settings(config)))  # as an installation has it: tables are not made while receiving
    return [sys.executable, "-m", "benchmarks.serve_receiver", str(config)]


def stock(folder: Path, port: int) -> list[str]:
    return node(folder, port, "false")


@contextlib.contextmanager
def running(name: str, folder: Path, environment: dict[str, str] | None = None) -> Iterator[tuple[int, int]]:
    """Start a contestant; gives its port and process id once it listens."""
    port = free_port()
    starts = {"storescp": storescp, "orthanc": orthanc, "pynetdicom": pynetdicom, "stock": stock, "node": node}
    command = starts["node" if name == "unsynced" else name](folder, port)
    if name == "unsynced":
        environment = preloaded(_NO_SYNC, folder / "nosync.so", environment or dict(os.environ))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    end = time.monotonic() + _START_SECONDS
    try:
        while not _listens(port):
            assert process.poll() is None, f"{name} ended: {(folder / 'log').read_text()[-2000:]}"
            assert time.monotonic() < end, f"{name} does not listen after {_START_SECONDS:g} s"
            time.sleep(0.05)
        time.sleep(0.5)
        yield port, process.pid
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


NODELAY = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
int connect(int fd, const struct sockaddr *address, socklen_t length) {
    int one = 1, (*next)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return next(fd, address, length);
}
int accept(int fd, struct sockaddr *address, socklen_t *length) {
    int one = 1, (*next)(int, struct sockaddr *, socklen_t *) = dlsym(RTLD_NEXT, "accept");
    int accepted = next(fd, address, length);
    if (accepted >= 0) setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return accepted;
}
"""


_NO_SYNC = """
int fsync(int fd) { return 0; }
int fdatasync(int fd) { return 0; }
"""


def preloaded(source: str, library: Path, environment: dict[str, str]) -> dict[str, str]:
    """The environment in which a program finds the functions of ``source`` before the system's."""
    command = [require("cc"), "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
    subprocess.run(command, input=source.encode(), check=True)
    return {**environment, "LD_PRELOAD": f"{environment.get('LD_PRELOAD', '')} {library}".strip()}


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
