"""Where no study and no job is named, every command takes the latest and says which that is."""

import click
import pytest
from tests.cli.command_tree import LEAVES
from tests.cli.results.test_study import planted

from hsae.cli.framework.study_choice import StudyChoice

__all__ = ["planted"]  # study 1, then study 2, both done; study 1 has a comparison, by the only job that was started

GIVEN = {"results tree": "animal.n.01", "report": "-o {folder}/report.html"}
"""What commands need besides."""
ELSEWHERE = {"results maps": "tests/cli/results/test_maps.py"}
"""Without maps it has nothing to say."""


def takes_the_latest(command: click.Command) -> bool:
    """Whether a study or a job is what the command is about, and may be left out."""
    return any(
        isinstance(one.type, StudyChoice) or (isinstance(one, click.Argument) and one.name in {"study", "job"})
        for one in command.params
        if not one.required
    )


FOUND = {" ".join(path) for path, command in LEAVES.items() if takes_the_latest(command)}
COMMANDS = sorted(FOUND - set(ELSEWHERE))


def test_they_are_many():
    assert {"jobs show", "jobs logs", "jobs watch", "studies show", "report", "results study"} <= set(COMMANDS)
    assert sum(command.startswith("results ") for command in COMMANDS) >= 9
    assert {*GIVEN, *ELSEWHERE} <= FOUND


@pytest.mark.parametrize("command", COMMANDS)
def test_the_latest_is_taken_and_said(admin, planted, tmp_path, command):
    arguments = f"{command} {GIVEN.get(command, '')}".format(folder=tmp_path).split()
    said = admin(planted, *arguments).stderr
    if command in ("jobs show", "jobs logs"):
        assert said.startswith("Job 7 (compare), the latest that was started.\n")
    elif command == "results study":
        assert said == "Study 1 (planted), the latest with a comparison; study 2 has none.\n"
    else:
        assert said.startswith("Study 2 (planted), the latest.")
