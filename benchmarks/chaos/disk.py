"""A small disk of its own for the node's data, that can really be full: an ext4 file system in a file."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

_STEP = 1 << 20


class SmallDisk:
    """A context manager: ``path`` is where it is mounted. Needs root.

    Where nothing may be mounted ``is_real`` is False, ``path`` an ordinary folder, and it is never filled.
    """

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.path, self.is_real = folder / "disk", False
        self._image, self._megabytes = folder / "disk.img", megabytes

    def __enter__(self) -> Self:
        self.path.mkdir(parents=True)
        with self._image.open("wb") as image:
            image.truncate(self._megabytes << 20)  # sparse: it takes what is written to it
        commands = (["mkfs.ext4", "-q", "-m", "0", str(self._image)],
                    ["mount", "-o", "loop", str(self._image), str(self.path)])  # fmt: skip
        with contextlib.suppress(FileNotFoundError, subprocess.CalledProcessError):
            for command in commands:
                subprocess.run(command, check=True, capture_output=True)
            self.is_real = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_real:
            subprocess.run(["umount", "--lazy", str(self.path)], check=True)
        self._image.unlink()

    def fill(self, seconds: float) -> None:
        """Not a byte free for this long: what others delete meanwhile is taken, too."""
        ballast, end = self.path / "ballast", time.monotonic() + seconds
        try:
            with ballast.open("wb") as file:
                size = 0
                while time.monotonic() < end:
                    size = self._grow(file.fileno(), size)
                    time.sleep(0.1)
        finally:
            ballast.unlink(missing_ok=True)

    def _grow(self, descriptor: int, size: int) -> int:
        free = os.statvfs(self.path)
        step = max(_STEP, free.f_bavail * free.f_frsize // 2)
        while step >= free.f_frsize:
            try:
                os.posix_fallocate(descriptor, size, step)
                size += step
            except OSError:
                step //= 2
        return size
