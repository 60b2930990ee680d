"""The systemd unit: valid, hardened, and starting a command that exists."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNIT = Path(__file__).resolve().parents[2] / "deploy" / "systemd" / "quarterdose.service"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit as if the product were installed where this test runs from and its user were there."""
    text = UNIT.read_text().replace("/opt/quarterdose/.venv/bin/quarterdose", sys.executable)
    text = text.replace("/opt/quarterdose/README.md", str(UNIT)).replace("=quarterdose\nGroup=quarterdose", "=daemon")
    path = tmp_path / UNIT.name
    path.write_text(text)
    return path


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is missing: the unit is not verified (Debian package systemd)")
    return subprocess.run([program, *arguments], capture_output=True, text=True)


def test_systemd_finds_nothing_wrong(installed: Path) -> None:
    result = analyze("verify", "--man=no", "--recursive-errors=no", str(installed))
    assert (result.returncode, result.stderr) == (0, "")


def test_systemd_calls_its_exposure_low(installed: Path) -> None:
    result = analyze("security", "--offline=true", "--threshold=30", "--no-pager", str(installed))
    level = re.search(r"Overall exposure level.*?: ([0-9.]+)", result.stdout)
    assert level is not None, result.stderr
    assert float(level[1]) <= 3.0
    assert result.returncode == 0


def test_the_command_it_starts_exists() -> None:
    from node.cli import main

    (command,) = re.findall(r"^ExecStart=(.*)$", UNIT.read_text(), re.MULTILINE)
    _, *arguments = command.split()
    assert arguments == ["run", "--config", "/etc/quarterdose/config.toml"]
    with pytest.raises(SystemExit) as ended:
        _call(main, [*arguments[:1], "--help"])
    assert ended.value.code == 0


def _call(main: object, arguments: list[str]) -> None:
    before = sys.argv
    sys.argv = ["quarterdose", *arguments]
    try:
        main()  # type: ignore[operator]
    finally:
        sys.argv = before
