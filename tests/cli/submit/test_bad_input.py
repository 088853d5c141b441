"""Bad input: one clear line on stderr, a non-zero exit, nothing half-made left behind."""

import functools
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.cli.refusals import MODEL, assert_one_line, counts
from tests.pipeline.in_process import plan_small, run_study
from tests.small import link_classes, register_small
from tests.waiting import rows_of

from hsae.demo import backbone_folder


@pytest.fixture(scope="module")
def ready(make_service):
    """A service with a data set, never changed by these tests."""
    service = make_service()
    register_small(service, n_classes=3)
    return service


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--layer", "99", *MODEL], ["99", "0 to ", "layer"]),
        (["--layer", "-1", *MODEL], ["-1", "layer"]),
        ([*MODEL], ["--layer"]),
        (["--layers", "3-x", *MODEL], ["3-x"]),
        (["--layer", "1", "--model", "no/such-model-anywhere"], ["no/such-model-anywhere"]),
        (["--layer", "1", "--model", "/no/such/folder"], ["/no/such/folder"]),
        (["--layer", "1", *MODEL, "--dataset", "nothing"], ["nothing", "dataset add"]),
        (["--layer", "1", *MODEL, "--expansion", "0"], ["expansion", "1..512"]),
        (["--layer", "1", *MODEL, "--expansion", "100000"], ["expansion", "1..512"]),
        (["--layer", "1", *MODEL, "--sae", "topk", "--k", "99999"], ["k=99999"]),
        (["--layer", "1", *MODEL, "--sae", "topk", "--k", "0"], ["k 0"]),
        (["--layer", "1", *MODEL, "--k", "8"], ["k does not apply"]),
        (["--layer", "1", *MODEL, "--steps", "0"], ["n_steps"]),
        (["--layer", "1", *MODEL, "--views", "0"], ["n_views"]),
        (["--layer", "1", *MODEL, "--threshold", "nan"], ["threshold"]),
    ],
    ids=lambda value: " ".join(value[:4]) if isinstance(value, list) else None,
)
def test_submit(admin, ready, arguments, words):
    before = counts(ready)
    assert_one_line(admin(ready, "submit", *arguments), *words)
    assert counts(ready) == before


@pytest.mark.parametrize(
    ("command", "option"),
    [("nodes", "--q"), ("nodes", "--min-f1"), ("latents", "--q"), ("latents", "--min-f1"), ("edges", "--min-f1")],
)
@pytest.mark.parametrize("value", ["2", "-0.1"])
def test_a_share_outside_0_to_1_is_refused(admin, command, option, value):
    """Every row fits a q-value of at most 2: the filter would be none."""
    result = admin(None, "results", command, option, value)
    assert result.exit_code == 2
    assert f"Invalid value for '{option}': {value} is not in the range 0<=x<=1" in result.stderr.replace("2.0", "2")


@pytest.mark.slow
def test_output_that_cannot_be_written_is_an_error_of_one_line(service):
    """In place of a character that the encoding lacks nothing is printed: a CSV would be wrong without a word."""
    query = "SELECT U&'caf\\00E9' AS label"
    environment = {**os.environ, **service.environment}
    run = functools.partial(subprocess.run, stderr=subprocess.PIPE, text=True, check=False, timeout=120)
    command = [sys.executable, "-c", "from hsae.cli.main import main; main()", "db", "query", query]
    ascii_only = run(command, env=environment | {"PYTHONIOENCODING": "ascii"}, stdout=subprocess.PIPE)
    assert (ascii_only.returncode, ascii_only.stdout) == (1, "")
    assert ascii_only.stderr.startswith("Error: ")
    assert "ascii" in ascii_only.stderr
    assert "PYTHONIOENCODING=utf-8" in ascii_only.stderr
    with Path("/dev/full").open("w") as full:
        no_room = run(command, env=environment, stdout=full)
    assert (no_room.returncode, no_room.stderr.startswith("Error: ")) == (1, True)
    assert "No space left on device" in no_room.stderr.splitlines()[0]
    assert "Traceback" not in no_room.stderr


