"""hsae-admin studies, what is the default where no study is named, and dry runs that take no number."""

import json

import pytest
import yaml
from sqlalchemy import text
from tests.cli.refusals import assert_one_line
from tests.pipeline.default_plan import default_kinds, kinds_per
from tests.pipeline.in_process import TINY_SAE, plan_small, run_jobs
from tests.planted_scores import plant
from tests.small import register_small

from hsae.catalog import InterventionSet, MapSet, NameSet, transaction
from hsae.demo import backbone_folder
from hsae.pipeline.planning.study_file import read_spec
from hsae.pipeline.planning.submit import preview
from hsae.sae.config import SaeConfig

MODEL = ("--model", str(backbone_folder()))


def printed(result) -> list[str]:
    """Its lines, columns one space apart."""
    assert result.exit_code == 0, (result.output, result.exception)
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def submit_tiny(service, **changes):
    return plan_small(service, **{"layers": (1,), **changes})


@pytest.fixture(scope="module")
def ready(make_service):
    """Study 1 is done, study 2 waits; they share an extraction, a probe, a training and an analysis."""
    service = make_service()
    register_small(service, n_classes=2)
    plan = submit_tiny(service, name="done")
    assert run_jobs(service, plan) == ["succeeded"] * len(plan.jobs)
    submit_tiny(service, saes=(TINY_SAE, TINY_SAE.model_copy(update={"expansion": 4})), name="wider")
    return service


def test_list(admin, ready):
    _, first, second = printed(admin(ready, "studies", "list"))
    assert first.startswith("1 done dinov2-emoji small 1 1 5 succeeded ")
    assert second.startswith("2 wider dinov2-emoji small 1 2 2 waiting, 1 queued, 4 succeeded ")
    rows = json.loads(admin(ready, "studies", "list", "--json").stdout)
    assert [(row["id"], row["name"], row["dataset"], row["layers"], row["n_saes"], row["jobs"]) for row in rows] == [
        (1, "done", "small", [1], 1, {"succeeded": 5}),
        (2, "wider", "small", [1], 2, {"succeeded": 4, "queued": 1, "waiting": 2}),
    ]


def test_show(admin, ready):
    result = admin(ready, "studies", "show", 2)
    lines = printed(result)
    for line in ("study 2", "name wider", "data set small", "SAEs 2", "jobs 2 waiting, 1 queued, 4 succeeded"):
        assert line in lines
    request = yaml.safe_load(result.stdout.split("request\n")[1].split("\n\n")[0])
    assert (request["dataset"], request["layers"], len(request["saes"])) == ("small", [1], 2)
    header = lines.index("layer SAE extract train job analyze job activations SAE no. analysis FVU ↓")
    (first, second) = lines[header + 1 : header + 3]
    assert first.startswith("1 topk x2 1 3 succeeded 4 succeeded 1 1 1 ")
    assert second == "1 topk x4 1 6 queued 7 waiting 1 - - -"
    assert "Comparison: job 8 waiting" in lines
    shown = json.loads(admin(ready, "studies", "show", 1, "--json").stdout)
    assert shown["comparison"]["comparison"] == 1
    (analysis,) = shown["analyses"]
    assert (analysis["analysis"], analysis["sae"], analysis["activation_set"], analysis["layer"]) == (1, 1, 1, 1)
    assert all(len(analysis[f"{kind}_key"]) == 64 for kind in ("analysis", "sae", "activation"))
    assert [job["kind"] for job in shown["job_list"]] == default_kinds()


def test_the_shown_request_is_a_study_file(admin, ready, tmp_path):
    shown = admin(ready, "studies", "show", 2).stdout
    path = tmp_path / "again.yaml"
    path.write_text(shown.split("request\n")[1].split("\n\n")[0])
    given = read_spec(path).request(ready.settings, folder=tmp_path)
    assert preview(given, ready.settings, ready.sessions).study_id == 2


def test_the_request_alone_goes_into_a_file_and_comes_back(admin, ready, tmp_path):
    path = tmp_path / "again.yaml"
    path.write_text(admin(ready, "studies", "show", 2, "--spec").stdout)
    again = json.loads(admin(ready, "submit", "--spec", path, "--dry-run", "--json").stdout)
    assert again["study"] == 2
    refused = admin(ready, "studies", "show", 2, "--spec", "--json")
    assert (refused.exit_code, refused.stderr.splitlines()[-1][-18:]) == (2, "choose one of them")


def test_an_older_study_says_that_its_halves_were_used_in_one_way(admin, ready, tmp_path):
    """Its stored request has no `cross_fit`: read as it is, it would now be another study."""
    change = "UPDATE study SET request = request {} WHERE id = 1"
    with transaction(ready.sessions) as session:
        kept = json.dumps(session.execute(text("SELECT request FROM study WHERE id = 1")).scalar_one())
        older = change.format("- 'cross_fit' || CAST(:split AS jsonb)")
        session.execute(text(older), {"split": json.dumps({"split": {"train": 0.5, "select": 0.25, "score": 0.25}})})
    try:
        shown = admin(ready, "studies", "show", 1)
        request = yaml.safe_load(shown.stdout.split("request\n")[1].split("\n\n")[0])
        assert request["cross_fit"] is False
    finally:
        with transaction(ready.sessions) as session:
            session.execute(text("UPDATE study SET request = CAST(:kept AS jsonb) WHERE id = 1"), {"kept": kept})
    assert "cross_fit: false" not in admin(ready, "studies", "show", 1).stdout


