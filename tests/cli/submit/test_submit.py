"""submit: study files, dry runs, and the question before anything is queued."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from rich.filesize import decimal
from sqlalchemy import text
from tests.cli.refusals import assert_one_line, counts
from tests.interrupts import heed_ctrl_c
from tests.pipeline.default_plan import default_kinds
from tests.small import link_classes, register_small, small_request
from tests.waiting import rows_of

from hsae.catalog import transaction
from hsae.demo import backbone_folder
from hsae.hierarchy.cost import memory_bytes
from hsae.pipeline.planning.study_file import read_spec
from hsae.pipeline.planning.submit import preview, submit

MODEL = ("--model", str(backbone_folder()))
DOCUMENT = Path(__file__).parents[3] / "docs" / "submit.md"
STUDY = f"""
name: two kinds
model: {backbone_folder()}
dataset: small
layers: [1, 3]
saes:
  - {{kind: topk, k: [4, 8], expansion: 2, n_steps: 30}}
  - {{kind: relu, expansion: 2, n_steps: 30}}
extraction: {{shard_images: 40, batch_size: 20}}
"""


@pytest.fixture(scope="module")
def ready(make_service):
    """A service with a data set, in which nothing is ever queued."""
    service = make_service()
    register_small(service, n_classes=3)
    return service


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    return path


def n_planned(service, study) -> int:
    """The jobs that the study file asks for."""
    request = read_spec(study).request(service.settings, folder=study.parent)
    return len(preview(request, service.settings, service.sessions).jobs)


def queued_jobs(service):
    with transaction(service.sessions) as session:
        return session.execute(text("SELECT count(*) FROM job WHERE state IN ('queued', 'waiting')")).scalar_one()


def test_the_documented_study(admin, ready, tmp_path):
    """The example of docs/submit.md, with the bundled model and data set and layers that it has."""
    (example,) = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    example = example.replace("facebook/dinov2-base", str(backbone_folder())).replace(
        "dataset: birds", "dataset: small"
    )
    assert "[0, 4, 8-11]" in example
    path = tmp_path / "study.yaml"
    path.write_text(example.replace("[0, 4, 8-11]", "[0, 1, 2-5]"))
    result = admin(ready, "submit", "--spec", path, "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    kinds = Counter(job["kind"] for job in json.loads(result.stdout)["jobs"])
    assert kinds == Counter(default_kinds(n_layers=6, n_saes=14))


def test_a_dry_run_shows_the_plan_and_enters_nothing(admin, ready, study):
    before = counts(ready)
    for arguments in (("--spec", study), ("--layer", "1", *MODEL, "--sae", "topk", "--sae", "relu")):
        result = admin(ready, "submit", *arguments, "--dry-run")
        assert result.exit_code == 0, result.output
        assert "nothing was entered" in result.stdout
        plan = json.loads(admin(ready, "submit", *arguments, "--dry-run", "--json").stdout)
        assert plan["study"] is None
        assert {(job["id"], job["status"]) for job in plan["jobs"]} == {(None, "new")}
        assert f"{len(plan['jobs'])} jobs would be queued" in result.stdout
    assert counts(ready) == before


def test_a_dry_run_estimates_what_is_stored(admin, ready):
    arguments = ("--layer", "1", *MODEL, "--sae", "topk", "--expansion", "2", "--views", "3", "--dry-run")
    plan = json.loads(admin(ready, "submit", *arguments, "--json").stdout)
    (dataset,) = rows_of(ready, "SELECT n_images FROM dataset")
    # Monosemanticity compares images by the last layer, which has the same views.
    assert {tuple(job["layers"]) for job in plan["jobs"] if job["kind"] == "extract"} == {(1, 5)}
    activations = dataset["n_images"] * 3 * 192 * 4 * 2
    of_kind = {kind: (one["n_bytes"], one["n_objects"]) for kind, one in plan["estimates"].items()}
    scored = round(dataset["n_images"] * 0.5)
    assert of_kind == {
        "extract": (activations, 2 * 2), "train": (2 * 384 * 192 * 4, 1), "analyze": (8 * 32 * scored, 2),
    }  # fmt: skip
    # 65 tokens; six blocks, since the last layer is extracted.
    operations = dataset["n_images"] * 3 * 6 * 65 * (24 * 192**2 + 4 * 65 * 192)
    assert plan["estimates"]["extract"]["teraflop"] == pytest.approx(operations / 1e12)
    assert plan["estimates"]["analyze"]["cpu_minutes"] > 0
    memory = plan["estimates"]["analyze"]["memory_bytes"]
    assert memory == memory_bytes(dataset["n_images"], 384, 32, 192)
    assert plan["estimates"]["extract"]["memory_bytes"] == 0
    shown = admin(ready, "submit", *arguments).stdout
    assert f"New in the object store, about: {decimal(activations)} by extract (4 objects), 589.8 kB by train" in shown
    assert "GPU hours of passes over images, at 400 TFLOP/s" in shown
    assert f"Memory: an analysis takes about {decimal(memory)} of its worker's." in shown


def test_an_analysis_that_few_workers_have_memory_for_is_warned_of(admin, service):
    """A data set of five million images, of which the catalog knows the number alone."""
    register_small(service, n_classes=2)
    with transaction(service.sessions) as session:
        session.execute(text("UPDATE dataset SET n_images = 5000000"))
    arguments = ("--layer", "1", *MODEL, "--sae", "topk", "--expansion", "64", "--split", "none", "--dry-run", "--json")
    given = admin(service, "submit", *arguments)
    (warning,) = json.loads(given.stdout)["warnings"]
    n_gb = round(memory_bytes(5_000_000, 64 * 192, 32, 192) / 1e9)
    assert warning.startswith(
        f"an analysis takes about {n_gb} GB of memory, and its worker is killed where it has less"
    )
    assert f"Warning: {warning}." in given.stderr


def test_the_plan_tells_what_is_new_reused_joined_and_queued_again(admin, service, study):
    register_small(service, n_classes=3)
    submit(small_request(layers=(1,)), service.settings, service.sessions)
    assert admin(service, "submit", "--spec", study, "--yes").exit_code == 0
    with transaction(service.sessions) as session:
        session.execute(text("UPDATE job SET state = 'succeeded' WHERE kind = 'extract'"))
        session.execute(text("UPDATE job SET state = 'failed' WHERE title LIKE 'train relu%layer 3'"))
    output = admin(service, "submit", "--spec", study, "--dry-run").stdout
    rows = [" ".join(line.split()) for line in output.splitlines()]
    assert "jobs new queued again under way reused" in rows
    assert "extract 0 0 0 2" in rows
    assert "probe 0 0 2 0" in rows
    assert "train 0 1 5 0" in rows
    assert "analyze 0 0 6 0" in rows
    assert "compare 0 0 1 0" in rows
    assert "monosemanticity by cls of dinov2-emoji layer 5" in rows
    assert "topk SAE x2 (k=4, n_steps=30) 1, 3 under way under way" in rows
    assert "relu SAE x2 (n_steps=30) 3 queued again under way" in rows


def test_a_study_is_entered_with_its_name(admin, service, study):
    register_small(service, n_classes=3)
    n_jobs = n_planned(service, study)
    result = admin(service, "submit", "--spec", study, "--yes", "--priority", "6")
    assert result.exit_code == 0, result.output
    assert re.search(rf"Study \d+: two kinds\n{n_jobs} jobs queued, 0 reused", result.stdout)
    with transaction(service.sessions) as session:
        assert session.execute(text("SELECT name FROM study")).scalar_one() == "two kinds"
        assert session.execute(text("SELECT DISTINCT priority FROM job")).scalars().all() == [6]
    entered = json.loads(admin(service, "submit", "--spec", study, "--yes", "--json").stdout)
    assert {job["status"] for job in entered["jobs"]} == {"joined"}
    listed = json.loads(admin(service, "jobs", "list", "--json").stdout)
    assert {(job["queue"], job["priority"], job["not_before"]) for job in listed} == {
        ("gpu", 6, None),
        ("cpu", 6, None),
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--layer", "1"], ["--layer cannot be given with --spec"]),
        (["--sae", "relu"], ["--sae cannot"]),
        (["--tokens", "cls"], ["--tokens cannot"]),
        (["--seed", "0"], ["--seed cannot"]),
        (["--dataset", "small"], ["--dataset cannot"]),
        ([], ["--yes", "--dry-run"]),
        (["--wait", "--dry-run"], ["--wait"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_options_that_contradict_a_study_file(admin, ready, study, arguments, words):
    before = counts(ready)
    assert_one_line(admin(ready, "submit", "--spec", study, *arguments), *words)
    assert counts(ready) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("layers: [1, 3]", "layers: [1, 99]"), ["99", "0 to 5"]),
        (("dataset: small", "dataset: large"), ["large", "dataset add"]),
        (("k: [4, 8]", "k: [4, 99999]"), ["k=99999"]),
        (("name: two kinds", "nme: two kinds"), ["study.yaml", "did you mean name?"]),
        (("name: two kinds", "priority: 4"), ["--priority 3", "4"]),
    ],
)
def test_a_study_that_cannot_be(admin, ready, study, change, words):
    study.write_text(STUDY.replace(*change))
    before = counts(ready)
    assert_one_line(admin(ready, "submit", "--spec", study, "--yes", "--priority", "3"), *words)
    assert counts(ready) == before


def test_a_dry_run_registers_no_data_set(admin, service, tmp_path):
    register_small(service, n_classes=3)
    before = counts(service)
    folder = link_classes(tmp_path, 4)
    arguments = ("submit", "--layer", "1", *MODEL, "--dataset", folder)
    assert_one_line(admin(service, *arguments, "--dry-run"), "not registered", "dataset add")
    assert counts(service) == before
    assert admin(service, *arguments).exit_code == 0
    assert "4 jobs" not in admin(service, *arguments, "--dry-run").output
    assert admin(service, *arguments, "--dry-run").exit_code == 0


class Terminal:
    """hsae-admin with a terminal as its standard input and output."""

    def __init__(self, service, *arguments: object) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from hsae.cli.main import main; main()", *map(str, arguments)],
            stdin=slave, stdout=slave, stderr=slave, env={**os.environ, **service.environment, "TERM": "xterm"},
            preexec_fn=heed_ctrl_c,
        )  # fmt: skip
        os.close(slave)
        self.output = ""

    def wait_for(self, words: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while words not in self.output:
            assert time.monotonic() < deadline, self.output
            assert self._read(), self.output

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def end(self) -> int:
        while self._read():
            pass
        os.close(self._master)
        return self.process.wait(60)

    def _read(self) -> bool:
        try:
            chunk = os.read(self._master, 65536)
        except OSError:  # what Linux says once the other side is closed
            return False
        self.output += chunk.decode(errors="replace")
        return bool(chunk)


@pytest.mark.slow
def test_the_question_and_a_plan_that_changes_while_it_waits(service, study):
    register_small(service, n_classes=3)
    n_jobs = n_planned(service, study)
    no = Terminal(service, "submit", "--spec", study)
    no.wait_for(f"Queue {n_jobs} jobs? [y/N]")
    no.type("n\n")
    assert no.end() == 1
    assert "Nothing was queued" in no.output
    assert counts(service)["study"] == queued_jobs(service) == 0

    yes = Terminal(service, "submit", "--spec", study)
    yes.wait_for(f"Queue {n_jobs} jobs? [y/N]")
    request = small_request(layers=(1, 3))
    submit(request, service.settings, service.sessions)
    yes.type("y\n")
    assert yes.end() == 0, yes.output
    assert "changed the plan meanwhile" in yes.output
    assert f"{n_jobs - 1} jobs queued, 1 reused or already under way" in yes.output
    again = Terminal(service, "submit", "--spec", study)  # nothing is left to ask for
    assert again.end() == 0, again.output
    assert f"0 jobs queued, {n_jobs} reused or already under way" in again.output


@pytest.mark.slow
def test_ctrl_c_leaves_the_jobs(service, study):
    register_small(service, n_classes=3)
    n_jobs = n_planned(service, study)
    waiting = Terminal(service, "submit", "--spec", study, "--yes", "--wait")
    waiting.wait_for("No worker listens to queue gpu")
    waiting.wait_for(f"0 of {n_jobs} jobs done")
    waiting.process.send_signal(signal.SIGINT)
    assert waiting.end() == 130
    assert "the jobs go on" in waiting.output
    assert "Traceback" not in waiting.output
    assert queued_jobs(service) == n_jobs