def test_submit_without_a_data_set_says_how_to_register_one(admin, service):
    assert_one_line(admin(service, "submit", "--layer", "1", *MODEL), "dataset add NAME PATH")


def test_a_model_that_is_no_vision_transformer(admin, ready, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": 8}))
    assert_one_line(admin(ready, "submit", "--layer", "1", "--model", tmp_path), "bert")


def _folder(tmp_path, **classes: int):
    for name, n_images in classes.items():
        (tmp_path / name).mkdir()
        for number in range(n_images):
            Image.new("RGB", (16, 16), (number * 9 % 255, 0, 0)).save(tmp_path / name / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ({}, ["no"]),
        ({"n02084071": 2}, ["one class"]),
        ({"n02084071": 2, "n02121808": 0}, ["n02121808", "empty"]),
        ({"n02084071": 2, "crane": 2}, ["crane", "crane.n."]),
        ({"n02084071": 2, "qwertyuiop": 2}, ["qwertyuiop"]),
    ],
    ids=["zero images", "one class", "empty class", "ambiguous folder", "folder that is no synset"],
)
def test_dataset_add(admin, service, tmp_path, classes, words):
    result = admin(service, "dataset", "add", "mine", _folder(tmp_path, **classes))
    assert_one_line(result, *words)
    assert counts(service)["dataset"] == 0


def test_dataset_path_is_missing(admin, service, tmp_path):
    assert_one_line(admin(service, "dataset", "add", "mine", tmp_path / "absent"), "absent")


def test_dataset_name_is_taken(admin, service, tmp_path):
    first = _folder(tmp_path / "a", n02084071=2, n02121808=2) if (tmp_path / "a").mkdir() is None else None
    (tmp_path / "b").mkdir()
    second = _folder(tmp_path / "b", n02084071=3, n02121808=2)
    assert admin(service, "dataset", "add", "mine", first).exit_code == 0
    assert "Already registered" in admin(service, "dataset", "add", "mine", first).output
    assert_one_line(admin(service, "dataset", "add", "mine", second), "mine", "another name")


