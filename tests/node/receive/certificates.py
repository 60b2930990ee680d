"""Certificates for tests, made by openssl: an authority, those it has signed, and some that it has not."""

from __future__ import annotations

import subprocess
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """ca.pem and ca.key in a folder, and what they sign beside them."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder = folder
        self.name = name
        _openssl(
            folder, "req", "-x509", *_KEY, "-days", "2", "-keyout", f"{name}.key", "-out", f"{name}.pem",
            "-subj", f"/CN={name}",
        )  # fmt: skip
        (folder / "address").write_text("subjectAltName=IP:127.0.0.1,IP:::1,DNS:localhost\n")

    @property
    def certificate(self) -> Path:
        return self.folder / f"{self.name}.pem"

    def sign(self, name: str, days: int = 2, rsa_bits: int = 0) -> Path:
        """name.pem, with name.key beside it, valid for so many days from now; it expired yesterday for -1. Its key is
        of an elliptic curve unless ``rsa_bits``."""
        kind = ("-newkey", f"rsa:{rsa_bits}", "-nodes") if rsa_bits else _KEY
        _openssl(
            self.folder, "req", *kind, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"
        )  # fmt: skip
        _openssl(
            self.folder, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{self.name}.pem", "-CAkey", f"{self.name}.key",
            "-CAcreateserial", "-days", str(days), "-extfile", "address", "-out", f"{name}.pem",
        )  # fmt: skip
        return self.folder / f"{name}.pem"


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
