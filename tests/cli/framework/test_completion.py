"""Completion in the shell: scripts that the shells accept, and values from the catalog."""

import os
import shutil
import subprocess
import sys

import pytest
from tests.small import register_small, small_request
from tests.waiting import wait_for

from hsae.pipeline.planning.submit import submit

PROGRAM = f'{sys.executable} -c "from hsae.cli.main import main; main()"'


@pytest.mark.parametrize(
    ("shell", "words"), [("bash", "complete -o"), ("zsh", "#compdef hsae-admin"), ("fish", "complete ")]
)
def test_the_script_and_how_to_install_it(admin, shell, words, tmp_path):
    result = admin(None, "completion", shell)
    assert result.exit_code == 0
    assert words in result.output
    assert result.output.splitlines()[-1].startswith(f"# To install: hsae-admin completion {shell} > ")
    if shell == "zsh":
        assert result.output.startswith("#compdef")
    if shutil.which(shell):
        script = tmp_path / "script"
        script.write_text(result.output)
        assert subprocess.run([shell, "-n", str(script)], check=False).returncode == 0


def complete(service, words: str) -> list[str]:
    """What bash would offer for the last of the words."""
    parts = words.split(" ")
    environment = {
        **os.environ, **service.environment,
        "_HSAE_ADMIN_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(parts) - 1),
    }  # fmt: skip
    result = subprocess.run(
        [sys.executable, "-c", "from hsae.cli.main import main; main()"],
        env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert result.stderr == ""
    return [line.split(",", 1)[1] for line in result.stdout.splitlines() if line]


def offered(service, words: str) -> list[str]:
    """What is offered once anything is: completion does not wait for a slow database."""
    found: list[str] = []

    def ask() -> bool:
        found[:] = complete(service, words)
        return bool(found)

    wait_for(ask)
    return found


@pytest.mark.slow
def test_values_from_the_catalog(service):
    register_small(service, n_classes=2)
    plan = submit(small_request(layers=(1,)), service.settings, service.sessions)
    ids = {str(job.id) for job in plan.jobs}
    assert "watch" in complete(service, "hsae-admin jobs wa")
    assert set(offered(service, "hsae-admin jobs show ")) == ids
    assert offered(service, "hsae-admin jobs watch ") == [str(plan.study_id)]
    assert offered(service, "hsae-admin jobs list --study ") == [str(plan.study_id)]
    assert offered(service, "hsae-admin submit --dataset sm") == ["small"]
    assert complete(service, "hsae-admin submit --dataset %") == []
    assert offered(service, "hsae-admin dataset check ") == ["small"]


def test_without_a_database_it_is_silent(service, monkeypatch):
    service.environment["HSAE_DATABASE_URL"] = "postgresql://u:p@127.0.0.1:1/d"
    assert complete(service, "hsae-admin jobs show ") == []
    service.environment["HSAE_DATABASE_URL"] = "nonsense"
    assert complete(service, "hsae-admin jobs show ") == []
