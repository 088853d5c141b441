"""submit --random-init: a backbone with random weights from the request to SQL and text, beside the trained one."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from tests.cli.refusals import MODEL, assert_one_line, counts
from tests.pipeline.in_process import run_study
from tests.small import register_small
from tests.waiting import rows_of

from hsae.demo import backbone_folder

pytestmark = pytest.mark.slow

SEED = 5
STUDY = {
    "dataset": "small",
    "layers": [1, 3],
    "saes": [{"kind": "topk", "k": 4, "expansion": 2, "n_steps": 60}],
    "scoring": {"n_shuffles": 1, "n_replicates": 20, "n_tree_shuffles": 9, "controls": ["exemplar"]},
    "split": "none",
}


def written(folder: Path, **changes: object) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**STUDY, **changes}))
    return path


def submitted(admin, service, *arguments):
    result = admin(service, "submit", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    """The bundled backbone without its weights."""
    folder = tmp_path_factory.mktemp("described") / "dinov2-emoji"
    return Path(shutil.copytree(backbone_folder(), folder, ignore=shutil.ignore_patterns("*.safetensors")))


@pytest.fixture(scope="module")
def ready(make_service):
    """A service with a data set, in which nothing runs."""
    service = make_service()
    register_small(service, n_classes=3)
    return service


def test_from_submit_to_results_beside_the_trained_model(admin, service, described, tmp_path):
    register_small(service, n_classes=12)
    folder = Path(shutil.copytree(described, tmp_path / "dinov2-emoji"))
    name = f"{folder} (random init, seed {SEED})"
    plan = submitted(admin, service, "--spec", written(tmp_path, model=str(folder), random_init=SEED), "--yes")
    assert (plan["model"], plan["revision"][:7]) == (name, "random-")
    assert plan["embeddings"] == "cls of dinov2-emoji (random init, seed 5) layer 5"
    for job in plan["jobs"]:
        assert "dinov2-emoji (random init, seed 5)" in job["title"], job
    random = plan["study"]
    assert {job["state"] for job in run_study(service, random)} == {"succeeded"}

    shutil.copy(backbone_folder() / "model.safetensors", folder)  # only the trained model needs it
    plan = submitted(admin, service, "--spec", written(tmp_path, model=str(folder)), "--yes")
    assert {job["status"] for job in plan["jobs"]} == {"new"}
    trained = plan["study"]
    assert {job["state"] for job in run_study(service, trained)} == {"succeeded"}
    # Where the files lie, and whether weights lie beside them, does not matter to random ones.
    for place in (folder, described):
        again = submitted(admin, service, "--spec", written(tmp_path, model=str(place), random_init=SEED), "--yes")
        assert (again["study"], again["is_new"]) == (random, False)
        assert {job["status"] for job in again["jobs"]} == {"reused"}
    other = written(tmp_path, model=str(folder), random_init=SEED + 1)
    assert {job["status"] for job in submitted(admin, service, "--spec", other, "--dry-run")["jobs"]} == {"new"}
    options = ("--layer", 1, "--model", folder, "--random-init", SEED, "--dataset", "small", "--dry-run")
    by_options = submitted(admin, service, *options)
    assert (by_options["model"], by_options["jobs"][0]["status"]) == (name, "reused")

    assert [row["model"] for row in rows_of(service, "SELECT DISTINCT model FROM analysis_input ORDER BY 1")] == [
        str(folder), name
    ]  # fmt: skip
    models = rows_of(service, "SELECT name, revision FROM model ORDER BY id")
    assert [(row["name"], row["revision"][:7]) for row in models] == [(name, "random-"), (str(folder), "sha256-")]

    document = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()
    section = document.split("### A backbone with random weights\n")[1].split("\n## ")[0]
    (query,) = re.findall(r"```sql\n(.*?)```", section, re.DOTALL)
    rows = json.loads(admin(service, "db", "query", query, "--json").stdout)
    intervals = {
        (row["model"], row["layer"], row["metric"]): (row["value"], row["low"], row["high"])
        for row in rows_of(
            service,
            "SELECT model, layer, metric, value, low, high FROM layer_interval JOIN analysis_input USING (analysis_id)"
            " WHERE basis = 'sae'",
        )
    }
    assert {(row["init"], row["layer"], row["metric"]) for row in rows} == {
        (f"seed {SEED}", layer, metric) for _, layer, metric in intervals
    }
    assert len(rows) == len(intervals) / 2
    for row in rows:
        assert_shown(row, ("trained", "low", "high"), intervals[str(folder), row["layer"], row["metric"]])
        assert_shown(row, ("random", "random_low", "random_high"), intervals[name, row["layer"], row["metric"]])
    assert any(float(row["plus_minus"] or 0) > 0 for row in rows)

    shown = admin(service, "studies", "show", random).stdout
    assert re.search(r"^model +dinov2-emoji \(random init, seed 5\)$", shown, re.MULTILINE)
    assert f"random_init: {SEED}" in shown
    assert "random_init" not in admin(service, "studies", "show", trained).stdout
    listed = json.loads(admin(service, "studies", "list", "--json").stdout)
    assert [row["random_init"] for row in listed] == [None, SEED]  # the latest submit is the last
    assert "dinov2-emoji (random init, seed 5)" in admin(service, "studies", "list").stdout
    layers = admin(service, "results", "layers", "--study", "all").stdout
    assert "dinov2-emoji (random init, seed 5)" in layers
    only = json.loads(admin(service, "results", "layers", "--study", "all", "--model", name, "--json").stdout)
    assert {row["model"] for row in only} == {name}
    compared = admin(service, "results", "compare", trained, random, "--studies").stdout
    assert re.search(rf"^B: study {random}: .*dinov2-emoji \(random init, seed 5\)", compared, re.MULTILINE)


def assert_shown(row, names, values):
    """A row has these values with three decimals."""
    for name, value in zip(names, values, strict=True):
        assert (row[name] is None) == (value is None)
        assert value is None or float(row[name]) == pytest.approx(value, abs=6e-4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--layer", 1, *MODEL, "--random-init", -1], ["random init cannot have the seed -1", "give one from 0 to"]),
        (["--layer", 1, *MODEL, "--random-init", 2**63], [f"seed {2**63}", "give one from 0 to"]),
        (
            ["--layer", -2, "--layer", 99, *MODEL, "--random-init", -1],
            ["no layer -2", "seed -1", "no layer 99: choose from 0 to 5"],
        ),
        (["--layer", -2, *MODEL], ["there is no layer -2: layers count from 0"]),
        (["--layer", 1, "--model", "/no/such/folder", "--random-init", -1], ["seed -1", "no folder /no/such/folder"]),
    ],
)
def test_numbers_that_are_refused(admin, ready, arguments, words):
    before = counts(ready)
    assert_one_line(admin(ready, "submit", *arguments), *words)
    assert counts(ready) == before


def test_a_model_type_that_is_not_supported(admin, ready, described, tmp_path):
    folder = Path(shutil.copytree(described, tmp_path / "timm"))
    (folder / "config.json").write_text('{"architecture": "vit_base_patch14_dinov2", "num_features": 768}')
    command = ("submit", "--layer", -1, "--model", folder, "--random-init", -1)
    assert_one_line(admin(ready, *command), "no layer -1", "seed -1", "names no model_type; supported are beit, clip,")
    (folder / "config.json").write_text('{"model_type": "timm_wrapper", "architecture": "vit_base_patch14_dinov2"}')
    assert_one_line(
        admin(ready, "submit", "--layer", 1, "--model", folder, "--random-init", 0),
        "is of type timm_wrapper, which is no supported vision model",
    )


def test_a_folder_without_weights(admin, ready, described):
    result = admin(ready, "submit", "--layer", 1, "--model", described)
    assert_one_line(result, "no weights in safetensors format", "--random-init SEED")


@pytest.mark.parametrize("given", ["yes", "'3'", "1.5"])
def test_a_study_file_names_a_seed(admin, ready, tmp_path, given):
    path = written(tmp_path)
    path.write_text(f"{path.read_text()}random_init: {given}\n")
    assert_one_line(admin(ready, "submit", "--spec", path, "--dry-run"), "random_init: ", "valid integer")
    path = written(tmp_path, random_init=-3, model=str(backbone_folder()))
    assert_one_line(admin(ready, "submit", "--spec", path, "--dry-run"), "seed -3")