@pytest.mark.slow
def test_too_many_unreadable_images_fail_the_job_with_their_names(admin, service, tmp_path):
    folder = _folder(tmp_path, n02084071=6, n02121808=6)
    (folder / "n02084071" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n truncated")
    assert admin(service, "dataset", "add", "mine", folder).exit_code == 0
    submit_again = ("submit", "--layer", "1", *MODEL, "--steps", "30", "--json")
    plan = json.loads(admin(service, *submit_again).stdout)
    run_study(service, plan["study"])
    result = admin(service, "jobs", "watch", plan["study"])
    assert result.exit_code == 1
    assert "2.png" in result.stderr.splitlines()[-1]
    assert "HSAE_MAX_SKIPPED_SHARE" in result.stderr
    assert rows_of(service, "SELECT 1 FROM activation_shard") == []
    assert list(service.store.list("activations/")) == []
    events = json.loads(admin(service, "jobs", "show", 1, "--json").output)["events"]
    assert any(event["detail"] and event["detail"].get("skipped") for event in events)
    # Raising the limit and asking again finishes the very same jobs.
    again = json.loads(admin(service, *submit_again).stdout)
    assert [job["id"] for job in again["jobs"]] == [job["id"] for job in plan["jobs"]]
    jobs = run_study(service, again["study"], max_skipped_share=0.5)
    assert {job["state"] for job in jobs} == {"succeeded"}


def test_nan_activations_fail_the_job(admin, service, tmp_path):
    register_small(service, n_classes=3)
    broken = tmp_path / "broken"
    broken.mkdir()
    for source in backbone_folder().iterdir():
        (broken / source.name).write_bytes(source.read_bytes())
    weights = load_file(broken / "model.safetensors")
    name = next(name for name in sorted(weights) if name.endswith("norm2.weight"))
    weights[name] = torch.full_like(weights[name], float("nan"))
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    plan = json.loads(admin(service, "submit", "--layer", "2", "--model", broken, "--json").stdout)
    run_study(service, plan["study"])
    result = admin(service, "jobs", "watch", plan["study"])
    assert result.exit_code == 1
    assert "NaN" in result.stderr.splitlines()[-1]
    assert list(service.store.list("activations/")) == []


@pytest.mark.slow
def test_an_analysis_asked_for_twice_is_reused(admin, service):
    register_small(service, n_classes=6)
    arguments = ("submit", "--layer", "0", *MODEL, "--sae", "topk", "--k", "4", "--steps", "50", "--json")
    first = json.loads(admin(service, *arguments).stdout)
    run_study(service, first["study"])
    second = json.loads(admin(service, *arguments).stdout)
    assert [job["status"] for job in first["jobs"]] == ["new"] * len(first["jobs"])
    assert [(job["id"], job["status"]) for job in second["jobs"]] == [(job["id"], "reused") for job in first["jobs"]]
    assert counts(service)["analysis"] == 1


@pytest.mark.slow
def test_two_submits_at_the_same_instant_share_their_jobs(service):
    register_small(service, n_classes=6)
    with ThreadPoolExecutor(4) as pool:
        plans = list(pool.map(lambda _: plan_small(service), range(4)))
    assert len({tuple(job.id for job in plan.jobs) for plan in plans}) == 1
    assert sum(job.status == "new" for plan in plans for job in plan.jobs) == len(plans[0].jobs)
    assert {job["state"] for job in run_study(service, plans[0].study_id)} == {"succeeded"}


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("HSAE_DATABASE_URL", "postgresql://u:p@127.0.0.1:1/d", ["database", "HSAE_DATABASE_URL"]),
        ("HSAE_BROKER_URL", "redis://127.0.0.1:1/0", ["broker", "HSAE_BROKER_URL"]),
        ("HSAE_S3_ENDPOINT", "127.0.0.1:1", ["S3", "HSAE_S3_ENDPOINT"]),
        ("HSAE_S3_SECRET_KEY", "wrong", ["HSAE_S3_SECRET_KEY"]),
        ("HSAE_DEVICE", "abacus", ["HSAE_DEVICE"]),
        ("HSAE_MAX_ATTEMPTS", "0", ["HSAE_MAX_ATTEMPTS"]),
    ],
)
def test_a_service_is_down_or_refuses(admin, ready, tmp_path, variable, value, words):
    before = counts(ready)
    path = link_classes(tmp_path, 4)
    result = admin(ready, "submit", "--layer", "1", *MODEL, "--dataset", path, **{variable: value})
    assert_one_line(result, *words)
    assert counts(ready) == before


def test_nothing_is_set_up(admin, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = admin(None, "submit", "--layer", "8", HSAE_HOME=str(tmp_path))
    assert_one_line(result, "hsae-admin up")


def test_database_not_migrated(admin, make_service):
    assert_one_line(admin(make_service(migrate=False), "jobs", "list"), "db upgrade")


def test_unknown_numbers(admin, ready, tmp_path):
    assert_one_line(admin(ready, "jobs", "show", 999), "999")
    assert_one_line(admin(ready, "jobs", "watch", 999), "999")
    assert_one_line(admin(ready, "results", "export", 999, "-o", tmp_path / "new"), "999")
    assert not (tmp_path / "new").exists()


def test_sql_that_writes_is_refused(admin, ready):
    assert_one_line(admin(ready, "db", "query", "DELETE FROM dataset"), "read-only")
    assert_one_line(admin(ready, "db", "query", "SELECT * FROM nowhere"), "nowhere")
