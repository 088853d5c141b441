"""What a command loads before it answers: a library here takes tenths of a second, torch and transformers seconds."""

import json
import os
import subprocess
import sys
from pkgutil import iter_modules

import click
import pytest
from tests.cli.command_tree import GROUPS, LEAVES
from tests.small import register_small

import hsae.pipeline.queue
from hsae.cli.main import cli
from hsae.demo import backbone_folder

pytestmark = pytest.mark.slow

COMPUTING = ("torch", "transformers", "nltk", "scipy", "sklearn", "matplotlib")
DATA = ("pyarrow", "PIL", "jaxtyping")
CATALOG = ("sqlalchemy", "psycopg", "alembic", "pydantic", "pydantic_settings", "celery", "minio", "rich")
NOT_FOR_OPTIONS = [name for name in (*COMPUTING, *DATA, *CATALOG) if name != "pydantic"]
"""What the options of `submit` must do without; what may be chosen is said by pydantic's models of the settings."""
_LOADED_BY = """
import json, shlex, sys
from click.testing import CliRunner
from hsae.cli.main import cli
from hsae.demo import backbone_folder
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
    groups = [" ".join((*path, "--help")) for path in GROUPS]
    commands = [*groups, "--version", "completion --help"]
    for command, exit_code, output, exception, loaded in loaded_by(commands, (*COMPUTING, *DATA, *CATALOG)):
        assert (exit_code, loaded) == (0, []), (command, output, exception)


def test_the_help_of_a_command_loads_nothing_that_takes_seconds():
    commands = [f"{' '.join(path)} --help" for path in LEAVES]
    # scipy comes with the taxonomy, and takes no longer than the catalog.
    libraries = [name for name in COMPUTING if name != "scipy"]
    for command, exit_code, output, exception, loaded in loaded_by(commands, libraries):
        assert (exit_code, loaded) == (0, []), (command, output, exception)


def test_the_help_of_submit_loads_no_catalog():
    ((_, exit_code, output, exception, loaded),) = loaded_by(["submit --help"], NOT_FOR_OPTIONS)
    assert (exit_code, loaded) == (0, []), (output, exception)


def test_what_queues_and_leases_jobs_loads_nothing_that_computes():
    queue = [f"hsae.pipeline.queue.{module.name}" for module in iter_modules(hsae.pipeline.queue.__path__)]
    modules = ["hsae_worker.app", "hsae_worker.lifecycle", *queue]
    code = f"import {', '.join(modules)}, sys; print([name for name in {COMPUTING} if name in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HSAE_BROKER_URL": "redis://127.0.0.1:1/0"}, capture_output=True, text=True, check=True,
        timeout=300,
    )  # fmt: skip
    assert run.stdout == "[]\n"


@pytest.mark.parametrize("words", [*(" ".join(("hsae-admin", *path, "")) for path in GROUPS), "hsae-admin submit --sa"])
def test_completion_loads_none(words):
    variables = {
        "_HSAE_ADMIN_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")),
    }  # fmt: skip
    libraries = NOT_FOR_OPTIONS if "submit" in words else (*COMPUTING, *DATA, *CATALOG)
    code = (
        "import atexit, sys; from hsae.cli.main import main\n"
        f"atexit.register(lambda: print([name for name in {libraries} if name in sys.modules], file=sys.stderr))\n"
        "main()"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **variables}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert run.stdout.count("plain,") >= 1
    assert run.stderr == "[]\n"


def test_what_reads_the_catalog_loads_nothing_that_computes(service):
    register_small(service, n_classes=2)
    commands = [
        "jobs list", "dataset list", "results layers", "results study", "results latents", "results nodes",
        "results levels", "results edges", "results absorption", "results compare 1 2", "db current",
        "db query 'SELECT 1 AS one'", "results interventions", "results names", "results names --concept striped",
        "studies list", "studies show", "sae list", "sae list --imported", "jobs show", "jobs logs", "models list",
        "results similar 3",
    ]  # fmt: skip
    for command, _, output, exception, loaded in loaded_by(commands, COMPUTING, service.environment):
        assert loaded == [], command
        assert exception in {"None", "SystemExit(1)", "SystemExit(2)"}, (command, output, exception)


def test_what_is_refused_loads_nothing_that_computes(service, tmp_path):
    register_small(service, n_classes=2)
    (tmp_path / "study.yaml").write_text("layers: [first]\n")
    (tmp_path / "absent.yaml").write_text("layers: 0\ndataset: absent\nsaes: [{kind: relu}]\n")
    (tmp_path / "images").mkdir()
    commands = [
        "results study 99", "results tree animal.n.01", "jobs show 99", "jobs watch 99", "jobs cancel",
        "jobs cancel 99", "jobs retry 99", "dataset check absent", "submit --layer 0 --dataset absent",
        "submit", "submit --layers 3-x", "submit --layer 0 --expansion 9999",
        f"submit --layer 0 --dataset small --model {tmp_path / 'absent'}",
        f"submit --yes --spec {tmp_path / 'study.yaml'}", f"submit --yes --spec {tmp_path / 'absent.yaml'}",
        f"submit --layer 0 --dry-run --dataset {tmp_path / 'images'}", "report 99", f"results export 99 -o {tmp_path}",
        f"results maps -o {tmp_path}", "sae show 99", "sae compare 1 99", f"sae export 99 --to {tmp_path}",
        f"sae import {tmp_path / 'absent'}", "submit --layer 0 --dataset small --sae-from absent",
        "submit --layer 0 --dataset small --sae-from ./absent",
        *(f"submit --dataset small --model {backbone_folder()} {wrong}" for wrong in (
            "--layer 99", "--layer -1", "--layer 0 --sae topk --k 99999", "--layer 0 --embeddings 99",
            "--layer 0 --embeddings lst",
        )),
    ]  # fmt: skip
    for command, exit_code, output, exception, loaded in loaded_by(commands, COMPUTING, service.environment):
        assert (exit_code, loaded) == (1, []), (command, output, exception)
        assert output.startswith("Error: ")


def test_doctor_loads_neither_torch_nor_nltk(service):
    libraries = [name for name in COMPUTING if name != "scipy"]
    environment = service.environment | {"HSAE_DEVICE": "cpu"}  # a build of torch for CUDA has to be asked
    ((_, exit_code, output, exception, loaded),) = loaded_by(["doctor"], libraries, environment)
    assert (exit_code, loaded) == (1, []), (output, exception)
    assert "dog.n.01 is n02084071" in output
    assert "1 of 9 checks failed: worker" in output


def test_without_a_data_set_a_submit_is_refused_before_its_model_is_looked_at(service):
    ((_, exit_code, output, _, loaded),) = loaded_by(["submit --layer 0"], COMPUTING, service.environment)
    assert (exit_code, loaded) == (1, [])
    assert output.startswith("Error: no data set is registered: ")


def test_a_path_that_leads_nowhere_is_refused_without_torch(service, tmp_path):
    libraries = [name for name in COMPUTING if name != "scipy"]  # which the look for similar names comes with
    commands = [f"dataset add pets {tmp_path / 'absent'}", f"submit --layer 0 --dataset {tmp_path / 'absent'}"]
    for command, exit_code, output, exception, loaded in loaded_by(commands, libraries, service.environment):
        assert (exit_code, loaded) == (1, []), (command, output, exception)
        assert "there is no such folder or file" in output


def test_a_mapping_with_blank_rows_is_refused_before_wordnet_is_loaded(service, tmp_path):
    (tmp_path / "images" / "crane").mkdir(parents=True)
    (tmp_path / "labels.csv").write_text("folder,synset\ncrane,\n")
    command = f"dataset add pets {tmp_path / 'images'} --mapping {tmp_path / 'labels.csv'}"
    ((_, exit_code, output, exception, loaded),) = loaded_by([command], ["nltk", "torch"], service.environment)
    assert (exit_code, loaded) == (1, []), (output, exception)
    assert "line 2: the synset is blank; fill it in" in output


def test_an_unreachable_server_is_refused_before_anything_that_computes_is_loaded(service, tmp_path):
    (tmp_path / "n02084071").mkdir()
    environment = service.environment | {"HSAE_DATABASE_URL": "postgresql://u:p@127.0.0.1:1/d"}
    commands = [f"dataset add pets {tmp_path}", "submit --layer 0", "results layers", "jobs list"]
    libraries = [name for name in COMPUTING if name != "scipy"]
    for command, exit_code, output, exception, loaded in loaded_by(commands, libraries, environment):
        assert (exit_code, loaded) == (1, []), (command, output, exception)
        assert output.startswith("Error: ")


LISTED = [(group, name) for group in GROUPS.values() for name in group.lazy]


@pytest.mark.parametrize(("group", "name"), LISTED, ids=lambda value: value if isinstance(value, str) else value.name)
def test_the_summary_of_a_command_begins_its_help(group, name):
    text = " ".join(group.commands[name].help.split())
    assert text.startswith(group.lazy[name].summary.removesuffix("."))


@pytest.mark.parametrize(
    ("group", "name"),
    [(group, name) for group, name in LISTED if group is not cli],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_a_group_lists_the_short_help_of_its_commands(group, name):
    listed = click.Command(name, help=group.lazy[name].summary)
    for width in (20, 45, 80, 200):
        assert listed.get_short_help_str(width) == group.commands[name].get_short_help_str(width)


def test_every_command_is_listed(admin):
    output = admin(None, "--help").output
    for name, command in cli.lazy.items():
        assert f"\n  {name} " in output
        assert " ".join(command.summary.split()[:3]) in output
