"""The demonstration's stage: it never removes what is not its own, and never leaves this machine."""

from __future__ import annotations

import pytest

from node.errors import CommandError
from node.settings import ConfigurationError
from node.stage import Stage
from tests.conftest import ROOT


def test_a_stage_is_built_in_an_empty_folder_and_again_in_its_own(tmp_path):
    folder = tmp_path / "demo"
    stage = Stage.build(folder, ROOT / "config.toml")
    (folder / "left over").touch()
    again = Stage.build(folder, ROOT / "config.toml")
    assert stage.settings == again.settings
    assert again.settings.node.data.is_relative_to(folder.resolve())
    assert not (folder / "left over").exists()
    Stage.build(folder, folder / "config.toml")  # its own copy serves as well


def test_an_earlier_demonstration_outlives_a_configuration_that_cannot_be_used(tmp_path):
    folder = tmp_path / "demo"
    Stage.build(folder, ROOT / "config.toml")
    (folder / "panel.png").touch()
    with pytest.raises(ConfigurationError, match="--config"):
        Stage.build(folder, tmp_path / "none.toml")
    assert (folder / "panel.png").exists()


def test_a_folder_with_anything_else_in_it_is_left_alone(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text((ROOT / "config.toml").read_text())
    with pytest.raises(CommandError, match="choose another --out"):
        Stage.build(tmp_path, config)
    assert config.exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('host = "127.0.0.1"\nport = 11113', 'host = "10.0.0.5"\nport = 11113', "10.0.0.5"),
        ('data = "var"', 'data = "/srv/quarterdose"', "/srv/quarterdose"),
    ],
)
def test_a_configuration_that_leads_elsewhere_is_refused(tmp_path, old, new, said):
    config = tmp_path / "site.toml"
    text = (ROOT / "config.toml").read_text()
    assert old in text
    config.write_text(text.replace(old, new))
    with pytest.raises(CommandError, match=said):
        Stage.build(tmp_path / "demo", config)