def test_show_takes_the_latest_and_says_so(admin, ready):
    result = admin(ready, "studies", "show")
    assert "study 2" in printed(result)
    assert result.stderr == "Study 2 (wider), the latest.\n"
    assert json.loads(admin(ready, "studies", "show", "--json").stdout)["id"] == 2


def test_a_missing_study_is_looked_for_in_the_list_of_studies(admin, ready):
    for arguments in (
        ("studies", "show", 9), ("studies", "remove", 9), ("jobs", "watch", 9), ("jobs", "list", "--study", 9),
        ("jobs", "cancel", "--study", 9), ("jobs", "retry", "--study", 9), ("results", "study", 9),
        ("results", "layers", "--study", 9), ("results", "nodes", "--study", 9),
        ("results", "compare", 1, 9, "--studies"),
    ):  # fmt: skip
        assert_one_line(admin(ready, *arguments), "there is no study 9: see `hsae-admin studies list`")


def test_the_latest_job_is_the_one_started_last(admin, ready):
    said = "Job 5 (compare the analyses of dinov2-emoji layer 1 on small), the latest that was started.\n"
    assert admin(ready, "jobs", "show").stderr.startswith(said)
    assert json.loads(admin(ready, "jobs", "show", "--json").stdout)["id"] == 5
    assert admin(ready, "jobs", "logs").stderr.startswith(said)


def test_no_study(admin, service):
    assert "No study" in admin(service, "studies", "list").stdout
    for arguments in (("studies", "show"), ("jobs", "watch"), ("results", "study")):
        assert_one_line(admin(service, *arguments), "there is no study yet", "submit")
    for arguments in (("jobs", "show"), ("jobs", "logs")):
        assert_one_line(admin(service, *arguments), "there is no job yet", "submit")


def test_a_dry_run_takes_no_number(admin, service):
    register_small(service, n_classes=2)
    arguments = ("submit", "--layer", 1, *MODEL, "--sae", "topk")
    for _ in range(2):
        result = admin(service, *arguments, "--dry-run")
        assert result.exit_code == 0, result.output
    entered = json.loads(admin(service, *arguments, "--json").stdout)
    assert (entered["study"], entered["is_new"]) == (1, True)
    assert sorted(job["id"] for job in entered["jobs"]) == list(range(1, len(entered["jobs"]) + 1))


def test_a_request_that_is_submitted_again_is_the_same_study(admin, service, tmp_path):
    register_small(service, n_classes=2)
    arguments = ("submit", "--layer", 1, *MODEL, "--sae", "topk", "--steps", 30)
    assert admin(service, *arguments).exit_code == 0
    again = admin(service, *arguments).stdout
    assert again.startswith("Study 1: dinov2-emoji, layer 1, on small\n")
    assert "The same request as before, so it is the same study.\n" in again
    assert "It is the request of study 1. 0 jobs would be queued" in admin(service, *arguments, "--dry-run").stdout
    assert json.loads(admin(service, *arguments, "--dry-run", "--json").stdout)["study"] == 1
    file = tmp_path / "one-sae.yaml"
    file.write_text(f"model: {backbone_folder()}\nlayers: 1\nsaes: [{{kind: topk, steps: 30}}]\n")
    result = admin(service, "submit", "--spec", file, "--yes")
    assert "Study 1: one-sae\n" in result.stdout
    assert "so it is the same study; it was called dinov2-emoji on small, now one-sae." in result.stdout
    assert len(json.loads(admin(service, "studies", "list", "--json").stdout)) == 1


def test_the_study_submitted_last_is_the_latest(admin, service):
    register_small(service, n_classes=2)
    first = submit_tiny(service, name="one")
    submit_tiny(service, layers=(2,), name="two")
    submit_tiny(service)
    assert admin(service, "studies", "show").stderr == f"Study {first.study_id} (one), the latest.\n"
    rows = json.loads(admin(service, "studies", "list", "--json").stdout)
    assert [row["name"] for row in rows] == ["two", "one"]


