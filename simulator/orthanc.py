"""A real Orthanc on loopback, run from the configuration that ``deploy/`` ships, with other ports and folders."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

DEPLOYED = Path(__file__).resolve().parents[1] / "deploy" / "orthanc"
"""Where the shipped configuration lies in the repository."""

DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")  # where Debian's package puts it

_START_SECONDS = 30.0
_ALLOWED = {f"Allow{service}": True for service in ("Echo", "Store", "Find", "Get", "Move", "StorageCommitment")}


class OrthancProcess:
    """One Orthanc process, used as a context manager.

    It listens for DICOM as ``ae_title`` on ``dicom_port``, for REST on 127.0.0.1:``http_port``, and routes stable
    studies to the node at 127.0.0.1:``node_port``. ``peers`` adds or replaces AE titles it knows, with their ports.
    ``configuration`` is the folder of ``orthanc.json`` and ``autoroute.lua``; ``dicomweb`` loads that plugin, which
    answers below ``/dicom-web``.
    """

    def __init__(
        self, folder: Path, ae_title: str, dicom_port: int, http_port: int, node_port: int, *,
        node_ae_title: str = "QUARTERDOSE", stable_seconds: int = 2, peers: Mapping[str, int] | None = None,
        configuration: Path = DEPLOYED, dicomweb: bool = False,
    ) -> None:
        self.folder = folder
        self.ae_title = ae_title
        self.dicom_port = dicom_port
        self.http_port = http_port
        self._node = (node_ae_title, node_port)
        self._stable_seconds = stable_seconds
        self._peers = dict(peers or {})
        self._configuration = configuration
        self._plugins = [str(DICOMWEB_PLUGIN)] if dicomweb else []
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log_path(self) -> Path:
        """What the process printed."""
        return self.folder / "orthanc.log"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start and wait until it answers.

        Raises ``FileNotFoundError`` if Orthanc or its configuration is missing, ``RuntimeError`` if it does not start.
        """
        binary = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
        if binary is None:
            raise FileNotFoundError("Orthanc is not installed: apt-get install orthanc orthanc-dicomweb")
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(self._settings(), indent=2))
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen([binary, str(path)], stdout=log, stderr=log)  # noqa: S603 (found above)
        end = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"Orthanc did not come up; its log is {self.log_path}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End the process; it closes its database."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def get(self, path: str) -> Any:
        """GET of the REST API, decoded from JSON. Raises ``urllib.error.URLError``."""
        return json.loads(self.get_bytes(path))

    def get_bytes(self, path: str) -> bytes:
        """GET of the REST API, as it comes: ``/instances/{id}/file`` is a DICOM file."""
        return self._request("GET", path, None)

    def post(self, path: str, body: object) -> Any:
        """POST of the REST API: bytes as they are (a DICOM file to ``/instances``), anything else as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return json.loads(self._request("POST", path, data) or b"null")

    def instances(self, study_uid: str | None = None) -> list[dict[str, Any]]:
        """The instances it holds, of one study or of all, with their main tags."""
        query = {"StudyInstanceUID": study_uid} if study_uid else {}
        found: list[dict[str, Any]] = self.post("/tools/find", {"Level": "Instance", "Query": query, "Expand": True})
        return found

    def _request(self, method: str, path: str, data: bytes | None) -> bytes:
        url = f"http://127.0.0.1:{self.http_port}{path}"
        request = urllib.request.Request(url, data=data, method=method)
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            answer: bytes = response.read()
            return answer

    def _answers(self) -> bool:
        try:
            return bool(self.get("/system"))
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def _settings(self) -> dict[str, Any]:
        path = self._configuration / "orthanc.json"
        if not path.is_file():
            raise FileNotFoundError(f"Orthanc's configuration is not at {path}: run from a checkout of the repository")
        settings: dict[str, Any] = json.loads(path.read_text())
        modalities = settings["DicomModalities"]
        node_ae_title, node_port = self._node
        modalities["QUARTERDOSE"] |= {"AET": node_ae_title, "Port": node_port}
        for ae_title, port in self._peers.items():
            allowed = modalities.get(ae_title, _ALLOWED)
            modalities[ae_title] = allowed | {"AET": ae_title, "Host": "127.0.0.1", "Port": port}
        storage = str(self.folder / "storage")
        return settings | {
            "StorageDirectory": storage, "IndexDirectory": storage,
            "LuaScripts": [str(self._configuration / "autoroute.lua")], "Plugins": self._plugins,
            "DicomAet": self.ae_title, "DicomPort": self.dicom_port, "HttpPort": self.http_port,
            "StableAge": self._stable_seconds,
        }
