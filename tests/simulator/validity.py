"""dciodvfy's judgement of a DICOM file; a test that calls it fails where dicom3tools is missing."""

from __future__ import annotations

import subprocess
from pathlib import Path


def errors(path: Path) -> list[str]:
    """The lines in which dciodvfy says Error."""
    run = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, timeout=60)
    said = (run.stdout + run.stderr).splitlines()
    assert said, "dciodvfy said nothing, not even which object it saw"
    return [line for line in said if "Error" in line]