def test_remove(admin, service):
    register_small(service, n_classes=2)
    first = submit_tiny(service)
    second = submit_tiny(service, saes=(TINY_SAE, SaeConfig(kind="topk", k=5, expansion=2, n_steps=30)))
    own = [job for job in second.jobs if job.status == "new"]
    shared = [job for job in second.jobs if job.status == "joined"]
    assert [job.kind for job in own] == kinds_per("sae") + kinds_per("study")
    assert len(own) + len(shared) == len(second.jobs)
    assert_one_line(
        admin(service, "studies", "remove", second.study_id),
        f"{len(own)} jobs",
        f"jobs cancel --study {second.study_id}",
    )
    assert admin(service, "jobs", "cancel", "--study", second.study_id).exit_code == 0
    result = admin(service, "studies", "remove", second.study_id)
    assert result.exit_code == 0, result.output
    assert f"{len(shared)} of its jobs are shared with other studies; {len(own)} now belong to none." in result.stdout
    assert "gc" in result.stdout
    assert [row["id"] for row in json.loads(admin(service, "studies", "list", "--json").stdout)] == [first.study_id]
    with transaction(service.sessions) as session:
        assert session.execute(text("SELECT count(*) FROM job")).scalar_one() == len(first.jobs) + len(own)
        assert session.execute(text("SELECT count(*) FROM study_job")).scalar_one() == len(first.jobs)
    done = submit_tiny(service, saes=(TINY_SAE, SaeConfig(kind="topk", k=5, expansion=2, n_steps=30)))
    assert done.is_new
    removed = json.loads(admin(service, "jobs", "cancel", "--study", done.study_id, "--json").stdout)
    assert len(removed["cancelled"]) == len(own)
    gone = json.loads(admin(service, "studies", "remove", done.study_id, "--json").stdout)
    assert gone == {"removed": done.study_id, "name": done.name, "shared_jobs": len(shared), "own_jobs": len(own)}


@pytest.fixture(scope="module")
def planted(make_service):
    """Study 1 has analysis 1 of layer 2; study 2, the latest, analysis 2 of layer 5."""
    service = make_service()
    plant(service)
    return service


@pytest.mark.parametrize(
    ("arguments", "analyses"),
    [
        (["nodes"], {2}),
        (["nodes", "--study", "all"], {1, 2}),
        (["nodes", "--study", "1"], {1}),
        (["nodes", "--analysis", "1"], {1}),
        (["nodes", "--layer", "2"], {1}),
        (["latents"], {2}),
        (["latents", "--layer", "2"], {1}),
        (["layers"], {2}),
        (["layers", "--study", "all"], {1, 2}),
        (["layers", "--layer", "2"], {1}),
        (["tree", "animal.n.01"], {2}),
        (["tree", "animal.n.01", "--layer", "2"], {1}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_results_are_of_the_latest_study_which_is_said(admin, planted, arguments, analyses):
    found = json.loads(admin(planted, "results", *arguments, "--json").stdout)
    rows = found["nodes"] if isinstance(found, dict) else found
    assert {row["analysis_id"] for row in rows} - {None} == analyses
    said = admin(planted, "results", *arguments).stderr
    if {"--study", "--analysis"} & set(arguments):
        assert said == ""
    elif analyses == {2}:
        assert said == "Study 2 (planted), the latest. Others: --study N, or --study all.\n"
    else:
        assert said.startswith("Study 1 (planted), the latest with scores that fit; study 2 has none.")


OF_ANALYSIS_1 = {"key": "of analysis 1", "analysis_id": 1, "config": {}}
ON_REQUEST: dict[str, NameSet | InterventionSet | MapSet] = {
    "names": NameSet(
        text_model="m", text_revision="r", method="direction", split="score", n_words=2, n_unknown=0, n_latents=1,
        n_labelled=1, directions_sha256="s", **OF_ANALYSIS_1,
    ),
    "interventions": InterventionSet(n_images=1, n_train=1, start="stored", **OF_ANALYSIS_1),
    "maps": MapSet(
        n_latents=1, n_maps=0, n_undefined=0, n_patch_rows=1, n_patch_cols=1, maps_sha256="s", **OF_ANALYSIS_1
    ),
}  # fmt: skip
"""What only studies have that ask for it."""


@pytest.mark.parametrize("kept", ON_REQUEST)
def test_what_only_some_studies_ask_for_is_of_the_latest_that_has_it(admin, planted, tmp_path, kept):
    """Study 2, the latest, has none: that says nothing of study 1."""
    arguments = ("results", kept, *(("-o", tmp_path) if kept == "maps" else ()))
    assert "Study 1" not in admin(planted, *arguments).output
    with transaction(planted.sessions) as session:
        ON_REQUEST[kept].job_id = session.execute(text("SELECT job_id FROM analysis WHERE id = 1")).scalar_one()
        session.add(ON_REQUEST[kept])
    result = admin(planted, *arguments)
    if kept == "maps":  # the set is empty, and there is nothing to draw
        assert_one_line(result, "no latent that was to be mapped fires on an image")
    else:
        assert result.stderr.startswith(f"Study 1 (planted), the latest with {kept} that fit; study 2 has none.")


def test_levels_edges_and_what_is_no_number(admin, planted):
    for command in ("levels", "edges"):
        assert admin(planted, "results", command).stderr.startswith("Study 2 (planted), the latest.")
    result = admin(planted, "results", "nodes", "--study", "one")
    assert result.exit_code == 2
    assert "studies list" in result.stderr
