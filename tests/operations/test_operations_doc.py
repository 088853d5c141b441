"""docs/operations.md tells the truth about settings, states and commands."""

import re
import shlex
from pathlib import Path

import click
import pytest

from hsae.catalog import JOB_STATES
from hsae.catalog.vocabulary import EVENT_REASONS
from hsae.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"
OPERATIONS = (DOCS / "operations.md").read_text(encoding="utf-8")
_ROW = re.compile(r"^\| `HSAE_(\w+)` \| (.+?) \| (.+?) \|$", re.MULTILINE)


def _default(name: str) -> str:
    default = Settings.model_fields[name].default
    if name == "home":
        return "the user data folder"
    if default is None:
        return "none"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def test_every_setting_is_listed_with_its_default():
    listed = {name.lower(): (default, text) for name, default, text in _ROW.findall(OPERATIONS)}
    expected = {name: (_default(name), field.description) for name, field in Settings.model_fields.items()}
    assert listed == expected


def test_every_state_and_every_reason_that_ends_an_attempt_is_explained():
    for word in (*JOB_STATES, "failed", "retried", "lease_expired", "outage", "handed_back", "cancelled"):
        assert f"`{word}`" in OPERATIONS, word
    assert {"retried", "lease_expired", "outage", "handed_back"} <= set(EVENT_REASONS)


def _commands() -> list[tuple[str, str]]:
    """Every hsae-admin command line of the operators' pages."""
    found = []
    for name in ("operations", "backup", "security"):
        for line in re.findall(r"hsae-admin ([a-z][^`\n)]*)", (DOCS / f"{name}.md").read_text(encoding="utf-8")):
            found.append((name, line.split("#")[0].strip().rstrip(".,:;")))
    return found


@pytest.mark.parametrize(("page", "line"), _commands())
def test_every_command_exists(page, line):
    from hsae.cli.main import cli

    try:
        words = shlex.split(line)
    except ValueError:  # a query that goes on in the next line
        words = line.split()
    command: click.Command = cli
    while isinstance(command, click.Group) and words:
        assert words[0] in command.commands, f"{page}.md: hsae-admin {line}"
        command = command.commands[words.pop(0)]
    options = {option for parameter in command.params for option in parameter.opts}
    for word in words:
        if re.fullmatch(r"--[a-z][a-z-]+", word):
            assert word in options, f"{page}.md: hsae-admin {line}"


def test_links_lead_somewhere():
    for name in ("operations", "backup", "security"):
        for target in re.findall(r"\]\(([^)#]+?)\)", (DOCS / f"{name}.md").read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (DOCS / target).exists(), f"{name}.md: {target}"
