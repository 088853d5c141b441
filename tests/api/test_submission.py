"""ws.submit: the planner of `hsae-admin submit`, and a wait that ends with results or with the job's own message."""

import dataclasses
import warnings
from html import escape

import numpy as np
import pytest
from tests.small import bare_scoring, link_classes, register_small

import hsae
from hsae.catalog import transaction
from hsae.catalog.findings.maps import map_rows
from hsae.demo import backbone_folder
from hsae.pipeline.connections import Connections
from hsae.pipeline.execution.run import run_job

SAE = hsae.SaeConfig(kind="topk", k=4, expansion=2, n_steps=30)


def opened(service) -> hsae.Workspace:
    connections = Connections()
    connections.use(service.settings)
    return hsae.Workspace(connections)


def small(workspace, **changes):
    fields = {"saes": SAE, "model": backbone_folder(), "layers": [1], "scoring": bare_scoring(), "split": None}
    return workspace.submit(**{**fields, **changes})


@pytest.fixture
def workspace(service):
    """A service with the small data set and no study."""
    register_small(service, n_classes=4)
    return opened(service)


def runs_jobs(service):
    """Runs the jobs that are queued, as a worker would."""

    def on_look(jobs):
        for job in jobs:
            if job["state"] == "queued":
                run_job(job["id"], service.settings, "test")

    return on_look


def says_that_it_is_in_sample(study):
    """Whatever a study without a split shows says that nothing is held out."""
    analysis = study.analysis(layer=1)
    assert repr(analysis).endswith(", in-sample>")
    explanation = analysis.explain(analysis.latent_activations().z[[0]], k=2)
    assert "<caption>Scores are in-sample: latents are chosen and scored on" in explanation._repr_html_()
    assert repr(explanation).endswith(", scores in-sample>")
    scores = [card.scores for card in explanation.cards if card.row.get("n_fire")]
    assert scores
    assert all(text.endswith(", in-sample") for text in scores)


def test_submit_wait_and_look(service, workspace):
    submission = small(workspace, name="mine", dataset="small")
    assert (submission.study.name, submission.plan.n_queued) == ("mine", 5)
    assert set(submission.jobs().state) == {"queued", "waiting"}
    evil = "<script>alert(1)</script>"
    page = dataclasses.replace(
        submission, plan=dataclasses.replace(submission.plan, name=evil), notes=(evil,)
    )._repr_html_()
    assert page.count("&lt;script&gt;") == 2
    assert "<script>" not in page
    for job in submission.jobs().itertuples():
        assert f"<td>{job.job}</td><td>{escape(job.title)}</td><td>{job.state}</td>" in page
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        study = submission.wait(on_look=runs_jobs(service))
    assert [str(one.message).split(":")[0] for one in told if "queue" in str(one.message)] == [
        "no worker listens to queue cpu", "no worker listens to queue gpu"
    ]  # fmt: skip
    assert set(submission.jobs().state) == {"succeeded"}
    assert list(study.layers().layer) == [1]
    again = small(workspace, dataset="small", layers=np.int64(1))
    assert (again.plan.n_queued, again.plan.study_id) == (0, study.id)
    says_that_it_is_in_sample(study)
    assert again.wait().id == study.id  # nothing to wait for
    assert "5 artifacts reused" in repr(again)


def test_activations_are_given_up(workspace):
    assert small(workspace, drop_after="analyze").plan.drop_after == "analyze"
    assert small(workspace).plan.drop_after is None
    with pytest.raises(hsae.UserError, match="drop_after"):
        small(workspace, drop_after="train")


def test_maps_are_asked_for_and_shown(service, workspace):
    submission = small(workspace, map={"latents": 2, "images": 2})
    with pytest.warns(UserWarning, match="no worker"):
        analysis = submission.wait(on_look=runs_jobs(service)).analysis(layer=1)
    with transaction(service.sessions) as session:
        rows = map_rows(session, analysis.id)
    latents = sorted({row["latent"] for row in rows})
    assert len(latents) == 2
    shown = [image for card in analysis.show(latents, n=2, maps=True).cards for image in card.images]
    assert {image.image for image in shown if image.relevancy is not None} == {
        row["image"] for row in rows if row["map_index"] is not None
    }
    assert {image.relevancy.method for image in shown if image.relevancy is not None} == {"chefer"}
    assert {image.relevancy.values.shape for image in shown if image.relevancy is not None} == {
        (row["n_patch_rows"], row["n_patch_cols"]) for row in rows
    }


def test_it_is_the_study_that_the_command_line_submits(service, workspace, admin):
    submission = small(workspace, dataset="small", split="none", scoring=None, saes=["topk"], layers="1,3")
    done = admin(
        service, "submit", "--layers", "1,3", "--sae", "topk", "--split", "none", "--model", backbone_folder(),
        "--dataset", "small", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert f'"study": {submission.plan.study_id}' in done.stdout
    assert submission.notes[0].startswith("16 training rows are fewer than") or "training rows" in submission.notes[0]


def test_a_folder_is_registered(service, tmp_path):
    folder = link_classes(tmp_path, 4)
    workspace = opened(service)
    submission = small(workspace, dataset=folder)
    assert list(workspace.datasets().name) == ["images"]
    assert submission.plan.dataset.name == "images"


def test_a_failure_is_raised_with_the_jobs_message(service, workspace):
    submission = small(workspace)
    folder = service.folder / "images"
    moved = folder.rename(service.folder / "moved")
    try:
        with (
            pytest.warns(UserWarning, match="no worker"),
            pytest.raises(hsae.UserError, match=r"job \d+ failed: .*images"),
        ):
            submission.wait(on_look=runs_jobs(service))
    finally:
        moved.rename(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layers": [99]}, "has no layer 99: choose from 0 to 5"),
        ({"layers": "x"}, "layers: x cannot be read"),
        ({"saes": "tokp"}, "kind 'tokp' is not valid"),
        ({"saes": [{"kind": "topk", "kk": 3}]}, "saes[0].kk is no setting of an SAE: did you mean k?"),
        ({"dataset": "absent"}, "there is no data set absent"),
        ({"spilt": "none"}, "spilt is no field of a study: did you mean split?"),
        ({"priority": 99}, "priority: 99 is not valid"),
    ],
)
def test_what_cannot_be_submitted(workspace, changes, words):
    with pytest.raises(hsae.UserError) as refused:
        small(workspace, **changes)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(workspace.studies()) == 0
