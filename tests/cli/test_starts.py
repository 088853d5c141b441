"""What a command loads before it answers: a library here takes tenths of a second, torch and transformers seconds."""

import json
import os
import subprocess
import sys

import pytest
from tests.small import register_small

from hsae.cli.main import _COMMANDS, cli

COMPUTING = ("torch", "transformers", "nltk", "scipy", "sklearn", "matplotlib")
DATA = ("pyarrow", "PIL", "jaxtyping")
CATALOG = ("sqlalchemy", "psycopg", "alembic", "pydantic", "pydantic_settings", "celery", "minio", "rich")
_LOADED_BY = """
import json, shlex, sys
from click.testing import CliRunner
from hsae.cli.main import cli
commands, libraries = json.loads(sys.argv[1])
for command in commands:
    result = CliRunner().invoke(cli, shlex.split(command))
    loaded = [name for name in libraries if name in sys.modules]
    print(json.dumps([command, result.exit_code, result.output, repr(result.exception), loaded]))
"""


def loaded_by(commands, libraries, environment=None):
    """Run commands one after the other in a new Python; what each of them ended with, and what was loaded by then."""
    run = subprocess.run(
        [sys.executable, "-c", _LOADED_BY, json.dumps([commands, libraries])],
        env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_help_loads_no_library_but_click():
    commands = ["--help", "--version", "completion --help"]
    for command, exit_code, output, exception, loaded in loaded_by(commands, (*COMPUTING, *DATA, *CATALOG)):
        assert (exit_code, loaded) == (0, []), (command, output, exception)


def test_the_help_of_a_command_loads_none_that_it_uses():
    commands = [f"{name} --help" for name in _COMMANDS] + [
        "results study --help",
        "jobs watch --help",
        "db query --help",
    ]
    libraries = {*COMPUTING, *DATA, *CATALOG} - {"rich"}
    for command, exit_code, output, exception, loaded in loaded_by(commands, sorted(libraries)):
        assert (exit_code, loaded) == (0, []), (command, output, exception)


@pytest.mark.parametrize("words", ["hsae-admin ", "hsae-admin results ", "hsae-admin submit --sa"])
def test_completion_loads_none(words):
    variables = {
        "_HSAE_ADMIN_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")),
    }  # fmt: skip
    libraries = sorted({*COMPUTING, *DATA, *CATALOG} - {"rich"})
    code = (
        "import atexit, sys; from hsae.cli.main import main\n"
        f"atexit.register(lambda: print([name for name in {libraries} if name in sys.modules], file=sys.stderr))\n"
        "main()"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **variables}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert run.stdout.count("plain,") >= 1
    assert run.stderr == "[]\n"


def test_what_reads_the_catalog_loads_nothing_that_computes(service):
    register_small(service, n_classes=2)
    commands = [
        "jobs list", "dataset list", "results layers", "results study", "results latents", "results nodes",
        "results levels", "results edges", "results compare 1 2", "db current", "db query 'SELECT 1 AS one'",
    ]  # fmt: skip
    for command, _, output, exception, loaded in loaded_by(commands, COMPUTING, service.environment):
        assert loaded == [], command
        assert exception in {"None", "SystemExit(1)", "SystemExit(2)"}, (command, output, exception)


def test_what_is_refused_loads_nothing_that_computes(service, tmp_path):
    register_small(service, n_classes=2)
    (tmp_path / "study.yaml").write_text("layers: [first]\n")
    commands = [
        "results study 99", "results tree animal.n.01", "jobs show 99", "jobs watch 99", "jobs cancel",
        "jobs cancel 99", "jobs retry 99", "dataset check absent", "submit --layer 0 --dataset absent",
        "submit", "submit --layers 3-x", "submit --layer 0 --expansion 9999",
        f"submit --layer 0 --dataset small --model {tmp_path / 'absent'}",
        f"submit --yes --spec {tmp_path / 'study.yaml'}",
    ]  # fmt: skip
    for command, exit_code, output, exception, loaded in loaded_by(commands, COMPUTING, service.environment):
        assert (exit_code, loaded) == (1, []), (command, output, exception)
        assert output.startswith("Error: ")


def test_a_path_that_leads_nowhere_is_refused_without_torch(service, tmp_path):
    libraries = [name for name in COMPUTING if name != "scipy"]  # which the look for similar names comes with
    commands = [f"dataset add pets {tmp_path / 'absent'}", f"submit --layer 0 --dataset {tmp_path / 'absent'}"]
    for command, exit_code, output, exception, loaded in loaded_by(commands, libraries, service.environment):
        assert (exit_code, loaded) == (1, []), (command, output, exception)
        assert "there is no such folder or file" in output


def test_an_unreachable_server_is_refused_before_anything_that_computes_is_loaded(service, tmp_path):
    (tmp_path / "n02084071").mkdir()
    environment = service.environment | {"HSAE_DATABASE_URL": "postgresql://u:p@127.0.0.1:1/d"}
    commands = [f"dataset add pets {tmp_path}", "submit --layer 0", "results layers", "jobs list"]
    libraries = [name for name in COMPUTING if name != "scipy"]
    for command, exit_code, output, exception, loaded in loaded_by(commands, libraries, environment):
        assert (exit_code, loaded) == (1, []), (command, output, exception)
        assert output.startswith("Error: ")


@pytest.mark.parametrize("name", _COMMANDS)
def test_the_summary_of_a_command_begins_its_help(name):
    text = " ".join(cli.commands[name].help.split())
    assert text.startswith(_COMMANDS[name].summary.removesuffix("."))


def test_every_command_is_listed(admin):
    output = admin(None, "--help").output
    for name, command in _COMMANDS.items():
        assert f"\n  {name} " in output
        assert " ".join(command.summary.split()[:3]) in output
