"""nginx before a DICOMweb server, as hospitals have it: it speaks TLS, asks for certificates, redirects."""

from __future__ import annotations

import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.conftest import free_port, require
from tests.waiting import eventually


class Nginx:
    """One nginx process on loopback, a context manager. Each ``listen`` before it is entered adds a port."""

    def __init__(self, folder: Path, server_port: int) -> None:
        self._folder = folder
        self._server_port = server_port
        self._listeners: list[str] = []
        self._ports: list[int] = []
        self._process: subprocess.Popen[bytes] | None = None

    def listen(self, *lines: str, certificate: Path | None = None) -> int:
        """Passes on to the server what comes over TLS with this certificate, as these further lines say."""
        port = free_port()
        tls = ""
        if certificate is not None:
            tls = f"ssl_certificate {certificate}; ssl_certificate_key {certificate.with_suffix('.key')};"
        self._listeners.append(f"""
            server {{
                listen 127.0.0.1:{port} {"ssl" if tls else ""}; listen 127.0.0.2:{port} {"ssl" if tls else ""};
                {tls} {" ".join(lines)}
                location / {{ proxy_pass http://127.0.0.1:{self._server_port}; client_max_body_size 0; }}
            }}""")
        self._ports.append(port)
        return port

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True)
        paths = " ".join(
            f"{kind}_temp_path {self._folder / kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        configuration = self._folder / "nginx.conf"
        configuration.write_text(
            f"daemon off; master_process off; pid {self._folder / 'pid'}; error_log {self._folder / 'log'};\n"
            f"events {{}} http {{ access_log off; {paths} {''.join(self._listeners)} }}\n"
        )
        self._process = subprocess.Popen(
            [require("nginx"), "-p", self._folder, "-e", self._folder / "log", "-c", configuration]
        )
        for port in self._ports:
            eventually(lambda port=port: self._answers(port), 10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def _answers(self, port: int) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "log").read_text()
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False
