"""What is written for people holds: links lead somewhere, commands exist, and every page can be found."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperGroup

from node.cli import app
from node.settings import load_settings
from tests.conftest import ConfigMaker

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "deploy" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pages
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    for link in links:
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def code(page: Path) -> str:
    """What stands between backticks and in blocks, a line each; comments left out, continued lines joined."""
    text = re.sub(r"\\\n\s*", " ", page.read_text(encoding="utf-8"))
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`]+)`", re.sub(r"^```\w*\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    indented = re.findall(r"^    (\S.*)$", text, re.MULTILINE)
    lines = [*"".join(blocks).splitlines(), *indented, *(span.replace("\n", " ") for span in spans)]
    return "\n".join(line.partition(" #")[0] for line in lines)


@pages
def test_commands_and_their_options_exist(page: Path) -> None:
    for call in re.findall(r"(?:^|/)quarterdose +([a-z].*)$", code(page), re.MULTILINE):
        known = typer.main.get_command(app)
        words = call.split()
        while isinstance(known, TyperGroup) and words:
            name = words.pop(0)
            assert name in known.commands, call
            known = known.commands[name]
        options = {option for parameter in known.params for option in (*parameter.opts, *parameter.secondary_opts)}
        asked = {word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)}
        assert isinstance(known, TyperGroup) or asked <= options | {"--help"}, call


@pytest.mark.parametrize(("page", "table"), [("delivering.md", "destination"), ("retrieving.md", "source")])
def test_the_examples_are_what_the_node_reads(page: str, table: str, make_config: ConfigMaker) -> None:
    (example, *_) = re.findall(r"^```toml\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)
    shown = len(tomllib.loads(example)[table])
    config = make_config()
    config.write_text(config.read_text() + example.replace('name = "pacs"', 'name = "another"'))
    assert len(getattr(load_settings(config), table)) == 1 + shown == 4


def test_every_page_is_found_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in PAGES if page.parent.name == "docs" and page.name not in index] == []
